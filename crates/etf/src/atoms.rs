//! Atoms as OTP takes them: UTF-8 of at most 255 characters.

use crate::error::Reason;

/// Atoms have at most this many characters.
pub(crate) const CHARACTERS_MAX: usize = 255;

/// Whether the bytes are an atom's.
#[inline]
pub(crate) fn check_utf8(bytes: &[u8]) -> Result<(), Reason> {
    if bytes.is_ascii() {
        return if bytes.len() <= CHARACTERS_MAX { Ok(()) } else { Err(Reason::AtomTooLong) };
    }
    let text = str::from_utf8(bytes).map_err(|_| Reason::Utf8)?;
    check(text)
}

/// Whether the text is short enough.
pub(crate) fn check(text: &str) -> Result<(), Reason> {
    let fits = text.len() <= CHARACTERS_MAX || text.chars().count() <= CHARACTERS_MAX;
    if fits { Ok(()) } else { Err(Reason::AtomTooLong) }
}
