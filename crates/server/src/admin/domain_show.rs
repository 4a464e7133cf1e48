//! `domain_show`: how many accounts a domain has, and how many of them are disabled or online.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::session_list::{self, UserState};
use super::{Argument, Command, Context, Operation, OperationError, Shown};

/// Shows a domain.
pub struct DomainShow;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// A served domain; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
}

impl Operation for DomainShow {
    const NAME: &'static str = "domain_show";
    const DOC: &'static str = "Says how many accounts a domain has, and how many of them are disabled or online.";
    const COMMANDS: &'static [Command] = &[
        Command::new("http://jabber.org/protocol/admin#get-registered-users-num", "Get number of registered users", "")
            .with(&[Argument::host("host")])
            .showing(&[Shown::new(
                "accounts",
                "registeredusersnum",
                FieldType::TextSingle,
                "The number of registered users",
            )]),
        Command::new("http://jabber.org/protocol/admin#get-disabled-users-num", "Get number of disabled users", "")
            .with(&[Argument::host("host")])
            .showing(&[Shown::new(
                "disabled",
                "disabledusersnum",
                FieldType::TextSingle,
                "The number of disabled users",
            )]),
        Command::new("http://jabber.org/protocol/admin#get-online-users-num", "Get number of online users", "")
            .with(&[Argument::host("host")])
            .showing(&[Shown::new("online", "onlineusersnum", FieldType::TextSingle, "The number of online users")]),
        Command::new("http://jabber.org/protocol/admin#get-active-users-num", "Get number of active users", "")
            .with(&[Argument::host("host")])
            .showing(&[Shown::new("active", "activeusersnum", FieldType::TextSingle, "The number of active users")]),
        Command::new("http://jabber.org/protocol/admin#get-idle-users-num", "Get number of idle users", "")
            .with(&[Argument::host("host")])
            .showing(&[Shown::new("idle", "idleusersnum", FieldType::TextSingle, "The number of idle users")]),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = context.host(arguments.host.as_deref())?;
        let mut sessions = context.sessions.as_ref().map(|sessions| sessions.list(None)).unwrap_or_default();
        sessions.retain(|session| session.jid.domain() == host);
        let online = session_list::online(&sessions);
        let active = online.values().filter(|state| **state == UserState::Active).count();
        Ok(json!({
            "host": host,
            "accounts": context.accounts.count(&host).await?,
            "disabled": context.accounts.count_disabled(&host).await?,
            "online": online.len(),
            "active": active,
            "idle": online.len() - active,
            "sessions": sessions.len(),
            "detached": sessions.iter().filter(|session| session.detached).count(),
        }))
    }
}
