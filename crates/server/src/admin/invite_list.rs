//! `invite_list`: the invites that can be used.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, Operation, OperationError, invite_create};
use crate::modules::invites::InviteBook;

/// Lists invites.
pub struct InviteList;

/// Whose.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Of this served domain; of all where none is named.
    #[serde(default)]
    pub host: Option<String>,
}

impl Operation for InviteList {
    const NAME: &'static str = "invite_list";
    const DOC: &'static str = "Lists the invites that can be used.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let config = context.config();
        let hosts = match arguments.host {
            Some(host) => vec![context.host(Some(&host))?],
            None => config.domains.clone(),
        };
        let book = InviteBook::new(context.accounts.store());
        let mut invites = Vec::new();
        for host in hosts {
            invites.extend(book.list(&host).await?.iter().map(|invite| invite_create::document(&config, invite)));
        }
        Ok(json!({ "invites": invites }))
    }
}
