//! How the writer says that something was written to an archive, and where, at next to no cost where nobody listens or somebody is awake.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::Thread;

use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct Bell {
    /// Of the transaction under way; `None` where it has touched nothing. The writer's alone.
    touched: Mutex<Option<News>>,
    /// What nobody has asked for.
    news: Mutex<News>,
    rung: AtomicBool,
    watched: AtomicBool,
    listener: OnceLock<Thread>,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Parts were dropped.
    pub(super) dropped: bool,
    /// Where entries were put: months and the numbers of parts.
    pub(super) parts: BTreeSet<(i64, i64)>,
}

impl Bell {
    /// From now on this thread is woken. Only the first is.
    pub(super) fn listen(&self, listener: Thread) {
        let _ = self.listener.set(listener);
    }

    /// There is an index: what is taken away has to be noted.
    pub(super) fn watch(&self) {
        self.watched.store(true, SeqCst);
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(SeqCst)
    }

    /// Something is written.
    pub(super) fn touch(&self) {
        self.touched.lock().get_or_insert_default();
    }

    /// An entry is put into a part of a month.
    pub(super) fn touch_part(&self, month: i64, part: i64) {
        self.touched.lock().get_or_insert_default().parts.insert((month, part));
    }

    /// A part is dropped.
    pub(super) fn drop_part(&self) {
        self.touched.lock().get_or_insert_default().dropped = true;
    }

    /// Once the transaction is committed. What one that failed has touched is said with the next.
    pub(super) fn ring(&self) {
        let Some(touched) = self.touched.lock().take() else { return };
        self.news.lock().add(touched);
        if !self.rung.swap(true, SeqCst)
            && let Some(listener) = self.listener.get()
        {
            listener.unpark();
        }
    }

    /// What was written since it was asked before; `None` where nothing was.
    pub(super) fn rang(&self) -> Option<News> {
        // First: what comes after it rings again.
        self.rung.swap(false, SeqCst).then(|| std::mem::take(&mut *self.news.lock()))
    }
}

impl News {
    fn add(&mut self, mut more: Self) {
        self.dropped |= more.dropped;
        self.parts.append(&mut more.parts);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_touched_is_said_once_it_is_committed_and_once() {
        let bell = Bell::default();
        bell.touch_part(3, 1);
        assert!(bell.rang().is_none(), "the transaction is under way");
        bell.ring();
        bell.touch_part(4, 2);
        bell.touch_part(4, 2);
        bell.drop_part();
        bell.ring();
        let news = bell.rang().unwrap();
        assert_eq!((news.dropped, news.parts), (true, [(3, 1), (4, 2)].into()));
        bell.ring();
        assert!(bell.rang().is_none(), "nothing was touched");
        bell.touch();
        bell.ring();
        assert!(bell.rang().is_some_and(|news| !news.dropped && news.parts.is_empty()));
    }
}
