//! RFC 6120 §11: the push tokenizer, bytes in, stream headers and stanzas out.

use std::sync::{Arc, LazyLock};

use super::canon::Scope;
use super::fast::{self, FastStamp, Stop};
use super::reader::{Item, Reader, STRAY_TEXT};
use super::scan::is_space;
use super::stanza::as_text;
use super::tag::{Tag, check_xml_declaration, closing_name};
use super::{Stanza, escape};
use crate::ns;

/// What one stream may ask of the tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XmlLimits {
    /// Bytes of one stanza as it arrives, from `<` to the end of its closing tag. Also bounds a stream header.
    pub stanza_bytes_max: usize,
    /// Elements inside each other, the stanza itself being the first.
    pub depth_max: u16,
    /// Attributes of one element, namespace declarations included.
    pub attributes_max: u16,
    /// Elements in one stanza, all levels together.
    pub elements_max: u32,
}

impl Default for XmlLimits {
    fn default() -> Self {
        Self { stanza_bytes_max: 256 * 1024, depth_max: 64, attributes_max: 64, elements_max: 8192 }
    }
}

/// What the tokenizer found.
#[derive(Clone, Debug)]
pub enum Token {
    /// The opening tag of the root element.
    StreamStart(Box<StreamHeader>),
    /// A whole child of the root element.
    Stanza(Stanza),
    /// The closing tag of the root element.
    StreamEnd,
}

/// The root element's opening tag. Whether it is a stream that we serve is the caller's to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// Local name of the root element.
    pub name: String,
    /// Its namespace; empty where it has none.
    pub ns: String,
    /// The default namespace that it declares for its children (`xmlns='…'`); empty where it declares none.
    pub content_ns: String,
    /// `to`, unescaped, as sent.
    pub to: Option<String>,
    /// `from`, unescaped, as sent.
    pub from: Option<String>,
    /// `id`
    pub id: Option<String>,
    /// `version`
    pub version: Option<String>,
    /// `xml:lang`
    pub lang: Option<String>,
}

/// Why the bytes are refused. Every one of them ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// `not-well-formed`: a rule of XML 1.0 or of Namespaces in XML is broken.
    #[error("not well-formed: {0}")]
    NotWellFormed(&'static str),
    /// `restricted-xml`: a comment, processing instruction, DTD or undeclared entity (RFC 6120 §11.1).
    #[error("restricted XML: {0}")]
    Restricted(&'static str),
    /// `bad-namespace-prefix`: a prefix that nothing declares.
    #[error("undeclared namespace prefix")]
    BadNamespacePrefix,
    /// `unsupported-encoding`: an XML declaration that names another encoding than UTF-8.
    #[error("encoding other than UTF-8")]
    UnsupportedEncoding,
    /// `policy-violation`: one of [`XmlLimits`].
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
}

/// A push tokenizer for one direction of one stream. It owns no memory between stanzas.
#[derive(Debug)]
pub struct Tokenizer {
    limits: XmlLimits,
    phase: Phase,
    stamp: Option<Stamp>,
}

/// A stanza that is cut is held as it is up to this length. A longer one is better read as it comes.
const HELD_BYTES_MAX: usize = 4096;

/// The `from` that stanzas are to have.
#[derive(Debug)]
struct Stamp {
    value: Arc<str>,
    /// The same with escapes, where it needs any.
    escaped: Option<Box<str>>,
}

/// Where the stream stands.
#[derive(Debug)]
enum Phase {
    /// Nothing arrived: an XML declaration may come.
    Start,
    /// Before the header; no declaration any more.
    Prolog,
    /// In an XML declaration or in the header.
    Header { tag: Box<OuterTag>, declaration_allowed: bool },
    /// Between stanzas.
    Between(Arc<Scope>),
    /// Between stanzas, after a `<` that begins a stanza or the end of the stream.
    Angle(Arc<Scope>),
    /// In a stanza that was ordinary up to where it is cut.
    Held { scope: Arc<Scope>, raw: Vec<u8>, limits: XmlLimits },
    /// In a stanza.
    Stanza(Arc<Scope>, Box<Reader>),
    /// In the closing tag of the root element.
    Closing { scope: Arc<Scope>, tag: Box<OuterTag> },
    /// The root element was empty; its end was not told yet.
    EndDue,
    /// The root element is closed.
    End,
    /// The bytes were refused.
    Refused(XmlError),
}

impl Tokenizer {
    /// A tokenizer that waits for an XML declaration or a stream header.
    pub fn new(limits: XmlLimits) -> Self {
        Self { limits, phase: Phase::Start, stamp: None }
    }

    /// Changes the limits from the next stanza on (they are wider after authentication).
    pub fn set_limits(&mut self, limits: XmlLimits) {
        self.limits = limits;
    }

    /// Forgets the stream and waits for a new header (RFC 6120 §4.3.3), keeping limits.
    pub fn restart(&mut self) {
        self.phase = Phase::Start;
    }

    /// From now on the canonical form of `message`, `presence` and `iq` in the content namespace says
    /// `from='…'` with this value, whatever the sender wrote; `Stanza::claimed_from` tells what it wrote
    /// where that differs.
    pub fn stamp_from(&mut self, from: Option<Arc<str>>) {
        self.stamp = from.map(|value| {
            let escaped = escape::attribute(&value);
            let escaped = (escaped != *value).then(|| escaped.into());
            Stamp { value, escaped }
        });
    }

    /// Takes bytes from the front of `input` up to the end of the next token, or all of them when
    /// the token is not complete. White space between stanzas is taken in silence. After an error
    /// the tokenizer stays in error.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Token>, XmlError> {
        // The way that nearly all goes, kept short.
        if let Phase::Between(scope) = &self.phase {
            skip_space(input);
            if let [b'<', _, ..] = input {
                match fast::read(input, &self.limits, scope, self.fast_stamp()) {
                    Ok((len, stanza)) => {
                        *input = &input[len..];
                        return Ok(Some(Token::Stanza(stanza)));
                    }
                    Err(Stop::Cut) if input.len() <= HELD_BYTES_MAX => {
                        let raw = std::mem::take(input).to_vec();
                        self.phase = Phase::Held { scope: scope.clone(), raw, limits: self.limits };
                        return Ok(None);
                    }
                    Err(_) => {}
                }
            }
        }
        let result = self.step(input);
        if let Err(error) = result {
            self.phase = Phase::Refused(error);
        }
        result
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Token>, XmlError> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::End) {
                Phase::Refused(error) => return Err(error),
                Phase::EndDue => return Ok(Some(Token::StreamEnd)),
                phase if input.is_empty() => {
                    self.phase = phase;
                    return Ok(None);
                }
                Phase::Start | Phase::Prolog if is_space(input[0]) => {
                    skip_space(input);
                    self.phase = Phase::Prolog;
                }
                phase @ (Phase::Start | Phase::Prolog) => {
                    if input[0] != b'<' {
                        return Err(XmlError::NotWellFormed("text before the root element"));
                    }
                    let declaration_allowed = matches!(phase, Phase::Start);
                    let tag = Box::new(OuterTag { item: Item::default(), bytes: 0, limits: self.limits });
                    self.phase = Phase::Header { tag, declaration_allowed };
                }
                Phase::Header { tag, declaration_allowed } => {
                    if let Some(header) = self.header(tag, declaration_allowed, input)? {
                        return Ok(Some(header));
                    }
                }
                Phase::Between(scope) => {
                    skip_space(input);
                    match *input {
                        [] => self.phase = Phase::Between(scope),
                        [b'<', rest @ ..] => {
                            *input = rest;
                            self.phase = Phase::Angle(scope);
                        }
                        _ => return Err(STRAY_TEXT),
                    }
                }
                Phase::Angle(scope) if input[0] == b'/' => {
                    let tag = Box::new(OuterTag { item: Item::angle(), bytes: 1, limits: self.limits });
                    self.phase = Phase::Closing { scope, tag };
                }
                Phase::Angle(scope) => {
                    let mut reader = Box::new(Reader::new(self.limits));
                    reader.feed(&mut &b"<"[..], &scope)?;
                    self.phase = Phase::Stanza(scope, reader);
                }
                Phase::Held { scope, raw, limits } => {
                    if let Some(stanza) = self.resume(scope, raw, limits, input)? {
                        return Ok(Some(Token::Stanza(stanza)));
                    }
                }
                Phase::Stanza(scope, mut reader) => {
                    if !reader.feed(input, &scope)? {
                        self.phase = Phase::Stanza(scope, reader);
                        return Ok(None);
                    }
                    self.phase = Phase::Between(scope);
                    return Ok(Some(Token::Stanza(self.stamped(reader))));
                }
                Phase::Closing { scope, mut tag } => {
                    let Some(raw) = tag.take(input)? else {
                        self.phase = Phase::Closing { scope, tag };
                        return Ok(None);
                    };
                    if *closing_name(raw)? != *scope.root {
                        return Err(XmlError::NotWellFormed("a closing tag that does not match"));
                    }
                    return Ok(Some(Token::StreamEnd));
                }
                Phase::End => {
                    if !is_space(input[0]) {
                        return Err(XmlError::NotWellFormed("bytes after the root element"));
                    }
                    skip_space(input);
                }
            }
        }
    }

    /// Goes on with a stanza that was cut: once more as an ordinary one, and if it is not, from its start with the
    /// reader. Its bytes are thus looked at three times at most.
    fn resume(
        &mut self,
        scope: Arc<Scope>,
        mut raw: Vec<u8>,
        limits: XmlLimits,
        input: &mut &[u8],
    ) -> Result<Option<Stanza>, XmlError> {
        let held = raw.len();
        let more = input.len().min(HELD_BYTES_MAX);
        raw.extend_from_slice(&input[..more]);
        if let Ok((len, stanza)) = fast::read(&raw, &limits, &scope, self.fast_stamp()) {
            *input = &input[len - held..];
            self.phase = Phase::Between(scope);
            return Ok(Some(stanza));
        }
        let mut reader = Box::new(Reader::new(limits));
        let mut rest = &raw[..];
        let complete = reader.feed(&mut rest, &scope)?;
        *input = &input[more - rest.len()..];
        if complete {
            self.phase = Phase::Between(scope);
            return Ok(Some(self.stamped(reader)));
        }
        self.phase = Phase::Stanza(scope, reader);
        Ok(None)
    }

    // The stamp is the one in force when the stanza is told, however early its bytes came.
    fn stamped(&self, reader: Box<Reader>) -> Stanza {
        let stanza = Stanza::from_canonical(as_text(&reader.canon.out), None);
        match &self.stamp {
            Some(stamp) => stanza.stamped(&stamp.value),
            None => stanza,
        }
    }

    fn fast_stamp(&self) -> Option<FastStamp<'_>> {
        self.stamp.as_ref().map(Stamp::as_fast)
    }

    /// An XML declaration, or the opening tag of the root element.
    fn header(
        &mut self,
        mut tag: Box<OuterTag>,
        declaration_allowed: bool,
        input: &mut &[u8],
    ) -> Result<Option<Token>, XmlError> {
        let declaration = tag.item.second(input) == Some(b'?');
        if declaration && !declaration_allowed {
            return Err(XmlError::Restricted("a processing instruction"));
        }
        let Some(raw) = tag.take(input)? else {
            self.phase = Phase::Header { tag, declaration_allowed };
            return Ok(None);
        };
        if declaration {
            check_xml_declaration(raw)?;
            self.phase = Phase::Prolog;
            return Ok(None);
        }
        let root = Tag::parse(raw)?;
        let (header, scope) = StreamHeader::read(&root)?;
        self.phase = if root.empty { Phase::EndDue } else { Phase::Between(scope) };
        Ok(Some(Token::StreamStart(Box::new(header))))
    }
}

/// A tag outside of stanzas, as far as it arrived.
#[derive(Debug)]
struct OuterTag {
    item: Item,
    bytes: usize,
    limits: XmlLimits,
}

impl OuterTag {
    fn take<'a, 'v: 'a>(&'a mut self, input: &mut &'v [u8]) -> Result<Option<&'a [u8]>, XmlError> {
        self.item.take_bounded(input, &mut self.bytes, &self.limits)
    }
}

impl Stamp {
    fn as_fast(&self) -> FastStamp<'_> {
        FastStamp { value: &self.value, escaped: self.escaped.as_deref().unwrap_or(&self.value) }
    }
}

impl StreamHeader {
    fn read(tag: &Tag<'_>) -> Result<(Self, Arc<Scope>), XmlError> {
        let declared = |wanted: &str| {
            let found = tag.declarations.iter().find(|(prefix, _)| *prefix == wanted);
            found.map(|(_, uri)| uri.as_ref())
        };
        let resolve = |prefix: &str| if prefix == "xml" { Some(ns::XML) } else { declared(prefix) };
        tag.check_expanded(resolve)?;
        let content_ns = declared("").unwrap_or_default();
        let ns = match tag.name.prefix {
            "" => content_ns,
            prefix => resolve(prefix).ok_or(XmlError::BadNamespacePrefix)?,
        };
        let attribute = |name| tag.attributes.iter().find(|found| found.raw_name == name).map(|a| a.value.to_string());
        let header = Self {
            name: tag.name.local.to_owned(),
            ns: ns.to_owned(),
            content_ns: content_ns.to_owned(),
            to: attribute("to"),
            from: attribute("from"),
            id: attribute("id"),
            version: attribute("version"),
            lang: attribute("xml:lang"),
        };
        let prefixes = tag.declarations.iter().filter(|(prefix, _)| !prefix.is_empty() && *prefix != "xml");
        let prefixes = prefixes.map(|(prefix, uri)| ((*prefix).into(), uri.as_ref().into()));
        let scope = Scope::stream(tag.raw_name, content_ns, prefixes.collect());
        let usual = USUAL_SCOPES.iter().find(|usual| ***usual == scope).cloned();
        Ok((header, usual.unwrap_or_else(|| Arc::new(scope))))
    }
}

/// What nearly every header declares: streams that say so share it and own nothing at rest.
static USUAL_SCOPES: LazyLock<[Arc<Scope>; 3]> = LazyLock::new(|| {
    let scope = |default_ns: &str, prefixes: &[(&str, &str)]| {
        let prefixes = prefixes.iter().map(|&(prefix, uri)| (prefix.into(), uri.into()));
        Arc::new(Scope::stream("stream:stream", default_ns, prefixes.collect()))
    };
    let stream = ("stream", ns::STREAM);
    let dialback = ("db", "jabber:server:dialback");
    [
        scope(ns::CLIENT, &[stream]),
        scope(ns::SERVER, &[stream]),
        // The order of the declarations is mostly this one; another one costs a little memory.
        scope(ns::SERVER, &[dialback, stream]),
    ]
});

fn skip_space(input: &mut &[u8]) {
    let end = input.iter().position(|&b| !is_space(b)).unwrap_or(input.len());
    *input = &input[end..];
}

#[cfg(test)]
mod tests;
