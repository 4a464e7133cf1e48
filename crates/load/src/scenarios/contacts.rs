//! RFC 6121 §3: makes everyone in a group everyone's contact, by the stanzas with which people do it.
//!
//! A worker does this before a scenario that needs contacts. Groups take turns, so that no server is flooded; what a server
//! refuses or delays is asked for again.

use memchr::memmem;

use super::Scenario;
use crate::client::splitter::{attribute, name};
use crate::engine::World;

/// Users under way at a time.
const UNDER_WAY: u32 = 420;

/// How long nothing may happen before rosters are looked at again, microseconds.
const QUIET_US: u64 = 300_000;

/// Where its figures say how many users have all contacts.
pub const READY: usize = 0;

/// Where its figures say how many subscriptions were asked for.
pub const MADE: usize = 1;

/// Makes contacts.
#[derive(Debug)]
pub struct Contacts {
    size: u32,
    /// Contacts that are mutual, by session, as the roster said last.
    mutual: Vec<Option<u32>>,
    next: u32,
    until: u32,
    last: u64,
    /// Subscriptions that were asked for.
    made: u64,
    asked: bool,
    /// How often these groups were tried: after the first time a subscription may be there in one direction alone.
    tries: u32,
}

impl Contacts {
    /// In groups of `contacts` + 1.
    pub fn new(contacts: u32, sessions: u32) -> Self {
        let mutual = vec![None; sessions as usize];
        Self { size: contacts + 1, mutual, next: 0, until: 0, last: 0, made: 0, asked: false, tries: 0 }
    }

    fn wanted(&self, who: u32) -> u32 {
        let first = who / self.size * self.size;
        (first + self.size).min(self.mutual.len() as u32) - first - 1
    }

    fn ask_rosters(&mut self, world: &mut World) {
        self.last = world.now;
        self.asked = true;
        for who in self.next..self.until {
            if self.mutual[who as usize] != Some(self.wanted(who)) {
                self.mutual[who as usize] = None;
                world.stanza(who, |out| {
                    out.extend_from_slice(b"<iq type='get' id='contacts'><query xmlns='jabber:iq:roster'/></iq>");
                });
            }
        }
    }

    /// The next groups, or what the present ones still lack.
    fn go_on(&mut self, world: &mut World) {
        let complete = (self.next..self.until).all(|who| self.mutual[who as usize] == Some(self.wanted(who)));
        if complete {
            self.next = self.until;
            self.tries = 0;
            self.until = (self.next + (UNDER_WAY / self.size).max(1) * self.size).min(self.mutual.len() as u32);
            self.ask_rosters(world);
            return;
        }
        if !self.asked {
            self.ask_rosters(world);
            return;
        }
        self.asked = false;
        self.last = world.now;
        for who in self.next..self.until {
            if self.mutual[who as usize] == Some(self.wanted(who)) {
                continue;
            }
            let first = who / self.size * self.size;
            // The lower number asks; the other answers and asks back.
            let others = if self.tries > 0 { first } else { who + 1 }..first + self.wanted(first) + 1;
            for other in others.filter(|other| *other != who) {
                self.subscription(world, who, other, "subscribe");
                self.made += 1;
            }
        }
        self.tries += 1;
    }

    fn subscription(&self, world: &mut World, who: u32, other: u32, kind: &str) {
        let jid = bare(world.session(other).jid()).to_owned();
        let stanza = format!("<presence to='{jid}' type='{kind}'/>");
        world.stanza(who, |out| out.extend_from_slice(stanza.as_bytes()));
    }
}

impl Scenario for Contacts {
    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        match (name(element), attribute(element, b"type")) {
            (b"iq", Some(b"result")) if attribute(element, b"id") == Some(b"contacts") => {
                let quoted = |quote: char| format!("subscription={quote}both{quote}");
                let count = |text: String| memmem::find_iter(element, text.as_bytes()).count();
                self.mutual[who as usize] = Some((count(quoted('\'')) + count(quoted('"'))) as u32);
            }
            (b"presence", Some(b"subscribe")) => {
                self.last = world.now;
                let from = attribute(element, b"from").unwrap_or_default().to_vec();
                let first = who / self.size * self.size;
                let last = first + self.wanted(first);
                let other = (first..=last).find(|other| bare(world.session(*other).jid()).as_bytes() == from);
                let Some(other) = other else { return };
                self.subscription(world, who, other, "subscribed");
                if other < who && self.tries == 1 {
                    self.subscription(world, who, other, "subscribe");
                }
            }
            (b"presence", Some(b"subscribed")) => self.last = world.now,
            _ => {}
        }
    }

    fn begin(&mut self, world: &mut World) {
        self.go_on(world);
    }

    fn due(&mut self, world: &mut World) -> Option<u64> {
        let all_answered = self.asked && (self.next..self.until).all(|who| self.mutual[who as usize].is_some());
        let all_there =
            all_answered && (self.next..self.until).all(|who| self.mutual[who as usize] == Some(self.wanted(who)));
        if !self.is_done(world) && (all_there || world.now >= self.last + QUIET_US) && (all_answered || !self.asked) {
            self.go_on(world);
        }
        Some(world.now + QUIET_US / 3)
    }

    fn is_done(&self, _world: &World) -> bool {
        self.next as usize >= self.mutual.len()
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        vec![("users_ready".into(), f64::from(self.next)), ("contacts_made".into(), self.made as f64)]
    }
}

fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or(jid)
}
