//! Follows the archive with the index, a round at a time, and answers from it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::FILE;
use super::index::{Cursor, Index, moment_of, owned, owner_of, row_of, topic_term};
use crate::archive::{Page, space};
use crate::batch::Batch;
use crate::ids::{LogId, month, month_begin};
use crate::search::{Look, Stretch, TextOf};
use crate::sqlite::arrivals::Arrivals;
use crate::sqlite::bell::{Bell, News};
use crate::sqlite::feed::{self, Arrival, Part, Removed};
use crate::sqlite::queries::at_one_moment;
use crate::words;
use crate::writer::Writer;

/// Entries that are indexed, or rows that are taken away, in one transaction, during which no search is answered.
const ROUND: usize = 512;

/// Rounds that a search makes before it looks, where the index is behind. What is still missing then it looks at itself.
const ROUNDS_FIRST: usize = 4;

/// For how long what was taken away may still be in the file, which is then written anew: a day.
const PURGE_AFTER_SECONDS: i64 = 24 * 60 * 60;

/// What it has done, and has to do.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) behind: AtomicU64,
    pub(crate) indexed: AtomicU64,
    pub(crate) looked: AtomicU64,
}

/// Which archive it follows, and where.
pub(crate) struct Place {
    name: &'static str,
    archive: PathBuf,
    index: PathBuf,
    text: TextOf,
    /// What is not in the archive's tables yet.
    arrivals: Arc<Arrivals>,
}

pub(super) struct Engine {
    place: Place,
    writer: Weak<Writer>,
    bell: Arc<Bell>,
    counts: Arc<Counts>,
    open: Option<Open>,
    look: ToLook,
    caught_up: bool,
    busy: bool,
}

/// Where the archive may have what the index has not.
struct ToLook {
    /// Anywhere: nothing is known.
    everywhere: bool,
    /// Months, the newest first, and numbers of parts; how many entries are missing, or one where that is not known yet.
    parts: BTreeMap<(Reverse<i64>, i64), u64>,
}

struct Open {
    archive: Connection,
    index: Index,
}

/// How a round ended.
enum Round {
    Done,
    More,
    /// The index does not follow from what it has.
    StartOver,
}

impl Engine {
    pub(super) fn new(place: Place, writer: Weak<Writer>, bell: Arc<Bell>, counts: Arc<Counts>) -> Self {
        Self { place, writer, bell, counts, open: None, look: ToLook::default(), caught_up: false, busy: false }
    }

    /// Whether the archive has what the index has not.
    pub(super) fn is_behind(&mut self) -> bool {
        self.caught_up &= !self.hear();
        !self.caught_up
    }

    /// Whether something was written since it was asked before.
    fn hear(&mut self) -> bool {
        let news = self.bell.rang();
        let rang = news.is_some();
        news.into_iter().for_each(|news| self.look.add(news));
        rang
    }

    /// Whether something was written between the last two rounds.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Lets go of files and caches.
    pub(super) fn rest(&mut self) {
        self.open = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// In how many seconds it has something to do without news.
    pub(super) fn next_purge(&mut self) -> Option<u64> {
        let (_, at) = self.open().ok()?.index.next_purge().ok()??;
        Some(at.saturating_sub(now()).max(0).cast_unsigned())
    }

    /// Follows the archive by one round.
    pub(super) fn round(&mut self) -> rusqlite::Result<()> {
        // What is written from now on rings again.
        self.busy = self.hear();
        let round = self.follow();
        let broken = |error: &rusqlite::Error| {
            matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
        };
        match round {
            Ok(Round::Done) => self.caught_up = true,
            Ok(Round::More) => self.caught_up = false,
            Ok(Round::StartOver) => {
                tracing::info!(archive = self.place.name, "the search index is made anew");
                self.start_over();
            }
            Err(error) => {
                self.caught_up = false;
                if broken(&error) {
                    tracing::warn!(%error, archive = self.place.name, "the search index is broken and is made anew");
                    self.start_over();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the index away, so that it is made anew.
    pub(super) fn start_over(&mut self) {
        (self.open, self.look, self.caught_up) = (None, ToLook::default(), false);
        if let Err(error) = Index::remove(&self.place.index) {
            tracing::warn!(%error, path = %self.place.index.display(), "the search index cannot be removed");
        }
    }

    fn open(&mut self) -> rusqlite::Result<&Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.place.open()?,
        };
        Ok(self.open.insert(open))
    }

    fn follow(&mut self) -> rusqlite::Result<Round> {
        let (place, counts) = ((self.place.name, self.place.text), self.counts.clone());
        // Where this fails it has to look everywhere again.
        let mut look = std::mem::take(&mut self.look);
        let open = self.open()?;
        let seen_before = open.index.removals_seen()?;
        let follow = Follow { open, name: place.0, text: place.1, counts: &counts, purge: now() + PURGE_AFTER_SECONDS };
        let round = open.index.transaction(|| at_one_moment(&open.archive, || follow.round(&mut look)))?;
        let seen = open.index.removals_seen()?;
        self.look = look;
        if seen > seen_before
            && let Some(writer) = self.writer.upgrade()
        {
            let mut batch = Batch::new();
            batch.removals_seen(seen.cast_unsigned());
            // Nobody waits for it. Where it fails they are dropped the next time.
            drop(writer.commit_later(batch));
        }
        Ok(round)
    }

    /// Which part of an owner's entries the index knows, after it was given a chance to know all: in order of time.
    pub(super) fn plan(&mut self, owner: &str, first: LogId, last: LogId) -> rusqlite::Result<Vec<Stretch>> {
        for _ in 0..ROUNDS_FIRST {
            if !self.is_behind() {
                break;
            }
            self.round()?;
        }
        let name = self.place.name;
        // What waits to be filed comes after all that is. Asked for first: what is filed in between is looked through.
        let one = Page { limit: 1, ..Page::default() };
        let waiting = self.place.arrivals.read().page(name, owner, &one).first().map(|(id, _)| *id);
        let filed_to = waiting.map_or(last, |waiting| last.min(LogId(waiting.0.saturating_sub(1))));
        let Open { archive, index } = self.open()?;
        at_one_moment(archive, || {
            let parts = feed::parts_of(archive, name, space(owner), (month(first), month(filed_to)))?;
            let mut plan: Vec<Stretch> = Vec::new();
            for part in parts {
                let begin = LogId::at_millis(month_begin(part.month)).max(first);
                let end = LogId(LogId::at_millis(month_begin(part.month + 1)).0 - 1).min(filed_to);
                if begin > end {
                    continue;
                }
                let cursor = index.cursor(part.number)?.filter(|cursor| cursor.gone.is_none());
                let indexed_to = match cursor {
                    Some(cursor) if cursor.row >= part.last => Some(end),
                    Some(cursor) => feed::last_of(archive, part.number, owner, cursor.row)?.map(|to| to.min(end)),
                    None => None,
                };
                let indexed_to = indexed_to.filter(|to| *to >= begin);
                if let Some(indexed_to) = indexed_to {
                    extend(&mut plan, Stretch { first: begin, last: indexed_to, indexed: true });
                }
                let rest = indexed_to.map_or(begin, |to| LogId(to.0 + 1));
                if rest <= end {
                    extend(&mut plan, Stretch { first: rest, last: end, indexed: false });
                }
            }
            let rest = waiting.map(|waiting| waiting.max(first)).filter(|rest| *rest <= last);
            if let Some(rest) = rest {
                extend(&mut plan, Stretch { first: rest, last, indexed: false });
            }
            Ok(plan)
        })
    }

    /// Moments, in Unix milliseconds, in which the owner has all of the terms.
    pub(super) fn look(&mut self, look: &Look) -> rusqlite::Result<Vec<u64>> {
        let index = &self.open()?.index;
        let Some(owner) = index.owner(&look.owner)? else { return Ok(Vec::new()) };
        let topic = look.topic.as_deref().map(topic_term);
        let terms = look.terms.iter().chain(&topic).map(|term| {
            let mut quoted = String::from("\"");
            owned(owner, term, &mut quoted);
            quoted + "\""
        });
        let question = terms.collect::<Vec<_>>().join(" AND ");
        let of_moment = |moment| month(LogId::at_millis(moment));
        let mut months = index.months()?;
        months.retain(|month| (of_moment(look.first)..=of_moment(look.last)).contains(month));
        if look.backwards {
            months.reverse();
        }
        let mut found = Vec::new();
        for month in months {
            let between = (row_of(owner, month, look.first), row_of(owner, month, look.last));
            let rows = index.rows(month, &question, between, look.backwards, look.limit - found.len())?;
            found.extend(rows.into_iter().map(|row| moment_of(month, row)));
            if found.len() >= look.limit {
                break;
            }
        }
        Ok(found)
    }
}

impl Default for ToLook {
    fn default() -> Self {
        Self { everywhere: true, parts: BTreeMap::new() }
    }
}

impl ToLook {
    fn add(&mut self, news: News) {
        self.everywhere |= news.dropped;
        for (month, part) in news.parts {
            self.parts.entry((Reverse(month), part)).or_insert(1);
        }
    }

    /// Entries that are missing, as far as is known.
    fn missing(&self) -> u64 {
        self.parts.values().sum()
    }
}

/// Two that say the same become one.
fn extend(plan: &mut Vec<Stretch>, next: Stretch) {
    match plan.last_mut() {
        Some(last) if last.indexed == next.indexed => last.last = next.last,
        _ => plan.push(next),
    }
}

impl Place {
    pub(crate) fn new(
        name: &'static str,
        folder: &Path,
        database: &str,
        text: TextOf,
        arrivals: Arc<Arrivals>,
    ) -> Self {
        let index = folder.join(format!("{FILE}{name}.db"));
        Self { name, archive: folder.join(database), index, text, arrivals }
    }

    fn open(&self) -> rusqlite::Result<Open> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let archive = Connection::open_with_flags(&self.archive, flags)?;
        crate::sqlite::cache(&archive, crate::sqlite::READER_CACHE_KIBIBYTES)?;
        let (_, last) = feed::removals_bounds(&archive)?;
        loop {
            crate::sqlite::create_file(self.index.parent().unwrap_or(&self.index), &self.index).map_err(unusable)?;
            if let Some(index) = Index::open(&self.index, last)? {
                return Ok(Open { archive, index });
            }
            tracing::info!(archive = self.name, "the search index is of another version and is made anew");
            Index::remove(&self.index).map_err(unusable)?;
        }
    }
}

fn unusable(error: std::io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).cast_signed()
}

/// One round: of one moment of the archive, in one transaction of the index.
struct Follow<'a> {
    open: &'a Open,
    name: &'static str,
    text: TextOf,
    counts: &'a Counts,
    purge: i64,
}

impl Follow<'_> {
    fn round(&self, look: &mut ToLook) -> rusqlite::Result<Round> {
        match self.follow_removals()? {
            Round::Done => {}
            other => return Ok(other),
        }
        if look.everywhere && !self.look_everywhere(look)? {
            return Ok(Round::More);
        }
        let index = &self.open.index;
        let mut budget = ROUND;
        while budget > 0
            && let Some((place, _)) = look.parts.first_key_value()
        {
            let place = *place;
            let Some(missing) = self.follow_part(place.1, &mut budget)? else {
                look.everywhere = true;
                return Ok(Round::More);
            };
            match missing {
                0 => look.parts.remove(&place),
                missing => look.parts.insert(place, missing),
            };
        }
        self.counts.behind.store(look.missing(), Relaxed);
        if !look.parts.is_empty() {
            return Ok(Round::More);
        }
        match index.next_purge()? {
            Some((month, at)) if at <= now() && budget == ROUND => {
                index.purge(month, at == 0)?;
                Ok(Round::More)
            }
            _ => Ok(Round::Done),
        }
    }

    /// Finds the parts of which something is missing. `false`: first what is left of parts that are no more has to go.
    fn look_everywhere(&self, look: &mut ToLook) -> rusqlite::Result<bool> {
        let parts = feed::parts(&self.open.archive, self.name)?;
        self.counts.looked.fetch_add(parts.len() as u64, Relaxed);
        let cursors = self.living(&parts)?;
        if cursors.iter().any(|cursor| cursor.gone.is_some()) {
            return Ok(false);
        }
        let rows: HashMap<i64, i64> = cursors.iter().map(|cursor| (cursor.part, cursor.row)).collect();
        let missing = |part: &Part| part.last.saturating_sub(rows.get(&part.number).copied().unwrap_or(0));
        let behind =
            parts.iter().map(|part| ((Reverse(part.month), part.number), missing(part).max(0).cast_unsigned()));
        *look = ToLook { everywhere: false, parts: behind.filter(|(_, missing)| *missing > 0).collect() };
        Ok(true)
    }

    /// Adds what a part has that the index has not: how much is still missing. `None`: it is not the part that it was.
    fn follow_part(&self, number: i64, budget: &mut usize) -> rusqlite::Result<Option<u64>> {
        let Open { archive, index } = self.open;
        self.counts.looked.fetch_add(1, Relaxed);
        let cursor = index.cursor(number)?;
        let Some(part) = feed::part(archive, self.name, number)? else {
            return Ok(cursor.is_none().then_some(0));
        };
        let cursor = match cursor {
            Some(cursor) if !self.is_of(&cursor, &part)? => return Ok(None),
            Some(cursor) => cursor,
            None => Cursor::begin(&part),
        };
        if part.last <= cursor.row {
            return Ok(Some(0));
        }
        let arrivals = feed::after(archive, number, cursor.row, *budget)?;
        *budget -= arrivals.len();
        let cursor = cursor.after(&arrivals);
        self.add(part.month, arrivals)?;
        index.set_cursor(&cursor)?;
        Ok(Some((part.last - cursor.row).cast_unsigned()))
    }

    /// Whether the part is the one that was read up to the cursor.
    fn is_of(&self, cursor: &Cursor, part: &Part) -> rusqlite::Result<bool> {
        let same = (&part.space, part.month) == (&cursor.space, cursor.month) && cursor.gone.is_none();
        let has_last = || feed::id_at(&self.open.archive, part.number, cursor.row).map(|id| id == Some(cursor.last));
        Ok(same && (cursor.row == 0 || has_last()?))
    }

    fn follow_removals(&self) -> rusqlite::Result<Round> {
        let Open { archive, index } = self.open;
        let (oldest, last) = feed::removals_bounds(archive)?;
        let before = index.removals_seen()?;
        if before > last || (before < last && (oldest == 0 || oldest > before + 1)) {
            return Ok(Round::StartOver);
        }
        let removals = feed::removals(archive, self.name, before, ROUND)?;
        let mut round = if removals.len() < ROUND { Round::Done } else { Round::More };
        let mut seen = if removals.len() < ROUND { last } else { before };
        let mut followed = before;
        for removal in removals {
            match removal.what {
                Removed::Entry(owner, id) => self.renew(&owner, id.millis())?,
                Removed::Owner(owner) => {
                    if !index.take_owner(&owner, ROUND, self.purge)? {
                        (round, seen) = (Round::More, followed);
                        break;
                    }
                }
            }
            followed = removal.number;
        }
        seen = seen.max(followed);
        if seen > before {
            index.set_removals_seen(seen)?;
        }
        Ok(round)
    }

    /// The cursors, after parts that are no more have lost what was left of them, or some of it.
    fn living(&self, parts: &[Part]) -> rusqlite::Result<Vec<Cursor>> {
        let index = &self.open.index;
        let (mut living, mut again): (Vec<Cursor>, Vec<(String, i64)>) = Default::default();
        let mut budget = ROUND;
        let known: HashMap<i64, &Part> = parts.iter().map(|part| (part.number, part)).collect();
        let months: BTreeSet<i64> = parts.iter().map(|part| part.month).collect();
        for mut cursor in index.cursors()? {
            if let Some(part) = known.get(&cursor.part)
                && self.is_of(&cursor, part)?
            {
                living.push(cursor);
                continue;
            }
            if !months.contains(&cursor.month) {
                index.drop_month(cursor.month)?;
                continue;
            }
            let mut after = cursor.gone.unwrap_or(0);
            let owners = index.owners_of(&cursor.space, after, budget)?;
            let mut finished = owners.len() < budget;
            for owner in owners {
                let taken = index.take_some(cursor.month, owner, budget, self.purge)?;
                budget -= taken;
                if budget == 0 {
                    finished = false;
                    break;
                }
                after = owner;
            }
            match finished {
                true => {
                    // Of one that came in its place owners have lost rows too.
                    index.drop_cursors(&cursor.space, cursor.month)?;
                    again.push((cursor.space, cursor.month));
                }
                false => {
                    cursor.gone = Some(after);
                    index.set_cursor(&cursor)?;
                    living.push(cursor);
                }
            }
        }
        living.retain(|cursor| !again.iter().any(|(space, month)| (space, *month) == (&cursor.space, cursor.month)));
        Ok(living)
    }

    /// Adds what arrived in a month.
    fn add(&self, month: i64, arrivals: Vec<Arrival>) -> rusqlite::Result<()> {
        let index = &self.open.index;
        self.counts.indexed.fetch_add(arrivals.len() as u64, Relaxed);
        index.make_month(month)?;
        // In the order of rows. Those of one moment are one.
        let mut rows: BTreeMap<i64, Vec<Arrival>> = BTreeMap::new();
        for arrival in arrivals {
            // What is left of an owner that was erased.
            if !arrival.owner.is_empty() {
                let owner = index.find_or_make_owner(&arrival.owner)?;
                rows.entry(row_of(owner, month, arrival.id.millis())).or_default().push(arrival);
            }
        }
        let mut known = Vec::new();
        for (row, arrivals) in rows {
            if index.has(month, row)? {
                known.extend(arrivals.into_iter().take(1));
                continue;
            }
            let entries = arrivals.iter().map(|arrival| (&*arrival.topic, &*arrival.record));
            if let Some(terms) = self.terms(owner_of(row), entries) {
                index.put(month, row, &terms)?;
            }
        }
        known.into_iter().try_for_each(|arrival| self.renew(&arrival.owner, arrival.id.millis()))
    }

    /// Puts what the archive has of a moment in the place of what the index has.
    fn renew(&self, owner: &str, moment: u64) -> rusqlite::Result<()> {
        let Open { archive, index } = self.open;
        let month = month(LogId::at_millis(moment));
        let entries = feed::of_moments(archive, self.name, owner, &[moment])?;
        if entries.is_empty() && index.owner(owner)?.is_none() {
            return Ok(());
        }
        let number = index.find_or_make_owner(owner)?;
        index.make_month(month)?;
        let row = row_of(number, month, moment);
        if index.has(month, row)? {
            index.take(month, row, self.purge)?;
        }
        match self.terms(number, entries.iter().map(|(topic, _, record)| (&**topic, &**record))) {
            Some(terms) => index.put(month, row, &terms),
            None => Ok(()),
        }
    }

    /// The terms of entries, by topic and record. `None`: there is no word in them.
    fn terms<'a>(&self, owner: i64, entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<String> {
        let mut all = String::new();
        let mut text = String::new();
        for (topic, record) in entries {
            text.clear();
            (self.text)(record, &mut text);
            let before = all.len();
            words::terms(&text, |term| {
                owned(owner, term, &mut all);
                all.push(' ');
            });
            if all.len() > before {
                owned(owner, &topic_term(topic), &mut all);
                all.push(' ');
            }
        }
        (!all.is_empty()).then_some(all)
    }
}

impl Cursor {
    fn begin(part: &Part) -> Self {
        let Part { number, space, month, .. } = part.clone();
        Self { part: number, space, month, row: 0, last: LogId(0), gone: None }
    }

    fn after(mut self, arrivals: &[Arrival]) -> Self {
        for arrival in arrivals {
            (self.row, self.last) = (arrival.row, arrival.id);
        }
        self
    }
}
