//! The tokenizer against rxml, which reads the same profile of XML.
//!
//! Both must take or refuse the same bytes and find the same elements in them. Where they may differ is said here,
//! each case as narrowly as can be told.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_proto::xml::{Element, Node, Stanza, Token, Tokenizer, XmlError, XmlLimits};
use magpie_proto::{ns, xml};
use rxml::Parse as _;
use rxml::error::EndOrError;

/// Reads `data` as the bytes of one direction of a stream, and panics where the tokenizer differs from rxml or
/// from itself when the input is cut or read again.
pub fn tokenizer_against_rxml(data: &[u8]) {
    if rxml_is_wrong(data) {
        return;
    }
    let ours = Outcome::of_tokenizer(&[data]);
    check_cuts(data, &ours);
    ours.stanzas.iter().for_each(check_canonical);
    let theirs = Oracle::read(without_leading_space(data));
    let shown = String::from_utf8_lossy(data);

    let content_ns = ours.content_ns.as_deref().unwrap_or_default();
    let trees: Vec<Tree> = ours.stanzas.iter().map(|stanza| Tree::of_element(&stanza.element())).collect();
    for (nth, (ours, theirs)) in trees.iter().zip(&theirs.stanzas).enumerate() {
        assert_eq!(*ours, theirs.renamed(content_ns), "stanza {nth} of {shown}");
    }
    if ours.error.is_some_and(|error| we_may_refuse(error, data, &theirs)) {
        assert!(trees.len() <= theirs.stanzas.len(), "stanzas before the error in {shown}");
        return;
    }
    match (ours.error, &theirs.error) {
        (Some(error), None) => assert!(they_may_wait(data), "{error} in {shown}, which rxml takes"),
        (None, Some(error)) => assert!(we_may_wait(data), "{error} by rxml in {shown}, which we take"),
        (Some(_), Some(_)) | (None, None) => {
            assert_eq!(trees.len(), theirs.stanzas.len(), "stanzas in {shown}");
            assert_eq!(ours.ended, theirs.ended, "the end of {shown}");
        }
    }
}

/// What rxml 0.14 gets wrong.
fn rxml_is_wrong(data: &[u8]) -> bool {
    // XML 1.0 §2.11: a lone carriage return is a line end. rxml refuses or loses it in attribute values.
    values(data).any(|value| value.split(|&b| b == b'\r').skip(1).any(|rest| !rest.starts_with(b"\n")))
        // The same in a CDATA section behind a bracket, where rxml leaves it as it is.
        || count(data, b"]\r") > 0
        // XML 1.0 §2.3: U+FDF0 to U+FFFD may begin a name. rxml forgot them.
        || data.split(|&b| b == b'<').any(|rest| {
            String::from_utf8_lossy(tag(rest)).contains(|c: char| ('\u{FDF0}'..='\u{FFFD}').contains(&c))
        })
        // XML 1.0 §2.9 allows standalone='no', and not 'YES'.
        || count(data, b"standalone") > 0
        // XML 1.0 §4.1: references to characters may have any number of zeros; rxml takes eight bytes.
        || data.split(|&b| b == b'&').skip(1).any(|rest| rest.iter().take_while(|&&b| b != b';').count() > 8)
}

/// What stands before the end of a tag, which is not in quotes.
fn tag(rest: &[u8]) -> &[u8] {
    let mut quote = None;
    let end = rest.iter().position(|&b| match quote {
        Some(open) => {
            quote = quote.filter(|_| b != open);
            false
        }
        None => {
            quote = Some(b).filter(|b| matches!(b, b'\'' | b'"'));
            b == b'>'
        }
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// What stands in quotes after an equals sign.
fn values(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&b| b == b'=').skip(1).filter_map(|after| {
        let (quote, value) = after.trim_ascii_start().split_first()?;
        // A value that holds an equals sign is cut there; what follows the sign is looked at as far as its quote.
        matches!(quote, b'\'' | b'"').then(|| value.split(|b| b == quote).next().unwrap_or(value))
    })
}

/// What we refuse on purpose although it is XML.
fn we_may_refuse(error: XmlError, data: &[u8], theirs: &Oracle) -> bool {
    match error {
        // Only literal white space may stand between stanzas: no reference, no CDATA section.
        XmlError::NotWellFormed("text between stanzas") => theirs.depth <= 1 || theirs.stray_text,
        // The canonical form cannot say the namespace of XML as a default.
        XmlError::NotWellFormed("an element in the namespace of XML") => count(data, b"xml:") > 0,
        // rxml takes a second `xmlns='…'` in a tag, which XML 1.0 §3.1 forbids.
        XmlError::NotWellFormed("an attribute twice in one tag") => data.split(|&b| b == b'<').any(declares_twice),
        // Namespaces in XML 1.0 §3: nothing may be bound to the namespace of the prefix xmlns. rxml allows it.
        XmlError::NotWellFormed("another prefix for a reserved namespace") => {
            count(data, b"http://www.w3.org/2000/xmlns/") > 0
        }
        // rxml judges text when it ends; we judge it as it comes.
        XmlError::NotWellFormed("text before the root element") => theirs.depth == 0 && theirs.stanzas.is_empty(),
        XmlError::Restricted(_) if theirs.depth == 0 && theirs.stanzas.is_empty() => count(data, b"<![CDATA[") > 0,
        XmlError::NotWellFormed("bytes that are not UTF-8") => std::str::from_utf8(data).is_err(),
        _ => false,
    }
}

/// What may end a tag.
const ENDS: [&[u8]; 3] = [b">", b"'>", b"\">"];

/// A tag is judged when it is complete; rxml refuses its beginning already. But no ending may save it.
fn we_may_wait(data: &[u8]) -> bool {
    ENDS.iter().any(|end| Outcome::of_tokenizer(&[data, end]).error.is_some())
}

/// XML 1.0 §2.1 allows white space before the root element where no declaration stands there; rxml does not.
fn without_leading_space(data: &[u8]) -> &[u8] {
    let start = data.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(data.len());
    let rest = &data[start..];
    if rest.starts_with(b"<?") { data } else { rest }
}

/// In a closing tag rxml waits for the end of a quoted value, which cannot be there; and it looks for U+FFFE and U+FFFF, which XML 1.0
/// §2.2 forbids, in a CDATA section that has ended.
fn they_may_wait(data: &[u8]) -> bool {
    let refuse = |end: &[u8]| Oracle::read(&[without_leading_space(data), end].concat()).error.is_some();
    ENDS.iter().any(|end| refuse(end)) || in_section(data) && refuse(SECTION_END)
}

const SECTION_END: &[u8] = b"]]>";

/// Whether the last CDATA section has not ended.
fn in_section(data: &[u8]) -> bool {
    let last = |needle: &[u8]| data.windows(needle.len()).rposition(|window| window == needle);
    last(b"<![CDATA[").is_some_and(|start| last(SECTION_END).is_none_or(|end| end < start))
}

fn declares_twice(tag: &[u8]) -> bool {
    let parts = tag.split(|b| b.is_ascii_whitespace());
    parts.filter(|part| *part == b"xmlns" || part.starts_with(b"xmlns=")).count() > 1
}

fn count(data: &[u8], needle: &[u8]) -> usize {
    data.windows(needle.len()).filter(|window| *window == needle).count()
}

/// Wherever the input is cut, the outcome is the same.
fn check_cuts(data: &[u8], whole: &Outcome) {
    let shown = String::from_utf8_lossy(data);
    let dribble: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(*whole, Outcome::of_tokenizer(&dribble), "byte by byte: {shown}");
    for stamp in ["romeo@localhost/balcony", "tom@localhost/Tom's & <Jerry's>"] {
        let stamped = Outcome::of_stamped(data.chunks(1), Some(stamp));
        assert_eq!(Outcome::of_stamped([data], Some(stamp)), stamped, "stamped byte by byte: {shown}");
        stamped.stanzas.iter().for_each(|stanza| check_stamp(stanza, stamp));
    }
    // A few places that depend on the input, so that a failure can be repeated.
    let hash = data.iter().fold(data.len(), |hash, &b| hash.wrapping_mul(31).wrapping_add(b as usize));
    for nth in 0..4 {
        let cut = hash.rotate_left(nth * 13) % (data.len() + 1);
        assert_eq!(*whole, Outcome::of_tokenizer(&[&data[..cut], &data[cut..]]), "cut at {cut}: {shown}");
    }
}

fn check_stamp(stanza: &Stanza, stamp: &str) {
    let shown = stanza.text();
    if stanza.kind() == xml::Kind::Other {
        assert_eq!(stanza.claimed_from(), None, "{shown}");
    } else {
        assert_eq!(stanza.from().as_deref(), Some(stamp), "{shown}");
        assert_ne!(stanza.claimed_from(), Some(stamp), "{shown}");
    }
    // Apart from what the sender wrote, it is what its bytes say.
    check_canonical(&stanza.with(xml::Attr::Id, Some("1")));
}

/// Canonical bytes are read as they are, and a tree writes them again.
fn check_canonical(stanza: &Stanza) {
    let shown = stanza.text();
    let again = Stanza::parse(stanza.bytes()).unwrap_or_else(|error| panic!("canonical {shown} is refused: {error}"));
    assert_eq!(describe(stanza), describe(&again), "read again");
    let tree = stanza.element();
    assert_eq!(describe(stanza), describe(&Stanza::new(&tree)), "written from a tree");
    for child in stanza.children() {
        assert_eq!(
            Element::parse(child.text().as_bytes(), child.ns).as_ref(),
            Ok(&child.element()),
            "a child of {shown}"
        );
        assert!(child.element().is(child.name, child.ns), "a child of {shown}");
    }
    assert!(tree.is(stanza.name(), stanza.ns()), "{shown}");
    assert!(stanza.children().count() == tree.children().count(), "{shown}");
    for (attr, name) in [
        (xml::Attr::To, "to"),
        (xml::Attr::From, "from"),
        (xml::Attr::Id, "id"),
        (xml::Attr::Type, "type"),
        (xml::Attr::Lang, "xml:lang"),
    ] {
        assert_eq!(stanza.attr(attr).as_deref(), tree.attr(name), "{name} of {shown}");
        let value = "<'&>\"";
        assert_eq!(stanza.with(attr, Some(value)).attr(attr).as_deref(), Some(value), "{name} of {shown}");
        assert_eq!(stanza.with(attr, None).attr(attr), None, "{name} of {shown}");
    }
}

fn describe(stanza: &Stanza) -> String {
    let children = stanza.children().map(|child| format!("{child:?}"));
    let attrs = [xml::Attr::To, xml::Attr::From, xml::Attr::Id, xml::Attr::Type, xml::Attr::Lang];
    let attrs = attrs.map(|attr| stanza.attr(attr));
    let (kind, name, ns) = (stanza.kind(), stanza.name(), stanza.ns());
    let children = children.collect::<String>();
    format!("{:?} {kind:?} {name} {ns} {attrs:?} {children}", stanza.text())
}

/// What the tokenizer makes of the pieces of a stream.
#[derive(Debug, Default)]
struct Outcome {
    content_ns: Option<String>,
    stanzas: Vec<Stanza>,
    ended: bool,
    error: Option<XmlError>,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        let described = |stanza: &Stanza| (describe(stanza), stanza.claimed_from().map(str::to_owned));
        let stanzas = |outcome: &Self| outcome.stanzas.iter().map(described).collect::<Vec<_>>();
        self.content_ns == other.content_ns
            && stanzas(self) == stanzas(other)
            && self.ended == other.ended
            && self.error == other.error
    }
}

impl Outcome {
    fn of_tokenizer(pieces: &[&[u8]]) -> Self {
        Self::of_stamped(pieces.iter().copied(), None)
    }

    fn of_stamped<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, stamp: Option<&str>) -> Self {
        let limits =
            XmlLimits { stanza_bytes_max: 1 << 24, depth_max: 512, attributes_max: 1 << 12, elements_max: 1 << 20 };
        let mut tokenizer = Tokenizer::new(limits);
        tokenizer.stamp_from(stamp.map(Arc::from));
        let mut outcome = Self::default();
        for piece in pieces {
            let mut rest = piece;
            loop {
                match tokenizer.next(&mut rest) {
                    Ok(Some(Token::StreamStart(header))) => outcome.content_ns = Some(header.content_ns),
                    Ok(Some(Token::Stanza(stanza))) => outcome.stanzas.push(stanza),
                    Ok(Some(Token::StreamEnd)) => {
                        outcome.ended = true;
                        return outcome;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        outcome.error = Some(error);
                        return outcome;
                    }
                }
            }
            assert!(rest.is_empty(), "an incomplete token takes all the input");
        }
        outcome
    }
}

/// What rxml makes of a stream.
#[derive(Debug, Default)]
struct Oracle {
    stanzas: Vec<Tree>,
    ended: bool,
    error: Option<String>,
    /// Elements open at the end.
    depth: usize,
    /// Text between stanzas, white space included.
    stray_text: bool,
}

impl Oracle {
    fn read(data: &[u8]) -> Self {
        let options = rxml::Options { max_token_length: 1 << 20, ..rxml::Options::default() };
        let mut parser = <rxml::Parser as rxml::WithOptions>::with_options(options);
        let mut oracle = Self::default();
        let mut open: Vec<Tree> = Vec::new();
        let mut rest = data;
        while !oracle.ended {
            match parser.parse(&mut rest, false) {
                Ok(Some(rxml::Event::XmlDeclaration(..))) => {}
                Ok(Some(rxml::Event::StartElement(_, (ns, name), attributes))) => {
                    let attributes = attributes
                        .iter()
                        .map(|((ns, name), value)| ((ns.as_str().to_owned(), name.as_str().to_owned()), value.clone()));
                    let (ns, name) = (ns.as_str().to_owned(), name.as_str().to_owned());
                    open.push(Tree { ns, name, attributes: attributes.collect(), nodes: Vec::new() });
                }
                Ok(Some(rxml::Event::EndElement(_))) => {
                    let element = open.pop().expect("rxml matches tags");
                    match open.len() {
                        0 => oracle.ended = true,
                        1 => oracle.stanzas.push(element),
                        depth => open[depth - 1].nodes.push(Err(element)),
                    }
                }
                Ok(Some(rxml::Event::Text(_, text))) if open.len() <= 1 => {
                    oracle.stray_text = true;
                    if !text.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
                        oracle.error = Some("text between stanzas".to_owned());
                        break;
                    }
                }
                Ok(Some(rxml::Event::Text(_, text))) => {
                    let depth = open.len();
                    open[depth - 1].push_text(&text);
                }
                Ok(None) | Err(EndOrError::NeedMoreData) => break,
                Err(EndOrError::Error(error)) => {
                    oracle.error = Some(error.to_string());
                    break;
                }
            }
        }
        oracle.depth = open.len();
        oracle
    }
}

/// An element as both understand it.
#[derive(Clone, Debug, PartialEq)]
struct Tree {
    ns: String,
    name: String,
    attributes: BTreeMap<(String, String), String>,
    nodes: Vec<Result<String, Tree>>,
}

impl Tree {
    fn of_element(element: &Element) -> Self {
        let attributes = element.attrs().map(|(name, value)| {
            let expanded = match name.split_once(':') {
                None => (String::new(), name.to_owned()),
                Some((prefix, local)) => {
                    (element.prefix_ns(prefix).expect("prefixes are declared").to_owned(), local.to_owned())
                }
            };
            (expanded, value.to_owned())
        });
        let nodes = element.nodes().iter().map(|node| match node {
            Node::Text(text) => Ok(text.clone()),
            Node::Element(child) => Err(Self::of_element(child)),
        });
        Self {
            ns: element.ns().to_owned(),
            name: element.name().to_owned(),
            attributes: attributes.collect(),
            nodes: nodes.collect(),
        }
    }

    /// With the one name that canonical form has for the content namespace.
    fn renamed(&self, content_ns: &str) -> Self {
        let is_content = self.ns == content_ns && !content_ns.is_empty() && content_ns != ns::STREAM;
        let mut tree = self.clone();
        if is_content {
            tree.ns = ns::CLIENT.to_owned();
        }
        for child in tree.nodes.iter_mut().filter_map(|node| node.as_mut().err()) {
            *child = child.renamed(content_ns);
        }
        tree
    }

    fn push_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            _ if text.is_empty() => {}
            Some(Ok(last)) => last.push_str(text),
            _ => self.nodes.push(Ok(text.to_owned())),
        }
    }
}
