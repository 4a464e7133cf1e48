//! A session's mailbox: what other tasks want written to its stream.
//!
//! Owns nothing while it is empty. Bounded by bytes: a session that does not read is not worth more memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use magpie_proto::{Stanza, StreamError};
use magpie_store::LogId;
use parking_lot::Mutex;

use crate::registry::SessionHandle;
use crate::session::Takeover;

/// A stanza on its way to one session.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The stanza; shared among all its recipients.
    pub stanza: Stanza,
    /// Whom it names.
    pub to: Addressee,
    /// How it stands to the account's spool.
    pub spool: InSpool,
    /// Whether the client was told of it by a push (XEP-0357), if it wants that.
    pub pushed: bool,
    /// Whether the stanza is kept elsewhere anyhow, so that here it takes no memory of its own.
    pub shared: bool,
}

/// Whom a delivery names in its `to`: how a broadcast shares one stanza.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressee {
    /// Whom the stanza names.
    #[default]
    OfStanza,
    /// The account of the session that it reaches.
    Account,
    /// The session that it reaches.
    Session,
}

impl Addressee {
    /// The `to` to write instead of the stanza's own.
    pub fn instead(self, session: &SessionHandle) -> Option<&str> {
        match self {
            Self::OfStanza => None,
            Self::Account => Some(session.account.as_str()),
            Self::Session => Some(session.jid.as_str()),
        }
    }
}

/// How a delivery stands to the spool of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InSpool {
    /// It is no message that would be kept.
    #[default]
    Never,
    /// It is not there. If it must be kept after all this is its place, so that it stays in the order in which it was routed.
    Place(LogId),
    /// It waits there until this session has it.
    Kept(LogId),
}

impl InSpool {
    /// Where it waits there, if it does.
    pub fn kept(self) -> Option<LogId> {
        match self {
            Self::Kept(id) => Some(id),
            Self::Never | Self::Place(_) => None,
        }
    }
}

impl Delivery {
    /// A stanza as it is.
    pub fn new(stanza: Stanza) -> Self {
        Self::to(stanza, Addressee::OfStanza)
    }

    /// Bytes that it takes while it waits.
    pub fn cost(&self) -> usize {
        let own = if self.shared { 0 } else { self.stanza.memory() };
        own + size_of::<Mail>()
    }

    /// A stanza for another address than the one it names.
    pub fn to(stanza: Stanza, to: Addressee) -> Self {
        Self { stanza, to, spool: InSpool::Never, pushed: false, shared: false }
    }

    /// A stanza for the session that it reaches, of which somebody keeps the bytes anyhow.
    pub fn shared(stanza: Stanza) -> Self {
        Self { shared: true, ..Self::to(stanza, Addressee::Session) }
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
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    mail: Vec<Mail>,
    bytes: usize,
    /// Whether it holds a [`Mail::LookIntoSpool`]: one is as good as many.
    look: bool,
    closed: bool,
    /// Who takes the mail. Here, so that one lock is enough for mail and for the word of it.
    taker: Option<Waker>,
}

/// What was taken from a mailbox.
#[derive(Debug)]
pub struct Taken {
    /// In the order in which it came.
    pub mail: Vec<Mail>,
    /// Whether some is left.
    pub more: bool,
}

impl Queue {
    /// From now on `taker` is woken.
    fn listen(&mut self, taker: &Waker) {
        match &mut self.taker {
            Some(known) => known.clone_from(taker),
            none => *none = Some(taker.clone()),
        }
    }
}

impl Mail {
    /// Whether a session must hear it though its peer does not read.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::Resume(_) | Self::End(_))
    }

    /// The bytes for which it counts.
    fn cost(&self) -> usize {
        match self {
            Self::Deliver(delivery) => delivery.cost(),
            Self::LookIntoSpool | Self::Resume(_) | Self::End(_) => 0,
        }
    }
}

impl Mailbox {
    /// A mailbox for at most `bytes_max` bytes of stanzas.
    pub fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), overflown: AtomicBool::new(false), bytes_max }
    }

    /// Puts mail in. Gives a delivery back if the session is gone or takes nothing more; the caller routes it again.
    #[allow(clippy::result_large_err, reason = "what is given back is what was given, moved once")]
    pub fn put(&self, mail: Mail) -> Result<(), Mail> {
        let mut half = false;
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(mail);
        }
        if let Mail::Deliver(delivery) = &mail {
            let bytes = delivery.cost();
            // One stanza has room, however large it is.
            if queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
                self.overflown.store(true, Ordering::Release);
                let taker = queue.taker.clone();
                drop(queue);
                if let Some(taker) = taker {
                    taker.wake();
                }
                return Err(mail);
            }
            half = queue.bytes <= self.bytes_max / 2 && queue.bytes + bytes > self.bytes_max / 2;
            queue.bytes += bytes;
        }
        if matches!(mail, Mail::LookIntoSpool) && std::mem::replace(&mut queue.look, true) {
            return Ok(());
        }
        // A session that was told of mail and leaves it there waits for its peer.
        let wake = queue.mail.is_empty() || mail.is_urgent() || half;
        queue.mail.push(mail);
        let taker = if wake { queue.taker.clone() } else { None };
        drop(queue);
        if let Some(taker) = taker {
            taker.wake();
        }
        Ok(())
    }

    /// Puts a stanza in; whether it was taken.
    pub fn deliver(&self, delivery: Delivery) -> bool {
        self.put(Mail::Deliver(delivery)).is_ok()
    }

    /// Takes the oldest mail, as long as what was taken before it is less than so many bytes. `taker` is woken when the next
    /// comes into a box that is empty then, when a box is half full, and for what cannot wait.
    pub fn take(&self, bytes_max: usize, taker: &Waker) -> Taken {
        let mut queue = self.queue.lock();
        queue.listen(taker);
        let mut bytes = 0;
        let within = |mail: &&Mail| {
            let more = bytes < bytes_max;
            bytes += mail.cost();
            more
        };
        let count = queue.mail.iter().take_while(within).count();
        if count == queue.mail.len() {
            queue.bytes = 0;
            queue.look = false;
            return Taken { mail: std::mem::take(&mut queue.mail), more: false };
        }
        let mail: Vec<Mail> = queue.mail.drain(..count).collect();
        queue.bytes -= mail.iter().map(Mail::cost).sum::<usize>();
        queue.look = queue.look && !mail.iter().any(|mail| matches!(mail, Mail::LookIntoSpool));
        Taken { mail, more: true }
    }

    /// Takes only what cannot wait for the peer to read. `taker` is woken as by [`Mailbox::take`].
    pub fn take_urgent(&self, taker: &Waker) -> Taken {
        let mut queue = self.queue.lock();
        queue.listen(taker);
        let mail = queue.mail.extract_if(.., |mail| mail.is_urgent()).collect();
        Taken { mail, more: !queue.mail.is_empty() }
    }

    /// Changes what waits, in place.
    pub fn for_each_delivery(&self, change: impl FnMut(&mut Delivery)) {
        let mut queue = self.queue.lock();
        let deliveries = queue.mail.iter_mut().filter_map(|mail| match mail {
            Mail::Deliver(delivery) => Some(delivery),
            _ => None,
        });
        deliveries.for_each(change);
    }

    /// Closes the box and takes what is left in it.
    pub fn close(&self) -> Vec<Mail> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.taker = None;
        std::mem::take(&mut queue.mail)
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.queue.lock().mail.is_empty()
    }

    /// Whether so little of its room is taken that many stanzas may be put in one after the other, long before a session whose
    /// peer does not read gives its connection up.
    pub fn is_roomy(&self) -> bool {
        self.queue.lock().bytes <= self.bytes_max / 4
    }

    /// Whether more than half of its room is taken.
    pub fn is_half_full(&self) -> bool {
        self.queue.lock().bytes > self.bytes_max / 2
    }

    /// Whether something was refused because the box was full.
    pub fn is_overflown(&self) -> bool {
        self.overflown.load(Ordering::Acquire)
    }

    /// Whether it holds a [`Mail::End`].
    pub fn has_end(&self) -> bool {
        self.queue.lock().mail.iter().any(|mail| matches!(mail, Mail::End(_)))
    }

    /// Whether it holds a [`Mail::LookIntoSpool`].
    pub fn has_look_into_spool(&self) -> bool {
        self.queue.lock().look
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    fn stanza() -> Stanza {
        Stanza::parse(b"<message to='a@b'><body>x</body></message>").unwrap()
    }

    #[test]
    fn what_is_kept_elsewhere_takes_room_for_its_place_alone() {
        let mailbox = Mailbox::new(Delivery::new(stanza()).cost());
        let kept = Delivery::shared(stanza());
        let places = mailbox.bytes_max / kept.cost();
        assert!(places > 1);
        assert_eq!((0..10).filter(|_| mailbox.deliver(kept.clone())).count(), places);
    }

    #[test]
    fn a_full_box_refuses_and_says_so() {
        let mailbox = Mailbox::new(Delivery::new(stanza()).cost());
        assert!(mailbox.deliver(Delivery::new(stanza())));
        assert!(!mailbox.deliver(Delivery::new(stanza())));
        assert!(mailbox.is_overflown());
        assert_eq!(mailbox.take(1000, Waker::noop()).mail.len(), 1);
    }

    #[test]
    fn what_cannot_wait_is_taken_alone_and_the_rest_stays_in_order() {
        let mailbox = Mailbox::new(1000);
        assert!(mailbox.deliver(Delivery::new(stanza())));
        mailbox.put(Mail::LookIntoSpool).unwrap();
        mailbox.put(Mail::End(magpie_proto::StreamCondition::Reset.into())).unwrap();
        mailbox.put(Mail::LookIntoSpool).unwrap();
        assert!(matches!(mailbox.take_urgent(Waker::noop()).mail[..], [Mail::End(_)]));
        assert!(matches!(mailbox.take(1000, Waker::noop()).mail[..], [Mail::Deliver(_), Mail::LookIntoSpool]));
        assert!(!mailbox.has_look_into_spool());
    }

    #[test]
    fn a_part_is_taken_and_the_rest_has_room_again() {
        let one = Delivery::new(stanza()).cost();
        let mailbox = Mailbox::new(3 * one);
        for _ in 0..3 {
            assert!(mailbox.deliver(Delivery::new(stanza())));
        }
        assert!(mailbox.is_half_full());
        let taken = mailbox.take(one + 1, Waker::noop());
        assert_eq!((taken.mail.len(), taken.more), (2, true));
        assert!(!mailbox.is_half_full() && !mailbox.is_roomy());
        assert!(mailbox.deliver(Delivery::new(stanza())) && mailbox.deliver(Delivery::new(stanza())));
        assert!(!mailbox.deliver(Delivery::new(stanza())));
        let taken = mailbox.take(usize::MAX, Waker::noop());
        assert_eq!((taken.mail.len(), taken.more), (3, false));
        assert!(mailbox.is_empty() && mailbox.is_roomy());
    }

    #[test]
    fn a_closed_box_gives_the_mail_back() {
        let mailbox = Mailbox::new(1000);
        assert!(mailbox.deliver(Delivery::new(stanza())));
        assert_eq!(mailbox.close().len(), 1);
        assert!(mailbox.put(Mail::LookIntoSpool).is_err());
    }

    #[test]
    fn who_takes_the_mail_is_woken_for_the_first_that_comes_for_a_box_half_full_and_for_what_cannot_wait() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(0.into()));
        let waker = Waker::from(Arc::clone(&count));
        let woken = || count.0.swap(0, Ordering::Relaxed);
        let one = Delivery::new(stanza()).cost();
        let mailbox = Mailbox::new(8 * one);
        assert!(mailbox.deliver(Delivery::new(stanza())));
        assert_eq!(mailbox.take(usize::MAX, &waker).mail.len(), 1);

        let woken_by_each: Vec<usize> = (0..6)
            .map(|_| {
                assert!(mailbox.deliver(Delivery::new(stanza())));
                woken()
            })
            .collect();
        assert_eq!(woken_by_each, [1, 0, 0, 0, 1, 0]);
        mailbox.put(Mail::End(magpie_proto::StreamCondition::Reset.into())).unwrap();
        assert_eq!(woken(), 1);
        mailbox.close();
        assert_eq!(Arc::strong_count(&count), 2);
    }
}
