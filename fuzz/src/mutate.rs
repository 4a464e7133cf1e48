//! Inputs that are nearly right: made from seeds, then changed as inputs go wrong.

#[path = "../../crates/etf/tests/generate/mod.rs"]
mod generate;

use generate::Random;
use magpie_etf::{decode, json, text};

/// In which language a target's input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// The external term format.
    Bytes,
    /// A term of it without the version.
    Bare,
    /// Erlang's syntax.
    Erlang,
    /// JSON, lossless or not.
    Json,
    /// A stream of XML.
    Xml,
}

/// Lengths that are at the edge of something.
const EDGES: [u32; 12] = [0, 1, 4, 255, 256, 257, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
const TAGS: &[u8] = &[
    70, 77, 80, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115,
    116, 118, 119, 120, 121, 131,
];
const ERLANG: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "#{",
    "=>",
    "|",
    ",",
    ".",
    "<<",
    ">>",
    "\"",
    "'",
    "\\",
    "$",
    "$\\",
    "16#",
    "fun ",
    "a:b/1",
    "-",
    "+",
    "1.0e",
    "e400",
    "%",
    "\n",
    " ",
    "\\x{",
    "\\x{110000}",
    "\\^",
    ":3",
    "/utf8",
    "/",
    "_",
    "9",
    "end",
    "\u{a0}",
    "ä",
    "你",
    "#",
];
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud83d",
    "\\ude00",
    "\\u0000",
    "null",
    "true",
    "1e",
    "-",
    "0",
    ".",
    "1e400",
    "{\"$tuple\":[",
    "{\"$map\":[[",
    "{\"$atom\":\"",
    "{\"$int\":\"16#",
    "{\"$bytes\":\"",
    "{\"$bits\":[\"",
    "{\"$list\":[1],\"$tail\":",
    "{\"$pid\":{",
    "{\"$ref\":{",
    "{\"$port\":{",
    "{\"$fun\":{",
    "{\"$export\":[",
    "{\"$local\":\"",
    "$",
    "{\"$\":",
    "ä",
    "\n",
];

/// Makes inputs of one language. The same seed makes the same ones.
pub struct Mutator {
    random: Random,
    language: Language,
}

impl Mutator {
    /// From this seed.
    pub fn new(language: Language, seed: u64) -> Self {
        Self { random: Random(seed), language }
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.below(end as u64) as usize
    }

    /// An input that is right, for the most part.
    pub fn fresh(&mut self) -> Vec<u8> {
        if self.language == Language::Xml {
            return crate::Grammar::new(self.random.next()).stream();
        }
        let bytes = generate::term(&mut self.random);
        let written =
            |show: &dyn Fn(&magpie_etf::Tape<'_>) -> String| decode(&bytes).map(|tape| show(&tape).into_bytes());
        match self.language {
            Language::Erlang => {
                let style = self.random.below(3);
                let shown = written(&|tape| match style {
                    0 => tape.root().to_string(),
                    1 => text::line(tape.root(), true),
                    _ => text::pretty(tape.root(), true),
                });
                shown.map_or(b"{}".to_vec(), |shown| [&shown[..], b"."].concat())
            }
            Language::Json => {
                let shown = written(&|tape| json::to_json(tape.root(), json::Mode::Lossless));
                shown.unwrap_or_else(|_| b"{}".to_vec())
            }
            Language::Bare => [&[self.random.next() as u8], &bytes[1..]].concat(),
            Language::Bytes | Language::Xml => bytes,
        }
    }

    /// Changes an input in one place; `other` may lend a part.
    pub fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(12)).min(input.len());
        match self.below(9) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 if at < input.len() => input[at] = self.random.next() as u8,
            3 if at < input.len() => input[at] ^= 1 << self.below(8),
            4 => {
                let from = self.below(other.len() + 1);
                let to = (from + self.below(40)).min(other.len());
                drop(input.splice(at..at, other[from..to].iter().copied()));
            }
            5 => {
                let piece = input[at..end].to_vec();
                let times = 1 + self.below(6);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            6 => {
                let fresh = self.fresh();
                let fresh = if self.language == Language::Bytes { &fresh[1..] } else { &fresh[..] };
                drop(input.splice(at..end, fresh.iter().copied()));
            }
            _ => self.word(input, at),
        }
        input.truncate(4_000);
    }

    /// Puts a word of the language somewhere, or over what is there.
    fn word(&mut self, input: &mut Vec<u8>, at: usize) {
        let words = match self.language {
            Language::Erlang => ERLANG,
            Language::Json => JSON,
            Language::Xml => &["<", ">", "</", "/>", "&#x", "]]>", "xmlns=''", "<![CDATA["],
            Language::Bytes | Language::Bare => {
                let tag = TAGS[self.below(TAGS.len())];
                match self.below(3) {
                    0 if at < input.len() => input[at] = tag,
                    1 => input.insert(at, tag),
                    _ => {
                        let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
                        input.iter_mut().skip(at).zip(edge).for_each(|(byte, edge)| *byte = edge);
                    }
                }
                return;
            }
        };
        let word = words[self.below(words.len())];
        drop(input.splice(at..at, word.bytes()));
    }
}
