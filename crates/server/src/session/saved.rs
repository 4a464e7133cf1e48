//! XEP-0198 over a restart: what is written of a session while the server is not there.
//!
//! All that a resume must find again, and nothing else. What waits in the account's spool is named by its place there, so that it is
//! on the disk once. A record of another version, or one that is torn, is no session: its client binds anew, and finds in the spool what
//! it did not acknowledge.

use std::time::Duration;

use magpie_proto::{Jid, Stanza};
use magpie_store::{LogId, Record};

use crate::mailbox::Addressee;

/// The version of the records that this program writes, and the only one that it reads.
const VERSION: u8 = 2;

/// The time in which there is no server does not count for how long a session waits, since its client cannot come. But after so much
/// of it nobody expects the session any more.
const AWAY_MAX: Duration = Duration::from_secs(60 * 60);

/// The sessions of one account.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SavedSessions(pub(super) Vec<SavedSession>);

/// A session.
#[derive(Debug, PartialEq)]
pub(super) struct SavedSession {
    pub(super) resource: String,
    /// The SM-ID.
    pub(super) id: String,
    /// Stanzas that the client sent, all of them handled.
    pub(super) received: u64,
    /// Stanzas that it acknowledged.
    pub(super) acked: u64,
    /// For how long it may be without a connection.
    pub(super) resume_seconds: u64,
    /// For how long it had been without one.
    pub(super) waited: Duration,
    /// When it was saved, since 1970.
    pub(super) saved: Duration,
    pub(super) presence: Option<Stanza>,
    pub(super) priority: i8,
    pub(super) flags: Flags,
    pub(super) directed: Vec<Jid>,
    /// What it was to find in the spool in its turn, and whether another client of the account has it already.
    pub(super) awaiting: Vec<(LogId, bool)>,
    /// What was written to it and not acknowledged, oldest first.
    pub(super) unacked: Vec<SavedDelivery>,
    /// What was not written yet, oldest first.
    pub(super) mail: Vec<SavedDelivery>,
}

/// What a session is, or asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Flags {
    pub(super) interested: bool,
    pub(super) carbons: bool,
    pub(super) block_pushes: bool,
    pub(super) fetching: bool,
}

/// A stanza for a session.
#[derive(Debug, PartialEq)]
pub(super) struct SavedDelivery {
    pub(super) to: Addressee,
    pub(super) pushed: bool,
    pub(super) stanza: SavedStanza,
}

/// A stanza, or where it is.
#[derive(Debug, PartialEq)]
pub(super) enum SavedStanza {
    Whole(Stanza),
    Spooled(LogId),
}

impl SavedSession {
    /// What of the session's is in the spool of the account.
    pub(super) fn spooled(&self) -> impl Iterator<Item = LogId> {
        self.unacked.iter().chain(&self.mail).filter_map(|delivery| match delivery.stanza {
            SavedStanza::Spooled(id) => Some(id),
            SavedStanza::Whole(_) => None,
        })
    }

    /// For how long it counts as being without a connection where it is taken up at this time, since 1970.
    pub(super) fn waited_at(&self, now: Duration) -> Duration {
        // A clock that went back says nothing.
        match now.saturating_sub(self.saved) {
            away if away > AWAY_MAX => self.waited.max(Duration::from_secs(self.resume_seconds)),
            _ => self.waited,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.resource.as_bytes());
        put_bytes(out, self.id.as_bytes());
        for number in [self.received, self.acked, self.resume_seconds, millis(self.waited), millis(self.saved)] {
            put(out, number);
        }
        put_bytes(out, self.presence.as_ref().map_or(&[], Stanza::bytes));
        out.extend_from_slice(&self.priority.to_be_bytes());
        let Flags { interested, carbons, block_pushes, fetching } = self.flags;
        put(
            out,
            [interested, carbons, block_pushes, fetching].iter().rev().fold(0, |bits, set| bits << 1 | u64::from(*set)),
        );
        put(out, self.directed.len() as u64);
        self.directed.iter().for_each(|jid| put_bytes(out, jid.as_str().as_bytes()));
        put(out, self.awaiting.len() as u64);
        for (id, received) in &self.awaiting {
            put(out, id.0);
            put(out, u64::from(*received));
        }
        for deliveries in [&self.unacked, &self.mail] {
            put(out, deliveries.len() as u64);
            deliveries.iter().for_each(|delivery| delivery.encode(out));
        }
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let (resource, id) = (text(rest)?, text(rest)?);
        let [received, acked, resume_seconds] = [take(rest)?, take(rest)?, take(rest)?];
        let [waited, saved] = [Duration::from_millis(take(rest)?), Duration::from_millis(take(rest)?)];
        let presence = match bytes(rest)? {
            [] => None,
            presence => Some(Stanza::parse(presence).ok()?),
        };
        let (priority, after) = rest.split_first_chunk()?;
        *rest = after;
        let priority = i8::from_be_bytes(*priority);
        let bits = take(rest)?;
        let is = |bit: u32| bits >> bit & 1 == 1;
        let flags = Flags { interested: is(0), carbons: is(1), block_pushes: is(2), fetching: is(3) };
        let directed = list(rest, |rest| Jid::parse(&text(rest)?).ok())?;
        let awaiting = list(rest, |rest| Some((LogId(take(rest)?), take(rest)? == 1)))?;
        let (unacked, mail) = (list(rest, SavedDelivery::decode)?, list(rest, SavedDelivery::decode)?);
        Some(Self {
            resource,
            id,
            received,
            acked,
            resume_seconds,
            waited,
            saved,
            presence,
            priority,
            flags,
            directed,
            awaiting,
            unacked,
            mail,
        })
    }
}

impl SavedDelivery {
    fn encode(&self, out: &mut Vec<u8>) {
        let to = match self.to {
            Addressee::OfStanza => 0,
            Addressee::Account => 1,
            Addressee::Session => 2,
        };
        out.push(to << 1 | u8::from(self.pushed));
        match &self.stanza {
            SavedStanza::Whole(stanza) => put_bytes(out, stanza.bytes()),
            // No stanza is empty.
            SavedStanza::Spooled(id) => {
                put_bytes(out, &[]);
                put(out, id.0);
            }
        }
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let (bits, after) = rest.split_first()?;
        *rest = after;
        let pushed = bits & 1 == 1;
        let to = match bits >> 1 {
            0 => Addressee::OfStanza,
            1 => Addressee::Account,
            2 => Addressee::Session,
            _ => return None,
        };
        let stanza = match bytes(rest)? {
            [] => SavedStanza::Spooled(LogId(take(rest)?)),
            stanza => SavedStanza::Whole(Stanza::parse(stanza).ok()?),
        };
        Some(Self { to, pushed, stanza })
    }
}

impl Record for SavedSessions {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put(out, self.0.len() as u64);
        self.0.iter().for_each(|session| session.encode(out));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let sessions = list(&mut rest, SavedSession::decode)?;
        rest.is_empty().then_some(Self(sessions))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Seven bits a byte, the lowest first.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(bytes(rest)?.to_vec()).ok()
}

fn list<T>(rest: &mut &[u8], mut one: impl FnMut(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = take(rest)?;
    // Room only for what is there: a count is one number, and may be anything.
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(one(rest)?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stanza(xml: &str) -> Stanza {
        Stanza::parse(xml.as_bytes()).unwrap()
    }

    fn sessions() -> SavedSessions {
        let session = |resource: &str| SavedSession {
            resource: resource.to_owned(),
            id: "id".to_owned(),
            received: u64::from(u32::MAX) + 5,
            acked: 3,
            resume_seconds: 300,
            waited: Duration::from_millis(12_345),
            saved: Duration::from_millis(1_800_000_000_123),
            presence: Some(stanza("<presence from='juliet@example.org/balcony'><show>away</show></presence>")),
            priority: -7,
            flags: Flags { interested: true, carbons: false, block_pushes: true, fetching: true },
            directed: vec![Jid::parse("romeo@example.org/orchard").unwrap()],
            awaiting: vec![(LogId(9), true), (LogId(u64::MAX), false)],
            unacked: vec![
                SavedDelivery {
                    to: Addressee::Account,
                    pushed: true,
                    stanza: SavedStanza::Whole(stanza("<presence from='a@b'/>")),
                },
                SavedDelivery { to: Addressee::OfStanza, pushed: false, stanza: SavedStanza::Spooled(LogId(7)) },
            ],
            mail: vec![SavedDelivery { to: Addressee::Session, pushed: true, stanza: SavedStanza::Spooled(LogId(8)) }],
        };
        let bare = SavedSession { presence: None, priority: 0, mail: Vec::new(), ..session("chamber") };
        SavedSessions(vec![session("balcony"), bare])
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        sessions().encode(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_saved_of_a_session_is_read_again_and_says_what_of_it_is_in_the_spool() {
        let read = SavedSessions::decode(&encoded()).unwrap();
        assert_eq!(read, sessions());
        assert_eq!(read.0[0].spooled().collect::<Vec<_>>(), [LogId(7), LogId(8)]);
    }

    #[test]
    fn time_without_a_server_does_not_count_but_after_an_hour_of_it_the_session_has_waited_long_enough() {
        let [session, _] = <[SavedSession; 2]>::try_from(sessions().0).unwrap();
        let at = |away: Duration| session.waited_at(session.saved + away);
        for away in [Duration::ZERO, Duration::from_secs(600), AWAY_MAX] {
            assert_eq!(at(away), session.waited, "{away:?}");
        }
        assert_eq!(at(AWAY_MAX + Duration::from_millis(1)), Duration::from_secs(session.resume_seconds));
        assert_eq!(session.waited_at(Duration::ZERO), session.waited, "the clock went back");
        let longer = SavedSession { waited: Duration::from_secs(session.resume_seconds + 1), ..session };
        assert!(longer.waited_at(longer.saved + 2 * AWAY_MAX) >= Duration::from_secs(longer.resume_seconds));
    }

    #[test]
    fn a_record_that_is_torn_or_of_another_version_is_no_session() {
        let whole = encoded();
        for length in 0..whole.len() {
            assert_eq!(SavedSessions::decode(&whole[..length]), None, "the first {length} bytes");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(SavedSessions::decode(&longer), None);
        let mut other = whole;
        other[0] += 1;
        assert_eq!(SavedSessions::decode(&other), None);
        assert_eq!(SavedSessions::decode(&[VERSION, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
    }
}
