//! `magpie motd …`, `magpie welcome …`: what everybody is told, and whoever is new.

use magpie_server::admin::{NoticeRemove, NoticeSet, NoticeShow, notice_remove, notice_set, notice_show};
use magpie_server::modules::notices::NoticeKind;

use crate::cli::{Global, NoticeCommand};
use crate::failure::Failure;
use crate::target::{IfMissing, Target};
use crate::{config, output};

pub(crate) fn run(global: &Global, kind: NoticeKind, command: NoticeCommand) -> Result<(), Failure> {
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    match command {
        NoticeCommand::Set { text, domain } => {
            let document = target.run::<NoticeSet>(notice_set::Arguments { kind, host: domain, text })?;
            output::print(global, &document, || "It is set.\n".to_owned())
        }
        NoticeCommand::Show { domain } => {
            let document = target.run::<NoticeShow>(notice_show::Arguments { kind, host: domain })?;
            output::print(global, &document, || match document["text"].as_str() {
                Some(text) => format!("{text}\n"),
                None => "There is none.\n".to_owned(),
            })
        }
        NoticeCommand::Remove { domain } => {
            let document = target.run::<NoticeRemove>(notice_remove::Arguments { kind, host: domain })?;
            output::print(global, &document, || "It is gone.\n".to_owned())
        }
    }
}
