//! XEP-0045 as far as a load generator can tell; one lock, so that all hear the same in the same order.

use std::collections::HashMap;

use magpie_load::client::splitter::{attribute, name};

/// All rooms of a server, by their addresses.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: HashMap<String, Room>,
    /// One message of five does not come to the second who entered, and the one after it comes twice.
    pub(super) is_faulty: bool,
}

#[derive(Default)]
struct Room {
    /// Nicknames and full addresses, in the order in which they came.
    occupants: Vec<(String, String)>,
    is_persistent: bool,
    messages: u32,
}

/// What is to be sent, and to whom.
type Out = Vec<(String, String)>;

impl Rooms {
    /// What a stanza from `from` to a room, or to one in it, brings about.
    pub(super) fn take(&mut self, from: &str, to: &str, element: &[u8]) -> Out {
        let (address, nick) = to.split_once('/').unwrap_or((to, ""));
        let id = String::from_utf8_lossy(attribute(element, b"id").unwrap_or_default()).into_owned();
        match (name(element), attribute(element, b"type")) {
            (b"presence", None) => self.join(from, address, nick),
            (b"presence", _) => self.leave(from, address),
            (b"message", _) => self.say(from, address, &id),
            _ => self.own(from, address, &id, element),
        }
    }

    fn join(&mut self, from: &str, address: &str, nick: &str) -> Out {
        let is_new = !self.rooms.contains_key(address);
        let room = self.rooms.entry(address.to_owned()).or_default();
        let mut out = Vec::new();
        for (other, _) in &room.occupants {
            out.push((from.to_owned(), format!("<presence from='{address}/{other}'/>")));
        }
        room.occupants.push((nick.to_owned(), from.to_owned()));
        let created = if is_new { "<status code='201'/>" } else { "" };
        for (_, other) in &room.occupants {
            let own = if other == from { format!("<x><status code='110'/>{created}</x>") } else { String::new() };
            out.push((other.clone(), format!("<presence from='{address}/{nick}'>{own}</presence>")));
        }
        out
    }

    fn leave(&mut self, from: &str, address: &str) -> Out {
        let Some(room) = self.rooms.get_mut(address) else { return Vec::new() };
        let Some(at) = room.occupants.iter().position(|(_, jid)| jid == from) else { return Vec::new() };
        let nick = room.occupants[at].0.clone();
        let presence = format!("<presence type='unavailable' from='{address}/{nick}'/>");
        let out = room.occupants.iter().map(|(_, jid)| (jid.clone(), presence.clone())).collect();
        room.occupants.remove(at);
        if room.occupants.is_empty() && !room.is_persistent {
            self.rooms.remove(address);
        }
        out
    }

    fn say(&mut self, from: &str, address: &str, id: &str) -> Out {
        let Some(room) = self.rooms.get_mut(address) else { return Vec::new() };
        let Some((nick, _)) = room.occupants.iter().find(|(_, jid)| jid == from) else {
            return vec![(
                from.to_owned(),
                format!("<message type='error' id='{id}'><error><not-acceptable/></error></message>"),
            )];
        };
        room.messages += 1;
        let message = format!("<message from='{address}/{nick}' type='groupchat' id='{id}'><body>1</body></message>");
        let mut out: Out = room.occupants.iter().map(|(_, jid)| (jid.clone(), message.clone())).collect();
        if self.is_faulty && room.messages % 5 == 0 {
            out.remove(1);
        } else if self.is_faulty && room.messages % 5 == 1 && room.messages > 1 {
            out.push(out[1].clone());
        }
        out
    }

    /// What the owner asks for.
    fn own(&mut self, from: &str, address: &str, id: &str, element: &[u8]) -> Out {
        let has = |what: &str| memchr::memmem::find(element, what.as_bytes()).is_some();
        let room = self.rooms.get_mut(address).expect("its owner has made it");
        let mut payload = "";
        if has("<destroy/>") {
            self.rooms.remove(address);
        } else if has("type='submit'") {
            // What the form has no field for must not be in it.
            assert!(!has("presencebroadcast") && has("muc#roomconfig_persistentroom'><value>1</value>"));
            room.is_persistent = true;
        } else {
            payload = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'>\
                       <field var=\"muc#roomconfig_persistentroom\"/><field var='mam'/></x></query>";
        }
        vec![(from.to_owned(), format!("<iq type='result' id='{id}' from='{address}'>{payload}</iq>"))]
    }
}
