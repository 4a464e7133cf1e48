//! `account_export`: accounts with their data in the form of XEP-0227, piece by piece.

use std::collections::BTreeMap;

use magpie_proto::Element;
use magpie_proto::jid::{BareJid, parse_domain};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, Operation, OperationError};
use crate::portable::{NS, PARTS, left_behind};

/// Bytes of XML after which a piece ends; one with a large element is longer.
const PIECE_BYTES: usize = 256 * 1024;

/// Exports accounts.
pub struct AccountExport;

/// Which, and from where on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The domain. It need not be served any more.
    pub host: String,
    /// The username of one account; all where none is named.
    #[serde(default)]
    pub username: Option<String>,
    /// The `next` of the piece before; none for the first one.
    #[serde(default)]
    pub after: Option<Position>,
}

/// Where a piece ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The account that was written last, or is being written.
    username: String,
    /// Where in it; nothing where it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Within>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Within {
    /// Which part comes next.
    part: usize,
    /// Where in the part.
    #[serde(default)]
    after: Option<String>,
    /// Whether the tag of its container stands there.
    #[serde(default)]
    open: bool,
}

impl Operation for AccountExport {
    const NAME: &'static str = "account_export";
    const DOC: &'static str = "Gives accounts with their data as elements of XEP-0227, piece by piece.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = parse_domain(&arguments.host)
            .map_err(|_| OperationError::invalid(format!("\"{}\" is no domain", arguments.host)))?;
        let mut position = arguments.after;
        let mut made = Made::default();
        loop {
            let (account, within) = match position.take() {
                Some(Position { username, within: Some(within) }) => {
                    let account = BareJid::from_parts(Some(&username), &host);
                    (account.map_err(|_| OperationError::invalid("the position is none"))?, within)
                }
                last => {
                    let next =
                        next(context, &host, arguments.username.as_deref(), last.map(|last| last.username)).await?;
                    let Some(account) = next else { return Ok(made.piece(None)) };
                    let name = Element::new("user", NS).with_attr("name", account.local().unwrap_or_default());
                    open(&name, NS, &mut made.xml);
                    for what in left_behind(context.accounts.store(), &account).await? {
                        *made.left_out.entry(what).or_default() += 1;
                    }
                    (account, Within::default())
                }
            };
            let username = account.local().unwrap_or_default().to_owned();
            if let Some(within) = write(context, &account, within, &mut made.xml).await? {
                return Ok(made.piece(Some(Position { username, within: Some(within) })));
            }
            made.xml.extend_from_slice(b"</user>\n");
            made.accounts += 1;
            let done = Position { username, within: None };
            if made.xml.len() >= PIECE_BYTES {
                return Ok(made.piece(Some(done)));
            }
            position = Some(done);
        }
    }
}

/// A piece in the making.
#[derive(Default)]
struct Made {
    xml: Vec<u8>,
    accounts: u64,
    /// What has no place in the file, and how many accounts that begin in this piece have it.
    left_out: BTreeMap<&'static str, u64>,
}

impl Made {
    fn piece(self, next: Option<Position>) -> Value {
        let xml = String::from_utf8_lossy(&self.xml);
        json!({ "xml": xml, "accounts": self.accounts, "left_out": self.left_out, "next": next })
    }
}

/// The account that comes next.
async fn next(
    context: &Context,
    host: &str,
    only: Option<&str>,
    last: Option<String>,
) -> Result<Option<BareJid>, OperationError> {
    match (only, last) {
        (Some(_), Some(_)) => Ok(None),
        (Some(only), None) => Ok(Some(context.existing_account(&format!("{only}@{host}")).await?)),
        (None, last) => Ok(context.accounts.list(host, last.as_deref(), 1).await?.into_iter().next()),
    }
}

/// Writes an account from a place on; gives the place where it goes on, if the piece is long enough before.
async fn write(
    context: &Context,
    account: &BareJid,
    mut at: Within,
    xml: &mut Vec<u8>,
) -> Result<Option<Within>, OperationError> {
    while let Some(part) = PARTS.get(at.part) {
        let container = part.container();
        let around = container.map_or(NS, |(_, ns)| ns);
        let found = part.export(context.accounts.store(), account, at.after.take()).await?;
        if let Some((name, ns)) = container
            && !at.open
            && !found.elements.is_empty()
        {
            open(&Element::new(name, ns), NS, xml);
            at.open = true;
        }
        for element in &found.elements {
            element.write(around, xml);
        }
        match found.next {
            None => {
                if let (Some((name, _)), true) = (container, at.open) {
                    xml.extend_from_slice(format!("</{name}>").as_bytes());
                }
                at = Within { part: at.part + 1, ..Within::default() };
            }
            next => at.after = next,
        }
        if xml.len() >= PIECE_BYTES && at.part < PARTS.len() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Writes the opening tag of an element.
fn open(element: &Element, around: &str, xml: &mut Vec<u8>) {
    element.write(around, xml);
    // Of an empty element.
    xml.truncate(xml.len() - "/>".len());
    xml.push(b'>');
}
