//! Performs one conversation: every step in order, and at the end nobody may have received anything unasked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::{Connection, PATIENCE};
use super::ejabberd;
use super::pattern::{IS, Variables, check, substitute};
use super::script::{Action, Actor, Login, Order, Script, Step};
use super::servers::{Kind, Server};
use super::xml::{CLIENT, Incoming, Node, SM, STREAM, STREAM_ERRORS, parse_fragment};

/// Where the server under test listens.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) starttls: SocketAddr,
    pub(crate) direct_tls: SocketAddr,
}

/// Performs the script; an error is the report of the failure.
pub(crate) fn perform(script: &Script, server: &Server, domain: &str) -> Result<(), String> {
    let variables = Variables::from([("host".to_owned(), domain.to_owned())]);
    let mut stage = Stage { script, server, domain, variables, connections: BTreeMap::new(), allowed: BTreeMap::new() };
    for step in script.steps.iter().filter(|step| !step.not_for.contains(&server.kind)) {
        stage.act(step).map_err(|why| stage.report(step.line, &step.actor, &why))?;
    }
    stage.nothing_is_left()
}

pub(super) struct Stage<'a> {
    script: &'a Script,
    server: &'a Server,
    pub(super) domain: &'a str,
    variables: Variables,
    pub(super) connections: BTreeMap<String, Connection>,
    /// What may come at any time, by who may receive it.
    allowed: BTreeMap<String, Vec<Node>>,
}

impl Stage<'_> {
    fn act(&mut self, step: &Step) -> Result<(), String> {
        let actor = step.actor.as_str();
        match &step.action {
            Action::Waits(time) => std::thread::sleep(*time),
            Action::ServerRestarts => self.server.restart()?,
            Action::OpensConnection { direct_tls } => self.open(actor, *direct_tls)?,
            Action::OpensStream => {
                let connection = self.connection(actor)?;
                connection.send_header()?;
                connection.next_header()?;
            }
            Action::NegotiatesTls => {
                let connection = self.connection(actor)?;
                connection.negotiate_tls()?;
            }
            Action::LogsIn(how) => {
                let (local, _) = self.session(actor)?;
                self.open(actor, false)?;
                self.connection(actor)?.log_in(&local, how)?;
            }
            Action::Connects(how) => self.connect(actor, how)?,
            Action::AsksForTheRoster => {
                let connection = self.connection(actor)?;
                connection.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")?;
                let answer = connection.next_element("the roster")?;
                if answer.attr("type") != Some("result") || answer.attr("id") != Some("roster") {
                    return Err(format!("expected the roster, found {answer}"));
                }
            }
            Action::SeeEachOther(one, other) => self.see_each_other(one, other)?,
            Action::ComesOnline => self.come_online(actor)?,
            Action::CreatesRoom(place, settings) => self.create_room(actor, place, settings)?,
            Action::EntersRoom(place, seen_by) => self.enter_room(actor, place, seen_by)?,
            Action::Sends(text) => {
                let text = substitute(text, &self.variables)?;
                let connection = self.connection(actor)?;
                if text.contains("<stream:stream") {
                    connection.new_stream();
                }
                connection.send(&text)?;
            }
            Action::Receives(order, block) => self.receive(actor, *order, block)?,
            Action::MayReceive(block) => {
                let nodes = parse_fragment(block, IS)?;
                self.allowed.entry(actor.to_owned()).or_default().extend(nodes);
            }
            Action::ReceivesNothing(time) => self.receive_nothing(actor, Instant::now() + *time)?,
            Action::ReceivesStreamHeader(expected) => {
                let header = self.connection(actor)?.next_header()?;
                if let Some(expected) = expected {
                    let expected = &parse_fragment(expected, IS)?[0];
                    check(expected, &header, &mut self.variables)
                        .map_err(|why| disagreement(&[expected], Some(&header), &why))?;
                }
            }
            Action::ReceivesStreamError(condition) => self.receive_stream_error(actor, condition)?,
            Action::IsClosed => self.is_closed(actor)?,
            Action::Disconnects => {
                let connection = self.connection(actor)?;
                connection.send("</stream:stream>")?;
                self.is_closed(actor)?;
            }
            Action::Drops => {
                self.connection(actor)?.drop_connection();
                self.connections.remove(actor);
            }
        }
        Ok(())
    }

    fn session(&self, actor: &str) -> Result<(String, Option<String>), String> {
        match &self.script.actors[actor] {
            Actor::Session { local, resource } => Ok((local.clone(), resource.clone())),
            Actor::Connection => Err(format!("{actor} has no account")),
        }
    }

    fn open(&mut self, actor: &str, direct_tls: bool) -> Result<(), String> {
        if self.connections.get(actor).is_some_and(|connection| !connection.closed) {
            return Err(format!("{actor} is connected already"));
        }
        let address = if direct_tls { self.server.addresses.direct_tls } else { self.server.addresses.starttls };
        let mut connection = Connection::open(address, self.domain)?;
        if direct_tls {
            connection.start_tls()?;
        }
        self.connections.insert(actor.to_owned(), connection);
        Ok(())
    }

    fn connect(&mut self, actor: &str, how: &Login) -> Result<(), String> {
        let (local, resource) = self.session(actor)?;
        self.open(actor, false)?;
        let connection = self.connection(actor)?;
        connection.log_in(&local, how)?;
        let jid = connection.bind(resource.as_deref())?;
        self.variables.insert(actor.to_owned(), jid);
        Ok(())
    }

    pub(super) fn connection(&mut self, actor: &str) -> Result<&mut Connection, String> {
        self.connections.get_mut(actor).ok_or_else(|| format!("{actor} is not connected"))
    }

    /// RFC 6121 §4.2.2: initial presence also goes to the resource that sent it.
    pub(super) fn come_online(&mut self, actor: &str) -> Result<(), String> {
        if !self.connections.contains_key(actor) {
            self.connect(actor, &Default::default())?;
        }
        let jid = self.variables.get(actor).cloned().ok_or_else(|| format!("{actor} has bound no resource"))?;
        let connection = self.connection(actor)?;
        connection.send("<presence/>")?;
        let mut early = Vec::new();
        loop {
            let node = connection.next_element("the session's own presence")?;
            if node.is(CLIENT, "presence") && node.attr("from") == Some(&jid) && node.attr("type").is_none() {
                break;
            }
            early.push(Incoming::Element(node));
        }
        connection.put_back(early);
        Ok(())
    }

    /// RFC 6121 §3: both subscriptions, by sessions that end with it.
    fn see_each_other(&self, one: &str, other: &str) -> Result<(), String> {
        let visit = |local: &str| {
            let mut connection = Connection::open(self.server.addresses.starttls, self.domain)?;
            connection.log_in(local, &Default::default())?;
            connection.bind(None)?;
            // Whoever does not ask for the roster is not told of what becomes of it (§3.1.6).
            connection.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>")?;
            Ok::<_, String>(connection)
        };
        let hears = |connection: &mut Connection, kind: &str, from: &str| loop {
            let node = connection.next_element(&format!("{kind} from {from}"))?;
            if node.is(CLIENT, "presence") && node.attr("type") == Some(kind) && node.attr("from") == Some(from) {
                return Ok::<_, String>(());
            }
        };
        let (one_jid, other_jid) = (format!("{one}@{}", self.domain), format!("{other}@{}", self.domain));
        let (mut one, mut other) = (visit(one)?, visit(other)?);
        one.send(&format!("<presence to='{other_jid}' type='subscribe'/>"))?;
        hears(&mut other, "subscribe", &one_jid)?;
        other.send(&format!(
            "<presence to='{one_jid}' type='subscribed'/><presence to='{one_jid}' type='subscribe'/>"
        ))?;
        hears(&mut one, "subscribe", &other_jid)?;
        one.send(&format!("<presence to='{other_jid}' type='subscribed'/>"))?;
        hears(&mut other, "subscribed", &one_jid)?;
        for mut connection in [one, other] {
            // Once it is answered, everybody has been told that this session is gone, and nobody hears of it later.
            connection
                .send("<presence type='unavailable'/><iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")?;
            while connection.next_element("the answer after the end")?.attr("type") != Some("result") {}
            connection.send("</stream:stream>")?;
            while !matches!(connection.next(Instant::now() + PATIENCE)?, None | Some(Incoming::Closed(_))) {}
        }
        Ok(())
    }

    fn receive(&mut self, actor: &str, order: Order, block: &str) -> Result<(), String> {
        let mut wanted = parse_fragment(block, IS).map_err(|why| format!("the expectation is not XML: {why}"))?;
        let rounds = if order == Order::OneOf { 1 } else { wanted.len() };
        for _ in 0..rounds {
            let candidates: Vec<&Node> =
                if order == Order::AsWritten { wanted.iter().take(1).collect() } else { wanted.iter().collect() };
            let found = match self.next(actor, Instant::now() + PATIENCE, &candidates)? {
                Some(Incoming::Element(node)) => node,
                Some(other) => return Err(disagreement(&candidates, None, &format!("instead came: {other:?}"))),
                None => {
                    let why = format!("nothing came for {} s", PATIENCE.as_secs());
                    return Err(disagreement(&candidates, None, &why));
                }
            };
            let mut reasons = Vec::new();
            let matching = candidates.iter().position(|expected| match check(expected, &found, &mut self.variables) {
                Ok(()) => true,
                Err(why) => {
                    reasons.push(why);
                    false
                }
            });
            match matching {
                Some(index) => drop(wanted.remove(index)),
                None => return Err(disagreement(&candidates, Some(&found), &reasons.join("\n"))),
            }
        }
        Ok(())
    }

    fn receive_nothing(&mut self, actor: &str, deadline: Instant) -> Result<(), String> {
        match self.next(actor, deadline, &[])? {
            None => Ok(()),
            Some(Incoming::Element(node)) => Err(format!("expected nothing, received:\n{node}")),
            Some(other) => Err(format!("expected nothing, received: {other:?}")),
        }
    }

    /// The next thing that does not come by the way: a server may ask for an acknowledgement at any time (XEP-0198 §4), say
    /// of an account that it has no presence (RFC 6121 §4.3.2 leaves that open), and send what the conversation has allowed.
    /// All of them count where they are expected.
    pub(super) fn next(
        &mut self,
        actor: &str,
        deadline: Instant,
        expected: &[&Node],
    ) -> Result<Option<Incoming>, String> {
        loop {
            let incoming = self.connection(actor)?.next(deadline)?;
            let Some(Incoming::Element(node)) = &incoming else { return Ok(incoming) };
            let is_absence = node.is(CLIENT, "presence")
                && node.attr("type") == Some("unavailable")
                && node.attr("from").is_some_and(|from| !from.contains('/'));
            let by_the_way = node.is(SM, "r")
                || is_absence
                || self.server.kind == Kind::Ejabberd && ejabberd::says_unasked(node)
                || self.allowed.get(actor).into_iter().flatten().any(|one| self.matches(one, node));
            if !by_the_way || expected.iter().any(|one| self.matches(one, node)) {
                return Ok(incoming);
            }
        }
    }

    fn matches(&self, expected: &Node, found: &Node) -> bool {
        check(expected, found, &mut self.variables.clone()).is_ok()
    }

    /// RFC 6120 §4.9.1.1: the error, the end of the stream, the end of the connection.
    fn receive_stream_error(&mut self, actor: &str, condition: &str) -> Result<(), String> {
        let mut error = self.connection(actor)?.next_element(&format!("stream error {condition}"))?;
        while error.is(SM, "r") {
            error = self.connection(actor)?.next_element(&format!("stream error {condition}"))?;
        }
        if !error.is(STREAM, "error") || error.child(STREAM_ERRORS, condition).is_none() {
            return Err(format!("expected stream error {condition}, received:\n{error}"));
        }
        self.is_closed(actor)
    }

    fn is_closed(&mut self, actor: &str) -> Result<(), String> {
        let must_end = self.connection(actor)?.header_seen();
        let mut ended = false;
        loop {
            match self.next(actor, Instant::now() + PATIENCE, &[])? {
                Some(Incoming::End) => {
                    ended = true;
                    // §4.4: whoever is told that the stream ends, ends it too. The server may be gone already.
                    let _ = self.connection(actor)?.send("</stream:stream>");
                }
                Some(Incoming::Closed(Some(why))) => return Err(why),
                Some(Incoming::Closed(None)) if must_end && !ended => {
                    return Err("the connection was closed without </stream:stream>".into());
                }
                Some(Incoming::Closed(None)) => break,
                Some(Incoming::Element(node)) => return Err(format!("expected the end, received:\n{node}")),
                Some(Incoming::Header(_)) => return Err("expected the end, received a stream header".into()),
                None => return Err("expected the end of the connection, nothing came".into()),
            }
        }
        self.connections.remove(actor);
        Ok(())
    }

    fn nothing_is_left(&mut self) -> Result<(), String> {
        std::thread::sleep(Duration::from_millis(150));
        let actors: Vec<String> = self.connections.keys().cloned().collect();
        let line = self.script.steps.last().map_or(0, |step| step.line);
        for actor in actors {
            let deadline = Instant::now() + Duration::from_millis(1);
            self.receive_nothing(&actor, deadline)
                .map_err(|why| self.report(line, &actor, &format!("after the last line: {why}")))?;
        }
        Ok(())
    }

    fn report(&self, line: usize, actor: &str, why: &str) -> String {
        let mut out = format!("{}:{line}: {actor}\n", self.script.path.display());
        let _ = writeln!(out, "{}", indent(why, "    "));
        if let Some(connection) = self.connections.get(actor) {
            let skipped = connection.transcript.len().saturating_sub(12);
            let _ = writeln!(out, "    what {actor} sent (>) and received (<) before:");
            for entry in &connection.transcript[skipped..] {
                let _ = writeln!(out, "{}", indent(entry, "      "));
            }
        }
        out
    }
}

fn disagreement(expected: &[&Node], found: Option<&Node>, why: &str) -> String {
    let mut out = String::new();
    for (index, node) in expected.iter().enumerate() {
        let _ = writeln!(out, "{}:\n{}", if index == 0 { "expected" } else { "or" }, indent(&node.to_string(), "  - "));
    }
    if let Some(node) = found {
        let _ = writeln!(out, "received:\n{}", indent(&node.to_string(), "  + "));
    }
    let _ = write!(out, "{}", indent(why, "because "));
    out
}

fn indent(text: &str, with: &str) -> String {
    text.lines().map(|line| format!("{with}{line}")).collect::<Vec<_>>().join("\n")
}
