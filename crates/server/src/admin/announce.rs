//! `announce`: a message to everybody of a domain who is online.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};

/// Bytes of an announcement.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Sends a message to everybody who is online.
pub struct Announce;

/// Which, and to whom.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// What is announced.
    pub text: String,
    /// Its subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// To whom: a served domain; all of them where none is named.
    #[serde(default)]
    pub host: Option<String>,
}

impl Operation for Announce {
    const NAME: &'static str = "announce";
    const DOC: &'static str = "Sends a message to everybody who is online.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#announce",
        "Send announcement to online users",
        "Fill out this form to make an announcement to all online users of this domain.",
    )
    .with(&[
        Argument::host("host"),
        Argument::field("subject", "subject", FieldType::TextSingle, "Subject"),
        Argument::field("text", "announcement", FieldType::TextMulti, "Announcement").required(),
    ])
    .saying("It is on its way.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let Arguments { text, subject, host } = arguments;
        if text.trim().is_empty() || text.len() + subject.as_ref().map_or(0, String::len) > TEXT_BYTES_MAX {
            return Err(OperationError::invalid(format!("an announcement has 1 to {TEXT_BYTES_MAX} bytes")));
        }
        let hosts = match host {
            Some(host) => vec![context.host(Some(&host))?],
            None => context.config().domains.clone(),
        };
        let sessions = context.sessions()?;
        let sent: usize = hosts.iter().map(|host| sessions.announce(host, subject.as_deref(), &text)).sum();
        info!(hosts = hosts.join(" "), sent, "announcement sent");
        Ok(json!({ "hosts": hosts, "sent": sent }))
    }
}
