//! `stop`: ends the running server, after a while and an announcement where they are wanted.

use std::time::Duration;

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Announce, Argument, Command, Context, Operation, OperationError, announce};

/// How far ahead a stop can be ordered.
const DELAY_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Stops the server.
pub struct Stop;

/// When, and what is said before.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Seconds until then; at once where no number is given.
    #[serde(default)]
    pub delay_seconds: Option<u64>,
    /// What everybody who is online is told now.
    #[serde(default)]
    pub announcement: Option<String>,
}

impl Operation for Stop {
    const NAME: &'static str = "stop";
    const DOC: &'static str = "Stops the running server.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#shutdown",
        "Shut down the server",
        "Fill out this form to shut down the server.",
    )
    .with(&[
        Argument::field("delay_seconds", "delay", FieldType::ListSingle, "Time delay before shutting down").choosing(
            &[
                ("0", "Now"),
                ("30", "30 seconds"),
                ("60", "60 seconds"),
                ("90", "90 seconds"),
                ("120", "2 minutes"),
                ("180", "3 minutes"),
                ("240", "4 minutes"),
                ("300", "5 minutes"),
            ],
        ),
        Argument::field("announcement", "announcement", FieldType::TextMulti, "Announcement"),
    ])
    .saying("The server will stop.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let process = context.process()?;
        let delay = arguments.delay_seconds.unwrap_or_default();
        if delay > DELAY_SECONDS_MAX {
            return Err(OperationError::invalid(format!("{delay} seconds are more than a day")));
        }
        if let Some(text) = arguments.announcement {
            Announce::run(context, announce::Arguments { text, subject: None, host: None }).await?;
        }
        info!(delay, "stop ordered by the administrator");
        process.stop_after(Duration::from_secs(delay));
        Ok(json!({ "delay_seconds": delay }))
    }
}
