//! XEP-0334: Message Processing Hints
//!
//! What the sender would like entities on the way to do, or not to do, with a message.

use crate::Element;
use crate::xml::Stanza;

/// The namespace.
pub const NS: &str = "urn:xmpp:hints";

/// One hint (§3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// `<no-permanent-store/>`: not in the archive; offline storage is fine.
    NoPermanentStore,
    /// `<no-store/>`: in no storage at all.
    NoStore,
    /// `<no-copy/>`: only to the resource it is addressed to.
    NoCopy,
    /// `<store/>`: in storage, though it would not be by itself.
    Store,
}

impl Hint {
    /// The name of its element.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoPermanentStore => "no-permanent-store",
            Self::NoStore => "no-store",
            Self::NoCopy => "no-copy",
            Self::Store => "store",
        }
    }

    /// As an element.
    pub fn element(self) -> Element {
        Element::new(self.name(), NS)
    }
}

/// Which hints a message carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `<no-permanent-store/>`
    pub no_permanent_store: bool,
    /// `<no-store/>`
    pub no_store: bool,
    /// `<no-copy/>`
    pub no_copy: bool,
    /// `<store/>`
    pub store: bool,
}

impl Hints {
    /// The hints of a stanza, as they stand.
    pub fn of(stanza: &Stanza) -> Self {
        let mut hints = Self::default();
        for child in stanza.children().filter(|child| child.ns == NS) {
            match child.name {
                "no-permanent-store" => hints.no_permanent_store = true,
                "no-store" => hints.no_store = true,
                "no-copy" => hints.no_copy = true,
                "store" => hints.store = true,
                _ => {}
            }
        }
        hints
    }
}

/// Whether a message has `<no-permanent-store/>`.
pub fn no_permanent_store(message: &Stanza) -> bool {
    Hints::of(message).no_permanent_store
}

/// Whether a message has `<no-store/>`.
pub fn no_store(message: &Stanza) -> bool {
    Hints::of(message).no_store
}

/// Whether a message has `<no-copy/>`.
pub fn no_copy(message: &Stanza) -> bool {
    Hints::of(message).no_copy
}

/// Whether a message has `<store/>`.
pub fn store(message: &Stanza) -> bool {
    Hints::of(message).store
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ns;

    #[test]
    fn each_hint_is_found_in_a_stanza_that_has_it() {
        let message = Element::new("message", ns::CLIENT);
        let hints = |hint: Hint| Hints::of(&Stanza::new(&message.clone().with(hint.element())));
        let none = Hints::default();
        assert_eq!(hints(Hint::NoPermanentStore), Hints { no_permanent_store: true, ..none });
        assert_eq!(hints(Hint::NoStore), Hints { no_store: true, ..none });
        assert_eq!(hints(Hint::NoCopy), Hints { no_copy: true, ..none });
        assert_eq!(hints(Hint::Store), Hints { store: true, ..none });
        assert_eq!(Hints::of(&Stanza::new(&message)), none);

        let asked = |hint: Hint| {
            let stanza = Stanza::new(&message.clone().with(hint.element()));
            [no_permanent_store, no_store, no_copy, store].map(|has| has(&stanza))
        };
        assert_eq!(asked(Hint::NoPermanentStore), [true, false, false, false]);
        assert_eq!(asked(Hint::NoStore), [false, true, false, false]);
        assert_eq!(asked(Hint::NoCopy), [false, false, true, false]);
        assert_eq!(asked(Hint::Store), [false, false, false, true]);
    }

    #[test]
    fn the_same_names_elsewhere_are_no_hints() {
        let stanza = Stanza::parse(b"<message><no-store/><x xmlns='y'><store xmlns='urn:xmpp:hints'/></x></message>");
        assert_eq!(Hints::of(&stanza.unwrap()), Hints::default());
    }
}
