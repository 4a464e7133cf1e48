//! jabberd2, from Debian: four processes around a router, and one SQLite database.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::CompareError;
use super::client::{contacts, user};
use super::place::{DOMAIN, PASSWORD, Place, write};
use super::process::{Interrupt, run};
use super::server::{Accounts, Server, find, package_version};

const ROUTER: &str = include_str!("../../../../bench/profiles/jabberd2/router.xml");
const USERS: &str = include_str!("../../../../bench/profiles/jabberd2/router-users.xml");
const SM: &str = include_str!("../../../../bench/profiles/jabberd2/sm.xml");
const S2S: &str = include_str!("../../../../bench/profiles/jabberd2/s2s.xml");
const C2S: &str = include_str!("../../../../bench/profiles/jabberd2/c2s.xml");

/// Debian's definition of the tables.
const SCHEMA: &str = "/usr/share/doc/jabberd2/db-setup.sqlite.gz";

/// See the profile for how it is set.
pub struct Jabberd2;

impl Server for Jabberd2 {
    fn name(&self) -> &'static str {
        "jabberd2"
    }

    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[("jabberd2-sm", "jabberd2"), ("sqlite3", "sqlite3")]
    }

    fn version(&self, interrupt: &Interrupt) -> Result<String, CompareError> {
        package_version("jabberd2", interrupt)
    }

    fn mechanism(&self) -> &'static str {
        "plain"
    }

    fn prepare(&self, place: &Place, accounts: Accounts, interrupt: &Interrupt) -> Result<(), CompareError> {
        let modules = modules()?.display().to_string();
        let [router_port, s2s_port] = place.inner_ports.map(|port| port.to_string());
        let more = [("modules", modules.as_str()), ("router_port", &router_port), ("s2s_port", &s2s_port)];
        for (file, profile) in
            [("router.xml", ROUTER), ("router-users.xml", USERS), ("sm.xml", SM), ("s2s.xml", S2S), ("c2s.xml", C2S)]
        {
            place.write_profile(file, profile, &more)?;
        }
        let schema = run(Command::new("gzip").args(["-dc", SCHEMA]), Duration::from_secs(30), interrupt)?;
        let sql = place.folder.join("accounts.sql");
        write(&sql, &(schema + &rows(accounts)))?;
        let mut database = Command::new("sqlite3");
        database.arg("-bail").arg(place.folder.join("sqlite.db")).arg(format!(".read '{}'", sql.display()));
        run(&mut database, Duration::from_secs(120), interrupt).map(drop)
    }

    fn commands(&self, place: &Place) -> Result<Vec<Command>, CompareError> {
        let command = |program: &str| {
            let path = find(&format!("jabberd2-{program}"))
                .ok_or_else(|| CompareError::Setup(format!("jabberd2-{program} is missing")))?;
            let mut command = Command::new(path);
            command.arg("-c").arg(place.folder.join(format!("{program}.xml")));
            Ok(command)
        };
        ["router", "sm", "s2s", "c2s"].into_iter().map(command).collect()
    }
}

/// The folder of its modules, whatever the machine.
fn modules() -> Result<PathBuf, CompareError> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders
        .map(|entry| entry.path().join("jabberd2"))
        .find(|folder| folder.is_dir())
        .ok_or_else(|| CompareError::Setup("jabberd2's modules are not below /usr/lib".to_owned()))
}

/// Accounts, sessions' permission to exist (`active`), rosters.
fn rows(accounts: Accounts) -> String {
    let mut sql = "BEGIN;\n".to_owned();
    for number in 1..=accounts.number {
        let name = user(number);
        sql += &format!(
            "INSERT INTO authreg (username, realm, password) VALUES ('{name}', '{DOMAIN}', '{PASSWORD}');\n\
             INSERT INTO active (\"collection-owner\", \"time\") VALUES ('{name}@{DOMAIN}', 1);\n"
        );
        for contact in contacts(number, accounts.number).filter(|_| accounts.contacts) {
            sql += &format!(
                "INSERT INTO \"roster-items\" (\"collection-owner\", \"jid\", \"to\", \"from\", \"ask\") \
                 VALUES ('{name}@{DOMAIN}', '{}@{DOMAIN}', 1, 1, 0);\n",
                user(contact)
            );
        }
    }
    sql + "COMMIT;\n"
}

#[cfg(test)]
mod tests {
    use super::super::server::Archive;
    use super::*;

    #[test]
    fn every_account_has_its_rows() {
        let sql = rows(Accounts { number: 22, contacts: true, archive: Archive::Off, rooms: false });
        assert_eq!(sql.matches("INTO authreg").count(), 22);
        assert_eq!(sql.matches("INTO active").count(), 22);
        assert_eq!(sql.matches("roster-items").count(), 21 * 20);
        assert!(
            !rows(Accounts { number: 22, contacts: false, archive: Archive::Off, rooms: false })
                .contains("roster-items")
        );
    }
}
