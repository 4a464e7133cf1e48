//! `domain_show`: how many accounts a domain has, and how many of them are disabled or online.

use std::collections::BTreeSet;

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = context.host(arguments.host.as_deref())?;
        let sessions = context.sessions.as_ref().map(|sessions| sessions.list(None)).unwrap_or_default();
        let here: Vec<_> = sessions.iter().filter(|session| session.jid.domain() == host).collect();
        let online: BTreeSet<_> =
            here.iter().filter(|session| session.available).map(|session| session.jid.to_bare()).collect();
        Ok(json!({
            "host": host,
            "accounts": context.accounts.count(&host).await?,
            "disabled": context.accounts.count_disabled(&host).await?,
            "online": online.len(),
            "sessions": here.len(),
        }))
    }
}
