//! RFC 6120 §11: the harness' own reading of XML streams, by `rxml`, so that the server's parser is not its own judge.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};

use rxml::error::EndOrError;
use rxml::{Event, Options, Parse, Parser, WithOptions};

pub(crate) const CLIENT: &str = "jabber:client";
pub(crate) const STREAM: &str = "http://etherx.jabber.org/streams";
pub(crate) const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
pub(crate) const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
pub(crate) const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
pub(crate) const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
pub(crate) const SM: &str = "urn:xmpp:sm:3";
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// A report shows no more of a text.
const SHOWN_CHARS_MAX: usize = 400;

/// Namespace and local name; the namespace of a plain attribute is empty.
pub(crate) type Name = (String, String);

/// An element with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: Name,
    pub(crate) attrs: BTreeMap<Name, String>,
    pub(crate) children: Vec<Node>,
    pub(crate) text: String,
}

impl Node {
    pub(crate) fn is(&self, namespace: &str, local: &str) -> bool {
        self.name.0 == namespace && self.name.1 == local
    }

    pub(crate) fn attr(&self, local: &str) -> Option<&str> {
        self.attrs.get(&(String::new(), local.to_owned())).map(String::as_str)
    }

    pub(crate) fn child(&self, namespace: &str, local: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.is(namespace, local))
    }

    fn write(&self, parent: &str, indent: usize, out: &mut String) -> fmt::Result {
        let (namespace, local) = &self.name;
        let prefix = if namespace == STREAM { "stream:" } else { "" };
        write!(out, "{:indent$}<{prefix}{local}", "")?;
        if prefix.is_empty() && namespace != parent {
            write!(out, " xmlns='{}'", escape(namespace))?;
        }
        for ((namespace, local), value) in &self.attrs {
            match namespace.as_str() {
                "" => write!(out, " {local}='{}'", escape(value))?,
                XML => write!(out, " xml:{local}='{}'", escape(value))?,
                other => write!(out, " {{{other}}}{local}='{}'", escape(value))?,
            }
        }
        let text = self.text.trim();
        if self.children.is_empty() && text.is_empty() {
            return out.write_str("/>");
        }
        out.write_str(">")?;
        match text.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(out, "{}… ({} bytes)", escape(&text[..end]), text.len())?,
            None => out.write_str(&escape(text))?,
        }
        let inner = if prefix.is_empty() { namespace.as_str() } else { parent };
        for child in &self.children {
            out.write_str("\n")?;
            child.write(inner, indent + 2, out)?;
        }
        if !self.children.is_empty() {
            write!(out, "\n{:indent$}", "")?;
        }
        write!(out, "</{prefix}{local}>")
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(CLIENT, 0, &mut out)?;
        f.write_str(&out)
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

/// What a stream brings.
#[derive(Clone, Debug)]
pub(crate) enum Incoming {
    /// `<stream:stream>`, without its children.
    Header(Node),
    /// A child of the stream.
    Element(Node),
    /// `</stream:stream>`
    End,
    /// The connection ended; with what the operating system or the XML parser says, if that is a complaint.
    Closed(Option<String>),
}

/// Bytes to [`Incoming`].
pub(crate) struct StreamReader {
    parser: Parser,
    open: Vec<Node>,
    pub(crate) header_seen: bool,
    pub(crate) ready: VecDeque<Incoming>,
    unread: Vec<u8>,
}

impl StreamReader {
    pub(crate) fn new() -> Self {
        Self { parser: new_parser(), open: Vec::new(), header_seen: false, ready: VecDeque::new(), unread: Vec::new() }
    }

    /// The next bytes begin with a stream header. What is ready stays.
    pub(crate) fn restart(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        *self = Self { ready, ..Self::new() };
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        loop {
            match self.parser.parse(&mut rest, false) {
                Ok(Some(event)) => self.handle(event),
                Ok(None) | Err(EndOrError::NeedMoreData) => break,
                Err(EndOrError::Error(error)) => {
                    self.ready.push_back(Incoming::Closed(Some(format!("the peer's XML is wrong: {error}"))));
                    return;
                }
            }
        }
        self.unread = rest.to_vec();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::XmlDeclaration(..) => {}
            Event::StartElement(_, name, attrs) => {
                let node = new_node(name, attrs);
                if self.header_seen {
                    self.open.push(node);
                } else {
                    self.header_seen = true;
                    self.ready.push_back(Incoming::Header(node));
                }
            }
            Event::Text(_, text) => {
                if let Some(node) = self.open.last_mut() {
                    node.text.push_str(&text);
                }
            }
            Event::EndElement(_) => match (self.open.pop(), self.open.last_mut()) {
                (Some(node), Some(parent)) => parent.children.push(node),
                (Some(node), None) => self.ready.push_back(Incoming::Element(node)),
                (None, _) => self.ready.push_back(Incoming::End),
            },
        }
    }
}

/// Reads elements as they stand in a conversation: `jabber:client` is the default namespace, `stream:` and `is:` are bound.
pub(crate) fn parse_fragment(text: &str, check_namespace: &str) -> Result<Vec<Node>, String> {
    let document = format!("<f xmlns='{CLIENT}' xmlns:stream='{STREAM}' xmlns:is='{check_namespace}'>{text}</f>");
    let mut reader = StreamReader::new();
    reader.feed(document.as_bytes());
    let mut nodes = Vec::new();
    let mut ended = false;
    for incoming in reader.ready {
        match incoming {
            Incoming::Header(_) => {}
            Incoming::Element(node) => nodes.push(node),
            Incoming::End => ended = true,
            Incoming::Closed(error) => return Err(error.unwrap_or_default()),
        }
    }
    if !ended {
        return Err("an element is not closed".into());
    }
    Ok(nodes)
}

fn new_parser() -> Parser {
    Parser::with_options(Options { max_token_length: 1 << 20, ..Options::default() })
}

fn new_node(name: rxml::QName, attrs: rxml::AttrMap) -> Node {
    Node {
        name: (name.0.to_string(), name.1.to_string()),
        attrs: attrs
            .into_iter()
            .map(|((namespace, local), value)| ((namespace.to_string(), local.to_string()), value))
            .collect(),
        children: Vec::new(),
        text: String::new(),
    }
}
