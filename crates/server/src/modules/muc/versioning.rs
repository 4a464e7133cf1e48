//! XEP-0463: MUC Affiliations Versioning
//!
//! Every change of an affiliation gives a room's lists another version. A client that says which version it knows is told, before
//! anything else, what has changed since; one that knows none, or one that the room does not, is told all that it might ask for.
//! Nobody can make a version up, so that who was not there learns nothing of what was.

use std::collections::VecDeque;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use hashbrown::HashSet;
use magpie_proto::error::ErrorType;
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::muc::{self, Affiliation, Item};
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{BareJid, StanzaCondition, StanzaError, ns};
use magpie_store::Record;

use super::occupants::{Occupant, Seat};
use super::room::{Change, Outside, Room};

/// The namespace, and the feature.
pub const NS: &str = "urn:xmpp:muc:affiliations:1";

/// Changes of which a room knows. Who knows an older version is told all.
pub const CHANGES_MAX: usize = 1000;

/// Affiliations in one message.
const TOLD_AT_ONCE: usize = 200;

/// Bytes of a version.
const VERSION_BYTES: usize = 9;

/// A change of an affiliation, by the version that it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    version: Box<str>,
    /// Whose it was, and what it was before. `None`: what one may know of the lists has changed.
    of: Option<(BareJid, Affiliation)>,
}

impl Record for Turn {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut turn = Element::new("turn", ns::CLIENT).with_attr("version", &*self.version);
        if let Some((account, before)) = &self.of {
            turn.set_attr("jid", account);
            turn.set_attr("before", before.name());
        }
        turn.write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let turn = Element::parse(bytes, ns::CLIENT).ok()?;
        let of = match turn.attr("jid") {
            None => None,
            Some(jid) => Some((BareJid::parse(jid).ok()?, Affiliation::parse(turn.attr("before")?)?)),
        };
        Some(Self { version: turn.attr("version")?.into(), of })
    }
}

/// The versions of a room's affiliations: the last changes, and with which number they begin.
#[derive(Debug, Default)]
pub struct Versions {
    turns: VecDeque<Turn>,
    /// How many changes there were before these.
    forgotten: u64,
    /// What somebody who knew nothing was told last, and who may know as much is told as well.
    told: Option<Box<Told>>,
}

#[derive(Debug)]
struct Told {
    seen: Seen,
    messages: Vec<Stanza>,
}

/// Which affiliations somebody may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen([bool; Affiliation::ALL.len()]);

impl Seen {
    /// An affiliation as it is told: one that is not to be known is none.
    fn as_told(self, affiliation: Affiliation) -> Affiliation {
        if self.0[affiliation as usize] { affiliation } else { Affiliation::None }
    }
}

impl Versions {
    /// From the store: a change with its number, in their order.
    pub fn restore(&mut self, number: u64, turn: Turn) {
        if self.turns.is_empty() {
            self.forgotten = number.saturating_sub(1);
        }
        self.turns.push_back(turn);
    }

    /// The numbers of the changes that are known.
    pub fn numbers(&self) -> std::ops::RangeInclusive<u64> {
        self.forgotten + 1..=self.forgotten + self.turns.len() as u64
    }

    /// A change by its number.
    pub fn turn(&self, number: u64) -> Option<&Turn> {
        let index = number.checked_sub(self.forgotten + 1)?;
        self.turns.get(usize::try_from(index).ok()?)
    }

    /// The changes since a version, if it is known.
    fn since(&self, version: &str, first: &str) -> Option<impl Iterator<Item = &Turn>> {
        let index = match self.forgotten == 0 && version == first {
            true => 0,
            false => self.turns.iter().rposition(|turn| *turn.version == *version)? + 1,
        };
        Some(self.turns.range(index..))
    }
}

fn mav(since: Option<&str>, until: &str) -> Element {
    let mut mav = Element::new("mav", NS);
    if let Some(since) = since {
        mav.set_attr("since", since);
    }
    mav.with_attr("until", until)
}

impl Room {
    /// The version of before the first change.
    fn first_version(&self) -> Box<str> {
        made(&self.secret, 0, DateTime::from_unix_millis(0), None)
    }

    /// The version of the affiliations.
    fn version(&self) -> Box<str> {
        self.versions.turns.back().map_or_else(|| self.first_version(), |turn| turn.version.clone())
    }

    /// The same, for who enters.
    pub(super) fn stated_version(&self) -> Element {
        mav(None, &self.version())
    }

    /// The affiliations have another version, because that of an account changed, or what one may know of them. Gives the step from the
    /// one to the other, for those who are told.
    pub(super) fn turn_version(&mut self, of: Option<(&BareJid, Affiliation)>, out: &mut impl Outside) -> Element {
        let before = self.version();
        let number = self.versions.numbers().end() + 1;
        let version = made(&self.secret, number, out.now(), of.map(|(account, _)| account));
        let step = mav(Some(&before), &version);
        self.versions.turns.push_back(Turn { version, of: of.map(|(account, before)| (account.clone(), before)) });
        if self.versions.turns.len() > CHANGES_MAX {
            self.versions.turns.pop_front();
            self.versions.forgotten += 1;
        }
        self.versions.told = None;
        out.change(Change::Version(number));
        step
    }

    /// Who enters and asks for it is told of the affiliations, before it is told of anybody. `entrance`: the presence that asks.
    pub(super) fn tell_affiliations(&mut self, seat: &Seat, nick: &str, entrance: &Stanza, out: &mut impl Outside) {
        let Some(x) = entrance.child("x", muc::NS).map(|x| x.element()) else { return };
        let Some(asked) = x.child("mav", NS) else { return };
        let Some(occupant) = self.occupants.named(nick) else { return };
        let mut seen = Seen::default();
        for wanted in Affiliation::ALL {
            seen.0[*wanted as usize] = self.may_list(occupant.affiliation, occupant.role, *wanted);
        }
        if seen == Seen::default() {
            return out.send(seat, &self.refused(entrance));
        }
        let Some(known) = asked.attr("since") else { return self.tell_all(seat, seen, out) };
        if known == &*self.version() {
            return;
        }
        match self.changed_since(known, occupant, seen) {
            Some(items) => self.told(Some(known), items).iter().for_each(|message| out.send(seat, message)),
            None => self.tell_all(seat, seen, out),
        }
    }

    fn refused(&self, entrance: &Stanza) -> Stanza {
        let error = StanzaError::new(StanzaCondition::Forbidden, "you may not know who is what in this room");
        let error = error.with_type(ErrorType::Auth).element().with_attr("by", &self.address);
        let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address).with_attr("type", "error");
        Stanza::new(&message.with(error)).with(Attr::Id, entrance.id().as_deref())
    }

    /// What has changed since a version. `None`: it is not known, or who asks could not see as much then as it does now.
    fn changed_since(&self, known: &str, occupant: &Occupant, seen: Seen) -> Option<Vec<Item>> {
        let mut done = HashSet::new();
        let mut items = Vec::new();
        for turn in self.versions.since(known, &self.first_version())? {
            let (account, before) = turn.of.as_ref()?;
            if *account == occupant.account {
                return None;
            }
            if done.insert(account) {
                let now = seen.as_told(self.affiliation(account));
                // What was never to be seen has not changed.
                if now != Affiliation::None || seen.as_told(*before) != Affiliation::None {
                    items.push(item(account, now));
                }
            }
        }
        // There is no empty answer: where nothing of it may be told, what is told is not new.
        if items.is_empty() {
            items.push(item(&occupant.account, occupant.affiliation));
        }
        Some(items)
    }

    fn tell_all(&mut self, seat: &Seat, seen: Seen, out: &mut impl Outside) {
        if self.versions.told.as_ref().is_none_or(|told| told.seen != seen) {
            let told = self.standings.iter().map(|(account, standing)| (account, seen.as_told(standing.affiliation)));
            let mut told: Vec<_> = told.filter(|(_, affiliation)| *affiliation != Affiliation::None).collect();
            told.sort_unstable_by_key(|(account, _)| *account);
            let messages = self.told(None, told.into_iter().map(|(account, now)| item(account, now)).collect());
            self.versions.told = Some(Box::new(Told { seen, messages }));
        }
        let told = self.versions.told.iter().flat_map(|told| &told.messages);
        told.for_each(|message| out.send_kept(seat, message));
    }

    /// As many messages as it takes, each going on from where the one before it ends. Who knows only some of them knows a version that is
    /// none, and is told all again.
    fn told(&self, since: Option<&str>, items: Vec<Item>) -> Vec<Stanza> {
        let last = self.version();
        let parts = items.len().div_ceil(TOLD_AT_ONCE).max(1);
        let mut since = since.map(str::to_owned);
        let mut messages = Vec::with_capacity(parts);
        for part in 1..=parts {
            let until = if part == parts { last.to_string() } else { format!("{last}.{part}") };
            let items = items.iter().skip((part - 1) * TOLD_AT_ONCE).take(TOLD_AT_ONCE);
            let x = Element::new("x", muc::NS_USER).with(mav(since.as_deref(), &until));
            let x = x.with_all(items.map(|item| item.element(muc::NS_USER)));
            let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address).with(x);
            messages.push(Stanza::new(&message));
            since = Some(until);
        }
        messages
    }
}

fn item(account: &BareJid, affiliation: Affiliation) -> Item {
    Item { affiliation: Some(affiliation), jid: Some(account.clone().into()), ..Item::default() }
}

/// A version, that nobody but the room can make. It is another one where a change was lost and another came in its place.
fn made(secret: &[u8; 16], number: u64, now: DateTime, account: Option<&BareJid>) -> Box<str> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let of = format!("affiliations {number} {} {}", now.unix_millis(), account.map_or("", BareJid::as_str));
    let version = aws_lc_rs::hmac::sign(&key, of.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&version.as_ref()[..VERSION_BYTES]).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::{RoomConfig, Roles, Whois};

    use super::super::room::Standing;
    use super::super::tests::{Scene, bare, stanza};
    use super::*;

    fn open() -> Scene {
        Scene::new(RoomConfig { whois: Whois::Anyone, ..RoomConfig::default() })
    }

    impl Scene {
        fn is(&mut self, who: &str, affiliation: &str) {
            self.admin("crone", &format!("<item jid='{who}@shakespeare.example' affiliation='{affiliation}'/>")).unwrap();
        }

        /// Enters with a version, or none, and gives the messages by which it is told: `since>until hag=member …`, and what came after.
        fn asks(&mut self, who: &str, since: Option<&str>) -> Vec<String> {
            let since = since.map_or_else(String::new, |since| format!(" since='{since}'"));
            let xml = format!("<presence id='e1'><x xmlns='{}'><mav xmlns='{NS}'{since}/></x></presence>", muc::NS);
            self.written.sent.clear();
            self.presence(who, who, &xml).unwrap();
            let sent = std::mem::take(&mut self.written.sent);
            let own = sent.iter().filter(|(to, _)| to == who).map(|(_, stanza)| stanza);
            own.take_while(|stanza| stanza.name() == "message").map(summary).collect()
        }
    }

    fn summary(message: &Stanza) -> String {
        if message.type_().as_deref() == Some("error") {
            let error = message.children().find(|child| child.name == "error").unwrap().element();
            return format!("error {} {}", message.id().unwrap(), error.children().next().unwrap().name());
        }
        let x = message.child("x", muc::NS_USER).unwrap().element();
        let mav = x.child("mav", NS).unwrap();
        let items = x.children().filter(|child| child.name() == "item").map(|item| {
            let local = item.attr("jid").unwrap().split('@').next().unwrap().to_owned();
            format!(" {local}={}", item.attr("affiliation").unwrap())
        });
        format!("{}>{}{}", mav.attr("since").unwrap_or("-"), mav.attr("until").unwrap(), items.collect::<String>())
    }

    /// A room in which hag is a member, and what hag knows after it has entered and left.
    fn known() -> (Scene, String) {
        let mut scene = open();
        scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        scene.enters("crone", "crone").unwrap();
        assert_eq!(scene.asks("hag", None), [format!("->{} crone=owner hag=member", scene.room.version())]);
        scene.presence("hag", "hag", "<presence type='unavailable'/>").unwrap();
        let known = scene.room.version().to_string();
        (scene, known)
    }

    #[test]
    fn who_knows_a_version_is_told_what_has_changed_since_and_nothing_where_nothing_has() {
        let (mut scene, known) = known();
        assert!(scene.asks("hag", Some(&known)).is_empty());
        scene.is("macbeth", "member");
        scene.is("hecate", "member");
        scene.is("macbeth", "none");
        scene.is("second", "admin");
        let until = scene.room.version();
        assert_ne!(*until, *known);
        // Who came and went in between is nothing, as before.
        let since = format!("{known}>{until} hecate=member second=admin");
        assert_eq!(scene.asks("hag", Some(&known)), [since]);
    }

    #[test]
    fn who_knows_a_version_that_the_room_does_not_is_told_all() {
        let (mut scene, known) = known();
        let first = scene.room.version().to_string();
        for since in ["", "forged", &format!("{first}.1")] {
            assert!(scene.asks("hag", Some(since))[0].starts_with("->"), "{since}");
        }
        (0..CHANGES_MAX).for_each(|n| scene.is(&format!("w{n}"), "member"));
        assert!(scene.asks("hag", Some(&known))[0].starts_with(&format!("{known}>")));
        scene.is("one-more", "member");
        assert!(scene.asks("hag", Some(&known))[0].starts_with("->"));
        assert_eq!(scene.room.versions.turns.len(), CHANGES_MAX);
    }

    #[test]
    fn what_may_not_be_asked_for_is_not_told_and_whoever_may_ask_for_nothing_is_refused() {
        let (mut scene, known) = known();
        scene.is("macbeth", "outcast");
        scene.is("second", "member");
        scene.is("second", "outcast");
        let until = scene.room.version().to_string();
        // A member may not see who is banned; that somebody is a member no more it may.
        assert_eq!(scene.asks("hag", Some(&known)), [format!("{known}>{until} hag=member")]);
        let between = scene.room.versions.turn(2).unwrap().version.to_string();
        assert_eq!(scene.asks("hag", Some(&between)), [format!("{between}>{until} second=none")]);
        let all = format!("->{until} crone=owner hag=member macbeth=outcast second=outcast");
        assert_eq!(scene.asks("crone", None), [all]);
        assert_eq!(scene.asks("stranger", None), ["error e1 forbidden"]);
        let mut scene = Scene::new(RoomConfig::default());
        scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        assert_eq!(scene.asks("hag", None), ["error e1 forbidden"]);
    }

    #[test]
    fn who_may_see_more_than_before_is_told_all() {
        let (mut scene, known) = known();
        scene.is("macbeth", "outcast");
        scene.is("hag", "admin");
        let all = scene.asks("hag", Some(&known));
        assert_eq!(all, [format!("->{} crone=owner hag=admin macbeth=outcast", scene.room.version())]);
        let now = scene.room.version().to_string();
        let form = RoomConfig { whois: Whois::Moderators, ..RoomConfig::default() };
        let form = form.form(magpie_proto::xeps::data_forms::FormKind::Submit).element();
        let query = Element::new("query", muc::NS_OWNER).with(form);
        let owner = super::super::tests::full("crone");
        scene.room.configure(&owner.into(), &query, &mut scene.written).unwrap();
        assert!(scene.asks("hag", Some(&now))[0].starts_with("->"));
    }

    #[test]
    fn each_change_is_told_with_the_versions_between_which_it_stands() {
        let mut scene = open();
        ["crone", "hag", "second"].iter().for_each(|name| scene.enters(name, name).unwrap());
        let mut known = scene.room.version().to_string();
        // Who is there, who is not, who is banned there and not there.
        for (who, affiliation) in [("hag", "member"), ("hecate", "member"), ("second", "outcast"), ("hecate", "outcast")] {
            scene.written.sent.clear();
            scene.is(who, affiliation);
            let now = scene.room.version().to_string();
            for other in ["crone", "hag"] {
                let told: Vec<Element> = scene.written.sent.iter().filter(|(to, _)| to == other).filter_map(|(_, stanza)| {
                    stanza.child("x", muc::NS_USER)?.element().child("mav", NS).cloned()
                }).collect();
                assert_eq!(told, [mav(Some(&known), &now)], "{other}: {who} {affiliation}");
            }
            known = now;
        }
    }

    #[test]
    fn who_is_not_shown_to_others_has_its_affiliation_told_all_the_same() {
        let broadcast = Roles::default().with(muc::Role::Moderator);
        let mut scene = Scene::new(RoomConfig { whois: Whois::Anyone, broadcast, ..RoomConfig::default() });
        ["crone", "hag"].iter().for_each(|name| scene.enters(name, name).unwrap());
        scene.sent();
        scene.is("hag", "member");
        assert_eq!(scene.sent(), ["hag < hag: member/participant hag 110", "crone < room: member/none hag"]);
    }

    #[test]
    fn a_list_of_ten_thousand_is_told_in_messages_that_go_on_from_each_other_and_is_made_once() {
        let mut scene = open();
        for n in 0..10_000 {
            let account = bare(&format!("witch{n:05}"));
            scene.room.restore(account, Standing { affiliation: Affiliation::Member, ..Standing::default() });
        }
        let told = scene.asks("witch00000", None);
        assert_eq!(told.len(), 10_001_usize.div_ceil(TOLD_AT_ONCE));
        assert_eq!(told.iter().map(|message| message.matches('=').count()).sum::<usize>(), 10_001);
        let mut since = "-".to_owned();
        for message in &told {
            let versions = message.split(' ').next().unwrap();
            let (from, until) = versions.split_once('>').unwrap();
            assert_eq!(from, since);
            since = until.to_owned();
        }
        assert_eq!(since, *scene.room.version());
        let made = scene.room.versions.told.as_ref().unwrap().messages[0].text().as_ptr();
        assert_eq!(scene.asks("witch00001", None), told);
        assert_eq!(scene.room.versions.told.as_ref().unwrap().messages[0].text().as_ptr(), made);
    }

    #[test]
    fn a_change_is_read_as_it_is_written_and_restored_with_its_number() {
        let mut versions = Versions::default();
        for (number, of) in [(7, Some((bare("hag"), Affiliation::Member))), (8, None)] {
            let turn = Turn { version: format!("v{number}").into(), of };
            let mut bytes = Vec::new();
            turn.encode(&mut bytes);
            assert_eq!(Turn::decode(&bytes).as_ref(), Some(&turn));
            versions.restore(number, turn);
        }
        assert_eq!((versions.numbers(), versions.since("v7", "v0").unwrap().count()), (7..=8, 1));
        assert!(versions.since("v0", "v0").is_none());
    }

    #[test]
    fn what_asks_for_affiliations_is_shown_to_nobody() {
        let mut scene = open();
        scene.enters("crone", "crone").unwrap();
        scene.asks("hag", None);
        scene.written.sent.clear();
        scene.asks("second", None);
        let shown = stanza(scene.room.occupants.named("second").unwrap().shown[1].text());
        assert!(!shown.text().contains(NS), "{}", shown.text());
    }
}
