//! Where a password comes from: an option, standard input, or the terminal.

use std::io::{BufRead, IsTerminal, Read};

use crate::cli::Password;
use crate::failure::Failure;

/// A longer line is no password (RFC 8265 sets no limit, the store does: 1023 bytes).
const LINE_BYTES_MAX: u64 = 4096;

/// Gets the password for `account`.
pub(crate) fn read(from: Password, account: &str) -> Result<String, Failure> {
    if let Some(password) = from.password {
        return Ok(password);
    }
    if from.password_stdin {
        let mut line = String::new();
        let mut input = std::io::stdin().lock().take(LINE_BYTES_MAX);
        input
            .read_line(&mut line)
            .map_err(|error| Failure::new(format!("cannot read the password from standard input: {error}")))?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal on which to ask for the password")
            .help("give --password-stdin and write the password to standard input, or give --password P"));
    }
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map_err(|error| Failure::new(format!("cannot ask for the password: {error}")))
    };
    let password = ask(format!("Password for {account}: "))?;
    if ask("Again: ".to_owned())? != password {
        return Err(Failure::new("the two passwords differ").help("try again"));
    }
    Ok(password)
}
