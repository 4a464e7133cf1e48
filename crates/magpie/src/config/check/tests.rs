#![allow(clippy::unwrap_used)]

use super::*;

/// `line key: message / help` of each problem.
fn problems(text: &str) -> Vec<String> {
    let line = |problem: &Problem| text[..problem.span.as_ref().unwrap().start].matches('\n').count() + 1;
    let shown = |problem: &Problem| {
        format!("{} {}: {} / {}", line(problem), problem.key, problem.message, problem.help.as_deref().unwrap_or("-"))
    };
    parse(text).unwrap_err().iter().map(shown).collect()
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn unknown_keys_are_refused_with_what_was_meant() {
    let text = "domain = [\"example.org\"]\nxyzzy = 1\n[limits]\nstanza_byte_max = 20000\ndepth-max = 9\nplain = true\n[registraton]\n[archive]\ndays = 30\n";
    let known: Vec<&str> = schema::<Config>().keys.iter().map(|(key, _)| *key).collect();
    let known = format!("2 xyzzy: there is no such key / known here: {}", known.join(", "));
    let expected = [
        "1 domain: there is no such key / did you mean domains?",
        known.as_str(),
        "4 limits.stanza_byte_max: there is no such key / did you mean stanza_bytes_max?",
        "5 limits.depth-max: there is no such key / did you mean depth_max?",
        "6 limits.plain: there is no such key / plain belongs in [auth]",
        "7 registraton: there is no such key / did you mean registration?",
        "9 archive.days: there is no such key / did you mean keep_days?",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn unknown_keys_do_not_hide_wrong_values() {
    let found = problems("[auth]\niteration = 1\niterations = 1\n");
    assert_eq!(found[0], "2 auth.iteration: there is no such key / did you mean iterations?");
    assert_eq!(found[1], "3 auth.iterations: 1 rounds are too few (RFC 5802 §5.1) / write at least 4096");
    assert_eq!(found.len(), 2);
}

#[test]
fn values_of_another_type_say_what_is_needed() {
    let text = "domains = \"example.org\"\nlisten = 1\n[limits]\ndepth_max = \"64\"\n[registration]\nopen = 1\n";
    let expected = [
        "1 domains: a list is needed, this is text / write it as domains = [\"…\"]",
        "2 listen: a list of tables is needed, this is a whole number / write it as [[listen]]",
        "4 limits.depth_max: a whole number is needed, this is text / write it as depth_max = 1",
        "6 registration.open: true or false is needed, this is a whole number / write it as open = true",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn words_that_are_not_possible_say_which_are() {
    let found = problems("[[listen]]\naddress = \"127.0.0.1:5222\"\nkind = \"c2s_tls\"\n");
    let expected = "3 listen[0].kind: \"c2s_tls\" is not possible here / did you mean \"c2s-tls\"? possible are: \"c2s\", \"c2s-tls\", \"terms\", \"terms-tls\", \"bert\"";
    assert_eq!(found, [expected]);
}

#[test]
fn values_that_their_type_cannot_read_are_pointed_at() {
    let found = problems("[[listen]]\naddress = \"localhost\"\nkind = \"c2s\"\n[limits]\ndepth_max = 1\n");
    let help = "write 0.0.0.0:5222 for all IPv4 addresses, [::]:5222 for all, or one, as 127.0.0.1:5222";
    assert_eq!(found, [format!("2 listen[0].address: this is no IP address with a port / {help}")]);
    for number in ["70000", "-1", "99999999999999999999"] {
        let found = problems(&format!("[limits]\ndepth_max = {number}\n"));
        let expected = "is not possible here / write a whole number from 0 to 65535";
        assert_eq!(found, [format!("2 limits.depth_max: {number} {expected}")]);
    }
    let found = problems("[limits]\nidle_seconds_max = -1\n");
    assert!(found[0].ends_with("from 0 to 9223372036854775807"), "{found:?}");
}

#[test]
fn missing_keys_name_their_table_and_what_to_add() {
    let found = problems("domains = [\"localhost\"]\n\n[[listen]]\nkind = \"c2s\"\n");
    assert_eq!(found, ["3 listen[0]: address is missing / add address = \"…\""]);
    let found = problems("[[listen]]\naddress = \"127.0.0.1:5222\"\n");
    assert_eq!(
        found,
        ["1 listen[0]: kind is missing / add kind = \"c2s\" or \"c2s-tls\" or \"terms\" or \"terms-tls\" or \"bert\""]
    );
}

#[test]
fn text_that_is_no_toml_is_pointed_at() {
    let found = problems("domains = [\"localhost\"]\n[limits\n");
    assert!(found[0].starts_with("2 : "), "{found:?}");
}

#[test]
fn values_that_make_no_sense_are_pointed_at_or_else_their_table() {
    let text = "[[listen]]\naddress = \"0.0.0.0:5222\"\nkind = \"c2s\"\ntls = \"optional\"\n[limits]\nstanza_bytes_max = 100\n";
    let found = problems(text);
    assert!(found[0].starts_with("4 listen[0].tls: passwords could cross"), "{found:?}");
    assert!(found[1].starts_with("6 limits.stanza_bytes_max: 100 is too small"), "{found:?}");
    // The key is left out and its default no longer fits: the table is pointed at.
    let found = problems("[limits]\nstanza_bytes_max = 10000\n");
    assert!(found[0].starts_with("1 limits.stanza_bytes_max_before_auth: "), "{found:?}");
}
