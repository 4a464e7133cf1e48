//! XEP-0227 §4, §5: a file as it is read: hosts, their users, and what stands in each of them, one at a time.
//!
//! Nothing larger than one element of a user is in memory, and of what may be long (offline messages) only one item. Files that
//! a file includes are read in their place.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use magpie_server::portable::{self, NS};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::failure::Failure;

const XINCLUDE: &str = "http://www.w3.org/2001/XInclude";

/// Bytes of one element of a user; of a larger one nothing is taken.
const UNIT_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Files that include each other.
const INCLUDED_MAX: usize = 8;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A host begins.
    Host(String),
    /// A user begins.
    User { name: String, password: Option<String> },
    /// An element of the user, as a document of its own. Of a container there is one for each of its elements.
    Unit(String),
    /// The user is over.
    UserEnd,
    /// Something is left out.
    LeftOut(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Top,
    ServerData,
    Host,
    User,
    Container { name: String, ns: String },
}

struct Level {
    place: Place,
    /// Prefixes with their namespaces; the empty one is the default.
    declared: Vec<(String, String)>,
}

struct Frame {
    reader: Reader<BufReader<Counted>>,
    path: PathBuf,
    /// Levels that belong to the file that includes this one: their prefixes mean nothing here.
    base: usize,
}

/// A file that is being read.
pub(super) struct PortableFile {
    frames: Vec<Frame>,
    levels: Vec<Level>,
    ready: VecDeque<Item>,
    bar: ProgressBar,
}

impl PortableFile {
    /// Opens a file. The bar counts bytes.
    pub(super) fn open(path: &Path, bar: ProgressBar) -> Result<Self, Failure> {
        let mut file = Self { frames: Vec::new(), levels: Vec::new(), ready: VecDeque::new(), bar };
        file.push(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        Ok(file)
    }

    fn push(&mut self, path: &Path) -> std::io::Result<()> {
        let file = File::open(path)?;
        self.bar.inc_length(file.metadata()?.len());
        let reader = Reader::from_reader(BufReader::new(Counted { file, bar: self.bar.clone() }));
        self.frames.push(Frame { reader, path: path.to_owned(), base: self.levels.len() });
        Ok(())
    }

    /// Where the reader is, for messages.
    fn shown(&self) -> String {
        let frame = self.frames.last();
        frame.map_or_else(String::new, |frame| {
            format!("{}, byte {}", frame.path.display(), frame.reader.buffer_position())
        })
    }

    fn broken(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{}: {what}", self.shown()))
            .help("the accounts before it are imported; correct the file and import it again: accounts that exist are skipped")
    }

    /// What comes next; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Failure> {
        let mut buffer = Vec::new();
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            buffer.clear();
            let event = frame.reader.read_event_into(&mut buffer);
            match event.map(Event::into_owned) {
                Err(error) => return Err(self.broken(error)),
                Ok(Event::Start(tag)) => self.begin(&tag, false)?,
                Ok(Event::Empty(tag)) => self.begin(&tag, true)?,
                Ok(Event::End(_)) => self.end(),
                Ok(Event::Eof) => {
                    if self.frames.last().is_some_and(|frame| self.levels.len() > frame.base) {
                        return Err(self.broken("the file ends in the middle"));
                    }
                    self.frames.pop();
                }
                // Comments, declarations, and the white space between elements.
                Ok(_) => {}
            }
        }
    }

    fn place(&self) -> Place {
        self.levels.last().map_or(Place::Top, |level| level.place.clone())
    }

    fn begin(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<(), Failure> {
        let declared = declared(tag).map_err(|what| self.broken(what))?;
        let (prefix, local) = split(tag.name().into_inner());
        let ns = self.resolve(prefix, &declared).unwrap_or_default();
        let attr = |name: &str| attribute(tag, name);
        let place = self.place();
        if ns == XINCLUDE && local == "include" && matches!(place, Place::ServerData | Place::Host | Place::User) {
            if !empty {
                self.skip(tag)?;
            }
            return self.include(attr("href"));
        }
        let next = match (&place, local, ns == NS) {
            (Place::Top, "server-data", true) => Place::ServerData,
            (Place::Top | Place::ServerData, "host", true) => {
                self.ready.push_back(Item::Host(attr("jid").unwrap_or_default()));
                Place::Host
            }
            (Place::Host, "user", true) => {
                self.ready.push_back(Item::User { name: attr("name").unwrap_or_default(), password: attr("password") });
                Place::User
            }
            (Place::User, ..) if portable::is_container(local, &ns) => {
                Place::Container { name: local.to_owned(), ns: ns.clone() }
            }
            (Place::User | Place::Container { .. }, ..) => return self.unit(tag, &declared, empty, &place),
            (Place::Top, ..) => {
                let message = format!("<{local}/> begins no file of XEP-0227");
                return Err(self.broken(message));
            }
            _ => {
                self.ready.push_back(Item::LeftOut(format!("<{local} xmlns='{ns}'/> outside of a user")));
                return if empty { Ok(()) } else { self.skip(tag) };
            }
        };
        self.levels.push(Level { place: next, declared });
        if empty {
            self.end();
        }
        Ok(())
    }

    fn end(&mut self) {
        if self.levels.pop().is_some_and(|level| level.place == Place::User) {
            self.ready.push_back(Item::UserEnd);
        }
    }

    fn skip(&mut self, tag: &BytesStart<'_>) -> Result<(), Failure> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let skipped = frame.reader.read_to_end_into(tag.to_end().name(), &mut Vec::new());
        skipped.map(|_| ()).map_err(|error| self.broken(error))
    }

    /// §5: another file stands in this place.
    fn include(&mut self, href: Option<String>) -> Result<(), Failure> {
        let href = href.unwrap_or_default();
        let path = unescaped(&href).filter(|path| !path.is_empty() && !path.contains(':') && !path.starts_with('/'));
        let Some(path) = path else {
            self.ready.push_back(Item::LeftOut(format!("\"{href}\", which is no file beside this one")));
            return Ok(());
        };
        if self.frames.len() >= INCLUDED_MAX {
            return Err(self.broken("files include each other too deeply"));
        }
        let folder = self.frames.last().and_then(|frame| frame.path.parent()).unwrap_or(Path::new("")).to_owned();
        self.push(&folder.join(&path)).map_err(|error| self.broken(format!("cannot read {path}: {error}")))
    }

    /// Takes an element of a user whole, with the prefixes that are declared around it.
    fn unit(
        &mut self,
        tag: &BytesStart<'_>,
        declared: &[(String, String)],
        empty: bool,
        place: &Place,
    ) -> Result<(), Failure> {
        let mut xml = String::new();
        let container = match place {
            Place::Container { name, ns } => Some((name, ns)),
            _ => None,
        };
        if let Some((name, ns)) = container {
            xml += &format!("<{name} xmlns='{ns}'>");
        }
        xml.push('<');
        xml += tag;
        for (prefix, ns) in self.in_scope(declared) {
            let name = if prefix.is_empty() { "xmlns".to_owned() } else { format!("xmlns:{prefix}") };
            xml += &format!(" {name}='{}'", quick_xml::escape::escape(&ns));
        }
        xml += if empty { "/>" } else { ">" };
        if !empty {
            self.rest(&mut xml)?;
        }
        if let Some((name, _)) = container {
            xml += &format!("</{name}>");
        }
        self.ready.push_back(match xml.len() > UNIT_BYTES_MAX {
            false => Item::Unit(xml),
            true => {
                Item::LeftOut(format!("<{}/>, which is larger than {UNIT_BYTES_MAX} bytes", tag.name().into_inner()))
            }
        });
        Ok(())
    }

    /// Copies up to the closing tag. What is too large is read and not kept.
    fn rest(&mut self, xml: &mut String) -> Result<(), Failure> {
        let mut buffer = Vec::new();
        let mut depth = 1;
        while depth > 0 {
            buffer.clear();
            let Some(frame) = self.frames.last_mut() else { break };
            let event = frame.reader.read_event_into(&mut buffer).map(Event::into_owned);
            let before = xml.len();
            match event {
                Err(error) => return Err(self.broken(error)),
                Ok(Event::Eof) => return Err(self.broken("the file ends in the middle")),
                Ok(Event::Start(tag)) => {
                    depth += 1;
                    xml.extend(["<", &tag, ">"]);
                }
                Ok(Event::Empty(tag)) => xml.extend(["<", &tag, "/>"]),
                Ok(Event::End(tag)) => {
                    depth -= 1;
                    xml.extend(["</", tag.name().into_inner(), ">"]);
                }
                Ok(Event::Text(text)) => xml.push_str(&text),
                Ok(Event::CData(text)) => xml.push_str(&quick_xml::escape::escape(&*text)),
                Ok(Event::GeneralRef(name)) => xml.extend(["&", &name, ";"]),
                Ok(_) => {}
            }
            if before > UNIT_BYTES_MAX {
                xml.truncate(before);
            }
        }
        Ok(())
    }

    fn resolve(&self, prefix: &str, declared: &[(String, String)]) -> Option<String> {
        let base = self.frames.last().map_or(0, |frame| frame.base);
        let around = self.levels[base..].iter().rev().map(|level| level.declared.as_slice());
        let mut all = std::iter::once(declared).chain(around).flatten();
        all.find(|(known, _)| known == prefix).map(|(_, ns)| ns.clone())
    }

    /// What is declared around an element and not by itself.
    fn in_scope(&self, own: &[(String, String)]) -> Vec<(String, String)> {
        let base = self.frames.last().map_or(0, |frame| frame.base);
        let mut seen: Vec<&str> = own.iter().map(|(prefix, _)| prefix.as_str()).collect();
        let mut inherited = Vec::new();
        for (prefix, ns) in self.levels[base..].iter().rev().flat_map(|level| &level.declared) {
            if !seen.contains(&prefix.as_str()) {
                seen.push(prefix);
                inherited.push((prefix.clone(), ns.clone()));
            }
        }
        inherited
    }
}

fn split(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or(("", name))
}

/// The prefixes that a tag declares.
fn declared(tag: &BytesStart<'_>) -> Result<Vec<(String, String)>, String> {
    let mut declared = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name = attribute.key.into_inner();
        let prefix = if name == "xmlns" { Some("") } else { name.strip_prefix("xmlns:") };
        if let Some(prefix) = prefix {
            let ns = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
            declared.push((prefix.to_owned(), ns.into_owned()));
        }
    }
    Ok(declared)
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.attributes().flatten().find(|attribute| attribute.key.into_inner() == name)?;
    attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
}

/// The path of a relative URI.
fn unescaped(href: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(href.len());
    let mut rest = href.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A file whose bytes are counted as they are read.
struct Counted {
    file: File,
    bar: ProgressBar,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn items(files: &[(&str, &str)]) -> Result<Vec<Item>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut file = PortableFile::open(&folder.path().join(files[0].0), ProgressBar::hidden())?;
        let mut items = Vec::new();
        while let Some(item) = file.next()? {
            items.push(item);
        }
        Ok(items)
    }

    fn user(name: &str) -> Item {
        Item::User { name: name.into(), password: None }
    }

    #[test]
    fn hosts_users_and_what_stands_in_them_come_one_after_the_other() {
        let text = "<?xml version='1.0'?><!-- all --><p:server-data xmlns:p='urn:xmpp:pie:0' xmlns='jabber:client'>\n\
                    <p:host jid='example.org'><p:user name='a&amp;b' password='x'><presence from='c'/>\n\
                    <q:query xmlns:q='jabber:iq:private'><n xmlns='n:n'><![CDATA[<]]>&#10;<!-- no --></n></q:query></p:user>\
                    <p:user name='c'/></p:host></p:server-data>";
        let expected = [
            Item::Host("example.org".into()),
            Item::User { name: "a&b".into(), password: Some("x".into()) },
            Item::Unit("<presence from='c' xmlns:p='urn:xmpp:pie:0' xmlns='jabber:client'/>".into()),
            Item::Unit(
                "<q:query xmlns:q='jabber:iq:private' xmlns:p='urn:xmpp:pie:0' xmlns='jabber:client'>\
                 <n xmlns='n:n'>&lt;&#10;</n></q:query>"
                    .into(),
            ),
            Item::UserEnd,
            user("c"),
            Item::UserEnd,
        ];
        assert_eq!(items(&[("f", text)]).unwrap(), expected);
    }

    #[test]
    fn what_may_be_long_comes_item_by_item() {
        let text = "<server-data xmlns='urn:xmpp:pie:0'><host jid='h'><user name='a'><offline-messages>\
                    <message xmlns='jabber:client'><body>1</body></message><message xmlns='jabber:client'/>\
                    </offline-messages></user></host></server-data>";
        let unit =
            |inner: &str| Item::Unit(format!("<offline-messages xmlns='urn:xmpp:pie:0'>{inner}</offline-messages>"));
        let expected = [
            Item::Host("h".into()),
            user("a"),
            unit("<message xmlns='jabber:client'><body>1</body></message>"),
            unit("<message xmlns='jabber:client'/>"),
            Item::UserEnd,
        ];
        assert_eq!(items(&[("f", text)]).unwrap(), expected);
    }

    #[test]
    fn files_that_are_included_stand_in_their_place_and_know_no_prefixes_of_others() {
        let main = "<server-data xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude' xmlns:z='z'>\
                    <xi:include href='example.org.xml'/></server-data>";
        let host = "<host xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude' jid='example.org'>\
                    <xi:include href='example.org/a%20b.xml'></xi:include><xi:include href='/etc/passwd'/></host>";
        let user_file = "<?xml version='1.0'?><user xmlns='urn:xmpp:pie:0' name='a'><vCard xmlns='vcard-temp'/></user>";
        let files = [("main.xml", main), ("example.org.xml", host), ("example.org/a b.xml", user_file)];
        let expected = [
            Item::Host("example.org".into()),
            user("a"),
            Item::Unit("<vCard xmlns='vcard-temp'/>".into()),
            Item::UserEnd,
            Item::LeftOut("\"/etc/passwd\", which is no file beside this one".into()),
        ];
        assert_eq!(items(&files).unwrap(), expected);
        let itself = "<server-data xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude'>\
                      <host jid='h'><xi:include href='x.xml'/></host></server-data>";
        let again = "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='x.xml'/>";
        assert!(items(&[("f", itself), ("x.xml", again)]).unwrap_err().text().contains("too deeply"));
    }

    #[test]
    fn of_an_element_that_is_too_large_nothing_is_taken_and_the_next_is() {
        let large = "x".repeat(UNIT_BYTES_MAX + 1);
        let text = format!(
            "<server-data xmlns='urn:xmpp:pie:0'><host jid='h'><user name='a'><vCard xmlns='v'><FN>{large}</FN></vCard>\
             <q xmlns='q'/></user></host></server-data>"
        );
        let found = items(&[("f", &text)]).unwrap();
        let Item::LeftOut(what) = &found[2] else { panic!("{:?}", found.len()) };
        assert!(what.starts_with("<vCard/>, which is larger"), "{what}");
        assert_eq!(found[3], Item::Unit("<q xmlns='q'/>".into()));
    }

    #[test]
    fn what_is_no_such_file_or_is_cut_off_is_said_with_its_place() {
        for (text, what) in [
            ("<rss/>", "begins no file of XEP-0227"),
            ("<server-data xmlns='urn:xmpp:pie:0'><host jid='h'>", "ends in the middle"),
            (
                "<server-data xmlns='urn:xmpp:pie:0'><host jid='h'><user name='a'><vCard xmlns='v'><FN>",
                "ends in the middle",
            ),
            ("<server-data xmlns='urn:xmpp:pie:0'></host>", "byte"),
        ] {
            let error = items(&[("f", text)]).unwrap_err();
            assert!(error.text().contains(what), "{}", error.text());
        }
        let other = "<server-data xmlns='urn:xmpp:pie:0'><more xmlns='m'><a/></more></server-data>";
        assert_eq!(items(&[("f", other)]).unwrap(), [Item::LeftOut("<more xmlns='m'/> outside of a user".into())]);
    }
}
