//! XEP-0480: SASL Upgrade Tasks
//!
//! An account that came from another server, or was made when fewer hashes were configured, lacks keys: its clients cannot use the
//! better mechanisms. A client that offers to do so gives what they are made of when it logs in. Who logs in with PLAIN is not asked:
//! the password is there, and the keys are made of it.

use magpie_proto::BareJid;
use magpie_proto::sasl::sasl2::Authenticate;
use magpie_proto::sasl::{Hash, ITERATIONS_MIN, Mechanism, ScramKeys, UpgradeTask, upgrade};
use tracing::{info, warn};

use super::{About, Module};
use crate::accounts::{Accounts, Proof};
use crate::server::{Deps, random_bytes};

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// The module.
pub struct SaslUpgrade {
    accounts: Accounts,
}

impl Module for SaslUpgrade {
    const ABOUT: &'static [About] = &[About {
        xep: Some(480),
        title: "SASL Upgrade Tasks",
        version: "0.2.0",
        host_features: &[],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self { accounts: deps.accounts.clone() }
    }
}

/// An account that has authenticated and whose client gives keys before it is told so.
pub struct Upgrade {
    /// The account.
    pub account: BareJid,
    /// What else the client wants.
    pub request: Box<Authenticate>,
    wanted: Vec<Hash>,
}

impl Upgrade {
    /// Of a client that has authenticated by this request.
    pub fn new(account: BareJid, request: Box<Authenticate>) -> Self {
        let by_scram = matches!(Mechanism::parse(&request.mechanism), Some(Mechanism::Scram { .. }));
        let wanted = if by_scram { upgrade::wanted(&request) } else { Vec::new() };
        Self { account, request, wanted }
    }
}

impl SaslUpgrade {
    /// The next keys that the client is to be asked for; `None` where the account has all that it would give.
    pub async fn next(&self, upgrade: &mut Upgrade) -> Option<UpgradeTask> {
        if upgrade.wanted.is_empty() {
            return None;
        }
        // Where the store does not answer, there will be a next login.
        let found = self.accounts.find(&upgrade.account).await.ok()??;
        let policy = self.accounts.policy();
        while let Some(hash) = upgrade.wanted.pop() {
            let configured = policy.hashes.iter().find(|(configured, _)| *configured == hash);
            if let (Some((_, iterations)), None) = (configured, found.get(hash)) {
                let iterations = (*iterations).max(ITERATIONS_MIN);
                return Some(UpgradeTask { hash, iterations, salt: random_bytes::<SALT_BYTES>().to_vec() });
            }
        }
        None
    }

    /// The client has given keys. They are on disk when this returns, if the account has the password still that it authenticated by.
    pub async fn given(&self, account: &BareJid, keys: ScramKeys, proof: &Proof) {
        let hash = keys.hash.name();
        match self.accounts.add_keys(account, vec![keys], proof).await {
            Ok(true) => info!(%account, hash, "keys added by the client"),
            Ok(false) => {}
            Err(error) => warn!(%account, hash, %error, "the account still lacks keys"),
        }
    }
}
