//! The tags that are seldom seen: big integers, bit strings, identifiers, funs, and those of old.

use super::{Reader, Step, Taken};
use crate::error::Reason;
use crate::tag;
use crate::tape::{Node, NodeKind, small_integer, trimmed};

impl Reader<'_, '_> {
    /// The tags that are seldom seen.
    #[cold]
    pub(super) fn rare(&mut self, tag: u8, began: usize) -> Taken<Step> {
        match tag {
            tag::SMALL_BIG | tag::LARGE_BIG => self.big(tag)?,
            tag::FLOAT => {
                let from = self.skip(31)?;
                let value = old_float(&self.input[from..self.at]).ok_or((began, Reason::Float))?;
                self.float(value, began)?;
            }
            tag::BIT_BINARY => {
                let length = self.word()?;
                let bits = self.byte()?;
                if length == 0 || !(1..=8).contains(&bits) {
                    return Err((began, Reason::Bits));
                }
                self.bits(length, bits)?;
            }
            tag::NEW_PID | tag::PID => self.pid(tag, began)?,
            tag::NEW_PORT | tag::PORT | tag::V4_PORT => self.port(tag, began)?,
            tag::NEWER_REFERENCE | tag::NEW_REFERENCE | tag::REFERENCE => self.reference(tag, began)?,
            tag::NEW_FUN => return self.function(),
            tag::EXPORT => {
                self.push(NodeKind::Export, 0, 0);
                self.atom()?;
                self.atom()?;
                let at = self.at;
                if !(0..=255).contains(&self.small()?) {
                    return Err((at, Reason::Arity));
                }
            }
            // The rest of the input has a form that only its writer knows: it can be kept, and as the whole term alone.
            tag::LOCAL if began <= 1 && self.stack.is_empty() => {
                let length = (self.input.len() - self.at) as u32;
                self.stretch(NodeKind::Local, length)?;
            }
            tag::FUN => return Err((began, Reason::OldFun)),
            tag::ATOM_CACHE_REF | 68 | 69 => return Err((began, Reason::Distribution(tag))),
            _ => return Err((began, Reason::Tag(tag))),
        }
        Ok(Step::Whole)
    }

    fn big(&mut self, tag: u8) -> Taken<()> {
        let length = if tag == tag::SMALL_BIG { usize::from(self.byte()?) } else { self.word()? as usize };
        let negative = self.byte()? != 0;
        let from = self.skip(length)?;
        let magnitude = &self.input[from..self.at];
        let node = match small_integer(negative, magnitude) {
            Some(value) => Node::integer(value),
            None => {
                let size = trimmed(magnitude).len() as u32;
                Node { kind: NodeKind::Big, small: u8::from(negative), size, value: from as u64 }
            }
        };
        self.tape.nodes.push(node);
        Ok(())
    }

    fn bits(&mut self, length: u32, bits: u8) -> Taken<()> {
        if bits == 8 {
            return self.stretch(NodeKind::Binary, length);
        }
        let from = self.skip(length as usize)?;
        let last = self.input[self.at - 1];
        let clean = last & !(0xff >> bits);
        let value = if clean == last {
            from as u64
        } else {
            let value = self.tape.keep(&self.input[from..self.at - 1]);
            self.tape.extra.push(clean);
            value
        };
        self.tape.nodes.push(Node { kind: NodeKind::Bits, small: bits, size: length, value });
        Ok(())
    }

    fn pid(&mut self, tag: u8, began: usize) -> Taken<()> {
        let at = self.named(NodeKind::Pid)?;
        let (id, serial) = (self.word()?, self.word()?);
        let creation = self.creation(tag == tag::NEW_PID, began)?;
        let node = &mut self.tape.nodes[at];
        (node.size, node.value) = (creation, u64::from(serial) << 32 | u64::from(id));
        Ok(())
    }

    fn port(&mut self, tag: u8, began: usize) -> Taken<()> {
        let at = self.named(NodeKind::Port)?;
        let id = if tag == tag::V4_PORT { self.long()? } else { u64::from(self.word()?) };
        let creation = self.creation(tag != tag::PORT, began)?;
        let node = &mut self.tape.nodes[at];
        (node.size, node.value) = (creation, id);
        Ok(())
    }

    fn reference(&mut self, tag: u8, began: usize) -> Taken<()> {
        let words = if tag == tag::REFERENCE { 1 } else { self.half()? };
        if !(1..=5).contains(&words) {
            return Err((began, Reason::ReferenceWords));
        }
        let at = self.named(NodeKind::Reference)?;
        let (creation, from) = if tag == tag::REFERENCE {
            let from = self.skip(4)?;
            (self.creation(false, began)?, from)
        } else {
            let creation = self.creation(tag == tag::NEWER_REFERENCE, began)?;
            (creation, self.skip(usize::from(words) * 4)?)
        };
        if tag != tag::NEWER_REFERENCE && (self.input[from] != 0 || self.input[from + 1] > 3) {
            return Err((began, Reason::OldReference));
        }
        let node = &mut self.tape.nodes[at];
        (node.small, node.size, node.value) = (words as u8, creation, from as u64);
        Ok(())
    }

    fn named(&mut self, kind: NodeKind) -> Taken<usize> {
        let at = self.tape.nodes.len();
        self.push(kind, 0, 0);
        self.atom()?;
        Ok(at)
    }

    fn creation(&mut self, is_new: bool, began: usize) -> Taken<u32> {
        if is_new {
            return self.word();
        }
        match self.byte()? {
            creation @ 0..=3 => Ok(u32::from(creation)),
            _ => Err((began, Reason::Creation)),
        }
    }

    fn function(&mut self) -> Taken<Step> {
        let started = self.tape.nodes.len();
        self.push(NodeKind::Function, 0, 0);
        self.skip(4)?;
        self.stretch(NodeKind::Binary, 25)?;
        let free = u32::from_be_bytes([21, 22, 23, 24].map(|at| self.input[self.at - 25 + at]));
        if free > 255 {
            return Err((self.at - 4, Reason::FreeVariables));
        }
        self.atom()?;
        self.small()?;
        self.small()?;
        let began = self.at;
        match self.byte()? {
            tag @ (tag::NEW_PID | tag::PID) => self.pid(tag, began)?,
            _ => return Err((began, Reason::Expected("a pid"))),
        }
        let end = self.tape.nodes.len() as u64;
        let node = &mut self.tape.nodes[started];
        (node.size, node.value) = (free, end);
        Ok(if free == 0 { Step::Whole } else { Step::Open(NodeKind::Function, free, free) })
    }

    /// An atom must come.
    fn atom(&mut self) -> Taken<()> {
        let began = self.at;
        match self.byte()? {
            tag @ (tag::SMALL_ATOM_UTF8 | tag::ATOM | tag::ATOM_UTF8 | tag::SMALL_ATOM) => self.atom_of(tag, began),
            _ => Err((began, Reason::Expected("an atom"))),
        }
    }

    /// An integer of 32 bits must come.
    fn small(&mut self) -> Taken<i32> {
        let began = self.at;
        let value = match self.byte()? {
            tag::SMALL_INTEGER => i32::from(self.byte()?),
            tag::INTEGER => self.word()? as i32,
            _ => return Err((began, Reason::Expected("an integer"))),
        };
        self.tape.nodes.push(Node::integer(i64::from(value)));
        Ok(value)
    }
}

/// `FLOAT_EXT`: up to 31 characters as `%.20e` of C writes them, then zeros.
fn old_float(field: &[u8]) -> Option<f64> {
    let length = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let text = str::from_utf8(&field[..length]).ok()?.replace(',', ".");
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text.as_str(), None),
    };
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.')?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_is_right =
        exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    if !digits(whole) || !digits(fraction) || !exponent_is_right {
        return None;
    }
    text.parse().ok()
}
