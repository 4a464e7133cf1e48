//! eetf and erltf, on input that harms neither: they read what we write, and we what they write.

#![allow(clippy::unwrap_used)]

use magpie_etf::{Builder, decode, encode};
use proptest::prelude::*;

/// What both have.
#[derive(Clone, Debug)]
enum Value {
    Integer(i64),
    Float(f64),
    Atom(String),
    Binary(Vec<u8>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<(i32, Value)>),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        (-1000..1000i64).prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Value::Float),
        "[a-zA-Zäö你 ]{0,20}".prop_map(Value::Atom),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(Value::Binary),
    ];
    leaf.prop_recursive(4, 60, 6, |inner| {
        let some = proptest::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            some.clone().prop_map(Value::Tuple),
            some.prop_map(Value::List),
            proptest::collection::btree_map(any::<i32>(), inner, 0..6)
                .prop_map(|map| Value::Map(map.into_iter().collect())),
        ]
    })
}

fn build(value: &Value, builder: &mut Builder) {
    match value {
        Value::Integer(value) => builder.integer(*value),
        Value::Float(value) => builder.float(*value).unwrap(),
        Value::Atom(name) => builder.atom(name).unwrap(),
        Value::Binary(bytes) => builder.binary(bytes),
        Value::Tuple(values) => {
            builder.begin_tuple();
            values.iter().for_each(|value| build(value, builder));
            builder.end().unwrap();
        }
        Value::List(values) => {
            builder.begin_list();
            values.iter().for_each(|value| build(value, builder));
            builder.end().unwrap();
        }
        Value::Map(pairs) => {
            builder.begin_map();
            for (key, value) in pairs {
                builder.integer(i64::from(*key));
                build(value, builder);
            }
            builder.end().unwrap();
        }
    }
}

/// eetf 0.12 writes `[-1]` as a list of bytes.
fn has_list_of_negatives(value: &Value) -> bool {
    match value {
        Value::List(values) => {
            let negative = |value: &Value| matches!(value, Value::Integer(value) if *value < 0);
            values.iter().any(negative) || values.iter().any(has_list_of_negatives)
        }
        Value::Tuple(values) => values.iter().any(has_list_of_negatives),
        Value::Map(pairs) => pairs.iter().any(|(_, value)| has_list_of_negatives(value)),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn terms_go_to_other_libraries_and_come_back(value in value()) {
        let mut builder = Builder::new();
        build(&value, &mut builder);
        let tape = builder.finish().unwrap();
        let bytes = encode(tape.root());
        prop_assert_eq!(&decode(&bytes).unwrap(), &tape);

        if !has_list_of_negatives(&value) {
            let mut theirs = Vec::new();
            eetf::Term::decode(&bytes[..]).unwrap().encode(&mut theirs).unwrap();
            prop_assert_eq!(&decode(&theirs).unwrap(), &tape);
        }

        let theirs = erltf::encode(&erltf::decode(&bytes).unwrap()).unwrap();
        prop_assert_eq!(&decode(&theirs).unwrap(), &tape);
    }
}
