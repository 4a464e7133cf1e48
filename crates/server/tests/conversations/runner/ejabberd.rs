//! ejabberd of Debian, as a peer that conversations are held with: Erlang's virtual machine without distribution, so that no
//! port mapper is started, on a folder of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::connection::PASSWORD;
use super::perform::Addresses;
use super::script::Script;
use super::servers::{certificate, domain_of, write};
use super::xml::{CLIENT, Node};

/// Exists when the accounts are made: ejabberd listens before.
pub(super) const READY: &str = "ready";

/// What it writes by itself.
pub(super) const LOG: &str = "ejabberd.log";

/// Every stock module that has to do with what conversations are about, but those that count what they do as an attack
/// (`mod_fail2ban`, `mod_pres_counter`) and those that want a port. `mod_sic` and the like answer to namespaces that nobody asks about.
const MODULES: &str = "
  mod_adhoc: {}
  mod_announce: {access: admin}
  mod_avatar: {}
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_client_state: {}
  mod_configure: {}
  mod_disco: {server_info: [{modules: all, name: abuse-addresses, urls: ['mailto:abuse@shakespeare.example']}]}
  mod_last: {}
  mod_mam: {default: always, request_activates_archiving: false, clear_archive_on_room_destroy: true}
  mod_muc: {default_room_options: {mam: true, moderated: false, allow_change_subj: false}}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_private: {}
  mod_pubsub: {access_createnode: all, last_item_cache: false, plugins: [flat, pep], max_items_node: 1000}
  mod_push: {include_body: false, include_sender: false}
  mod_roster: {versioning: true}
  mod_stream_mgmt: {resend_on_timeout: if_offline}
  mod_time: {}
  mod_vcard: {search: false}
  mod_vcard_xupdate: {}
  mod_version: {show_os: false}
";

/// What it sends to sessions that have not asked for it, so that it counts only where a conversation expects it: pushes of the
/// roster, of what is blocked and of privacy lists; what happens at nodes of the session's own account, to which their owner is subscribed;
/// the presence of rooms themselves, with their capabilities.
pub(super) fn says_unasked(node: &Node) -> bool {
    if node.is(CLIENT, "iq") {
        let blocking = "urn:xmpp:blocking";
        let pushes =
            [("jabber:iq:roster", "query"), ("jabber:iq:privacy", "query"), (blocking, "block"), (blocking, "unblock")];
        return node.attr("type") == Some("set") && pushes.iter().any(|(ns, name)| node.child(ns, name).is_some());
    }
    let is_bare = node.attr("from").is_some_and(|from| !from.contains('/'));
    if node.is(CLIENT, "presence") {
        return is_bare && node.attr("type").is_none() && node.child("http://jabber.org/protocol/caps", "c").is_some();
    }
    node.is(CLIENT, "message")
        && is_bare
        && node.attr("from") == node.attr("to").and_then(|to| to.split('/').next())
        && node.child("http://jabber.org/protocol/pubsub#event", "event").is_some()
}

pub(super) fn prepare(
    folder: &Path,
    addresses: Addresses,
    scripts: &[&Script],
    settings: &BTreeMap<String, String>,
) -> Result<Command, String> {
    let (certificate, key) = certificate()?;
    let pem = folder.join("server.pem");
    write(&pem, &format!("{certificate}{key}"))?;
    let config = folder.join("ejabberd.yml");
    write(&config, &configuration(&pem, addresses, scripts, settings))?;
    let accounts = folder.join("accounts");
    write(&accounts, &accounts_of(scripts))?;
    let register = format!(
        "{{ok, All}} = file:consult({accounts:?}), \
         [ejabberd_auth:try_register(User, Host, <<\"{PASSWORD}\">>) || {{User, Host}} <- All], \
         ok = file:write_file({READY:?}, <<>>)."
    );
    let mut command = Command::new("erl");
    command
        // No busy waiting, no terminal.
        .args(["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "-noinput", "-mnesia", "dir"])
        .arg(format!("{:?}", folder.join("mnesia")))
        .args(["-s", "ejabberd", "-eval", &register])
        .current_dir(folder)
        .env("ERL_LIBS", libraries()?)
        .env("EJABBERD_CONFIG_PATH", &config)
        .env("EJABBERD_LOG_PATH", folder.join(LOG))
        .env("ERL_CRASH_DUMP", folder.join("crash.dump"))
        .env("HOME", folder);
    Ok(command)
}

fn configuration(pem: &Path, addresses: Addresses, scripts: &[&Script], settings: &BTreeMap<String, String>) -> String {
    let admins = settings.get("admins").map_or("[]", String::as_str);
    let may_register =
        if settings.get("registration.open").is_some_and(|value| value == "true") { "all" } else { "none" };
    let hosts: Vec<String> = scripts.iter().map(|script| format!("{:?}", domain_of(script))).collect();
    let mut config = format!(
        "hosts: [{hosts}]
loglevel: error
acme: {{auto: false}}
certfiles: [{pem:?}]
listen:
  - {{port: {port}, ip: 127.0.0.1, module: ejabberd_c2s, starttls: true}}
  - {{port: {direct_port}, ip: 127.0.0.1, module: ejabberd_c2s, tls: true}}
auth_method: [internal]
auth_password_format: plain
default_db: mnesia
default_ram_db: mnesia
registration_timeout: infinity
acl:
  local: {{user_regexp: ''}}
  admin: {{user: {admins}}}
access_rules:
  admin: {{allow: admin}}
  announce: {{allow: admin}}
  configure: {{allow: admin}}
shaper_rules:
  max_user_sessions: 100
  max_user_offline_messages: 1000
modules:{MODULES}  mod_register: {{access: {may_register}, welcome_message: {{}}}}
append_host_config:
",
        hosts = hosts.join(", "),
        port = addresses.starttls.port(),
        direct_port = addresses.direct_tls.port(),
    );
    for script in scripts {
        let modules: String = script.ejabberd_modules.iter().fold(String::new(), |mut all, module| {
            let _ = write!(all, "{module}, ");
            all
        });
        let _ = writeln!(config, "  {:?}: {{modules: {{{}}}}}", domain_of(script), modules.trim_end_matches(", "));
    }
    config
}

/// Terms that `file:consult` reads.
fn accounts_of(scripts: &[&Script]) -> String {
    let mut accounts = String::new();
    for script in scripts {
        for local in &script.accounts {
            let _ = writeln!(accounts, "{{<<{local:?}/utf8>>, <<{:?}/utf8>>}}.", domain_of(script));
        }
    }
    accounts
}

/// The folder in which Debian has ejabberd's modules, whatever the machine.
fn libraries() -> Result<PathBuf, String> {
    let has_it = |folder: &PathBuf| {
        let inside = fs::read_dir(folder).into_iter().flatten().flatten();
        inside.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("ejabberd-"))
    };
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .filter(|folder| folder.is_dir())
        .find(has_it)
        .ok_or_else(|| "ejabberd's modules are not below /usr/lib".to_owned())
}
