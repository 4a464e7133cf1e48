//! The shape of a type that serde reads: its keys, what each holds, and the choices of each enum.
//!
//! Found by letting the type read from a source that has whatever is asked for and notes it. So no list of keys
//! is written twice.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

/// A text that every type reads which is written as text: names, paths, socket addresses.
const ANY_TEXT: &str = "127.0.0.1:0";

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    #[default]
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A fraction.
    Float,
    /// Text.
    Text,
    /// One of a few words.
    Choice {
        /// name of the Rust type
        name: &'static str,
        /// the words
        words: &'static [&'static str],
    },
    /// Any number of these.
    List(Box<Kind>),
    /// Named values.
    Table(Table),
}

/// A table with fixed keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name of the Rust type.
    pub name: &'static str,
    /// Its keys, in the order of the type.
    pub keys: Vec<(&'static str, Kind)>,
}

/// The kind of a type.
pub fn kind_of<T: DeserializeOwned>() -> Kind {
    let mut kind = Kind::Any;
    // A type that refuses what it is given has shown until then what it asks for.
    let _ = T::deserialize(Observer { kind: &mut kind });
    kind
}

/// The table of a type that is a table.
pub fn table_of<T: DeserializeOwned>() -> Option<Table> {
    match kind_of::<T>() {
        Kind::Table(table) => Some(table),
        _ => None,
    }
}

impl Kind {
    /// The table behind this kind, also where it is a list of tables.
    pub fn as_table(&self) -> Option<&Table> {
        match self {
            Self::Table(table) => Some(table),
            Self::List(item) => item.as_table(),
            _ => None,
        }
    }
}

impl Table {
    /// What the key holds; `None` where there is no such key.
    pub fn get(&self, key: &str) -> Option<&Kind> {
        self.keys.iter().find(|(name, _)| *name == key).map(|(_, kind)| kind)
    }
}

/// A source that has whatever is asked for.
struct Observer<'a> {
    kind: &'a mut Kind,
}

/// Nothing can fail but the type itself.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! observe {
    ($($method:ident $kind:ident $visit:ident $($value:expr)?;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            *self.kind = Kind::$kind;
            visitor.$visit($($value)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Observer<'_> {
    type Error = Refused;

    observe! {
        deserialize_any Any visit_unit;
        deserialize_ignored_any Any visit_unit;
        deserialize_unit Any visit_unit;
        deserialize_bool Boolean visit_bool false;
        deserialize_i8 Integer visit_i8 1;
        deserialize_i16 Integer visit_i16 1;
        deserialize_i32 Integer visit_i32 1;
        deserialize_i64 Integer visit_i64 1;
        deserialize_u8 Integer visit_u8 1;
        deserialize_u16 Integer visit_u16 1;
        deserialize_u32 Integer visit_u32 1;
        deserialize_u64 Integer visit_u64 1;
        deserialize_f32 Float visit_f32 1.0;
        deserialize_f64 Float visit_f64 1.0;
        deserialize_char Text visit_char 'a';
        deserialize_str Text visit_str ANY_TEXT;
        deserialize_string Text visit_str ANY_TEXT;
        deserialize_identifier Text visit_str ANY_TEXT;
        deserialize_bytes Text visit_bytes ANY_TEXT.as_bytes();
        deserialize_byte_buf Text visit_bytes ANY_TEXT.as_bytes();
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        *self.kind = Kind::List(Box::default());
        let Kind::List(item) = self.kind else { return Err(Refused) };
        visitor.visit_seq(One { item: Some(item) })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        *self.kind = Kind::Any;
        visitor.visit_map(serde::de::value::MapDeserializer::<_, Refused>::new(std::iter::empty::<(&str, &str)>()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        *self.kind = Kind::Table(Table { name, keys: fields.iter().map(|key| (*key, Kind::Any)).collect() });
        let Kind::Table(table) = self.kind else { return Err(Refused) };
        visitor.visit_map(Keys { keys: table.keys.iter_mut(), kind: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        *self.kind = Kind::Choice { name, words };
        visitor.visit_enum(First { words })
    }
}

/// A list with one item.
struct One<'a> {
    item: Option<&'a mut Kind>,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        self.item.take().map(|kind| seed.deserialize(Observer { kind })).transpose()
    }
}

/// All keys of a table.
struct Keys<'a> {
    keys: std::slice::IterMut<'a, (&'static str, Kind)>,
    kind: Option<&'a mut Kind>,
}

impl<'de> MapAccess<'de> for Keys<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some((name, kind)) = self.keys.next() else { return Ok(None) };
        self.kind = Some(kind);
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        seed.deserialize(Observer { kind: self.kind.take().ok_or(Refused)? })
    }
}

/// The first word of a choice.
struct First {
    words: &'static [&'static str],
}

impl<'de> EnumAccess<'de> for First {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Refused> {
        let first: StrDeserializer<'_, Refused> = self.words.first().copied().ok_or(Refused)?.into_deserializer();
        Ok((seed.deserialize(first)?, self))
    }
}

impl<'de> VariantAccess<'de> for First {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(Observer { kind: &mut Kind::Any })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(One { item: None })
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_map(Keys { keys: [].iter_mut(), kind: None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Colour {
        DarkRed,
        #[allow(dead_code)]
        Green,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Paint {
        colour: Colour,
        #[serde(default)]
        coats_max: Option<u8>,
        address: std::net::SocketAddr,
        layers: Vec<Layer>,
        rest: serde_json::Value,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Layer {
        #[serde(rename = "is-dry")]
        dry: bool,
    }

    #[test]
    fn a_type_shows_its_keys_kinds_and_choices() {
        let table = table_of::<Paint>().unwrap();
        assert_eq!(table.name, "Paint");
        let layer = Table { name: "Layer", keys: vec![("is-dry", Kind::Boolean)] };
        let expected = vec![
            ("colour", Kind::Choice { name: "Colour", words: &["dark-red", "green"] }),
            ("coats_max", Kind::Integer),
            ("address", Kind::Text),
            ("layers", Kind::List(Box::new(Kind::Table(layer.clone())))),
            ("rest", Kind::Any),
        ];
        assert_eq!(table.keys, expected);
        assert_eq!(table.get("layers").unwrap().as_table(), Some(&layer));
        assert_eq!(table.get("layer"), None);
    }
}
