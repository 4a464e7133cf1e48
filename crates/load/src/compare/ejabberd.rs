//! ejabberd, from Debian: Erlang's virtual machine without distribution, so that no port mapper is started.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::CompareError;
use super::client::CONTACTS;
use super::place::{DOMAIN, PASSWORD, Place, write};
use super::process::{Interrupt, run};
use super::server::{ARCHIVES, Accounts, Archive, Server, package_version};

const PROFILE: &str = include_str!("../../../../bench/profiles/ejabberd/ejabberd.yml");
const ARGUMENTS: &str = include_str!("../../../../bench/profiles/ejabberd/vm.args");

/// Its tables in SQLite. Of its two ways to keep an archive without a server of its own, Mnesia takes more messages a second, and
/// SQLite gives more pages (a hundred times): each row has the better one.
const SCHEMA: &str = "/usr/share/ejabberd/sql/lite.sql";

/// Rooms, in the rows about them. Its defaults hold back none who speaks or enters, and keep no more than 200 occupants. Of one
/// with more than 1 000 it shows no presence any more, which is left as it is.
const ROOMS: &str = "mod_muc:
    max_users: 20000
    min_message_interval: 0
    min_presence_interval: 0
    room_shaper: none
    user_message_shaper: none
    user_presence_shaper: none
    default_room_options:
      max_users: 20000";

/// See the profile for how it is set.
pub struct Ejabberd;

impl Server for Ejabberd {
    fn name(&self) -> &'static str {
        "ejabberd"
    }

    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[("ejabberdctl", "ejabberd"), ("erl", "erlang-base"), ("sqlite3", "sqlite3"), ("", "erlang-p1-sqlite3")]
    }

    fn version(&self, interrupt: &Interrupt) -> Result<String, CompareError> {
        package_version("ejabberd", interrupt)
    }

    fn prepare(&self, place: &Place, accounts: Accounts, interrupt: &Interrupt) -> Result<(), CompareError> {
        let database = place.folder.join("archive.db");
        let archive = match accounts.archive {
            Archive::Off => String::new(),
            Archive::On => "mod_mam:\n    default: always\n    db_type: mnesia".to_owned(),
            Archive::Filled(_) => format!(
                "mod_mam:\n    default: always\n    db_type: sql\nsql_type: sqlite\nsql_database: \"{}\"",
                database.display()
            ),
        };
        let rooms = match (accounts.rooms, accounts.archive) {
            (false, _) => String::new(),
            (true, Archive::Off) => ROOMS.to_owned(),
            (true, _) => format!("{ROOMS}\n      mam: true"),
        };
        place.write_profile("ejabberd.yml", PROFILE, &[("archive", &archive), ("rooms", &rooms)])?;
        if let Archive::Filled(each) = accounts.archive {
            let sql = place.folder.join("archive.sql");
            write(&sql, &format!(".read {SCHEMA}\n{}", archived(each)))?;
            let mut command = Command::new("sqlite3");
            command.arg("-bail").arg(&database).arg(format!(".read '{}'", sql.display()));
            run(&mut command, Duration::from_secs(300), interrupt)?;
        }
        place.write_profile("vm.args", ARGUMENTS, &[])?;
        let mut command = erlang(place)?;
        command.args(["-eval", &import(accounts)]);
        run(&mut command, Duration::from_secs(300), interrupt).map(drop)
    }

    fn fills_archives(&self) -> bool {
        true
    }

    fn commands(&self, place: &Place) -> Result<Vec<Command>, CompareError> {
        Ok(vec![erlang(place)?])
    }
}

fn erlang(place: &Place) -> Result<Command, CompareError> {
    let mut command = Command::new("erl");
    command
        .arg("-args_file")
        .arg(place.folder.join("vm.args"))
        .args(["-mnesia", "dir"])
        .arg(format!("\"{}\"", place.folder.join("mnesia").display()))
        .args(["-s", "ejabberd"])
        .current_dir(&place.folder)
        .env("ERL_LIBS", libraries()?)
        .env("EJABBERD_CONFIG_PATH", place.folder.join("ejabberd.yml"))
        .env("EJABBERD_LOG_PATH", place.folder.join("ejabberd.log"))
        .env("ERL_CRASH_DUMP", place.folder.join("crash.dump"))
        .env("HOME", &place.folder);
    Ok(command)
}

/// So many messages in each archive, as it writes them itself: of pairs, between whom they go to and fro.
fn archived(each: u32) -> String {
    format!(
        "BEGIN;\n\
         WITH RECURSIVE \
         users (who) AS (SELECT 1 UNION ALL SELECT who + 1 FROM users WHERE who < {ARCHIVES}), \
         numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {each}), \
         texts (body) AS (SELECT replace(hex(zeroblob(27)), '00', 'text')) \
         INSERT INTO archive (username, timestamp, peer, bare_peer, xml, txt, kind, nick) \
         SELECT 'user' || who, 1700000000000000 + number * 1000000 + who, \
         'user' || other || '@{DOMAIN}/load', 'user' || other || '@{DOMAIN}', \
         '<message xml:lang=''en'' to=''user' || other || '@{DOMAIN}/load'' from=''user' || who || '@{DOMAIN}/load'' \
         type=''chat'' id=''' || number || ''' xmlns=''jabber:client''><body>' || body || '</body></message>', body, 'chat', '' \
         FROM (SELECT who, who + 2 * (who % 2) - 1 AS other FROM users), numbers, texts ORDER BY number, who;\n\
         COMMIT;\n"
    )
}

/// The folder in which Debian has ejabberd's modules, whatever the machine.
fn libraries() -> Result<PathBuf, CompareError> {
    let has_it = |folder: &PathBuf| {
        let inside = fs::read_dir(folder).into_iter().flatten().flatten();
        inside.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("ejabberd-"))
    };
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .filter(|folder| folder.is_dir())
        .find(has_it)
        .ok_or_else(|| CompareError::Setup("ejabberd's modules are not below /usr/lib".to_owned()))
}

/// Erlang that registers the first account as ejabberd does it and copies its keys to the others, past the derivation of
/// keys for each, and writes rosters; then it stops the machine, which writes everything to disk.
fn import(accounts: Accounts) -> String {
    let Accounts { number, contacts, .. } = accounts;
    let size = CONTACTS + 1;
    let grouped = if contacts { number / size * size } else { 0 };
    format!(
        "H = <<\"{DOMAIN}\">>, U = fun(I) -> <<\"user\", (integer_to_binary(I))/binary>> end, \
         ok = ejabberd_auth:try_register(U(1), H, <<\"{PASSWORD}\">>), \
         [P] = mnesia:dirty_read(passwd, {{U(1), H}}), \
         [ok = mnesia:dirty_write(setelement(2, P, {{U(I), H}})) || I <- lists:seq(2, {number})], \
         [ok = mnesia:dirty_write({{roster, {{U(I), H, {{U(J), H, <<>>}}}}, {{U(I), H}}, {{U(J), H, <<>>}}, \
         <<>>, both, none, [], <<>>, []}}) \
         || I <- lists:seq(1, {grouped}), \
         J <- lists:seq((I - 1) div {size} * {size} + 1, (I - 1) div {size} * {size} + {size}), I =/= J], \
         mnesia:dump_log(), init:stop()."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosters_are_written_for_full_groups_alone() {
        assert!(
            import(Accounts { number: 45, contacts: true, archive: Archive::Off, rooms: false })
                .contains("lists:seq(1, 42), J")
        );
        assert!(
            import(Accounts { number: 45, contacts: false, archive: Archive::Off, rooms: false })
                .contains("lists:seq(1, 0), J")
        );
    }
}
