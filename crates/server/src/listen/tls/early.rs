//! RFC 8446 §8: TLS sessions that can be resumed with early data, each once.
//!
//! Early data are accepted only in a session that the server remembers itself: it is forgotten when it is resumed, so that somebody
//! who sends a client's first bytes again is not believed. What is remembered is bounded, and gone after a restart: such clients
//! make a whole handshake.

use std::collections::VecDeque;
use std::fmt;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustls::server::StoresServerSessions;

/// Bytes of early data that a connection may bring. A token's login and what a client says with it is less than a tenth.
pub const EARLY_DATA_BYTES_MAX: u32 = 16 * 1024;

/// Sessions that are remembered, each with some three hundred bytes; of more, the oldest go.
pub const SESSIONS_MAX: usize = 65_536;

/// The sessions of one configuration.
#[derive(Default)]
pub struct EarlySessions(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<Box<[u8]>, Box<[u8]>>,
    /// In the order in which they came; some are gone meanwhile.
    order: VecDeque<Box<[u8]>>,
}

impl StoresServerSessions for EarlySessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut state = self.0.lock();
        let key = key.into_boxed_slice();
        state.sessions.insert(key.clone(), value.into_boxed_slice());
        state.order.push_back(key);
        while state.order.len() > SESSIONS_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.sessions.remove(&oldest);
        }
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.lock().sessions.get(key).map(|value| value.to_vec())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.lock().sessions.remove(key).map(Vec::from)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for EarlySessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlySessions").field("sessions", &self.0.lock().sessions.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_given_back_once_and_of_too_many_the_oldest_go() {
        let sessions = EarlySessions::default();
        let key = |number: usize| number.to_be_bytes().to_vec();
        for number in 0..SESSIONS_MAX + 2 {
            sessions.put(key(number), vec![1]);
        }
        assert_eq!((sessions.take(&key(1)), sessions.take(&key(2))), (None, Some(vec![1])));
        assert_eq!(sessions.take(&key(2)), None);
        assert!(sessions.0.lock().sessions.len() <= SESSIONS_MAX);
    }
}
