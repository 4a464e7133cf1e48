//! `notice_show`: the message of the day of a domain, or its welcome.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, Operation, OperationError};
use crate::modules::notices::{NoticeBook, NoticeKind};

/// Shows a notice.
pub struct NoticeShow;

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

impl Operation for NoticeShow {
    const NAME: &'static str = "notice_show";
    const DOC: &'static str = "Shows the message of the day of a domain, or its welcome for new accounts.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = context.host(arguments.host.as_deref())?;
        let notice = NoticeBook::new(context.accounts.store()).get(arguments.kind, &host).await?;
        Ok(json!({ "host": host, "kind": arguments.kind, "text": notice.map(|notice| notice.text) }))
    }
}
