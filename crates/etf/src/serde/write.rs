//! serde's serializer, to a builder.

use ::serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{ATOM, SerdeError, Structs};
use crate::builder::Builder;

type Done = Result<(), SerdeError>;

pub(super) struct Writer<'b> {
    pub(super) builder: &'b mut Builder,
    pub(super) structs: Structs,
}

/// A container that is open, and how many there are to end.
pub(super) struct Container<'b> {
    builder: &'b mut Builder,
    structs: Structs,
    ends: u8,
}

impl<'b> Writer<'b> {
    fn tuple(self) -> Container<'b> {
        self.builder.begin_tuple();
        Container { builder: self.builder, structs: self.structs, ends: 1 }
    }
}

impl Container<'_> {
    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(Writer { builder: self.builder, structs: self.structs })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Done {
        if self.structs == Structs::Maps || self.ends == 2 {
            self.builder.atom(name)?;
        }
        self.put(value)
    }

    fn done(self) -> Done {
        (0..self.ends).try_for_each(|_| self.builder.end()).map_err(SerdeError::from)
    }
}

impl<'b> Serializer for Writer<'b> {
    type Ok = ();
    type Error = SerdeError;
    type SerializeSeq = Container<'b>;
    type SerializeTuple = Container<'b>;
    type SerializeTupleStruct = Container<'b>;
    type SerializeTupleVariant = Container<'b>;
    type SerializeMap = Container<'b>;
    type SerializeStruct = Container<'b>;
    type SerializeStructVariant = Container<'b>;

    fn serialize_bool(self, value: bool) -> Done {
        Ok(self.builder.atom(if value { "true" } else { "false" })?)
    }

    fn serialize_i8(self, value: i8) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Done {
        self.builder.integer(value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Done {
        self.builder.big(value < 0, &value.unsigned_abs().to_le_bytes());
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Done {
        self.serialize_u128(value.into())
    }

    fn serialize_u128(self, value: u128) -> Done {
        self.builder.big(false, &value.to_le_bytes());
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Done {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Done {
        Ok(self.builder.float(value)?)
    }

    fn serialize_char(self, value: char) -> Done {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Done {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.builder.binary(value);
        Ok(())
    }

    fn serialize_none(self) -> Done {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        Ok(self.builder.atom("undefined")?)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        Ok(self.builder.atom(variant)?)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Done {
        if name != ATOM {
            return value.serialize(self);
        }
        // An atom's text: serde has no other way to say that it is one.
        let mut inner = Builder::new();
        value.serialize(Writer { builder: &mut inner, structs: self.structs })?;
        let tape = inner.finish()?;
        let text = tape.root().as_binary().and_then(|bytes| str::from_utf8(bytes).ok());
        Ok(self.builder.atom(text.unwrap_or_default())?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        let mut tuple = self.serialize_tuple_variant(name, index, variant, 1)?;
        tuple.put(value)?;
        tuple.done()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Container<'b>, SerdeError> {
        self.builder.begin_list();
        Ok(Container { builder: self.builder, structs: self.structs, ends: 1 })
    }

    fn serialize_tuple(self, _: usize) -> Result<Container<'b>, SerdeError> {
        Ok(self.tuple())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Container<'b>, SerdeError> {
        Ok(self.tuple())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Container<'b>, SerdeError> {
        let tuple = self.tuple();
        tuple.builder.atom(variant)?;
        Ok(tuple)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Container<'b>, SerdeError> {
        self.builder.begin_map();
        Ok(Container { builder: self.builder, structs: self.structs, ends: 1 })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Container<'b>, SerdeError> {
        match self.structs {
            Structs::Maps => self.serialize_map(None),
            Structs::Records => {
                let tuple = self.tuple();
                tuple.builder.atom(name)?;
                Ok(tuple)
            }
        }
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Container<'b>, SerdeError> {
        let mut tuple = self.serialize_tuple_variant(name, index, variant, length)?;
        tuple.builder.begin_map();
        tuple.ends = 2;
        Ok(tuple)
    }
}

macro_rules! elements {
    ($($of:ident $name:ident)*) => {
        $(impl $of for Container<'_> {
            type Ok = ();
            type Error = SerdeError;

            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                self.put(value)
            }

            fn end(self) -> Done {
                self.done()
            }
        })*
    };
}

elements! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

impl SerializeMap for Container<'_> {
    type Ok = ();
    type Error = SerdeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.put(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.put(value)
    }

    fn end(self) -> Done {
        self.done()
    }
}

macro_rules! fields {
    ($($of:ident)*) => {
        $(impl $of for Container<'_> {
            type Ok = ();
            type Error = SerdeError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
                self.field(name, value)
            }

            fn end(self) -> Done {
                self.done()
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }
