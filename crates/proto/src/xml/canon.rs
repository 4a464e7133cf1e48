//! Namespaces in XML 1.0: from tags and text as they arrive to canonical bytes.

use smallvec::SmallVec;

use super::escape::{Place, push_escaped};
use super::scan::QName;
use super::tag::{Tag, closing_name};
use super::{XmlError, XmlLimits};
use crate::ns;

/// What is in force around an element: mostly what a stream's header leaves behind for its stanzas.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// Whether it is a stream that is around, whose content namespace is to be renamed.
    pub(super) stream: bool,
    /// The name that the closing tag of the root element must have.
    pub(super) root: Box<str>,
    /// The default namespace in force around each stanza, as the header says it.
    pub(super) default_ns: Box<str>,
    pub(super) prefixes: Vec<(Box<str>, Box<str>)>,
    /// Whether the default namespace is the content namespace.
    pub(super) content: bool,
}

impl Scope {
    /// Around an element that stands alone, with this namespace in force.
    pub(super) fn alone(default_ns: &str) -> Self {
        Self {
            stream: false,
            root: "".into(),
            default_ns: default_ns.into(),
            prefixes: Vec::new(),
            content: default_ns == ns::CLIENT,
        }
    }

    /// Around the stanzas of a stream. A header without default namespace, or whose default is the stream's own
    /// (RFC 6120 §4.8.3, prefix-free canonicalization), declares no content namespace.
    pub(super) fn stream(root: &str, default_ns: &str, prefixes: Vec<(Box<str>, Box<str>)>) -> Self {
        let content = !default_ns.is_empty() && default_ns != ns::STREAM;
        Self { stream: true, root: root.into(), default_ns: default_ns.into(), prefixes, content }
    }

    /// The namespace that who reads the canonical form takes to be in force around it.
    fn around(&self) -> &str {
        if self.stream { ns::CLIENT } else { &self.default_ns }
    }

    /// The content namespace has one name in canonical form, whichever the stream gives it. What a server stream
    /// says to be in `jabber:client`, mostly forwarded messages, is thereby in the content namespace too.
    pub(super) fn canonical<'a>(&self, uri: &'a str) -> &'a str {
        if self.content && *uri == *self.default_ns { ns::CLIENT } else { uri }
    }
}

/// Writes the canonical form of one element, given its tags and text.
#[derive(Debug)]
pub(super) struct Canon {
    pub(super) out: Vec<u8>,
    limits: XmlLimits,
    open: SmallVec<[Open; 4]>,
    /// Names and namespaces of the open elements, the innermost last.
    arena: String,
    /// Prefixes of the open elements, the innermost last.
    bindings: SmallVec<[Binding; 2]>,
    elements: u32,
    /// `out` ends inside an opening tag, so that an element without content can be closed with `/>`.
    tag_open: bool,
}

/// A piece of the arena.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u32,
    end: u32,
}

/// A namespace, canonical.
#[derive(Clone, Copy, Debug)]
enum Ns {
    /// The one in force around the element.
    Outer,
    /// From a prefix that the stream's header declares.
    Stream(u32),
    /// Declared in the element.
    Here(Piece),
}

#[derive(Debug)]
struct Open {
    raw_name: Piece,
    ns: Ns,
    default_ns: Ns,
    /// Lengths to go back to when the element closes.
    arena_len: u32,
    bindings_len: u32,
}

#[derive(Debug)]
struct Binding {
    prefix: Piece,
    uri: Piece,
}

/// Prefixes in scope at once, those of the stream's header apart. Each prefixed name is looked for among them all.
const PREFIXES_MAX: usize = 128;

impl Canon {
    pub(super) fn new(limits: XmlLimits) -> Self {
        Self {
            out: Vec::new(),
            limits,
            open: SmallVec::new(),
            arena: String::new(),
            bindings: SmallVec::new(),
            elements: 0,
            tag_open: false,
        }
    }

    /// Is no element open?
    pub(super) fn at_top(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes an opening tag. Its element may be complete with it.
    pub(super) fn open_tag(&mut self, raw: &[u8], scope: &Scope) -> Result<(), XmlError> {
        let tag = Tag::parse(raw)?;
        if self.open.len() >= self.limits.depth_max as usize {
            return Err(XmlError::Limit("elements inside each other"));
        }
        if self.elements >= self.limits.elements_max {
            return Err(XmlError::Limit("elements in a stanza"));
        }
        self.elements += 1;
        let element = self.resolve(&tag, scope)?;
        self.finish_tag();
        self.write_open(&tag, &element, scope)?;
        self.open.push(element);
        self.tag_open = true;
        if tag.empty {
            self.close();
        }
        self.check_size()
    }

    /// Takes a closing tag.
    pub(super) fn close_tag(&mut self, raw: &[u8]) -> Result<(), XmlError> {
        let name = closing_name(raw)?;
        match self.open.last() {
            Some(open) if self.piece(open.raw_name) == name => {
                self.close();
                self.check_size()
            }
            _ => Err(XmlError::NotWellFormed("a closing tag that does not match")),
        }
    }

    /// Takes text, references resolved, of characters that XML allows.
    pub(super) fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.finish_tag();
            push_escaped(text, Place::Text, &mut self.out);
        }
    }

    /// The namespaces of a tag: binds its declarations and names its element.
    fn resolve(&mut self, tag: &Tag<'_>, scope: &Scope) -> Result<Open, XmlError> {
        let arena_len = self.arena.len() as u32;
        let bindings_len = self.bindings.len() as u32;
        let raw_name = self.keep(tag.raw_name);
        let mut default_ns = self.open.last().map_or(Ns::Outer, |parent| parent.default_ns);
        for (prefix, uri) in &tag.declarations {
            if prefix.is_empty() {
                default_ns = Ns::Here(self.keep(scope.canonical(uri)));
                continue;
            }
            if self.bindings.len() >= PREFIXES_MAX {
                return Err(XmlError::Limit("namespace prefixes in scope"));
            }
            // Not the canonical name: an attribute's namespace is not the content namespace.
            let binding = Binding { prefix: self.keep(prefix), uri: self.keep(uri) };
            self.bindings.push(binding);
        }
        let ns = match tag.name {
            QName { prefix: "", .. } => default_ns,
            QName { prefix: "xml", .. } => return Err(XmlError::NotWellFormed("an element in the namespace of XML")),
            QName { prefix, .. } => match self.bindings.iter().rfind(|binding| self.piece(binding.prefix) == prefix) {
                Some(&Binding { uri, .. }) => {
                    let uri_is_content = scope.canonical(self.piece(uri)) != self.piece(uri);
                    Ns::Here(if uri_is_content { self.keep(ns::CLIENT) } else { uri })
                }
                None => {
                    let at = scope.prefixes.iter().position(|(known, _)| **known == *prefix);
                    Ns::Stream(at.ok_or(XmlError::BadNamespacePrefix)? as u32)
                }
            },
        };
        tag.check_expanded(|prefix| self.find_prefix(prefix, scope))?;
        Ok(Open { raw_name, ns, default_ns, arena_len, bindings_len })
    }

    fn find_prefix<'a>(&'a self, prefix: &str, scope: &'a Scope) -> Option<&'a str> {
        if prefix == "xml" {
            return Some(ns::XML);
        }
        let here = self.bindings.iter().rfind(|binding| self.piece(binding.prefix) == prefix);
        let here = here.map(|binding| self.piece(binding.uri));
        here.or_else(|| scope.prefixes.iter().find(|(known, _)| **known == *prefix).map(|(_, uri)| &**uri))
    }

    fn write_open(&mut self, tag: &Tag<'_>, element: &Open, scope: &Scope) -> Result<(), XmlError> {
        let mut out = std::mem::take(&mut self.out);
        out.push(b'<');
        out.extend_from_slice(tag.name.local.as_bytes());
        let uri = self.name_of(element.ns, scope);
        let inherited = self.open.last().map_or(scope.around(), |parent| self.name_of(parent.ns, scope));
        if uri != inherited {
            push_attribute("xmlns", uri, &mut out);
        }
        let mut declared = SmallVec::<[&str; 4]>::new();
        for prefix in tag.attributes.iter().map(|attribute| attribute.name.prefix) {
            if prefix.is_empty() || prefix == "xml" || declared.contains(&prefix) {
                continue;
            }
            declared.push(prefix);
            let uri = self.find_prefix(prefix, scope).ok_or(XmlError::BadNamespacePrefix)?;
            out.extend_from_slice(b" xmlns:");
            push_value(prefix, uri, &mut out);
        }
        for attribute in &tag.attributes {
            push_attribute(attribute.raw_name, &attribute.value, &mut out);
        }
        self.out = out;
        Ok(())
    }

    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        if std::mem::take(&mut self.tag_open) {
            self.out.extend_from_slice(b"/>");
        } else {
            let raw_name = &self.arena[open.raw_name.start as usize..open.raw_name.end as usize];
            let local = raw_name.split_once(':').map_or(raw_name, |(_, local)| local);
            self.out.extend_from_slice(b"</");
            self.out.extend_from_slice(local.as_bytes());
            self.out.push(b'>');
        }
        self.arena.truncate(open.arena_len as usize);
        self.bindings.truncate(open.bindings_len as usize);
    }

    fn finish_tag(&mut self) {
        if std::mem::take(&mut self.tag_open) {
            self.out.push(b'>');
        }
    }

    /// A short prefix can stand for a long namespace, again and again: what is kept is bounded like what is read.
    fn check_size(&self) -> Result<(), XmlError> {
        if self.out.len() > self.limits.stanza_bytes_max {
            return Err(XmlError::Limit("bytes of a stanza in canonical form"));
        }
        Ok(())
    }

    fn name_of<'a>(&'a self, ns: Ns, scope: &'a Scope) -> &'a str {
        match ns {
            Ns::Outer => scope.canonical(&scope.default_ns),
            Ns::Stream(at) => scope.canonical(&scope.prefixes[at as usize].1),
            Ns::Here(piece) => self.piece(piece),
        }
    }

    fn keep(&mut self, text: &str) -> Piece {
        let start = self.arena.len() as u32;
        self.arena.push_str(text);
        Piece { start, end: self.arena.len() as u32 }
    }

    fn piece(&self, piece: Piece) -> &str {
        &self.arena[piece.start as usize..piece.end as usize]
    }
}

/// Appends ` name='value'`, escaped.
pub(super) fn push_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    push_value(name, value, out);
}

/// Appends `name='value'`, escaped.
pub(super) fn push_value(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    push_escaped(value, Place::Attribute, out);
    out.push(b'\'');
}
