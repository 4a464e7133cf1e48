//! `magpie-load`: the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    magpie_load::cli::main()
}
