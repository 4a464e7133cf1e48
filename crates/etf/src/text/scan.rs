//! Erlang's tokens: spaces and comments, names, numbers, quoted texts.

use std::borrow::Cow;

use super::TextError;
use super::print::RESERVED;

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A number without its sign.
pub(super) enum Number {
    /// Digits and their base.
    Integer(String, u32),
    Float(f64),
}

type Taken<T> = Result<T, TextError>;

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn error(&self, reason: impl Into<Cow<'static, str>>) -> TextError {
        TextError { offset: self.at, reason: reason.into(), is_too_large: false }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Over so many bytes, which were looked at.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Over spaces and comments.
    pub(super) fn space(&mut self) {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match byte {
                ..=0x20 | 0x7f => self.at += 1,
                b'%' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                0xc2 if self.rest().starts_with('\u{a0}') => self.at += 2,
                _ => break,
            }
        }
    }

    /// Whether this comes next, behind spaces; then it is passed.
    pub(super) fn takes(&mut self, text: &str) -> bool {
        self.space();
        let is_there = self.rest().starts_with(text);
        self.at += if is_there { text.len() } else { 0 };
        is_there
    }

    /// The same for a word, which must not go on.
    pub(super) fn takes_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let is_there = rest.strip_prefix(word).is_some_and(|rest| !rest.starts_with(is_name));
        self.at += if is_there { word.len() } else { 0 };
        is_there
    }

    /// The dot at the end of a term, behind which a space, a comment or the end must stand.
    pub(super) fn dot(&mut self) -> Taken<()> {
        self.space();
        let followed = |c: char| c <= ' ' || c == '%' || c == '\u{a0}';
        match self.rest().strip_prefix('.') {
            Some(rest) if rest.chars().next().is_none_or(followed) => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.error("a dot must stand here")),
        }
    }

    pub(super) fn atom(&mut self) -> Taken<Cow<'a, str>> {
        self.space();
        match self.peek() {
            Some('\'') => Ok(self.quoted('\'')?.into()),
            _ => self.bare_atom().map(Cow::Borrowed),
        }
    }

    pub(super) fn bare_atom(&mut self) -> Taken<&'a str> {
        let rest = self.rest();
        if !rest.starts_with(|c: char| matches!(c, 'a'..='z' | 'ß'..='ö' | 'ø'..='ÿ')) {
            return Err(self.error("a term must stand here"));
        }
        let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..length];
        if RESERVED.contains(&name) {
            return Err(self.error("a reserved word"));
        }
        self.at += length;
        Ok(name)
    }

    /// Texts in quotes; those that follow each other are one.
    pub(super) fn strings(&mut self) -> Taken<String> {
        let mut text = self.quoted('"')?;
        loop {
            let before = self.at;
            self.space();
            if self.peek() != Some('"') {
                self.at = before;
                return Ok(text);
            }
            text += &self.quoted('"')?;
        }
    }

    pub(super) fn quoted(&mut self, quote: char) -> Taken<String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find([quote, '\\']).ok_or_else(|| self.error("a text without an end"))?;
            text.push_str(&rest[..plain]);
            self.at += plain + 1;
            if rest[plain..].starts_with(quote) {
                return Ok(text);
            }
            text.push(self.escape()?);
        }
    }

    /// Behind a backslash.
    fn escape(&mut self) -> Taken<char> {
        let character = self.next()?;
        Ok(match character {
            'b' => '\u{8}',
            'd' => '\u{7f}',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            's' => ' ',
            't' => '\t',
            'v' => '\u{b}',
            '^' => char::from(self.next()? as u8 & 0x1f),
            'x' => {
                let rest = self.rest();
                let digits = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                    Some((digits, _)) => {
                        self.at += digits.len() + 2;
                        digits
                    }
                    None => {
                        self.at += rest.get(..2).map_or(0, str::len);
                        rest.get(..2).unwrap_or("")
                    }
                };
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| self.error("no character in base 16"))?
            }
            '0'..='7' => {
                let mut code = u32::from(character) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit @ '0'..='7') = self.peek() else { break };
                    code = code * 8 + u32::from(digit) - u32::from('0');
                    self.at += 1;
                }
                char::from_u32(code).ok_or_else(|| self.error("no character"))?
            }
            other => other,
        })
    }

    fn next(&mut self) -> Taken<char> {
        let character = self.peek().ok_or_else(|| self.error("the end of the text"))?;
        self.at += character.len_utf8();
        Ok(character)
    }

    pub(super) fn number(&mut self) -> Taken<Number> {
        if self.peek() == Some('$') {
            self.at += 1;
            let mut character = self.next()?;
            if character == '\\' {
                character = self.escape()?;
            }
            return Ok(Number::Integer(u32::from(character).to_string(), 10));
        }
        let whole = self.digits(10)?;
        let mut after = self.rest().chars();
        match (after.next(), after.next()) {
            (Some('#'), _) => {
                let base = whole.parse::<u32>().ok().filter(|base| (2..=36).contains(base));
                let base = base.ok_or_else(|| self.error("a base outside of 2 to 36"))?;
                self.at += 1;
                Ok(Number::Integer(self.digits(base)?, base))
            }
            (Some('.'), Some('0'..='9')) => {
                self.at += 1;
                let mut number = format!("{whole}.{}", self.digits(10)?);
                let rest = self.rest();
                if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
                    let sign = exponent.starts_with(['+', '-']);
                    number.push('e');
                    number.push_str(&rest[1..1 + usize::from(sign)]);
                    self.at += 1 + usize::from(sign);
                    number.push_str(&self.digits(10)?);
                }
                number.parse().map(Number::Float).map_err(|_| self.error("no number"))
            }
            _ => Ok(Number::Integer(whole, 10)),
        }
    }

    /// Digits, between which underscores may stand.
    fn digits(&mut self, base: u32) -> Taken<String> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let is_digit = |at: usize| bytes.get(at).is_some_and(|&byte| char::from(byte).is_digit(base));
        let mut length = 0;
        while is_digit(length) || (length > 0 && bytes.get(length) == Some(&b'_') && is_digit(length + 1)) {
            length += 1;
        }
        if length == 0 {
            return Err(self.error("a digit must stand here"));
        }
        self.at += length;
        Ok(rest[..length].replace('_', ""))
    }
}

fn is_name(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '@' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ')
}
