//! A path into a term: `profile/emails/1`.
//!
//! Steps are separated by `/`; `~1` in a step is a `/`, `~0` a `~`, as in RFC 6901. Numbers count from 1, as `element/2` and
//! `lists:nth/2` do. What a step means depends on what it meets:
//!
//! - in a map, a key: a text, an atom, an integer or a string that reads like the step, or else the term that the step is in
//!   Erlang's syntax;
//! - in a tuple, the number of an element;
//! - in a list, the number of an element, or a key of a property list (`proplists`): the value of the first `{Key, Value}`, `true`
//!   for the first `Key` alone.

use std::borrow::Cow;

use magpie_etf::{Tape, Term, TermKind, text};

/// The step that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {number}, \"{step}\", leads nowhere in {within}")]
pub(crate) struct NoSuchPart {
    /// Which one, from 1.
    pub(crate) number: usize,
    /// The step itself.
    pub(crate) step: String,
    /// What it met.
    pub(crate) within: &'static str,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part<'a> {
    /// A term within the term.
    Term(Term<'a>),
    /// An element of a list of bytes, which has no term of its own.
    Byte(u8),
    /// The `true` that an atom alone stands for in a property list.
    True,
}

/// Follows a path; an empty one leads to the term itself.
pub(crate) fn select<'a>(root: Term<'a>, path: &str) -> Result<Part<'a>, NoSuchPart> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut here = Part::Term(root);
    if path.is_empty() {
        return Ok(here);
    }
    for (index, step) in path.split('/').enumerate() {
        let step = unescaped(step);
        let (found, within) = match here {
            Part::Term(term) => one_step(term, &step),
            Part::Byte(_) => (None, "a term without parts"),
            Part::True => (None, "true"),
        };
        here = found.ok_or_else(|| NoSuchPart { number: index + 1, step: step.into_owned(), within })?;
    }
    Ok(here)
}

fn unescaped(step: &str) -> Cow<'_, str> {
    match step.contains('~') {
        true => step.replace("~1", "/").replace("~0", "~").into(),
        false => step.into(),
    }
}

fn one_step<'a>(term: Term<'a>, step: &str) -> (Option<Part<'a>>, &'static str) {
    match term.kind() {
        TermKind::Map(mut pairs) => {
            let key = Key::new(step);
            (pairs.find(|(there, _)| key.is(*there)).map(|(_, value)| Part::Term(value)), "a map")
        }
        TermKind::Tuple(mut elements) => {
            (number(step).and_then(|index| elements.nth(index)).map(Part::Term), "a tuple")
        }
        TermKind::List(mut elements) => {
            let found = match number(step) {
                Some(index) => elements.nth(index).map(Part::Term),
                None => property(elements, &Key::new(step)),
            };
            (found, "a list")
        }
        TermKind::ImproperList(mut elements, _) => {
            (number(step).and_then(|index| elements.nth(index)).map(Part::Term), "a list")
        }
        // What `[10,20,30]` is written as, and what text is too.
        TermKind::Bytes(bytes) => {
            (number(step).and_then(|index| bytes.get(index)).map(|byte| Part::Byte(*byte)), "a list")
        }
        TermKind::Nil => (None, "an empty list"),
        _ => (None, "a term without parts"),
    }
}

/// A number from 1 as an index from 0.
fn number(step: &str) -> Option<usize> {
    let is_number = step.bytes().all(|byte| byte.is_ascii_digit()) && !step.starts_with('0');
    if is_number { step.parse::<usize>().ok()?.checked_sub(1) } else { None }
}

fn property<'a>(elements: impl Iterator<Item = Term<'a>>, key: &Key<'_>) -> Option<Part<'a>> {
    elements.into_iter().find_map(|element| match element.kind() {
        TermKind::Tuple(mut pair) if pair.len() == 2 => {
            let is_it = pair.next().is_some_and(|there| key.is(there));
            if is_it { pair.next().map(Part::Term) } else { None }
        }
        TermKind::Atom(_) if key.is(element) => Some(Part::True),
        _ => None,
    })
}

/// A step as a key.
struct Key<'a> {
    step: &'a str,
    integer: Option<i64>,
    term: Option<Tape<'static>>,
}

impl<'a> Key<'a> {
    fn new(step: &'a str) -> Self {
        let integer = step.parse().ok();
        // What is a term beyond doubt, and not a word.
        let is_syntax = step.starts_with(['{', '[', '<', '"', '\'', '#', '$', '-']) || step.contains(['.', '#']);
        let term = if integer.is_none() && is_syntax { text::parse(step).ok() } else { None };
        Self { step, integer, term }
    }

    fn is(&self, there: Term<'_>) -> bool {
        let reads_alike = match there.kind() {
            TermKind::Atom(name) => name == self.step,
            TermKind::Binary(bytes) | TermKind::Bytes(bytes) => bytes == self.step.as_bytes(),
            TermKind::Integer(integer) => self.integer.is_some() && integer.to_i64() == self.integer,
            _ => false,
        };
        reads_alike || self.term.as_ref().is_some_and(|term| term.root() == there)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(term: &str, path: &str) -> String {
        let tape = text::parse(term).unwrap();
        match select(tape.root(), path) {
            Ok(Part::Term(term)) => term.to_string(),
            Ok(Part::Byte(byte)) => byte.to_string(),
            Ok(Part::True) => "true".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_path_goes_through_maps_tuples_lists_and_property_lists() {
        let user = "#{name => <<\"Juliet\">>, <<\"mails\">> => [{home, a}, work], 7 => {user, [10,20,{x,y}]}, {a,b} => c, \"s\" => d}";
        for (path, expected) in [
            ("", user),
            ("name", "<<74,117,108,105,101,116>>"),
            ("/mails/home", "a"),
            ("mails/work", "true"),
            ("mails/1/1", "home"),
            ("7/2/3/2", "y"),
            ("{a,b}", "c"),
            ("s", "d"),
            ("7/01", "step 2, \"01\", leads nowhere in a tuple"),
            ("7/0", "step 2, \"0\", leads nowhere in a tuple"),
            ("7/3", "step 2, \"3\", leads nowhere in a tuple"),
            ("nothing/else", "step 1, \"nothing\", leads nowhere in a map"),
            ("mails/work/1", "step 3, \"1\", leads nowhere in true"),
            ("name/1", "step 2, \"1\", leads nowhere in a term without parts"),
        ] {
            let expected = if path.is_empty() { at(expected, "") } else { expected.to_owned() };
            assert_eq!(at(user, path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_goes_into_a_list_of_bytes_however_it_is_written() {
        let mut builder = magpie_etf::Builder::new();
        builder.begin_tuple();
        builder.bytes(&[10, 20, 30]);
        builder.end().unwrap();
        let tape = builder.finish().unwrap();
        assert_eq!(select(tape.root(), "1/2"), Ok(Part::Byte(20)));
        for (path, step) in [("1/0", "0"), ("1/4", "4"), ("1/a", "a")] {
            assert_eq!(
                select(tape.root(), path).unwrap_err().to_string(),
                format!("step 2, \"{step}\", leads nowhere in a list")
            );
        }
        assert!(select(tape.root(), "1/2/1").is_err());
        assert_eq!(at("#{small => [10,20,30]}", "small/3"), "30");
    }

    #[test]
    fn a_slash_in_a_key_is_written_with_a_tilde() {
        assert_eq!(at("#{<<\"a/b~c\">> => 1}", "a~1b~0c"), "1");
    }
}
