//! The binary: command line, configuration, start, signals.

mod cli;
mod config;
mod failure;
mod import;
mod output;
mod password;
mod reference;
mod serve;
mod status;
mod target;
mod user;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ConfigCommand};
use failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    match run(&global, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(global.json),
    }
}

fn run(global: &cli::Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve::run(global, &serve),
        Command::User(user) => user::run(global, user),
        Command::Status => status::status(global),
        Command::Reload => status::reload(global),
        Command::Log { filter } => status::log(global, filter),
        Command::Config(ConfigCommand::Check { file }) => config::check(global, file.as_deref()),
        Command::Config(ConfigCommand::Default) => output::print(global, &reference::as_json(), reference::as_toml),
    }
}
