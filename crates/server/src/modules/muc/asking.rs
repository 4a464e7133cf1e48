//! XEP-0045 §6: what a room tells of itself.

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::disco::{Identity, Info, Item, Items, NS_INFO, NS_ITEMS};
use magpie_proto::xeps::muc::{self, Affiliation};
use magpie_proto::xeps::{mam, result_sets};
use magpie_proto::{Jid, StanzaCondition};

use super::hats;
use super::occupant_ids;
use super::registering::NS_REGISTER;
use super::retracting::NS_MODERATE;
use super::room::{Outcome, Room};
use super::versioning;
use crate::modules::{adhoc, retraction, stanza_ids, vcard};

impl Room {
    /// Service discovery's answer on the room.
    pub fn info(&self, from: &Jid, node: Option<&str>) -> Outcome<Info> {
        // §6.4: a room that is still being made is none.
        self.check_seen(from)?;
        match node {
            None => {}
            Some(muc::RESERVED_NICK_NODE) => return Ok(self.reserved_nick(from)),
            // It passes on all that is not its own to say.
            Some(muc::TRAFFIC_NODE) => return Err(StanzaCondition::ServiceUnavailable.into()),
            Some(_) => return Err(StanzaCondition::ItemNotFound.into()),
        }
        let config = &self.config;
        let either = |is: bool, one: &'static str, other: &'static str| if is { one } else { other };
        let mut features = vec![
            muc::NS,
            muc::ROOM_CONFIG,
            muc::ROOM_INFO,
            NS_INFO,
            NS_ITEMS,
            NS_REGISTER,
            occupant_ids::NS,
            muc::STABLE_ID,
            "http://jabber.org/protocol/muc#self-ping-optimization",
            stanza_ids::NS,
            vcard::NS,
            hats::NS,
            versioning::NS,
            adhoc::NS,
            either(config.persistent, "muc_persistent", "muc_temporary"),
            either(config.public, "muc_public", "muc_hidden"),
            either(config.members_only, "muc_membersonly", "muc_open"),
            either(config.moderated, "muc_moderated", "muc_unmoderated"),
            either(config.non_anonymous(), "muc_nonanonymous", "muc_semianonymous"),
            either(config.password.is_some(), "muc_passwordprotected", "muc_unsecured"),
        ];
        if config.registration {
            features.push(muc::REGISTER);
        }
        if config.voice_requests {
            features.push(muc::REQUEST);
        }
        if config.archived {
            features.extend([mam::NS, mam::NS_EXTENDED, result_sets::NS, NS_MODERATE, retraction::NS]);
        }
        let name = if config.name.is_empty() { self.address.local().unwrap_or_default() } else { &config.name };
        Ok(Info {
            node: None,
            identities: vec![Identity::new("conference", "text").with_name(name)],
            features: features.into_iter().map(str::to_owned).collect(),
            forms: vec![self.info_form()],
        })
    }

    fn info_form(&self) -> Form {
        let field = |kind, var: &str, label: &str| Field::new(kind, format!("muc#roominfo_{var}")).with_label(label);
        let text = |var: &str, label: &str, value: &str| field(FieldType::TextSingle, var, label).with_value(value);
        let owners = self.standings().filter(|(_, standing)| standing.affiliation == Affiliation::Owner);
        let subject = self.subject.as_ref().and_then(|subject| {
            subject.message.child("subject", magpie_proto::ns::CLIENT).map(|subject| subject.element().text())
        });
        let history = Field::new(FieldType::TextSingle, "muc#maxhistoryfetch")
            .with_label("Messages that who enters gets at most")
            .with_value(self.config.history_max.to_string());
        // §6.4: addresses only where they are no secret.
        let contacts = owners.filter(|_| self.config.non_anonymous()).map(|(jid, _)| jid.as_str().to_owned());
        let mut form = Form::typed(FormKind::Result, muc::ROOM_INFO)
            .with(text("description", "Description", &self.config.description))
            .with(text("occupants", "Occupants", &self.occupants.len().to_string()))
            .with(text("lang", "Language", &self.config.language))
            .with(
                field(FieldType::Boolean, "subjectmod", "Occupants may change the subject")
                    .with_bool(self.config.change_subject),
            )
            .with(field(FieldType::JidMulti, "contactjid", "Contact addresses").with_values(contacts))
            .with(history);
        if let Some(subject) = subject.filter(|subject| !subject.is_empty()) {
            form = form.with(text("subject", "Subject", &subject));
        }
        form.fields.extend(self.hats_field());
        if !self.avatars.is_empty() {
            let hashes = self.avatars.iter().map(|hash| &**hash);
            form = form.with(field(FieldType::TextMulti, "avatarhash", "Hashes of the avatar").with_values(hashes));
        }
        if !self.config.pubsub.is_empty() {
            let uri = Field::new(FieldType::TextSingle, "muc#roomconfig_pubsub").with_label("Associated node");
            form = form.with(uri.with_value(self.config.pubsub.as_str()));
        }
        if self.config.slow_mode_seconds > 0 {
            let seconds = self.config.slow_mode_seconds.to_string();
            form = form.with(text("slow_mode_duration", "Seconds between messages of one occupant", &seconds));
        }
        form
    }

    /// §7.12: the nickname that is reserved for who asks.
    fn reserved_nick(&self, from: &Jid) -> Info {
        let standing = self.standing(&from.to_bare()).filter(|standing| !standing.asks());
        let nick = standing.and_then(|standing| standing.nick.clone());
        Info {
            node: Some(muc::RESERVED_NICK_NODE.to_owned()),
            identities: nick.map(|nick| Identity::new("conference", "text").with_name(nick)).into_iter().collect(),
            ..Info::default()
        }
    }

    /// §6.5: who is there, for those who are too.
    pub fn items(&self, from: &Jid) -> Outcome<Items> {
        self.check_seen(from)?;
        let inside = from.to_full().is_some_and(|jid| self.occupants.seated(&jid).is_some());
        let shown = self.occupants.iter().filter(|_| inside);
        Ok(Items { node: None, items: shown.map(|occupant| Item::new(occupant.address.clone())).collect() })
    }

    /// Whether it stands in the list of the service's rooms.
    pub fn is_listed(&self) -> bool {
        self.config.public && !self.locked
    }
}
