//! `session_list`: who is connected.

use std::collections::BTreeSet;

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
    /// At most so many; all where no number is given.
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for SessionList {
    const NAME: &'static str = "session_list";
    const DOC: &'static str =
        "Lists the sessions of an account, a domain or the server, in the order of their addresses.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#get-online-users-list",
        "Get list of online users",
        "Fill out this form to list the online users of this domain.",
    )
    .with(&[Argument::host("host"), Argument::max_items()])
    .showing(&[Shown::new("accounts", "onlineuserjids", FieldType::JidMulti, "The list of all online users")])];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = arguments.host.as_deref().map(|host| context.host(Some(host))).transpose()?;
        let account = arguments.jid.as_deref().map(|jid| context.account(jid)).transpose()?;
        let mut sessions = context.sessions()?.list(account.as_ref());
        sessions.retain(|session| host.as_deref().is_none_or(|host| session.jid.domain() == host));
        sessions.sort_by(|one, other| one.jid.as_str().cmp(other.jid.as_str()));
        let limit = arguments.limit.unwrap_or(usize::MAX);
        let online = sessions.iter().filter(|session| session.available);
        let accounts: BTreeSet<String> = online.map(|session| session.jid.to_bare().to_string()).collect();
        let sessions: Vec<&SessionLine> = sessions.iter().take(limit).collect();
        Ok(json!({ "sessions": sessions, "accounts": accounts.into_iter().take(limit).collect::<Vec<_>>() }))
    }
}
