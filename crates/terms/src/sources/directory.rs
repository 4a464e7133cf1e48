//! A folder with a file for each term, whose path below it is the key.
//!
//! No key and no symbolic link leads out of the folder: the kernel resolves the path below it (`openat2`), and where it does not
//! know how, no link is followed at all. A file that is replaced by renaming is read whole, old or new.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::{Errno, Result as IoResult};

use super::{Found, Limits, Lookup, Source, SourceError};
use crate::config::TermSource;

/// A longer path the kernel does not take.
const PATH_BYTES_MAX: usize = 4096;
/// What is longer is read on a thread for blocking work: to copy it takes longer than to go there.
const DIRECT_BYTES_MAX: u64 = 64 << 10;
/// How often a file is read that changes meanwhile, and how long it is left in peace in between.
const READS_MAX: usize = 5;
const PAUSE: Duration = Duration::from_millis(5);
/// For how long a file that is empty may be one that somebody is about to write.
const EMPTY_SECONDS_MAX: i64 = 10;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Of a pipe nobody waits for the other end.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

#[derive(Debug)]
struct Directory(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    suffix: String,
    limits: Limits,
}

/// The folder at `path`; it may come into being later.
pub fn open(source: &TermSource, limits: Limits) -> Result<impl Source + use<>, String> {
    if source.path.as_os_str().is_empty() {
        return Err("a source of the kind `directory` needs `path`, the folder".into());
    }
    if source.suffix.contains(['/', '\0']) {
        return Err(format!("`suffix` is the end of a file's name, and {:?} is none", source.suffix));
    }
    Ok(Directory(Arc::new(Folder { path: source.path.clone(), suffix: source.suffix.clone(), limits })))
}

impl Source for Directory {
    fn get<'a>(&'a self, key: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let Some(name) = self.0.file_name(key) else { return Ok(None) };
            match self.0.read_cached(&name) {
                Err(Errno::AGAIN) => {}
                outcome => return self.0.answer(outcome),
            }
            let folder = Arc::clone(&self.0);
            let read = tokio::task::spawn_blocking(move || folder.read(&name));
            match tokio::time::timeout(self.0.limits.time(), read).await {
                Ok(Ok(outcome)) => self.0.answer(outcome),
                Ok(Err(_)) => Err(SourceError::Unavailable("the read was given up".into())),
                Err(_) => Err(SourceError::Unavailable(format!("not read in {} s", self.0.limits.seconds_max))),
            }
        })
    }
}

/// What is there under a name.
enum Read {
    Term(Found),
    Nothing,
    TooLong(u64),
    /// Somebody writes it at this moment.
    Unfinished,
    /// Nobody has written anything into it for long.
    Empty,
}

impl Folder {
    /// The path below the folder; none for a key that cannot be one. Names that begin with a dot are no terms: what editors leave,
    /// copies that are under way and Erlang's cookie have such.
    fn file_name(&self, key: &str) -> Option<PathBuf> {
        let is_too_long = key.len() + self.suffix.len() >= PATH_BYTES_MAX;
        if is_too_long || key.contains('\0') || key.split('/').any(|name| name.is_empty() || name.starts_with('.')) {
            return None;
        }
        Some(PathBuf::from([key, &self.suffix].concat()))
    }

    fn answer(&self, outcome: IoResult<Read>) -> Result<Option<Found>, SourceError> {
        match outcome {
            Ok(Read::Term(found)) => Ok(Some(found)),
            Ok(Read::Nothing) => Ok(None),
            Ok(Read::TooLong(bytes)) => Err(SourceError::too_long(bytes, self.limits)),
            Ok(Read::Empty) => Err(SourceError::Damaged("the file is empty".into())),
            Ok(Read::Unfinished) => Err(SourceError::Unavailable("the file is empty, or changes as it is read".into())),
            Err(error) => Err(SourceError::Unavailable(format!("{}: {error}", self.path.display()))),
        }
    }

    /// Reads what needs no disk, and no more than a moment; `AGAIN` says that this does not. A record takes 3 µs so, and 8 to 70 µs
    /// by a thread for blocking work (`benches/sources.rs`).
    #[cfg(target_os = "linux")]
    fn read_cached(&self, name: &Path) -> IoResult<Read> {
        use rustix::fs::{ResolveFlags, openat2};
        use rustix::io::{ReadWriteFlags, preadv2};

        let cached =
            |folder, path, flags, resolve| openat2(folder, path, flags, Mode::empty(), resolve | ResolveFlags::CACHED);
        let read = || {
            let folder = cached(CWD, self.path.as_path(), FOLDER, ResolveFlags::empty())?;
            let file = openat2(&folder, name, FILE, Mode::empty(), BENEATH | ResolveFlags::CACHED);
            self.read_opened(file, DIRECT_BYTES_MAX, |file, buffer, offset| {
                preadv2(file, &mut [std::io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)
            })
        };
        match read() {
            Ok(Read::Unfinished) => Err(Errno::AGAIN),
            // Of kernels and file systems that know no such thing, and of sandboxes.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => Err(Errno::AGAIN),
            outcome => outcome,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_cached(&self, _: &Path) -> IoResult<Read> {
        Err(Errno::AGAIN)
    }

    /// Reads, and waits for the disk, and for who writes.
    fn read(&self, name: &Path) -> IoResult<Read> {
        for _ in 1..READS_MAX {
            match self.read_once(name) {
                Ok(Read::Unfinished) | Err(Errno::AGAIN) => std::thread::sleep(PAUSE),
                outcome => return outcome,
            }
        }
        self.read_once(name)
    }

    fn read_once(&self, name: &Path) -> IoResult<Read> {
        let folder = openat(CWD, &self.path, FOLDER, Mode::empty())?;
        let file = open_below(&folder, name);
        self.read_opened(file, u64::MAX, |file, buffer, offset| rustix::io::pread(file, buffer, offset))
    }

    fn read_opened(
        &self,
        opened: IoResult<OwnedFd>,
        bytes_max: u64,
        read: impl Fn(&OwnedFd, &mut [u8], u64) -> IoResult<usize>,
    ) -> IoResult<Read> {
        let file = match opened {
            Ok(file) => file,
            // No such name, a link that leads outside, or a socket.
            Err(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::NAMETOOLONG
                | Errno::LOOP
                | Errno::XDEV
                | Errno::NXIO
                | Errno::ILSEQ,
            ) => return Ok(Read::Nothing),
            Err(error) => return Err(error),
        };
        let before = fstat(&file)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(Read::Nothing);
        }
        let size = u64::try_from(before.st_size).unwrap_or_default();
        if usize::try_from(size).map_or(true, |size| size > self.limits.bytes_max) {
            return Ok(Read::TooLong(size));
        }
        if size > bytes_max {
            return Err(Errno::AGAIN);
        }
        let mut bytes = vec![0; size as usize];
        let mut length = 0;
        while length < bytes.len() {
            match read(&file, &mut bytes[length..], length as u64) {
                Ok(0) => return Ok(Read::Unfinished),
                Ok(read) => length += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        if bytes.is_empty() && is_old(&before) {
            return Ok(Read::Empty);
        }
        let version = version(&before);
        if bytes.is_empty() || version != self::version(&fstat(&file)?) {
            return Ok(Read::Unfinished);
        }
        Ok(Read::Term(Found { bytes: Bytes::from(bytes), version: Some(version) }))
    }
}

/// Whether it has not changed for so long that nobody is about to write it.
fn is_old(file: &Stat) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).is_ok_and(|now| now - file.st_mtime > EMPTY_SECONDS_MAX)
}

fn version(file: &Stat) -> String {
    format!("{:x}-{:x}-{:x}-{:x}", file.st_ino, file.st_size, file.st_mtime, file.st_mtime_nsec)
}

/// Links may lead on, but not out of the folder, and nor to what is open in a process (`/proc`).
#[cfg(target_os = "linux")]
const BENEATH: rustix::fs::ResolveFlags =
    rustix::fs::ResolveFlags::BENEATH.union(rustix::fs::ResolveFlags::NO_MAGICLINKS);

fn open_below(folder: &OwnedFd, name: &Path) -> IoResult<OwnedFd> {
    #[cfg(target_os = "linux")]
    match rustix::fs::openat2(folder, name, FILE, Mode::empty(), BENEATH) {
        // Kernels before 5.6 do not know it, and sandboxes may forbid what they do not know.
        Err(Errno::NOSYS | Errno::PERM) => {}
        outcome => return outcome,
    }
    walk_below(folder, name)
}

/// Name by name, where none may be a link.
fn walk_below(folder: &OwnedFd, name: &Path) -> IoResult<OwnedFd> {
    let Some(last) = name.file_name() else { return Err(Errno::NOENT) };
    let mut here = openat(folder, ".", FOLDER, Mode::empty())?;
    for part in name.parent().into_iter().flat_map(Path::iter) {
        here = openat(&here, part, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    }
    openat(&here, last, FILE | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn where_the_kernel_does_not_resolve_below_a_folder_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("users")).unwrap();
        std::fs::write(folder.path().join("users/42"), "term").unwrap();
        symlink("users", folder.path().join("people")).unwrap();
        symlink("users/42", folder.path().join("answer")).unwrap();
        symlink("/etc/passwd", folder.path().join("users/passwd")).unwrap();
        let opened = openat(CWD, folder.path(), FOLDER, Mode::empty()).unwrap();
        let walk = |name: &str| walk_below(&opened, Path::new(name)).map(|_| ());
        assert_eq!(walk("users/42"), Ok(()));
        assert_eq!(walk("users/43"), Err(Errno::NOENT));
        for name in ["people/42", "answer", "users/passwd"] {
            assert!(matches!(walk(name), Err(Errno::LOOP | Errno::NOTDIR)), "{name}");
        }
    }
}
