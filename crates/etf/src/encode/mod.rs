//! `term_to_binary/2`: a tape to bytes, by a walk along it.

mod rare;
mod walk;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::tag;
use crate::term::Term;

/// The option `minor_version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MinorVersion {
    /// Floats as text, atoms in Latin-1 where they can be.
    Zero,
    /// Floats as 8 bytes, atoms in Latin-1 where they can be: the default up to OTP 25.
    One,
    /// All atoms in UTF-8: the default from OTP 26 on.
    #[default]
    Two,
}

/// Why a term was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// What is compressed has at most 4 GiB, as its size is a number of 32 bits.
    #[error("a term of more than 4 GiB cannot be compressed")]
    TooLarge,
    /// The zlib library failed.
    #[error("zlib failed")]
    Compression,
}

/// Encodes with minor version 2, as `term_to_binary/1` of OTP 26 and later.
pub fn encode(term: Term<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::default().plain(term, &mut bytes);
    bytes
}

/// The options of `term_to_binary/2`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    /// How floats and atoms are written.
    pub minor_version: MinorVersion,
    /// `{compressed, 0..9}`; where the bytes do not get fewer, they stay as they are.
    pub compressed: Option<u8>,
    /// Maps by the order of their keys, or else as they are on the tape.
    pub deterministic: bool,
}

impl Encoder {
    /// Writes a term behind what is in `bytes`.
    pub fn encode_into(&self, term: Term<'_>, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let from = bytes.len();
        self.plain(term, bytes);
        match self.compressed {
            Some(level @ 1..) => compress(bytes, from, level.min(9)),
            _ => Ok(()),
        }
    }

    fn plain(&self, term: Term<'_>, bytes: &mut Vec<u8>) {
        walk::Walk::new(term, self.minor_version, self.deterministic).write(bytes);
    }
}

/// Puts the term, which is at `from`, in a zlib stream, if it gets smaller.
fn compress(bytes: &mut Vec<u8>, from: usize, level: u8) -> Result<(), EncodeError> {
    let plain = &bytes[from + 1..];
    let size = u32::try_from(plain.len()).map_err(|_| EncodeError::TooLarge)?;
    let mut zlib = Compress::new(Compression::new(u32::from(level)), true);
    // No longer than what it stands for, or else it is of no use.
    let mut stream = Vec::with_capacity(plain.len());
    let status = zlib.compress_vec(plain, &mut stream, FlushCompress::Finish).map_err(|_| EncodeError::Compression)?;
    if status == Status::StreamEnd && stream.len() + 5 < plain.len() {
        bytes.truncate(from + 1);
        bytes.push(tag::COMPRESSED);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&stream);
    }
    Ok(())
}
