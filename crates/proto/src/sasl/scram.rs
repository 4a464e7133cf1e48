//! RFC 5802 §7: the client's messages of SCRAM.
//!
//! The grammar is enforced to the letter: an attribute out of its order, or one that must be understood and
//! is not, makes the message malformed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// `gs2-cbind-flag`: what the client says about channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindingFlag<'a> {
    /// `n`: it cannot bind.
    Unsupported,
    /// `y`: it could, but believes that the server cannot.
    NotOffered,
    /// `p=…`: it binds to a channel binding of this type.
    Bound(&'a str),
}

/// `client-first-message`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    pub(super) flag: BindingFlag<'a>,
    pub(super) authzid: Option<String>,
    /// `gs2-header`, with its last comma.
    pub(super) gs2_header: &'a str,
    /// `client-first-message-bare`
    pub(super) bare: &'a str,
    pub(super) username: String,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let message = text(message)?;
        let (flag, rest) = message.split_once(',')?;
        let (authzid, bare) = rest.split_once(',')?;
        let gs2_header = message.strip_suffix(bare)?;
        let flag = match flag {
            "n" => BindingFlag::Unsupported,
            "y" => BindingFlag::NotOffered,
            _ => BindingFlag::Bound(flag.strip_prefix("p=").filter(|name| is_binding_name(name))?),
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(unescape(authzid.strip_prefix("a=")?)?),
        };
        // `m=` can only stand before `n=`, and falls here.
        let mut attributes = bare.split(',');
        let username = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        attributes.all(is_extension).then_some(Self { flag, authzid, gs2_header, bare, username, nonce })
    }
}

/// `client-final-message`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    /// `cbind-input`, decoded.
    pub(super) binding: Vec<u8>,
    pub(super) nonce: &'a str,
    pub(super) proof: Vec<u8>,
    /// `client-final-message-without-proof`
    pub(super) without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (without_proof, proof) = text(message)?.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = BASE64.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let proof = BASE64.decode(proof).ok()?;
        attributes.all(is_extension).then_some(Self { binding, nonce, proof, without_proof })
    }
}

/// `server-first-message`
pub(super) fn server_first(nonce: &str, salt: &[u8], iterations: u32) -> String {
    format!("r={nonce},s={},i={iterations}", BASE64.encode(salt))
}

/// XEP-0474 §5.1: the attribute that follows, with the hash of what was offered
pub(super) fn downgrade_protection(lists: &[u8]) -> String {
    format!(",h={}", BASE64.encode(lists))
}

/// `server-final-message` of success
pub(super) fn server_final(signature: &[u8]) -> String {
    format!("v={}", BASE64.encode(signature))
}

fn text(message: &[u8]) -> Option<&str> {
    std::str::from_utf8(message).ok().filter(|text| !text.contains('\0'))
}

/// `saslname`, with `=2C` and `=3D` resolved; `None` where it is empty or `=` stands before something else.
fn unescape(name: &str) -> Option<String> {
    let mut pieces = name.split('=');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let (escaped, rest) = piece.split_at_checked(2)?;
        out.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out).filter(|name| !name.is_empty())
}

/// `cb-name`
fn is_binding_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
}

/// `1*printable`; a comma cannot be in it any more.
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `attr-val` that may be ignored. The letters of RFC 5802 §5.1 are none of these: they have their places,
/// and `m` says that the exchange must fail.
fn is_extension(attribute: &str) -> bool {
    match attribute.as_bytes() {
        [letter, b'=', _, ..] => letter.is_ascii_alphabetic() && !b"anmrcsipve".contains(letter),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_first_message_is_taken_apart() {
        let message = ClientFirst::parse(b"p=tls-exporter,a=x=2Cy,n=a=3D=2Cb,r=fyko+d2l,x=y").unwrap();
        assert_eq!(message.flag, BindingFlag::Bound("tls-exporter"));
        assert_eq!(message.authzid.as_deref(), Some("x,y"));
        assert_eq!(message.gs2_header, "p=tls-exporter,a=x=2Cy,");
        assert_eq!(message.bare, "n=a=3D=2Cb,r=fyko+d2l,x=y");
        assert_eq!(message.username, "a=,b");
        assert_eq!(message.nonce, "fyko+d2l");
        assert_eq!(ClientFirst::parse(b"y,,n=a,r=b").unwrap().flag, BindingFlag::NotOffered);
        assert_eq!(ClientFirst::parse(b"n,,n=a,r=b").unwrap().flag, BindingFlag::Unsupported);
    }

    #[test]
    fn malformed_first_messages_are_refused() {
        for wrong in [
            "",
            "n",
            "n,,",
            "n,n=user,r=nonce",
            "x,,n=user,r=nonce",
            "p=,,n=user,r=nonce",
            "p=tls unique,,n=user,r=nonce",
            "n,b=x,n=user,r=nonce",
            "n,a=,n=user,r=nonce",
            "n,,n=,r=nonce",
            "n,,r=nonce,n=user",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,n=user,r=a b",
            "n,,n=us=er,r=nonce",
            "n,,n=user=,r=nonce",
            "n,,n=user=2,r=nonce",
            "n,,n=user=2c,r=nonce",
            "n,,n=user=é,r=nonce",
            "n,,m=ext,n=user,r=nonce",
            "n,,n=user,r=nonce,m=ext",
            "n,,n=user,r=nonce,",
            "n,,n=user,r=nonce,x",
            "n,,n=user,r=nonce,x=",
            "n,,n=user,r=nonce,r=other",
            "n,,n=us\0er,r=nonce",
        ] {
            assert_eq!(ClientFirst::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(ClientFirst::parse(b"n,,n=us\xffer,r=nonce"), None);
    }

    #[test]
    fn a_final_message_is_taken_apart() {
        let message = ClientFinal::parse(b"c=biws,r=nonce,x=y,p=AAEC").unwrap();
        assert_eq!(message.binding, b"n,,");
        assert_eq!(message.nonce, "nonce");
        assert_eq!(message.proof, [0, 1, 2]);
        assert_eq!(message.without_proof, "c=biws,r=nonce,x=y");
    }

    #[test]
    fn malformed_final_messages_are_refused() {
        for wrong in [
            "",
            "c=biws,r=nonce",
            "r=nonce,c=biws,p=AAEC",
            "c=biws,p=AAEC",
            "c=biws,r=nonce,m=x,p=AAEC",
            "c=biws,m=x,r=nonce,p=AAEC",
            "c=biws,r=nonce,p=AAEC,x=y",
            "c=biws,r=nonce,p=AAE",
            "c=biws,r=nonce,p=A*EC",
            "c=bi s,r=nonce,p=AAEC",
            "c=biws,r=nonce,p=AAEC,p=AAEC",
        ] {
            assert_eq!(ClientFinal::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
