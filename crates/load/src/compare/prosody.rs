//! Prosody, from Debian: one process, files in a folder.

use std::fs;
use std::process::Command;

use aws_lc_rs::{digest, hmac, pbkdf2};

use super::CompareError;
use super::client::{contacts, user};
use super::place::{DOMAIN, PASSWORD, Place, write};
use super::process::Interrupt;
use super::server::{Accounts, Archive, Server, package_version};

const PROFILE: &str = include_str!("../../../../bench/profiles/prosody/prosody.cfg.lua");

/// Rounds of PBKDF2, the same for all servers.
const ITERATIONS: u32 = 4096;

/// Rooms, in the rows about them: what is destroyed leaves nothing behind.
const ROOMS: &str = "Component \"conference.localhost\" \"muc\"\n  muc_tombstones = false";

/// See the profile for how it is set.
pub struct Prosody;

impl Server for Prosody {
    fn name(&self) -> &'static str {
        "Prosody"
    }

    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[("prosody", "prosody")]
    }

    fn version(&self, interrupt: &Interrupt) -> Result<String, CompareError> {
        package_version("prosody", interrupt)
    }

    fn prepare(&self, place: &Place, accounts: Accounts, _interrupt: &Interrupt) -> Result<(), CompareError> {
        let archive = if accounts.archive == Archive::Off { "" } else { "\"mam\";" };
        let rooms = match (accounts.rooms, accounts.archive) {
            (false, _) => String::new(),
            (true, Archive::Off) => ROOMS.to_owned(),
            (true, _) => format!("{ROOMS}\n  modules_enabled = {{ \"muc_mam\" }}\n  muc_log_expires_after = \"never\""),
        };
        place.write_profile("prosody.cfg.lua", PROFILE, &[("archive", archive), ("rooms", &rooms)])?;
        let data = place.folder.join("data").join(DOMAIN);
        let (keys, rosters) = (data.join("accounts"), data.join("roster"));
        for folder in [&keys, &rosters] {
            fs::create_dir_all(folder).map_err(CompareError::file(folder))?;
        }
        let account = account();
        for number in 1..=accounts.number {
            let file = format!("{}.dat", user(number));
            write(&keys.join(&file), &account)?;
            if accounts.contacts {
                write(&rosters.join(&file), &roster(number, accounts.number))?;
            }
        }
        Ok(())
    }

    fn commands(&self, place: &Place) -> Result<Vec<Command>, CompareError> {
        let mut command = Command::new("prosody");
        command.arg("--config").arg(place.folder.join("prosody.cfg.lua")).arg("-F");
        Ok(vec![command])
    }
}

/// The keys of the one password, as `mod_auth_internal_hashed` keeps them.
fn account() -> String {
    let salt = "00112233445566778899";
    let mut salted = [0; 20];
    let rounds = std::num::NonZeroU32::new(ITERATIONS).expect("it is not zero");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, rounds, salt.as_bytes(), PASSWORD.as_bytes(), &mut salted);
    let salted = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salted);
    let stored = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::sign(&salted, b"Client Key").as_ref());
    let server = hmac::sign(&salted, b"Server Key");
    format!(
        "return {{\n\t[\"iteration_count\"] = {ITERATIONS};\n\t[\"salt\"] = \"{salt}\";\n\
         \t[\"server_key\"] = \"{}\";\n\t[\"stored_key\"] = \"{}\";\n}};\n",
        hexadecimal(server.as_ref()),
        hexadecimal(stored.as_ref())
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn roster(number: u32, accounts: u32) -> String {
    let mut text = "return {\n\t[false] = { [\"version\"] = 1; [\"pending\"] = {}; };\n".to_owned();
    for contact in contacts(number, accounts) {
        text += &format!(
            "\t[\"{}@{DOMAIN}\"] = {{ [\"subscription\"] = \"both\"; [\"groups\"] = {{}}; }};\n",
            user(contact)
        );
    }
    text + "};\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roster_file_names_the_contacts_and_nobody_else() {
        let text = roster(1, 21);
        assert_eq!(text.matches("\"both\"").count(), 20);
        assert!(text.contains("[\"user21@localhost\"]") && !text.contains("[\"user1@localhost\"]"));
    }

    #[test]
    fn keys_are_hexadecimal_and_of_the_length_of_sha1() {
        let text = account();
        let key = |name: &str| text.split(&format!("[\"{name}\"] = \"")).nth(1).and_then(|rest| rest.split('"').next());
        for name in ["stored_key", "server_key"] {
            assert!(key(name).is_some_and(|key| key.len() == 40 && key.bytes().all(|byte| byte.is_ascii_hexdigit())));
        }
        assert_ne!(key("stored_key"), key("server_key"));
    }
}
