//! `session_list`: who is connected.

use std::collections::BTreeMap;

use magpie_proto::BareJid;
use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, SessionLine, Shown};

/// Lists sessions.
pub struct SessionList;

/// Whose.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Of this served domain; of all where none is named.
    #[serde(default)]
    pub host: Option<String>,
    /// Of this account.
    #[serde(default)]
    pub jid: Option<String>,
    /// Of those alone who are there and active, or there and idle: with all their sessions away.
    #[serde(default)]
    pub state: Option<UserState>,
    /// At most so many; all where no number is given.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Whether somebody who is online does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserState {
    /// A session of the account is available and says nothing of being away.
    Active,
    /// All that are available say so.
    Idle,
}

/// The accounts that are online, each with whether it is active, in the order of their addresses.
pub(super) fn online(sessions: &[SessionLine]) -> BTreeMap<BareJid, UserState> {
    let mut online = BTreeMap::new();
    for session in sessions.iter().filter(|session| session.available) {
        let state = online.entry(session.jid.to_bare()).or_insert(UserState::Idle);
        if !session.away {
            *state = UserState::Active;
        }
    }
    online
}

impl Operation for SessionList {
    const NAME: &'static str = "session_list";
    const DOC: &'static str =
        "Lists the sessions of an account, a domain or the server, in the order of their addresses.";
    const COMMANDS: &'static [Command] = &[
        Command::new(
            "http://jabber.org/protocol/admin#get-online-users-list",
            "Get list of online users",
            "Fill out this form to list the online users of this domain.",
        )
        .with(&[Argument::host("host"), Argument::max_items()])
        .showing(&[Shown::new(
            "accounts",
            "onlineuserjids",
            FieldType::JidMulti,
            "The list of all online users",
        )]),
        Command::new(
            "http://jabber.org/protocol/admin#get-active-users",
            "Get list of active users",
            "Fill out this form to list the users of this domain who are online and not away.",
        )
        .with(&[Argument::host("host"), Argument::word("state", "active"), Argument::max_items()])
        .showing(&[Shown::new("accounts", "activeuserjids", FieldType::JidMulti, "The list of active users")]),
        Command::new(
            "http://jabber.org/protocol/admin#get-idle-users",
            "Get list of idle users",
            "Fill out this form to list the users of this domain who are online and away.",
        )
        .with(&[Argument::host("host"), Argument::word("state", "idle"), Argument::max_items()])
        .showing(&[Shown::new("accounts", "activeuserjids", FieldType::JidMulti, "The list of idle users")]),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = arguments.host.as_deref().map(|host| context.host(Some(host))).transpose()?;
        let account = arguments.jid.as_deref().map(|jid| context.account(jid)).transpose()?;
        let mut sessions = context.sessions()?.list(account.as_ref());
        sessions.retain(|session| host.as_deref().is_none_or(|host| session.jid.domain() == host));
        sessions.sort_by(|one, other| one.jid.as_str().cmp(other.jid.as_str()));
        let limit = arguments.limit.unwrap_or(usize::MAX);
        let mut online = online(&sessions);
        if let Some(wanted) = arguments.state {
            online.retain(|_, state| *state == wanted);
            sessions.retain(|session| online.contains_key(&session.jid.to_bare()));
        }
        let accounts: Vec<&str> = online.keys().take(limit).map(BareJid::as_str).collect();
        let sessions: Vec<&SessionLine> = sessions.iter().take(limit).collect();
        Ok(json!({ "sessions": sessions, "accounts": accounts }))
    }
}
