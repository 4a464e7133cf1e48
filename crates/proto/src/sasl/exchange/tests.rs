#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::*;
use crate::sasl::scram;

const SERVER_NONCE: &str = "3rfcNHYJY1ZVvWVs7j";
const EXPORTER: [u8; 32] = [0xe7; 32];
const END_POINT: [u8; 32] = [0x5e; 32];

fn offer() -> Offer {
    let bindings = ChannelBindings { tls_exporter: Some(EXPORTER), tls_server_end_point: Some(END_POINT.to_vec()) };
    Offer::new("example.com", bindings, &Hash::ALL, true, true)
}

fn offer_without_tls() -> Offer {
    Offer::new("example.com", ChannelBindings::default(), &Hash::ALL, true, true)
}

fn rounds(iterations: u32) -> NonZeroU32 {
    NonZeroU32::new(iterations).unwrap()
}

fn keys_of(password: &str, hash: Hash) -> ScramKeys {
    ScramKeys::derive(hash, rounds(4096), b"a salt of theirs", password)
}

fn begin(offer: &Offer, mechanism: &str, initial: &str) -> (Exchange, Step) {
    Exchange::start(offer, mechanism, Some(initial.as_bytes()), SERVER_NONCE.to_owned())
}

/// The failure of a first message, which comes before any keys are asked for.
fn first_failure(offer: &Offer, mechanism: &str, initial: &str) -> SaslFailure {
    failure(begin(offer, mechanism, initial).1)
}

#[track_caller]
fn failure(step: Step) -> SaslFailure {
    match step {
        Step::Failure { failure, .. } => failure,
        step => panic!("no failure: {step:?}"),
    }
}

#[track_caller]
fn challenge(step: Step) -> String {
    match step {
        Step::Challenge(data) => String::from_utf8(data).unwrap(),
        step => panic!("no challenge: {step:?}"),
    }
}

#[track_caller]
fn wanted_user(step: Step) -> String {
    match step {
        Step::FindKeys { username, .. } => username,
        step => panic!("no question for keys: {step:?}"),
    }
}

/// A client of SCRAM, as far as the server needs one.
struct Client<'a> {
    hash: Hash,
    gs2_header: &'a str,
    binding: &'a [u8],
    bare: &'a str,
    password: &'a str,
}

impl Client<'_> {
    fn first(&self) -> String {
        [self.gs2_header, self.bare].concat()
    }

    /// The final message, and what the server must answer.
    fn last(&self, server_first: &str) -> (String, String) {
        let attribute = |name| server_first.split(',').find_map(|attribute| attribute.strip_prefix(name)).unwrap();
        let binding = BASE64.encode([self.gs2_header.as_bytes(), self.binding].concat());
        let without_proof = format!("c={binding},r={}", attribute("r="));
        let auth_message = [self.bare, server_first, &without_proof].join(",");

        let salt = BASE64.decode(attribute("s=")).unwrap();
        let salted = self.hash.salted_password(self.password, &salt, rounds(attribute("i=").parse().unwrap()));
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let stored_key = self.hash.digest(client_key.as_ref());
        let signature = self.hash.hmac(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_key = self.hash.hmac(&salted, b"Server Key");
        let server_signature = self.hash.hmac(server_key.as_ref(), auth_message.as_bytes());
        (
            format!("{without_proof},p={}", BASE64.encode(proof)),
            format!("v={}", BASE64.encode(server_signature.as_ref())),
        )
    }
}

const CLIENT: Client<'static> = Client {
    hash: Hash::Sha256,
    gs2_header: "n,,",
    binding: b"",
    bare: "n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    password: "pencil",
};

/// Runs a SCRAM exchange to its end, with the last message as `edit` leaves it.
fn run(mechanism: &str, client: &Client<'_>, keys: ScramKeys, known: bool, edit: impl Fn(String) -> String) -> Step {
    let (mut exchange, step) = begin(&offer(), mechanism, &client.first());
    assert_eq!(wanted_user(step), "user");
    let server_first = challenge(exchange.keys(keys, known));
    exchange.respond(edit(client.last(&server_first).0).as_bytes())
}

#[test]
fn the_example_of_xep_0474_is_what_the_client_is_told() {
    let bindings = ChannelBindings { tls_exporter: Some([7; 32]), tls_server_end_point: Some(vec![9; 32]) };
    let offer = Offer::new("example.com", bindings, &[Hash::Sha1], false, false);
    let offer = Offer { protected: true, ..offer };
    let (mut exchange, _) = begin(&offer, "SCRAM-SHA-1", CLIENT.first().as_str());
    let client = Client { hash: Hash::Sha1, ..CLIENT };
    let server_first = challenge(exchange.keys(keys_of("pencil", Hash::Sha1), true));
    assert!(server_first.ends_with(",h=G6k/rBLDqgOhRRaCuuatSDFkJ08="), "{server_first}");
    // And what the client answers is signed with it.
    let (last, signature) = client.last(&server_first);
    let Step::Success { data, .. } = exchange.respond(last.as_bytes()) else { panic!() };
    assert_eq!(data.unwrap(), signature.as_bytes());
}

#[test]
fn the_example_of_rfc_5802_section_5_succeeds() {
    let salt = BASE64.decode("QSXCR+Q6sek8bf92").unwrap();
    let keys = ScramKeys::derive(Hash::Sha1, rounds(4096), &salt, "pencil");
    let (mut exchange, step) = begin(&offer_without_tls(), "SCRAM-SHA-1", "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
    assert!(matches!(step, Step::FindKeys { username, hash: Some(Hash::Sha1) } if username == "user"));
    assert_eq!(
        challenge(exchange.keys(keys, true)),
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    );
    let step = exchange.respond(b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
    let Step::Success { identity, data } = step else { panic!("{step:?}") };
    assert_eq!(identity, Identity::Account("user".to_owned()));
    assert_eq!(data.unwrap(), b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
}

#[test]
fn the_example_of_rfc_7677_section_3_succeeds() {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let keys = ScramKeys::derive(Hash::Sha256, rounds(4096), &salt, "pencil");
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let (mut exchange, _) = Exchange::start(&offer_without_tls(), "SCRAM-SHA-256", Some(first), nonce);
    assert_eq!(
        challenge(exchange.keys(keys, true)),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let step = exchange.respond(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
          p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    let Step::Success { data, .. } = step else { panic!("{step:?}") };
    assert_eq!(data.unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn each_hash_binds_to_each_type_and_the_server_signs() {
    for mechanism in Mechanism::ALL {
        let Mechanism::Scram { hash, plus } = mechanism else { continue };
        let cases: &[(&str, &[u8])] = match plus {
            false => &[("n,,", b""), ("n,a=user@example.com,", b"")],
            true => &[("p=tls-exporter,,", &EXPORTER), ("p=tls-server-end-point,a=user@example.com,", &END_POINT)],
        };
        for &(gs2_header, binding) in cases {
            let client = Client { hash, gs2_header, binding, ..CLIENT };
            let (mut exchange, _) = begin(&offer(), mechanism.name(), &client.first());
            let (last, signature) = client.last(&challenge(exchange.keys(keys_of("pencil", hash), true)));
            let step = exchange.respond(last.as_bytes());
            let Step::Success { data, .. } = step else { panic!("{mechanism:?} {gs2_header}: {step:?}") };
            assert_eq!(data.unwrap(), signature.as_bytes());
        }
    }
}

#[test]
fn a_client_that_saw_no_plus_is_let_in_only_where_there_was_none() {
    let client = Client { gs2_header: "y,,", ..CLIENT };
    assert_eq!(first_failure(&offer(), "SCRAM-SHA-256", &client.first()), SaslFailure::NotAuthorized);
    assert_eq!(first_failure(&offer(), "SCRAM-SHA-256-PLUS", &client.first()), SaslFailure::NotAuthorized);

    let (mut exchange, _) = begin(&offer_without_tls(), "SCRAM-SHA-256", &client.first());
    let (last, _) = client.last(&challenge(exchange.keys(keys_of("pencil", Hash::Sha256), true)));
    assert!(matches!(exchange.respond(last.as_bytes()), Step::Success { .. }));
}

#[test]
fn flag_and_mechanism_must_agree_and_the_type_must_be_there() {
    let first = |mechanism, gs2_header| first_failure(&offer(), mechanism, &[gs2_header, CLIENT.bare].concat());
    assert_eq!(first("SCRAM-SHA-256", "p=tls-exporter,,"), SaslFailure::MalformedRequest);
    assert_eq!(first("SCRAM-SHA-256-PLUS", "n,,"), SaslFailure::MalformedRequest);
    assert_eq!(first("SCRAM-SHA-256-PLUS", "p=tls-unique,,"), SaslFailure::InvalidMechanism);

    let bindings = ChannelBindings { tls_exporter: None, tls_server_end_point: Some(END_POINT.to_vec()) };
    let offer = Offer::new("example.com", bindings, &Hash::ALL, false, false);
    let initial = ["p=tls-exporter,,", CLIENT.bare].concat();
    assert_eq!(first_failure(&offer, "SCRAM-SHA-256-PLUS", &initial), SaslFailure::InvalidMechanism);
}

#[test]
fn binding_to_another_connection_fails() {
    let wrong: [(&str, &[u8]); 4] = [
        ("p=tls-exporter,,", &[0; 32]),
        ("p=tls-exporter,,", &END_POINT),
        ("p=tls-exporter,,", &EXPORTER[..31]),
        ("p=tls-server-end-point,,", b""),
    ];
    for (gs2_header, binding) in wrong {
        let client = Client { gs2_header, binding, ..CLIENT };
        let step = run("SCRAM-SHA-256-PLUS", &client, keys_of("pencil", Hash::Sha256), true, |last| last);
        assert_eq!(failure(step), SaslFailure::NotAuthorized, "{gs2_header}");
    }
}

#[test]
fn the_gs2_header_cannot_be_changed_after_the_first_message() {
    // The proof is right for what the client says in the end; only the first message said something else.
    let (mut exchange, _) = begin(&offer(), "SCRAM-SHA-256", &CLIENT.first());
    let server_first = challenge(exchange.keys(keys_of("pencil", Hash::Sha256), true));
    let (last, _) = Client { gs2_header: "n,a=user@example.com,", ..CLIENT }.last(&server_first);
    assert_eq!(failure(exchange.respond(last.as_bytes())), SaslFailure::NotAuthorized);
}

#[test]
fn another_nonce_fails_even_with_a_proof_for_it() {
    let (mut exchange, _) = begin(&offer(), "SCRAM-SHA-256", &CLIENT.first());
    let server_first = challenge(exchange.keys(keys_of("pencil", Hash::Sha256), true));
    // A proof over `server_first` as it was, with `r=` of the last message shortened.
    let auth_message = [CLIENT.bare, &server_first, "c=biws,r=fyko+d2lbbFgONRv9qkxdawL"].join(",");
    let keys = keys_of("pencil", Hash::Sha256);
    let salted = Hash::Sha256.salted_password("pencil", &keys.salt, rounds(4096));
    let client_key = Hash::Sha256.hmac(&salted, b"Client Key");
    let signature = Hash::Sha256.hmac(&keys.stored_key, auth_message.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    assert!(keys.check_proof(auth_message.as_bytes(), &proof));
    let last = format!("c=biws,r=fyko+d2lbbFgONRv9qkxdawL,p={}", BASE64.encode(proof));
    assert_eq!(failure(exchange.respond(last.as_bytes())), SaslFailure::NotAuthorized);
}

#[test]
fn a_final_message_with_a_fault_of_form_is_malformed() {
    let edits: [fn(String) -> String; 6] = [
        |last| last.replace(",p=", ",m=x,p="),
        |last| last.replace("c=biws", "c=bi*s"),
        |last| last.replace(",p=", ",p=AAAA"),
        |last| last[..last.rfind(",p=").unwrap()].to_owned(),
        |last| format!("{last},x=y"),
        |_| String::new(),
    ];
    for edit in edits {
        let step = run("SCRAM-SHA-256", &CLIENT, keys_of("pencil", Hash::Sha256), true, edit);
        assert_eq!(failure(step), SaslFailure::MalformedRequest);
    }
}

#[test]
fn optional_extensions_are_ignored_but_signed() {
    let client = Client { bare: "n=user,r=fyko+d2lbbFgONRv9qkxdawL,x=y", ..CLIENT };
    let keys = || keys_of("pencil", Hash::Sha256);
    assert!(matches!(run("SCRAM-SHA-256", &client, keys(), true, |last| last), Step::Success { .. }));
    let step = run("SCRAM-SHA-256", &client, keys(), true, |last| last.replace(",p=", ",x=z,p="));
    assert_eq!(failure(step), SaslFailure::NotAuthorized);
}

#[test]
fn stored_rounds_are_told_to_the_client_whatever_they_are() {
    for iterations in [1, 10_000] {
        let keys = ScramKeys::derive(Hash::Sha256, rounds(iterations), b"0123456789abcdef", "pencil");
        assert!(matches!(run("SCRAM-SHA-256", &CLIENT, keys, true, |last| last), Step::Success { .. }));
    }
}

#[test]
fn an_unknown_user_and_a_wrong_password_look_the_same() {
    let fake = ScramKeys::fake(&[9; 32], "user", Hash::Sha256, 4096);
    let real = ScramKeys::derive(Hash::Sha256, rounds(4096), &fake.salt, "pencil");
    let client = Client { password: "pencils", ..CLIENT };
    let transcript = |keys: ScramKeys, known| {
        let (mut exchange, step) = begin(&offer(), "SCRAM-SHA-256", &client.first());
        let server_first = challenge(exchange.keys(keys, known));
        let last = exchange.respond(client.last(&server_first).0.as_bytes());
        format!("{step:?} {server_first} {last:?}")
    };
    let unknown = transcript(fake, false);
    assert_eq!(unknown, transcript(real, true));
    assert!(unknown.ends_with(r#"Failure { failure: NotAuthorized, username: Some("user") }"#), "{unknown}");
}

#[test]
fn nobody_gets_in_who_is_not_known_even_with_a_right_proof() {
    let step = run("SCRAM-SHA-256", &CLIENT, keys_of("pencil", Hash::Sha256), false, |last| last);
    assert_eq!(failure(step), SaslFailure::NotAuthorized);

    let (mut exchange, _) = begin(&offer(), "PLAIN", "\0user\0pencil");
    assert!(matches!(exchange.keys(keys_of("pencil", Hash::Sha1), false), Step::CheckPassword { .. }));
    assert_eq!(failure(exchange.password_checked(true)), SaslFailure::NotAuthorized);
}

#[test]
fn plain_checks_the_password_elsewhere() {
    for (password, right) in [("pencil", true), ("pencils", false)] {
        let (mut exchange, step) = begin(&offer(), "PLAIN", &format!("\0User\0{password}"));
        assert!(matches!(step, Step::FindKeys { username, hash: None } if username == "user"));
        let step = exchange.keys(keys_of("pencil", Hash::Sha512), true);
        assert!(!format!("{step:?} {exchange:?}").contains("pencil"));
        let Step::CheckPassword { keys, password } = step else { panic!() };
        assert_eq!(keys.check_password(&password), right);
        match exchange.password_checked(right) {
            Step::Success { identity, data: None } if right => {
                assert_eq!(identity, Identity::Account("user".to_owned()));
            }
            Step::Failure { failure: SaslFailure::NotAuthorized, username: Some(username) } if !right => {
                assert_eq!(username, "user");
            }
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn an_initial_response_may_come_after_an_empty_challenge() {
    let (mut exchange, step) = Exchange::start(&offer(), "PLAIN", None, SERVER_NONCE.to_owned());
    assert_eq!(challenge(step), "");
    assert_eq!(wanted_user(exchange.respond(b"\0user\0pencil")), "user");

    let (mut exchange, step) = Exchange::start(&offer(), "SCRAM-SHA-1", None, SERVER_NONCE.to_owned());
    assert_eq!(challenge(step), "");
    assert_eq!(wanted_user(exchange.respond(CLIENT.first().as_bytes())), "user");

    let (mut exchange, _) = Exchange::start(&offer(), "PLAIN", None, SERVER_NONCE.to_owned());
    assert_eq!(failure(exchange.respond(b"")), SaslFailure::MalformedRequest);
    assert_eq!(first_failure(&offer(), "PLAIN", ""), SaslFailure::MalformedRequest);
    assert_eq!(first_failure(&offer(), "SCRAM-SHA-1", ""), SaslFailure::MalformedRequest);
}

#[test]
fn anonymous_needs_no_trace_and_uses_none() {
    for initial in [None, Some(&b""[..]), Some(b"sirhc")] {
        let (_, step) = Exchange::start(&offer(), "ANONYMOUS", initial, SERVER_NONCE.to_owned());
        assert!(matches!(step, Step::Success { identity: Identity::Anonymous, data: None }), "{step:?}");
    }
    assert_eq!(first_failure(&offer(), "ANONYMOUS", &"x".repeat(256)), SaslFailure::MalformedRequest);
}

#[test]
fn a_mechanism_that_is_not_offered_is_invalid_or_too_weak() {
    let offer = Offer::new("example.com", ChannelBindings::default(), &[Hash::Sha256], false, false);
    for mechanism in ["ANONYMOUS", "SCRAM-SHA-256-PLUS", "scram-sha-256", "DIGEST-MD5", ""] {
        assert_eq!(first_failure(&offer, mechanism, "\0user\0pencil"), SaslFailure::InvalidMechanism, "{mechanism}");
    }
    for mechanism in ["PLAIN", "SCRAM-SHA-1"] {
        assert_eq!(first_failure(&offer, mechanism, "\0user\0pencil"), SaslFailure::MechanismTooWeak, "{mechanism}");
    }
}

#[test]
fn an_authorization_identity_is_the_accounts_own_address_or_nothing() {
    let plain = |authzid: &str| begin(&offer(), "PLAIN", &format!("{authzid}\0user\0pencil")).1;
    for own in ["", "user@example.com", "USER@Example.com"] {
        assert_eq!(wanted_user(plain(own)), "user");
    }
    for other in ["user", "root@example.com", "user@example.org", "user@example.com/home", "example.com", "@"] {
        let Step::Failure { failure, username } = plain(other) else { panic!("{other}") };
        assert_eq!((failure, username.as_deref()), (SaslFailure::InvalidAuthzid, Some("user")), "{other}");
    }
    let scram = |gs2_header: &str| begin(&offer(), "SCRAM-SHA-1", &[gs2_header, CLIENT.bare].concat()).1;
    assert_eq!(wanted_user(scram("n,a=User@example.com,")), "user");
    assert_eq!(failure(scram("n,a=root@example.com,")), SaslFailure::InvalidAuthzid);
    assert_eq!(failure(scram("n,a=user=,")), SaslFailure::MalformedRequest);
}

#[test]
fn a_username_is_prepared_and_may_be_the_address() {
    let user = |name: &str| wanted_user(begin(&offer(), "SCRAM-SHA-256", &format!("n,,n={name},r=nonce")).1);
    assert_eq!(user("Romeo"), "romeo");
    assert_eq!(user("romeo@Example.com"), "romeo");
    assert_eq!(user("a=3Db=2Cc"), "a=b,c");
    assert_eq!(user("cafe\u{301}"), "caf\u{e9}");
    assert_eq!(wanted_user(begin(&offer(), "PLAIN", "\0romeo@example.com\0secret").1), "romeo");

    for nobody in ["romeo@example.org", "a b", "@example.com", "romeo@example.com@example.com", "a/b"] {
        for (mechanism, initial) in
            [("SCRAM-SHA-256", format!("n,,n={nobody},r=nonce")), ("PLAIN", format!("\0{nobody}\0secret"))]
        {
            assert_eq!(first_failure(&offer(), mechanism, &initial), SaslFailure::NotAuthorized, "{nobody}");
        }
    }
    assert_eq!(first_failure(&offer(), "SCRAM-SHA-256", "n,,n=a=2cb,r=nonce"), SaslFailure::MalformedRequest);
    assert_eq!(first_failure(&offer(), "SCRAM-SHA-256", "n,,m=x,n=a,r=nonce"), SaslFailure::MalformedRequest);
}

#[test]
fn calls_out_of_turn_end_the_exchange() {
    let keys = || keys_of("pencil", Hash::Sha256);

    let (mut exchange, _) = begin(&offer(), "SCRAM-SHA-256", &CLIENT.first());
    assert_eq!(failure(exchange.respond(b"c=biws,r=x,p=AAEC")), SaslFailure::MalformedRequest);
    assert_eq!(failure(exchange.keys(keys(), true)), SaslFailure::TemporaryAuthFailure);

    let (mut exchange, _) = begin(&offer(), "SCRAM-SHA-256", &CLIENT.first());
    assert_eq!(failure(exchange.keys(keys_of("pencil", Hash::Sha1), true)), SaslFailure::TemporaryAuthFailure);

    let (mut exchange, _) = begin(&offer(), "SCRAM-SHA-256", &CLIENT.first());
    assert_eq!(failure(exchange.password_checked(true)), SaslFailure::TemporaryAuthFailure);

    let (mut exchange, _) = begin(&offer(), "ANONYMOUS", "");
    assert_eq!(failure(exchange.respond(b"")), SaslFailure::MalformedRequest);
}

#[test]
fn a_final_message_counts_once() {
    let (mut exchange, _) = begin(&offer(), "SCRAM-SHA-256", &CLIENT.first());
    let (last, _) = CLIENT.last(&challenge(exchange.keys(keys_of("pencil", Hash::Sha256), true)));
    assert!(matches!(exchange.respond(last.as_bytes()), Step::Success { .. }));
    assert_eq!(failure(exchange.respond(last.as_bytes())), SaslFailure::MalformedRequest);
}

/// Text near the grammar: its pieces in any order.
fn near_scram() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "n",
            "y",
            "p=tls-exporter",
            "p=",
            ",",
            ",,",
            "a=",
            "user@example.com",
            "n=user",
            "n=",
            "=2C",
            "=3D",
            "=",
            "r=",
            "nonce",
            "c=biws",
            ",p=",
            "AAEC",
            "m=x",
            "x=y",
            "\0",
            "é",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn hostile_messages_never_panic_and_never_get_in(
        mechanism in prop::sample::select(&Mechanism::ALL[..7]),
        first in prop_oneof![near_scram(), prop::collection::vec(any::<u8>(), 0..64), Just(CLIENT.first().into_bytes())],
        last in prop_oneof![near_scram(), prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        let (mut exchange, step) = Exchange::start(&offer(), mechanism.name(), Some(&first), SERVER_NONCE.to_owned());
        let step = match step {
            Step::FindKeys { username, hash } => {
                prop_assert!(!username.is_empty());
                let keys = ScramKeys::fake(&[1; 32], &username, hash.unwrap_or(Hash::Sha256), 4096);
                match exchange.keys(keys, true) {
                    Step::Challenge(_) => exchange.respond(&last),
                    Step::CheckPassword { keys, password } => exchange.password_checked(keys.check_password(&password)),
                    step => step,
                }
            }
            step => step,
        };
        let failed = matches!(step, Step::Failure { .. });
        prop_assert!(failed, "{step:?}");
    }

    #[test]
    fn what_a_first_message_says_adds_up_to_itself(message in near_scram()) {
        if let Some(first) = scram::ClientFirst::parse(&message) {
            let parts = [first.gs2_header, first.bare].concat();
            prop_assert_eq!(parts.as_bytes(), &message);
            prop_assert!(!first.username.is_empty());
        }
    }
}
