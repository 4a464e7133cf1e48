//! XMPP as values: XML, addresses, stanzas, streams, SASL and acknowledgements.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time and randomness are
//! arguments, bytes are slices, and every state machine can be tested without a runtime.

pub mod acks;
pub mod error;
pub mod jid;
pub mod ns;
pub mod precis;
pub mod sasl;
pub mod stream;
pub mod xeps;
pub mod xml;

pub use error::{StanzaCondition, StanzaError, StreamCondition, StreamError};
pub use jid::{BareJid, FullJid, Jid, JidError};
pub use xml::{Element, Kind, Stanza};
