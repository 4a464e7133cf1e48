//! One process per data folder: a lock file that names it.
//!
//! The kernel drops the lock with the process, so a file that is left behind locks nobody out.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;

/// Held until it is dropped.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(OpenError::InUse { pid });
            }
            Err(error) => return Err(OpenError::Io(error.into())),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file names nobody. Should that fail, the lock is gone with the file all the same.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_second_taker_learns_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::take(&path).unwrap();
        let Err(OpenError::InUse { pid }) = Lock::take(&path) else { panic!("the lock was taken twice") };
        assert_eq!(pid, Some(std::process::id()));
        drop(lock);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_file_left_behind_locks_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "4194304999\n").unwrap();
        drop(Lock::take(&path).unwrap());
    }
}
