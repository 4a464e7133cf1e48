//! Buffers for bytes on their way: taken when bytes move, given back when none are left.
//!
//! An idle connection owns no buffer. The free lists are sharded by thread, so that two workers never wait for each
//! other, and bounded, so that a burst of connections does not leave its memory behind. The pool also counts the bytes of all
//! its users, because it is what they share.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Bytes of one buffer: the payload of the largest TLS record (RFC 8446 §5.1).
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Buffers that are kept while nobody uses them, if the operator says nothing: 4 MiB.
const POOLED_MAX: usize = 256;

/// The pool. A clone is another handle to the same pool.
#[derive(Clone)]
pub struct Buffers {
    // A thin pointer, because every connection has one. A shard has a count of its own, so that two threads that take buffers
    // do not count in one place.
    shards: Arc<Vec<Arc<Shard>>>,
}

/// One free list, alone on its cache lines.
#[repr(align(128))]
struct Shard {
    free: Mutex<Vec<Vec<u8>>>,
    free_max: usize,
    taken: AtomicUsize,
    returned: AtomicUsize,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Buffers {
    /// A pool that keeps at most `pooled_max` unused buffers of [`BUFFER_BYTES`] each.
    pub fn new(pooled_max: usize) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(64);
        let shards: Vec<_> = (0..shards)
            .map(|_| {
                Arc::new(Shard {
                    free: Mutex::default(),
                    free_max: pooled_max.div_ceil(shards),
                    taken: AtomicUsize::new(0),
                    returned: AtomicUsize::new(0),
                    received_bytes: AtomicU64::new(0),
                    sent_bytes: AtomicU64::new(0),
                })
            })
            .collect();
        Self { shards: Arc::new(shards) }
    }

    /// An empty buffer with room for [`BUFFER_BYTES`].
    pub fn take(&self) -> PooledBuf {
        let shard = self.shard();
        shard.taken.fetch_add(1, Ordering::Relaxed);
        let recycled = shard.free.lock().pop();
        PooledBuf { bytes: recycled.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES)), home: Arc::clone(shard) }
    }

    /// Buffers that are in use at this moment.
    pub fn in_use(&self) -> usize {
        let sum = |of: fn(&Shard) -> &AtomicUsize| -> usize {
            self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).fold(0, usize::wrapping_add)
        };
        sum(|shard| &shard.taken).wrapping_sub(sum(|shard| &shard.returned))
    }

    /// Buffers that wait for a user.
    pub fn pooled(&self) -> usize {
        self.shards.iter().map(|shard| shard.free.lock().len()).sum()
    }

    /// Bytes that all connections read so far, as they were on the wire.
    pub fn received_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.received_bytes.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that all connections wrote so far, as they were on the wire.
    pub fn sent_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.sent_bytes.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.shard().received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.shard().sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn shard(&self) -> &Arc<Shard> {
        &self.shards[thread_number() % self.shards.len()]
    }
}

impl Shard {
    fn give_back(&self, mut bytes: Vec<u8>) {
        self.returned.fetch_add(1, Ordering::Relaxed);
        // A buffer that grew for one large stanza must not stay large, and one whose memory was taken is none.
        if bytes.capacity() != BUFFER_BYTES {
            return;
        }
        bytes.clear();
        let mut free = self.free.lock();
        if free.len() < self.free_max {
            free.push(bytes);
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new(POOLED_MAX)
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("in_use", &self.in_use()).field("pooled", &self.pooled()).finish()
    }
}

/// A small number that belongs to the current thread, to choose a shard by.
pub(crate) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is being torn down has no number any more; any shard will do.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

/// A buffer that goes back to its pool when dropped.
pub struct PooledBuf {
    bytes: Vec<u8>,
    home: Arc<Shard>,
}

impl Deref for PooledBuf {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for PooledBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes: they may hold a password.
        f.debug_struct("PooledBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_comes_back_empty() {
        let pool = Buffers::new(4);
        let mut first = pool.take();
        first.extend_from_slice(b"secret");
        let address = first.as_ptr();
        drop(first);
        let second = pool.take();
        assert_eq!(second.as_ptr(), address);
        assert!(second.is_empty());
        assert_eq!(pool.in_use(), 1);
    }

    #[test]
    fn a_buffer_that_grew_is_not_pooled() {
        let pool = Buffers::new(4);
        let mut buffer = pool.take();
        buffer.resize(BUFFER_BYTES + 1, 0);
        drop(buffer);
        let mut stolen = pool.take();
        drop(std::mem::take(&mut *stolen));
        drop(stolen);
        assert_eq!(pool.pooled(), 0);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn the_pool_keeps_no_more_than_it_was_told() {
        let pool = Buffers::new(3);
        let many: Vec<_> = (0..100).map(|_| pool.take()).collect();
        assert_eq!(pool.in_use(), 100);
        drop(many);
        assert!((1..=3).contains(&pool.pooled()));
        assert_eq!(Buffers::new(0).pooled(), 0);
    }

    #[test]
    fn buffers_may_be_given_back_by_another_thread() {
        let pool = Buffers::new(64);
        let taken: Vec<_> = (0..8).map(|_| pool.take()).collect();
        std::thread::spawn(move || drop(taken)).join().expect("dropping does not panic");
        assert_eq!(pool.in_use(), 0);
    }
}
