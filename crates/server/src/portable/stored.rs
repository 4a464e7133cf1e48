//! XEP-0227 §4.6, §4.7: private elements (XEP-0049) and the vCard (XEP-0054).

use magpie_proto::{BareJid, Element, ns};
use magpie_store::Store;

use super::{Exporting, Import, Importing, Part, Piece, whole};
use crate::accounts::owner;
use crate::modules::private;
use crate::modules::vcard::Vcard;

const NS_PRIVATE: &str = "jabber:iq:private";
const NS_VCARD: &str = "vcard-temp";

/// Private elements.
pub(super) struct PrivateElements;

impl Part for PrivateElements {
    fn name(&self) -> &'static str {
        "private elements"
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, _: Option<String>) -> Exporting<'a> {
        Box::pin(async {
            let stored = store.map::<String>("private").list(&owner(account)).await?;
            let elements: Vec<Element> =
                stored.iter().filter_map(|(_, xml)| Element::parse(xml.as_bytes(), ns::CLIENT).ok()).collect();
            let query = (!elements.is_empty()).then(|| Element::new("query", NS_PRIVATE).with_all(elements));
            Ok(Piece::from(query.into_iter().collect::<Vec<_>>()))
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        if !element.is("query", NS_PRIVATE) {
            return None;
        }
        let (elements, owner) = (store.map::<String>("private"), owner(account));
        for child in element.children() {
            elements.put(batch, &owner, &private::key(child.name(), child.ns()), &child.to_xml(ns::CLIENT));
        }
        whole()
    }
}

/// The vCard.
pub(super) struct Card;

impl Part for Card {
    fn name(&self) -> &'static str {
        "vCard"
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, _: Option<String>) -> Exporting<'a> {
        Box::pin(async {
            let vcard = store.value::<Vcard>("vcard").get(&owner(account)).await?;
            Ok(Piece::from(vcard.into_iter().map(Vcard::into_element).collect::<Vec<_>>()))
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        if !element.is("vCard", NS_VCARD) {
            return None;
        }
        store.value::<Vcard>("vcard").put(batch, &owner(account), &Vcard::new(element.clone()));
        whole()
    }
}
