//! XEP-0227: Portable Import/Export Format for XMPP-IM Servers: the data of an account, part by part.
//!
//! Each module that keeps something of an account has a [`Part`], which writes elements of the file and reads them back.
//! Both go piece by piece, so that an account may have more than fits into memory. The file around the parts is written and read
//! by whoever has it (`magpie export`, `magpie import`); the credentials make an account, and come last.

mod archive;
mod contacts;
mod credentials;
mod messages;
mod nodes;
mod stored;

use std::future::Future;
use std::pin::Pin;

use magpie_proto::{BareJid, Element};
use magpie_store::{Batch, Store, StoreError};

use crate::accounts;
use crate::modules::archive::Archived;
pub use credentials::{credentials_of, says_disabled, scram_credentials};

/// The namespace of the file.
pub const NS: &str = "urn:xmpp:pie:0";

/// The parts, in the order in which they are written.
pub static PARTS: &[&dyn Part] = &[
    &credentials::Keys,
    &credentials::Disabled,
    &contacts::Contacts,
    &contacts::Blocked,
    &stored::PrivateElements,
    &stored::Card,
    &archive::Preferred,
    &nodes::Configurations,
    &nodes::Published,
    &messages::OfflineMessages,
    &archive::Messages,
];

/// What a module keeps of an account.
pub trait Part: Sync {
    /// What it is, for people.
    fn name(&self) -> &'static str;

    /// The element (name and namespace) in which all of its elements stand, where they may be many. Empty where they stand in
    /// `<user/>`.
    fn container(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The next elements, of an account that may be at work meanwhile; `after` is where the piece before ended.
    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, after: Option<String>) -> Exporting<'a>;

    /// Puts what an element says into the batch, for an account that is not there yet; `None` where it is another part's element.
    /// Of a part with a container it is the container, with some of its elements. What is left out is said.
    fn import<'a>(&'a self, import: Import<'a>) -> Option<Importing<'a>>;
}

/// What is to go into an account that is not there yet.
#[derive(Debug)]
pub struct Import<'a> {
    /// Where it goes.
    pub store: &'a Store,
    /// Whose it is.
    pub account: &'a BareJid,
    /// What it is.
    pub element: &'a Element,
    /// What is committed with it.
    pub batch: &'a mut Batch,
}

/// An export under way.
pub type Exporting<'a> = Pin<Box<dyn Future<Output = Result<Piece, StoreError>> + Send + 'a>>;

/// An import under way: what was left out, in words.
pub type Importing<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, StoreError>> + Send + 'a>>;

/// Some of a part.
#[derive(Debug, Default)]
pub struct Piece {
    /// Its elements.
    pub elements: Vec<Element>,
    /// Where the next piece begins; `None` where this is the last.
    pub next: Option<String>,
}

impl From<Vec<Element>> for Piece {
    fn from(elements: Vec<Element>) -> Self {
        Self { elements, next: None }
    }
}

/// What an account may have that the document has no place for; that of it which this one has.
pub async fn left_behind(store: &Store, account: &BareJid) -> Result<Vec<&'static str>, StoreError> {
    let owner = accounts::owner(account);
    let mut found = Vec::new();
    for (name, what) in VALUES_LEFT {
        let value = store.value::<Vec<u8>>(name).get(&owner).await?;
        found.extend(value.is_some_and(|value| !value.is_empty()).then_some(*what));
    }
    for (name, what) in MAPS_LEFT {
        let count = store.map::<Vec<u8>>(name).count(&owner, "", None).await?;
        found.extend((count > 0).then_some(*what));
    }
    let topics = store.archive::<Archived>("messages").topics(&owner).await?;
    found.extend(topics.iter().any(|(_, topic)| topic.new > 0).then_some("which messages are not read yet"));
    Ok(found)
}

/// Values that stay behind, and what they are, for people.
const VALUES_LEFT: &[(&str, &str)] = &[
    ("archive-days", "for how long the archive is kept"),
    ("last", "when the account was last there"),
    ("push", "which devices are woken by push"),
];

/// The same of maps.
const MAPS_LEFT: &[(&str, &str)] = &[
    (accounts::TOKENS, "tokens by which clients log in without the password"),
    ("rooms-affiliated", "what the account is to rooms"),
];

/// Whether elements of this name stand in a container whose elements may come piece by piece.
pub fn is_container(name: &str, ns: &str) -> bool {
    PARTS.iter().any(|part| part.container() == Some((name, ns)))
}

/// Whether what stands before the element must be in the store when it is imported.
pub fn depends_on_earlier(element: &Element) -> bool {
    // A request may be of a contact; an item belongs to a node.
    matches!(element.name(), "presence" | "pubsub")
}

/// Puts what an element of `<user/>` says into the batch, and tells what was left out. `None` where no part knows it.
pub async fn import(
    store: &Store,
    account: &BareJid,
    element: &Element,
    batch: &mut Batch,
) -> Result<Option<Vec<String>>, StoreError> {
    for part in PARTS {
        if let Some(importing) = part.import(Import { store, account, element, batch: &mut *batch }) {
            return importing.await.map(Some);
        }
    }
    Ok(None)
}

/// Nothing was left out.
fn whole<'a>() -> Option<Importing<'a>> {
    left_out(Vec::new())
}

fn left_out<'a>(what: Vec<String>) -> Option<Importing<'a>> {
    Some(Box::pin(std::future::ready(Ok(what))))
}

#[cfg(test)]
mod tests;
