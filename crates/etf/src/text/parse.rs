//! `file:consult/1`: Erlang text to terms, without recursion.

use super::TextError;
use super::scan::{Number, Scanner};
use crate::builder::{BuildError, Builder};
use crate::integer;
use crate::tape::Tape;

/// Containers that are open.
#[derive(Clone, Copy)]
enum Open {
    /// A list, and how many `[` it has: more than one if its tails are lists.
    List(u32),
    /// The tail of a list, with the brackets that end it.
    Tail(u32),
    Tuple,
    /// A key, or a value, of a map comes next.
    Key,
    Value,
}

/// Reads a term, which the scanner stands before.
pub(super) fn term(scanner: &mut Scanner<'_>, memory_max: usize) -> Result<Tape<'static>, TextError> {
    let mut parser = Parser { scanner, builder: Builder::new(), open: Vec::new() };
    loop {
        if parser.builder.memory() > memory_max {
            let error = parser.scanner.error(format!("takes more than {memory_max} bytes of memory"));
            return Err(TextError { is_too_large: true, ..error });
        }
        let is_whole = parser.value()?;
        if is_whole && !parser.after()? {
            break;
        }
    }
    let Parser { builder, .. } = parser;
    builder.finish().map_err(|error| scanner.error(error.to_string()))
}

struct Parser<'s, 'a> {
    scanner: &'s mut Scanner<'a>,
    builder: Builder,
    open: Vec<Open>,
}

type Taken<T> = Result<T, TextError>;

impl Parser<'_, '_> {
    /// Reads a value; false if it is a container whose first part comes next.
    fn value(&mut self) -> Taken<bool> {
        self.scanner.space();
        match self.scanner.peek() {
            Some('[') => {
                self.scanner.skip(1);
                if self.scanner.takes("]") {
                    self.builder.bytes(b"");
                    return Ok(true);
                }
                self.builder.begin_list();
                self.open.push(Open::List(1));
                Ok(false)
            }
            Some('{') => {
                self.scanner.skip(1);
                self.builder.begin_tuple();
                self.begun(Open::Tuple)
            }
            Some('#') => {
                self.scanner.skip(1);
                self.expect("{")?;
                self.builder.begin_map();
                self.begun(Open::Key)
            }
            Some('<') => {
                self.expect("<<")?;
                self.binary()?;
                Ok(true)
            }
            Some('"') => {
                let text = self.scanner.strings()?;
                match latin1(&text) {
                    Some(bytes) => self.builder.bytes(&bytes),
                    None => {
                        self.builder.begin_list();
                        text.chars().for_each(|c| self.builder.integer(i64::from(u32::from(c))));
                        self.built(|builder| builder.end())?;
                    }
                }
                Ok(true)
            }
            Some('\'') => {
                let name = self.scanner.quoted('\'')?;
                self.built(|builder| builder.atom(&name))?;
                Ok(true)
            }
            Some('$' | '0'..='9' | '-' | '+') => {
                self.number()?;
                Ok(true)
            }
            _ => {
                if self.scanner.takes_word("fun") {
                    self.export()?;
                    return Ok(true);
                }
                let name = self.scanner.bare_atom()?;
                self.built(|builder| builder.atom(name))?;
                Ok(true)
            }
        }
    }

    fn begun(&mut self, open: Open) -> Taken<bool> {
        if self.scanner.takes("}") {
            self.built(|builder| builder.end())?;
            return Ok(true);
        }
        self.open.push(open);
        Ok(false)
    }

    /// What follows a value: true if another is due, false at the end of the term.
    fn after(&mut self) -> Taken<bool> {
        loop {
            let Some(open) = self.open.last_mut() else { return Ok(false) };
            match open {
                Open::List(brackets) => {
                    if self.scanner.takes(",") {
                        return Ok(true);
                    }
                    if self.scanner.takes("|") {
                        if !self.scanner.takes("[") {
                            let brackets = *brackets;
                            if self.tail(brackets)? {
                                return Ok(true);
                            }
                            continue;
                        }
                        if !self.scanner.takes("]") {
                            // The tail is a list: its elements go on with those of this one.
                            *brackets += 1;
                            return Ok(true);
                        }
                    }
                    let brackets = *brackets;
                    self.brackets(brackets)?;
                    self.open.pop();
                    self.built(|builder| builder.end())?;
                }
                Open::Tail(brackets) => {
                    let brackets = *brackets;
                    self.brackets(brackets)?;
                    self.open.pop();
                    self.built(|builder| builder.end_with_tail())?;
                }
                Open::Tuple => {
                    if self.scanner.takes(",") {
                        return Ok(true);
                    }
                    self.expect("}")?;
                    self.open.pop();
                    self.built(|builder| builder.end())?;
                }
                Open::Key => {
                    *open = Open::Value;
                    self.expect("=>")?;
                    return Ok(true);
                }
                Open::Value => {
                    if self.scanner.takes(",") {
                        *open = Open::Key;
                        return Ok(true);
                    }
                    self.expect("}")?;
                    self.open.pop();
                    self.built(|builder| builder.end())?;
                }
            }
        }
    }

    /// A tail that does not begin with a bracket; true if it is still to be read.
    fn tail(&mut self, brackets: u32) -> Taken<bool> {
        self.scanner.space();
        if self.scanner.peek() != Some('"') {
            self.open.pop();
            self.open.push(Open::Tail(brackets));
            return Ok(true);
        }
        let text = self.scanner.strings()?;
        text.chars().for_each(|c| self.builder.integer(i64::from(u32::from(c))));
        self.brackets(brackets)?;
        self.open.pop();
        self.built(|builder| builder.end())?;
        Ok(false)
    }

    fn brackets(&mut self, count: u32) -> Taken<()> {
        (0..count).try_for_each(|_| self.expect("]"))
    }

    fn number(&mut self) -> Taken<()> {
        let mut negative = false;
        while let Some(sign @ ('-' | '+')) = self.scanner.peek() {
            negative ^= sign == '-';
            self.scanner.skip(1);
            self.scanner.space();
        }
        match self.scanner.number()? {
            Number::Float(value) => self.built(|builder| builder.float(if negative { -value } else { value })),
            Number::Integer(digits, base) => {
                let Some(magnitude) = integer::magnitude(&digits, base) else {
                    return Err(self.scanner.error("no integer, or one of too many digits"));
                };
                self.builder.big(negative, &magnitude);
                Ok(())
            }
        }
    }

    /// Behind `fun`.
    fn export(&mut self) -> Taken<()> {
        let module = self.scanner.atom()?;
        self.expect(":")?;
        let name = self.scanner.atom()?;
        self.expect("/")?;
        self.scanner.space();
        let Number::Integer(digits, 10) = self.scanner.number()? else {
            return Err(self.scanner.error("an arity must stand here"));
        };
        let Ok(arity) = digits.parse() else { return Err(self.scanner.error("an arity outside of 0 to 255")) };
        self.built(|builder| builder.export(&module, &name, arity))
    }

    /// Behind `<<`.
    fn binary(&mut self) -> Taken<()> {
        let mut bits = BitWriter::default();
        if !self.scanner.takes(">>") {
            loop {
                self.segment(&mut bits)?;
                if !self.scanner.takes(",") {
                    break;
                }
            }
            self.expect(">>")?;
        }
        match bits.used {
            0 => self.builder.binary(&bits.bytes),
            used => self.built(|builder| builder.bits(&bits.bytes, used))?,
        }
        Ok(())
    }

    /// `"text"`, `"text"/utf8`, `5`, `5:3` or `5/utf8`.
    fn segment(&mut self, bits: &mut BitWriter) -> Taken<()> {
        self.scanner.space();
        if self.scanner.peek() == Some('"') {
            let text = self.scanner.quoted('"')?;
            if self.scanner.takes("/") {
                self.expect("utf8")?;
                bits.put_bytes(text.as_bytes());
            } else {
                // As integers of 8 bits.
                text.chars().for_each(|c| bits.put(i64::from(u32::from(c)), 8));
            }
            return Ok(());
        }
        let mut negative = false;
        while self.scanner.takes("-") {
            negative = !negative;
        }
        self.scanner.space();
        let Number::Integer(digits, base) = self.scanner.number()? else {
            return Err(self.scanner.error("an integer must stand here"));
        };
        let value = i64::from_str_radix(&digits, base).map_err(|_| self.scanner.error("more than 63 bits"))?;
        let value = if negative { -value } else { value };
        if self.scanner.takes("/") {
            self.expect("utf8")?;
            let character = u32::try_from(value).ok().and_then(char::from_u32);
            let character = character.ok_or_else(|| self.scanner.error("no character"))?;
            bits.put_bytes(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        let mut size = 8;
        if self.scanner.takes(":") {
            self.scanner.space();
            let Number::Integer(digits, base) = self.scanner.number()? else {
                return Err(self.scanner.error("a size must stand here"));
            };
            size = u32::from_str_radix(&digits, base).ok().filter(|size| *size <= 4096).unwrap_or(u32::MAX);
        }
        if size == u32::MAX {
            return Err(self.scanner.error("more than 4096 bits"));
        }
        bits.put(value, size);
        Ok(())
    }

    fn expect(&mut self, text: &'static str) -> Taken<()> {
        if self.scanner.takes(text) { Ok(()) } else { Err(self.scanner.error(format!("`{text}` must stand here"))) }
    }

    fn built(&mut self, build: impl FnOnce(&mut Builder) -> Result<(), BuildError>) -> Taken<()> {
        build(&mut self.builder).map_err(|error| self.scanner.error(error.to_string()))
    }
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// Bits one after the other.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte; 0 if it is full.
    used: u8,
}

impl BitWriter {
    /// The low bits of a value, its sign repeated.
    fn put(&mut self, value: i64, size: u32) {
        for bit in (0..size).rev() {
            let is_set = value >> bit.min(63) & 1 != 0;
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(is_set) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        if self.used == 0 {
            self.bytes.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|&byte| self.put(i64::from(byte), 8));
        }
    }
}
