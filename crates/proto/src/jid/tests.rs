#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Result<String, JidError> {
    Jid::parse(text).map(|jid| jid.to_string())
}

/// RFC 7622 §3.5, table 1. The strings there are already enforced, but for the capital sigma.
#[test]
fn the_valid_examples_of_the_rfc_are_addresses() {
    for (text, local, domain, resource) in [
        ("juliet@example.com", Some("juliet"), "example.com", None),
        ("juliet@example.com/foo", Some("juliet"), "example.com", Some("foo")),
        ("juliet@example.com/foo bar", Some("juliet"), "example.com", Some("foo bar")),
        ("juliet@example.com/foo@bar", Some("juliet"), "example.com", Some("foo@bar")),
        ("foo\\20bar@example.com", Some("foo\\20bar"), "example.com", None),
        ("fussball@example.com", Some("fussball"), "example.com", None),
        ("fu\u{df}ball@example.com", Some("fu\u{df}ball"), "example.com", None),
        ("\u{3c0}@example.com", Some("\u{3c0}"), "example.com", None),
        ("\u{3a3}@example.com/foo", Some("\u{3c3}"), "example.com", Some("foo")),
        ("\u{3c3}@example.com/foo", Some("\u{3c3}"), "example.com", Some("foo")),
        ("\u{3c2}@example.com/foo", Some("\u{3c2}"), "example.com", Some("foo")),
        ("king@example.com/\u{265a}", Some("king"), "example.com", Some("\u{265a}")),
        ("example.com", None, "example.com", None),
        ("example.com/foobar", None, "example.com", Some("foobar")),
        ("a.example.com/b@example.net", None, "a.example.com", Some("b@example.net")),
    ] {
        let jid = Jid::parse(text).unwrap();
        assert_eq!((jid.local(), jid.domain(), jid.resource()), (local, domain, resource), "{text}");
    }
}

/// RFC 7622 §3.5, table 2, but for the space at the start of a resource, which erratum 4560 allows.
#[test]
fn the_invalid_examples_of_the_rfc_are_not() {
    for (text, error) in [
        ("\"juliet\"@example.com", JidError::Localpart),
        ("foo bar@example.com", JidError::Localpart),
        ("@example.com/", JidError::Localpart),
        ("henry\u{2163}@example.com", JidError::Localpart),
        ("\u{265a}@example.com", JidError::Localpart),
        ("juliet@", JidError::Domainpart),
        ("/foobar", JidError::Domainpart),
    ] {
        assert_eq!(Jid::parse(text), Err(error), "{text}");
    }
    assert_eq!(Jid::parse("juliet@example.com/ foo").unwrap().resource(), Some(" foo"));
}

#[test]
fn an_empty_part_is_no_part() {
    assert_eq!(Jid::parse(""), Err(JidError::Domainpart));
    assert_eq!(Jid::parse("@"), Err(JidError::Localpart));
    assert_eq!(Jid::parse("/"), Err(JidError::Domainpart));
    assert_eq!(Jid::parse("a@/b"), Err(JidError::Domainpart));
    assert_eq!(Jid::parse("example.com/"), Err(JidError::Resourcepart));
    assert_eq!(BareJid::from_parts(Some(""), "example.com"), Err(JidError::Localpart));
}

#[test]
fn each_excluded_character_is_refused_also_where_it_arises_from_mapping() {
    for c in "\"&'/:<>@".chars() {
        assert_eq!(BareJid::from_parts(Some(&format!("a{c}b")), "example.com"), Err(JidError::Localpart), "{c}");
        let wide = char::from_u32(c as u32 + 0xfee0).unwrap();
        assert_eq!(Jid::parse(&format!("a{wide}b@example.com")), Err(JidError::Localpart), "{wide}");
    }
    for c in "!#$%()*+,-.;=?[\\]^_`{|}~".chars() {
        assert!(Jid::parse(&format!("a{c}b@example.com")).is_ok(), "{c}");
    }
}

#[test]
fn case_matters_in_the_resource_only() {
    assert_eq!(parsed("Juliet@Example.COM/Balcony").unwrap(), "juliet@example.com/Balcony");
    assert_eq!(parsed("JÜRGEN@BÜCHER.example/Ä").unwrap(), "jürgen@bücher.example/Ä");
    assert_eq!(BareJid::from_parts(Some("ROMEO"), "EXAMPLE.NET").unwrap(), "romeo@example.net");
}

#[test]
fn each_part_has_at_most_1023_bytes() {
    let long = "a".repeat(1023);
    let full = Jid::parse(&format!("{long}@example.com/{long}")).unwrap();
    assert_eq!((full.local().unwrap().len(), full.resource().unwrap().len()), (1023, 1023));
    assert_eq!(full.domain(), "example.com");
    assert_eq!(Jid::parse(&format!("{long}a@example.com")), Err(JidError::Localpart));
    assert_eq!(Jid::parse(&format!("example.com/{long}a")), Err(JidError::Resourcepart));
    // Counted after enforcement: a fullwidth letter has three bytes, what it is mapped to has one.
    assert!(Jid::parse(&format!("{}@example.com", "ａ".repeat(1023))).is_ok());
    assert_eq!(Jid::parse(&format!("{}@example.com", "ａ".repeat(1024))), Err(JidError::Localpart));
    assert_eq!(Jid::parse(&format!("{}@example.com", "é".repeat(512))), Err(JidError::Localpart));
    assert_eq!(Jid::parse(&"a.".repeat(1 << 20)), Err(JidError::Domainpart));
}

#[test]
fn domain_names_become_lower_case_u_labels_without_a_final_dot() {
    for (text, domain) in [
        ("EXAMPLE.com.", "example.com"),
        ("xn--fuball-cta.example", "fußball.example"),
        ("XN--FUBALL-CTA.example", "fußball.example"),
        ("Bücher.Example", "bücher.example"),
        ("ｅｘａｍｐｌｅ。com", "example.com"),
        ("fa\u{df}.de", "fa\u{df}.de"),
        ("xn--wgv71a119e.xn--wgv71a", "日本語.日本"),
        ("a_b.example", "a_b.example"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[2001:DB8::0:1]", "[2001:db8::1]"),
        ("[::1]", "[::1]"),
    ] {
        assert_eq!(parse_domain(text).as_deref(), Ok(domain), "{text}");
        assert_eq!(Jid::parse(&format!("a@{text}/b")).unwrap().domain(), domain, "{text}");
    }
}

#[test]
fn what_is_no_domain_is_refused() {
    let label = "a".repeat(64);
    let name = [&label[..63]; 4].join(".");
    for text in [
        "",
        ".",
        "..",
        "example..com",
        ".example.com",
        "example.com..",
        "exa mple.com",
        "a@b",
        "a/b",
        "-a.example",
        "a-.example",
        "ex:ample",
        "[::1",
        "::1",
        "[]",
        "[::g]",
        "[127.0.0.1]",
        "[fe80::1%eth0]",
        "[v1.x]",
        "xn--.example",
        "xn--a.example",
        "xn--i-7iq.ws",
        "i♥.ws",
        "♚.example",
        "a\u{ad}\0.example",
        "\u{5d0}a.example",
        "a\u{200d}b.example",
        "⒈com",
        "％.example",
        "＠.example",
        "a\u{301d}.example",
        "a\u{20d0}.example",
        "a\u{1d165}.example",
        &label,
        &name,
    ] {
        assert_eq!(parse_domain(text), Err(JidError::Domainpart), "{text:?}");
    }
}

#[test]
fn shapes_are_kept_apart() {
    assert_eq!(BareJid::parse("a@example.com/b"), Err(JidError::Shape));
    assert_eq!(FullJid::parse("a@example.com"), Err(JidError::Shape));
    let full = FullJid::parse("a@example.com/b").unwrap();
    let bare = full.to_bare();
    assert_eq!(bare, "a@example.com");
    assert_eq!(bare, BareJid::parse("a@example.com").unwrap());
    assert_eq!(bare.to_domain(), "example.com");
    assert_eq!(bare.to_domain().to_domain(), "example.com");
    assert_eq!(bare.with_resource("c d").unwrap(), "a@example.com/c d");
    assert_eq!(bare.with_resource(""), Err(JidError::Resourcepart));
    let jid = Jid::from(full.clone());
    assert_eq!(jid.to_full(), Some(full.clone()));
    assert_eq!(jid.to_bare(), bare);
    assert_eq!(FullJid::try_from(jid.clone()), Ok(full));
    assert_eq!(BareJid::try_from(jid), Err(JidError::Shape));
    let jid = Jid::from(bare.clone());
    assert_eq!((jid.to_full(), jid.resource()), (None, None));
    assert_eq!(BareJid::try_from(jid), Ok(bare));
}

#[test]
fn an_address_that_shares_its_text_equals_one_that_does_not() {
    let shared = FullJid::parse("example.com/b").unwrap().to_bare();
    let own = BareJid::parse("example.com").unwrap();
    assert_eq!(shared.cmp(&own), Ordering::Equal);
    let by_jid = HashMap::from([(shared, 1)]);
    assert_eq!(by_jid.get(&own), Some(&1));
    assert_eq!(by_jid.get("example.com"), Some(&1));
    assert_eq!(BTreeSet::from([own]).get("example.com").map(BareJid::as_str), Some("example.com"));
}

#[test]
fn an_address_takes_three_words() {
    assert_eq!(size_of::<Jid>(), 3 * size_of::<usize>());
    assert_eq!(size_of::<Option<FullJid>>(), 3 * size_of::<usize>());
}

#[test]
fn what_older_servers_stored_is_a_candidate() {
    let candidates = |text| BareJid::legacy_candidates(text).iter().map(BareJid::to_string).collect::<Vec<_>>();
    assert_eq!(candidates("fu\u{df}ball@example.com"), ["fussball@example.com"]);
    assert_eq!(candidates("FU\u{1e9e}@example.com"), Vec::<String>::new(), "a capital sharp s was unassigned");
    assert_eq!(candidates("ﬁnn@example.com/phone"), ["finn@example.com"]);
    assert_eq!(candidates("Conge\u{17f}tion@example.com"), ["congestion@example.com"]);
    assert_eq!(candidates("henryⅣ@example.com"), ["henryiv@example.com"]);
    assert_eq!(candidates("οδυσσευς@example.com"), ["οδυσσευσ@example.com"]);
    assert_eq!(candidates("a\u{ad}b@example.com"), ["ab@example.com"]);
    assert_eq!(candidates("a@fu\u{df}.example"), ["a@fuss.example"]);
    assert_eq!(
        candidates("ma\u{df}@fu\u{df}.example"),
        ["mass@fu\u{df}.example", "mass@fuss.example", "ma\u{df}@fuss.example"]
    );
}

#[test]
fn where_old_and_new_rules_agree_there_is_no_other_candidate() {
    for text in ["juliet@example.com", "JULIET@example.com", "Ｊuliet@example.com", "example.com", "rené@example.com"]
    {
        assert!(BareJid::legacy_candidates(text).is_empty(), "{text}");
    }
    for text in ["", "@", "♚@example.com", "a b@example.com", "\u{378}@example.com", &"ß".repeat(5000)] {
        assert!(BareJid::legacy_candidates(text).is_empty(), "{text}");
    }
}

/// Fragments that the rules treat differently, so that random strings of them reach the rules.
fn address_like() -> impl Strategy<Value = String> {
    let fragments = prop::sample::select(vec![
        "a",
        "B",
        "é",
        "e\u{301}",
        "ß",
        "ς",
        "Σ",
        "İ",
        "ﬁ",
        "ſ",
        "Ｋ",
        "＠",
        "@",
        "/",
        ".",
        "。",
        "-",
        "_",
        "xn--",
        "xn--fuball-cta",
        "\u{200d}",
        "\u{200c}",
        "\u{94d}",
        "\u{5d0}",
        "\u{627}",
        "\u{660}",
        "\u{6f0}",
        "1",
        "🚀",
        " ",
        "\u{a0}",
        "\u{b7}",
        "l",
        "・",
        "ア",
        "ﾊﾟ",
        "[::1]",
        "&",
        ":",
        "\\",
        "\u{ad}",
        "\u{fe0f}",
        "한",
        "\u{1100}\u{1161}",
        "\u{1e9e}",
        "\u{3a5}\u{308}\u{301}",
    ]);
    prop::collection::vec(fragments, 0..10).prop_map(|fragments| fragments.concat())
}

fn check_settled(text: &str) -> Result<(), TestCaseError> {
    BareJid::legacy_candidates(text);
    let Ok(jid) = Jid::parse(text) else { return Ok(()) };
    prop_assert_eq!(&Jid::parse(jid.as_str()).unwrap(), &jid);
    let rejoined = match (jid.local(), jid.resource()) {
        (local, Some(resource)) => {
            BareJid::from_parts(local, jid.domain()).unwrap().with_resource(resource).unwrap().into()
        }
        (local, None) => Jid::from(BareJid::from_parts(local, jid.domain()).unwrap()),
    };
    prop_assert_eq!(rejoined, jid);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn enforcing_an_address_again_changes_nothing(text in address_like()) {
        check_settled(&text)?;
    }

    #[test]
    fn any_text_is_an_address_or_an_error(text in any::<String>()) {
        check_settled(&text)?;
        check_settled(&format!("{text}@example.com"))?;
        check_settled(&format!("example.com/{text}"))?;
    }

    #[test]
    fn the_ascii_fast_path_agrees_with_the_rules(
        text in "([!-~]{1,6}@)?([a-zA-Z0-9_.-]{1,20}|[ -~]{1,20})(/[ -~]{1,6})?",
    ) {
        if let Some(plain) = Parts::plain(&text) {
            let (local, domain, resource) = parts::split(&text);
            let slow = Parts::from_parts(local, &parts::domain_name(domain).unwrap(), resource).unwrap();
            prop_assert_eq!(plain.as_str(), slow.as_str());
            prop_assert_eq!(plain.local(), slow.local());
            prop_assert_eq!(plain.domain(), slow.domain());
            prop_assert_eq!(plain.resource(), slow.resource());
        }
        let (_, domain, _) = parts::split(&text);
        if !domain.starts_with('[') {
            prop_assert_eq!(parse_domain(domain).ok(), parts::domain_name(domain));
        }
    }
}

#[test]
fn ordinary_addresses_take_the_ascii_fast_path() {
    let (label, long) = ("a".repeat(63), "a".repeat(1023));
    let domain = [&*label, &label, &label, &label[..61]].join(".");
    for (text, is_plain) in [
        ("juliet@example.com/balcony @/", true),
        ("JULIET@Example.com", true),
        ("localhost", true),
        ("10.0.0.1/x", true),
        (&*format!("{long}@{domain}/{long}"), true),
        (&*format!("{long}a@{domain}"), false),
        (&*format!("{domain}b"), false),
        (&*format!("{label}a"), false),
        (&*format!("{domain}/{long}a"), false),
        ("@example.com", false),
        ("a@", false),
        ("a@b@c", false),
        ("a@b/", false),
        ("a@b/é", false),
        ("example.com.", false),
        ("a@XN--fuball-cta.example", false),
    ] {
        assert_eq!(Parts::plain(text).is_some(), is_plain, "{text}");
    }
}

#[test]
fn the_text_of_a_full_jid_is_its_own() {
    let jid = FullJid::parse("romeo@montague.example/orchard").unwrap();
    assert_eq!((&*jid.to_text(), jid.to_text().as_ptr()), (jid.as_str(), jid.as_str().as_ptr()));
}
