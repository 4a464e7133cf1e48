//! Where a stanza is written before its length is known: one buffer for each thread.

use std::cell::RefCell;

/// A larger one is not kept.
const KEPT_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the buffer, empty. Not to be asked for again inside of `write`.
#[inline]
pub(super) fn with_buffer<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let result = write(buffer);
        if buffer.capacity() > KEPT_BYTES_MAX {
            *buffer = Vec::new();
        }
        result
    })
}
