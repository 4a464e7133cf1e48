//! What counts as a word, in any language: how texts are cut for the search index, and whether what is searched for is in one.
//!
//! Case, width and accents make no difference. Where a script puts spaces between its words, those are the words. Where it does not
//! (Chinese, Japanese, Thai…) or puts them between more than words (Korean), each sign counts for itself and each two that follow
//! each other, so that any part of a sentence is found.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What is searched for at most, in bytes, and in words or phrases.
pub const SOUGHT_BYTES_MAX: usize = 1024;
/// See [`SOUGHT_BYTES_MAX`].
pub const SOUGHT_MAX: usize = 32;

/// Of a longer text only the beginning is searched, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Signs of a word by which the index knows it. Longer words share a place, and are told apart by the text.
const TERM_SIGNS_MAX: usize = 32;

/// Terms that the index is asked for at once. The text itself is looked at for all.
const ASKED_MAX: usize = 16;

/// What is searched for: words and phrases, all of which have to be there.
///
/// Parts are separated by spaces. What stands in quotation marks is one part, and so are words with nothing but punctuation
/// between them: the words of a part have to follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Vec<Units>);

/// Why nothing can be searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// There is not a single word in it.
    #[error("there is no word in what is searched for")]
    None,
    /// More than is searched for at once.
    #[error("at most {SOUGHT_MAX} words and {SOUGHT_BYTES_MAX} bytes are searched for at once")]
    TooMany,
}

impl Words {
    /// Reads what somebody typed.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        if text.len() > SOUGHT_BYTES_MAX {
            return Err(WordsError::TooMany);
        }
        let parts: Vec<Units> = parts(text).map(Units::of).filter(|units| !units.places.is_empty()).collect();
        match parts.len() {
            0 => Err(WordsError::None),
            1..=SOUGHT_MAX => Ok(Self(parts)),
            _ => Err(WordsError::TooMany),
        }
    }

    /// Whether all are in the text.
    pub fn are_in(&self, text: &str) -> bool {
        let text = Units::of(beginning(text));
        self.0.iter().all(|part| part.is_in(&text))
    }

    /// Terms that a text has in the index where all of these words are in it.
    pub(crate) fn terms(&self) -> Vec<String> {
        let mut terms = Vec::new();
        for part in &self.0 {
            for (index, place) in part.places.iter().enumerate() {
                let joins_next = part.places.get(index + 1).is_some_and(|next| next.joined);
                match place.joined {
                    // Two say more than one.
                    true => terms.push(part.pair(index)),
                    false if joins_next => {}
                    false => terms.push(part.term(index).to_owned()),
                }
            }
        }
        terms.sort_unstable();
        terms.dedup();
        // Long ones are rare.
        terms.sort_by_key(|term| std::cmp::Reverse(term.len()));
        terms.truncate(ASKED_MAX);
        terms
    }
}

/// The terms by which a text is found, each as often as it is there.
pub(crate) fn terms(text: &str, mut each: impl FnMut(&str)) {
    let units = Units::of(beginning(text));
    for (index, place) in units.places.iter().enumerate() {
        each(units.term(index));
        if place.joined {
            each(&units.pair(index));
        }
    }
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// What is separated by spaces, or stands in quotation marks.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let is_mark = |sign: char| matches!(sign, '"' | '“' | '”' | '„' | '«' | '»' | '「' | '」' | '『' | '』');
    let quoted = text.split(is_mark).enumerate();
    quoted.flat_map(|(index, text)| {
        let (whole, spaced) = if index % 2 == 1 { (Some(text), None) } else { (None, Some(text.split_whitespace())) };
        whole.into_iter().chain(spaced.into_iter().flatten())
    })
}

/// A text, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Units {
    folded: String,
    places: Vec<Place>,
}

/// A word, or a sign of a script without spaces, with the marks on it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    range: Range<usize>,
    /// It is a sign, and follows another with nothing between them.
    joined: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Sign,
    Symbol,
    Mark,
    Other,
}

impl Units {
    fn of(text: &str) -> Self {
        let folded = fold(text);
        let mut places: Vec<Place> = Vec::new();
        let mut before = Kind::Other;
        for (at, sign) in folded.char_indices() {
            let end = at + sign.len_utf8();
            let kind = kind(sign);
            match (kind, before) {
                (Kind::Other, _) | (Kind::Mark, Kind::Other) => before = Kind::Other,
                (Kind::Mark, _) | (Kind::Letter, Kind::Letter) => {
                    if let Some(last) = places.last_mut() {
                        last.range.end = end;
                    }
                }
                _ => {
                    let joined = kind == Kind::Sign && before == Kind::Sign;
                    places.push(Place { range: at..end, joined });
                    before = kind;
                }
            }
        }
        Self { folded, places }
    }

    fn unit(&self, index: usize) -> &str {
        &self.folded[self.places[index].range.clone()]
    }

    fn term(&self, index: usize) -> &str {
        let unit = self.unit(index);
        unit.char_indices().nth(TERM_SIGNS_MAX).map_or(unit, |(end, _)| &unit[..end])
    }

    /// The term of a sign and the one that it follows.
    fn pair(&self, index: usize) -> String {
        [self.term(index - 1), self.term(index)].concat()
    }

    /// Whether all of it is in the other, one after another.
    fn is_in(&self, other: &Self) -> bool {
        let count = self.places.len();
        let follows = |start: usize| {
            (0..count).all(|index| {
                let joined = !self.places[index].joined || other.places[start + index].joined;
                joined && self.unit(index) == other.unit(start + index)
            })
        };
        (0..(other.places.len() + 1).saturating_sub(count)).any(follows)
    }
}

/// Case, width, accents and what is not seen are taken away.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let seen = text.nfkd().filter(|sign| !is_accent(*sign) && !is_unseen(*sign));
    seen.flat_map(char::to_lowercase).flat_map(spelled_out).nfc().collect()
}

/// Letters that Unicode does not take apart, as they are written by who has not got them.
fn spelled_out(letter: char) -> impl Iterator<Item = char> {
    let (first, second) = match letter {
        'ß' => ('s', Some('s')),
        'æ' => ('a', Some('e')),
        'œ' => ('o', Some('e')),
        'þ' => ('t', Some('h')),
        'ø' => ('o', None),
        'ł' => ('l', None),
        'đ' | 'ð' => ('d', None),
        'ı' => ('i', None),
        'ς' => ('σ', None),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}

/// Marks that may be left out where one writes: accents, Hebrew points, Arabic vowels. Those of India, Thailand and Japan may not.
fn is_accent(sign: char) -> bool {
    matches!(sign, '\u{300}'..='\u{36F}' | '\u{483}'..='\u{487}' | '\u{591}'..='\u{5BD}' | '\u{5BF}'..='\u{5C7}'
        | '\u{610}'..='\u{61A}' | '\u{64B}'..='\u{65F}' | '\u{670}' | '\u{6D6}'..='\u{6DC}' | '\u{6DF}'..='\u{6E8}'
        | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
        && is_combining_mark(sign)
}

/// Soft hyphens, joiners, variation selectors, the Arabic stretch.
fn is_unseen(sign: char) -> bool {
    matches!(sign, '\u{AD}' | '\u{34F}' | '\u{640}' | '\u{200C}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{E0100}'..='\u{E01EF}')
}

fn kind(sign: char) -> Kind {
    match sign {
        _ if sign.is_ascii() => {
            if sign.is_ascii_alphanumeric() {
                Kind::Letter
            } else {
                Kind::Other
            }
        }
        _ if is_combining_mark(sign) => Kind::Mark,
        _ if sign.is_alphanumeric() => {
            if is_unspaced(sign) {
                Kind::Sign
            } else {
                Kind::Letter
            }
        }
        '\u{2600}'..='\u{27BF}' | '\u{2B05}'..='\u{2B55}' | '\u{1F000}'..='\u{1FAFF}' => Kind::Symbol,
        _ => Kind::Other,
    }
}

/// Scripts whose words cannot be told by spaces.
fn is_unspaced(sign: char) -> bool {
    matches!(sign,
        // Thai, Lao; Burmese; Hangul letters; Khmer; Tai scripts.
        '\u{E01}'..='\u{EFF}' | '\u{1000}'..='\u{109F}' | '\u{1100}'..='\u{11FF}' | '\u{1780}'..='\u{17FF}' | '\u{1950}'..='\u{19DF}'
        | '\u{1A20}'..='\u{1AAF}'
        // Radicals, kana, bopomofo, Hangul letters, Han.
        | '\u{2E80}'..='\u{2FDF}' | '\u{3005}'..='\u{318F}' | '\u{31A0}'..='\u{31FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
        // Yi; Burmese, Tai; Hangul; compatible Han; kana and Han beyond.
        | '\u{A000}'..='\u{A4CF}' | '\u{A960}'..='\u{A97F}' | '\u{A9E0}'..='\u{A9FF}' | '\u{AA60}'..='\u{AADF}' | '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{16FE0}'..='\u{18CFF}' | '\u{1B000}'..='\u{1B16F}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        terms(text, |term| all.push(term.to_owned()));
        all
    }

    fn finds(sought: &str, text: &str) -> bool {
        Words::parse(sought).unwrap().are_in(text)
    }

    #[test]
    fn words_are_told_by_spaces_where_the_script_has_them() {
        assert_eq!(cut("Hello, World! foo_bar 3.14"), ["hello", "world", "foo", "bar", "3", "14"]);
        assert_eq!(cut("Привет, мир"), ["привет", "мир"]);
        assert_eq!(cut("नमस्ते दुनिया"), ["नमस्ते", "दुनिया"]);
    }

    #[test]
    fn signs_of_a_script_without_spaces_count_alone_and_by_twos() {
        assert_eq!(cut("北京 大"), ["北", "京", "北京", "大"]);
        assert_eq!(cut("iPhone手机"), ["iphone", "手", "机", "手机"]);
        assert_eq!(cut("กินข้าว").first().unwrap(), "กิ");
    }

    #[test]
    fn case_width_and_accents_make_no_difference() {
        for (sought, text) in [
            ("cafe", "CAFÉ"),
            ("Müller", "mueller muller"),
            ("STRASSE", "Straße"),
            ("smorrebrod", "Smørrebrød"),
            ("lodz", "Łódź"),
            ("istanbul", "İSTANBUL"),
            ("ΟΔΟΣ", "οδος"),
            ("елка", "Ёлка"),
            ("ﬁnal", "final"),
            ("abc１２３", "ＡＢＣ123"),
            ("カメラ", "ｶﾒﾗ"),
            ("がく", "か\u{3099}く"),
            ("سلام", "سَلَام"),
            ("שלום", "שָׁלוֹם"),
            ("한국", "\u{1112}\u{1161}\u{11ab}국어"),
        ] {
            assert!(finds(sought, text), "{sought} in {text}");
        }
        assert!(!finds("は", "ば"), "what is another sound is another sign");
        assert!(!finds("cafe", "cafes"), "a word is a whole one");
    }

    #[test]
    fn any_part_of_a_sentence_without_spaces_is_found() {
        let text = "明日は東京タワーへ行きます。";
        for sought in ["東京", "京タワ", "東", "行きます", "明日 東京", "東京タワーへ行きます"]
        {
            assert!(finds(sought, text), "{sought}");
        }
        for sought in ["東タ", "京東", "東京 大阪", "東京へ"] {
            assert!(!finds(sought, text), "{sought}");
        }
        assert!(finds("학교", "오늘 학교에서 만나요"));
        assert!(finds("ข้าว", "ผมกินข้าวแล้ว"));
        // Signs on both sides of a space or a full stop do not follow each other.
        assert!(!finds("京大", "北京 大学") && !finds("京大", "北京。大学"));
    }

    #[test]
    fn parts_are_anywhere_and_the_words_of_one_part_follow_each_other() {
        assert!(finds("b a", "a x b"));
        assert!(finds("\"to be\"", "or not to be."));
        assert!(!finds("\"to be\"", "be to"));
        assert!(finds("don't", "I don't know") && !finds("don't", "t don"));
        assert!(finds("romeo@montague.example", "mail Romeo@Montague.Example now"));
        assert!(finds("“北京大学”", "在北京大学"));
        assert!(finds("\"never closed", "was never closed"));
        assert!(finds("👍", "good 👍🏽"));
    }

    #[test]
    fn what_has_no_word_or_too_many_is_refused() {
        for text in ["", " ", "*", "\"\"", "?!…", "\u{3000}", "\u{301}"] {
            assert_eq!(Words::parse(text), Err(WordsError::None), "{text:?}");
        }
        assert_eq!(Words::parse(&"a ".repeat(SOUGHT_MAX + 1)), Err(WordsError::TooMany));
        assert_eq!(Words::parse(&"word ".repeat(10_000)), Err(WordsError::TooMany));
        assert!(Words::parse(&"a ".repeat(SOUGHT_MAX)).is_ok());
    }

    #[test]
    fn of_a_long_word_and_a_long_text_the_index_has_the_beginning() {
        let (long, longer) = ("x".repeat(100), "x".repeat(101));
        assert_eq!(cut(&long), cut(&longer));
        assert!(!finds(&long, &longer));
        let text = format!("{} end", "ä".repeat(TEXT_BYTES_MAX));
        assert!(!finds("end", &text));
    }

    proptest! {
        /// Else the index would hide what the text has.
        #[test]
        fn a_text_has_the_terms_of_all_that_is_found_in_it(text in "[ab,\" 北京大かが\u{3099}ก\u{e34}é👍]{0,12}", sought in "[ab,\" 北京大かが\u{3099}ก\u{e34}é👍]{1,4}") {
            let Ok(words) = Words::parse(&sought) else { return Ok(()) };
            if words.are_in(&text) {
                let all = cut(&text);
                for term in words.terms() {
                    prop_assert!(all.contains(&term), "{term} of {sought:?} is not among {all:?} of {text:?}");
                }
            }
        }

        #[test]
        fn every_text_is_cut_without_a_panic_into_terms_that_the_index_takes_as_they_are(text in any::<String>()) {
            for term in cut(&text) {
                prop_assert!(!term.is_empty() && term.chars().all(|sign| sign.is_ascii_alphanumeric() || !sign.is_ascii()), "{term:?}");
            }
        }
    }
}
