//! `magpie user …`: accounts.

use magpie_server::admin::{UserAdd, UserList, UserPasswd, UserRemove, user_add, user_list, user_passwd, user_remove};
use serde_json::{Value, json};

use crate::cli::{Global, User, UserCommand};
use crate::failure::Failure;
use crate::target::{IfMissing, Target};
use crate::{config, import, output, password};

pub(crate) fn run(global: &Global, user: User) -> Result<(), Failure> {
    let config = config::load(global, &user.domains)?;
    match user.command {
        UserCommand::Add { account, password } => {
            let password = password::read(password, account.as_str())?;
            let mut target = Target::open(&config, IfMissing::Create)?;
            let document = target.run::<UserAdd>(user_add::Arguments { jid: account.to_string(), password })?;
            output::print(global, &document, || format!("Added {account}.\n"))
        }
        UserCommand::Passwd { account, password } => {
            let password = password::read(password, account.as_str())?;
            let mut target = Target::open(&config, IfMissing::Refuse)?;
            let document = target.run::<UserPasswd>(user_passwd::Arguments { jid: account.to_string(), password })?;
            output::print(global, &document, || format!("Changed the password of {account}.\n"))
        }
        UserCommand::Remove { account } => {
            let mut target = Target::open(&config, IfMissing::Refuse)?;
            let document = target.run::<UserRemove>(user_remove::Arguments { jid: account.to_string() })?;
            output::print(global, &document, || format!("Removed {account} and all its data.\n"))
        }
        UserCommand::List { host } => list(global, &mut Target::open(&config, IfMissing::Refuse)?, host),
        UserCommand::Import { file, replace } => import::run(global, &config, &file, replace),
    }
}

/// Lists page by page, so that the first lines are there at once. JSON waits for all: it is one document.
fn list(global: &Global, target: &mut Target, host: String) -> Result<(), Failure> {
    let mut accounts: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        let page = target.run::<UserList>(user_list::Arguments { host: host.clone(), after, limit: None })?;
        let found = page["accounts"].as_array().map_or(&[][..], Vec::as_slice);
        if global.json {
            accounts.extend_from_slice(found);
        } else {
            output::write(&found.iter().filter_map(Value::as_str).map(|jid| format!("{jid}\n")).collect::<String>())?;
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if global.json {
        output::print(global, &json!({ "host": host, "accounts": accounts }), String::new)
    } else {
        Ok(())
    }
}
