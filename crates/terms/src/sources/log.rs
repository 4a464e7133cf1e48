//! Logs that `disk_log` writes: of one file or wrapped round several, in its internal format or with each item a term as it is.
//!
//! Under a key is the last tuple that has it as its second element. A log of one file in the internal format has an index in memory, as tables
//! of Mnesia have. All others are read through by each lookup, from the newest file on: of wrapped ones what was read may be overwritten at
//! any time, and external ones do not say where an item begins. `docs/erlang-files.md` has the formats.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use magpie_etf::{DecodeError, Decoder, Reason, Term};

use super::disk::{Disk, Readers, Stamp};
use super::disk_log::Items;
use super::mnesia::Mnesia;
use super::{Found, Limits, Lookup, Source, SourceError, key, record};
use crate::config::{KeyKind, TermSource, Terms};

/// Files that a log may have (`disk_log`'s own limit).
const FILES_MAX: u32 = 65_000;
/// The version of the index that OTP writes since R7.
const INDEX_VERSION: u8 = 2;
/// `term_to_binary` begins so, and no log in the internal format.
const TERM: u8 = 131;
/// What is read at once of an external log.
const WINDOW_BYTES: usize = 1 << 17;
/// As each reads much.
const READERS: usize = 4;
/// Between lookups while the log is wrapped round.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    key: KeyKind,
    limits: Limits,
    inflated_bytes_max: usize,
    indexed: Mnesia,
    readers: Readers,
}

impl Log {
    /// A log whose files need not be there yet; `path` is the name that `disk_log` was given.
    ///
    /// # Errors
    /// If no path is configured, or one of a file that Mnesia has.
    pub fn open(source: &TermSource, settings: &Terms, limits: Limits) -> Result<Self, String> {
        let extension = source.path.extension().unwrap_or_default();
        if ["DCD", "DCL", "DAT", "idx", "siz"].iter().any(|other| extension == *other) {
            return Err("`path` must be the name of the log; a table of Mnesia is of the kind `mnesia`".into());
        }
        let indexed = Mnesia::open(source, settings)?;
        let inflated_bytes_max = settings.inflated_bytes_max;
        Ok(Self {
            path: source.path.clone(),
            key: source.key,
            limits,
            inflated_bytes_max,
            indexed,
            readers: Readers::new(READERS),
        })
    }
}

impl Source for Log {
    fn get<'a>(&'a self, text: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let key = key::parse(self.key, text)?;
            let until = Instant::now() + self.limits.time();
            let (path, limits) = (self.path.clone(), self.limits);
            let of_terms = magpie_etf::Limits { inflated_bytes_max: self.inflated_bytes_max, ..Default::default() };
            let decoder = Decoder::new(of_terms);
            let reading = move || Reading { path, limits, until, decoder }.look_up(key.root());
            match self.readers.aside(reading).await? {
                Seen::Found(bytes) => Ok(bytes.map(|bytes| Found { bytes: bytes.into(), version: None })),
                Seen::Indexed => self.indexed.get(text).await,
            }
        })
    }
}

/// What a look at the files gave.
enum Seen {
    Found(Option<Vec<u8>>),
    /// One file in the internal format.
    Indexed,
}

/// A wrapped log at a moment.
struct Files {
    /// Which is written.
    current: u32,
    /// From the first on.
    stamps: Vec<Option<Stamp>>,
}

impl Files {
    /// Whether nothing happened since but that the current file became longer.
    fn is_begun_by(&self, now: &Self) -> bool {
        let is_same = |(nth, (then, now)): (usize, (&Option<Stamp>, &Option<Stamp>))| match (then, now) {
            (Some(then), Some(now)) if nth as u32 + 1 == self.current => {
                then.is_same_file(now) && then.size <= now.size
            }
            _ => then == now,
        };
        (self.current, self.stamps.len()) == (now.current, now.stamps.len())
            && self.stamps.iter().zip(&now.stamps).enumerate().all(is_same)
    }
}

/// One lookup.
struct Reading {
    path: PathBuf,
    limits: Limits,
    until: Instant,
    decoder: Decoder,
}

impl Reading {
    fn look_up(mut self, key: Term<'_>) -> Result<Seen, SourceError> {
        let mut pause = PAUSE_MIN;
        loop {
            let Some(files) = self.files()? else {
                let Some(disk) = Disk::open(&self.path)? else { return Ok(Seen::Found(None)) };
                return match is_external(&disk)? {
                    true => self.external(&disk, key).map(Seen::Found),
                    false => Ok(Seen::Indexed),
                };
            };
            let found = self.wrapped(&files, key);
            // What is nowhere may have been in a file that was not written yet, or made empty meanwhile.
            if matches!(found, Ok(Some(_))) || self.files()?.is_some_and(|now| files.is_begun_by(&now)) {
                return found.map(Seen::Found);
            }
            self.in_time()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The files of a wrapped log; none if the log is not wrapped.
    fn files(&self) -> Result<Option<Files>, SourceError> {
        let Some(current) = self.current()? else { return Ok(None) };
        let mut stamps = Vec::new();
        for number in 1..=FILES_MAX {
            match Stamp::at(&with_suffix(&self.path, &number.to_string()))? {
                None if number > current => break,
                stamp => stamps.push(stamp),
            }
        }
        Ok(Some(Files { current, stamps }))
    }

    /// Which file of a wrapped log is written; none if the log is not wrapped.
    fn current(&self) -> Result<Option<u32>, SourceError> {
        let Some(disk) = Disk::open(&with_suffix(&self.path, "idx"))? else { return Ok(None) };
        let mut head = [0; 10];
        let filled = disk.read_some(0, &mut head)?;
        let [0, 0, 0, 0, 0, INDEX_VERSION, number @ ..] = head else {
            return Err(SourceError::Damaged("an index of a log of another version than 2".into()));
        };
        let current = u32::from_be_bytes(number);
        if filled < head.len() || !(1..=FILES_MAX).contains(&current) {
            return Err(SourceError::Damaged("an index of a log that cannot be".into()));
        }
        Ok(Some(current))
    }

    /// From the current file back to the first, and from the last back to the one behind the current, which is the oldest.
    fn wrapped(&mut self, files: &Files, key: Term<'_>) -> Result<Option<Vec<u8>>, SourceError> {
        let last = files.stamps.len() as u32;
        let older = (1..=files.current).rev();
        for number in older.chain((files.current + 1..=last).rev()) {
            let Some(disk) = Disk::open(&with_suffix(&self.path, &number.to_string()))? else { continue };
            let found = match is_external(&disk)? {
                true => self.external(&disk, key)?,
                false => self.internal(&disk, key)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn internal(&mut self, disk: &Disk, key: Term<'_>) -> Result<Option<Vec<u8>>, SourceError> {
        let mut items = Items::from(disk, 0, disk.stamp()?.size)?;
        let mut last = None;
        while let Some(item) = items.next()? {
            self.in_time()?;
            let there = items.beginning(item)?;
            let is_cut = there.len() < item.length as usize;
            let is_it = match self.is_under(there, key) {
                Err(error) if is_cut && error.reason == Reason::Truncated => {
                    self.is_under(&items.whole(item, self.limits.bytes_max)?, key)
                }
                is_it => is_it,
            };
            if is_it.map_err(|error| damaged(item.from, &error))? {
                last = Some(item);
            }
        }
        last.map(|item| items.whole(item, self.limits.bytes_max)).transpose()
    }

    /// Whether a term is a tuple with this key, of which no more is decoded.
    fn is_under(&mut self, bytes: &[u8], key: Term<'_>) -> Result<bool, DecodeError> {
        let Some(there) = record::element(&mut self.decoder, bytes, 2)? else { return Ok(false) };
        let is_it = there.root() == key;
        self.decoder.reuse(there);
        Ok(is_it)
    }

    fn external(&mut self, disk: &Disk, key: Term<'_>) -> Result<Option<Vec<u8>>, SourceError> {
        let size = disk.stamp()?.size;
        let (mut at, mut last) = (0, None);
        let (mut window, mut window_at, mut wanted) = (Vec::new(), 0, WINDOW_BYTES);
        while at < size {
            self.in_time()?;
            let there: &[u8] = &window[(at - window_at) as usize..];
            match self.decoder.decode(there) {
                Ok(tape) => {
                    let item = &there[..tape.used()];
                    if tape.root().as_tuple().and_then(|mut parts| parts.nth(1)) == Some(key) {
                        last = Some(item.to_vec());
                    }
                    at += item.len() as u64;
                    wanted = WINDOW_BYTES;
                    self.decoder.reuse(tape);
                }
                // It may be that only not all of it was read.
                Err(_) if at + (there.len() as u64) < size && there.len() < self.limits.bytes_max => {
                    if there.len() * 2 > wanted {
                        wanted *= 2;
                    }
                    window.resize(wanted.min((size - at) as usize), 0);
                    let filled = disk.read_some(at, &mut window)?;
                    window.truncate(filled);
                    window_at = at;
                    if filled == 0 {
                        return Err(SourceError::Unavailable("it has become shorter".into()));
                    }
                }
                // Nor has all of it been written yet.
                Err(error) if error.reason == Reason::Truncated && there.len() < self.limits.bytes_max => break,
                Err(error) if error.reason == Reason::Truncated => {
                    return Err(SourceError::too_long(format!("byte {at}: more"), self.limits));
                }
                Err(error) => return Err(damaged(at, &error)),
            }
        }
        Ok(last)
    }

    fn in_time(&self) -> Result<(), SourceError> {
        match Instant::now() < self.until {
            true => Ok(()),
            false => Err(SourceError::Unavailable(format!("not read in {} s", self.limits.seconds_max))),
        }
    }
}

fn is_external(disk: &Disk) -> Result<bool, SourceError> {
    let mut first = [0];
    Ok(disk.read_some(0, &mut first)? == 1 && first[0] == TERM)
}

fn damaged(at: u64, error: &DecodeError) -> SourceError {
    SourceError::Damaged(format!("byte {at}: {error}"))
}

/// `disk_log` puts its suffixes behind the name that it was given.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
