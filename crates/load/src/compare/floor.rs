//! The floor: `magpie-load relay`, which passes the same bytes on without looking at them.
//!
//! It has as many threads as Magpie has for its sessions: where servers and client share the processors, a second thread costs each message
//! something, whoever runs it.

use std::net::TcpStream;
use std::process::Command;
use std::thread::available_parallelism;

use super::CompareError;
use super::place::Place;
use super::process::Interrupt;
use super::server::{Accounts, Server};

/// The relay of this very program.
pub struct Relay;

impl Server for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    fn version(&self, _interrupt: &Interrupt) -> Result<String, CompareError> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn mechanism(&self) -> &'static str {
        "plain"
    }

    fn protocol(&self) -> &'static str {
        "raw"
    }

    fn prepare(&self, _place: &Place, _accounts: Accounts, _interrupt: &Interrupt) -> Result<(), CompareError> {
        Ok(())
    }

    fn commands(&self, place: &Place) -> Result<Vec<Command>, CompareError> {
        let program = std::env::current_exe().map_err(|error| CompareError::Setup(error.to_string()))?;
        let mut command = Command::new(program);
        command.args(["relay", "--listen"]).arg(place.address().to_string());
        command.args(["--threads", &available_parallelism().map_or(1, usize::from).to_string()]);
        Ok(vec![command])
    }

    fn is_ready(&self, place: &Place) -> bool {
        TcpStream::connect(place.address()).is_ok()
    }
}
