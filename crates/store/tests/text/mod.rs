//! A record that is searched: a text.

use magpie_store::{Record, Searched};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl Record for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok().map(Self)
    }
}

impl Searched for Text {
    fn text(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}
