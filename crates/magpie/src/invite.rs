//! `magpie invite …`: links by which people make accounts or become contacts.

use magpie_server::admin::{InviteCreate, InviteList, InviteRevoke, invite_create, invite_list, invite_revoke};
use serde_json::Value;

use crate::cli::{Global, InviteCommand};
use crate::failure::Failure;
use crate::target::{IfMissing, Target};
use crate::{config, output};

pub(crate) fn run(global: &Global, command: InviteCommand) -> Result<(), Failure> {
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    match command {
        InviteCommand::Create(create) => {
            let arguments = invite_create::Arguments {
                host: create.domain,
                username: create.user,
                as_contact: create.from.is_some(),
                registers: Some(true),
                inviter: create.from.map(|from| from.to_string()),
                contacts: create.contacts.iter().map(ToString::to_string).collect(),
                expires_seconds: create.expires,
                uses: create.uses,
                ..invite_create::Arguments::default()
            };
            let document = target.run::<InviteCreate>(arguments)?;
            output::print(global, &document, || created(&document))
        }
        InviteCommand::List { host } => {
            let document = target.run::<InviteList>(invite_list::Arguments { host })?;
            output::print(global, &document, || {
                document["invites"].as_array().into_iter().flatten().map(line).collect()
            })
        }
        InviteCommand::Revoke { token } => {
            let document = target.run::<InviteRevoke>(invite_revoke::Arguments { token })?;
            output::print(global, &document, || "The link is worth nothing any more.\n".to_owned())
        }
    }
}

fn text<'a>(invite: &'a Value, key: &str) -> &'a str {
    invite[key].as_str().unwrap_or_default()
}

fn created(invite: &Value) -> String {
    let page = invite["page"].as_str().map(|page| format!("{page}\n")).unwrap_or_default();
    format!("{}\n{page}valid until {}, {}\n", text(invite, "uri"), text(invite, "expires"), uses(invite))
}

fn uses(invite: &Value) -> String {
    match invite["uses"].as_u64().unwrap_or_default() {
        1 => "once".to_owned(),
        uses => format!("{uses} times"),
    }
}

/// A link a line: until when, how often, what.
fn line(invite: &Value) -> String {
    format!("{} {} {}\n", text(invite, "expires"), uses(invite), text(invite, "uri"))
}
