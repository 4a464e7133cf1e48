//! `user_roster`: the contacts of an account, as its clients see them.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, Shown};
use crate::accounts::owner;
use crate::roster::Item;

/// Shows a roster.
pub struct UserRoster;

/// Whose.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
}

impl Operation for UserRoster {
    const NAME: &'static str = "user_roster";
    const DOC: &'static str = "Lists the contacts of an account.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#get-user-roster",
        "Get users' rosters",
        "Fill out this form to retrieve users' rosters.",
    )
    .with(&[Argument::accounts("The Jabber ID(s) for which to retrieve the roster")])
    .showing(&[Shown::new("jid", "accountjids", FieldType::JidMulti, "User"), Shown::roster("items")])];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.existing_account(&arguments.jid).await?;
        let items = context.accounts.store().map::<Item>("roster").list(&owner(&account)).await?;
        let items = items.iter().map(|(_, item)| item).filter(|item| item.listed).map(|item| {
            json!({
                "jid": item.jid.as_str(),
                "name": item.name,
                "subscription": item.state.subscription.name(),
                "ask": item.state.pending_out.then_some("subscribe"),
                "groups": item.groups,
            })
        });
        Ok(json!({ "jid": account.as_str(), "items": items.collect::<Vec<_>>() }))
    }
}
