//! Files that somebody else writes: opened read only, and read at offsets.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::SourceError;

/// A file that was written less than this ago may be written just now.
const RECENT: Duration = Duration::from_secs(2);

/// Runs what reads files where it may wait.
pub(super) async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let outcome = tokio::task::spawn_blocking(read).await;
    outcome.unwrap_or_else(|error| Err(SourceError::Unavailable(error.to_string())))
}

/// How many read a source's files at once. Threads are not for one source alone, and each may have to wait for who writes.
#[derive(Clone, Debug)]
pub(super) struct Readers(Arc<Semaphore>);

impl Readers {
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// As [`aside`], when it is its turn.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        aside(move || {
            // Until it is done, though who asked may have given up.
            let _turn = turn;
            read()
        })
        .await
    }
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
}

impl Disk {
    /// Opens it; none if it is not there.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, SourceError> {
        // A pipe would keep whoever opens it.
        match std::fs::metadata(path) {
            Ok(there) if there.is_file() => {}
            Ok(_) => return Err(SourceError::Unavailable("no regular file".into())),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(&error)),
        }
        match File::open(path) {
            Ok(file) => Ok(Some(Self { file })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    pub(super) fn stamp(&self) -> Result<Stamp, SourceError> {
        self.file.metadata().map(|metadata| Stamp::of(&metadata)).map_err(|error| unavailable(&error))
    }

    /// Bytes from an offset, all of which must be there.
    pub(super) fn read(&self, at: u64, length: usize) -> Result<Vec<u8>, SourceError> {
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(SourceError::Damaged(format!("it ends before byte {}", at.saturating_add(length as u64))))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Bytes from an offset into a buffer, as many as there are.
    pub(super) fn read_some(&self, at: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Ok(filled)
    }
}

/// Which file it is, and how it was when somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    /// Of the file that a path names; none if there is none.
    pub(super) fn at(path: &Path) -> Result<Option<Self>, SourceError> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }

    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether it may be written just now.
    pub(super) fn is_recent(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = now.saturating_sub(Duration::from_secs(self.seconds.max(0) as u64));
        since < RECENT + Duration::from_secs(1)
    }

    /// Changes with the file.
    pub(super) fn version(&self) -> String {
        format!("{:x}.{:x}-{:x}-{:x}", self.seconds, self.nanoseconds, self.size, self.inode)
    }
}

fn unavailable(error: &std::io::Error) -> SourceError {
    SourceError::Unavailable(error.to_string())
}
