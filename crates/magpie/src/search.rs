//! `magpie search …`: the index by which messages are found in the archive.

use magpie_server::admin::{SearchRebuild, search_rebuild};

use crate::cli::{Global, SearchCommand};
use crate::failure::Failure;
use crate::target::{IfMissing, Target};
use crate::{config, output};

pub(crate) fn run(global: &Global, command: SearchCommand) -> Result<(), Failure> {
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    match command {
        SearchCommand::Rebuild => {
            let document = target.run::<SearchRebuild>(search_rebuild::Arguments {})?;
            output::print(global, &document, || {
                "The server makes its search index anew while it runs: one that is running now, or the next to be started.\n".to_owned()
            })
        }
    }
}
