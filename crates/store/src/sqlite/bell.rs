//! How the writer says that something was written to an archive, at next to no cost where nobody listens or somebody is awake.

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::thread::Thread;

#[derive(Default)]
pub(super) struct Bell {
    /// Something was written in the transaction under way. The writer's alone.
    touched: AtomicBool,
    rung: AtomicBool,
    watched: AtomicBool,
    listener: OnceLock<Thread>,
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

    pub(super) fn touch(&self) {
        self.touched.store(true, Relaxed);
    }

    /// Once the transaction is committed, or has failed.
    pub(super) fn ring(&self) {
        if !self.touched.load(Relaxed) {
            return;
        }
        self.touched.store(false, Relaxed);
        if !self.rung.swap(true, SeqCst)
            && let Some(listener) = self.listener.get()
        {
            listener.unpark();
        }
    }

    /// Whether it rang since it was asked before.
    pub(super) fn rang(&self) -> bool {
        self.rung.swap(false, SeqCst)
    }
}
