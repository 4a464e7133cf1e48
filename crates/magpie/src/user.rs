//! `magpie user …`: accounts.

use magpie_server::admin::{
    DomainShow, UserAdd, UserDisable, UserEnable, UserList, UserPasswd, UserRemove, UserRetention, UserRoster,
    UserShow, domain_show, user_add, user_disable, user_enable, user_list, user_passwd, user_remove, user_retention,
    user_roster, user_show,
};
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
        UserCommand::Disable { account } => {
            let mut target = Target::open(&config, IfMissing::Refuse)?;
            let document = target.run::<UserDisable>(user_disable::Arguments { jid: account.to_string() })?;
            output::print(global, &document, || format!("Disabled {account}.\n"))
        }
        UserCommand::Enable { account } => {
            let mut target = Target::open(&config, IfMissing::Refuse)?;
            let document = target.run::<UserEnable>(user_enable::Arguments { jid: account.to_string() })?;
            output::print(global, &document, || format!("Enabled {account}.\n"))
        }
        UserCommand::Retention { account, days } => {
            let mut target = Target::open(&config, IfMissing::Refuse)?;
            let arguments = user_retention::Arguments { jid: account.to_string(), days };
            let document = target.run::<UserRetention>(arguments)?;
            output::print(global, &document, || match document["days"].as_u64() {
                Some(days) => format!("Messages of {account} are forgotten after {days} days.\n"),
                None => format!("Messages of {account} are never forgotten.\n"),
            })
        }
        UserCommand::Show { account } => {
            let mut target = Target::open(&config, IfMissing::Refuse)?;
            let document = target.run::<UserShow>(user_show::Arguments { jid: account.to_string() })?;
            output::print(global, &document, || shown(&document))
        }
        UserCommand::Roster { account } => {
            let mut target = Target::open(&config, IfMissing::Refuse)?;
            let document = target.run::<UserRoster>(user_roster::Arguments { jid: account.to_string() })?;
            output::print(global, &document, || contacts(&document))
        }
        UserCommand::List { host, disabled } => {
            list(global, &mut Target::open(&config, IfMissing::Refuse)?, host, disabled)
        }
        UserCommand::Import { file, replace } => import::run(global, &config, &file, replace),
    }
}

/// Lists page by page, so that the first lines are there at once. JSON waits for all: it is one document.
fn list(global: &Global, target: &mut Target, host: String, disabled: bool) -> Result<(), Failure> {
    let mut accounts: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        let page = target.run::<UserList>(user_list::Arguments { host: host.clone(), after, limit: None, disabled })?;
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

/// Each thing on a line.
fn shown(document: &Value) -> String {
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| document[key].as_u64().unwrap_or_default();
    let state = match (document["disabled"] == true, document["online"] == true) {
        (true, _) => "disabled",
        (_, true) => "online",
        _ => "offline",
    };
    let mut lines = format!("{}, {state}\n", text("jid"));
    lines += &format!("  contacts  {}\n  waiting   {}\n", number("roster_items"), number("offline_messages"));
    if !text("last_seen").is_empty() {
        lines += &format!("  seen      {}\n", text("last_seen"));
    }
    for resource in document["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines += &format!("  session   {resource}\n");
    }
    lines
}

/// A contact a line: address, subscription, name.
fn contacts(document: &Value) -> String {
    let line = |item: &Value| {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("jid"), text("subscription"), text("name")).trim_end().to_owned() + "\n"
    };
    document["items"].as_array().into_iter().flatten().map(line).collect()
}

pub(crate) fn domain(global: &Global, host: Option<String>) -> Result<(), Failure> {
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    let document = target.run::<DomainShow>(domain_show::Arguments { host })?;
    output::print(global, &document, || {
        let number = |key: &str| document[key].as_u64().unwrap_or_default();
        format!(
            "{}\n  accounts  {}\n  disabled  {}\n  online    {}\n  sessions  {}{}\n",
            document["host"].as_str().unwrap_or_default(),
            number("accounts"),
            number("disabled"),
            number("online"),
            number("sessions"),
            match number("detached") {
                0 => String::new(),
                detached => format!(", of which {detached} without a connection may be resumed"),
            },
        )
    })
}
