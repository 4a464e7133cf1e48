//! Terms as serde's deserializer.

use std::fmt::{self, Display, Write};

use ::serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use ::serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::{DEPTH_MAX, SerdeError};
use crate::term::{Elements, Pairs, Term, TermKind};

type Taken<T> = Result<T, SerdeError>;

/// The first characters of a text, of which the rest is not even made.
struct Beginning(String);

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = 60usize.saturating_sub(self.0.chars().count());
        self.0.extend(text.chars().take(room));
        if text.chars().nth(room).is_some() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    term: Term<'a>,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(term: Term<'a>) -> Self {
        Self { term, depth: 0 }
    }

    fn deeper(self) -> Taken<usize> {
        if self.depth == DEPTH_MAX { Err(SerdeError::custom("nested too deep")) } else { Ok(self.depth + 1) }
    }

    fn wrong(self, expected: &dyn Display) -> SerdeError {
        let mut shown = Beginning(String::new());
        let is_cut = write!(shown, "{}", self.term).is_err();
        SerdeError::custom(format_args!("{}{} is no {expected}", shown.0, if is_cut { "…" } else { "" }))
    }

    fn is_nothing(self) -> bool {
        matches!(self.term.as_atom(), Some("undefined" | "nil" | "null"))
    }

    /// A text in any of the forms that Erlang programs use.
    fn text<V: Visitor<'a>>(self, visitor: V) -> Taken<V::Value> {
        match self.term.kind() {
            TermKind::Atom(name) => visitor.visit_borrowed_str(name),
            TermKind::Binary(bytes) => {
                visitor.visit_borrowed_str(str::from_utf8(bytes).map_err(|_| self.wrong(&"text in UTF-8"))?)
            }
            TermKind::Nil => visitor.visit_borrowed_str(""),
            TermKind::Bytes(bytes) => visitor.visit_string(bytes.iter().map(|&byte| char::from(byte)).collect()),
            TermKind::List(elements) => {
                let characters = elements.map(|element| char::from_u32(u32::try_from(element.as_i64()?).ok()?));
                visitor.visit_string(characters.collect::<Option<_>>().ok_or_else(|| self.wrong(&"text"))?)
            }
            _ => Err(self.wrong(&"text")),
        }
    }

    fn pairs<V: Visitor<'a>>(self, visitor: V) -> Taken<V::Value> {
        let depth = self.deeper()?;
        match self.term.kind() {
            TermKind::Map(pairs) => visitor.visit_map(MapReader { pairs, value: None, depth }),
            TermKind::Nil => visitor.visit_map(ListReader { elements: None, value: None, depth }),
            TermKind::List(elements) => visitor.visit_map(ListReader { elements: Some(elements), value: None, depth }),
            _ => Err(self.wrong(&"map")),
        }
    }

    fn elements<V: Visitor<'a>>(self, elements: Elements<'a>, visitor: V) -> Taken<V::Value> {
        visitor.visit_seq(SeqReader { elements, depth: self.deeper()? })
    }
}

macro_rules! forward {
    ($to:ident: $($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
            self.$to(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = SerdeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
        match self.term.kind() {
            TermKind::Integer(integer) => match (integer.to_i64(), integer.to_u128(), integer.to_i128()) {
                (Some(value), ..) => visitor.visit_i64(value),
                (_, Some(value), _) => match u64::try_from(value) {
                    Ok(value) => visitor.visit_u64(value),
                    Err(_) => visitor.visit_u128(value),
                },
                (.., Some(value)) => visitor.visit_i128(value),
                _ => Err(self.wrong(&"integer of 128 bits")),
            },
            TermKind::Float(value) => visitor.visit_f64(value),
            TermKind::Atom("true") => visitor.visit_bool(true),
            TermKind::Atom("false") => visitor.visit_bool(false),
            TermKind::Atom(_) if self.is_nothing() => visitor.visit_unit(),
            TermKind::Atom(name) => visitor.visit_borrowed_str(name),
            TermKind::Binary(bytes) => match str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(bytes),
            },
            TermKind::Nil | TermKind::Bytes(_) | TermKind::List(_) | TermKind::Tuple(_) => {
                self.deserialize_seq(visitor)
            }
            TermKind::Map(_) => self.pairs(visitor),
            _ => Err(self.wrong(&"value of Rust")),
        }
    }

    forward! { deserialize_any:
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_ignored_any
    }
    forward! { text: deserialize_char deserialize_str deserialize_string deserialize_identifier }
    forward! { pairs: deserialize_map }
    forward! { deserialize_bytes: deserialize_byte_buf }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
        match self.term.kind() {
            TermKind::Float(value) => visitor.visit_f64(value),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
        match self.term.kind() {
            TermKind::Binary(bytes) | TermKind::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            TermKind::Nil => visitor.visit_borrowed_bytes(b""),
            _ => Err(self.wrong(&"binary")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
        if self.is_nothing() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
        if self.is_nothing() { visitor.visit_unit() } else { Err(self.wrong(&"`undefined`")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Taken<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Taken<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Taken<V::Value> {
        match self.term.kind() {
            TermKind::List(elements) | TermKind::Tuple(elements) => self.elements(elements, visitor),
            TermKind::Nil => visitor.visit_seq(ByteReader(&[])),
            TermKind::Bytes(bytes) => visitor.visit_seq(ByteReader(bytes)),
            _ => Err(self.wrong(&"list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Taken<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, length: usize, visitor: V) -> Taken<V::Value> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Taken<V::Value> {
        let TermKind::Tuple(mut elements) = self.term.kind() else { return self.pairs(visitor) };
        if elements.len() == fields.len() + 1 && elements.next().and_then(Term::as_atom) == Some(name) {
            return self.elements(elements, visitor);
        }
        Err(self.wrong(&format_args!("{name}, a map or a record of {} fields", fields.len())))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Taken<V::Value> {
        let depth = self.deeper()?;
        match self.term.kind() {
            TermKind::Tuple(mut elements) => match elements.next() {
                Some(name) => visitor.visit_enum(EnumReader { name, rest: Some(elements), depth }),
                None => Err(self.wrong(&"variant")),
            },
            _ => visitor.visit_enum(EnumReader { name: self.term, rest: None, depth }),
        }
    }
}

struct SeqReader<'a> {
    elements: Elements<'a>,
    depth: usize,
}

impl<'de> SeqAccess<'de> for SeqReader<'de> {
    type Error = SerdeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Taken<Option<T::Value>> {
        let depth = self.depth;
        self.elements.next().map(|term| seed.deserialize(Reader { term, depth })).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

struct ByteReader<'a>(&'a [u8]);

impl<'de> SeqAccess<'de> for ByteReader<'de> {
    type Error = SerdeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Taken<Option<T::Value>> {
        let Some((byte, rest)) = self.0.split_first() else { return Ok(None) };
        self.0 = rest;
        seed.deserialize((*byte).into_deserializer()).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct MapReader<'a> {
    pairs: Pairs<'a>,
    value: Option<Term<'a>>,
    depth: usize,
}

impl<'de> MapAccess<'de> for MapReader<'de> {
    type Error = SerdeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Taken<Option<K::Value>> {
        let Some((term, value)) = self.pairs.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Reader { term, depth: self.depth }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Taken<V::Value> {
        let term = self.value.take().ok_or_else(|| SerdeError::custom("a value before its key"))?;
        seed.deserialize(Reader { term, depth: self.depth })
    }
}

/// A list of pairs, as Erlang's property lists; an atom alone stands for `{Atom, true}`.
struct ListReader<'a> {
    elements: Option<Elements<'a>>,
    value: Option<Option<Term<'a>>>,
    depth: usize,
}

impl<'de> MapAccess<'de> for ListReader<'de> {
    type Error = SerdeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Taken<Option<K::Value>> {
        let Some(pair) = self.elements.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let depth = self.depth;
        if pair.as_atom().is_some() {
            self.value = Some(None);
            return seed.deserialize(Reader { term: pair, depth }).map(Some);
        }
        let wrong = || Reader { term: pair, depth }.wrong(&"pair");
        let mut elements = pair.as_tuple().filter(|elements| elements.len() == 2).ok_or_else(wrong)?;
        let key = elements.next().ok_or_else(wrong)?;
        self.value = Some(elements.next());
        seed.deserialize(Reader { term: key, depth }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Taken<V::Value> {
        match self.value.take() {
            Some(Some(term)) => seed.deserialize(Reader { term, depth: self.depth }),
            Some(None) => seed.deserialize(true.into_deserializer()),
            None => Err(SerdeError::custom("a value before its key")),
        }
    }
}

struct EnumReader<'a> {
    name: Term<'a>,
    rest: Option<Elements<'a>>,
    depth: usize,
}

impl<'de> EnumAccess<'de> for EnumReader<'de> {
    type Error = SerdeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Taken<(V::Value, Self)> {
        let name = match self.name.kind() {
            TermKind::Atom(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            TermKind::Binary(bytes) => {
                seed.deserialize(StringDeserializer::new(String::from_utf8_lossy(bytes).into_owned()))
            }
            _ => Err(Reader { term: self.name, depth: self.depth }.wrong(&"variant")),
        };
        Ok((name?, self))
    }
}

impl<'de> VariantAccess<'de> for EnumReader<'de> {
    type Error = SerdeError;

    fn unit_variant(self) -> Taken<()> {
        match self.rest {
            None => Ok(()),
            Some(rest) if rest.len() == 0 => Ok(()),
            Some(_) => Err(SerdeError::custom("a variant without values has some")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Taken<T::Value> {
        let mut rest = self.rest.filter(|rest| rest.len() == 1);
        let term = rest.as_mut().and_then(Iterator::next);
        let term = term.ok_or_else(|| SerdeError::custom("a variant of one value has another number"))?;
        seed.deserialize(Reader { term, depth: self.depth })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Taken<V::Value> {
        let elements = self.rest.ok_or_else(|| SerdeError::custom("a variant with values has none"))?;
        visitor.visit_seq(SeqReader { elements, depth: self.depth })
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Taken<V::Value> {
        let term = self.rest.and_then(|mut rest| rest.next());
        let term = term.ok_or_else(|| SerdeError::custom("a variant with fields has none"))?;
        Reader { term, depth: self.depth }.pairs(visitor)
    }
}
