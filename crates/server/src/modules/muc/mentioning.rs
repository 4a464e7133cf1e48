//! XEP-0452: MUC Mention Notifications
//!
//! Where a room is configured so, a member who is mentioned (XEP-0372) and not there gets the message forwarded.

use magpie_proto::xeps::delay::Delay;
use magpie_proto::xeps::forwarding::forwarded;
use magpie_proto::xeps::hints;
use magpie_proto::xeps::muc::Affiliation;
use magpie_proto::xeps::references;
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{BareJid, Jid, ns};

use super::occupants::key;
use super::room::{Outside, Room};

/// The namespace.
pub const NS: &str = "urn:xmpp:mmn:0";

/// Members to whom one message is forwarded; others who are mentioned in it find it in the room.
const MENTIONED_MAX: usize = 20;

/// Whether a message refers to anything, so that it may be to somebody.
pub fn refers(message: &Stanza) -> bool {
    message.child("reference", references::NS).is_some()
}

/// Whether a message is one that a room forwards because of a mention.
pub(super) fn is_forward(message: &Stanza) -> bool {
    message.child("mentions", NS).is_some()
}

impl Room {
    /// Forwards a message, as everybody got it, to those members whom it mentions and who are not there.
    pub(super) fn forward_mentions(&self, said: &Stanza, out: &mut impl Outside) {
        if !self.config.forward_mentions || !refers(said) {
            return;
        }
        let message = said.with(Attr::To, Some(self.address.as_str()));
        let forwarded = forwarded(&message, Some(&Delay::new(out.now(), self.address.clone())));
        for account in self.mentioned(said) {
            // For its archive the room's own is enough; it waits where nobody is online.
            let hint = |name| Element::new(name, hints::NS);
            let message = Element::new("message", ns::CLIENT)
                .with_attr("from", &self.address)
                .with_attr("to", account)
                .with(Element::new("mentions", NS).with(forwarded.clone()))
                .with(hint("no-permanent-store"))
                .with(hint("store"));
            out.send_out(Stanza::new(&message));
        }
    }

    /// The members who are mentioned and not there, each once.
    fn mentioned(&self, said: &Stanza) -> Vec<&BareJid> {
        let mut found: Vec<&BareJid> = Vec::new();
        for address in references::mentioned(said) {
            let Some(account) = self.member(&address) else { continue };
            if !found.contains(&account) && !self.occupants.has_account(account) {
                found.push(account);
            }
            if found.len() == MENTIONED_MAX {
                break;
            }
        }
        found
    }

    /// The member with this address, or with this nickname where it is one of the room.
    fn member(&self, address: &Jid) -> Option<&BareJid> {
        let (bare, nick) = (address.to_bare(), address.resource().map(key));
        let is_meant = |account: &BareJid, reserved: Option<&str>| match bare == self.address {
            true => nick.is_some() && reserved.map(key) == nick,
            false => *account == bare,
        };
        let mut members = self.standings().filter(|(_, standing)| standing.affiliation >= Affiliation::Member);
        members.find(|(account, standing)| is_meant(account, standing.nick.as_deref())).map(|(account, _)| account)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::room::Standing;
    use super::super::tests::{Scene, bare, full, stanza};
    use super::*;

    const NS_REFERENCE: &str = references::NS;

    /// A room with two members, hag and second, of whom second is there.
    fn scene(forward_mentions: bool) -> Scene {
        let mut scene = Scene::new(RoomConfig { forward_mentions, ..RoomConfig::default() });
        for (who, nick) in [("hag", Some("Third Witch".to_owned())), ("second", None)] {
            scene.room.restore(bare(who), Standing { affiliation: Affiliation::Member, nick, ..Standing::default() });
        }
        ["crone", "second"].iter().for_each(|name| scene.enters(name, name).unwrap());
        scene
    }

    fn told(scene: &mut Scene, uris: &[&str]) -> Vec<String> {
        let references =
            uris.iter().map(|uri| format!("<reference xmlns='{NS_REFERENCE}' type='mention' uri='{uri}'/>"));
        let references: String = references.collect();
        let message =
            format!("<message type='groupchat' id='m1'><body>Where hast thou been?</body>{references}</message>");
        scene.room.groupchat(&full("crone"), &stanza(&message), &mut scene.written).unwrap();
        let to = std::mem::take(&mut scene.written.out).into_iter().filter(is_forward);
        to.filter_map(|message| message.to().map(|to| to.to_string())).collect()
    }

    #[test]
    fn a_member_who_is_mentioned_and_not_there_gets_it_once_where_the_room_forwards() {
        let hag = "xmpp:hag@shakespeare.example";
        let nick = "xmpp:coven@chat.shakespeare.example/third%20witch";
        for (uris, expected) in [
            (&[hag][..], &["hag@shakespeare.example"][..]),
            (&[nick], &["hag@shakespeare.example"]),
            (&[hag, nick, "xmpp:hag@shakespeare.example?join"], &["hag@shakespeare.example"]),
            (&["xmpp:second@shakespeare.example", "xmpp:crone@shakespeare.example"], &[]),
            (&["xmpp:macbeth@shakespeare.example", "xmpp:%zz", "mailto:hag@shakespeare.example", "xmpp:"], &[]),
            (&["xmpp:coven@chat.shakespeare.example", "xmpp:coven@chat.shakespeare.example/nobody"], &[]),
        ] {
            assert_eq!(told(&mut scene(true), uris), expected, "{uris:?}");
            assert_eq!(told(&mut scene(false), uris), [""; 0], "{uris:?}");
        }
    }

    #[test]
    fn of_more_who_are_mentioned_so_many_get_it() {
        let mut scene = Scene::new(RoomConfig { forward_mentions: true, ..RoomConfig::default() });
        scene.enters("crone", "crone").unwrap();
        let names: Vec<String> = (0..=MENTIONED_MAX).map(|n| format!("witch{n}")).collect();
        for name in &names {
            scene.room.restore(bare(name), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        }
        let uris: Vec<String> = names.iter().map(|name| format!("xmpp:{name}@shakespeare.example")).collect();
        let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
        let told = told(&mut scene, &uris);
        assert_eq!((told.len(), told.contains(&bare(&names[MENTIONED_MAX]).to_string())), (MENTIONED_MAX, false));
    }

    #[test]
    fn what_is_forwarded_is_the_message_as_everybody_got_it() {
        let mut scene = scene(true);
        let message = format!(
            "<message type='groupchat' id='m1'><body>x</body><reference xmlns='{NS_REFERENCE}' type='mention' \
             uri='xmpp:hag@shakespeare.example'/></message>"
        );
        scene.room.groupchat(&full("crone"), &stanza(&message), &mut scene.written).unwrap();
        let mentions = scene.written.out[0].child("mentions", NS).unwrap().element();
        let forwarded = magpie_proto::xeps::forwarding::Forwarded::parse(mentions.children().next().unwrap()).unwrap();
        assert_eq!(forwarded.stanza.from().as_deref(), Some("coven@chat.shakespeare.example/crone"));
        assert!(forwarded.stanza.child("stanza-id", "urn:xmpp:sid:0").is_some() && forwarded.delay.is_some());
    }
}
