//! `magpie token …`: clients that log in by a token instead of the password.

use magpie_server::admin::{TokenList, TokenRevoke, token_list, token_revoke};
use serde_json::Value;

use crate::cli::{Global, TokenCommand};
use crate::config;
use crate::failure::Failure;
use crate::output::{self, counted};
use crate::target::{IfMissing, Target};

pub(crate) fn run(global: &Global, command: TokenCommand) -> Result<(), Failure> {
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    match command {
        TokenCommand::List { jid } => {
            let document = target.run::<TokenList>(token_list::Arguments { jid: jid.to_string() })?;
            output::print(global, &document, || clients(&document).iter().map(line).collect())
        }
        TokenCommand::Revoke { jid, client } => {
            let document = target.run::<TokenRevoke>(token_revoke::Arguments { jid: jid.to_string(), client })?;
            let revoked = counted(clients(&document).len() as u64, "client");
            output::print(global, &document, || format!("Took back the tokens of {revoked} of {jid}.\n"))
        }
    }
}

fn clients(document: &Value) -> &[Value] {
    document["clients"].as_array().map_or(&[], Vec::as_slice)
}

/// A client a line: its id, until when its token is good, what it calls itself.
fn line(client: &Value) -> String {
    let said = ["software", "device"].into_iter().filter_map(|key| client[key].as_str());
    let said: Vec<&str> = said.collect();
    let text = |key: &str| client[key].as_str().unwrap_or_default();
    let line = format!("{} until {} {}", text("client"), text("until"), said.join(", "));
    format!("{}\n", line.trim_end())
}
