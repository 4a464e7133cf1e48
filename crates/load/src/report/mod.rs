//! What runs say, for people: tables, plots, a page, progress, and the verdict on the goals.

pub mod goals;
pub mod html;
pub mod plots;
pub mod progress;
pub mod table;
pub mod units;

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::result::Run;

/// `magpie-load report`: results as a page and as a table.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Results: what `--json` wrote, one run, a list of runs, or a run a line; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the page goes; it needs no other file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Where the plots go, each as an SVG file
    #[arg(long, value_name = "FOLDER")]
    pub plots: Option<PathBuf>,
    /// The title of the page
    #[arg(long, value_name = "TEXT", default_value = "XMPP servers under load")]
    pub title: String,
    /// Says for each of Magpie's goals whether it is reached
    #[arg(long)]
    pub goals: bool,
    /// Tables as Markdown
    #[arg(long)]
    pub markdown: bool,
}

/// Reads the files, writes the page and prints the table. The error says which file is wrong and how.
pub fn run(args: &Args) -> Result<(), String> {
    let mut runs = Vec::new();
    for file in &args.files {
        runs.extend(read(file)?);
    }
    let table = table::runs(&runs);
    let mut text = if args.markdown { table.markdown() } else { table.text() };
    if args.goals {
        let goals = table::goals(&goals::judge(&runs));
        text += "\n";
        text += &if args.markdown { goals.markdown() } else { goals.text() };
    }
    print!("{text}");
    let page = html::Page { title: &args.title, runs: &runs, goals: args.goals, machine: html::Machine::this() };
    if let Some(file) = &args.html {
        let page = page.render().map_err(|error| error.to_string())?;
        std::fs::write(file, page).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for (name, svg) in page.plots().map_err(|error| error.to_string())? {
            let file = folder.join(name + ".svg");
            std::fs::write(&file, svg).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

/// The runs of a file: one, a list of them, or one a line.
pub fn read(file: &Path) -> Result<Vec<Run>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(|error| wrong(&error))?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    }
    parse(&text).map_err(|error| wrong(&error))
}

fn parse(text: &str) -> Result<Vec<Run>, serde_json::Error> {
    // By its first sign, so that the error is the one of what was meant.
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::Deserializer::from_str(text).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
