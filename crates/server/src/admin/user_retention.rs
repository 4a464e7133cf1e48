//! `user_retention`: for how many days the messages of an account stay in its archive.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Context, Operation, OperationError};
use crate::retention::AccountAges;

/// Shows or sets the age.
pub struct UserRetention;

/// Whose, and which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
    /// Days after which its messages are forgotten, if those are fewer than the domain's; 0: as the domain's. Without it the days are shown and
    /// stay as they are.
    #[serde(default)]
    pub days: Option<u32>,
}

impl Operation for UserRetention {
    const NAME: &'static str = "user_retention";
    const DOC: &'static str = "Shows or sets for how many days the messages of an account stay in its archive.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.existing_account(&arguments.jid).await?;
        let ages = AccountAges::new(context.accounts.store());
        if let Some(days) = arguments.days {
            ages.set(&account, Some(days).filter(|days| *days > 0)).await?;
            info!(%account, days, "for how long the account's messages stay was set");
        }
        let of_domain = Some(context.config.load().archive.keep_days_of(account.domain())).filter(|days| *days > 0);
        let of_account = ages.get(&account).await?;
        let days = of_account.into_iter().chain(of_domain).min();
        Ok(json!({ "jid": account.as_str(), "days": days, "account": of_account, "domain": of_domain }))
    }
}
