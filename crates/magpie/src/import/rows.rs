//! RFC 4180: the lines of an import file, `jid,password`.
//!
//! A row is a line: a password has no line breaks (RFC 8265 §4), and so a quote that is left open spoils its own
//! line and not the rest of the file.

use magpie_proto::jid::BareJid;

/// A line that names an account.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Number of the line, from 1.
    pub(super) line: u64,
    /// The address.
    pub(super) jid: BareJid,
    /// The password as it stands there, spaces included.
    pub(super) password: String,
}

/// A line that does not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// Number of the line, from 1.
    pub(super) line: u64,
    /// What is wrong with it.
    pub(super) message: String,
}

/// Reads the file; leaves out empty lines and the header.
pub(super) fn read(text: &[u8]) -> impl Iterator<Item = Result<Account, BadLine>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut first = true;
    (1..).zip(lines).filter(|(_, line)| !line.is_empty()).filter_map(move |(line, bytes)| {
        let fields = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()).and_then(fields);
        let header = std::mem::take(&mut first) && fields.as_ref().is_ok_and(|fields| is_header(fields));
        (!header).then(|| fields.and_then(|fields| account(line, fields)).map_err(|message| BadLine { line, message }))
    })
}

fn is_header(fields: &[String]) -> bool {
    let names = fields.iter().map(|name| name.trim().to_ascii_lowercase());
    names.eq(["jid", "password"])
}

fn account(line: u64, fields: Vec<String>) -> Result<Account, String> {
    let count = fields.len();
    let Ok([jid, password]) = <[String; 2]>::try_from(fields) else {
        return Err(format!(
            "it has {count} field{}, not jid,password (a password with a comma must be in quotes)",
            if count == 1 { "" } else { "s" }
        ));
    };
    match BareJid::parse(jid.trim()) {
        Ok(jid) if jid.local().is_some() => Ok(Account { line, jid, password }),
        Ok(_) => Err(format!("\"{}\" has no localpart", jid.trim())),
        Err(error) => Err(format!("\"{}\" is no address: {error}", jid.trim())),
    }
}

/// The fields of a line: in quotes, where a quote is written twice, or up to the next comma.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(quoted)?;
            fields.push(field);
            after
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            fields.push(rest[..end].to_owned());
            &rest[end..]
        };
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("there is text between a closing quote and the comma".to_owned()),
        }
    }
}

fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some(end) = rest.find('"') else { return Err("a quote is not closed".to_owned()) };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `line jid password`, or `line: message`.
    fn shown(text: &[u8]) -> Vec<String> {
        read(text)
            .map(|row| match row {
                Ok(account) => format!("{} {} {}", account.line, account.jid, account.password),
                Err(bad) => format!("{}: {}", bad.line, bad.message),
            })
            .collect()
    }

    #[test]
    fn a_header_a_byte_order_mark_and_empty_lines_are_left_out() {
        assert_eq!(shown(b"\xef\xbb\xbfJID, Password\r\n\r\na@b.example,x\r\n"), ["3 a@b.example x"]);
        assert_eq!(shown(b"a@b.example,x"), ["1 a@b.example x"]);
        assert_eq!(shown(b"a@b.example,x\njid,password\n").len(), 2);
    }

    #[test]
    fn passwords_are_taken_as_they_stand() {
        assert_eq!(shown(b"a@b.example, x \n"), ["1 a@b.example  x "]);
        assert_eq!(shown(br#"a@b.example,"x,""y""""#), [r#"1 a@b.example x,"y""#]);
        assert_eq!(shown(br#"a@b.example,x"y"#), [r#"1 a@b.example x"y"#]);
        assert_eq!(shown(b"a@b.example,"), ["1 a@b.example "]);
    }

    #[test]
    fn a_bad_line_spoils_no_other() {
        let text =
            b"a@b.example,\"open\nb@b.example,x,y\nb.example,x\nonly\n\xff,x\nc@b.example,\"x\"y\nd@b.example,x\n";
        let expected = [
            "1: a quote is not closed",
            "2: it has 3 fields, not jid,password (a password with a comma must be in quotes)",
            "3: \"b.example\" has no localpart",
            "4: it has 1 field, not jid,password (a password with a comma must be in quotes)",
            "5: it is not UTF-8",
            "6: there is text between a closing quote and the comma",
            "7 d@b.example x",
        ];
        assert_eq!(shown(text), expected);
    }
}
