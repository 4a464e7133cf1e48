//! What arguments may say, and what is said where they do not.

use magpie_proto::jid::{BareJid, Jid, JidError, parse_domain};

use crate::serve::log;

pub(super) fn account(text: &str) -> Result<BareJid, String> {
    let account = BareJid::parse(text).map_err(|error| match error {
        JidError::Localpart => {
            "what stands before the @ must have 1 to 1023 bytes, and no space, symbol or any of \" & ' / : < > \
             (RFC 7622 §3.3)"
                .to_owned()
        }
        JidError::Domainpart => "what stands after the @ is no domain; write it as juliet@example.org".to_owned(),
        JidError::Resourcepart | JidError::Shape => {
            "an account has no resource: leave out the / and what follows".to_owned()
        }
    })?;
    if account.local().is_none() {
        return Err("an account needs a localpart, as in juliet@example.org".to_owned());
    }
    Ok(account)
}

pub(super) fn address(text: &str) -> Result<BareJid, String> {
    BareJid::parse(text).map_err(|_| "it is no address; write it as example.org or juliet@example.org".to_owned())
}

pub(super) fn session(text: &str) -> Result<Jid, String> {
    let jid = Jid::parse(text).ok().filter(|jid| jid.local().is_some());
    jid.ok_or_else(|| "it is no address of a session; write it as juliet@example.org/balcony".to_owned())
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    parse_domain(text).map_err(|_| "it is no domain; write a name as example.org".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return Err("write a number and s, m, h, d or w, as 7d".to_owned()),
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|number| number.checked_mul(factor)).ok_or_else(|| "it is no time; write it as 7d".to_owned())
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    log::parse(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(["90m", "7d", "2w", "30s"].map(seconds), [Ok(5_400), Ok(604_800), Ok(1_209_600), Ok(30)]);
        for wrong in ["7", "d", "", "7y", "-1d", "99999999999999999999d"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
