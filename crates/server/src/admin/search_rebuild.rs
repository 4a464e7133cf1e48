//! `search_rebuild`: makes the search index of the archive anew.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Command, Context, Operation, OperationError};
use crate::modules::archive::{ARCHIVE, Archived};

/// Makes the search index anew.
pub struct SearchRebuild;

/// Nothing.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {}

impl Operation for SearchRebuild {
    const NAME: &'static str = "search_rebuild";
    const DOC: &'static str = "Makes the search index of the archive anew, in the background; searches go on.";
    const COMMANDS: &'static [Command] = &[Command::new("magpie#search-rebuild", "Make the search index anew", "")
        .saying("It is made anew in the background. Until it is there, searches take longer.")];
    type Arguments = Arguments;

    async fn run(context: &Context, _: Arguments) -> Result<Value, OperationError> {
        let store = context.accounts.store();
        store.search::<Archived>(ARCHIVE).rebuild().await?;
        info!("the search index is made anew");
        Ok(json!({}))
    }
}
