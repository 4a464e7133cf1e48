//! Logs that follow one another, and the index over them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magpie_etf::{Decoder, Reason, Term};

use super::changes::{self, Fate, Said};
use super::index::{Change, Index, Keys, Place};
use crate::sources::disk::{Disk, Stamp};
use crate::sources::disk_log::{self, Item, Items};
use crate::sources::{SourceError, record};

/// Transactions whose outcome the log has not said yet.
const PENDING_MAX: usize = 4096;

/// What the items of a log are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Records, each of which is written.
    Records,
    /// Changes of one table.
    Changes,
    /// Transactions of all tables.
    Transactions,
}

/// What a table is.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) table: String,
    pub(super) is_bag: bool,
    pub(super) keys: Keys,
    /// What one item may have that must be read whole.
    pub(super) item_bytes_max: usize,
}

struct Log {
    path: PathBuf,
    form: Form,
    open: Option<Opened>,
}

struct Opened {
    disk: Arc<Disk>,
    /// When it was opened, and when it was read last.
    first: Stamp,
    last: Stamp,
    read_to: u64,
    /// What was before that place: a log that was made empty and has grown again has something else there.
    read_last: Vec<u8>,
}

/// Bytes that are remembered of what was read.
const REMEMBERED_BYTES: u64 = 64;

impl Opened {
    fn bytes_before(&self) -> Result<Vec<u8>, SourceError> {
        let length = self.read_to.min(REMEMBERED_BYTES);
        self.disk.read(self.read_to - length, length as usize)
    }
}

/// One thing that happened to a key, and where that is written.
pub(super) struct Step {
    pub(super) change: Change,
    pub(super) disk: Arc<Disk>,
    pub(super) form: Form,
    pub(super) at: u64,
    pub(super) nth: u32,
    /// When the file was opened.
    pub(super) stamp: Stamp,
}

/// Logs, the later ones over the earlier.
pub(super) struct Layer {
    logs: Vec<Log>,
    pub(super) index: Index,
    pending: HashMap<Vec<u8>, Vec<Place>>,
    /// How the logs were when they could not be read.
    failed: Option<(Vec<Option<Stamp>>, String)>,
}

impl Layer {
    pub(super) fn new(logs: &[(&Path, Form)]) -> Self {
        let logs = logs.iter().map(|(path, form)| Log { path: path.to_path_buf(), form: *form, open: None });
        Self { logs: logs.collect(), index: Index::default(), pending: HashMap::new(), failed: None }
    }

    /// Whether there are no logs to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Whether something was read.
    pub(super) fn is_read(&self) -> bool {
        self.logs.iter().any(|log| log.open.is_some())
    }

    /// Which files there are now.
    pub(super) fn stamps(&self) -> Result<Vec<Option<Stamp>>, SourceError> {
        self.logs.iter().map(|log| Stamp::at(&log.path)).collect()
    }

    /// Whether what was read is still the beginning of what there is.
    pub(super) fn can_go_on(&self, stamps: &[Option<Stamp>]) -> bool {
        let last = self.logs.iter().rposition(|log| log.open.is_some());
        self.logs.iter().zip(stamps).enumerate().all(|(nth, (log, stamp))| match (&log.open, stamp) {
            (None, None) => true,
            (None, Some(_)) => last.is_none_or(|last| nth > last),
            (Some(_), None) => false,
            (Some(open), Some(stamp)) => {
                let is_last = Some(nth) == last;
                open.last.is_same_file(stamp) && stamp.size >= open.read_to && (is_last || stamp.size == open.last.size)
            }
        })
    }

    /// Forgets all that was read.
    pub(super) fn reset(&mut self) {
        self.logs.iter_mut().for_each(|log| log.open = None);
        self.index = Index::default();
        self.pending.clear();
    }

    /// Reads what has come since, from the beginning if files were replaced.
    pub(super) fn refresh(&mut self, shape: &Shape) -> Result<(), SourceError> {
        let stamps = self.stamps()?;
        if let Some((then, why)) = &self.failed {
            if *then == stamps {
                return Err(SourceError::Damaged(why.clone()));
            }
            self.failed = None;
        }
        if !self.can_go_on(&stamps) {
            self.reset();
        }
        for (nth, stamp) in stamps.iter().enumerate() {
            if stamp.is_none() || self.logs[nth].open.as_ref().map(|open| open.last) == *stamp {
                continue;
            }
            let open = self.logs[nth].open.as_ref();
            if open.is_some_and(|open| open.bytes_before().ok().as_ref() != Some(&open.read_last)) {
                self.reset();
                return self.refresh(shape);
            }
            if let Err(error) = self.read(nth, shape) {
                self.reset();
                if let SourceError::Damaged(why) = &error {
                    self.failed = Some((stamps, why.clone()));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn read(&mut self, nth: usize, shape: &Shape) -> Result<(), SourceError> {
        let disks = self.logs.iter().map(|log| log.open.as_ref().map(|open| Arc::clone(&open.disk))).collect();
        let log = &mut self.logs[nth];
        if log.open.is_none() {
            let Some(disk) = Disk::open(&log.path)? else { return Ok(()) };
            let first = disk.stamp()?;
            log.open = Some(Opened { disk: Arc::new(disk), first, last: first, read_to: 0, read_last: Vec::new() });
        }
        let open = log.open.as_mut().expect("it was opened above");
        open.last = open.disk.stamp()?;
        let disk = Arc::clone(&open.disk);
        let mut items = Items::from(&disk, open.read_to, open.last.size)?;
        let is_new = open.read_to == 0;
        let mut reader = Reader {
            shape,
            log: nth as u8,
            earlier: disks,
            index: &mut self.index,
            pending: &mut self.pending,
            decoder: Decoder::default(),
        };
        let mut is_first = is_new;
        while let Some(item) = items.next()? {
            match log.form {
                Form::Records => reader.record(&mut items, item, is_first)?,
                form => reader.item(&mut items, item, form)?,
            }
            is_first = false;
        }
        open.read_to = items.at();
        if open.read_to < 8 {
            open.read_to = 0;
        }
        open.read_last = open.bytes_before()?;
        Ok(())
    }

    /// What happened to a key, the last first.
    pub(super) fn steps(&self, hash: u64) -> impl Iterator<Item = Step> {
        self.index.changes(hash).filter_map(|(change, place)| {
            let log = self.logs.get(usize::from(place.log))?;
            let open = log.open.as_ref()?;
            let disk = Arc::clone(&open.disk);
            Some(Step { change, disk, form: log.form, at: place.at, nth: place.nth, stamp: open.first })
        })
    }
}

/// Reads items into an index.
struct Reader<'r> {
    shape: &'r Shape,
    log: u8,
    /// The logs before this one.
    earlier: Vec<Option<Arc<Disk>>>,
    index: &'r mut Index,
    pending: &'r mut HashMap<Vec<u8>, Vec<Place>>,
    decoder: Decoder,
}

impl Reader<'_> {
    /// Only the key is decoded, and of a large record only the beginning read.
    fn record(&mut self, items: &mut Items<'_>, item: Item, is_first: bool) -> Result<(), SourceError> {
        let place = Place { log: self.log, at: item.at, nth: 0 };
        let beginning = items.beginning(item)?;
        let is_cut = beginning.len() < item.length as usize;
        let whole;
        let key = match record::element(&mut self.decoder, beginning, 2) {
            Err(error) if error.reason == Reason::Truncated && is_cut => {
                whole = items.whole(item, self.shape.item_bytes_max)?;
                record::element(&mut self.decoder, &whole, 2)
            }
            key => key,
        };
        let key = key.map_err(|error| SourceError::Damaged(format!("byte {}: {error}", item.from)))?;
        let Some(key) = key else { return Ok(()) };
        // Mnesia's logs say first what they are.
        let is_header = is_first && matches!(key.root().as_atom(), Some("dcd_log" | "trans_log" | "backup_log"));
        if !is_header {
            self.put(self.shape.keys.hash(key.root()), Change::Write, place)?;
        }
        self.decoder.reuse(key);
        Ok(())
    }

    fn item(&mut self, items: &mut Items<'_>, item: Item, form: Form) -> Result<(), SourceError> {
        let bytes = items.whole(item, self.shape.item_bytes_max)?;
        let mut decoder = std::mem::take(&mut self.decoder);
        let tape = decoder.decode(&bytes);
        let tape = tape.map_err(|error| SourceError::Damaged(format!("byte {}: {error}", item.from)))?;
        match form {
            Form::Transactions => self.transaction(items, item, tape.root())?,
            _ => self.changes(self.log, item.at, tape.root(), false)?,
        }
        decoder.reuse(tape);
        self.decoder = decoder;
        Ok(())
    }

    fn transaction(&mut self, items: &Items<'_>, item: Item, term: Term<'_>) -> Result<(), SourceError> {
        let mut concerns = false;
        match changes::of_transaction_log(term, &self.shape.table, |_| concerns = true) {
            Fate::Committed if concerns => self.changes(self.log, item.at, term, true),
            Fate::Pending(transaction) if concerns => {
                if self.pending.len() >= PENDING_MAX {
                    self.pending.clear();
                }
                let place = Place { log: self.log, at: item.at, nth: 0 };
                self.pending.entry(self.shape.keys.bytes(transaction)).or_default().push(place);
                Ok(())
            }
            Fate::Decided(transaction, is_committed) => {
                let waiting = self.pending.remove(&self.shape.keys.bytes(transaction)).unwrap_or_default();
                for place in waiting.into_iter().filter(|_| is_committed) {
                    let earlier = self.earlier.get(usize::from(place.log)).and_then(Option::as_deref);
                    let disk = if place.log == self.log { Some(items.disk()) } else { earlier };
                    let Some(disk) = disk else { continue };
                    let bytes = disk_log::item_at(disk, place.at, self.shape.item_bytes_max)?;
                    let tape = magpie_etf::decode(&bytes).map_err(|error| SourceError::Damaged(error.to_string()))?;
                    self.changes(place.log, place.at, tape.root(), true)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn changes(&mut self, log: u8, at: u64, term: Term<'_>, is_transaction: bool) -> Result<(), SourceError> {
        let mut outcome = Ok(());
        let shape = self.shape;
        let take = |said: Said<'_>| {
            let done = match said {
                Said::Cleared => {
                    self.index.clear();
                    Ok(())
                }
                Said::Key { nth, change, key, .. } => self.put(shape.keys.hash(key), change, Place { log, at, nth }),
            };
            if outcome.is_ok() {
                outcome = done;
            }
        };
        if is_transaction {
            changes::of_transaction_log(term, &shape.table, take);
        } else {
            changes::of_change_log(term, &shape.table, take);
        }
        outcome
    }

    fn put(&mut self, hash: u64, change: Change, place: Place) -> Result<(), SourceError> {
        let replaces = match change {
            Change::Write => !self.shape.is_bag,
            Change::Delete => true,
            Change::DeleteObject | Change::Count => false,
        };
        self.index.put(hash, change, place, replaces).map_err(SourceError::Unavailable)
    }
}
