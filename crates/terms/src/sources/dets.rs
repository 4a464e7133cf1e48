//! Files of DETS, version 9, which those of Mnesia's `disc_only_copies` tables are too. `docs/erlang-files.md` has the format.
//!
//! A lookup opens the file, reads a page of tables that lead to the key's slot, and what lies in the slot: its cost does not depend on the
//! file's size, and nothing is kept from one lookup to the next. What says how many slots there are is not the header, which DETS
//! writes only now and then, but the table of segments, which grows with the file. While the file is being written, a lookup
//! counts when two in a row agree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use magpie_etf::{Decoder, Term};
use md5::{Digest as _, Md5};

use super::disk::{Disk, Readers, Stamp};
use super::{Found, Lookup, Source, SourceError, key, record};
use crate::config::{KeyKind, TermSource, Terms};

const HEADER_BYTES: usize = 188;
/// What the header and its reserve take; the table of parts follows.
const PARTS_AT: usize = 312;
const PARTS: usize = 256;
const SEGMENTS_OF_PART: usize = 512;
const SLOTS_OF_SEGMENT: u64 = 256;
const COOKIE: u32 = 0x00ab_cdef;
const ACTIVE: u32 = 0x1234_5678;
/// For how long lookups go on while the file is being written and no two in a row agree, or what is there cannot be: DETS writes that something
/// is at a place before it is there.
const PATIENCE: Duration = Duration::from_secs(1);
const READERS: usize = 32;

/// A file of DETS.
#[derive(Debug)]
pub struct Dets {
    path: PathBuf,
    key: KeyKind,
    term_bytes_max: usize,
    readers: Readers,
}

impl Dets {
    /// A file that need not be there yet.
    ///
    /// # Errors
    /// If no path is configured.
    pub fn open(source: &TermSource, settings: &Terms) -> Result<Self, String> {
        if source.path.as_os_str().is_empty() {
            return Err("`path` must name the file".into());
        }
        Ok(Self {
            path: source.path.clone(),
            key: source.key,
            term_bytes_max: settings.term_bytes_max,
            readers: Readers::new(READERS),
        })
    }
}

impl Source for Dets {
    fn get<'a>(&'a self, text: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let key = key::parse(self.key, text)?;
            let (path, term_bytes_max) = (self.path.clone(), self.term_bytes_max);
            let looked_up = self.readers.aside(move || {
                let Some(objects) = lookup(&path, key.root(), term_bytes_max)? else { return Ok(None) };
                objects.into_found(term_bytes_max)
            });
            looked_up.await
        })
    }
}

/// What lies under a key.
#[derive(Debug)]
pub(super) struct Objects {
    /// Whether a key may have more than one.
    pub(super) is_bag: bool,
    /// In the order in which they came.
    pub(super) objects: Vec<Vec<u8>>,
    pub(super) stamp: Stamp,
}

impl Objects {
    fn into_found(mut self, term_bytes_max: usize) -> Result<Option<Found>, SourceError> {
        let bytes = match (self.objects.len(), self.is_bag) {
            (0, _) => return Ok(None),
            (_, true) => {
                let damaged = |error| SourceError::Damaged(format!("an object: {error}"));
                record::list(&mut Decoder::default(), &self.objects).map_err(damaged)?
            }
            (_, false) => self.objects.swap_remove(0),
        };
        if bytes.len() > term_bytes_max {
            return Err(SourceError::Unavailable(format!("more than {term_bytes_max} bytes")));
        }
        Ok(Some(Found { bytes: bytes.into(), version: Some(self.stamp.version()) }))
    }
}

/// The objects that have a key; none if there is no such file.
pub(super) fn lookup(path: &Path, key: Term<'_>, term_bytes_max: usize) -> Result<Option<Objects>, SourceError> {
    let Some(disk) = Disk::open(path)? else { return Ok(None) };
    let hash = key.phash2().ok_or_else(|| SourceError::Key("a term of which another node knows what it is".into()))?;
    let bucket_bytes_max = term_bytes_max.saturating_mul(2).max(1 << 16);
    let attempt = || Table::read(&disk)?.find(key, hash, bucket_bytes_max);
    let stamp = disk.stamp()?;
    let mut last = attempt();
    if !stamp.is_recent() && disk.stamp()? == stamp {
        return finished(last, stamp).map(Some);
    }
    let mut waited = Duration::ZERO;
    let mut nth = 0u32;
    loop {
        let stamp = disk.stamp()?;
        let now = attempt();
        let is_settled = match (&last, &now) {
            (Ok(last), Ok(now)) if last == now => !now.objects.is_empty() || waited >= now.patience,
            _ => waited >= PATIENCE,
        };
        if is_settled {
            return finished(now, stamp).map(Some);
        }
        if now.as_ref().map_or(nth > 0, |now| nth > 1 || now.objects.is_empty()) {
            let pause = Duration::from_millis(1 << nth.min(6));
            std::thread::sleep(pause);
            waited += pause;
        }
        last = now;
        nth += 1;
    }
}

/// What a lookup gave.
#[derive(Debug, PartialEq, Eq)]
struct Attempted {
    is_bag: bool,
    objects: Vec<Vec<u8>>,
    /// For how long nothing must be there until there is nothing.
    patience: Duration,
}

type Attempt = Result<Attempted, SourceError>;

fn finished(attempt: Attempt, stamp: Stamp) -> Result<Objects, SourceError> {
    attempt.map(|Attempted { is_bag, objects, .. }| Objects { is_bag, objects, stamp })
}

/// The header, and how many slots there are.
struct Table<'d> {
    disk: &'d Disk,
    is_bag: bool,
    key_position: u32,
    parts: Vec<u32>,
    /// A power of two: the slots at the last doubling.
    doubled: u64,
    slots: u64,
}

impl<'d> Table<'d> {
    fn read(disk: &'d Disk) -> Result<Self, SourceError> {
        let head = disk.read(0, PARTS_AT + 4 * PARTS)?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let refuse = |why: &str| Err(SourceError::Damaged(why.into()));
        if word(4) != COOKIE {
            return refuse("no file of DETS");
        }
        if word(16) != 9 {
            return refuse("a file of DETS of another version than 9");
        }
        let sum = &head[HEADER_BYTES - 20..HEADER_BYTES - 4];
        if sum.iter().any(|&byte| byte != 0) && Md5::digest(&head[12..HEADER_BYTES - 20])[..] != *sum {
            return refuse("a header whose MD5 is another");
        }
        let (kind, doubled, key_position) = (word(12), word(20), word(28));
        if !(1..=3).contains(&kind) || !doubled.is_power_of_two() || doubled < 256 || key_position == 0 {
            return refuse("a header that cannot be");
        }
        match word(48) {
            1 => {}
            0 => return refuse("a table of before 2001, whose keys are placed by erlang:phash"),
            _ => return refuse("an unknown hash"),
        }
        let parts = head[PARTS_AT..].as_chunks::<4>().0.iter().map(|part| u32::from_be_bytes(*part));
        let parts: Vec<u32> = parts.take_while(|&part| part != 0).collect();
        let Some(&last) = parts.last() else { return refuse("no segments") };
        let segments = disk.read(u64::from(last), SEGMENTS_OF_PART * 4)?;
        let of_last = segments.as_chunks::<4>().0.iter().take_while(|segment| **segment != [0; 4]).count();
        let slots = ((parts.len() - 1) * SEGMENTS_OF_PART + of_last) as u64 * SLOTS_OF_SEGMENT;
        if slots < u64::from(doubled) {
            return refuse("fewer segments than slots");
        }
        // As the table grows slot by slot, there are never more than twice as many as at the last doubling.
        let doubled = 1 << slots.ilog2();
        Ok(Self { disk, is_bag: kind != 1, key_position, parts, doubled, slots })
    }

    fn find(&self, key: Term<'_>, hash: u32, bucket_bytes_max: usize) -> Attempt {
        let before = u64::from(hash) & (self.doubled - 1);
        let after = u64::from(hash) & (self.doubled * 2 - 1);
        let slot = if after < self.slots { after } else { before };
        let mut objects = self.find_in(slot, key, bucket_bytes_max)?;
        // A new segment is there before the objects are that belong to it: they are still in the slot of which it takes half.
        let parent = if slot == before { before & (self.doubled / 2 - 1) } else { before };
        if objects.is_empty() && parent != slot {
            objects = self.find_in(parent, key, bucket_bytes_max)?;
        }
        // DETS takes an object from its old place before it is at the new one, and may be interrupted there.
        let is_moving = slot >= self.slots - SLOTS_OF_SEGMENT;
        let patience = Duration::from_millis(if is_moving { 60 } else { 1 });
        Ok(Attempted { is_bag: self.is_bag, objects, patience })
    }

    fn find_in(&self, slot: u64, key: Term<'_>, bucket_bytes_max: usize) -> Result<Vec<Vec<u8>>, SourceError> {
        let segment = (slot / SLOTS_OF_SEGMENT) as usize;
        let nowhere = || SourceError::Damaged(format!("slot {slot} is nowhere"));
        let part = self.parts.get(segment / SEGMENTS_OF_PART).ok_or_else(nowhere)?;
        let segment = self.word(u64::from(*part) + 4 * (segment % SEGMENTS_OF_PART) as u64)?;
        if segment == 0 {
            return Err(nowhere());
        }
        let entry = self.disk.read(u64::from(segment) + 8 * (slot % SLOTS_OF_SEGMENT), 8)?;
        let (size, at) = halves(&entry);
        if at == 0 {
            return Ok(Vec::new());
        }
        if size < 8 {
            return Err(SourceError::Damaged(format!("slot {slot} has {size} bytes")));
        }
        if size as usize > bucket_bytes_max {
            return Err(SourceError::Unavailable(format!("slot {slot} has more than {bucket_bytes_max} bytes")));
        }
        // Before there is memory for them.
        if u64::from(at) + u64::from(size) > self.disk.stamp()?.size {
            return Err(SourceError::Damaged(format!("slot {slot} goes on after the end")));
        }
        let bucket = self.disk.read(u64::from(at), size as usize)?;
        if halves(&bucket) != (size, ACTIVE) {
            return Err(SourceError::Damaged(format!("slot {slot} leads to what is no object")));
        }
        let damaged = |why: String| SourceError::Damaged(format!("slot {slot}: {why}"));
        Bucket { rest: &bucket[8..], is_bag: self.is_bag, key_position: self.key_position }.find(key).map_err(damaged)
    }

    fn word(&self, at: u64) -> Result<u32, SourceError> {
        let bytes = self.disk.read(at, 4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

fn halves(bytes: &[u8]) -> (u32, u32) {
    let (words, _) = bytes.as_chunks::<4>();
    (u32::from_be_bytes(words[0]), u32::from_be_bytes(words[1]))
}

/// What lies in a slot: by keys, each with its objects.
struct Bucket<'b> {
    rest: &'b [u8],
    is_bag: bool,
    key_position: u32,
}

impl Bucket<'_> {
    fn find(mut self, key: Term<'_>) -> Result<Vec<Vec<u8>>, String> {
        let mut decoder = Decoder::default();
        while !self.rest.is_empty() {
            let group = sized(&mut self.rest)?;
            let mut objects = group;
            let first = if self.is_bag { sized(&mut objects)? } else { group };
            let of_first =
                record::element(&mut decoder, first, self.key_position).map_err(|error| error.to_string())?;
            let of_first = of_first.ok_or("an object without a key")?;
            if of_first.root() == key {
                let mut found = vec![first.to_vec()];
                while self.is_bag && !objects.is_empty() {
                    found.push(sized(&mut objects)?.to_vec());
                }
                return Ok(found);
            }
            decoder.reuse(of_first);
        }
        Ok(Vec::new())
    }
}

/// Takes what has its size before it, which counts the four bytes of itself.
fn sized<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], String> {
    let Some((size, behind)) = rest.split_first_chunk::<4>() else { return Err("a size is cut off".into()) };
    let size = (u32::from_be_bytes(*size) as usize).checked_sub(4).filter(|&size| size > 0);
    let (taken, after) = size.and_then(|size| behind.split_at_checked(size)).ok_or("a size that cannot be")?;
    *rest = after;
    Ok(taken)
}
