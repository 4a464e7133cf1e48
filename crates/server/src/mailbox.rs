//! A session's mailbox: what other tasks want written to its stream.
//!
//! Owns nothing while it is empty. Bounded by bytes: a session that does not read is not worth more memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use magpie_proto::{Stanza, StreamError};
use magpie_store::LogId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::session::Takeover;

/// A stanza on its way to one session.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The stanza; shared among all its recipients.
    pub stanza: Stanza,
    /// The `to` to write instead of the stanza's own: how a broadcast shares one stanza.
    pub to: Option<Arc<str>>,
    /// Its place in the account's spool, where it waits until this session has it.
    pub spooled: Option<LogId>,
}

impl Delivery {
    /// A stanza as it is.
    pub fn new(stanza: Stanza) -> Self {
        Self { stanza, to: None, spooled: None }
    }

    /// A stanza for another address than the one it names.
    pub fn to(stanza: Stanza, to: Arc<str>) -> Self {
        Self { stanza, to: Some(to), spooled: None }
    }
}

/// What a session is told.
#[derive(Debug)]
pub enum Mail {
    /// Write this.
    Deliver(Delivery),
    /// The account's spool may hold messages for this session: look.
    LookIntoSpool,
    /// XEP-0198: a new connection takes this session over.
    Resume(Box<Takeover>),
    /// End the stream with this error, and the session with it.
    End(StreamError),
}

/// The mailbox.
#[derive(Debug)]
pub struct Mailbox {
    queue: Mutex<Queue>,
    /// Set when something was refused because the box is full.
    overflown: AtomicBool,
    notify: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    mail: Vec<Mail>,
    bytes: usize,
    closed: bool,
}

impl Mailbox {
    /// A mailbox for at most `bytes_max` bytes of stanzas.
    pub fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), overflown: AtomicBool::new(false), notify: Notify::new(), bytes_max }
    }

    /// Puts mail in. Gives a delivery back if the session is gone or takes nothing more; the caller routes it again.
    pub fn put(&self, mail: Mail) -> Result<(), Mail> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(mail);
        }
        if let Mail::Deliver(delivery) = &mail {
            let bytes = delivery.stanza.bytes().len();
            if queue.bytes + bytes > self.bytes_max {
                drop(queue);
                self.overflown.store(true, Ordering::Release);
                self.notify.notify_one();
                return Err(mail);
            }
            queue.bytes += bytes;
        }
        let first = queue.mail.is_empty();
        queue.mail.push(mail);
        drop(queue);
        if first {
            self.notify.notify_one();
        }
        Ok(())
    }

    /// Puts a stanza in; whether it was taken.
    pub fn deliver(&self, delivery: Delivery) -> bool {
        self.put(Mail::Deliver(delivery)).is_ok()
    }

    /// Takes all that is there.
    pub fn take(&self) -> Vec<Mail> {
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        std::mem::take(&mut queue.mail)
    }

    /// Closes the box and takes what is left in it.
    pub fn close(&self) -> Vec<Mail> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        std::mem::take(&mut queue.mail)
    }

    /// Whether something was refused because the box was full.
    pub fn is_overflown(&self) -> bool {
        self.overflown.load(Ordering::Acquire)
    }

    /// Whether it holds a [`Mail::LookIntoSpool`].
    pub fn has_look_into_spool(&self) -> bool {
        self.queue.lock().mail.iter().any(|mail| matches!(mail, Mail::LookIntoSpool))
    }

    /// Waits until something was put in. Cancel-safe; may wake without cause.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stanza() -> Stanza {
        Stanza::parse(b"<message to='a@b'><body>x</body></message>").unwrap()
    }

    #[test]
    fn a_full_box_refuses_and_says_so() {
        let mailbox = Mailbox::new(60);
        assert!(mailbox.deliver(Delivery::new(stanza())));
        assert!(!mailbox.deliver(Delivery::new(stanza())));
        assert!(mailbox.is_overflown());
        assert_eq!(mailbox.take().len(), 1);
    }

    #[test]
    fn a_closed_box_gives_the_mail_back() {
        let mailbox = Mailbox::new(1000);
        assert!(mailbox.deliver(Delivery::new(stanza())));
        assert_eq!(mailbox.close().len(), 1);
        assert!(mailbox.put(Mail::LookIntoSpool).is_err());
    }
}
