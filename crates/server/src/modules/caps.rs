//! XEP-0115: Entity Capabilities, XEP-0390: Entity Capabilities 2.0
//!
//! A host shows in its stream features hashes of what service discovery says of it, so that a client which knows one need not
//! ask. What clients put into their own presence passes through unchanged, and the server learns from it which events they want
//! (`NODE+notify`, XEP-0163 §4.3): it asks the first client that shows a hash, and believes the answer for the others if the hash is that of
//! the answer. Of the two kinds the newer one counts, where a client shows both (XEP-0390 §7.2).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use magpie_proto::xeps::caps::{Caps, NS};
use magpie_proto::xeps::caps2::{self, CapsHash};
use magpie_proto::xeps::disco::{Info, NS_INFO};
use magpie_proto::ns;
use magpie_proto::xml::{Attr, Element, Stanza};
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
    host: Mutex<Option<(Arc<Config>, Shown)>>,
    known: Mutex<HashMap<String, Arc<Interests>>>,
    /// Of sessions that want something, or were asked.
    sessions: RwLock<HashMap<SessionId, Seen>>,
}

/// What a session showed last.
struct Seen {
    shown: Shown,
    /// Of both kinds only the older one stands, since the client does not know its own hash of the newer.
    older: bool,
    wants: Arc<Interests>,
}

impl Seen {
    fn asked(&self) -> Shown {
        if self.older { Shown { hash: None, ..self.shown.clone() } } else { self.shown.clone() }
    }
}

/// Hashes of what somebody is; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    caps: Option<Caps>,
    /// Of several the first that can be verified.
    hash: Option<CapsHash>,
}

impl Shown {
    fn of(presence: &Stanza) -> Option<Self> {
        let caps = Caps::of(presence);
        let mut hashes = CapsHash::set_of(presence);
        let at = hashes.iter().position(CapsHash::is_verifiable).unwrap_or_default();
        let hash = (at < hashes.len()).then(|| hashes.swap_remove(at));
        (caps.is_some() || hash.is_some()).then_some(Self { caps, hash })
    }

    fn elements(&self) -> Vec<Element> {
        self.caps.iter().map(Caps::element).chain(self.hash.iter().map(CapsHash::element)).collect()
    }

    /// Whether one of the hashes is asked about at this node.
    pub fn stands_for(&self, node: &str) -> bool {
        self.caps.as_ref().is_some_and(|caps| caps.query_node() == node)
            || self.hash.as_ref().is_some_and(|hash| hash.query_node() == node)
    }

    /// The node to ask for what the one that counts stands for.
    fn query_node(&self) -> String {
        match (&self.hash, &self.caps) {
            (Some(hash), _) => hash.query_node(),
            (None, Some(caps)) => caps.query_node(),
            (None, None) => String::new(),
        }
    }

    fn question_id(&self) -> String {
        let value = self.hash.as_ref().map(CapsHash::value).or(self.caps.as_ref().map(|caps| caps.ver.as_str()));
        format!("{QUESTION}{}", value.unwrap_or_default())
    }

    /// Under what the one that counts is known; `None` for what proves nothing.
    fn key(&self) -> Option<String> {
        if let Some(hash) = &self.hash {
            return hash.is_verifiable().then(|| format!("2/{}/{}", hash.algo(), hash.value()));
        }
        let caps = self.caps.as_ref()?;
        let hash = caps.hash.as_deref()?;
        (hash == "sha-1" && caps.ver.len() <= 64).then(|| format!("{hash}/{}", caps.ver))
    }

    fn is_proved_by(&self, query: &Element, lang: Option<&str>, info: &Info) -> bool {
        match (&self.hash, &self.caps) {
            (Some(hash), _) => hash.is_proved_by(query, lang),
            (None, caps) => caps.as_ref().is_some_and(|caps| caps.is_proved_by(info)),
        }
    }
}

impl Module for Capabilities {
    const ABOUT: &'static [About] = &[About {
        xep: Some(115),
        title: "Entity Capabilities",
        version: "1.6.0",
        host_features: &[NS],
        account_features: &[],
    }, About {
        xep: Some(390),
        title: "Entity Capabilities 2.0",
        version: "0.3.2",
        host_features: &[caps2::NS],
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
        self.of_host().elements()
    }
}

impl Capabilities {
    /// The capabilities of a served domain; all of them are alike. Computed anew after a reload.
    pub fn of_host(&self) -> Shown {
        let config = self.config.load_full();
        let mut known = self.host.lock();
        match &*known {
            Some((of, shown)) if Arc::ptr_eq(of, &config) => shown.clone(),
            _ => {
                let info = disco::host_info(&config);
                let caps = Caps::describing(NODE, &info)
                    .expect("a host has one identity and one form, and each feature once");
                let hash = CapsHash::describing(&info.element()).expect("a host's form says which it is");
                let shown = Shown { caps: Some(caps), hash: Some(hash) };
                *known = Some((config, shown.clone()));
                shown
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
        let Some(shown) = Shown::of(presence) else { return };
        // The same as before is no news.
        if self.sessions.read().get(&session.id).is_some_and(|seen| seen.shown == shown) {
            return;
        }
        match self.known(&shown).await {
            Some(wants) => self.learned(server, session, Seen { shown, older: false, wants }),
            None => self.ask(session, Seen { shown, older: false, wants: Arc::default() }),
        }
    }

    /// A session that showed this before a restart is there again, and has all that it was to be told.
    pub async fn session_returns(&self, session: &SessionHandle, presence: &Stanza) {
        let Some(shown) = Shown::of(presence) else { return };
        match self.known(&shown).await {
            Some(wants) => drop(self.sessions.write().insert(session.id, Seen { shown, older: false, wants })),
            None => self.ask(session, Seen { shown, older: false, wants: Arc::default() }),
        }
    }

    fn ask(&self, session: &SessionHandle, seen: Seen) {
        let question = question(session, &seen.asked());
        self.sessions.write().insert(session.id, seen);
        session.send(question);
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
        let (asked, shown) = match self.sessions.read().get(&session.id) {
            Some(seen) => (seen.asked(), seen.shown.clone()),
            None => return,
        };
        if query.stanza.id().as_deref() != Some(&asked.question_id()) {
            return;
        }
        let answer = query.stanza.child("query", NS_INFO).map(|child| child.element());
        let Some((answer, info)) = answer.and_then(|answer| Info::parse(&answer).map(|info| (answer, info))) else {
            // A client that does not know its own hash of the newer kind is asked about the older one, too.
            if asked.hash.is_some() && asked.caps.is_some() {
                self.ask(session, Seen { shown, older: true, wants: Arc::default() });
            }
            return;
        };
        let wants = Arc::new(interests(&info));
        let lang = query.stanza.attr(Attr::Lang);
        // A hash of something else is this client's own affair, and stands for nobody else (XEP-0115 §5.4, XEP-0390 §7.2.1).
        if asked.is_proved_by(&answer, lang.as_deref(), &info) {
            self.remember(&asked, &wants);
        }
        self.learned(query.server, session, Seen { older: asked != shown, shown, wants });
    }

    fn learned(&self, server: &Arc<Server>, session: &Arc<SessionHandle>, seen: Seen) {
        let wants = Arc::clone(&seen.wants);
        self.sessions.write().insert(session.id, seen);
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

    async fn known(&self, shown: &Shown) -> Option<Arc<Interests>> {
        let key = shown.key()?;
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

    fn remember(&self, shown: &Shown, wants: &Arc<Interests>) {
        let Some(key) = shown.key() else { return };
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

/// XEP-0115 §6.2, XEP-0390 §5.5: what does your hash stand for?
fn question(session: &SessionHandle, shown: &Shown) -> Stanza {
    let query = Element::new("query", NS_INFO).with_attr("node", shown.query_node());
    let question = Element::new("iq", ns::CLIENT)
        .with_attr("from", session.jid.domain())
        .with_attr("to", &session.jid)
        .with_attr("type", "get")
        .with_attr("id", shown.question_id())
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
    #![allow(clippy::unwrap_used)]
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
        assert!(proved(&with(config.clone()).of_host(), &config));
        assert!(!proved(&with(Config::default()).of_host(), &config));
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
        assert!(proved(&capabilities.of_host(), &config));
    }

    /// By both kinds of hashes.
    fn proved(shown: &Shown, config: &Config) -> bool {
        let info = disco::host_info(config);
        [shown.clone(), Shown { hash: None, ..shown.clone() }].iter().all(|one| one.is_proved_by(&info.element(), None, &info))
    }

    fn caps(hash: Option<&str>, ver: &str) -> Shown {
        let caps = Caps { hash: hash.map(str::to_owned), node: "urn:n".into(), ver: ver.into() };
        Shown { caps: Some(caps), hash: None }
    }

    #[test]
    fn of_several_hashes_the_first_that_can_be_verified_counts_and_the_newer_kind_before_the_older() {
        let presence = "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:n' ver='v'/>\
                        <c xmlns='urn:xmpp:caps'><hash xmlns='urn:xmpp:hashes:2' algo='blake9'>YQ==</hash>\
                        <hash xmlns='urn:xmpp:hashes:2' algo='sha3-256'>YWJj</hash></c></presence>";
        let shown = Shown::of(&Stanza::parse(presence.as_bytes()).unwrap()).unwrap();
        assert_eq!(shown.query_node(), "urn:xmpp:caps#sha3-256.YWJj");
        assert_eq!(shown.key().as_deref(), Some("2/sha3-256/YWJj"));
        let older = Seen { shown, older: true, wants: Arc::default() }.asked();
        assert_eq!((older.query_node().as_str(), older.key().as_deref()), ("urn:n#v", Some("sha-1/v")));
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
