//! `magpie session …`, `magpie announce`: who is connected to the running server.

use magpie_server::admin::{Announce, SessionEnd, SessionList, announce, session_end, session_list};
use serde_json::Value;

use crate::cli::{Global, SessionCommand};
use crate::failure::Failure;
use crate::output::{self, counted};
use crate::{config, status};

pub(crate) fn run(global: &Global, command: SessionCommand) -> Result<(), Failure> {
    let config = config::load(global, &[])?;
    match command {
        SessionCommand::List { of } => {
            let arguments = match of {
                Some(account) if account.local().is_some() => {
                    session_list::Arguments { jid: Some(account.to_string()), ..Default::default() }
                }
                host => session_list::Arguments { host: host.map(|host| host.to_string()), ..Default::default() },
            };
            let document = status::ask::<SessionList>(&config, &arguments)?;
            output::print(global, &document, || {
                document["sessions"].as_array().into_iter().flatten().map(line).collect()
            })
        }
        SessionCommand::End { jid } => {
            let document = status::ask::<SessionEnd>(&config, &session_end::Arguments { jid: jid.to_string() })?;
            let ended = document["ended"].as_u64().unwrap_or_default();
            output::print(global, &document, || format!("Ended {} of {jid}.\n", counted(ended, "session")))
        }
    }
}

fn line(session: &Value) -> String {
    let state = match (session["detached"] == true, session["available"] == true) {
        (true, _) => "may be resumed",
        (_, true) => "available",
        _ => "connected",
    };
    format!("{} {state}\n", session["jid"].as_str().unwrap_or_default())
}

pub(crate) fn announce(
    global: &Global,
    text: String,
    subject: Option<String>,
    host: Option<String>,
) -> Result<(), Failure> {
    let config = config::load(global, &[])?;
    let document = status::ask::<Announce>(&config, &announce::Arguments { text, subject, host })?;
    let sent = document["sent"].as_u64().unwrap_or_default();
    output::print(global, &document, || format!("Sent to {}.\n", counted(sent, "session")))
}
