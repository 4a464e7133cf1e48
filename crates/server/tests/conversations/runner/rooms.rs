//! XEP-0045: Multi-User Chat, from the side of an occupant: rooms are made and entered in one line of a conversation.

use std::fmt::Write as _;
use std::time::Instant;

use super::connection::PATIENCE;
use super::perform::Stage;
use super::script::{RoomNick, RoomSetting};
use super::xml::{CLIENT, Incoming, Node, escape};

const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

impl Stage<'_> {
    /// §10.1: the room is open when this returns, and what it told its first occupant has been read.
    pub(super) fn create_room(
        &mut self,
        actor: &str,
        place: &RoomNick,
        settings: &[RoomSetting],
    ) -> Result<(), String> {
        let own = self.join(actor, place)?;
        if !has_status(&own, "201") {
            return Err(format!("expected a new room, entered {own}"));
        }
        let room = self.room_jid(place);
        let mut fields = String::new();
        for (name, value) in settings {
            let (name, value) = (escape(name), escape(value));
            let _ = write!(fields, "<field var='muc#roomconfig_{name}'><value>{value}</value></field>");
        }
        if !fields.is_empty() {
            fields.insert_str(
                0,
                "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>",
            );
        }
        let connection = self.connection(actor)?;
        connection.send(&format!(
            "<iq to='{room}' type='set' id='configure'><query xmlns='http://jabber.org/protocol/muc#owner'>\
             <x xmlns='jabber:x:data' type='submit'>{fields}</x></query></iq>\
             <iq to='{room}' type='get' id='configured'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        ))?;
        // Whether the room tells its owner of the first configuration is open (§10.2.1).
        loop {
            let node = connection.next_element("the configured room")?;
            match (node.attr("type"), node.attr("id")) {
                // The room's own, which has nothing to do with it.
                (None, _) if node.is(CLIENT, "presence") && node.attr("from") == Some(&room) => {}
                (Some("result"), Some("configured")) => return Ok(()),
                (Some("result"), Some("configure")) => {}
                (Some("groupchat"), _) if node.attr("from") == Some(&room) && node.child(MUC_USER, "x").is_some() => {}
                _ => return Err(format!("expected the configured room, found {node}")),
            }
        }
    }

    pub(super) fn enter_room(&mut self, actor: &str, place: &RoomNick, seen_by: &[String]) -> Result<(), String> {
        let own = self.join(actor, place)?;
        if has_status(&own, "201") {
            return Err(format!("the room did not exist: {own}"));
        }
        let occupant = format!("{}/{}", self.room_jid(place), place.nick);
        for other in seen_by {
            match self.next(other, Instant::now() + PATIENCE, &[])? {
                Some(Incoming::Element(node)) if is_presence(&node, &occupant) => {}
                found => return Err(format!("{other} should have seen {occupant} enter, received {found:?}")),
            }
        }
        Ok(())
    }

    /// §7.1: the presence of the others, the own presence, which is given, the history, the subject.
    fn join(&mut self, actor: &str, place: &RoomNick) -> Result<Node, String> {
        if !self.connections.contains_key(actor) {
            self.come_online(actor)?;
        }
        let room = self.room_jid(place);
        let occupant = format!("{room}/{}", place.nick);
        let connection = self.connection(actor)?;
        connection.send(&format!(
            "<presence to='{}'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
            escape(&occupant)
        ))?;
        let mut own = None;
        loop {
            let node = connection.next_element(&format!("the way into {room}"))?;
            let is_from_room = node.attr("from").is_some_and(|from| from.starts_with(&room));
            if !is_from_room || node.attr("type") == Some("error") {
                return Err(format!("cannot enter {room}: {node}"));
            }
            if node.is(CLIENT, "presence") {
                if has_status(&node, "110") {
                    own = Some(node);
                }
            } else if node.child(CLIENT, "subject").is_some() && node.child(CLIENT, "body").is_none() {
                return own.ok_or_else(|| format!("the subject of {room} came before the own presence"));
            }
        }
    }

    fn room_jid(&self, place: &RoomNick) -> String {
        format!("{}@conference.{}", place.room, self.domain)
    }
}

fn has_status(presence: &Node, code: &str) -> bool {
    let statuses = presence.child(MUC_USER, "x").into_iter().flat_map(|x| &x.children);
    statuses.into_iter().any(|child| child.is(MUC_USER, "status") && child.attr("code") == Some(code))
}

fn is_presence(node: &Node, from: &str) -> bool {
    node.is(CLIENT, "presence") && node.attr("type").is_none() && node.attr("from") == Some(from)
}
