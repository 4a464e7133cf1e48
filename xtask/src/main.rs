//! What the project does to itself: `cargo xtask test` is what CI runs, and its parts can be run alone.

mod instructions;
mod needs;
mod parts;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

const USAGE: &str = "\
cargo xtask test [--only PART]…   everything that must hold, with a summary
cargo xtask conversations [--against prosody|ejabberd] [--excused] [--list] [NAME…]
cargo xtask clients [--against prosody] [NAME…]
cargo xtask migration             from Prosody to Magpie by a file of XEP-0227
cargo xtask kill [--against prosody] [--rounds N] [--seed N]
cargo xtask kill-rooms [--rounds N] [--seed N]
cargo xtask fuzz [TARGET]… [--seconds 60] [--seed N]
cargo xtask bench-terms           Erlang's terms beside OTP, their service beside Erlang's httpd
cargo xtask instructions SCENARIO what an operation costs the server, function by function
cargo xtask tidy                  what the compiler does not check: arrows, names, licences
cargo xtask generate              docs/xeps.md, docs/doap.xml and docs/configuration.toml from the code
cargo xtask deny                  cargo-deny, where it is installed";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match words.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &[][..]),
    };
    let outcome = Workspace::find().and_then(|workspace| match command {
        "test" => parts::test(&workspace, rest),
        "conversations" => parts::conversations(&workspace, rest),
        "clients" => parts::clients(&workspace, rest),
        "migration" => parts::migration(&workspace),
        "kill" => parts::kill(&workspace, rest),
        "kill-rooms" => parts::kill_rooms(&workspace, rest),
        "fuzz" => parts::fuzz(&workspace, rest),
        "bench-terms" => parts::bench_terms(&workspace, rest),
        "instructions" => instructions::instructions(&workspace, rest),
        "tidy" => tidy::tidy(&workspace),
        "generate" => generate(&workspace),
        "deny" => deny(&workspace),
        _ => Err(USAGE.to_owned()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Where the summary has said it all there is nothing more to say.
            if !why.is_empty() {
                eprintln!("{why}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Where the checkout and its build are, and what cargo knows of them.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
    metadata: Value,
}

impl Workspace {
    fn find() -> Result<Self, String> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().ok_or("xtask lies in no workspace")?.to_owned();
        let output = Command::new(cargo())
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(&root)
            .output()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
        let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target folder")?.into();
        Ok(Self { root, target, metadata })
    }

    /// The program that `cargo build -p magpie` makes, or `MAGPIE_BIN`.
    fn magpie(&self) -> PathBuf {
        std::env::var_os("MAGPIE_BIN").map_or_else(|| self.target.join("debug/magpie"), PathBuf::from)
    }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The tests that compare these files with the code write them where they are told to.
fn generate(workspace: &Workspace) -> Result<(), String> {
    let mut command = Command::new(cargo());
    command.args(["test", "--quiet", "--package", "magpie-server", "--package", "magpie", "the_generated_file"]);
    let status = command.env("MAGPIE_GENERATE", "1").current_dir(&workspace.root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn deny(workspace: &Workspace) -> Result<(), String> {
    let installed = Command::new(cargo()).args(["deny", "--version"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        return Err("cargo-deny is not installed: cargo install --locked cargo-deny".into());
    }
    parts::run(Command::new(cargo()).args(["deny", "check"]).current_dir(&workspace.root))
}
