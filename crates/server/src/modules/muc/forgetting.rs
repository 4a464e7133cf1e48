//! What becomes of an account in rooms when it is removed: it is nothing to them any more, so that whoever has its name later is a stranger.
//! A ban stays.

use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::muc::Affiliation;
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, StanzaCondition};
use magpie_store::{Batch, Store, StoreError};

use super::Muc;
use super::occupants::Seat;
use super::room::{Change, Outside, Room};
use super::rooms::Act;
use super::storage::Storage;
use super::throttling::Pace;
use crate::server::now;

impl Room {
    /// An account is no more. Where it was the only owner the admins are owners now; a room in which nobody is anything else has no end
    /// by itself, and ends.
    pub(super) fn forget_account(&mut self, account: &BareJid, out: &mut impl Outside) {
        let Some(standing) = self.standing(account) else { return };
        let affiliation = standing.affiliation;
        match affiliation {
            Affiliation::Outcast => return,
            // It asked to become a member, or had voice.
            Affiliation::None => {
                self.standings.remove(account);
                return out.change(Change::Standing(account.clone()));
            }
            _ => {}
        }
        let others = |wanted: Affiliation| {
            let others = self.standings().filter(|(other, standing)| *other != account && standing.affiliation == wanted);
            others.map(|(other, _)| other.clone()).collect::<Vec<_>>()
        };
        if affiliation == Affiliation::Owner && others(Affiliation::Owner).is_empty() {
            let heirs = others(Affiliation::Admin);
            if heirs.is_empty() && others(Affiliation::Member).is_empty() && self.is_left_to(account) {
                return out.change(Change::Destroyed);
            }
            for heir in heirs {
                self.change_affiliation(&heir, Affiliation::Owner, None, None, out);
            }
        }
        self.drop_hats(account, out);
        self.change_affiliation(account, Affiliation::None, None, None, out);
    }

    /// Whether nobody is in it but sessions of this account.
    fn is_left_to(&self, account: &BareJid) -> bool {
        self.occupants.iter().all(|occupant| occupant.account == *account)
    }
}

/// The outside of a room where no server runs, so that nobody is in it: what changes is all that follows.
struct Nobody {
    now: DateTime,
    changes: Vec<Change>,
}

impl Outside for Nobody {
    fn now(&self) -> DateTime {
        self.now
    }

    fn pace(&self) -> Pace {
        Pace::default()
    }

    fn send(&mut self, _: &Seat, _: &Stanza) {}

    fn send_kept(&mut self, _: &Seat, _: &Stanza) {}

    fn send_out(&mut self, _: Stanza) {}

    fn send_private(&mut self, _: &[Seat], _: &Stanza) {}

    fn keep(&mut self, message: Stanza, _: Option<&Element>) -> Stanza {
        message
    }

    fn wake(&mut self, _: &BareJid, _: Option<&str>, _: &Stanza) {}

    fn change(&mut self, change: Change) {
        self.changes.push(change);
    }
}

/// An account is about to be erased from a store with which no server runs.
pub async fn forget_account(store: &Store, account: &BareJid) -> Result<(), StoreError> {
    let storage = Storage::new(store);
    for address in storage.rooms_with(account).await? {
        let Some(mut room) = storage.read(&address).await? else { continue };
        let mut nobody = Nobody { now: now().into(), changes: Vec::new() };
        room.forget_account(account, &mut nobody);
        let mut batch = Batch::new();
        storage.write_all(&mut batch, &room, &nobody.changes);
        store.commit(batch).await?;
    }
    Ok(())
}

impl Muc {
    /// An account is about to be erased. As many rooms are looked at as it has to do with.
    pub async fn forget_account(&self, account: &BareJid) -> Result<(), StoreError> {
        for room in self.rooms.storage.rooms_with(account).await? {
            let act = |room: &mut Room, out: &mut Act<'_>| {
                room.forget_account(account, out);
                Ok(())
            };
            match self.rooms.with(&room, act).await {
                Ok((_, left)) => {
                    if let Some(ticket) = left.ticket {
                        ticket.await?;
                    }
                }
                // One that is no more knows nobody.
                Err(error) if error.condition == StanzaCondition::ItemNotFound => {}
                Err(error) => tracing::warn!(%room, %account, ?error, "a room still knows an account that is removed"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::room::Standing;
    use super::super::tests::{Scene, bare};
    use super::*;

    /// What accounts are after one of them is gone; `None`: there is no room any more.
    fn after(gone: &str, standings: &[(&str, Affiliation)], inside: &[&str]) -> Option<Vec<Affiliation>> {
        let mut scene = Scene::new(RoomConfig { persistent: true, ..RoomConfig::default() });
        for (who, affiliation) in standings {
            scene.room.restore(bare(who), Standing { affiliation: *affiliation, ..Standing::default() });
        }
        inside.iter().for_each(|name| scene.enters(name, name).unwrap());
        scene.room.forget_account(&bare(gone), &mut scene.written);
        let destroyed = scene.written.changes.contains(&Change::Destroyed);
        (!destroyed).then(|| standings.iter().map(|(who, _)| scene.room.affiliation(&bare(who))).collect())
    }

    #[test]
    fn a_room_forgets_an_account_but_not_that_it_was_banned() {
        use Affiliation::{Admin, Member, None as Nothing, Outcast, Owner};
        for (gone, standings, inside, expected) in [
            ("hag", &[("hag", Member)][..], &["hag"][..], Some(vec![Nothing])),
            ("hag", &[("hag", Outcast)], &[], Some(vec![Outcast])),
            // The owner: others are, or the admins become it.
            ("crone", &[("crone", Owner), ("hag", Owner)], &[], Some(vec![Nothing, Owner])),
            ("crone", &[("crone", Owner), ("hag", Admin), ("second", Admin)], &[], Some(vec![Nothing, Owner, Owner])),
            ("crone", &[("crone", Owner), ("hag", Member)], &[], Some(vec![Nothing, Member])),
            ("crone", &[("crone", Owner)], &["hag"], Some(vec![Nothing])),
            // Nobody is left.
            ("crone", &[("crone", Owner)], &["crone"], None),
            ("crone", &[("crone", Owner), ("hag", Outcast)], &[], None),
        ] {
            assert_eq!(after(gone, standings, inside), expected, "{gone} {standings:?} {inside:?}");
        }
    }

    #[test]
    fn who_had_voice_and_was_nothing_else_has_it_no_more() {
        let mut scene = Scene::new(RoomConfig { persistent: true, moderated: true, ..RoomConfig::default() });
        scene.room.restore(bare("hag"), Standing { voice: Some(true), ..Standing::default() });
        scene.room.forget_account(&bare("hag"), &mut scene.written);
        assert!(scene.room.standing(&bare("hag")).is_none());
        assert_eq!(scene.written.changes, [Change::Standing(bare("hag"))]);
    }

    #[test]
    fn who_stayed_in_a_room_stays_no_more() {
        let mut scene = Scene::new(RoomConfig { persistent: true, ..RoomConfig::default() });
        scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        scene.room.restore_stay(bare("hag"));
        scene.room.forget_account(&bare("hag"), &mut scene.written);
        assert!(!scene.room.has_stay(&bare("hag")) && scene.written.changes.contains(&Change::Stay(bare("hag"))));
    }
}
