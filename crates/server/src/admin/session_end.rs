//! `session_end`: ends one session, or all of an account.

use magpie_proto::Jid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};

/// Ends sessions.
pub struct SessionEnd;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The address of a session, or of an account for all of its sessions.
    pub jid: String,
}

impl Operation for SessionEnd {
    const NAME: &'static str = "session_end";
    const DOC: &'static str = "Ends a session, or all sessions of an account. The user can log in again.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#end-user-session",
        "End users' sessions",
        "Fill out this form to end users' sessions.",
    )
    .with(&[Argument::accounts("The Jabber ID(s) for which to end sessions")])
    .saying("Their sessions are over.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let jid = Jid::parse(&arguments.jid).ok().filter(|jid| jid.local().is_some());
        let jid = jid.ok_or_else(|| {
            OperationError::invalid(format!("\"{}\" is not the address of an account or session", arguments.jid))
                .help("write it as juliet@example.org, or with a resource as juliet@example.org/balcony")
        })?;
        let ended = context.sessions()?.end(&jid);
        info!(%jid, ended, "sessions ended by the administrator");
        Ok(json!({ "jid": jid.as_str(), "ended": ended }))
    }
}
