//! The shape for finding entries of an archive by the words in them.
//!
//! An index beside the archive, filled in the background, says in which moments an owner has the words. Whether an entry has them its
//! text decides, so that nothing is found that is not there any more. What the index does not know yet is looked through.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::archive::{Archive, Page};
use crate::error::StoreError;
use crate::ids::LogId;
use crate::reading::Reading;
use crate::record::Record;
use crate::store::Store;
use crate::words::Words;

/// Entries that one search looks at, at most. Where their texts are long, fewer: each kibibyte counts as one.
pub const LOOKED_AT_MAX: usize = 20_000;

/// Entries looked at in one visit to the store.
const VISIT: usize = 100;

/// A record that can be found by its words.
pub trait Searched: Record {
    /// Appends the text in which they are, which may be nothing.
    fn text(&self, out: &mut String);
}

/// Finds entries of an archive by words.
pub struct Search<T> {
    store: Store,
    archive: Archive<T>,
    name: &'static str,
    index: Option<Arc<dyn SearchIndex>>,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// Nothing further is there.
    Complete,
    /// Whoever got what was found wanted no more.
    Stopped,
    /// As many entries were looked at as may be. There may be more.
    Exhausted,
}

/// The text of a stored record.
pub(crate) type TextOf = fn(&[u8], &mut String);

/// An index, as a search asks it.
pub(crate) trait SearchIndex: Send + Sync {
    /// Which of an owner's entries between these ids, both included, it knows.
    fn plan(&self, owner: &str, first: LogId, last: LogId) -> Reading<Vec<Stretch>>;
    /// Moments, in Unix milliseconds, in which the terms are.
    fn look(&self, look: Look) -> Reading<Vec<u64>>;
    /// Makes it anew.
    fn rebuild(&self) -> Reading<()>;
}

/// What an index is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) owner: String,
    pub(crate) terms: Vec<String>,
    pub(crate) topic: Option<String>,
    /// Between these moments, both included.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The newest, newest first.
    pub(crate) backwards: bool,
    pub(crate) limit: usize,
}

/// Ids from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) first: LogId,
    pub(crate) last: LogId,
    /// Whether the index knows the entries.
    pub(crate) indexed: bool,
}

impl<T: Searched> Search<T> {
    pub(crate) fn new(store: Store, name: &'static str) -> Self {
        let text: TextOf = |bytes, out| {
            if let Some(record) = T::decode(bytes) {
                record.text(out);
            }
        };
        let index = store.backend().index(name, text);
        Self { archive: store.archive(name), store, name, index }
    }

    /// Shows the entries of a page's owner, topic and ids that have all the words, in order, until `each` breaks. The page's
    /// limit says how many are expected.
    ///
    /// Entries whose commit was settled before are among them.
    pub async fn find(
        &self,
        owner: &str,
        words: &Words,
        page: &Page,
        mut each: impl FnMut(LogId, T) -> ControlFlow<()> + Send,
    ) -> Result<SearchEnd, StoreError> {
        let after = page.after.map_or(Some(0), |after| after.0.checked_add(1));
        let before = page.before.map_or(Some(LogId::MAX.0), |before| before.0.checked_sub(1));
        let (Some(first), Some(last)) = (after, before) else { return Ok(SearchEnd::Complete) };
        let (first, last) = (LogId(first), LogId(last.min(LogId::MAX.0)));
        if first > last {
            return Ok(SearchEnd::Complete);
        }
        let mut plan = match &self.index {
            Some(index) => index.plan(owner, first, last).await?,
            None => vec![Stretch { first, last, indexed: false }],
        };
        if page.backwards {
            plan.reverse();
        }
        let mut visit = Visit { search: self, owner, words, page, looked_at: 0 };
        for stretch in plan {
            let end = match (&self.index, stretch.indexed) {
                (Some(index), true) => visit.by_index(&**index, stretch, &mut each).await?,
                _ => visit.one_by_one(stretch, &mut each).await?,
            };
            if end != SearchEnd::Complete {
                return Ok(end);
            }
        }
        Ok(SearchEnd::Complete)
    }

    /// Throws the index away and makes it anew, in the background. Until it is there, searches take longer.
    pub async fn rebuild(&self) -> Result<(), StoreError> {
        match &self.index {
            Some(index) => index.rebuild().await,
            None => Ok(()),
        }
    }
}

/// A search under way.
struct Visit<'a, T> {
    search: &'a Search<T>,
    owner: &'a str,
    words: &'a Words,
    page: &'a Page,
    looked_at: usize,
}

impl<T: Searched> Visit<'_, T> {
    async fn by_index(
        &mut self,
        index: &dyn SearchIndex,
        stretch: Stretch,
        each: &mut (impl FnMut(LogId, T) -> ControlFlow<()> + Send),
    ) -> Result<SearchEnd, StoreError> {
        let Page { topic, backwards, limit, .. } = self.page;
        let mut look = Look {
            owner: self.owner.to_owned(),
            terms: self.words.terms(),
            topic: topic.clone(),
            first: stretch.first.millis(),
            last: stretch.last.millis(),
            backwards: *backwards,
            // One more than wanted, so that the end is known.
            limit: limit.saturating_add(1).clamp(8, VISIT),
        };
        loop {
            let moments = index.look(look.clone()).await?;
            let Some(reached) = moments.last().copied() else { return Ok(SearchEnd::Complete) };
            let last = moments.len() < look.limit;
            let search = self.search;
            let entries = search.store.backend().of_moments(search.name, self.owner, topic.clone(), moments).await?;
            let entries = entries.into_iter().filter(|(id, _)| (stretch.first..=stretch.last).contains(id));
            let end = self.show(search.archive.decode_all(entries.collect())?, each);
            if end != SearchEnd::Complete || last {
                return Ok(end);
            }
            let next = if *backwards { reached.checked_sub(1) } else { Some(reached + 1) };
            match (next, backwards) {
                (Some(next), true) if next >= look.first => look.last = next,
                (Some(next), false) if next <= look.last => look.first = next,
                _ => return Ok(SearchEnd::Complete),
            }
            look.limit = VISIT;
        }
    }

    async fn one_by_one(
        &mut self,
        stretch: Stretch,
        each: &mut (impl FnMut(LogId, T) -> ControlFlow<()> + Send),
    ) -> Result<SearchEnd, StoreError> {
        let mut page = Page {
            after: stretch.first.0.checked_sub(1).map(LogId),
            before: Some(LogId(stretch.last.0 + 1)),
            limit: VISIT,
            ..self.page.clone()
        };
        loop {
            let mut entries = self.search.archive.page(self.owner, page.clone()).await?;
            let last = entries.len() < VISIT;
            let Some(reached) = entries.last().map(|(id, _)| *id) else { return Ok(SearchEnd::Complete) };
            match page.backwards {
                true => page.before = Some(reached),
                false => page.after = Some(reached),
            }
            if page.backwards {
                // As the index's entries come.
                entries.reverse();
            }
            let end = self.show(entries, each);
            if end != SearchEnd::Complete || last {
                return Ok(end);
            }
        }
    }

    /// Shows those of the entries, which are in order of time, that have the words.
    fn show(
        &mut self,
        mut entries: Vec<(LogId, T)>,
        each: &mut (impl FnMut(LogId, T) -> ControlFlow<()> + Send),
    ) -> SearchEnd {
        if self.page.backwards {
            entries.reverse();
        }
        let mut text = String::new();
        for (id, record) in entries {
            text.clear();
            record.text(&mut text);
            self.looked_at += 1 + text.len() / 1024;
            if self.words.are_in(&text) && each(id, record).is_break() {
                return SearchEnd::Stopped;
            }
        }
        if self.looked_at >= LOOKED_AT_MAX { SearchEnd::Exhausted } else { SearchEnd::Complete }
    }
}

impl<T> Clone for Search<T> {
    fn clone(&self) -> Self {
        let Self { store, archive, name, index } = self;
        Self { store: store.clone(), archive: archive.clone(), name, index: index.clone() }
    }
}

impl<T> fmt::Debug for Search<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Search").field(&self.name).finish()
    }
}
