//! XEP-0500: MUC Slow Mode
//!
//! After a message an account waits for as long as the owner says before it is let say the next.

use magpie_proto::error::ErrorType;
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::muc::Affiliation;
use magpie_proto::xml::Stanza;
use magpie_proto::{FullJid, StanzaCondition, StanzaError, ns};

use super::room::{Outcome, Room};

impl Room {
    /// An occupant is about to say this, which counts if it has a text. Admins and owners need not wait (§7). By account: another nickname
    /// is nobody else.
    pub(super) fn check_slow_mode(&mut self, from: &FullJid, said: &Stanza, now: DateTime) -> Outcome {
        let waits = self.config.slow_mode_seconds > 0 && self.occupant(from)?.affiliation < Affiliation::Admin;
        if !waits || said.child("body", ns::CLIENT).is_none() {
            return Ok(());
        }
        let (now, wait) = (now.unix_millis(), i64::from(self.config.slow_mode_seconds) * 1000);
        let account = from.to_bare();
        let left = self.spoke_at.get(&account).map_or(0, |at| at + wait - now);
        if left > 0 {
            let text = format!("the room is in slow mode: you can write again in {} seconds", (left + 999) / 1000);
            return Err(StanzaError::new(StanzaCondition::PolicyViolation, text).with_type(ErrorType::Wait));
        }
        // Who has waited long enough need not be known.
        self.spoke_at.retain(|_, at| now < *at + wait);
        self.spoke_at.insert(account, now);
        Ok(())
    }
}
