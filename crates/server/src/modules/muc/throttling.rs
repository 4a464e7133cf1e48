//! How much a room takes in a while, of one occupant and of all, and how many rooms one user makes: `[rooms]` of the configuration.
//!
//! Who is too fast is told to wait, and the room goes on for the others. Time is an argument.

use hashbrown::HashMap;
use magpie_proto::error::ErrorType;
use magpie_proto::xeps::muc::Role;
use magpie_proto::{BareJid, FullJid, StanzaCondition, StanzaError};
use parking_lot::Mutex;

use super::room::{Outcome, Outside, Room};
use crate::config;

/// Seconds over which messages are counted on average: what nobody sent in that time can be sent at once.
const MESSAGE_SECONDS: i64 = 5;

/// Accounts of which it is known how much they took; beyond that those are forgotten that may take as much as ever.
const TAKERS_MAX: usize = 4096;

/// Requests by which one account asks to become a member of rooms (§7.10), in an hour.
pub const REGISTRATIONS_PER_HOUR_MAX: u32 = 20;

/// Invitations through rooms by one account in an hour.
pub const INVITATIONS_PER_HOUR_MAX: u32 = 1000;

/// So many at once, and so many more in that time again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// How long one takes; 0: there is no limit.
    each_micros: i64,
    whole_micros: i64,
}

impl Rate {
    /// `count` in so many seconds; 0 is no limit.
    pub fn new(count: u32, seconds: i64) -> Self {
        let whole_micros = seconds * 1_000_000;
        Self { each_micros: if count == 0 { 0 } else { whole_micros / i64::from(count) }, whole_micros }
    }
}

/// What has been taken of a [`Rate`]: when all of it may be taken again, in Unix microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket(i64);

impl Bucket {
    /// Whether one more may be taken.
    pub fn has(self, rate: Rate, now_millis: i64) -> bool {
        let now = now_millis * 1000;
        rate.each_micros == 0 || self.0.max(now) + rate.each_micros <= now + rate.whole_micros
    }

    /// Seconds until one more may be taken.
    fn seconds_left(self, rate: Rate, now_millis: i64) -> u64 {
        let micros = self.0 + rate.each_micros - rate.whole_micros - now_millis * 1000;
        u64::try_from(micros).unwrap_or(0).div_ceil(1_000_000).max(1)
    }

    /// Takes one.
    pub fn take(&mut self, rate: Rate, now_millis: i64) {
        self.0 = self.0.max(now_millis * 1000) + rate.each_micros;
    }

    fn is_full(self, now_millis: i64) -> bool {
        self.0 <= now_millis * 1000
    }
}

/// What a room takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Messages, and changes of presence, of one occupant.
    pub occupant: Rate,
    /// Of all.
    pub room: Rate,
    /// New occupants.
    pub entrances: Rate,
}

impl Pace {
    /// As configured.
    pub fn of(config: &config::Rooms) -> Self {
        let messages = |a_second: u32| Rate::new(a_second.saturating_mul(MESSAGE_SECONDS as u32), MESSAGE_SECONDS);
        Self {
            occupant: messages(config.occupant_messages_per_second_max),
            room: messages(config.messages_per_second_max),
            entrances: Rate::new(config.entrances_per_minute_max, 60),
        }
    }
}

/// What has been taken of a room's pace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    said: Bucket,
    entered: Bucket,
}

impl Room {
    /// An occupant sends something that others get. Moderators are not held up, but by what the room takes of all.
    pub(super) fn check_pace(&mut self, from: &FullJid, out: &impl Outside) -> Outcome {
        let (pace, now) = (out.pace(), out.now().unix_millis());
        if pace.room != Rate::default() && !self.taken.said.has(pace.room, now) {
            return Err(StanzaError::new(
                StanzaCondition::ResourceConstraint,
                "the room takes no more messages for now",
            ));
        }
        if let Some(occupant) = self.occupants.seated_mut(from).filter(|occupant| occupant.role < Role::Moderator) {
            if !occupant.sent.has(pace.occupant, now) {
                let error = StanzaError::new(StanzaCondition::PolicyViolation, "you write too fast: wait a moment");
                return Err(error.with_type(ErrorType::Wait));
            }
            occupant.sent.take(pace.occupant, now);
        }
        self.taken.said.take(pace.room, now);
        Ok(())
    }

    /// Somebody who is no member enters.
    pub(super) fn check_entrances(&mut self, out: &impl Outside) -> Outcome {
        let (rate, now) = (out.pace().entrances, out.now().unix_millis());
        if !self.taken.entered.has(rate, now) {
            return Err(StanzaError::new(
                StanzaCondition::ResourceConstraint,
                "too many enter the room at once: try later",
            ));
        }
        self.taken.entered.take(rate, now);
        Ok(())
    }
}

/// What accounts took of late of something that each may have so often.
#[derive(Debug, Default)]
pub struct Takers(Mutex<HashMap<BareJid, Bucket>>);

impl Takers {
    /// An account takes one.
    ///
    /// # Errors
    /// The seconds after which it may have one more.
    pub fn take(&self, account: &BareJid, rate: Rate, now_millis: i64) -> Result<(), u64> {
        if rate.each_micros == 0 {
            return Ok(());
        }
        let mut takers = self.0.lock();
        if takers.len() >= TAKERS_MAX && !takers.contains_key(account) {
            takers.retain(|_, bucket| !bucket.is_full(now_millis));
        }
        let bucket = takers.get(account).copied().unwrap_or_default();
        if !bucket.has(rate, now_millis) || takers.len() >= TAKERS_MAX * 16 {
            return Err(bucket.seconds_left(rate, now_millis));
        }
        takers.entry(account.clone()).or_default().take(rate, now_millis);
        Ok(())
    }

    /// A user makes a room.
    ///
    /// # Errors
    /// Where the configuration has none of that: `not-allowed`, or `resource-constraint` for one who makes too many.
    pub fn make_room(&self, account: &BareJid, is_admin: bool, config: &config::Rooms, now_millis: i64) -> Outcome {
        if is_admin {
            return Ok(());
        }
        if config.made_by == config::RoomMakers::Admins {
            return Err(StanzaError::new(StanzaCondition::NotAllowed, "only administrators make rooms here"));
        }
        let rate = Rate::new(config.made_per_hour_max, 60 * 60);
        let refuse = "you made many rooms: wait before you make more";
        self.take(account, rate, now_millis).map_err(|_| StanzaError::new(StanzaCondition::ResourceConstraint, refuse))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::tests::{Scene, bare, condition, stanza};
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_one_by_one() {
        let (rate, mut bucket, mut now) = (Rate::new(10, 5), Bucket::default(), 1_800_000_000_000);
        let mut takes = |now| {
            let has = bucket.has(rate, now);
            if has {
                bucket.take(rate, now);
            }
            has
        };
        assert_eq!((0..20).filter(|_| takes(now)).count(), 10);
        now += 500;
        assert_eq!((0..20).filter(|_| takes(now)).count(), 1);
        now += 100_000;
        assert_eq!((0..20).filter(|_| takes(now)).count(), 10);
        assert!((0..10_000).all(|_| Bucket(i64::MAX / 4).has(Rate::new(0, 5), now)));
    }

    #[test]
    fn who_has_taken_all_is_told_when_there_is_more() {
        let (takers, rate) = (Takers::default(), Rate::new(3, 60));
        let taken: Vec<_> = [0, 0, 0, 0, 10_500, 20_000, 20_000].map(|now| takers.take(&bare("hag"), rate, now)).into();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Err(20), Err(10), Ok(()), Err(20)]);
        assert_eq!(takers.take(&bare("second"), rate, 0), Ok(()));
    }

    #[test]
    fn who_floods_a_room_is_told_to_wait_and_the_others_go_on() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag", "second"]);
        scene.written.pace.occupant = Rate::new(5, 5);
        (0..5).for_each(|_| scene.says("hag", "x").unwrap());
        let refused = scene.says("hag", "x").unwrap_err();
        assert_eq!((refused.condition, refused.kind), (StanzaCondition::PolicyViolation, ErrorType::Wait));
        // Not by private messages, another nickname or other presence either.
        let message = stanza("<message type='chat'><body>psst</body></message>");
        let private = scene.room.private(&super::super::tests::full("hag"), "second", &message, &mut scene.written);
        assert_eq!(condition(private), StanzaCondition::PolicyViolation);
        for nick in ["hag", "witch"] {
            assert_eq!(condition(scene.presence("hag", nick, "<presence/>")), StanzaCondition::PolicyViolation);
        }
        scene.says("second", "x").unwrap();
        (0..100).for_each(|_| scene.says("crone", "x").unwrap());
        scene.written.now += 1000;
        scene.says("hag", "x").unwrap();
    }

    #[test]
    fn a_room_takes_so_much_of_all_together() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        scene.written.pace.room = Rate::new(5, 5);
        let took = (0..10).filter(|n| scene.says(["crone", "hag"][n % 2], "x").is_ok()).count();
        assert_eq!((took, condition(scene.says("crone", "x"))), (5, StanzaCondition::ResourceConstraint));
        // Who leaves can always do so.
        scene.presence("hag", "hag", "<presence type='unavailable'/>").unwrap();
    }

    #[test]
    fn so_many_enter_in_a_minute_and_members_whenever_they_like() {
        let mut scene = Scene::new(RoomConfig::default());
        scene.written.pace.entrances = Rate::new(2, 60);
        scene.enters("hag", "hag").unwrap();
        scene.enters("second", "second").unwrap();
        assert_eq!(condition(scene.enters("macbeth", "macbeth")), StanzaCondition::ResourceConstraint);
        scene.enters("crone", "crone").unwrap();
        scene.written.now += 30_000;
        scene.enters("macbeth", "macbeth").unwrap();
    }

    #[test]
    fn rooms_are_made_by_whom_the_configuration_lets_and_not_too_many_in_an_hour() {
        let makers = Takers::default();
        let check = |who, admin, config: &config::Rooms, now| {
            makers.make_room(&bare(who), admin, config, now).map_err(|error| error.condition)
        };
        let few = config::Rooms { made_per_hour_max: 2, ..config::Rooms::default() };
        let made: Vec<_> = [0, 1, 2, 3_000_000].map(|now| check("hag", false, &few, now)).into();
        assert_eq!(made, [Ok(()), Ok(()), Err(StanzaCondition::ResourceConstraint), Ok(())]);
        assert_eq!(check("second", false, &few, 3), Ok(()));
        let closed = config::Rooms { made_by: config::RoomMakers::Admins, ..few };
        assert_eq!(check("macbeth", false, &closed, 0), Err(StanzaCondition::NotAllowed));
        assert!((0..10).all(|_| check("crone", true, &closed, 0).is_ok()));
    }
}
