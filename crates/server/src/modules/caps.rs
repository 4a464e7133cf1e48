//! XEP-0115: Entity Capabilities
//!
//! A host shows in its stream features a hash of what service discovery says of it, so that a client which knows the hash need not
//! ask. What clients put into their own presence passes through unchanged, and the server learns from it which events they want
//! (`NODE+notify`, XEP-0163 §4.3): it asks the first client that shows a hash, and believes the answer for the others if the hash is that of
//! the answer.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use magpie_proto::xeps::caps::{Caps, NS};
use magpie_proto::xeps::disco::{Info, NS_INFO};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::ns;
use magpie_store::{Batch, Store, Value};
use parking_lot::{Mutex, RwLock};

use super::pubsub::Interests;
use super::{About, Module, disco};
use crate::config::Config;
use crate::registry::{SessionHandle, SessionId};
use crate::requests::Query;
use crate::server::{Deps, Server};

/// Names the software (§4).
const NODE: &str = "urn:magpie";

/// With what the ids of questions to clients begin.
const QUESTION: &str = "caps:";

/// Hashes that are known at the same time; with one more all are looked up anew.
const KNOWN_MAX: usize = 4096;

/// Hashes that are kept in the store.
const KEPT_MAX: u64 = 16_384;

/// Nodes that one client may want; a client that names more is taken to want none.
const INTERESTS_MAX: usize = 256;

/// With what the owners of stored hashes begin: no account's does.
const OWNER: &str = "caps//";

/// The module.
pub struct Capabilities {
    config: Arc<ArcSwap<Config>>,
    store: Store,
    /// By hash, what those want who show it: names of nodes, a line each.
    kept: Value<String>,
    /// What was hashed last, and for which configuration.
    host: Mutex<Option<(Arc<Config>, Caps)>>,
    known: Mutex<HashMap<String, Arc<Interests>>>,
    /// Of sessions that want something, or were asked.
    sessions: RwLock<HashMap<SessionId, Seen>>,
}

/// What a session showed last.
struct Seen {
    caps: Caps,
    wants: Arc<Interests>,
}

impl Module for Capabilities {
    const ABOUT: &'static [About] = &[About {
        xep: Some(115),
        title: "Entity Capabilities",
        version: "1.6.0",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self {
            config: Arc::clone(&deps.config),
            store: deps.store.clone(),
            kept: deps.store.value("caps"),
            host: Mutex::default(),
            known: Mutex::default(),
            sessions: RwLock::default(),
        }
    }

    fn stream_features(&self, _domain: &str) -> Vec<Element> {
        vec![self.of_host().element()]
    }
}

impl Capabilities {
    /// The capabilities of a served domain; all of them are alike. Computed anew after a reload.
    pub fn of_host(&self) -> Caps {
        let config = self.config.load_full();
        let mut known = self.host.lock();
        match &*known {
            Some((of, caps)) if Arc::ptr_eq(of, &config) => caps.clone(),
            _ => {
                let caps = Caps::describing(NODE, &disco::host_info(&config))
                    .expect("a host has one identity and one form, and each feature once");
                *known = Some((config, caps.clone()));
                caps
            }
        }
    }

    /// Whether the session wants to be notified of what is published at the node.
    pub fn wants(&self, session: SessionId, node: &str) -> bool {
        self.sessions.read().get(&session).is_some_and(|seen| seen.wants.contains(node))
    }

    /// The nodes of which the session wants to be notified. `None`: none.
    pub fn interests(&self, session: SessionId) -> Option<Arc<Interests>> {
        let seen = self.sessions.read();
        seen.get(&session).map(|seen| Arc::clone(&seen.wants)).filter(|wants| !wants.is_empty())
    }

    /// A session shows presence to all. One that shows no capabilities costs nothing here.
    pub async fn session_shows(&self, server: &Arc<Server>, session: &Arc<SessionHandle>, presence: &Stanza) {
        let Some(caps) = Caps::of(presence) else { return };
        // The same as before is no news.
        if self.sessions.read().get(&session.id).is_some_and(|seen| seen.caps == caps) {
            return;
        }
        match self.known(&caps).await {
            Some(wants) => self.learned(server, session, caps, wants),
            None => {
                let question = question(session, &caps);
                self.sessions.write().insert(session.id, Seen { caps, wants: Arc::default() });
                session.send(question);
            }
        }
    }

    /// A session that showed this before a restart is there again, and has all that it was to be told.
    pub async fn session_returns(&self, session: &SessionHandle, presence: &Stanza) {
        let Some(caps) = Caps::of(presence) else { return };
        let wants = match self.known(&caps).await {
            Some(wants) => wants,
            None => {
                session.send(question(session, &caps));
                Arc::default()
            }
        };
        self.sessions.write().insert(session.id, Seen { caps, wants });
    }

    /// A session is over, or not available any more.
    pub fn session_ended(&self, session: SessionId) {
        if !self.sessions.read().contains_key(&session) {
            return;
        }
        let mut sessions = self.sessions.write();
        sessions.remove(&session);
        if sessions.len() < sessions.capacity() / 8 {
            let room = 2 * sessions.len();
            sessions.shrink_to(room);
        }
    }

    /// A client answers something that the server asked, perhaps this.
    pub fn hear_answer(&self, query: &Query<'_>) {
        let Some(session) = query.session.filter(|_| query.stanza.id().is_some_and(|id| id.starts_with(QUESTION))) else { return };
        let Some(info) = query.stanza.child("query", NS_INFO).and_then(|child| Info::parse(&child.element())) else { return };
        let asked = self.sessions.read().get(&session.id).map(|seen| seen.caps.clone());
        let Some(caps) = asked.filter(|caps| query.stanza.id().as_deref() == Some(&question_id(caps))) else { return };
        let wants = Arc::new(interests(&info));
        // A hash of something else is this client's own affair, and stands for nobody else (§5.4).
        if caps.is_proved_by(&info) {
            self.remember(&caps, &wants);
        }
        self.learned(query.server, session, caps, wants);
    }

    fn learned(&self, server: &Arc<Server>, session: &Arc<SessionHandle>, caps: Caps, wants: Arc<Interests>) {
        self.sessions.write().insert(session.id, Seen { caps, wants: Arc::clone(&wants) });
        // A session that ended meanwhile is told of no end any more.
        if server.registry().with_resource(session, |_| ()).is_none() {
            return self.session_ended(session.id);
        }
        self.greet(server, session, wants);
    }

    fn greet(&self, server: &Arc<Server>, session: &Arc<SessionHandle>, wants: Arc<Interests>) {
        if wants.is_empty() {
            return;
        }
        let (server, session) = (Arc::clone(server), Arc::clone(session));
        tokio::spawn(async move { server.modules.pubsub.greet(&server, &session, &wants).await });
    }

    async fn known(&self, caps: &Caps) -> Option<Arc<Interests>> {
        let key = key(caps)?;
        if let Some(known) = self.known.lock().get(&key) {
            return Some(Arc::clone(known));
        }
        // What the store does not say the client is asked.
        let kept = self.kept.get(&format!("{OWNER}{key}")).await.ok()??;
        let wants: Arc<Interests> = Arc::new(kept.lines().map(Into::into).collect());
        self.know(key, Arc::clone(&wants));
        Some(wants)
    }

    fn know(&self, key: String, wants: Arc<Interests>) {
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key, wants);
    }

    fn remember(&self, caps: &Caps, wants: &Arc<Interests>) {
        let Some(key) = key(caps) else { return };
        let lines: Vec<&str> = wants.iter().map(|node| &**node).collect();
        let (store, kept) = (self.store.clone(), self.kept.clone());
        let (owner, lines) = (format!("{OWNER}{key}"), lines.join("\n"));
        self.know(key, Arc::clone(wants));
        tokio::spawn(async move {
            if kept.count(OWNER).await.is_ok_and(|count| count < KEPT_MAX) {
                let mut batch = Batch::new();
                kept.put(&mut batch, &owner, &lines);
                // Only a question more if it is not kept.
                let _ = store.commit(batch).await;
            }
        });
    }
}

/// Under what a hash is known; `None` for what proves nothing.
fn key(caps: &Caps) -> Option<String> {
    let hash = caps.hash.as_deref()?;
    (hash == "sha-1" && caps.ver.len() <= 64).then(|| format!("{hash}/{}", caps.ver))
}

fn question_id(caps: &Caps) -> String {
    format!("{QUESTION}{}", caps.ver)
}

/// §6.2: what does your hash stand for?
fn question(session: &SessionHandle, caps: &Caps) -> Stanza {
    let query = Element::new("query", NS_INFO).with_attr("node", caps.query_node());
    let question = Element::new("iq", ns::CLIENT)
        .with_attr("from", session.jid.domain())
        .with_attr("to", &session.jid)
        .with_attr("type", "get")
        .with_attr("id", question_id(caps))
        .with(query);
    Stanza::new(&question)
}

/// The names of the nodes that stand in an answer.
fn interests(info: &Info) -> Interests {
    let wanted = info.features.iter().filter_map(|feature| feature.strip_suffix("+notify"));
    let wanted: Interests = wanted.filter(|node| !node.is_empty() && !node.contains('\n')).map(Into::into).collect();
    if wanted.len() > INTERESTS_MAX { Interests::new() } else { wanted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Contact;

    fn with(config: Config) -> Capabilities {
        let store = Store::memory();
        Capabilities {
            config: Arc::new(ArcSwap::from_pointee(config)),
            kept: store.value("caps"),
            store,
            host: Mutex::default(),
            known: Mutex::default(),
            sessions: RwLock::default(),
        }
    }

    #[test]
    fn the_hash_is_proved_by_what_service_discovery_answers() {
        let contact = Contact { admin: vec!["xmpp:admin@example.org".into()], ..Contact::default() };
        let config = Config { contact, ..Config::default() };
        assert!(with(config.clone()).of_host().is_proved_by(&disco::host_info(&config)));
        assert!(!with(Config::default()).of_host().is_proved_by(&disco::host_info(&config)));
    }

    #[test]
    fn a_reload_that_changes_the_answer_changes_the_hash() {
        let capabilities = with(Config::default());
        let before = capabilities.of_host();
        assert_eq!(capabilities.of_host(), before);
        let contact = Contact { abuse: vec!["mailto:abuse@example.org".into()], ..Contact::default() };
        let config = Config { contact, ..Config::default() };
        capabilities.config.store(Arc::new(config.clone()));
        assert_ne!(capabilities.of_host(), before);
        assert!(capabilities.of_host().is_proved_by(&disco::host_info(&config)));
    }

    fn caps(hash: Option<&str>, ver: &str) -> Caps {
        Caps { hash: hash.map(str::to_owned), node: "urn:n".into(), ver: ver.into() }
    }

    #[tokio::test]
    async fn a_hash_that_was_proved_is_known_again_from_the_store_and_one_that_proves_nothing_is_not() {
        let capabilities = with(Config::default());
        let wants: Arc<Interests> = Arc::new(["urn:a".into(), "urn:b".into()].into());
        capabilities.remember(&caps(Some("sha-1"), "v"), &wants);
        capabilities.remember(&caps(None, "v"), &wants);
        tokio::task::yield_now().await;
        capabilities.known.lock().clear();
        assert_eq!(capabilities.known(&caps(Some("sha-1"), "v")).await, Some(wants));
        assert_eq!(capabilities.known(&caps(None, "v")).await, None);
        assert_eq!(capabilities.known(&caps(Some("md5"), "v")).await, None);
    }

    #[test]
    fn what_a_client_wants_stands_in_its_features_and_one_that_wants_too_much_wants_nothing() {
        let info = |features: Vec<String>| Info { features, ..Info::default() };
        let some = info(vec!["urn:a+notify".into(), "urn:b".into(), "+notify".into()]);
        assert_eq!(interests(&some), Interests::from(["urn:a".into()]));
        assert!(interests(&info((0..=INTERESTS_MAX).map(|n| format!("urn:{n}+notify")).collect())).is_empty());
    }
}
