//! JSON to terms, without recursion.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::builder::{BuildError, Builder, FunctionHead};
use crate::integer;
use crate::tape::Tape;
use crate::term::Pid;

/// JSON that is no term, and where it shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct JsonError {
    /// Offset of the byte at which it shows.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Cow<'static, str>,
    /// Whether nothing is wrong with it, but that it takes more memory than was allowed.
    pub is_too_large: bool,
}

impl JsonError {
    fn new(offset: usize, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { offset, reason: reason.into(), is_too_large: false }
    }
}

/// Containers that are open.
#[derive(Clone, Copy)]
enum Open {
    /// `[` of a list.
    List,
    /// `{` of a map with texts as keys.
    Object,
    /// The array of `$tuple`.
    Tuple,
    /// The array of `$list`.
    Improper,
    /// `$tail`, behind whose value the list ends.
    Tail,
    /// The array of `$map`.
    Map,
    /// A pair in it, whose key or value comes next.
    Key,
    Value,
    /// The array of a fun's variables.
    Free,
}

pub(super) fn read(text: &str, memory_max: usize) -> Result<Tape<'static>, JsonError> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, builder: Builder::new(), open: Vec::new() };
    reader.space();
    loop {
        if reader.builder.memory() > memory_max {
            let reason = format!("takes more than {memory_max} bytes of memory");
            return Err(JsonError { is_too_large: true, ..JsonError::new(reader.at, reason) });
        }
        // A value is due.
        let is_whole = reader.value()?;
        if is_whole && !reader.after()? {
            break;
        }
    }
    reader.space();
    if reader.at < text.len() {
        return reader.fail("something follows the value");
    }
    let at = reader.at;
    reader.builder.finish().map_err(|error| JsonError::new(at, error.to_string()))
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    builder: Builder,
    open: Vec<Open>,
}

type Taken<T> = Result<T, JsonError>;

impl<'a> Reader<'a> {
    /// Reads a value, or the beginning of one whose first part is due next: then this is false.
    fn value(&mut self) -> Taken<bool> {
        self.space();
        match self.peek() {
            Some(b'[') => {
                self.at += 1;
                self.builder.begin_list();
                self.begun(Open::List, b']')
            }
            Some(b'{') => {
                self.at += 1;
                self.space();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    self.builder.begin_map();
                    self.built(|builder| builder.end())?;
                    return Ok(true);
                }
                let at = self.at;
                let key = self.string()?;
                self.expect(b':')?;
                if key.starts_with('$') {
                    return self.tagged(&key, at);
                }
                self.builder.begin_map();
                self.builder.binary(key.as_bytes());
                self.open.push(Open::Object);
                Ok(false)
            }
            Some(b'"') => {
                let text = self.string()?;
                self.builder.binary(text.as_bytes());
                Ok(true)
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for word in ["true", "false", "null"] {
                    if self.bytes[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        self.built(|builder| builder.atom(word))?;
                        return Ok(true);
                    }
                }
                self.fail("a value must stand here")
            }
        }
    }

    /// A container begins; if it ends at once it is whole, and `after` has what follows.
    fn begun(&mut self, open: Open, end: u8) -> Taken<bool> {
        self.open.push(open);
        self.space();
        if self.peek() != Some(end) {
            if matches!(open, Open::Map) {
                self.pair()?;
            }
            return Ok(false);
        }
        self.at += 1;
        self.end(open)
    }

    /// The array of the innermost container has ended: true if the container has, too.
    fn end(&mut self, open: Open) -> Taken<bool> {
        match open {
            Open::Improper => {
                self.expect(b',')?;
                self.name("$tail")?;
                self.open.pop();
                self.open.push(Open::Tail);
                return Ok(false);
            }
            Open::Tuple | Open::Map => self.expect(b'}')?,
            Open::Free => {
                self.expect(b'}')?;
                self.expect(b'}')?;
            }
            _ => {}
        }
        self.open.pop();
        self.built(|builder| builder.end())?;
        Ok(true)
    }

    /// What follows a value: true if another value is due, false at the end.
    fn after(&mut self) -> Taken<bool> {
        loop {
            let Some(&open) = self.open.last() else { return Ok(false) };
            self.space();
            let byte = self.peek();
            self.at += usize::from(byte.is_some());
            match (open, byte) {
                (Open::List | Open::Tuple | Open::Improper | Open::Free, Some(b',')) => return Ok(true),
                (Open::List | Open::Tuple | Open::Improper | Open::Free | Open::Map, Some(b']')) => {
                    if !self.end(open)? {
                        return Ok(true);
                    }
                }
                (Open::Map, Some(b',')) => {
                    self.pair()?;
                    return Ok(true);
                }
                (Open::Key, Some(b',')) => {
                    self.open.pop();
                    self.open.push(Open::Value);
                    return Ok(true);
                }
                (Open::Value, Some(b']')) => {
                    self.open.pop();
                }
                (Open::Object, Some(b',')) => {
                    self.space();
                    let key = self.string()?;
                    self.expect(b':')?;
                    self.builder.binary(key.as_bytes());
                    return Ok(true);
                }
                (Open::Object, Some(b'}')) => {
                    self.open.pop();
                    self.built(|builder| builder.end())?;
                }
                (Open::Tail, Some(b'}')) => {
                    self.open.pop();
                    self.built(|builder| builder.end_with_tail())?;
                }
                _ => {
                    self.at -= usize::from(byte.is_some());
                    return self.fail("a comma or the end must stand here");
                }
            }
        }
    }

    fn pair(&mut self) -> Taken<()> {
        self.expect(b'[')?;
        self.open.push(Open::Key);
        Ok(())
    }

    fn tagged(&mut self, tag: &str, at: usize) -> Taken<bool> {
        match tag {
            "$tuple" => {
                self.expect(b'[')?;
                self.builder.begin_tuple();
                return self.begun(Open::Tuple, b']');
            }
            "$list" => {
                self.expect(b'[')?;
                self.builder.begin_list();
                return self.begun(Open::Improper, b']');
            }
            "$map" => {
                self.expect(b'[')?;
                self.builder.begin_map();
                return self.begun(Open::Map, b']');
            }
            "$fun" => return self.function(),
            "$int" => self.big()?,
            "$atom" => {
                let name = self.text()?;
                self.built(|builder| builder.atom(&name))?;
            }
            "$bytes" => {
                let bytes = self.base64()?;
                self.builder.binary(&bytes);
            }
            "$local" => {
                let bytes = self.base64()?;
                self.built(|builder| builder.local(&bytes))?;
            }
            "$bits" => {
                self.expect(b'[')?;
                let bytes = self.base64()?;
                self.expect(b',')?;
                let bits = self.integer()?;
                self.expect(b']')?;
                self.built(|builder| builder.bits(&bytes, bits))?;
            }
            "$pid" => {
                let (node, [id, serial, creation]) = self.pid()?;
                self.built(|builder| builder.pid(&node, id, serial, creation))?;
            }
            "$port" => self.port()?,
            "$ref" => self.reference()?,
            "$export" => {
                self.expect(b'[')?;
                let module = self.text()?;
                self.expect(b',')?;
                let name = self.text()?;
                self.expect(b',')?;
                let arity = self.integer()?;
                self.expect(b']')?;
                self.built(|builder| builder.export(&module, &name, arity))?;
            }
            _ => {
                self.at = at;
                return self.fail("a key with $ that has no sense");
            }
        }
        self.expect(b'}')?;
        Ok(true)
    }

    fn big(&mut self) -> Taken<()> {
        let text = self.text()?;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, &*text),
        };
        let magnitude = match digits.strip_prefix("16#") {
            Some(digits) => integer::magnitude(digits, 16),
            None => integer::magnitude(digits, 10),
        };
        let Some(magnitude) = magnitude else { return self.fail("no integer") };
        self.builder.big(negative, &magnitude);
        Ok(())
    }

    fn port(&mut self) -> Taken<()> {
        let node = self.node()?;
        self.expect(b',')?;
        self.name("id")?;
        let Ok(id) = self.text()?.parse() else { return self.fail("no number of 64 bits") };
        self.expect(b',')?;
        self.name("creation")?;
        let creation = self.integer()?;
        self.expect(b'}')?;
        self.built(|builder| builder.port(&node, id, creation))
    }

    fn reference(&mut self) -> Taken<()> {
        let node = self.node()?;
        self.expect(b',')?;
        self.name("creation")?;
        let creation = self.integer()?;
        self.expect(b',')?;
        self.name("words")?;
        self.expect(b'[')?;
        let mut words = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                words.push(self.integer()?);
                self.space();
                match self.peek() {
                    Some(b',') if words.len() < 5 => self.at += 1,
                    _ => break self.expect(b']')?,
                }
            }
        }
        self.expect(b'}')?;
        self.built(|builder| builder.reference(&node, creation, &words))
    }

    fn function(&mut self) -> Taken<bool> {
        self.expect(b'{')?;
        self.name("module")?;
        let module = self.text()?;
        self.expect(b',')?;
        self.name("arity")?;
        let arity = self.integer()?;
        self.expect(b',')?;
        self.name("unique")?;
        let Ok(unique) = <[u8; 16]>::try_from(self.base64()?) else { return self.fail("no 16 bytes") };
        self.expect(b',')?;
        self.name("index")?;
        let index = self.integer()?;
        self.expect(b',')?;
        self.name("old_index")?;
        let old_index = self.integer()?;
        self.expect(b',')?;
        self.name("old_unique")?;
        let old_unique = self.integer()?;
        self.expect(b',')?;
        self.name("pid")?;
        let (node, [id, serial, creation]) = self.pid()?;
        self.expect(b',')?;
        self.name("free")?;
        self.expect(b'[')?;
        let pid = Pid { node: &node, id, serial, creation };
        let head = FunctionHead { module: &module, arity, unique, index, old_index, old_unique, pid };
        self.built(|builder| builder.begin_function(&head))?;
        self.begun(Open::Free, b']')
    }

    fn pid(&mut self) -> Taken<(Cow<'a, str>, [u32; 3])> {
        let node = self.node()?;
        let mut numbers = [0; 3];
        for (number, name) in numbers.iter_mut().zip(["id", "serial", "creation"]) {
            self.expect(b',')?;
            self.name(name)?;
            *number = self.integer()?;
        }
        self.expect(b'}')?;
        Ok((node, numbers))
    }

    fn node(&mut self) -> Taken<Cow<'a, str>> {
        self.expect(b'{')?;
        self.name("node")?;
        self.text()
    }

    /// A key that must be this one, and its colon.
    fn name(&mut self, name: &'static str) -> Taken<()> {
        self.space();
        let at = self.at;
        if self.string()? != name {
            self.at = at;
            return Err(JsonError::new(at, format!("\"{name}\" must stand here")));
        }
        self.expect(b':')
    }

    fn text(&mut self) -> Taken<Cow<'a, str>> {
        self.space();
        self.string()
    }

    fn base64(&mut self) -> Taken<Vec<u8>> {
        let text = self.text()?;
        BASE64_STANDARD.decode(text.as_bytes()).or_else(|_| self.fail("no base64"))
    }

    /// A number of one of Rust's types.
    fn integer<T: std::str::FromStr>(&mut self) -> Taken<T> {
        self.space();
        let from = self.at;
        while matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            self.at += 1;
        }
        self.text[from..self.at].parse().or_else(|_| self.fail("no integer, or out of its range"))
    }

    fn number(&mut self) -> Taken<bool> {
        let from = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits = self.digits()?;
        if digits.len() > 1 && digits.starts_with('0') {
            self.at = from;
            return self.fail("a number that begins with 0");
        }
        let mut is_float = false;
        if self.peek() == Some(b'.') {
            is_float = true;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_float = true;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        if is_float {
            let Ok(value) = self.text[from..self.at].parse() else { return self.fail("no number") };
            self.built(|builder| builder.float(value))?;
            return Ok(true);
        }
        match self.text[from..self.at].parse() {
            Ok(value) => self.builder.integer(value),
            Err(_) => match integer::magnitude(digits, 10) {
                Some(magnitude) => self.builder.big(negative, &magnitude),
                None => return self.fail("a number of too many digits"),
            },
        }
        Ok(true)
    }

    fn digits(&mut self) -> Taken<&'a str> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if from == self.at { self.fail("a digit must stand here") } else { Ok(&self.text[from..self.at]) }
    }

    fn string(&mut self) -> Taken<Cow<'a, str>> {
        self.expect(b'"')?;
        let mut from = self.at;
        let mut made = String::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    let last = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(if made.is_empty() { Cow::Borrowed(last) } else { Cow::Owned(made + last) });
                }
                Some(b'\\') => {
                    made.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    let character = self.escape()?;
                    made.push(character);
                    from = self.at;
                }
                Some(0x20..) => self.at += 1,
                _ => return self.fail("a control character in a text, or no end of it"),
            }
        }
    }

    fn escape(&mut self) -> Taken<char> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        Ok(match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.code()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high).map_or_else(|| self.fail("half of a character"), Ok);
                }
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return self.fail("half of a character");
                }
                self.at += 2;
                let low = self.code()?;
                if !(0xdc00..0xe000).contains(&low) {
                    return self.fail("half of a character");
                }
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).map_or_else(|| self.fail("no character"), Ok);
            }
            _ => return self.fail("no escape"),
        })
    }

    fn code(&mut self) -> Taken<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return self.fail("four digits of base 16 must stand here") };
        self.at += 4;
        Ok(digits.iter().fold(0, |code, &digit| code << 4 | char::from(digit).to_digit(16).unwrap_or(0)))
    }

    fn built<T>(&mut self, build: impl FnOnce(&mut Builder) -> Result<T, BuildError>) -> Taken<T> {
        build(&mut self.builder).map_err(|error| JsonError::new(self.at, error.to_string()))
    }

    fn expect(&mut self, byte: u8) -> Taken<()> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(JsonError::new(self.at, format!("`{}` must stand here", char::from(byte))));
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fail<T>(&self, reason: &'static str) -> Taken<T> {
        Err(JsonError::new(self.at, reason))
    }
}
