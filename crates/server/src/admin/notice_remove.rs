//! `notice_remove`: there is no message of the day any more, or no welcome.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};
use crate::modules::notices::{NoticeBook, NoticeKind};

/// Removes a notice.
pub struct NoticeRemove;

/// Which, and where.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Which notice.
    pub kind: NoticeKind,
    /// The served domain; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
}

impl Operation for NoticeRemove {
    const NAME: &'static str = "notice_remove";
    const DOC: &'static str = "Removes the message of the day of a domain, or its welcome for new accounts.";
    const COMMANDS: &'static [Command] = &[
        Command::new("http://jabber.org/protocol/admin#delete-motd", "Delete message of the day", "")
            .with(&[Argument::host("host"), Argument::word("kind", "motd")])
            .saying("It is gone."),
        Command::new("http://jabber.org/protocol/admin#delete-welcome", "Delete welcome message", "")
            .with(&[Argument::host("host"), Argument::word("kind", "welcome")])
            .saying("It is gone."),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = context.host(arguments.host.as_deref())?;
        let kind = arguments.kind;
        NoticeBook::new(context.accounts.store()).set(kind, &host, None).await?;
        if let (Some(sessions), NoticeKind::Motd) = (&context.sessions, kind) {
            sessions.clone().on_motd_changed(&host, None);
        }
        info!(%host, ?kind, "notice removed");
        Ok(json!({ "host": host, "kind": kind }))
    }
}
