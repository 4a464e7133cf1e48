//! What comes in on a socket: the connection, the handshake, the negotiation, then elements for the scenario.

use std::io::{self, Read};

use rustix::event::epoll::EventFlags;

use super::Engine;
use super::connection::{Acks, Partial, Stage};
use super::world::{Down, READ_BYTES, connect_error};
use crate::client::negotiation::{Next, Security, condition, is_stanza};
use crate::client::splitter::{Piece, Splitter, attribute, name};
use crate::plan::Protocol;

/// The highest bit of a pair's number asks a relay to send everything back.
const ECHO: u32 = 1 << 31;

impl Engine {
    /// Something happened on the connection that was the `generation`th of `who`.
    pub(super) fn socket(&mut self, who: u32, generation: u32, flags: EventFlags) {
        let Some(session) = self.world.sessions.get(who as usize) else { return };
        if session.generation != generation || session.stage == Stage::Down {
            return;
        }
        if session.stage == Stage::Connecting {
            if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                return;
            }
            if let Err(error) = self.connected(who) {
                let (address, _) = self.world.plan.route(who);
                self.world.close(who, Down::NotReady(connect_error(address, &error)));
                return;
            }
        }
        if flags.contains(EventFlags::OUT)
            && let Some(unsent) = self.world.sessions[who as usize].unsent.take()
        {
            self.world.write(who, &unsent);
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.read(who, flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR));
        }
    }

    fn connected(&mut self, who: u32) -> io::Result<()> {
        let world = &mut self.world;
        let session = &mut world.sessions[who as usize];
        if let Some(error) = session.socket.as_ref().and_then(|socket| socket.take_error().transpose()) {
            return Err(error?);
        }
        session.stage = Stage::Negotiating;
        if world.plan.protocol == Protocol::Raw {
            let pair = world.plan.first + who;
            let number = if self.scenario.is_echo() { pair | ECHO } else { pair / 2 };
            world.write(who, &number.to_be_bytes());
            self.ready(who);
        } else if world.plan.profile.security == Security::Tls {
            self.protect(who);
        } else {
            self.open(who);
        }
        Ok(())
    }

    fn open(&mut self, who: u32) {
        let world = &mut self.world;
        let Some(negotiation) = &mut world.sessions[who as usize].negotiation else { return };
        let mut out = Vec::new();
        negotiation.open(&world.plan.profile, &mut out);
        world.flush(who, &out);
    }

    fn protect(&mut self, who: u32) {
        let world = &mut self.world;
        let Some(client) = &mut world.tls else { return };
        match client.connect(who) {
            Ok(mut tls) => {
                let mut records = Vec::new();
                let hello = tls.write(&[], &mut records);
                world.sessions[who as usize].tls = Some(Box::new(tls));
                match hello {
                    Ok(()) => world.write(who, &records),
                    Err(error) => world.fail(who, error.to_string()),
                }
            }
            Err(error) => world.fail(who, error.to_string()),
        }
    }

    /// Reads until the socket is empty. A read that does not fill the buffer has emptied it, unless the server has
    /// also ended the connection.
    fn read(&mut self, who: u32, ends: bool) {
        loop {
            let session = &mut self.world.sessions[who as usize];
            let Some(mut socket) = session.socket.as_ref() else { return };
            let read = match &session.tls {
                None => {
                    let partial = session.partial.take();
                    let mut input = std::mem::take(&mut self.world.input);
                    let kept = partial.as_ref().map_or(0, |partial| partial.bytes.len());
                    if input.len() < kept + READ_BYTES {
                        input.resize(kept + READ_BYTES, 0);
                    }
                    if let Some(partial) = &partial {
                        input[..kept].copy_from_slice(&partial.bytes);
                    }
                    let read = socket.read(&mut input[kept..kept + READ_BYTES]);
                    let held = kept + *read.as_ref().unwrap_or(&0);
                    self.take_in(who, &input[..held], partial);
                    self.world.input = input;
                    read
                }
                Some(_) => {
                    let mut input = std::mem::take(&mut self.world.input);
                    let read = socket.read(&mut input[..READ_BYTES]);
                    let records = *read.as_ref().unwrap_or(&0);
                    self.take_in_records(who, &input[..records]);
                    self.world.input = input;
                    read
                }
            };
            match read {
                Ok(0) => return self.world.fail(who, "the server closed the connection".into()),
                Ok(read) if read < READ_BYTES && !ends => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.world.fail(who, error.to_string()),
            }
        }
    }

    fn take_in_records(&mut self, who: u32, records: &[u8]) {
        let session = &mut self.world.sessions[who as usize];
        let Some(tls) = &mut session.tls else { return };
        if records.is_empty() {
            return;
        }
        let mut partial = session.partial.take();
        let mut plain = std::mem::take(&mut self.world.plain);
        plain.clear();
        if let Some(partial) = &mut partial {
            plain.append(&mut partial.bytes);
        }
        let was_handshaking = tls.is_handshaking();
        let taken = tls.read(records, &mut plain);
        let mut answer = Vec::new();
        let finished = was_handshaking && !tls.is_handshaking();
        if finished && tls.is_resumed() {
            self.world.resumed_handshakes += 1;
        }
        let answered = tls.write(&[], &mut answer);
        if !answer.is_empty() {
            self.world.write(who, &answer);
        }
        match taken.and_then(|closed| answered.map(|()| closed)) {
            Ok(closed) => {
                if finished {
                    if let Some(negotiation) = &mut self.world.sessions[who as usize].negotiation {
                        negotiation.protect();
                    }
                    self.open(who);
                }
                self.take_in(who, &plain, partial);
                if closed {
                    self.world.fail(who, "the server closed the connection".into());
                }
            }
            Err(error) => self.world.fail(who, error.to_string()),
        }
        self.world.plain = plain;
    }

    /// Looks at what is held of a session's input; what is left of it waits.
    fn take_in(&mut self, who: u32, input: &[u8], partial: Option<Box<Partial>>) {
        let generation = self.world.sessions[who as usize].generation;
        let mut splitter = partial.as_ref().map_or_else(Splitter::default, |partial| partial.splitter);
        self.world.current = Some(who);
        let mut at = 0;
        if self.world.plan.protocol == Protocol::Raw {
            let size = self.scenario.message_bytes();
            for message in input.chunks_exact(size) {
                at += size;
                self.scenario.element(&mut self.world, who, message);
            }
        } else {
            loop {
                match splitter.next(input, &mut at) {
                    Ok(Some(piece)) => self.piece(who, piece),
                    Ok(None) => break,
                    Err(malformed) => {
                        self.world.fail(who, malformed.to_string());
                        break;
                    }
                }
                let session = &self.world.sessions[who as usize];
                if session.stage == Stage::Down || session.generation != generation {
                    break;
                }
            }
        }
        self.world.current = None;
        if self.world.sessions[who as usize].stage != Stage::Down {
            let rest = &input[at..];
            if !rest.is_empty() {
                let mut partial = partial.unwrap_or_default();
                partial.bytes.clear();
                partial.bytes.extend_from_slice(rest);
                partial.splitter = splitter;
                self.world.sessions[who as usize].partial = Some(partial);
            }
            let out = std::mem::take(&mut self.world.out);
            self.world.flush(who, &out);
            self.world.out = out;
        }
        self.world.out.clear();
    }

    fn piece(&mut self, who: u32, piece: Piece<'_>) {
        let element = match piece {
            Piece::Header(_) => return,
            Piece::Element(element) => element,
            Piece::End => return self.stream_ended(who),
        };
        match self.world.sessions[who as usize].stage {
            Stage::Negotiating => self.negotiate(who, element),
            Stage::Up => self.stanza(who, element),
            _ => {}
        }
    }

    fn stream_ended(&mut self, who: u32) {
        match self.world.sessions[who as usize].stage {
            Stage::Closing => self.world.close(who, Down::Ended),
            _ => self.world.fail(who, "the server ended the stream".into()),
        }
    }

    fn negotiate(&mut self, who: u32, element: &[u8]) {
        let world = &mut self.world;
        let session = &mut world.sessions[who as usize];
        let Some(negotiation) = &mut session.negotiation else { return };
        match negotiation.element(&world.plan.profile, &mut world.keys, element, &mut world.out) {
            Ok(Next::Wait) => {}
            Ok(Next::StartTls) => self.protect(who),
            Ok(Next::Ready(ready)) => {
                if !ready.jid.is_empty() {
                    session.jid = ready.jid.into();
                }
                session.resumed = ready.resumed.is_some();
                world.tokens.extend(ready.token.map(|token| (who, token)));
                if let Some(stream) = ready.stream {
                    let acks = session.acks.get_or_insert_default();
                    if ready.resumed.is_none() {
                        let (sent, received) = (ready.sent, ready.received);
                        **acks = Acks { stream, sent, received, ..Acks::default() };
                    }
                    acks.acknowledged = ready.resumed.unwrap_or_default();
                }
                self.ready(who);
            }
            Err(refusal) => world.fail(who, refusal.to_string()),
        }
    }

    fn ready(&mut self, who: u32) {
        let world = &mut self.world;
        let session = &mut world.sessions[who as usize];
        session.stage = Stage::Up;
        session.negotiation = None;
        world.connecting -= 1;
        world.up += 1;
        world.logins += 1;
        self.scenario.up(world, who);
    }

    fn stanza(&mut self, who: u32, element: &[u8]) {
        let world = &mut self.world;
        if let Some(acks) = &mut world.sessions[who as usize].acks {
            if is_stanza(element) {
                acks.received = acks.received.wrapping_add(1);
            } else if name(element) == b"r" {
                let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", acks.received);
                return world.send(who, |out| out.extend_from_slice(answer.as_bytes()));
            } else if name(element) == b"a" {
                let count = attribute(element, b"h").and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
                acks.acknowledged = count.unwrap_or(acks.acknowledged);
                let acknowledged = acks.acknowledged;
                while let Some((_, asked)) =
                    acks.asked.pop_front_if(|(sent, _)| acknowledged.wrapping_sub(*sent) <= u32::MAX / 2)
                {
                    let now = world.now;
                    world.recorder.acknowledged(asked, now);
                }
                return self.scenario.acknowledged(world, who);
            }
        }
        match name(element) {
            b"iq" if matches!(attribute(element, b"type"), Some(b"get" | b"set")) => self.answer(who, element),
            b"stream:error" => world.fail(who, format!("stream error {}", condition(element))),
            _ => self.scenario.element(world, who, element),
        }
    }

    /// RFC 6120 §8.2.3: who is asked answers. Servers ask whether an idle client is there (XEP-0199).
    fn answer(&mut self, who: u32, request: &[u8]) {
        let value = |name| attribute(request, name).unwrap_or_default();
        let (id, from) = (value(b"id"), value(b"from"));
        // A roster push from the own account counts too.
        let refused = memchr::memmem::find(request, b"urn:xmpp:ping").is_none()
            && memchr::memmem::find(request, b"jabber:iq:roster").is_none();
        self.world.stanza(who, |out| {
            out.extend_from_slice(b"<iq id='");
            out.extend_from_slice(id);
            if !from.is_empty() {
                out.extend_from_slice(b"' to='");
                out.extend_from_slice(from);
            }
            out.extend_from_slice(if refused {
                b"' type='error'><error type='cancel'><service-unavailable \
                  xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            } else {
                b"' type='result'/>"
            });
        });
    }
}
