//! `notice_set`: a message of the day, or a welcome for new accounts.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};
use crate::modules::notices::{Notice, NoticeBook, NoticeKind};
use crate::server::random_text;

/// Bytes of a notice.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Sets a notice.
pub struct NoticeSet;

/// Which, where, and what it says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Which notice.
    pub kind: NoticeKind,
    /// The served domain; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
    /// What it says.
    pub text: String,
}

const MOTD: &[Argument] = &[
    Argument::host("host"),
    Argument::word("kind", "motd"),
    Argument::field("text", "motd", FieldType::TextMulti, "Message of the day").required(),
];

impl Operation for NoticeSet {
    const NAME: &'static str = "notice_set";
    const DOC: &'static str = "Sets the message of the day of a domain, or its welcome for new accounts.";
    const COMMANDS: &'static [Command] = &[
        Command::new(
            "http://jabber.org/protocol/admin#set-motd",
            "Set message of the day",
            "Fill out this form to set the message of the day: each user of this domain gets it once.",
        )
        .with(MOTD)
        .saying("It is set."),
        Command::new(
            "http://jabber.org/protocol/admin#edit-motd",
            "Edit message of the day",
            "Fill out this form to change the message of the day: each user of this domain gets it once more.",
        )
        .with(MOTD)
        .filled_by("notice_show")
        .saying("It is set."),
        Command::new(
            "http://jabber.org/protocol/admin#set-welcome",
            "Set welcome message",
            "Fill out this form to set the message that waits for whoever makes an account.",
        )
        .with(&[
            Argument::host("host"),
            Argument::word("kind", "welcome"),
            Argument::field("text", "welcome", FieldType::TextMulti, "Welcome message").required(),
        ])
        .filled_by("notice_show")
        .saying("It is set."),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = context.host(arguments.host.as_deref())?;
        let Arguments { kind, text, .. } = arguments;
        if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(OperationError::invalid(format!("a notice has 1 to {TEXT_BYTES_MAX} bytes")));
        }
        let notice = Notice { id: random_text(9), text };
        NoticeBook::new(context.accounts.store()).set(kind, &host, Some(&notice)).await?;
        if let (Some(sessions), NoticeKind::Motd) = (&context.sessions, kind) {
            sessions.clone().on_motd_changed(&host, Some(notice.clone()));
        }
        info!(%host, ?kind, "notice set");
        Ok(json!({ "host": host, "kind": kind, "text": notice.text }))
    }
}
