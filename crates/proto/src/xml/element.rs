//! The small tree that the owner of a payload parses or builds.

use super::XmlError;

/// An element, owned. Attributes in other namespances than none keep their canonical prefix (`xml:lang`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {}

/// What an element contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text, unescaped.
    Text(String),
}

impl Element {
    /// An empty element. The content namespace is `jabber:client` ([`crate::ns::CLIENT`]).
    pub fn new(_name: &str, _ns: &str) -> Self {
        todo!()
    }
    /// Parses canonical bytes, or any XML of RFC 6120's profile; `ns` is the namespace in force around it.
    pub fn parse(_bytes: &[u8], _ns: &str) -> Result<Self, XmlError> {
        todo!()
    }
    /// With an attribute more, for building: `Element::new("item", ROSTER).with_attr("jid", jid)`.
    pub fn with_attr(self, _name: &str, _value: impl AsRef<str>) -> Self {
        todo!()
    }
    /// With a child more.
    pub fn with(self, _child: impl Into<Node>) -> Self {
        todo!()
    }
    /// With a child more for each.
    pub fn with_all(self, _children: impl IntoIterator<Item = impl Into<Node>>) -> Self {
        todo!()
    }
    /// With text.
    pub fn with_text(self, _text: impl Into<String>) -> Self {
        todo!()
    }
    /// Local name.
    pub fn name(&self) -> &str {
        todo!()
    }
    /// Namespace.
    pub fn ns(&self) -> &str {
        todo!()
    }
    /// Is it this element?
    pub fn is(&self, _name: &str, _ns: &str) -> bool {
        todo!()
    }
    /// An attribute's value.
    pub fn attr(&self, _name: &str) -> Option<&str> {
        todo!()
    }
    /// Sets an attribute.
    pub fn set_attr(&mut self, _name: &str, _value: impl AsRef<str>) {
        todo!()
    }
    /// All attributes, in order.
    pub fn attrs(&self) -> impl Iterator<Item = (&str, &str)> {
        std::iter::empty()
    }
    /// All nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        todo!()
    }
    /// The child elements, in order.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        std::iter::empty()
    }
    /// The first child with this name and namespace.
    pub fn child(&self, _name: &str, _ns: &str) -> Option<&Element> {
        todo!()
    }
    /// The text of the element itself, its pieces joined.
    pub fn text(&self) -> String {
        todo!()
    }
    /// Appends the canonical form; `ns` is the namespace in force around it.
    pub fn write(&self, _ns: &str, _out: &mut Vec<u8>) {
        todo!()
    }
    /// The canonical form as a string; `ns` is the namespace in force around it.
    pub fn to_xml(&self, _ns: &str) -> String {
        todo!()
    }
}

impl From<Element> for Node {
    fn from(element: Element) -> Self {
        Self::Element(element)
    }
}
