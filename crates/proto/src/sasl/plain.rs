//! RFC 4616: PLAIN, and RFC 4505: ANONYMOUS, the mechanisms of one message.

/// `[authzid] NUL authcid NUL passwd`
pub(super) struct PlainMessage<'a> {
    pub(super) authzid: Option<&'a str>,
    pub(super) authcid: &'a str,
    pub(super) password: &'a str,
}

impl<'a> PlainMessage<'a> {
    /// `None` where the message breaks the grammar of RFC 4616 §2.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(message).ok()?.split('\0');
        let (authzid, authcid, password) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || authcid.is_empty() || password.is_empty() {
            return None;
        }
        Some(Self { authzid: Some(authzid).filter(|authzid| !authzid.is_empty()), authcid, password })
    }
}

/// Characters of a trace (RFC 4505 §2).
const TRACE_CHARS_MAX: usize = 255;

/// Whether the message is a trace as RFC 4505 §2 has it. What it says is not used: it would be a name that nobody proved.
pub(super) fn is_trace(message: &[u8]) -> bool {
    std::str::from_utf8(message)
        .is_ok_and(|trace| trace.chars().count() <= TRACE_CHARS_MAX && !trace.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_plain_message_has_exactly_three_parts() {
        let message = PlainMessage::parse("\0tim\0tanstaaftanstaaf".as_bytes()).unwrap();
        assert_eq!((message.authzid, message.authcid, message.password), (None, "tim", "tanstaaftanstaaf"));
        let message = PlainMessage::parse("Ursel\0Kurt\0xipj3plmq".as_bytes()).unwrap();
        assert_eq!((message.authzid, message.authcid, message.password), (Some("Ursel"), "Kurt", "xipj3plmq"));
        for wrong in [&b""[..], b"tim", b"\0tim", b"\0\0secret", b"\0tim\0", b"\0tim\0a\0b", b"\0t\xff\0secret"] {
            assert!(PlainMessage::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_trace_is_short_and_readable() {
        assert!(is_trace(b""));
        assert!(is_trace("sirhc@example.com".as_bytes()));
        assert!(is_trace("é".repeat(255).as_bytes()));
        assert!(!is_trace("é".repeat(256).as_bytes()));
        assert!(!is_trace(b"a\0b"));
        assert!(!is_trace(b"\xff"));
    }
}
