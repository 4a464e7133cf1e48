//! Rust's types to terms and back.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Debug;

use magpie_etf::serde::{Atom, Structs, from_slice, from_term, to_tape, to_vec};
use magpie_etf::text;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    tags: Vec<Atom>,
    email: Option<String>,
    score: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Line(i8, i8),
    Text { at: (u8, u8), text: String },
}

fn user() -> User {
    User { id: 42, name: "Jürgen".into(), tags: vec![Atom("admin".into())], email: None, score: 1.5 }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let tape = text::parse(text).unwrap();
    let bytes = magpie_etf::encode(tape.root());
    from_slice(&bytes).map_err(|error| error.to_string())
}

#[track_caller]
fn both_ways<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, written: &str) {
    let tape = to_tape(&value, Structs::Maps).unwrap();
    assert_eq!(text::line(tape.root(), true), written);
    assert_eq!(from_slice::<T>(&to_vec(&value).unwrap()).unwrap(), value);
}

#[test]
fn values_are_written_as_the_table_says_and_read_back() {
    both_ways(true, "true");
    both_ways(-5i8, "-5");
    both_ways(u64::MAX, "18446744073709551615");
    both_ways(i128::MIN, "-170141183460469231731687303715884105728");
    both_ways(u128::MAX, "340282366920938463463374607431768211455");
    both_ways(1.5f32, "1.5");
    both_ways('ä', "<<\"ä\"/utf8>>");
    both_ways("text".to_owned(), "<<\"text\">>");
    both_ways(Atom("ok".into()), "ok");
    both_ways(None::<u8>, "undefined");
    both_ways((), "undefined");
    both_ways(vec![1u8, 2], "[1,2]");
    both_ways((1u8, "a".to_owned()), "{1,<<\"a\">>}");
    both_ways(BTreeMap::from([("k".to_owned(), 1)]), "#{<<\"k\">> => 1}");
    both_ways(user(), "#{id => 42,name => <<\"Jürgen\"/utf8>>,tags => [admin],email => undefined,score => 1.5}");
    both_ways(Shape::Nothing, "'Nothing'");
    both_ways(Shape::Circle(2.0), "{'Circle',2.0}");
    both_ways(Shape::Line(1, 2), "{'Line',1,2}");
    let text = Shape::Text { at: (1, 2), text: "a".into() };
    both_ways(text, "{'Text',#{at => {1,2},text => <<\"a\">>}}");
}

#[test]
fn structs_may_be_records() {
    let tape = to_tape(&user(), Structs::Records).unwrap();
    assert_eq!(tape.root().to_string(), "{'User',42,<<74,195,188,114,103,101,110>>,[admin],undefined,1.5}");
    assert_eq!(from_term::<User>(tape.root()).unwrap(), user());
}

#[test]
fn what_erlang_programs_write_is_read_in_its_many_forms() {
    for written in [
        r#"#{id => 42, name => "J\x{fc}rgen", tags => [<<"admin">>], email => nil, score => 1.5}"#,
        r#"#{<<"id">> => 42, <<"name">> => 'Jürgen', <<"tags">> => [admin], <<"score">> => 1.5}"#,
        r#"[{id, 42}, {name, <<"Jürgen"/utf8>>}, {tags, {admin}}, {email, null}, {score, 1.5}]"#,
    ] {
        assert_eq!(read::<User>(written), Ok(user()), "{written}");
    }
    assert_eq!(
        read::<BTreeMap<String, bool>>("[active, {late, false}]"),
        Ok(BTreeMap::from([("active".to_owned(), true), ("late".to_owned(), false),]))
    );
    assert_eq!(read::<Vec<u32>>("\"ab\""), Ok(vec![97, 98]));
    assert_eq!(read::<f64>("3"), Ok(3.0));
}

#[test]
fn texts_are_borrowed_from_the_tape() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        name: &'a str,
    }
    let tape = text::parse("#{name => <<\"text\">>}").unwrap();
    assert_eq!(from_term::<Borrowed<'_>>(tape.root()).unwrap().name, "text");
}

#[test]
fn what_does_not_fit_says_what_it_is() {
    assert_eq!(read::<String>("{a,b}").unwrap_err(), "{a,b} is no text");
    assert!(read::<u8>("300").unwrap_err().contains("300"));
    assert!(read::<User>("{'User',1}").unwrap_err().contains("record of 5 fields"));
    assert!(read::<Shape>("{'Circle'}").is_err());
    assert!(read::<Shape>("other").unwrap_err().contains("other"));
    assert!(from_slice::<u8>(&[131, 97]).unwrap_err().to_string().contains("byte 2"));
    assert!(to_vec(&f64::NAN).is_err());
    assert!(to_vec(&Atom("a".repeat(256))).is_err());
}
