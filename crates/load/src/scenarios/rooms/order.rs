//! That every occupant of a room gets each message once, and all of them in the same order.
//!
//! What the first of them gets next is what all others must get next: so a room keeps the messages that some have and others
//! have not, and each occupant how many it has had.

use std::collections::VecDeque;

use super::super::time::{TIME_DIGITS, hexadecimal, time};

/// Digits of the sender and of the number.
const NUMBER_DIGITS: usize = 8;

/// The `id` of a message: when it was sent, by whom, and its number among the sender's own, all hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) [u8; TIME_DIGITS + 2 * NUMBER_DIGITS]);

impl Id {
    /// Of a message that is sent now.
    pub(super) fn new(now: u64, sender: u32, number: u32) -> Self {
        let mut digits = [0; TIME_DIGITS + 2 * NUMBER_DIGITS];
        digits[..TIME_DIGITS].copy_from_slice(&hexadecimal(now));
        digits[TIME_DIGITS..].copy_from_slice(&hexadecimal(u64::from(sender) << 32 | u64::from(number)));
        Self(digits)
    }

    /// None where it is an `id` of something else.
    pub(super) fn read(digits: &[u8]) -> Option<Self> {
        let digits = Self(digits.try_into().ok()?);
        (digits.began().is_some() && time(&digits.0[TIME_DIGITS..]).is_some()).then_some(digits)
    }

    fn began(self) -> Option<u64> {
        time(&self.0[..TIME_DIGITS])
    }

    /// The sender and the number.
    fn origin(self) -> (u32, u32) {
        let origin = time(&self.0[TIME_DIGITS..]).unwrap_or_default();
        ((origin >> 32) as u32, origin as u32)
    }
}

/// What a message was to who got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The one that was to come.
    InPlace {
        /// When it was sent.
        began: u64,
        /// Occupants who have not got it.
        left: u32,
    },
    /// One that was to come after so many others, which are taken for lost.
    After(u32),
    /// One that was here before, or that came before its time to others: it does not count.
    Again,
}

/// The messages of one room.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Those that are not with everybody yet, oldest first.
    messages: VecDeque<Message>,
    /// How many came before the oldest of them.
    before: u64,
    /// By sender: the number of the newest message that anybody got.
    newest: Vec<u32>,
    occupants: u32,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    id: Id,
    began: u64,
    left: u32,
}

impl Order {
    /// Of a room in which nothing was said; senders are numbered from 0, and their messages from 1.
    pub(super) fn new(occupants: u32, senders: u32) -> Self {
        Self { messages: VecDeque::new(), before: 0, newest: vec![0; senders as usize], occupants }
    }

    /// Somebody who has had `position` messages gets this one.
    pub(super) fn take(&mut self, position: &mut u64, digits: &[u8]) -> Option<Came> {
        let at = (*position - self.before) as usize;
        if let Some(message) = self.messages.get_mut(at)
            && message.id.0 == digits
        {
            *position += 1;
            message.left -= 1;
            let came = Came::InPlace { began: message.began, left: message.left };
            self.forget();
            return Some(came);
        }
        let id = Id::read(digits)?;
        Some(if at == self.messages.len() { self.first(position, id) } else { self.elsewhere(position, at, id) })
    }

    /// The first who gets a message says where it stands.
    fn first(&mut self, position: &mut u64, id: Id) -> Came {
        let ((sender, number), began) = (id.origin(), id.began().unwrap_or_default());
        let Some(newest) = self.newest.get_mut(sender as usize) else { return Came::Again };
        if number <= *newest {
            return Came::Again;
        }
        let skipped = number - *newest - 1;
        *newest = number;
        *position += 1;
        let left = self.occupants - 1;
        self.messages.push_back(Message { id, began, left });
        self.forget();
        if skipped > 0 { Came::After(skipped) } else { Came::InPlace { began, left } }
    }

    fn elsewhere(&mut self, position: &mut u64, at: usize, id: Id) -> Came {
        let Some(ahead) = self.messages.iter().skip(at).position(|message| message.id == id) else {
            return Came::Again;
        };
        self.messages.iter_mut().skip(at).take(ahead + 1).for_each(|message| message.left -= 1);
        *position += ahead as u64 + 1;
        self.forget();
        Came::After(ahead as u32)
    }

    /// What everybody has had.
    fn forget(&mut self) {
        while self.messages.pop_front_if(|message| message.left == 0).is_some() {
            self.before += 1;
        }
    }

    /// Deliveries that are still to come of messages that somebody has.
    pub(super) fn left(&self) -> u64 {
        self.messages.iter().map(|message| u64::from(message.left)).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Who gets what, in this order; what each was.
    fn came(order: &mut Order, positions: &mut [u64], got: &[(usize, Id)]) -> Vec<Came> {
        got.iter().map(|(who, id)| order.take(&mut positions[*who], &id.0).unwrap()).collect()
    }

    fn in_place(began: u64, left: u32) -> Came {
        Came::InPlace { began, left }
    }

    #[test]
    fn an_id_tells_when_by_whom_and_which() {
        let id = Id::new(0x1234, 7, 0xffff_fff0);
        assert_eq!(Id::read(&id.0), Some(id));
        assert_eq!((id.began(), id.origin()), (Some(0x1234), (7, 0xffff_fff0)));
        assert_eq!(Id::read(b"1234"), None);
        assert_eq!(Id::read(b"not hexadecimal but 32 long, yes"), None);
    }

    #[test]
    fn what_all_get_in_one_order_is_in_place_whatever_that_order_is() {
        let [a, b] = [Id::new(10, 0, 1), Id::new(20, 1, 1)];
        let mut order = Order::new(3, 2);
        let got = [(0, b), (0, a), (1, b), (2, b), (1, a), (2, a)];
        let came = came(&mut order, &mut [0; 3], &got);
        let wanted =
            [in_place(20, 2), in_place(10, 2), in_place(20, 1), in_place(20, 0), in_place(10, 1), in_place(10, 0)];
        assert_eq!((came.as_slice(), order.left()), (&wanted[..], 0));
        assert!(order.messages.is_empty() && order.before == 2);
    }

    #[test]
    fn another_order_is_told_and_what_came_too_early_does_not_count_twice() {
        let [a, b] = [Id::new(10, 0, 1), Id::new(20, 1, 1)];
        let mut order = Order::new(2, 2);
        let came = came(&mut order, &mut [0; 2], &[(0, a), (0, b), (1, b), (1, a)]);
        assert_eq!(came[2..], [Came::After(1), Came::Again]);
    }

    #[test]
    fn one_that_comes_twice_is_told_before_and_after_all_have_it() {
        let [a, b] = [Id::new(10, 0, 1), Id::new(20, 0, 2)];
        let mut order = Order::new(2, 1);
        let came = came(&mut order, &mut [0; 2], &[(0, a), (0, a), (1, a), (1, a), (0, b), (0, a)]);
        assert_eq!(came[1], Came::Again);
        assert_eq!(came[3..], [Came::Again, in_place(20, 1), Came::Again]);
    }

    #[test]
    fn one_that_never_comes_is_missed_by_its_number_and_by_its_place() {
        let [a, b, d] = [Id::new(10, 0, 1), Id::new(20, 0, 2), Id::new(40, 0, 4)];
        let mut order = Order::new(2, 1);
        let came = came(&mut order, &mut [0; 2], &[(0, a), (0, b), (1, b), (0, d)]);
        assert_eq!(came[2..], [Came::After(1), Came::After(1)]);
        assert_eq!(order.left(), 1);
    }

    #[test]
    fn a_message_of_somebody_else_is_not_ours() {
        let mut order = Order::new(1, 1);
        assert_eq!(order.take(&mut 0, b"roster"), None);
        assert_eq!(order.take(&mut 0, &Id::new(1, 9, 1).0), Some(Came::Again));
    }
}
