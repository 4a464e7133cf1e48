//! XEP-0227 §4.3: the keys of SCRAM, as they are stored.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use magpie_proto::sasl::{Credentials, Hash, ScramKeys};
use magpie_proto::{BareJid, Element};
use magpie_store::Store;

use super::{Exporting, Import, Importing, Part, Piece, whole};
use crate::accounts::{Accounts, StoredCredentials, owner};

const NS: &str = "urn:xmpp:pie:0#scram";

/// The keys of an account. They are written here and read apart, since they are what makes an account.
pub(super) struct Keys;

impl Part for Keys {
    fn name(&self) -> &'static str {
        "credentials"
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, _: Option<String>) -> Exporting<'a> {
        Box::pin(async {
            let stored = store.value::<StoredCredentials>("credentials").get(&owner(account)).await?;
            Ok(Piece::from(stored.map_or_else(Vec::new, |stored| scram_credentials(&stored.0))))
        })
    }

    fn import<'a>(&'a self, Import { element, .. }: Import<'a>) -> Option<Importing<'a>> {
        if element.is("scram-credentials", NS) { whole() } else { None }
    }
}

/// The mechanism that the keys are for, without channel binding.
fn mechanism(hash: Hash) -> String {
    format!("SCRAM-{}", hash.name().to_ascii_uppercase())
}

/// The namespace of what this server alone says of an account.
const NS_ACCOUNT: &str = "magpie:account";

/// Whether the element says that the account is disabled.
pub fn says_disabled(element: &Element) -> bool {
    element.is("disabled", NS_ACCOUNT)
}

/// Whether the account may be used, of which the document says nothing: other servers leave it out.
pub(super) struct Disabled;

impl Part for Disabled {
    fn name(&self) -> &'static str {
        "whether it is disabled"
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, _: Option<String>) -> Exporting<'a> {
        Box::pin(async {
            let since = store.value::<String>("disabled").get(&owner(account)).await?;
            Ok(Piece::from(since.iter().map(|_| Element::new("disabled", NS_ACCOUNT)).collect::<Vec<_>>()))
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        if !says_disabled(element) {
            return None;
        }
        Accounts::disable_in(store, account, batch);
        whole()
    }
}

/// The elements for these credentials.
pub fn scram_credentials(credentials: &Credentials) -> Vec<Element> {
    let text = |name: &str, text: String| Element::new(name, NS).with_text(text);
    let element = |keys: &ScramKeys| {
        Element::new("scram-credentials", NS)
            .with_attr("mechanism", mechanism(keys.hash))
            .with(text("iter-count", keys.iterations.to_string()))
            .with(text("salt", BASE64_STANDARD.encode(&keys.salt)))
            .with(text("server-key", BASE64_STANDARD.encode(&keys.server_key)))
            .with(text("stored-key", BASE64_STANDARD.encode(&keys.stored_key)))
    };
    credentials.keys.iter().map(element).collect()
}

/// The keys of an element; `None` where it is another one. The error says why it cannot be used.
pub fn credentials_of(element: &Element) -> Option<Result<ScramKeys, String>> {
    element.is("scram-credentials", NS).then(|| {
        let named = element.attr("mechanism").unwrap_or_default();
        let hash = Hash::ALL.into_iter().find(|hash| mechanism(*hash) == named);
        let hash = hash.ok_or_else(|| format!("keys for {named} cannot be used"))?;
        let text = |name: &str| element.child(name, NS).map(Element::text).unwrap_or_default();
        let decoded = |text: &[u8]| BASE64_STANDARD.decode(text).ok();
        let bytes = |name: &str| decoded(text(name).split_whitespace().collect::<String>().as_bytes());
        let broken = || format!("the keys for {named} are broken");
        let iterations = text("iter-count").trim().parse().map_err(|_| broken())?;
        let once = [bytes("salt"), bytes("stored-key"), bytes("server-key")];
        let [Some(salt), Some(stored), Some(server)] = &once else { return Err(broken()) };
        if let Some(keys) = ScramKeys::new(hash, iterations, salt, stored, server) {
            return Ok(keys);
        }
        // ejabberd 23 encodes all three twice.
        let [Some(salt), Some(stored), Some(server)] = [salt, stored, server].map(|once| decoded(once)) else {
            return Err(broken());
        };
        ScramKeys::new(hash, iterations, &salt, &stored, &server).ok_or_else(broken)
    })
}
