//! The stored form of a row.

/// What a row holds.
pub trait Record: Sized + Send + 'static {
    /// Appends the stored form.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads the stored form; `None` where it is corrupt.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Record for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl Record for String {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}
