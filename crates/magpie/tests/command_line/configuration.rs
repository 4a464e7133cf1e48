//! `magpie config …`, and what other commands say of a configuration that cannot be used.

use serde_json::json;

use crate::folder::Folder;

#[test]
fn the_printed_default_passes_the_check_and_is_what_is_used_without_a_file() {
    let folder = Folder::new();
    let default = folder.run(&["config", "default"]).code(0).stdout;
    assert!(default.contains("\n# Bytes of a stanza after authentication"), "{default}");
    let without = folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
    let status = folder.run(&["status", "--json"]).code(0).json();
    folder.write("magpie.toml", &default);
    assert_eq!(folder.run(&["config", "check"]).code(0).stdout, "magpie.toml is right.\n");
    assert_eq!(folder.run(&["status", "--json"]).code(0).json(), status);
    assert_eq!(without.stderr, "");
}

#[test]
fn the_default_is_also_a_document() {
    let document = Folder::new().run(&["config", "default", "--json"]).code(0).json();
    assert_eq!(document["domains"], json!(["localhost"]));
    assert_eq!(document["limits"]["depth_max"], 64);
}

#[test]
fn without_a_file_the_check_says_so() {
    let folder = Folder::new();
    assert!(folder.run(&["config", "check"]).code(0).stdout.contains("There is no magpie.toml here"));
    assert_eq!(folder.run(&["config", "check", "--json"]).code(0).json(), json!({ "ok": true, "file": null }));
    let missing = folder.run(&["config", "check", "other.toml"]).code(1);
    assert!(missing.stderr.contains("cannot read other.toml"), "{}", missing.stderr);
    assert!(missing.stderr.contains("magpie config default"), "{}", missing.stderr);
}

#[test]
fn an_unknown_key_is_shown_with_file_line_and_what_was_meant() {
    let folder = Folder::new();
    folder.write("magpie.toml", "domains = [\"example.org\"]\n\n[limits]\nstanza_byte_max = 20000\n");
    let done = folder.run(&["config", "check"]).code(1);
    assert_eq!(done.stdout, "");
    for part in [
        "limits.stanza_byte_max: there is no such key",
        "magpie.toml:4:1",
        "stanza_byte_max = 20000",
        "help: did you mean stanza_bytes_max?",
    ] {
        assert!(done.stderr.contains(part), "{part} is not in: {}", done.stderr);
    }
}

#[test]
fn all_that_is_wrong_is_listed_in_the_order_of_the_file() {
    let folder = Folder::new();
    folder.write(
        "other.toml",
        "domain = [\"x\"]\n[[listen]]\naddress = \"0.0.0.0:5222\"\nkind = \"c2s\"\ntls = \"optional\"\n[auth]\niterations = 1000\n",
    );
    let error = folder.run(&["config", "check", "other.toml", "--json"]).code(1).json()["error"].clone();
    assert_eq!(error["kind"], "config");
    let problems = error["problems"].as_array().unwrap();
    let places: Vec<_> =
        problems.iter().map(|problem| (&problem["line"], &problem["column"], &problem["key"])).collect();
    let expected = [
        (&json!(1), &json!(1), &json!("domain")),
        (&json!(5), &json!(7), &json!("listen[0].tls")),
        (&json!(7), &json!(14), &json!("auth.iterations")),
    ];
    assert_eq!(places, expected);
    assert_eq!(problems[0]["help"], "did you mean domains?");
    assert!(problems.iter().all(|problem| problem["help"].is_string()));
}

#[test]
fn every_command_refuses_a_configuration_that_cannot_be_used() {
    let folder = Folder::new();
    folder.write("magpie.toml", "domains = 1\n");
    let commands: [&[&str]; 6] = [
        &["serve"],
        &["status"],
        &["reload"],
        &["user", "list", "localhost"],
        &["user", "add", "a@localhost", "--password", "x"],
        &["config", "check"],
    ];
    for arguments in commands {
        let done = folder.run(arguments).code(1);
        assert!(done.stderr.contains("magpie.toml:1:11"), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains("domains: a list is needed, this is a whole number"), "{}", done.stderr);
    }
    assert!(!folder.data().exists());
}

#[test]
fn a_certificate_file_that_is_not_there_is_found_by_the_check_and_not_by_commands_that_do_not_need_it() {
    let folder = Folder::new();
    folder.write("magpie.toml", "[[certificate]]\ndomain = \"localhost\"\nchain = \"no.crt\"\nkey = \"no.key\"\n");
    let done = folder.run(&["config", "check"]).code(1);
    assert!(done.stderr.contains("certificate[0].chain: cannot read no.crt"), "{}", done.stderr);
    assert!(done.stderr.contains("magpie.toml:3:9"), "{}", done.stderr);
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
}

#[test]
fn a_certificate_that_does_not_fit_its_key_is_found_by_the_check() {
    let folder = Folder::new();
    // Two servers make two keys.
    for name in ["one", "two"] {
        folder.write_config("");
        folder.serve(&["--data", name]);
    }
    folder.write(
        "magpie.toml",
        "[[certificate]]\ndomain = \"localhost\"\nchain = \"one/certs/localhost.crt\"\nkey = \"two/certs/localhost.key\"\n",
    );
    let done = folder.run(&["config", "check"]).code(1);
    assert!(done.stderr.contains("certificate[0].key: "), "{}", done.stderr);
    assert!(done.stderr.contains("the key does not belong to one/certs/localhost.crt"), "{}", done.stderr);
    assert!(done.stderr.contains("magpie.toml:4:7"), "{}", done.stderr);
    folder.write(
        "magpie.toml",
        "[[certificate]]\ndomain = \"localhost\"\nchain = \"one/certs/localhost.crt\"\nkey = \"one/certs/localhost.key\"\n",
    );
    folder.run(&["config", "check"]).code(0);
}

#[test]
fn sources_of_terms_that_cannot_be_are_found_by_the_check_and_by_who_serves_them() {
    let folder = Folder::new();
    let source = |rest: &str| format!("[[terms.source]]\nname = \"a\"\n{rest}\n");
    let file = [
        source("kind = \"redis\"\nurl = \"http://x\"\nquery = \"GET $1\""),
        source("kind = \"postgresql\"\nurl = \"nonsense\"\nquery = \"SELECT $1\""),
        "[[terms.function]]\nmodule = \"m\"\nfunction = \"*\"\nurl = \"ftp://x\"\n".to_owned(),
    ];
    folder.write("magpie.toml", file.concat());
    for arguments in [&["config", "check"][..], &["serve"], &["terms", "--listen", "127.0.0.1:0"]] {
        let done = folder.run(arguments).code(1);
        for (key, place) in [
            ("terms.source[0]: ", "magpie.toml:1:1"),
            ("terms.source[1]: there are two sources named \"a\"", "magpie.toml:6:1"),
            ("terms.source[1]: ", "magpie.toml:6:1"),
            ("terms.function[0]: ", "magpie.toml:11:1"),
        ] {
            assert!(done.stderr.contains(key) && done.stderr.contains(place), "{arguments:?} {key}: {}", done.stderr);
        }
    }
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
}

#[test]
fn an_empty_data_folder_name_is_refused_and_not_taken_for_the_folder_of_the_file() {
    let folder = Folder::new();
    folder.write("magpie.toml", "data = \"\"\n");
    let done = folder.run(&["config", "check"]).code(1);
    assert!(done.stderr.contains("data: no folder is named"), "{}", done.stderr);
}

#[test]
fn options_that_contradict_the_configuration_are_refused() {
    let folder = Folder::new();
    folder.write("magpie.toml", "[auth]\nanonymous = [\"localhost\"]\n");
    let done = folder.run(&["user", "--domain", "example.org", "list", "example.org"]).code(1);
    assert!(done.stderr.contains("auth.anonymous[0]: \"localhost\" is not a served domain"), "{}", done.stderr);
}

#[test]
fn a_file_that_is_no_text_is_no_configuration() {
    let folder = Folder::new();
    folder.write("magpie.toml", [0xff, 0xfe, 0x00]);
    assert!(folder.run(&["config", "check"]).code(1).stderr.contains("must be a text in UTF-8"));
    folder.write("magpie.toml", b"# one\ndomains = [\"b\xfccher.example\"]\n");
    let done = folder.run(&["config", "check"]).code(1);
    assert!(done.stderr.contains("magpie.toml:2: this line is not UTF-8"), "{}", done.stderr);
    folder.write("magpie.toml", "domains = [\n");
    assert!(folder.run(&["config", "check"]).code(1).stderr.contains("magpie.toml:"));
}
