//! RFC 8264 and RFC 8265: PRECIS, how strings from people are prepared before they are compared.
//!
//! [`username_case_mapped`] serves localparts and login names, [`opaque_string`] serves resources and passwords.
//! Both leave a string of printable ASCII alone where they can and then allocate nothing. The derived properties
//! are computed from current Unicode, not from a frozen table, so that a code point that was assigned last year
//! is known (RFC 8264 §8).

use std::borrow::Cow;

use icu_properties::props::{
    BidiClass, CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory as Category, HangulSyllableType,
    JoiningType, NoncharacterCodePoint, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Why a string does not conform to a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrecisError {
    /// Nothing is left of the string.
    #[error("the string is empty")]
    Empty,
    /// The profile's string class excludes this code point, or excludes it at this place (RFC 8264 §4, RFC 5892 appendix A).
    #[error("U+{:04X} is not allowed here", *.0 as u32)]
    Forbidden(char),
    /// The string mixes directions against RFC 5893 §2.
    #[error("left-to-right and right-to-left characters are mixed")]
    Directionality,
    /// The rules do not settle: applied to their own result they yield another one (RFC 8264 §7).
    #[error("the string has no stable form")]
    Unstable,
}

/// RFC 8265 §3.3: UsernameCaseMapped. Maps width and case, normalizes, and checks that an identifier is left.
pub fn username_case_mapped(text: &str) -> Result<Cow<'_, str>, PrecisError> {
    match text.as_bytes() {
        [] => Err(PrecisError::Empty),
        bytes if bytes.iter().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()) => {
            Ok(Cow::Borrowed(text))
        }
        bytes if bytes.iter().all(u8::is_ascii_graphic) => Ok(Cow::Owned(text.to_ascii_lowercase())),
        _ => settle(text, username_pass),
    }
}

/// RFC 8265 §4.2: OpaqueString. Maps spaces to U+0020 and normalizes; case, width and symbols stay.
pub fn opaque_string(text: &str) -> Result<Cow<'_, str>, PrecisError> {
    match text.as_bytes() {
        [] => Err(PrecisError::Empty),
        bytes if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) => Ok(Cow::Borrowed(text)),
        _ => settle(text, opaque_pass),
    }
}

/// RFC 8266 §2.4: what nicknames are compared by. Maps spaces and joins them, cuts those at the ends off, folds case, and makes forms that
/// look alike by compatibility the same; a final sigma is a sigma.
pub fn nickname_key(text: &str) -> Result<Cow<'_, str>, PrecisError> {
    match text.as_bytes() {
        [] => Err(PrecisError::Empty),
        bytes if bytes.iter().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()) => {
            Ok(Cow::Borrowed(text))
        }
        _ => settle(text, nickname_pass),
    }
}

/// Applies the rules until nothing changes, at most as often as RFC 8264 §7 suggests, so that what was enforced once stays
/// the same for ever.
fn settle(text: &str, pass: fn(&str) -> Result<String, PrecisError>) -> Result<Cow<'_, str>, PrecisError> {
    let mut current = pass(text)?;
    if current == text {
        return Ok(Cow::Borrowed(text));
    }
    for _ in 0..3 {
        let next = pass(&current)?;
        if next == current {
            return Ok(Cow::Owned(current));
        }
        current = next;
    }
    Err(PrecisError::Unstable)
}

fn username_pass(text: &str) -> Result<String, PrecisError> {
    let mut mapped = String::with_capacity(text.len());
    for c in text.chars() {
        map_width(c, &mut mapped);
    }
    if let Some(c) =
        mapped.chars().find(|&c| !matches!(derived(c), Derived::Valid | Derived::ContextJ | Derived::ContextO))
    {
        return Err(PrecisError::Forbidden(c));
    }
    // Character by character: a final sigma depends on what follows, and RFC 7622 §3.5 does not give it a special status.
    let lower = nfc(mapped.chars().flat_map(char::to_lowercase).collect());
    check_class(&lower, Class::Identifier)?;
    if !satisfies_bidi_rule(&lower) {
        return Err(PrecisError::Directionality);
    }
    Ok(lower)
}

fn opaque_pass(text: &str) -> Result<String, PrecisError> {
    if let Some(c) = text.chars().find(|&c| derived(c) == Derived::Disallowed) {
        return Err(PrecisError::Forbidden(c));
    }
    let spaced = text.chars().map(|c| if category(c) == Category::SpaceSeparator { ' ' } else { c });
    let normal = nfc(spaced.collect());
    check_class(&normal, Class::Freeform)?;
    Ok(normal)
}

fn nickname_pass(text: &str) -> Result<String, PrecisError> {
    if let Some(c) = text.chars().find(|&c| derived(c) == Derived::Disallowed) {
        return Err(PrecisError::Forbidden(c));
    }
    let spaced: String = text.chars().map(|c| if category(c) == Category::SpaceSeparator { ' ' } else { c }).collect();
    let joined = spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let lower = joined.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c });
    let normal: String = lower.nfkc().collect();
    check_class(&normal, Class::Freeform)?;
    Ok(normal)
}

fn nfc(text: String) -> String {
    if is_nfc(&text) { text } else { text.nfc().collect() }
}

/// RFC 8264 §5.2.1: halfwidth and fullwidth forms become what they decompose to. The block holds all code points with such a
/// decomposition except U+3000, a space that no identifier may contain anyway.
fn map_width(c: char, out: &mut String) {
    match c {
        '\u{ff00}'..='\u{ffef}' => {
            unicode_normalization::char::decompose_compatible(c, |part| out.push(part));
        }
        _ => out.push(c),
    }
}

/// RFC 8264 §4: the string classes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Identifier,
    Freeform,
}

/// RFC 8264 §8: the derived property of a code point, for both classes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Derived {
    /// PVALID
    Valid,
    /// ID_DIS, FREE_PVAL
    FreeformOnly,
    /// CONTEXTJ
    ContextJ,
    /// CONTEXTO
    ContextO,
    /// DISALLOWED or UNASSIGNED
    Disallowed,
}

/// Checks each code point, and those that depend on their surroundings with these.
pub(crate) fn check_class(text: &str, class: Class) -> Result<(), PrecisError> {
    let mut company = None;
    for (at, c) in text.char_indices() {
        let allowed = match derived(c) {
            Derived::Valid => true,
            Derived::FreeformOnly => class == Class::Freeform,
            Derived::ContextJ => joiner_allowed(&text[..at], c, &text[at + c.len_utf8()..]),
            Derived::ContextO => {
                let company = company.get_or_insert_with(|| Company::of(text));
                other_allowed(&text[..at], c, &text[at + c.len_utf8()..], company)
            }
            Derived::Disallowed => false,
        };
        if !allowed {
            return Err(PrecisError::Forbidden(c));
        }
    }
    if text.is_empty() { Err(PrecisError::Empty) } else { Ok(()) }
}

/// The algorithm of RFC 8264 §8, in its order.
pub(crate) fn derived(c: char) -> Derived {
    match c {
        // §9.11, ASCII7, first because nearly all text is that; no other rule before it names an ASCII character.
        '!'..='~' => return Derived::Valid,
        // §9.6, exceptions. BackwardCompatible (§9.7) is empty.
        'ß' | 'ς' | '\u{6fd}' | '\u{6fe}' | '\u{f0b}' | '\u{3007}' => return Derived::Valid,
        '\u{b7}' | '\u{375}' | '\u{5f3}' | '\u{5f4}' | '\u{30fb}' => return Derived::ContextO,
        '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' => return Derived::ContextO,
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}' => {
            return Derived::Disallowed;
        }
        '\u{200c}' | '\u{200d}' => return Derived::ContextJ,
        _ => {}
    }
    let category = category(c);
    if matches!(category, Category::Unassigned | Category::Control)
        || is_old_hangul_jamo(c)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
    {
        return Derived::Disallowed;
    }
    if has_compat(c) {
        return Derived::FreeformOnly;
    }
    use Category::{
        ClosePunctuation, ConnectorPunctuation, CurrencySymbol, DashPunctuation, DecimalNumber, EnclosingMark,
        FinalPunctuation, InitialPunctuation, LetterNumber, LowercaseLetter, MathSymbol, ModifierLetter,
        ModifierSymbol, NonspacingMark, OpenPunctuation, OtherLetter, OtherNumber, OtherPunctuation, OtherSymbol,
        SpaceSeparator, SpacingMark, TitlecaseLetter, UppercaseLetter,
    };
    match category {
        LowercaseLetter | UppercaseLetter | OtherLetter | DecimalNumber | ModifierLetter | NonspacingMark
        | SpacingMark => Derived::Valid,
        TitlecaseLetter | LetterNumber | OtherNumber | EnclosingMark => Derived::FreeformOnly,
        SpaceSeparator | MathSymbol | CurrencySymbol | ModifierSymbol | OtherSymbol => Derived::FreeformOnly,
        ConnectorPunctuation | DashPunctuation | OpenPunctuation | ClosePunctuation | InitialPunctuation
        | FinalPunctuation | OtherPunctuation => Derived::FreeformOnly,
        _ => Derived::Disallowed,
    }
}

fn category(c: char) -> Category {
    CodePointMapData::<Category>::new().get(c)
}

/// RFC 8264 §9.9
fn is_old_hangul_jamo(c: char) -> bool {
    matches!(
        CodePointMapData::<HangulSyllableType>::new().get(c),
        HangulSyllableType::LeadingJamo | HangulSyllableType::VowelJamo | HangulSyllableType::TrailingJamo
    )
}

/// RFC 8264 §9.17: NFKC changes it.
fn has_compat(c: char) -> bool {
    let mut normal = std::iter::once(c).nfkc();
    normal.next() != Some(c) || normal.next().is_some()
}

/// What the rules of RFC 5892 A.7 to A.9 ask of the whole string. Found out once a string: asked again at each digit, a long
/// string of digits would cost the square of its length.
struct Company {
    kana_or_han: bool,
    arabic_indic_digits: bool,
    extended_digits: bool,
}

impl Company {
    fn of(text: &str) -> Self {
        Self {
            kana_or_han: text.chars().any(|c| matches!(script(c), Script::Hiragana | Script::Katakana | Script::Han)),
            arabic_indic_digits: text.chars().any(|c| matches!(c, '\u{660}'..='\u{669}')),
            extended_digits: text.chars().any(|c| matches!(c, '\u{6f0}'..='\u{6f9}')),
        }
    }
}

/// RFC 5892 A.1 and A.2: the zero-width joiner and non-joiner.
fn joiner_allowed(before: &str, c: char, after: &str) -> bool {
    let combining = CodePointMapData::<CanonicalCombiningClass>::new();
    before.chars().next_back().is_some_and(|c| combining.get(c) == CanonicalCombiningClass::Virama)
        || c == '\u{200c}'
            && joins(before.chars().rev(), JoiningType::LeftJoining)
            && joins(after.chars(), JoiningType::RightJoining)
}

/// RFC 5892 A.3 to A.9: punctuation and digits that belong to one script.
fn other_allowed(before: &str, c: char, after: &str, company: &Company) -> bool {
    let (before, after) = (before.chars().next_back(), after.chars().next());
    match c {
        '\u{b7}' => before == Some('l') && after == Some('l'),
        '\u{375}' => after.is_some_and(|c| script(c) == Script::Greek),
        '\u{5f3}' | '\u{5f4}' => before.is_some_and(|c| script(c) == Script::Hebrew),
        '\u{30fb}' => company.kana_or_han,
        '\u{660}'..='\u{669}' => !company.extended_digits,
        '\u{6f0}'..='\u{6f9}' => !company.arabic_indic_digits,
        _ => false,
    }
}

fn script(c: char) -> Script {
    CodePointMapData::<Script>::new().get(c)
}

/// Whether, transparent ones skipped, the next letter joins towards the zero-width non-joiner.
fn joins(mut letters: impl Iterator<Item = char>, side: JoiningType) -> bool {
    let joining = CodePointMapData::<JoiningType>::new();
    letters
        .find(|&c| joining.get(c) != JoiningType::Transparent)
        .is_some_and(|c| joining.get(c) == JoiningType::DualJoining || joining.get(c) == side)
}

/// RFC 5893 §2, for strings that have a right-to-left character (RFC 8264 §5.2.5); any other string satisfies it.
fn satisfies_bidi_rule(text: &str) -> bool {
    use BidiClass as B;
    let class = |c| CodePointMapData::<BidiClass>::new().get(c);
    if !text.chars().any(|c| matches!(class(c), B::RightToLeft | B::ArabicLetter | B::ArabicNumber)) {
        return true;
    }
    let last = text.chars().rev().map(class).find(|&class| class != B::NonspacingMark);
    let neutral = |class| {
        matches!(
            class,
            B::EuropeanNumber
                | B::EuropeanSeparator
                | B::CommonSeparator
                | B::EuropeanTerminator
                | B::OtherNeutral
                | B::BoundaryNeutral
                | B::NonspacingMark
        )
    };
    match text.chars().next().map(class) {
        Some(B::RightToLeft | B::ArabicLetter) => {
            let has = |wanted| text.chars().any(|c| class(c) == wanted);
            text.chars()
                .map(class)
                .all(|class| neutral(class) || matches!(class, B::RightToLeft | B::ArabicLetter | B::ArabicNumber))
                && matches!(last, Some(B::RightToLeft | B::ArabicLetter | B::EuropeanNumber | B::ArabicNumber))
                && !(has(B::EuropeanNumber) && has(B::ArabicNumber))
        }
        // An LTR label may have no right-to-left character at all, and one was found above.
        _ => false,
    }
}

#[cfg(test)]
mod tests;
