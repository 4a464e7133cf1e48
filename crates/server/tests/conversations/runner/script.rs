//! The format of a conversation file, which `README.md` beside the files describes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::servers::{Kind, domain_of};

/// One file.
pub(crate) struct Script {
    pub(crate) path: PathBuf,
    /// The file's name without its ending: also the first label of the domain that only this file uses.
    pub(crate) name: String,
    /// `only magpie: …`, `not for prosody: …`: which servers it is not held with, and why.
    pub(crate) not_for: BTreeMap<Kind, String>,
    /// `not for prosody: …` between the steps: why some of them are left out with that server.
    pub(crate) parts_not_for: Vec<(Kind, String)>,
    /// `server with key = value`: configuration that the server must be started with.
    pub(crate) settings: BTreeMap<String, String>,
    /// `prosody with mam`: modules that Prosody needs for it and that would change what it does elsewhere.
    pub(crate) prosody_modules: Vec<String>,
    /// `prosody with name = value`: lines of its configuration.
    pub(crate) prosody_options: Vec<String>,
    /// `ejabberd with mod_stun_disco: {}`: its modules with their options, as one line of YAML.
    pub(crate) ejabberd_modules: Vec<String>,
    /// It speaks of `pubsub.{host}`: Magpie and ejabberd serve that by themselves, Prosody must be told to.
    pub(crate) has_pubsub: bool,
    /// It speaks of nodes, or of vCards, whose pictures ejabberd keeps at nodes.
    pub(crate) may_make_nodes: bool,
    /// The local parts that must be accounts when the conversation begins.
    pub(crate) accounts: Vec<String>,
    /// It speaks of `conference.{host}`: Magpie serves that by itself, other servers must be told to.
    pub(crate) has_rooms: bool,
    pub(crate) actors: BTreeMap<String, Actor>,
    pub(crate) steps: Vec<Step>,
}

/// With what the key of a setting begins that is in force when the accounts are made, and not any more when they are used.
pub(crate) const EARLIER: &str = "accounts made with ";

impl Script {
    /// Whether it needs a server of its own, since it restarts it.
    pub(crate) fn restarts_the_server(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::ServerRestarts))
    }

    /// Whether something of it is not held with the server.
    pub(crate) fn is_excused(&self, kind: Kind) -> bool {
        self.not_for.contains_key(&kind) || self.parts_not_for.iter().any(|(other, _)| *other == kind)
    }

    /// All of it is held with every server, whatever it says.
    pub(crate) fn forget_excuses(&mut self) {
        for step in &mut self.steps {
            step.not_for.clear();
        }
    }
}

/// Who speaks.
#[derive(Clone)]
pub(crate) enum Actor {
    /// `romeo is romeo@{host}/orchard`
    Session { local: String, resource: Option<String> },
    /// `raw is a connection`
    Connection,
}

pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) actor: String,
    pub(crate) action: Action,
    /// With these servers nothing happens.
    pub(crate) not_for: Vec<Kind>,
}

pub(crate) enum Action {
    /// A TCP connection, and nothing on it.
    OpensConnection {
        direct_tls: bool,
    },
    /// A stream header for the domain, and the server's header.
    OpensStream,
    /// RFC 6120 §5, with the new stream header after it.
    NegotiatesTls,
    /// Everything up to the stream features that come after SASL, which are read.
    LogsIn(Login),
    /// Everything up to a bound resource.
    Connects(Login),
    /// Connects, unless it is, sends initial presence and waits for its own copy of it.
    ComesOnline,
    /// RFC 6121 §2.1.3: the session is interested in pushes from then on.
    AsksForTheRoster,
    /// Two accounts, by their local parts, that have no sessions now.
    SeeEachOther(String, String),
    /// XEP-0045 §10.1: the room exists and is open when this is done.
    CreatesRoom(RoomNick, Vec<RoomSetting>),
    /// XEP-0045 §7.2: everything up to the room's subject is read; the others receive the presence.
    EntersRoom(RoomNick, Vec<String>),
    Sends(String),
    Receives(Order, String),
    /// From now on these may come at any time.
    MayReceive(String),
    ReceivesNothing(Duration),
    ReceivesStreamHeader(Option<String>),
    ReceivesStreamError(String),
    /// The server ends the stream, if it has begun one, and the connection.
    IsClosed,
    /// `</stream:stream>`, which the server answers.
    Disconnects,
    /// The connection ends without a word.
    Drops,
    Waits(Duration),
    /// The server stops in order, and starts again on what it has.
    ServerRestarts,
}

#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) tls: bool,
    pub(crate) mechanism: Option<String>,
}

/// A room of `conference.{host}`, by its local part, and a nickname there.
pub(crate) struct RoomNick {
    pub(crate) room: String,
    pub(crate) nick: String,
}

/// The end of a field's name, after `muc#roomconfig_`, and its value.
pub(crate) type RoomSetting = (String, String);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    AsWritten,
    Any,
    OneOf,
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Script, String> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let mut script = Script {
        path: path.to_owned(),
        name,
        not_for: BTreeMap::new(),
        parts_not_for: Vec::new(),
        settings: BTreeMap::new(),
        prosody_modules: Vec::new(),
        prosody_options: Vec::new(),
        ejabberd_modules: Vec::new(),
        has_pubsub: text.contains("pubsub.{host}"),
        may_make_nodes: ["/pubsub", "vcard-temp", "bookmarks"].iter().any(|word| text.contains(word)),
        accounts: Vec::new(),
        has_rooms: text.contains("conference.{host}"),
        actors: BTreeMap::new(),
        steps: Vec::new(),
    };
    let first = text.lines().next().unwrap_or_default();
    if !(first.starts_with("# XEP-") || first.starts_with("# RFC ")) {
        return Err(format!("{}:1: the first line names the document: `# XEP-0280: …`", path.display()));
    }
    let mut lines = text.lines().enumerate().peekable();
    // What `not for` says between the steps holds up to the next empty line.
    let mut paragraph_not_for = Vec::new();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        let fail = |why: &str| format!("{}:{number}: {why}: `{line}`", path.display());
        if line.trim().is_empty() {
            paragraph_not_for.clear();
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            return Err(fail("an indented block belongs below a line that ends in `:`"));
        }
        let mut block = String::new();
        while let Some((_, next)) = lines.next_if(|(_, next)| next.starts_with([' ', '\t']) || next.trim().is_empty()) {
            block.push_str(next.trim());
            block.push('\n');
        }
        let paragraph_ends = block == "\n" || block.ends_with("\n\n");
        let block = block.trim().to_owned();
        if line.ends_with(':') == block.is_empty() {
            return Err(fail("a line with a block ends in `:`, and no other does"));
        }
        if !script.steps.is_empty() && line.starts_with("not for ") {
            let (kind, reason) = exception(line).map_err(|why| fail(&why))?;
            paragraph_not_for.push(kind);
            script.parts_not_for.push((kind, reason));
        } else if !declaration(line, &mut script).map_err(|why| fail(&why))? {
            let mut step = step(number, line, block, &script.actors).map_err(|why| fail(&why))?;
            step.not_for.clone_from(&paragraph_not_for);
            script.steps.push(step);
            if paragraph_ends {
                paragraph_not_for.clear();
            }
        }
    }
    if script.steps.is_empty() {
        return Err(format!("{}: nothing happens here", path.display()));
    }
    Ok(script)
}

fn declaration(line: &str, script: &mut Script) -> Result<bool, String> {
    if let Some(reason) = line.strip_prefix("only magpie: ") {
        script.not_for.extend([Kind::Prosody, Kind::Ejabberd].map(|kind| (kind, reason.to_owned())));
        return Ok(true);
    }
    if line.starts_with("not for ") {
        let (kind, reason) = exception(line)?;
        if script.not_for.insert(kind, reason).is_some() {
            return Err("one reason for each server".into());
        }
        return Ok(true);
    }
    if let Some(setting) = line.strip_prefix("server with ") {
        let (key, value) = setting.split_once('=').ok_or("expected `server with key = value`")?;
        let value = value.trim().replace("{host}", &domain_of(script));
        script.settings.insert(key.trim().to_owned(), value);
        return Ok(true);
    }
    if let Some(setting) = line.strip_prefix("accounts made with ") {
        let (key, value) = setting.split_once('=').ok_or("expected `accounts made with key = value`")?;
        script.settings.insert(format!("{EARLIER}{}", key.trim()), value.trim().to_owned());
        return Ok(true);
    }
    if let Some(what) = line.strip_prefix("prosody with ") {
        let what = what.trim().replace("{host}", &domain_of(script));
        let list = if what.contains('=') { &mut script.prosody_options } else { &mut script.prosody_modules };
        list.push(what);
        return Ok(true);
    }
    if let Some(module) = line.strip_prefix("ejabberd with ") {
        script.ejabberd_modules.push(module.trim().replace("{host}", &domain_of(script)));
        return Ok(true);
    }
    if let Some(account) = line.strip_suffix(" exists") {
        let local = account.strip_suffix("@{host}").ok_or("expected `name@{host} exists`")?;
        add_account(script, local);
        return Ok(true);
    }
    let Some((name, what)) = line.split_once(" is ") else { return Ok(false) };
    if what == "closed" {
        return Ok(false);
    }
    let actor = if what == "a connection" {
        Actor::Connection
    } else {
        let (local, rest) = what.split_once("@{host}").ok_or("expected `name is local@{host}/resource`")?;
        let resource = match rest.strip_prefix('/') {
            Some(resource) => Some(resource.to_owned()),
            None if rest.is_empty() => None,
            None => return Err("expected a resource after the domain".into()),
        };
        add_account(script, local);
        Actor::Session { local: local.to_owned(), resource }
    };
    if !script.steps.is_empty() {
        return Err("who takes part is said before anything happens".into());
    }
    script.actors.insert(name.to_owned(), actor);
    Ok(true)
}

/// `not for prosody: reason`
fn exception(line: &str) -> Result<(Kind, String), String> {
    let (name, reason) = line
        .strip_prefix("not for ")
        .and_then(|rest| rest.split_once(": "))
        .ok_or("expected `not for prosody: reason`")?;
    let kind = Kind::parse(name).filter(|kind| *kind != Kind::Magpie).ok_or("expected prosody or ejabberd")?;
    Ok((kind, reason.to_owned()))
}

fn add_account(script: &mut Script, local: &str) {
    if !script.accounts.iter().any(|there| there == local) {
        script.accounts.push(local.to_owned());
    }
}

fn step(line: usize, text: &str, block: String, actors: &BTreeMap<String, Actor>) -> Result<Step, String> {
    let without_actor = |action| Step { line, actor: String::new(), action, not_for: Vec::new() };
    if let Some(time) = text.strip_prefix("wait ") {
        return Ok(without_actor(Action::Waits(duration(time)?)));
    }
    if let Some((one, other)) =
        text.strip_suffix("@{host} see each other").and_then(|pair| pair.split_once("@{host} and "))
    {
        return Ok(without_actor(Action::SeeEachOther(one.to_owned(), other.to_owned())));
    }
    if text == "the server restarts" {
        return Ok(without_actor(Action::ServerRestarts));
    }
    let (actor, words) = text.split_once(' ').ok_or("expected `who does what`")?;
    if !actors.contains_key(actor) {
        return Err(format!("who is {actor}?"));
    }
    let action = match words {
        "opens a connection" => Action::OpensConnection { direct_tls: false },
        "opens a TLS connection" => Action::OpensConnection { direct_tls: true },
        "opens a stream" => Action::OpensStream,
        "negotiates TLS" => Action::NegotiatesTls,
        "asks for the roster" => Action::AsksForTheRoster,
        "comes online" => Action::ComesOnline,
        "sends:" => Action::Sends(block),
        "receives:" => Action::Receives(Order::AsWritten, block),
        "receives in any order:" => Action::Receives(Order::Any, block),
        "receives one of:" => Action::Receives(Order::OneOf, block),
        "may receive:" => Action::MayReceive(block),
        "receives nothing" => Action::ReceivesNothing(Duration::from_millis(250)),
        "receives a stream header" => Action::ReceivesStreamHeader(None),
        "receives a stream header:" => Action::ReceivesStreamHeader(Some(block)),
        "is closed" => Action::IsClosed,
        "disconnects" => Action::Disconnects,
        "drops the connection" => Action::Drops,
        _ => {
            if let Some(time) = words.strip_prefix("receives nothing for ") {
                Action::ReceivesNothing(duration(time)?)
            } else if let Some(condition) = words.strip_prefix("receives stream error ") {
                Action::ReceivesStreamError(condition.to_owned())
            } else if let Some(what) = words.strip_prefix("creates ") {
                creates_room(what)?
            } else if let Some(what) = words.strip_prefix("enters ") {
                enters_room(what, actors)?
            } else if let Some(how) = words.strip_prefix("connects") {
                Action::Connects(login(how)?)
            } else if let Some(how) = words.strip_prefix("logs in") {
                Action::LogsIn(login(how)?)
            } else {
                return Err("nobody can do that".into());
            }
        }
    };
    Ok(Step { line, actor: actor.to_owned(), action, not_for: Vec::new() })
}

/// `coven as Romeo with whois = anyone, membersonly = 1`
fn creates_room(what: &str) -> Result<Action, String> {
    let (place, settings) = what.split_once(" with ").unwrap_or((what, ""));
    let settings = settings.split(", ").filter(|setting| !setting.is_empty()).map(|setting| {
        let (name, value) = setting.split_once(" = ").ok_or("expected `creates ROOM as NICK with field = value`")?;
        Ok((name.to_owned(), value.to_owned()))
    });
    Ok(Action::CreatesRoom(room_nick(place)?, settings.collect::<Result<_, String>>()?))
}

/// `coven as Juliet, seen by romeo, nurse`
fn enters_room(what: &str, actors: &BTreeMap<String, Actor>) -> Result<Action, String> {
    let (place, seen_by) = what.split_once(", seen by ").unwrap_or((what, ""));
    let seen_by: Vec<String> = seen_by.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if let Some(unknown) = seen_by.iter().find(|name| !actors.contains_key(*name)) {
        return Err(format!("who is {unknown}?"));
    }
    Ok(Action::EntersRoom(room_nick(place)?, seen_by))
}

fn room_nick(place: &str) -> Result<RoomNick, String> {
    let (room, nick) = place.split_once(" as ").ok_or("expected `ROOM as NICK`")?;
    Ok(RoomNick { room: room.to_owned(), nick: nick.to_owned() })
}

/// `` or `with STARTTLS, SCRAM-SHA-256`
fn login(how: &str) -> Result<Login, String> {
    let mut login = Login::default();
    let Some(how) = how.strip_prefix(" with ") else {
        return if how.is_empty() { Ok(login) } else { Err("expected `with STARTTLS, MECHANISM`".into()) };
    };
    for word in how.split(',').map(str::trim) {
        match word {
            "STARTTLS" => login.tls = true,
            "PLAIN" | "SCRAM-SHA-1" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => login.mechanism = Some(word.to_owned()),
            _ => return Err(format!("what is {word}?")),
        }
    }
    Ok(login)
}

/// `300 ms`, `2 s`
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_once(' ').ok_or("expected a time such as `300 ms`")?;
    let number: u64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(format!("`{unit}` is neither ms nor s")),
    }
}
