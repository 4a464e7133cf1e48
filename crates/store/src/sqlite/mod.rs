//! SQLite: one file in a data folder, one thread that writes it, a few that read.
//!
//! The write-ahead log is synced with each commit (`synchronous=FULL`): what a ticket acknowledged survives a loss of
//! power as far as the disk keeps its word.

mod archive;
mod arrivals;
mod bell;
mod checkpoints;
mod feed;
mod filing;
mod queries;
mod quick;
mod readers;
mod schema;
mod search;
mod writer;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use self::arrivals::Arrivals;
use self::bell::Bell;
use self::checkpoints::Checkpoints;
use self::queries::at_one_moment;
pub(crate) use self::queries::prefix_end;
use self::quick::Quick;
use self::readers::Readers;
use self::schema::refused;
use self::search::Filler;
use self::writer::SqliteCommit;
use crate::archive::{Page, Topic};
use crate::backend::{Backend, Between, Entries, KeyedEntries};
use crate::batch::Batch;
use crate::error::{OpenError, StoreError};
use crate::faults::Faults;
use crate::ids::{Ids, LogId};
use crate::lock::Lock;
use crate::reading::Reading;
use crate::rows::{Found, Wanted};
use crate::search::{SearchIndex, TextOf};
use crate::statistics::{Counters, Statistics};
use crate::store::Options;
use crate::ticket::{Ticket, Withdrawal};
use crate::writer::Writer;

const DATABASE: &str = "store.db";
const LOCK: &str = "lock";

/// What the write-ahead log is cut to after it had to grow, in bytes.
const LOG_BYTES_KEPT: u32 = 64 * 1024 * 1024;
/// Pages beyond these are the system's to keep: a megabyte here is 200 bytes for each of 5 000 sessions.
const WRITER_CACHE_KIBIBYTES: i32 = 1024;
/// Less, since what another connection writes empties it.
const READER_CACHE_KIBIBYTES: i32 = 256;
/// Less still, since it is never emptied: enough for what all reads go through.
const QUICK_CACHE_KIBIBYTES: i32 = 64;
/// Those of some months of archives among them.
const STATEMENTS_CACHED: usize = 64;

pub(crate) struct Sqlite {
    dir: PathBuf,
    writer: Arc<Writer>,
    bell: Arc<Bell>,
    search: Mutex<Option<(&'static str, Arc<Filler>)>>,
    at_rest: Option<fn()>,
    readers: Readers,
    quick: Quick,
    checkpoints: Checkpoints,
    arrivals: Arc<Arrivals>,
    faults: Faults,
    counters: Arc<Counters>,
    /// The writer's thread has it too, so that it is held for as long as the file can change.
    lock: Mutex<Option<Arc<Lock>>>,
}

impl Sqlite {
    pub(crate) fn open(dir: &Path, options: Options) -> Result<(Self, Arc<Ids>), OpenError> {
        create_folder(dir)?;
        let lock = Arc::new(Lock::take(&dir.join(LOCK))?);
        let path = dir.join(DATABASE);
        check_version(&path)?;
        keep_private(dir, 0o700)?;
        create_file(dir, &path)?;

        let mut connection =
            Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE)).map_err(refused)?;
        prepare(&connection).map_err(refused)?;
        schema::migrate(&mut connection, schema::MIGRATIONS)?;
        if let Some(bytes) = options.database_bytes_max {
            limit(&connection, bytes).map_err(refused)?;
        }
        let reader = |cache_kibibytes| {
            let reader = Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))?;
            cache(&reader, cache_kibibytes)?;
            Ok(reader)
        };
        let readers =
            Readers::start(options.readers, options.at_rest, || reader(READER_CACHE_KIBIBYTES).map_err(refused))?;
        let quick = reader(QUICK_CACHE_KIBIBYTES).and_then(|quick| quick.busy_timeout(Duration::ZERO).map(|()| quick));
        let quick = Quick::new(quick.map_err(refused)?);

        let own = Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE)).map_err(refused)?;
        cache(&own, QUICK_CACHE_KIBIBYTES).map_err(refused)?;
        let checkpoints = Checkpoints::start(&mut connection, own, &path)?;
        let counters = Arc::<Counters>::default();
        let arrivals = Arc::<Arrivals>::default();
        filing::restore(&connection, &arrivals)
            .map_err(refused)?
            .ok_or_else(|| OpenError::Backend("what arrived in archives before the last end cannot be read".into()))?;
        let bell = Arc::<Bell>::default();
        if search::is_in(dir)? {
            bell.watch();
        }
        let (commit, ids) = SqliteCommit::new(
            connection,
            counters.clone(),
            bell.clone(),
            lock.clone(),
            arrivals.clone(),
            options.arriving_bytes_max,
        )
        .map_err(refused)?;
        let writer = Writer::start(Box::new(commit), options.bounds(), options.faults.clone(), counters.clone())?;
        let sqlite = Self {
            dir: dir.to_owned(),
            writer: Arc::new(writer),
            bell,
            search: Mutex::default(),
            at_rest: options.at_rest,
            readers,
            quick,
            checkpoints,
            arrivals,
            faults: options.faults,
            counters,
            lock: Mutex::new(Some(lock)),
        };
        Ok((sqlite, ids))
    }

    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Reading<T> {
        self.counters.begin_read();
        match self.faults.fail_read() {
            Some(fault) => Reading::ready(Err(fault)),
            None => self.readers.read(query),
        }
    }

    /// A read of a few rows.
    fn read_quickly<T: Send + 'static>(
        &self,
        query: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Reading<T> {
        self.counters.begin_read();
        if let Some(fault) = self.faults.fail_read() {
            return Reading::ready(Err(fault));
        }
        match self.quick.read(&query) {
            Some(answer) => Reading::ready(answer.map_err(failure)),
            None => self.readers.read(query),
        }
    }
}

impl Backend for Sqlite {
    fn commit(&self, batch: Batch) -> Ticket {
        self.writer.commit(batch)
    }

    fn commit_later(&self, batch: Batch) -> (Ticket, Withdrawal) {
        self.writer.commit_later(batch)
    }

    fn withdraw(&self, withdrawal: &Withdrawal) -> bool {
        self.writer.withdraw(withdrawal)
    }

    fn commit_placed(&self, batch: Batch, ids: &Ids) -> (LogId, Ticket) {
        self.writer.commit_placed(batch, ids)
    }

    fn page(&self, name: &'static str, owner: &str, page: Page) -> Reading<Entries> {
        let (owner, arrivals) = (owner.to_string(), self.arrivals.clone());
        self.read(move |connection| {
            // First what waits: what is filed in between is found twice, and not missed.
            let waiting = arrivals.read().page(name, &owner, &page);
            let filed = archive::page(connection, name, &owner, &page)?;
            Ok(arrivals::merged(filed, waiting, &page))
        })
    }

    fn ends(&self, name: &'static str, owner: &str) -> Reading<Option<(LogId, LogId)>> {
        let (owner, arrivals) = (owner.to_string(), self.arrivals.clone());
        self.read_quickly(move |connection| {
            // First what waits: what is filed in between is found twice, and not missed.
            let waiting = arrivals.read().ends(name, &owner);
            let filed = archive::ends(connection, name, &owner)?;
            let both = [waiting, filed].into_iter().flatten();
            Ok(both.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))))
        })
    }

    fn archived(&self, name: &'static str, owner: &str, mut ids: Vec<LogId>) -> Reading<Entries> {
        ids.sort_unstable();
        ids.dedup();
        let (owner, arrivals) = (owner.to_string(), self.arrivals.clone());
        self.read(move |connection| {
            let waiting = arrivals.read().entries(name, &owner, &ids);
            let filed = archive::entries(connection, name, &owner, &ids)?;
            Ok(arrivals::merged(filed, waiting, &Page { limit: usize::MAX, ..Page::default() }))
        })
    }

    fn of_moments(
        &self,
        name: &'static str,
        owner: &str,
        topic: Option<String>,
        mut moments: Vec<u64>,
    ) -> Reading<Entries> {
        moments.sort_unstable();
        let owner = owner.to_string();
        // What waits is in no index.
        self.read(move |connection| {
            let mut found = at_one_moment(connection, || feed::of_moments(connection, name, &owner, &moments))?;
            found.retain(|(filed, ..)| topic.as_ref().is_none_or(|topic| topic == filed));
            Ok(found.into_iter().map(|(_, id, record)| (id, record)).collect())
        })
    }

    fn index(&self, name: &'static str, text: TextOf) -> Option<Arc<dyn SearchIndex>> {
        let mut search = self.search.lock();
        if search.is_none() {
            let place = search::Place::new(name, &self.dir, DATABASE, text, self.arrivals.clone());
            match Filler::start(place, Arc::downgrade(&self.writer), self.bell.clone(), self.at_rest) {
                Ok(filler) => *search = Some((name, Arc::new(filler))),
                Err(error) => tracing::error!(%error, "archives are searched without an index"),
            }
        }
        let (of, filler) = search.as_ref()?;
        (*of == name).then(|| filler.clone() as Arc<dyn SearchIndex>)
    }

    fn topics(&self, name: &'static str, owner: &str) -> Reading<Vec<(String, Topic)>> {
        let (owner, arrivals) = (owner.to_string(), self.arrivals.clone());
        self.read(move |connection| {
            let filed = || archive::topics(connection, name, &owner);
            arrivals.consistently(filed, |waiting, filed| waiting.topics(name, &owner, filed))
        })
    }

    fn topic(&self, name: &'static str, owner: &str, topic: &str) -> Reading<Option<Topic>> {
        let (owner, topic, arrivals) = (owner.to_string(), topic.to_string(), self.arrivals.clone());
        self.read_quickly(move |connection| {
            let filed = || archive::topic(connection, name, &owner, &topic);
            arrivals.consistently(filed, |waiting, filed| waiting.topic(name, &owner, &topic, filed))
        })
    }

    fn value(&self, name: &'static str, owner: &str) -> Reading<Option<Vec<u8>>> {
        let owner = owner.to_string();
        self.read_quickly(move |connection| queries::value(connection, name, &owner))
    }

    fn owners(&self, name: &'static str, prefix: &str, after: Option<&str>, limit: usize) -> Reading<Vec<String>> {
        let (prefix, after) = (prefix.to_string(), after.map(str::to_string));
        self.read(move |connection| queries::owners(connection, name, &prefix, after.as_deref(), limit))
    }

    fn count_owners(&self, name: &'static str, prefix: &str) -> Reading<u64> {
        let prefix = prefix.to_string();
        self.read(move |connection| queries::count_owners(connection, name, &prefix))
    }

    fn entry(&self, name: &'static str, owner: &str, key: &str) -> Reading<Option<Vec<u8>>> {
        let (owner, key) = (owner.to_string(), key.to_string());
        self.read_quickly(move |connection| queries::entry(connection, name, &owner, &key))
    }

    fn entries(&self, name: &'static str, owner: &str) -> Reading<Vec<(String, Vec<u8>)>> {
        let owner = owner.to_string();
        self.read(move |connection| queries::entries(connection, name, &owner))
    }

    fn keys(&self, name: &'static str, owner: &str, between: Between<'_>, limit: usize) -> Reading<KeyedEntries> {
        let (owner, after, before) = (owner.to_owned(), between.after.to_owned(), between.before.to_owned());
        let back = between.back;
        self.read(move |connection| {
            queries::keys(connection, name, &owner, Between { after: &after, before: &before, back }, limit)
        })
    }

    fn count_keys(&self, name: &'static str, owner: &str, between: Between<'_>) -> Reading<u64> {
        let (owner, after, before) = (owner.to_owned(), between.after.to_owned(), between.before.to_owned());
        self.read(move |connection| queries::count_keys(connection, [&owner, name, &after, &before]))
    }

    fn range(&self, name: &'static str, owner: &str, after: Option<LogId>, limit: usize) -> Reading<Entries> {
        let owner = owner.to_string();
        self.read(move |connection| queries::range(connection, name, &owner, after, limit))
    }

    fn range_back(&self, name: &'static str, owner: &str, before: Option<LogId>, limit: usize) -> Reading<Entries> {
        let owner = owner.to_string();
        self.read(move |connection| queries::range_back(connection, name, &owner, before, limit))
    }

    fn count_entries(&self, name: &'static str, owner: &str) -> Reading<u64> {
        let owner = owner.to_string();
        self.read(move |connection| queries::count_entries(connection, name, &owner))
    }

    fn rows(&self, owner: &str, wanted: &[Wanted]) -> Reading<Vec<Found>> {
        let (owner, wanted) = (owner.to_string(), wanted.to_vec());
        self.read_quickly(move |connection| queries::rows(connection, &owner, &wanted))
    }

    fn settled(&self) -> Ticket {
        self.writer.settled()
    }

    fn statistics(&self) -> Statistics {
        let mut statistics = self.writer.statistics();
        if let Some((_, filler)) = &*self.search.lock() {
            statistics.search_behind = filler.counts().behind.load(Relaxed);
            statistics.search_indexed = filler.counts().indexed.load(Relaxed);
            statistics.search_looked = filler.counts().looked.load(Relaxed);
        }
        statistics
    }

    fn close(&self) {
        // The readers first: the last connection to go copies the write-ahead log into the database, and only the
        // writer's can.
        let filler = self.search.lock().as_ref().map(|(_, filler)| filler.clone());
        if let Some(filler) = filler {
            filler.close();
        }
        self.readers.close();
        self.quick.close();
        self.checkpoints.close();
        self.writer.close();
        self.lock.lock().take();
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.close();
    }
}

/// The threads keep to their own connections, so that SQLite need not lock them.
fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What was deleted is overwritten where its page is written anyway.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    cache(connection, WRITER_CACHE_KIBIBYTES)
}

/// Pages, and statements. A statement is prepared once. Without the planner's promise to leave a plan as it is, it prepares one
/// anew each time that other values are bound to it, which costs more than running it.
fn cache(connection: &Connection, kibibytes: i32) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", -kibibytes)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// A cache is worth its memory while there is work; without, 5 000 idle sessions took half as much again.
fn forget_pages(connection: &Connection) {
    if let Err(error) = connection.execute_batch("PRAGMA shrink_memory") {
        tracing::debug!(%error, "the store keeps its cache");
    }
}

fn limit(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    // A limit of 0 would change nothing.
    let pages = u32::try_from(bytes / u64::from(page_bytes)).unwrap_or(u32::MAX - 1).max(1);
    connection.pragma_update(None, "max_page_count", pages)
}

/// Refuses a newer version before anything in it is written.
fn check_version(path: &Path) -> Result<(), OpenError> {
    if !path.try_exists()? {
        return Ok(());
    }
    let connection = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY)).map_err(refused)?;
    schema::check(schema::version(&connection)?, schema::MIGRATIONS.len())
}

fn create_folder(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    let missing = dir.ancestors().take_while(|folder| !folder.exists()).count();
    if missing > 0 {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    }
    // A new name is durable once the folder that holds it was synced.
    dir.ancestors().skip(1).take(missing).try_for_each(|parent| File::open(parent)?.sync_all())
}

/// SQLite gives the files beside the database the same permissions.
fn create_file(dir: &Path, path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    keep_private(path, 0o600)?;
    File::open(dir)?.sync_all()
}

/// Takes away what others may do. Where the file is somebody else's who gave it to us, it is theirs to decide.
fn keep_private(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?.permissions().mode() & 0o777;
    if found & !mode == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(found & mode)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %path.display(), mode = format!("{found:o}"), "others can reach the data");
            Ok(())
        }
        done => done,
    }
}

/// What the rest of the program needs to tell apart.
fn failure(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Backend(error.to_string()),
    }
}
