//! RFC 6120 §11: the profile of XML that XMPP uses.
//!
//! [`Tokenizer`] takes bytes as they arrive and yields stream headers and whole stanzas; it builds no
//! tree. A [`Stanza`] is one canonical text with a shallow index. [`Element`] is the small tree
//! that the owner of a payload parses or builds.

mod buffer;
mod canon;
mod canon_tag;
mod element;
mod escape;
mod fast;
mod groups;
mod index;
#[cfg(test)]
mod properties;
mod reader;
mod scan;
mod stanza;
mod tag;
mod tokenizer;

pub use element::{Element, Node};
pub use stanza::{Attr, Child, Kind, Stanza};
pub use tokenizer::{StreamHeader, Token, Tokenizer, XmlError, XmlLimits};
