//! What a command prints on standard output: text for people, or one JSON document.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::Global;
use crate::failure::Failure;

/// Prints the document, or the text where no JSON is wanted.
pub(crate) fn print(global: &Global, document: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if global.json { write(&format!("{document:#}\n")) } else { write(&text()) }
}

/// Writes to standard output. Nobody reading any more (`magpie user list … | head`) is no failure.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// `1 account`, `2 accounts`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
