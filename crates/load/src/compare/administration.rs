//! Accounts of Magpie through its administration socket: one line of JSON a request, one a response.
//!
//! All accounts have the same keys, as those of the other servers do: a client derives them once, however many accounts log in.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use magpie_proto::sasl::{Credentials, ScramPolicy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::CompareError;
use super::client::user;
use super::place::{DOMAIN, PASSWORD};
use super::process::Interrupt;

/// Accounts of one request; the server takes no more.
const ROWS_MAX: u32 = 1000;

/// A response that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of all keys of all accounts.
const SALT: [u8; 16] = *b"0011223344556677";

/// A connection to the socket.
pub(super) struct Administration(BufReader<UnixStream>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Response {
    Ok(Value),
    Error(Value),
}

impl Administration {
    /// Of the server that runs on this data folder.
    pub(super) fn connect(data: &Path) -> io::Result<Self> {
        // The address of a socket is short, paths need not be.
        let folder = File::open(data)?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/magpie.sock", folder.as_raw_fd()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Makes accounts 1 to `number`, none of which may be there.
    pub(super) fn make_accounts(&mut self, number: u32, interrupt: &Interrupt) -> Result<(), CompareError> {
        let credentials = credentials()?;
        let mut next = 1;
        while next <= number {
            interrupt.check()?;
            let until = number.min(next + ROWS_MAX - 1);
            let row = |number| json!({ "jid": format!("{}@{DOMAIN}", user(number)), "credentials": credentials });
            let rows: Vec<Value> = (next..=until).map(row).collect();
            let answer = self.ask("user_import_batch", &json!({ "rows": rows }))?;
            let outcomes = answer["outcomes"].as_array().map_or(&[][..], Vec::as_slice);
            if outcomes.len() != rows.len() || outcomes.iter().any(|outcome| outcome != "created") {
                return Err(CompareError::Setup(format!("accounts could not be made: {answer}")));
            }
            next = until + 1;
        }
        Ok(())
    }

    fn ask(&mut self, operation: &str, arguments: &Value) -> Result<Value, CompareError> {
        let failed = |error: &dyn std::fmt::Display| CompareError::Setup(format!("administration: {error}"));
        let request = json!({ "operation": operation, "arguments": arguments }).to_string() + "\n";
        self.0.get_mut().write_all(request.as_bytes()).map_err(|error| failed(&error))?;
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(|error| failed(&error))?;
        match serde_json::from_str(&line).map_err(|error| failed(&error))? {
            Response::Ok(answer) => Ok(answer),
            Response::Error(error) => Err(failed(&error)),
        }
    }
}

/// The keys of the one password for all hashes that an account has by default, in base64.
fn credentials() -> Result<String, CompareError> {
    let credentials = Credentials::derive(PASSWORD, &ScramPolicy::default(), || SALT);
    let credentials = credentials.map_err(|error| CompareError::Setup(error.to_string()))?;
    Ok(BASE64_STANDARD.encode(credentials.encode()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers requests with what `answer` makes of their rows.
    fn server(data: &Path, answer: impl Fn(&[Value]) -> Value + Send + 'static) -> thread::JoinHandle<Vec<Value>> {
        let listener = UnixListener::bind(data.join("magpie.sock")).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut all = Vec::new();
            for line in lines {
                let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
                assert_eq!(request["operation"], "user_import_batch");
                let rows = request["arguments"]["rows"].as_array().unwrap();
                writeln!(stream, "{}", answer(rows)).unwrap();
                all.extend(rows.iter().cloned());
            }
            all
        })
    }

    #[test]
    fn accounts_are_made_a_thousand_at_a_time_all_with_the_same_keys() {
        let data = tempfile::tempdir().unwrap();
        let server = server(data.path(), |rows| {
            assert!(rows.len() <= 1000);
            json!({ "ok": { "outcomes": vec!["created"; rows.len()] } })
        });
        let mut administration = Administration::connect(data.path()).unwrap();
        administration.make_accounts(2_001, &Interrupt::default()).unwrap();
        drop(administration);
        let rows = server.join().unwrap();
        assert_eq!(rows.len(), 2_001);
        assert_eq!((&rows[0]["jid"], &rows[2_000]["jid"]), (&"user1@localhost".into(), &"user2001@localhost".into()));
        assert!(rows.iter().all(|row| row["credentials"] == rows[0]["credentials"]));
        let bytes = BASE64_STANDARD.decode(rows[0]["credentials"].as_str().unwrap()).unwrap();
        let credentials = Credentials::decode(&bytes).unwrap();
        assert_eq!(credentials.keys.len(), 3);
        assert!(credentials.keys.iter().all(|keys| keys.check_password(PASSWORD)));
    }

    #[test]
    fn an_account_that_is_there_already_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        let _server = server(data.path(), |_| json!({ "ok": { "outcomes": ["created", "exists"] } }));
        let mut administration = Administration::connect(data.path()).unwrap();
        let error = administration.make_accounts(2, &Interrupt::default()).unwrap_err().to_string();
        assert!(error.contains("exists"), "{error}");
    }

    #[test]
    fn what_the_server_refuses_is_told() {
        let data = tempfile::tempdir().unwrap();
        let _server = server(data.path(), |_| json!({ "error": { "kind": "invalid", "message": "too many" } }));
        let mut administration = Administration::connect(data.path()).unwrap();
        let error = administration.make_accounts(2, &Interrupt::default()).unwrap_err().to_string();
        assert!(error.contains("too many"), "{error}");
    }
}
