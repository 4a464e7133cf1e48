//! `user_show`: what there is of an account, and when it was last there.

use magpie_proto::xeps::data_forms::FieldType;
use magpie_proto::xeps::date_time::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, Shown};
use crate::accounts::owner;
use crate::modules::last;
use crate::modules::offline::Spooled;
use crate::roster::Item;
use crate::server::now;

/// Shows an account.
pub struct UserShow;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
}

impl Operation for UserShow {
    const NAME: &'static str = "user_show";
    const DOC: &'static str =
        "Shows how many contacts, messages and sessions an account has, and when it was last there.";
    const COMMANDS: &'static [Command] = &[
        Command::new(
            "http://jabber.org/protocol/admin#user-stats",
            "Get user statistics",
            "Fill out this form to gather user statistics.",
        )
        .with(&[Argument::account("The Jabber ID for statistics")])
        .showing(&[
            Shown::new("roster_items", "rostersize", FieldType::TextSingle, "Roster size"),
            Shown::new("resources", "onlineresources", FieldType::TextMulti, "Online resources"),
            Shown::new("offline_messages", "offlinemessages", FieldType::TextSingle, "Messages waiting"),
            Shown::new("disabled", "disabled", FieldType::Boolean, "Disabled"),
        ]),
        Command::new(
            "http://jabber.org/protocol/admin#get-user-lastlogin",
            "Get users' last login time",
            "Fill out this form to see when users were last there.",
        )
        .with(&[Argument::accounts("The Jabber ID(s) for which to retrieve the last login time")])
        .showing(&[
            Shown::new("jid", "accountjids", FieldType::JidMulti, "User"),
            Shown::new("last_seen", "lastlogin", FieldType::TextSingle, "Last there"),
        ]),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.existing_account(&arguments.jid).await?;
        let owner = owner(&account);
        let store = context.accounts.store();
        let roster = store.map::<Item>("roster").list(&owner).await?;
        let sessions = context.sessions.as_ref().map(|sessions| sessions.list(Some(&account))).unwrap_or_default();
        let online = sessions.iter().any(|session| session.available);
        let last_seen = if online { Some(now()) } else { last::departure(store, &account).await? };
        let last_seen = last_seen.map(|at| DateTime::from_unix(at.as_secs() as i64, 0).to_string());
        Ok(json!({
            "jid": account.as_str(),
            "disabled": context.accounts.is_disabled(&account).await?,
            "roster_items": roster.iter().filter(|(_, item)| item.listed).count(),
            "offline_messages": store.log::<Spooled>("spool").count(&owner).await?,
            "online": online,
            "resources": sessions.iter().map(|session| session.jid.resource()).collect::<Vec<_>>(),
            "last_seen": last_seen,
        }))
    }
}
