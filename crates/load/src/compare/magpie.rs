//! Magpie: the program beside this one.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::digest;

use super::CompareError;
use super::administration::Administration;
use super::client::subscribe;
use super::place::Place;
use super::process::{Interrupt, Started, run};
use super::server::{Accounts, Archive, Server, until};

pub(crate) const PROFILE: &str = include_str!("../../../../bench/profiles/magpie/magpie.toml");

/// See the profile for how it is set.
pub struct Magpie {
    program: PathBuf,
}

impl Magpie {
    /// The program that is named, or the one in the folder of this program.
    pub fn find(named: Option<PathBuf>) -> Result<Self, CompareError> {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("magpie"));
        let program = named.or_else(|| std::env::var_os("MAGPIE_BIN").map(PathBuf::from)).or_else(beside);
        let found = program.as_ref().filter(|program| program.is_file());
        let found = found.and_then(|program| std::path::absolute(program).ok());
        let program = found.ok_or_else(|| {
            let place = program.map_or_else(String::new, |program| format!(" at {}", program.display()));
            CompareError::Setup(format!(
                "there is no program `magpie`{place}; make it with `cargo build --release -p magpie`, or name it with --magpie"
            ))
        })?;
        Ok(Self { program })
    }

    /// Where it is.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// What data that it has written depends on: the program, byte by byte, and its configuration. The version alone does not
    /// tell the formats of two builds apart.
    pub(crate) fn fingerprint(&self) -> Result<String, CompareError> {
        let at = || CompareError::file(&self.program);
        let mut file = File::open(&self.program).map_err(at())?;
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(PROFILE.as_bytes());
        let mut part = vec![0; 1 << 20];
        loop {
            match file.read(&mut part).map_err(at())? {
                0 => break,
                read => digest.update(&part[..read]),
            }
        }
        Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(place.folder.join("magpie.toml")).env_remove("MAGPIE_BIN");
        command
    }
}

impl Server for Magpie {
    fn name(&self) -> &'static str {
        "Magpie"
    }

    fn version(&self, interrupt: &Interrupt) -> Result<String, CompareError> {
        let said = run(Command::new(&self.program).arg("--version"), Duration::from_secs(30), interrupt)?;
        Ok(said.trim().trim_start_matches("magpie ").to_owned())
    }

    fn prepare(&self, place: &Place, accounts: Accounts, interrupt: &Interrupt) -> Result<(), CompareError> {
        let archive = if accounts.archive == Archive::Off { "false" } else { "true" };
        place.write_profile("magpie.toml", PROFILE, &[("archive", archive)])?;
        let data = place.folder.join("data");
        let mut started = Started::start(self.commands(place)?, &place.folder, None)?;
        until(&mut started, place, interrupt, || Administration::connect(&data).ok())?
            .make_accounts(accounts.number, interrupt)?;
        until(&mut started, place, interrupt, || self.is_ready(place).then_some(()))?;
        if accounts.contacts {
            let check = || interrupt.check().map_err(std::io::Error::other);
            subscribe(place.address(), accounts.number, &check)
                .map_err(|error| CompareError::Setup(format!("rosters could not be made: {error}")))?;
            interrupt.check()?;
        }
        started.stop();
        Ok(())
    }

    fn commands(&self, place: &Place) -> Result<Vec<Command>, CompareError> {
        let mut command = self.command(place);
        command.args(["serve", "--log", "warn"]);
        Ok(vec![command])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn another_program_has_another_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, program: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, program).unwrap();
            Magpie::find(Some(file)).unwrap().fingerprint().unwrap()
        };
        assert_eq!(of("a", "program"), of("b", "program"));
        assert_ne!(of("a", "program"), of("a", "Program"));
        assert_eq!(of("a", "").len(), 64);
    }
}
