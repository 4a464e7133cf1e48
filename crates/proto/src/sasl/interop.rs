//! The exchange against the client of another implementation.

#![allow(clippy::unwrap_used)]

use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::mechanisms;
use rsasl::prelude::{
    ChannelBindingCallback, Mechanism, Mechname, Registry, SASLClient, SASLConfig, Session, SessionError, State,
};
use rsasl::property::{AuthId, OverrideCBType, Password};

use super::Mechanism as Offered;
use super::{ChannelBindings, Credentials, Exchange, Hash, Identity, Offer, SaslFailure, ScramPolicy, Step};

const NONCE: &str = "9IZ2O01zb9IgiIZ1WJ/zgpJB";
const EXPORTER: [u8; 32] = [0x2c; 32];
const END_POINT: [u8; 48] = [0x0a; 48];

struct User {
    name: &'static str,
    password: &'static str,
    binding: Option<&'static str>,
}

impl SessionCallback for User {
    fn callback(&self, _: &SessionData, _: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        request.satisfy::<AuthId>(self.name)?.satisfy::<Password>(self.password.as_bytes())?;
        if let Some(binding) = self.binding {
            request.satisfy::<OverrideCBType>(binding)?;
        }
        Ok(())
    }

    fn enable_channel_binding(&self) -> bool {
        self.binding.is_some()
    }
}

/// Its default list lacks the -PLUS mechanisms.
static MECHANISMS: &[Mechanism] = &[
    mechanisms::scram::SCRAM_SHA1,
    mechanisms::scram::SCRAM_SHA1_PLUS,
    mechanisms::scram::SCRAM_SHA256,
    mechanisms::scram::SCRAM_SHA256_PLUS,
    mechanisms::scram::SCRAM_SHA512,
    mechanisms::scram::SCRAM_SHA512_PLUS,
    mechanisms::plain::PLAIN,
    mechanisms::anonymous::ANONYMOUS,
];

/// The client's end of the TLS connection.
struct Connection;

impl ChannelBindingCallback for Connection {
    fn get_cb_data(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => Some(&EXPORTER),
            "tls-server-end-point" => Some(&END_POINT),
            _ => None,
        }
    }
}

struct Client(Session<rsasl::validate::NoValidation, Connection>);

impl Client {
    fn new(mechanism: Offered, user: User) -> Self {
        let config =
            SASLConfig::builder().with_registry(Registry::with_mechanisms(MECHANISMS)).with_callback(user).unwrap();
        let name = Mechname::parse(mechanism.name().as_bytes()).unwrap();
        Self(SASLClient::with_cb(config, Connection).start_suggested(&[name]).unwrap())
    }

    /// What it says to `input`, and whether it is content.
    fn step(&mut self, input: Option<&[u8]>) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let state = self.0.step(input, &mut out).unwrap();
        (out, matches!(state, State::Finished(_)))
    }
}

fn offer() -> Offer {
    let bindings = ChannelBindings { tls_exporter: Some(EXPORTER), tls_server_end_point: Some(END_POINT.to_vec()) };
    Offer::new("example.com", bindings, &Hash::ALL, true, true)
}

/// The last step of a login of `user` whose password is `pencil`, with the client kept for its judgement.
fn log_in(mechanism: Offered, user: User) -> (Step, Client) {
    let credentials = Credentials::derive("pencil", &ScramPolicy::default(), || *b"0123456789abcdef").unwrap();
    let mut client = Client::new(mechanism, user);
    let (initial, _) = client.step(None);
    let (mut exchange, mut step) = Exchange::start(&offer(), mechanism.name(), Some(&initial), NONCE.to_owned());
    loop {
        step = match step {
            Step::FindKeys { hash, .. } => {
                exchange.keys(credentials.get(hash.unwrap_or(Hash::Sha1)).unwrap().clone(), true)
            }
            Step::CheckPassword { keys, password } => exchange.password_checked(keys.check_password(&password)),
            Step::Challenge(data) => exchange.respond(&client.step(Some(&data)).0),
            last => return (last, client),
        };
    }
}

#[test]
fn rsasl_logs_in_with_every_scram_and_accepts_our_signature() {
    for mechanism in Offered::ALL {
        let Offered::Scram { plus, .. } = mechanism else { continue };
        let bindings: &[_] = if plus { &[Some("tls-exporter"), Some("tls-server-end-point")] } else { &[None] };
        for &binding in bindings {
            let (step, mut client) = log_in(mechanism, User { name: "user", password: "pencil", binding });
            let Step::Success { identity, data } = step else { panic!("{mechanism:?}: {step:?}") };
            assert_eq!(identity, Identity::Account("user".to_owned()));
            let (_, content) = client.step(Some(&data.unwrap()));
            assert!(content, "{mechanism:?}");

            let (step, _) = log_in(mechanism, User { name: "user", password: "pencils", binding });
            assert!(
                matches!(step, Step::Failure { failure: SaslFailure::NotAuthorized, .. }),
                "{mechanism:?}: {step:?}"
            );
        }
    }
}

#[test]
fn rsasl_escapes_a_username_as_we_read_it() {
    let mechanism = Offered::Scram { hash: Hash::Sha256, plus: false };
    let (step, _) = log_in(mechanism, User { name: "a=b,c", password: "pencil", binding: None });
    assert!(matches!(step, Step::Success { identity: Identity::Account(name), .. } if name == "a=b,c"));
}

#[test]
fn rsasl_logs_in_with_plain() {
    let (step, _) = log_in(Offered::Plain, User { name: "user", password: "pencil", binding: None });
    assert!(matches!(step, Step::Success { identity: Identity::Account(name), data: None } if name == "user"));
    let (step, _) = log_in(Offered::Plain, User { name: "user", password: "pencils", binding: None });
    assert!(matches!(step, Step::Failure { failure: SaslFailure::NotAuthorized, .. }), "{step:?}");
}

#[test]
fn rsasl_logs_in_with_anonymous() {
    let (step, _) = log_in(Offered::Anonymous, User { name: "sirhc", password: "", binding: None });
    assert!(matches!(step, Step::Success { identity: Identity::Anonymous, data: None }), "{step:?}");
}
