//! A test that is its own child, to be killed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts the test of this name once more, with a folder in a variable by which it knows that it is the child.
pub(crate) fn again(name: &str, folder: impl AsRef<OsStr>, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(folder, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}
