//! `status`: what is served, for how many, and whether a server runs.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Command, Context, Operation, OperationError, Shown};

/// Says how the server is.
pub struct Status;

/// Nothing.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {}

impl Operation for Status {
    const NAME: &'static str = "status";
    const DOC: &'static str =
        "Says whether the server runs, what it serves, and how many accounts and sessions there are.";
    const COMMANDS: &'static [Command] = &[Command::new("magpie#status", "Status of the server", "").showing(&[
        Shown::new("version", "version", FieldType::TextSingle, "Version"),
        Shown::new("uptime_seconds", "uptime_seconds", FieldType::TextSingle, "Seconds since the start"),
        Shown::new("domains", "domains", FieldType::TextMulti, "Domains"),
        Shown::new("listen", "listen", FieldType::TextMulti, "Addresses"),
        Shown::new("sessions", "sessions", FieldType::TextSingle, "Sessions"),
    ])];
    type Arguments = Arguments;

    async fn run(context: &Context, _: Arguments) -> Result<Value, OperationError> {
        let config = context.config();
        let mut domains = Vec::new();
        for domain in &config.domains {
            domains.push(json!({ "domain": domain, "accounts": context.accounts.count(domain).await? }));
        }
        let mut status = json!({
            "running": context.process.is_some(),
            "version": env!("CARGO_PKG_VERSION"),
            "data": config.data,
            "domains": domains,
            "auth": { "hashes": config.auth.hashes, "iterations": config.auth.iterations },
        });
        if let Some(process) = &context.process {
            status["pid"] = std::process::id().into();
            status["uptime_seconds"] = process.uptime_seconds().into();
        }
        if let Some(sessions) = &context.sessions {
            status["sessions"] = sessions.count().into();
            let addresses = sessions.addresses().into_iter();
            status["listen"] =
                addresses.map(|(kind, address)| json!({ "kind": kind, "address": address })).collect::<Value>();
        }
        Ok(status)
    }
}
