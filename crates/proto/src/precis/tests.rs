#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn username(text: &str) -> Result<String, PrecisError> {
    username_case_mapped(text).map(Cow::into_owned)
}

fn opaque(text: &str) -> Result<String, PrecisError> {
    opaque_string(text).map(Cow::into_owned)
}

#[test]
fn plain_ascii_is_borrowed() {
    assert!(matches!(username_case_mapped("juliet@example.com"), Ok(Cow::Borrowed("juliet@example.com"))));
    assert!(matches!(opaque_string("correct horse Battery staple"), Ok(Cow::Borrowed(_))));
    assert!(matches!(opaque_string("Сборник"), Ok(Cow::Borrowed(_))));
}

/// RFC 8265 §3.5, tables 1 and 2: usernames that are legal, and what they are mapped to.
#[test]
fn usernames_of_the_rfc_are_mapped() {
    for (text, mapped) in [
        ("juliet@example.com", "juliet@example.com"),
        ("fussball", "fussball"),
        ("fu\u{df}ball", "fu\u{df}ball"),
        ("\u{3c0}", "\u{3c0}"),
        ("\u{3a3}", "\u{3c3}"),
        ("\u{3c3}", "\u{3c3}"),
        ("\u{3c2}", "\u{3c2}"),
    ] {
        assert_eq!(username(text).as_deref(), Ok(mapped), "{text}");
    }
}

/// RFC 8265 §3.5, table 3.
#[test]
fn usernames_that_the_rfc_calls_illegal_are_refused() {
    assert_eq!(username("foo bar"), Err(PrecisError::Forbidden(' ')));
    assert_eq!(username(""), Err(PrecisError::Empty));
    assert_eq!(username("henry\u{2163}"), Err(PrecisError::Forbidden('\u{2163}')));
    assert_eq!(username("\u{221e}"), Err(PrecisError::Forbidden('\u{221e}')));
}

/// RFC 8265 §4.3, tables 4 and 5.
#[test]
fn passwords_of_the_rfc_keep_their_characters() {
    for (text, mapped) in [
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("\u{3c0}\u{df}\u{e5}", "\u{3c0}\u{df}\u{e5}"),
        ("Jack of \u{2666}s", "Jack of \u{2666}s"),
        ("foo\u{1680}bar", "foo bar"),
    ] {
        assert_eq!(opaque(text).as_deref(), Ok(mapped), "{text}");
    }
    assert_eq!(opaque(""), Err(PrecisError::Empty));
    assert_eq!(opaque("my cat is a \u{9}by"), Err(PrecisError::Forbidden('\t')));
}

#[test]
fn width_and_case_are_mapped_and_the_result_is_composed() {
    assert_eq!(username("Ｊｕｌｉｅｔ").unwrap(), "juliet");
    assert_eq!(username("ﾊﾟ").unwrap(), "パ");
    assert_eq!(username("RENE\u{301}").unwrap(), "ren\u{e9}");
    assert_eq!(opaque("Rene\u{301}").unwrap(), "Ren\u{e9}");
    assert_eq!(opaque("Ｒ").unwrap(), "Ｒ");
}

#[test]
fn compatibility_characters_are_no_part_of_a_username_but_of_a_password() {
    for c in ['\u{17f}', '\u{fb01}', '\u{2460}', '\u{212a}', '\u{1d400}', '\u{3000}', '\u{ffe3}', '\u{ffa1}'] {
        assert!(username(&c.to_string()).is_err(), "U+{:04X}", c as u32);
        assert!(opaque(&c.to_string()).is_ok(), "U+{:04X}", c as u32);
    }
}

#[test]
fn symbols_emoji_and_punctuation_are_free_form_only() {
    for text in ["🚀", "♚", "—", "€", "½", "🥰"] {
        assert!(matches!(username(text), Err(PrecisError::Forbidden(_))), "{text}");
        assert_eq!(opaque(text).as_deref(), Ok(text));
    }
}

#[test]
fn what_no_class_contains_is_refused_everywhere() {
    // A control, a soft hyphen, a variation selector, a Jamo, a noncharacter, an unassigned and a private code point, a tag.
    for c in "\u{7f}\u{85}\u{ad}\u{fe0f}\u{1100}\u{fdd0}\u{378}\u{e000}\u{e0041}\u{640}\u{2028}\u{ffff}".chars() {
        assert_eq!(opaque(&format!("a{c}b")), Err(PrecisError::Forbidden(c)), "U+{:04X}", c as u32);
        assert_eq!(username(&format!("a{c}b")), Err(PrecisError::Forbidden(c)), "U+{:04X}", c as u32);
    }
}

/// RFC 5892 appendix A.1 to A.9, each with a surrounding that allows and one that does not.
#[test]
fn contextual_code_points_need_their_surroundings() {
    for (good, bad) in [
        ("\u{915}\u{94d}\u{200c}\u{937}", "a\u{200c}b"),
        // Dual joining, transparent, non-joiner, right joining.
        ("\u{628}\u{64e}\u{200c}\u{627}", "\u{627}\u{200c}\u{628}"),
        ("\u{915}\u{94d}\u{200d}\u{937}", "\u{915}\u{200d}\u{937}"),
        ("paral\u{b7}lel", "para\u{b7}lel"),
        ("\u{375}\u{3b1}", "\u{375}a"),
        ("\u{5d0}\u{5f3}", "\u{5f3}\u{5d0}"),
        ("\u{5d0}\u{5f4}\u{5d1}", "\u{5f4}\u{5d0}"),
        ("\u{30a2}\u{30fb}", "a\u{30fb}"),
        ("\u{627}\u{660}", "\u{627}\u{660}\u{6f0}"),
        ("\u{627}\u{6f0}", "\u{627}\u{6f0}\u{669}"),
    ] {
        assert_eq!(username(good).as_deref(), Ok(good), "{good:?}");
        assert_eq!(opaque(good).as_deref(), Ok(good), "{good:?}");
        assert!(matches!(username(bad), Err(PrecisError::Forbidden(_))), "{bad:?}");
        assert!(matches!(opaque(bad), Err(PrecisError::Forbidden(_))), "{bad:?}");
    }
    assert_eq!(username("\u{628}\u{200c}a"), Err(PrecisError::Forbidden('\u{200c}')), "nothing after it joins");
    // The middle dot stands between two letters only once these are small.
    assert_eq!(username("PARAL\u{b7}LEL").unwrap(), "paral\u{b7}lel");
}

#[test]
fn directions_mix_only_within_the_bidi_rule() {
    for good in ["\u{5d0}\u{5d1}", "\u{5d0}1", "\u{627}\u{64e}", "\u{627}-\u{628}"] {
        assert_eq!(username(good).as_deref(), Ok(good), "{good:?}");
    }
    for bad in ["a\u{5d0}", "\u{5d0}a", "1\u{5d0}", "\u{5d0}-", "\u{627}\u{660}1", "\u{5d0}a\u{5d0}"] {
        assert_eq!(username(bad), Err(PrecisError::Directionality), "{bad:?}");
        assert_eq!(opaque(bad).as_deref(), Ok(bad), "{bad:?}");
    }
}

#[test]
fn a_sigma_does_not_depend_on_its_place() {
    assert_eq!(username("ΟΔΥΣΣΕΥΣ").unwrap(), "οδυσσευσ");
    assert_eq!(username("οδυσσευς").unwrap(), "οδυσσευς");
}

/// RFC 8264 §8 for what the fast path decides without asking: each printable ASCII character.
#[test]
fn the_ascii_fast_path_agrees_with_the_rules() {
    for c in (' '..='~').map(String::from) {
        assert_eq!(opaque_string(&c).unwrap(), opaque_pass(&c).unwrap());
    }
    for c in (0..128_u8).map(|byte| char::from(byte).to_string()) {
        assert_eq!(username(&c), username_pass(&c), "{c:?}");
        assert_eq!(opaque(&c), opaque_pass(&c), "{c:?}");
    }
}

#[test]
fn every_code_point_has_one_settled_form_or_none() {
    for c in '\0'..=char::MAX {
        let text = c.to_string();
        if let Ok(once) = username(&text) {
            assert_eq!(username(&once).as_deref(), Ok(&*once), "U+{:04X}", c as u32);
        }
        if let Ok(once) = opaque(&text) {
            assert_eq!(opaque(&once).as_deref(), Ok(&*once), "U+{:04X}", c as u32);
        }
    }
}

proptest! {
    #[test]
    fn the_profiles_are_idempotent(text in "\\PC{0,12}") {
        if let Ok(once) = username(&text) {
            prop_assert_eq!(username(&once), Ok(once.clone()));
        }
        if let Ok(once) = opaque(&text) {
            prop_assert_eq!(opaque(&once), Ok(once.clone()));
        }
    }

    #[test]
    fn ascii_is_treated_alike_on_both_paths(text in "[ -~]{1,20}") {
        prop_assert_eq!(username(&text), username_pass(&text));
        prop_assert_eq!(opaque(&text), opaque_pass(&text));
    }
}

#[test]
fn nicknames_that_people_would_take_for_the_same_have_one_key() {
    let key = |nick: &str| nickname_key(nick).unwrap().into_owned();
    for (one, other) in [
        ("Romeo", "romeo"),
        ("  Swan  of   Avon   ", "swan of avon"),
        ("Foo\u{a0}Bar", "foo bar"),
        ("Ｒｏｍｅｏ", "romeo"),
        ("Henry Ⅳ", "henry iv"),
        ("\u{212b}ngstrom", "\u{e5}ngstrom"),
        ("e\u{301}mile", "\u{e9}mile"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("\u{fb01}n", "fin"),
    ] {
        assert_eq!(key(one), key(other), "{one:?} {other:?}");
    }
    assert_ne!(key("third witch"), key("thirdwitch"));
    for nothing in ["", " ", "\u{3000}\u{a0}"] {
        assert_eq!(nickname_key(nothing), Err(PrecisError::Empty), "{nothing:?}");
    }
    for hidden in ["rom\u{200b}eo", "romeo\u{200d}", "romeo\u{2060}", "\u{202e}oemor"] {
        assert!(matches!(nickname_key(hidden), Err(PrecisError::Forbidden(_))), "{hidden:?}");
    }
}
