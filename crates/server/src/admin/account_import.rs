//! `account_import`: the data of accounts that are not there yet, element by element as XEP-0227 has them.
//!
//! An account is there once it has credentials, which `user_import_batch` gives it when its data are there. So an import
//! that was cut off leaves no half of an account behind: the next one begins it anew. An account that is replaced is disabled until
//! its data are there, so that nobody uses half of it.

use std::collections::HashSet;

use magpie_proto::xeps::mam;
use magpie_proto::{BareJid, Element, ns};
use magpie_store::Batch;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Context, ErrorKind, Operation, OperationError};
use crate::accounts::{StoredCredentials, owner};
use crate::portable;

/// Elements of one request.
pub const PARTS_MAX: usize = 10_000;

/// Imports the data of accounts.
pub struct AccountImport;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// At most 10000.
    pub parts: Vec<Part>,
    /// Whether accounts that exist are emptied at their beginning, and disabled until they are enabled again.
    #[serde(default)]
    pub replace: bool,
}

/// Something of an account.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The account.
    pub jid: String,
    /// An element that stands in its `<user/>`; nothing for its beginning, where what an import left that was cut off goes.
    #[serde(default)]
    pub xml: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartOutcome {
    /// It is kept, but for what is named.
    Kept(Vec<String>),
    /// Nobody knows such elements.
    Unknown,
    /// The account is there already, or its address is none, or its domain not served.
    Refused,
    /// It is no XML.
    Invalid,
}

impl Operation for AccountImport {
    const NAME: &'static str = "account_import";
    const DOC: &'static str = "Keeps data of accounts that are not there yet, in the form of XEP-0227.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        if arguments.parts.len() > PARTS_MAX {
            return Err(OperationError::invalid(format!("more than {PARTS_MAX} parts")));
        }
        let store = context.accounts.store();
        let mut batch = Batch::new();
        let (mut disabled, mut preferring, mut replaced) = (Vec::new(), Vec::new(), HashSet::new());
        let mut outcomes = Vec::with_capacity(arguments.parts.len());
        for part in &arguments.parts {
            let account = context.served_account(&part.jid).ok();
            let Some(account) = account else {
                outcomes.push(PartOutcome::Refused);
                continue;
            };
            if context.accounts.exists(&account).await? {
                if arguments.replace && part.xml.is_none() {
                    empty(context, &account).await?;
                    outcomes.push(PartOutcome::Kept(Vec::new()));
                    continue;
                }
                if !(arguments.replace && context.accounts.is_disabled(&account).await?) {
                    outcomes.push(PartOutcome::Refused);
                    continue;
                }
                replaced.insert(account.clone());
            }
            let Some(xml) = &part.xml else {
                // Somebody may just be making the account.
                store.value::<StoredCredentials>("credentials").expect(&mut batch, &owner(&account), None);
                batch.erase(&owner(&account));
                outcomes.push(PartOutcome::Kept(Vec::new()));
                continue;
            };
            let Ok(element) = Element::parse(xml.as_bytes(), ns::CLIENT) else {
                outcomes.push(PartOutcome::Invalid);
                continue;
            };
            if portable::says_disabled(&element) {
                disabled.push(account.clone());
            }
            if element.is("prefs", mam::NS) {
                preferring.push(account.clone());
            }
            if portable::depends_on_earlier(&element) && !batch.is_empty() {
                store.commit(std::mem::take(&mut batch)).await?;
            }
            outcomes.push(match portable::import(store, &account, &element, &mut batch).await? {
                Some(left_out) => PartOutcome::Kept(left_out),
                None => PartOutcome::Unknown,
            });
        }
        store.commit(batch).await?;
        if let Some(sessions) = &context.sessions {
            preferring.iter().for_each(|account| sessions.on_account_imported(account));
            // Who asked meanwhile may have made others remember half of it.
            replaced.iter().for_each(|account| sessions.on_account_replaced(account));
        }
        disabled.iter().for_each(|account| context.accounts.was_disabled(account));
        Ok(json!({ "outcomes": outcomes }))
    }
}

/// Ends the sessions of an account and erases its data. What is not its own stays: what it is to rooms, how long the operator wants its
/// archive to be kept.
async fn empty(context: &Context, account: &BareJid) -> Result<(), OperationError> {
    let refuse = |error| OperationError::of_account(error, account);
    context.accounts.disable(account).await.map_err(refuse)?;
    if let Some(sessions) = context.sessions.clone()
        && !sessions.end_all(account.clone()).await
    {
        let why = format!("the sessions of {account} do not end; it is disabled now");
        return Err(OperationError::new(ErrorKind::Failed, why).help("try again"));
    }
    context.accounts.empty(account, KEPT_VALUES, KEPT_MAPS).await.map_err(refuse)?;
    info!(%account, "account emptied, to be replaced");
    Ok(())
}

const KEPT_VALUES: &[&str] = &["archive-days"];
const KEPT_MAPS: &[&str] = &["rooms-affiliated", "rooms-of"];
