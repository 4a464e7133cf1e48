//! The push tokenizer: bytes in, stream headers and stanzas out.

use std::sync::Arc;

use super::Stanza;

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
    StreamStart(StreamHeader),
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
pub struct Tokenizer {}

impl Tokenizer {
    /// A tokenizer that waits for an XML declaration or a stream header.
    pub fn new(_limits: XmlLimits) -> Self {
        todo!()
    }

    /// Changes the limits from the next stanza on (they are wider after authentication).
    pub fn set_limits(&mut self, _limits: XmlLimits) {
        todo!()
    }

    /// Forgets the stream and waits for a new header (RFC 6120 §4.3.3), keeping limits.
    pub fn restart(&mut self) {
        todo!()
    }

    /// From now on the canonical form of `message`, `presence` and `iq` in the content namespace says
    /// `from='…'` with this value, whatever the sender wrote; `Stanza::claimed_from` tells what it wrote
    /// where that differs.
    pub fn stamp_from(&mut self, _from: Option<Arc<str>>) {
        todo!()
    }

    /// Takes bytes from the front of `input` up to the end of the next token, or all of them when
    /// the token is not complete. White space between stanzas is taken in silence. After an error
    /// the tokenizer stays in error.
    pub fn next(&mut self, _input: &mut &[u8]) -> Result<Option<Token>, XmlError> {
        todo!()
    }
}
