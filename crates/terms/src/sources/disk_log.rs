//! Logs of `disk_log`, in its internal format: item by item, in bounded memory. `docs/erlang-files.md` has the format.

use md5::{Digest as _, Md5};

use super::SourceError;
use super::disk::Disk;

const HEADER_BYTES: u64 = 8;
const MAGIC: &[u8] = &[1, 2, 3, 4];
const OPENED: &[u8] = &[6, 7, 8, 9];
const CLOSED: &[u8] = &[99, 88, 77, 11];
/// Before each item, behind its size; the second in old files.
const ITEM: [u32; 2] = [0x6257_4c41, 0x0c21_2c37];
/// From this size on an item has the MD5 of its size before it.
const SUMMED_BYTES_MIN: u32 = 65_528;
/// What is read at once.
const WINDOW_BYTES: usize = 1 << 17;

/// Where an item lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Of its header.
    pub(super) at: u64,
    /// Of the term.
    pub(super) from: u64,
    pub(super) length: u32,
}

/// The items of a log from an offset on. A torn one is the end: it may be whole later.
pub(super) struct Items<'d> {
    disk: &'d Disk,
    at: u64,
    size: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'d> Items<'d> {
    /// From an offset, where an item must begin, or 0; the file has this size.
    pub(super) fn from(disk: &'d Disk, at: u64, size: u64) -> Result<Self, SourceError> {
        let mut items = Self { disk, at, size, window: Vec::new(), window_at: 0 };
        if at == 0 && size >= HEADER_BYTES {
            let (magic, state) = items.bytes(0, 8)?.split_at(4);
            if magic != MAGIC || (state != OPENED && state != CLOSED) {
                return Err(SourceError::Damaged("no log of disk_log in its internal format".into()));
            }
            items.at = HEADER_BYTES;
        }
        Ok(items)
    }

    pub(super) fn disk(&self) -> &'d Disk {
        self.disk
    }

    /// Where the next item begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn next(&mut self) -> Result<Option<Item>, SourceError> {
        let at = self.at;
        // A log that was just made has no header yet.
        if at < HEADER_BYTES || self.left(at) < 8 {
            return Ok(None);
        }
        let head = self.bytes(at, 8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let magic = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let damaged = |what: &str| Err(SourceError::Damaged(format!("byte {at}: {what}")));
        if !ITEM.contains(&magic) {
            // What a file system leaves at the end of a file after a crash.
            return if (length, magic) == (0, 0) { Ok(None) } else { damaged("no item begins here") };
        }
        let is_summed = magic == ITEM[0] && length >= SUMMED_BYTES_MIN;
        let from = at + if is_summed { 24 } else { 8 };
        if self.size < from || self.left(from) < u64::from(length) {
            return Ok(None);
        }
        if is_summed && Md5::digest(length.to_be_bytes())[..] != *self.bytes(at + 8, 16)? {
            return damaged("an item's size has another MD5");
        }
        self.at = from + u64::from(length);
        Ok(Some(Item { at, from, length }))
    }

    /// The beginning of an item, at least as much as fits into memory that is there anyway.
    pub(super) fn beginning(&mut self, item: Item) -> Result<&[u8], SourceError> {
        self.bytes(item.from, (item.length as usize).min(WINDOW_BYTES / 2))
    }

    /// An item, which must not have more bytes than these.
    pub(super) fn whole(&mut self, item: Item, bytes_max: usize) -> Result<Vec<u8>, SourceError> {
        if item.length as usize > bytes_max {
            return Err(SourceError::Damaged(format!("byte {}: an item of more than {bytes_max} bytes", item.at)));
        }
        if item.length as usize <= WINDOW_BYTES / 2 {
            return self.beginning(item).map(<[u8]>::to_vec);
        }
        self.disk.read(item.from, item.length as usize)
    }

    fn left(&self, at: u64) -> u64 {
        self.size.saturating_sub(at)
    }

    /// Bytes that are known to be there, at most half a window of them.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], SourceError> {
        let end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + length as u64 > end {
            self.window.resize(WINDOW_BYTES.min(self.left(at) as usize), 0);
            let filled = self.disk.read_some(at, &mut self.window)?;
            self.window.truncate(filled);
            self.window_at = at;
        }
        let from = (at - self.window_at) as usize;
        let bytes = self.window.get(from..from + length);
        bytes.ok_or_else(|| SourceError::Unavailable("it has become shorter".into()))
    }
}

/// The item whose header is at an offset.
pub(super) fn item_at(disk: &Disk, at: u64, bytes_max: usize) -> Result<Vec<u8>, SourceError> {
    let size = disk.stamp()?.size;
    let mut items = Items::from(disk, at, size)?;
    let gone = || SourceError::Unavailable("an item is gone".into());
    let item = items.next()?.ok_or_else(gone)?;
    items.whole(item, bytes_max)
}
