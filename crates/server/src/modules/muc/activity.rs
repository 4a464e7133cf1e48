//! XEP-0502: MUC Activity Indicator
//!
//! How many messages an hour are said in a room that everybody may find and enter, from the newest of its archive. It is looked up
//! at most so often, however often it is asked for.

use hashbrown::HashMap;
use magpie_proto::xeps::data_forms::{Field, FieldType};
use magpie_proto::xeps::disco::Info;
use magpie_proto::xml::Stanza;
use magpie_proto::{BareJid, ns};
use magpie_store::StoreError;
use parking_lot::Mutex;

use super::Muc;
use super::room::Room;
use crate::server::now;

/// The field.
const FIELD: &str = "{urn:xmpp:muc-activity}message-activity";

/// Messages that are looked at: where a day has more, the hours in which these were said are enough.
const MESSAGES_MAX: usize = 250;

/// The hours that count; §4 wants no more than 72.
const HOURS: f64 = 24.0;

const HOUR_MILLIS: f64 = 3_600_000.0;

/// How long a figure holds; §4 wants an hour at most.
const HOLDS_MILLIS: i64 = 10 * 60 * 1000;

/// Rooms of which it is remembered.
const KNOWN_MAX: usize = 4096;

/// The figures of rooms that were asked for.
#[derive(Debug, Default)]
pub struct Activity(Mutex<HashMap<BareJid, (i64, f64)>>);

impl Activity {
    fn known(&self, room: &BareJid, now_millis: i64) -> Option<f64> {
        let known = self.0.lock().get(room).copied();
        known.filter(|(at, _)| now_millis - at < HOLDS_MILLIS).map(|(_, an_hour)| an_hour)
    }

    fn remember(&self, room: &BareJid, now_millis: i64, an_hour: f64) {
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX {
            known.retain(|_, (at, _)| now_millis - *at < HOLDS_MILLIS);
        }
        if known.len() < KNOWN_MAX {
            known.insert(room.clone(), (now_millis, an_hour));
        }
    }
}

/// Whether it is said: §3.1 and §8, for rooms that last, are listed and let everybody in.
pub(super) fn is_told(room: &Room) -> bool {
    let config = &room.config;
    room.lasts() && config.public && config.archived && !config.members_only && config.password.is_none()
}

/// §4: what is read, each once: corrections are the message again.
fn counts(message: &Stanza) -> bool {
    message.type_().as_deref() == Some("groupchat")
        && message.child("body", ns::CLIENT).is_some()
        && message.child("replace", "urn:xmpp:message-correct:0").is_none()
}

/// Messages an hour: so many were found, the oldest at that time; `more`: there are older ones within the day, not looked at.
fn an_hour(found: usize, oldest_millis: i64, now_millis: i64, more: bool) -> f64 {
    let hours = match more {
        // In less than a minute nothing can be said of an hour.
        true => ((now_millis - oldest_millis) as f64 / HOUR_MILLIS).clamp(1.0 / 60.0, HOURS),
        false => HOURS,
    };
    found as f64 / hours
}

impl Muc {
    /// Adds it to what a room tells of itself.
    pub(super) async fn tell_activity(&self, room: &BareJid, info: &mut Info) -> Result<(), StoreError> {
        let now_millis = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
        let an_hour = match self.activity.known(room, now_millis) {
            Some(an_hour) => an_hour,
            None => {
                let an_hour = self.look_at_activity(room, now_millis).await?;
                self.activity.remember(room, now_millis, an_hour);
                an_hour
            }
        };
        if let Some(form) = info.forms.first_mut() {
            let field = Field::new(FieldType::TextSingle, FIELD).with_label("Messages per hour");
            form.fields.push(field.with_value(format!("{an_hour:.2}")));
        }
        Ok(())
    }

    async fn look_at_activity(&self, room: &BareJid, now_millis: i64) -> Result<f64, StoreError> {
        let since = now_millis - (HOURS * HOUR_MILLIS) as i64;
        let (mut found, mut looked, mut oldest) = (0, 0, now_millis);
        let enough = |place: magpie_store::LogId, message: &Stanza| {
            let at = i64::try_from(place.millis()).unwrap_or(i64::MAX);
            if at < since {
                return true;
            }
            looked += 1;
            oldest = at;
            found += usize::from(counts(message));
            false
        };
        self.archive.look_back(room, room, MESSAGES_MAX, enough).await?;
        Ok(an_hour(found, oldest, now_millis, looked == MESSAGES_MAX))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::tests::{Scene, stanza};
    use super::*;

    #[test]
    fn only_rooms_that_everybody_may_find_and_enter_tell_it() {
        let open = RoomConfig { persistent: true, ..RoomConfig::default() };
        for (config, told) in [
            (open.clone(), true),
            (RoomConfig { persistent: false, ..open.clone() }, false),
            (RoomConfig { public: false, ..open.clone() }, false),
            (RoomConfig { members_only: true, ..open.clone() }, false),
            (RoomConfig { password: Some("x".into()), ..open.clone() }, false),
            (RoomConfig { archived: false, ..open }, false),
        ] {
            assert_eq!(is_told(&Scene::new(config.clone()).room), told, "{config:?}");
        }
    }

    #[test]
    fn what_has_no_body_or_corrects_another_does_not_count() {
        for (content, counted) in [
            ("<body>x</body>", true),
            ("<active xmlns='http://jabber.org/protocol/chatstates'/>", false),
            ("<body>x</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>", false),
        ] {
            assert_eq!(
                counts(&stanza(&format!("<message type='groupchat'>{content}</message>"))),
                counted,
                "{content}"
            );
        }
        assert!(!counts(&stanza("<message type='chat'><body>x</body></message>")));
    }

    #[test]
    fn a_quiet_room_is_measured_by_the_day_and_a_busy_one_by_its_last_messages() {
        let now = 1_800_000_000_000;
        assert_eq!(an_hour(0, now, now, false), 0.0);
        assert_eq!(an_hour(48, now - 1000, now, false), 2.0);
        assert_eq!(an_hour(250, now - 1_800_000, now, true), 500.0);
        assert_eq!(an_hour(250, now, now, true), 15_000.0);
    }

    #[test]
    fn a_figure_holds_for_a_while_and_not_for_all_rooms() {
        let activity = Activity::default();
        let room = |n: usize| BareJid::parse(&format!("r{n}@chat.shakespeare.example")).unwrap();
        (0..=KNOWN_MAX).for_each(|n| activity.remember(&room(n), 0, 2.0));
        assert_eq!((activity.known(&room(0), 1), activity.known(&room(KNOWN_MAX), 1)), (Some(2.0), None));
        assert_eq!(activity.known(&room(0), HOLDS_MILLIS), None);
        activity.remember(&room(KNOWN_MAX), HOLDS_MILLIS, 3.0);
        assert_eq!(activity.known(&room(KNOWN_MAX), HOLDS_MILLIS), Some(3.0));
    }
}
