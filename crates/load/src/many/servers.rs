//! The servers: one data folder made once, copied for each process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{ManyError, at};
use crate::compare::magpie::{Magpie, PROFILE};
use crate::compare::place::{Certificate, Folder, Place};
use crate::compare::process::{Interrupt, Started};
use crate::compare::server::{Accounts, Server as _, start};

/// A server that runs, with its files; both go with this value.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it listens.
    pub(super) place: Place,
    started: Started,
    /// Declared after the processes, so that it goes when they are gone.
    _files: Files,
}

/// Where all files are.
#[derive(Debug)]
pub(super) enum Home {
    /// Gone at the end.
    Temporary(Folder),
    /// Its template stays, for the next time.
    Kept(PathBuf),
}

/// The data folder that is copied.
#[derive(Debug)]
pub(super) struct Template {
    place: Place,
    /// Its size, bytes.
    pub(super) bytes: u64,
    /// Seconds that it took to be made; none where it was there.
    pub(super) seconds: Option<f64>,
}

/// A folder that goes with this value.
#[derive(Debug)]
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

impl Home {
    /// The folder that the operator named, or a temporary one.
    pub(super) fn new(named: Option<&Path>) -> Result<Self, ManyError> {
        let Some(folder) = named else { return Ok(Self::Temporary(Folder::new()?)) };
        fs::create_dir_all(folder).map_err(at(folder))?;
        Ok(Self::Kept(std::path::absolute(folder).map_err(at(folder))?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

impl Template {
    /// The one in the home where it is of the same accounts, the same program and the same configuration; otherwise a new one.
    pub(super) fn make(
        magpie: &Magpie,
        home: &Home,
        accounts: Accounts,
        interrupt: &Interrupt,
    ) -> Result<Self, ManyError> {
        let folder = home.path().join("template");
        let what = mark(magpie, accounts)?;
        let ready = folder.join(READY);
        let there = fs::read_to_string(&ready).is_ok_and(|found| found == what);
        if !there && folder.exists() {
            fs::remove_dir_all(&folder).map_err(at(&folder))?;
        }
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let certificate = Certificate::make(&folder)?;
        let place = Place::new(home.path(), "template", &certificate)?;
        let mut seconds = None;
        if !there {
            let began = Instant::now();
            magpie.prepare(&place, accounts, interrupt)?;
            fs::write(&ready, what).map_err(at(&ready))?;
            seconds = Some(began.elapsed().as_secs_f64());
        }
        let bytes = size(&place.folder.join("data")).map_err(at(&place.folder))?;
        Ok(Self { place, bytes, seconds })
    }
}

/// In a template's folder once it is whole: what it was made of.
const READY: &str = "ready";

fn mark(magpie: &Magpie, accounts: Accounts) -> Result<String, ManyError> {
    let Accounts { number, contacts, .. } = accounts;
    Ok(format!("{number} accounts, contacts: {contacts}, program and profile: {}\n", magpie.fingerprint()?))
}

impl Node {
    /// Copies the template and starts a server on it; it is ready: somebody has logged in.
    pub(super) fn start(
        magpie: &Magpie,
        home: &Home,
        template: &Template,
        number: usize,
        interrupt: &Interrupt,
    ) -> Result<Self, ManyError> {
        let name = format!("node-{number:03}");
        // What a run before left when it was killed.
        let old = home.path().join(&name);
        if old.exists() {
            fs::remove_dir_all(&old).map_err(at(&old))?;
        }
        let place = Place::new(home.path(), &name, &template.place.certificate)?;
        let files = Files(place.folder.clone());
        let (from, to) = (template.place.folder.join("data"), place.folder.join("data"));
        copy(&from, &to).map_err(at(&from))?;
        place.write_profile("magpie.toml", PROFILE, &[("archive", "false")])?;
        let started = start(magpie, &place, None, interrupt)?;
        Ok(Self { place, started, _files: files })
    }

    /// Ends its processes at once: its data are a copy, and sessions by the million need not be told.
    pub(super) fn kill(&mut self) {
        self.started.kill();
    }

    /// Its processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.started.pids()
    }

    /// Fails where it has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), ManyError> {
        Ok(self.started.check()?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Files and folders; sockets of a server that does not run any more are none.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn size(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let found = entry.metadata()?;
        Ok(sum + if found.is_dir() { size(&entry.path())? } else { found.len() })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_copy_has_the_files_in_all_folders_and_no_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("inner/file"), "12345").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("inner/file")).unwrap(), "12345");
        assert!(!to.join("socket").exists());
        assert_eq!(size(&to).unwrap(), 5);
        let files = Files(to.clone());
        drop(files);
        assert!(!to.exists());
    }
}
