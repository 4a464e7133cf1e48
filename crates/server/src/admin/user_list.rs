//! `user_list`: the accounts of a domain, page by page.

use magpie_proto::jid::{BareJid, parse_domain};
use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, Shown};

/// How many accounts a page has, at most and by default.
const PAGE_MAX: usize = 1000;

/// Lists accounts.
pub struct UserList;

/// Whose, and which page.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The domain. It need not be served any more.
    pub host: String,
    /// The `next` of the page before; none for the first page.
    #[serde(default)]
    pub after: Option<String>,
    /// Accounts of this page, at most 1000.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Only those that are disabled.
    #[serde(default)]
    pub disabled: bool,
}

impl Operation for UserList {
    const NAME: &'static str = "user_list";
    const DOC: &'static str = "Lists the accounts of a domain in the order of their localparts.";
    const COMMANDS: &'static [Command] = &[
        Command::new(
            "http://jabber.org/protocol/admin#get-registered-users-list",
            "Get list of registered users",
            "Fill out this form to list the users of this domain.",
        )
        .with(&[Argument::host("host"), Argument::max_items()])
        .showing(&[Shown::new("accounts", "registereduserjids", FieldType::JidMulti, "The list of all users")]),
        Command::new(
            "http://jabber.org/protocol/admin#get-disabled-users-list",
            "Get list of disabled users",
            "Fill out this form to list the disabled users of this domain.",
        )
        .with(&[Argument::host("host"), Argument::always("disabled", true), Argument::max_items()])
        .showing(&[Shown::new(
            "accounts",
            "disableduserjids",
            FieldType::JidMulti,
            "The list of all disabled users",
        )]),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = parse_domain(&arguments.host)
            .map_err(|_| OperationError::invalid(format!("\"{}\" is no domain", arguments.host)))?;
        let limit = arguments.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let after = arguments.after.as_deref();
        let accounts = match arguments.disabled {
            true => context.accounts.list_disabled(&host, after, limit).await?,
            false => context.accounts.list(&host, after, limit).await?,
        };
        if accounts.is_empty() && arguments.after.is_none() && !context.serves(&host) {
            return Err(context.not_served(&host));
        }
        let next = accounts.last().filter(|_| accounts.len() == limit).and_then(BareJid::local);
        Ok(json!({
            "host": host,
            "accounts": accounts.iter().map(BareJid::as_str).collect::<Vec<_>>(),
            "next": next,
        }))
    }
}
