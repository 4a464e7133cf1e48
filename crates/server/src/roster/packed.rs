//! RFC 6121 §2.1.2: the items of a roster as one run of bytes.
//!
//! A roster is in memory for as long as its account has a session, and mostly it is only asked whether a contact may see
//! something. A tree of strings takes ten times the room of what is in it, so the items stand one behind the other, in the
//! order of their addresses, and are read where they stand. What most of them share is written once: the domain that most are
//! of, and the names of groups.

use std::cmp::Ordering;
use std::fmt;

use magpie_proto::BareJid;

use super::Item;
use crate::subscription::{State, Subscription};

/// Group names that are written once; the others stand in each item. Looking one up is a walk over those before it.
const SHARED_GROUPS_MAX: usize = 16;

/// After so many items the place of one is noted, so that a search in a long roster need not read all of it.
const ITEMS_PER_MARK: usize = 32;

const SUBSCRIPTION: u8 = 0b11;
const PENDING_OUT: u8 = 1 << 2;
const PENDING_IN: u8 = 1 << 3;
const APPROVED: u8 = 1 << 4;
const LISTED: u8 = 1 << 5;
/// Only the localpart stands there: the domain is the shared one.
const AT_SHARED_DOMAIN: u8 = 1 << 6;
const HAS_REQUEST: u8 = 1 << 7;

/// Items, each once, in the order of their addresses.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Packed {
    /// The shared domain, the largest version in which an item changed, the shared groups, and the items.
    bytes: Box<[u8]>,
    /// Where every [`ITEMS_PER_MARK`]th item but the first begins.
    marks: Box<[u32]>,
    /// Where the first item begins.
    start: u32,
}

/// One item, where it stands.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    head: Head<'a>,
    flags: u8,
    address: &'a [u8],
    rest: Cursor<'a>,
}

/// What items share.
#[derive(Clone, Copy, Default)]
struct Head<'a> {
    domain: &'a [u8],
    /// The largest version, and the groups: read where an item needs them.
    rest: Cursor<'a>,
}

impl Packed {
    /// Packs items that are in the order of their addresses.
    pub(super) fn new(items: &[Item]) -> Self {
        if items.is_empty() {
            return Self::default();
        }
        let domain = shared_domain(items);
        let mut groups: Vec<&str> = Vec::new();
        for group in items.iter().flat_map(|item| &item.groups) {
            if groups.len() < SHARED_GROUPS_MAX && !groups.contains(&group.as_str()) {
                groups.push(group);
            }
        }
        let changed_max = items.iter().map(|item| item.changed).max().unwrap_or_default();
        let mut bytes = Vec::new();
        put_text(&mut bytes, domain);
        put(&mut bytes, changed_max);
        groups.iter().for_each(|group| put_text(&mut bytes, group));
        let place = |bytes: &Vec<u8>| u32::try_from(bytes.len()).expect("a roster's bytes are limited far below 4 GiB");
        let start = place(&bytes);
        let mut marks = Vec::new();
        let mut record = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if index > 0 && index % ITEMS_PER_MARK == 0 {
                marks.push(place(&bytes));
            }
            record.clear();
            put_item(&mut record, item, domain, &groups, changed_max);
            put(&mut bytes, record.len() as u64);
            bytes.extend_from_slice(&record);
        }
        // Copied, since an allocator that shrinks in place keeps up to twice as much.
        Self { bytes: bytes.as_slice().into(), marks: marks.as_slice().into(), start }
    }

    /// The items, in the order of their addresses.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let head = self.head();
        let mut cursor = Cursor(&self.bytes[self.start as usize..]);
        std::iter::from_fn(move || cursor.entry(head))
    }

    /// The item of a contact.
    pub(super) fn find(&self, contact: &BareJid) -> Option<Entry<'_>> {
        let head = self.head();
        let address = contact.as_str().as_bytes();
        let from = |mark: u32| Cursor(&self.bytes[mark as usize..]);
        let later = self.marks.partition_point(|mark| {
            from(*mark).entry(head).is_some_and(|entry| entry.order(address) != Ordering::Greater)
        });
        let mark = later.checked_sub(1).map_or(self.start, |index| self.marks[index]);
        let shared = contact.local().filter(|_| contact.domain().as_bytes() == head.domain).map(str::as_bytes);
        let mut cursor = from(mark);
        let among = std::iter::from_fn(|| cursor.record()).take(ITEMS_PER_MARK);
        let mut found = among.filter(|(flags, other, _)| match flags & AT_SHARED_DOMAIN {
            0 => are_same(other, address),
            _ => shared.is_some_and(|shared| are_same(other, shared)),
        });
        found.next().map(|record| Entry::new(head, record))
    }

    /// The domain of the items that do not say theirs.
    pub(super) fn shared_domain(&self) -> &str {
        str_of(self.head().domain)
    }

    /// The items as they are with this one in place of the contact's, or without any.
    pub(super) fn set(&mut self, contact: &BareJid, item: Option<Item>) {
        let mut items: Vec<Item> = self.iter().map(|entry| entry.item()).collect();
        let place = items.binary_search_by(|other| other.jid.cmp(contact));
        match (place, item) {
            (Ok(index), Some(item)) => items[index] = item,
            (Ok(index), None) => drop(items.remove(index)),
            (Err(index), Some(item)) => items.insert(index, item),
            (Err(_), None) => return,
        }
        *self = Self::new(&items);
    }

    /// Bytes of heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.marks)
    }

    fn head(&self) -> Head<'_> {
        let mut cursor = Cursor(&self.bytes[..self.start as usize]);
        if cursor.0.is_empty() {
            return Head::default();
        }
        Head { domain: cursor.text(), rest: cursor }
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|entry| entry.item())).finish()
    }
}

impl<'a> Entry<'a> {
    fn new(head: Head<'a>, (flags, address, rest): Record<'a>) -> Self {
        Self { head, flags, address, rest }
    }

    /// Who sees whose presence.
    pub(super) fn state(&self) -> State {
        State {
            subscription: match self.flags & SUBSCRIPTION {
                0 => Subscription::None,
                1 => Subscription::To,
                2 => Subscription::From,
                _ => Subscription::Both,
            },
            pending_out: self.flags & PENDING_OUT != 0,
            pending_in: self.flags & PENDING_IN != 0,
            approved: self.flags & APPROVED != 0,
        }
    }

    /// Whether clients see it.
    pub(super) fn listed(&self) -> bool {
        self.flags & LISTED != 0
    }

    /// Who.
    pub(super) fn jid(&self) -> BareJid {
        let mut room = String::new();
        let address = self.address(str_of(self.head.domain), &mut room);
        BareJid::parse(address).expect("it was an address, and enforcing one again changes nothing")
    }

    /// Its address, for which there is room if it stands nowhere in one piece.
    pub(super) fn address<'b>(&'b self, shared_domain: &str, room: &'b mut String) -> &'b str {
        if self.flags & AT_SHARED_DOMAIN == 0 {
            return str_of(self.address);
        }
        room.clear();
        room.push_str(str_of(self.address));
        room.push('@');
        room.push_str(shared_domain);
        room
    }

    /// The domain of its address.
    pub(super) fn domain(&self) -> &'a str {
        match self.flags & AT_SHARED_DOMAIN {
            0 => str_of(self.address.split(|byte| *byte == b'@').next_back().unwrap_or_default()),
            _ => str_of(self.head.domain),
        }
    }

    /// The version of the roster in which clients last saw it change.
    pub(super) fn changed(&self) -> u64 {
        self.head.changed_max() - { self.rest }.number()
    }

    /// The whole item.
    pub(super) fn item(&self) -> Item {
        let mut rest = self.rest;
        let changed = self.head.changed_max() - rest.number();
        let name = Some(str_of(rest.text())).filter(|name| !name.is_empty());
        let groups = (0..rest.number()).map(|_| self.group(&mut rest).to_owned()).collect();
        let request = (self.flags & HAS_REQUEST != 0).then(|| str_of(rest.0).to_owned());
        Item {
            jid: self.jid(),
            name: name.map(str::to_owned),
            groups,
            state: self.state(),
            listed: self.listed(),
            request,
            changed,
        }
    }

    /// Bytes of its address, name and groups.
    pub(super) fn text_bytes(&self) -> usize {
        let mut rest = self.rest;
        rest.number();
        let address = self.address.len()
            + match self.flags & AT_SHARED_DOMAIN {
                0 => 0,
                _ => 1 + self.head.domain.len(),
            };
        let name = rest.text().len();
        address + name + (0..rest.number()).map(|_| self.group(&mut rest).len()).sum::<usize>()
    }

    fn group(&self, rest: &mut Cursor<'a>) -> &'a str {
        let number = rest.number();
        match number & 1 {
            0 => str_of(rest.take((number >> 1) as usize)),
            _ => {
                let mut groups = self.head.rest;
                groups.number();
                groups.skip(number >> 1);
                str_of(groups.text())
            }
        }
    }

    /// How its address stands to this one.
    fn order(&self, address: &[u8]) -> Ordering {
        match self.flags & AT_SHARED_DOMAIN {
            0 => self.address.cmp(address),
            _ => {
                let (local, rest) = address.split_at(self.address.len().min(address.len()));
                self.address.cmp(local).then_with(|| match rest.split_first() {
                    Some((separator, domain)) => b'@'.cmp(separator).then_with(|| self.head.domain.cmp(domain)),
                    None => Ordering::Greater,
                })
            }
        }
    }
}

impl Head<'_> {
    fn changed_max(&self) -> u64 {
        { self.rest }.number()
    }
}

/// The bytes from a place on.
#[derive(Clone, Copy, Default)]
struct Cursor<'a>(&'a [u8]);

/// Flags, address and the rest of an item.
type Record<'a> = (u8, &'a [u8], Cursor<'a>);

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    /// A number in the base of 128, the lowest digit first; all but the last have their highest bit set.
    #[inline]
    fn number(&mut self) -> u64 {
        match self.0.split_first() {
            // As nearly all are.
            Some((&byte, rest)) if byte < 0x80 => {
                self.0 = rest;
                byte.into()
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> u64 {
        let mut number = 0;
        for digit in 0.. {
            let byte = self.take(1)[0];
            number |= u64::from(byte & 0x7f) << (7 * digit);
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    #[inline]
    fn text(&mut self) -> &'a [u8] {
        let bytes = self.number() as usize;
        self.take(bytes)
    }

    fn skip(&mut self, texts: u64) {
        for _ in 0..texts {
            self.text();
        }
    }

    fn entry(&mut self, head: Head<'a>) -> Option<Entry<'a>> {
        self.record().map(|record| Entry::new(head, record))
    }

    #[inline]
    fn record(&mut self) -> Option<Record<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let mut rest = Self(self.text());
        let flags = rest.take(1)[0];
        let address = rest.text();
        Some((flags, address, rest))
    }
}

/// The addresses of one roster are often of one length, and then mostly differ at their ends.
fn are_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.last() == other.last() && one == other
}

fn str_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it was written as text")
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_item(out: &mut Vec<u8>, item: &Item, shared_domain: &str, shared_groups: &[&str], changed_max: u64) {
    let state = item.state;
    let subscription = match state.subscription {
        Subscription::None => 0,
        Subscription::To => 1,
        Subscription::From => 2,
        Subscription::Both => 3,
    };
    let shared = item.jid.local().filter(|_| item.jid.domain() == shared_domain);
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    out.push(
        subscription
            | flag(state.pending_out, PENDING_OUT)
            | flag(state.pending_in, PENDING_IN)
            | flag(state.approved, APPROVED)
            | flag(item.listed, LISTED)
            | flag(shared.is_some(), AT_SHARED_DOMAIN)
            | flag(item.request.is_some(), HAS_REQUEST),
    );
    put_text(out, shared.unwrap_or(item.jid.as_str()));
    put(out, changed_max - item.changed);
    put_text(out, item.name.as_deref().unwrap_or_default());
    put(out, item.groups.len() as u64);
    for group in &item.groups {
        match shared_groups.iter().position(|shared| shared == group) {
            Some(index) => put(out, (index as u64) << 1 | 1),
            None => {
                put(out, (group.len() as u64) << 1);
                out.extend_from_slice(group.as_bytes());
            }
        }
    }
    // Last, so that it needs no length.
    out.extend_from_slice(item.request.as_deref().unwrap_or_default().as_bytes());
}

/// The domain of more than half of the items, where there is one; of any otherwise.
fn shared_domain(items: &[Item]) -> &str {
    let mut domain = "";
    let mut lead = 0;
    for item in items {
        if lead == 0 {
            domain = item.jid.domain();
        }
        match item.jid.domain() == domain {
            true => lead += 1,
            false => lead -= 1,
        }
    }
    domain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn item(address: &str) -> Item {
        Item::new(BareJid::parse(address).unwrap())
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let jid = ("[a-c.é]{0,3}", prop::sample::select(vec!["a.example", "b.example", "b"]));
        let jid = jid.prop_filter_map("no address", |(local, domain)| {
            let local = Some(local.as_str()).filter(|local| !local.is_empty());
            BareJid::from_parts(local, domain).ok()
        });
        let state =
            (0..4_u8, any::<(bool, bool, bool)>()).prop_map(|(subscription, (pending_out, pending_in, approved))| {
                let subscription = [Subscription::None, Subscription::To, Subscription::From, Subscription::Both]
                    [usize::from(subscription)];
                State { subscription, pending_out, pending_in, approved }
            });
        let groups = prop::collection::vec(prop_oneof!["[a-z]{1,2}", "[ -~é]{1,200}"], 0..4);
        let rest = (prop::option::of("[ -~é]{1,20}"), prop::option::of("[ -~]{0,200}"), any::<bool>(), any::<u64>());
        let item = (jid, state, groups, rest).prop_map(|(jid, state, groups, (name, request, listed, changed))| Item {
            jid,
            name,
            groups,
            state,
            listed,
            request,
            changed,
        });
        prop::collection::vec(item, 0..80).prop_map(|items| {
            let items: BTreeMap<BareJid, Item> = items.into_iter().map(|item| (item.jid.clone(), item)).collect();
            items.into_values().collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_packed_is_found_as_it_was(items in items()) {
            let packed = Packed::new(&items);
            prop_assert_eq!(packed.iter().map(|entry| entry.item()).collect::<Vec<_>>(), items.clone());
            for item in &items {
                let entry = packed.find(&item.jid).unwrap();
                prop_assert_eq!(entry.item(), item.clone());
                prop_assert_eq!((entry.state(), entry.listed(), entry.jid()), (item.state, item.listed, item.jid.clone()));
                prop_assert_eq!((entry.changed(), entry.domain()), (item.changed, item.jid.domain()));
                prop_assert_eq!(entry.text_bytes(), item.text_bytes());
            }
        }

        #[test]
        fn setting_items_one_by_one_is_what_a_map_would_do(changes in items(), removed in items()) {
            let mut packed = Packed::default();
            let mut map = BTreeMap::new();
            for item in changes.iter().rev() {
                packed.set(&item.jid, Some(item.clone()));
                map.insert(item.jid.clone(), item.clone());
            }
            for item in removed {
                prop_assert_eq!(packed.find(&item.jid).map(|entry| entry.item()), map.get(&item.jid).cloned());
                packed.set(&item.jid, None);
                map.remove(&item.jid);
            }
            let left: Vec<Item> = map.into_values().collect();
            prop_assert_eq!(&packed, &Packed::new(&left));
        }
    }

    #[test]
    fn each_item_of_a_long_roster_is_found_and_none_beside_them() {
        for count in [1, 31, 32, 33, 64, 65, 1000] {
            let items: Vec<Item> = (0..count).map(|n| item(&format!("user{n:04}@capulet.example"))).collect();
            let packed = Packed::new(&items);
            for item in &items {
                assert_eq!(packed.find(&item.jid).map(|entry| entry.jid()).as_ref(), Some(&item.jid));
            }
            for stranger in
                ["user0031x@capulet.example", "a@capulet.example", "z@z.example", "capulet.example", "user0001"]
            {
                assert!(packed.find(&BareJid::parse(stranger).unwrap()).is_none(), "{stranger} among {count}");
            }
        }
    }

    #[test]
    fn a_contact_with_a_name_and_a_group_takes_32_bytes() {
        let mut items: Vec<Item> = (0..20_u8).map(|n| item(&format!("user{n:04}@capulet.example"))).collect();
        for (n, item) in (0..).zip(&mut items) {
            item.name = Some(format!("Contact {n:02}"));
            item.groups = vec!["Friends".to_owned()];
            item.state.subscription = Subscription::Both;
            item.changed = u64::MAX / 2 + n;
        }
        let bytes = Packed::new(&items).heap_bytes();
        assert!(bytes <= 20 * 32, "{bytes} bytes");
    }
}
