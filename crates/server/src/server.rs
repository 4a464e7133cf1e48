//! The server: its hosts, what they share, and how it starts, reloads and stops.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use magpie_proto::BareJid;
use magpie_store::Store;

use crate::accounts::Accounts;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::modules::Modules;
use crate::registry::Registry;
use crate::requests::Requests;

/// What a module may keep from the start.
#[derive(Clone)]
pub struct Deps {
    /// The store.
    pub store: Store,
    /// The accounts.
    pub accounts: Accounts,
    /// The configuration, as last loaded.
    pub config: Arc<ArcSwap<Config>>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Everything that sessions share.
pub struct Server {
    /// The parts that modules have too.
    pub deps: Deps,
    /// The modules.
    pub modules: Modules,
    /// Who owns which request.
    pub requests: Requests,
}

impl Server {
    /// The configuration in force.
    pub fn config(&self) -> arc_swap::Guard<Arc<Config>> {
        self.deps.config.load()
    }

    /// Who is connected.
    pub fn registry(&self) -> &Registry {
        &self.deps.registry
    }

    /// Whether the domain is served here.
    pub fn serves(&self, domain: &str) -> bool {
        self.config().domains.iter().any(|served| served == domain)
    }

    /// Whether the account may administer the server.
    pub fn is_admin(&self, account: &BareJid) -> bool {
        self.config().admins.iter().any(|admin| admin == account.as_str())
    }
}

/// Seconds and milliseconds since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Fresh randomness as printable text: `bytes` of it.
pub fn random_text(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    SystemRandom::new().fill(&mut random).expect("the system's random source does not fail once it is seeded");
    BASE64_URL_SAFE_NO_PAD.encode(random)
}
