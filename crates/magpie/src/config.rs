//! `magpie.toml`: read into the configuration's types, with each error pointed at in the file.

mod check;

use std::fs;
use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magpie_server::config::Config;
use magpie_server::listen::certificates::{self, CertificateError};
use miette::{GraphicalReportHandler, GraphicalTheme, NamedSource, SourceSpan};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::Failure;
use crate::output;

/// The file that is read where none is named.
const FILE: &str = "magpie.toml";

/// The configuration of a command: the file, then what the command line puts in its place.
pub(crate) fn load(global: &Global, domains: &[String]) -> Result<Config, Failure> {
    let mut config = match source(global.config.as_deref()) {
        Some(file) => read(&file)?,
        None => Config::default(),
    };
    if let Some(data) = &global.data {
        config.data.clone_from(data);
    }
    if !domains.is_empty() {
        config.domains = domains.to_vec();
    }
    // What the command line changed may no longer fit the rest, as a certificate of a domain that is not served.
    config.prepared().map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::new(errors.join("; ")).kind("config").help("with these options the configuration makes no sense")
    })
}

/// As [`load`], and the files that a server needs can be read.
pub(crate) fn load_for_server(global: &Global, domains: &[String]) -> Result<Config, Failure> {
    let config = load(global, domains)?;
    usable(global, unusable_certificates(&config).into_iter().chain(unusable_terms(&config)))?;
    Ok(config)
}

/// As [`load`], and terms can be served.
pub(crate) fn load_for_terms(global: &Global) -> Result<Config, Failure> {
    let config = load(global, &[])?;
    usable(global, unusable_terms(&config))?;
    Ok(config)
}

fn usable(global: &Global, problems: impl Iterator<Item = Unusable>) -> Result<(), Failure> {
    let problems: Vec<Unusable> = problems.collect();
    if problems.is_empty() {
        return Ok(());
    }
    let file = source(global.config.as_deref()).unwrap_or_else(|| FILE.into());
    let text = fs::read_to_string(&file).unwrap_or_default();
    Err(failure(&file, &text, check::located(&text, problems)))
}

/// `magpie config check`
pub(crate) fn check(global: &Global, file: Option<&Path>) -> Result<(), Failure> {
    let named = file.or(global.config.as_deref());
    let Some(file) = source(named) else {
        let document = json!({ "ok": true, "file": null });
        return output::print(global, &document, || {
            format!("There is no {FILE} here: the default configuration is used.\n")
        });
    };
    let global_of_file = Global { config: Some(file.clone()), data: None, json: global.json };
    load_for_server(&global_of_file, &[])?;
    output::print(global, &json!({ "ok": true, "file": file }), || format!("{} is right.\n", file.display()))
}

/// The file to read: the named one, or the one in the working folder if it is there.
fn source(named: Option<&Path>) -> Option<PathBuf> {
    named.map(Path::to_owned).or_else(|| Path::new(FILE).exists().then(|| FILE.into()))
}

fn read(file: &Path) -> Result<Config, Failure> {
    let bytes = fs::read(file).map_err(|error| {
        let failure = Failure::new(format!("cannot read {}: {error}", file.display())).kind("config");
        match error.kind() {
            io::ErrorKind::NotFound => failure.help("`magpie config default` prints one to begin with"),
            _ => failure.help("it must be a file that this user may read"),
        }
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let (before, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::new(format!("{}:{line}: this line is not UTF-8", file.display()))
            .kind("config")
            .help("the configuration must be a text in UTF-8")
    })?;
    let mut config = check::parse(&text).map_err(|problems| failure(file, &text, problems))?;
    // Paths in the file mean the same from wherever the program is started.
    let folder = file.parent().unwrap_or(Path::new(""));
    let paths = config.certificate.iter_mut().flat_map(|certificate| [&mut certificate.chain, &mut certificate.key]);
    // Sources of terms that are no files have no path, and functions of plain HTTP no authorities.
    let terms = config.terms.source.iter_mut().map(|source| &mut source.path);
    let terms = terms.chain(config.terms.function.iter_mut().map(|function| &mut function.ca_file));
    let terms = terms.filter(|path| !path.as_os_str().is_empty());
    for path in paths.chain(terms).chain([&mut config.data]) {
        *path = folder.join(&*path);
    }
    Ok(config)
}

/// What the file says well, and what cannot be used all the same.
struct Unusable {
    key: String,
    message: String,
    help: &'static str,
}

/// Certificates that are named and cannot be read, or do not fit their key.
fn unusable_certificates(config: &Config) -> Vec<Unusable> {
    let mut problems = Vec::new();
    let help = "check the file, and who may read it";
    for (index, certificate) in config.certificate.iter().enumerate() {
        let files = [("chain", &certificate.chain), ("key", &certificate.key)];
        let unreadable: Vec<_> = files
            .iter()
            .filter_map(|(name, path)| Some((name, path, fs::File::open(path).err()?)))
            .map(|(name, path, error)| Unusable {
                key: format!("certificate[{index}].{name}"),
                message: format!("cannot read {}: {error}", path.display()),
                help,
            })
            .collect();
        if unreadable.is_empty()
            && let Err(error) = certificates::check(certificate)
        {
            let of_key = matches!(&error, CertificateError::Content { path, .. } if *path == certificate.key);
            let name = if of_key { "key" } else { "chain" };
            problems.push(Unusable { key: format!("certificate[{index}].{name}"), message: error.to_string(), help });
        }
        problems.extend(unreadable);
    }
    problems
}

/// Sources and functions of terms that are not what they must be.
fn unusable_terms(config: &Config) -> impl Iterator<Item = Unusable> {
    let help = "docs/term-sources.md has an example of each kind of source, docs/terms-service.md of functions";
    let problems = magpie_terms::Service::misconfigured(&config.terms);
    problems.into_iter().map(move |problem| Unusable { key: problem.key, message: problem.message, help })
}

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    /// Dotted key; empty where the text is no TOML.
    key: String,
    /// What is wrong.
    message: String,
    /// What to write instead.
    help: Option<String>,
    /// Where, in bytes.
    span: Option<Range<usize>>,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{text}")]
struct Shown {
    text: String,
    #[help]
    help: Option<String>,
    #[source_code]
    source_code: NamedSource<Arc<String>>,
    #[label]
    span: Option<SourceSpan>,
}

/// All problems of a file, for people and for programs.
fn failure(file: &Path, text: &str, problems: Vec<Problem>) -> Failure {
    let theme = match io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => GraphicalTheme::unicode(),
        false => GraphicalTheme::unicode_nocolor(),
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_wrap_lines(false).with_context_lines(1);
    let source = Arc::new(text.to_owned());
    let mut report = String::new();
    let mut details = Vec::new();
    for problem in problems {
        let position = problem.span.as_ref().map(|span| position(text, span.start));
        details.push(json!({
            "key": problem.key,
            "message": problem.message,
            "help": problem.help,
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
        }));
        let place = if problem.span.is_some() { String::new() } else { format!("{}: ", file.display()) };
        let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
        let shown = Shown {
            text: format!("{place}{key}{}", problem.message),
            help: problem.help,
            source_code: NamedSource::new(file.display().to_string(), Arc::clone(&source)),
            span: problem.span.map(|span| SourceSpan::new(span.start.into(), span.len())),
        };
        handler.render_report(&mut report, &shown).expect("a String takes everything");
    }
    let message = format!("{} cannot be used", file.display());
    Failure::new(message).kind("config").reported(report, "problems", Value::Array(details))
}

/// Line and column of a byte, from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        assert_eq!(position("ab\nü=1", 0), (1, 1));
        assert_eq!(position("ab\nü=1", 5), (2, 2));
        assert_eq!(position("ab", 9), (1, 3));
    }
}
