//! Why bytes are no term: the offset and the reason, one for each refusal of `binary_to_term`.

/// Bytes that are no term, and where it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct DecodeError {
    /// Offset of the byte at which the part begins that cannot be taken; within the inflated bytes if `inflated`.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Reason,
    /// Whether the offset counts bytes of the inflated term, the one behind the tag 80 and its size being 0.
    pub inflated: bool,
}

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing was given, or the term goes on after the end.
    #[error("the term goes on after the end of the input")]
    Truncated,
    /// The first byte is not 131.
    #[error("version {0}, not 131")]
    Version(u8),
    /// No tag of the format, or one that may not stand there.
    #[error("tag {0} is unknown, or may not stand here")]
    Tag(u8),
    /// `FUN_EXT`, which OTP reads no more since release 23.
    #[error("a fun of before OTP 23")]
    OldFun,
    /// `ATOM_CACHE_REF`, or another tag that only the distribution protocol gives a sense.
    #[error("tag {0} has a sense in the distribution protocol alone")]
    Distribution(u8),
    /// Not finite, or no number.
    #[error("a float that is infinite or no number")]
    Float,
    /// An atom that is not UTF-8.
    #[error("an atom that is not UTF-8")]
    Utf8,
    /// An atom of more than 255 characters.
    #[error("an atom of more than 255 characters")]
    AtomTooLong,
    /// A bit string's last byte has 1 to 8 bits, and a bit string of no bytes is a binary.
    #[error("a bit string whose last byte has no 1 to 8 bits")]
    Bits,
    /// A map has a key twice.
    #[error("a map has a key twice")]
    DuplicateKey,
    /// An old pid, port or reference whose creation is more than 3.
    #[error("a creation of more than 3 in an old tag")]
    Creation,
    /// References have 1 to 5 words. (Without one, OTP takes what lies behind for it.)
    #[error("a reference that has not 1 to 5 words")]
    ReferenceWords,
    /// An old reference whose first word has more than 18 bits.
    #[error("an old reference whose first word has more than 18 bits")]
    OldReference,
    /// A fun has more than 255 variables.
    #[error("a fun of more than 255 variables")]
    FreeVariables,
    /// An atom, an integer or a pid must stand there.
    #[error("{0} must stand here")]
    Expected(&'static str),
    /// The arity of an external fun is 0 to 255.
    #[error("an arity outside of 0 to 255")]
    Arity,
    /// The zlib stream is damaged, or does not give the size that was said.
    #[error("damaged zlib stream, or not of the size that was said")]
    Compressed,
    /// It would inflate to more than [`Limits::inflated_bytes_max`](crate::Limits).
    #[error("inflates to more than {0} bytes")]
    InflatedTooLarge(usize),
    /// Nested deeper than [`Limits::depth_max`](crate::Limits).
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// The tape would be larger than [`Limits::tape_bytes_max`](crate::Limits).
    #[error("takes more than {0} bytes of memory")]
    TapeTooLarge(usize),
    /// Inputs have at most 4 GiB.
    #[error("more than 4 GiB")]
    TooLarge,
    /// Bytes follow the term, where the caller wanted none.
    #[error("bytes follow the term")]
    Trailing,
}
