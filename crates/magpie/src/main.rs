//! The binary: command line, configuration, start, signals.

mod cli;
mod config;
mod failure;
mod import;
mod invite;
mod notice;
mod output;
mod password;
mod portable;
mod reference;
mod report;
mod room;
mod search;
mod serve;
mod session;
mod status;
mod target;
mod terms;
mod token;
mod user;

use std::process::ExitCode;

use clap::Parser;
use magpie_server::modules::notices::NoticeKind;

use cli::{Cli, Command, ConfigCommand};
use failure::Failure;

fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return used_wrongly(&error),
    };
    match run(&global, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(global.json),
    }
}

/// Help and version are no failures. What is wrong is said as clap says it; with `--json` also as a document.
fn used_wrongly(error: &clap::Error) -> ExitCode {
    // Nobody reading any more (`magpie --help | head`) is no failure.
    let _ = error.print();
    if error.exit_code() == 0 {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default();
        Failure::usage(message.strip_prefix("error: ").unwrap_or(message)).print_document();
    }
    ExitCode::from(2)
}

fn run(global: &cli::Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve::run(global, &serve),
        Command::Terms(terms) => terms::run(global, &terms),
        Command::User(user) => user::run(global, user),
        Command::Export(export) => portable::export(global, &export),
        Command::Import { files, replace } => portable::import(global, &files, replace),
        Command::Token(command) => token::run(global, command),
        Command::Invite(command) => invite::run(global, command),
        Command::Report(command) => report::run(global, command),
        Command::Room(command) => room::run(global, command),
        Command::Search(command) => search::run(global, command),
        Command::Domain { host } => user::domain(global, host),
        Command::Session(command) => session::run(global, command),
        Command::Announce { text, subject, domain } => session::announce(global, text, subject, domain),
        Command::Motd(command) => notice::run(global, NoticeKind::Motd, command),
        Command::Welcome(command) => notice::run(global, NoticeKind::Welcome, command),
        Command::Stop { delay, announcement } => status::stop(global, delay, announcement),
        Command::Status => status::status(global),
        Command::Reload => status::reload(global),
        Command::Log { filter } => status::log(global, filter),
        Command::Config(ConfigCommand::Check { file }) => config::check(global, file.as_deref()),
        Command::Config(ConfigCommand::Default) => output::print(global, &reference::as_json(), reference::as_toml),
    }
}
