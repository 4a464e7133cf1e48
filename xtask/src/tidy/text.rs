//! What stands in the files: first lines, names of files, the index of modules, no leftovers, sizes.

use std::path::Path;

use super::{Findings, TextFile};

/// Names that say nothing about what a file is for.
const EMPTY_NAMES: &[&str] = &["common", "core", "util", "utils", "helper", "helpers", "manager", "base"];
/// Words of unfinished work, in halves so that this file does not break its own rule.
const LEFTOVERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimplem", "ented!(")];
/// Folders of one machine, in halves too.
const PRIVATE_FOLDERS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 80;

pub(super) fn check(files: &[TextFile], findings: &mut Findings) {
    for file in files {
        names(&file.path, findings);
        leftovers(file, findings);
        if file.path.extension().is_some_and(|ending| ending == "rs") {
            first_line(file, findings);
            sizes(file, findings);
        }
    }
    let index = Path::new("crates/server/src/modules.rs");
    match files.iter().find(|file| file.path == index) {
        Some(file) => modules(file, findings),
        None => findings.errors.push(format!("{}: the index of modules is missing", index.display())),
    }
}

fn names(path: &Path, findings: &mut Findings) {
    for part in path {
        let stem = Path::new(part).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            findings.errors.push(format!("{}: `{stem}` says nothing about what it is for", path.display()));
        }
    }
}

/// Tests are beside what they test, whose first line says it.
fn is_test(file: &TextFile) -> bool {
    file.path.iter().any(|part| part == "tests.rs" || part == "tests")
}

fn first_line(file: &TextFile, findings: &mut Findings) {
    if is_test(file) {
        return;
    }
    let first = file.text.lines().next().unwrap_or_default();
    if first.strip_prefix("//! ").is_none_or(|words| words.split_whitespace().count() < 2) {
        findings.errors.push(format!("{}:1: begins with `//! ` and the document or the subject", file.path.display()));
    }
}

fn leftovers(file: &TextFile, findings: &mut Findings) {
    for (index, line) in file.text.lines().enumerate() {
        let shown = format!("{}:{}", file.path.display(), index + 1);
        for word in LEFTOVERS.iter().filter(|word| contains_word(line, word)) {
            findings.errors.push(format!("{shown}: `{word}`"));
        }
        for folder in PRIVATE_FOLDERS.iter().filter(|folder| contains_word(line, folder)) {
            findings.errors.push(format!("{shown}: a path below `{folder}`"));
        }
    }
}

/// Whether the word stands there and does not go on in an identifier or a longer path.
fn contains_word(line: &str, word: &str) -> bool {
    let goes_on =
        |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.' || c == '}');
    line.match_indices(word).any(|(at, _)| {
        let after =
            if word.ends_with(|c: char| c.is_alphanumeric()) { line[at + word.len()..].chars().next() } else { None };
        !goes_on(line[..at].chars().next_back()) && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// `/// XEP-0280: Message Carbons` above each entry of `modules! { … }`.
fn modules(file: &TextFile, findings: &mut Findings) {
    let list = file.text.lines().map(str::trim).enumerate().skip_while(|(_, line)| *line != "modules! {").skip(1);
    let mut document = false;
    let mut names = 0;
    for (index, line) in list.take_while(|(_, line)| *line != "}") {
        if line.starts_with("///") {
            document |= line.starts_with("/// XEP-") || line.starts_with("/// RFC ");
            continue;
        }
        names += 1;
        if !document {
            let shown = format!("{}:{}", file.path.display(), index + 1);
            findings.errors.push(format!("{shown}: no `/// XEP-` or `/// RFC ` line above `{line}`"));
        }
        document = false;
    }
    if names == 0 {
        findings.errors.push(format!("{}: names no module", file.path.display()));
    }
}

fn sizes(file: &TextFile, findings: &mut Findings) {
    let lines: Vec<&str> = file.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
    if lines.len() > FILE_LINES_MAX && !is_test(file) {
        findings.warnings.push(format!("{}: {} lines without tests", file.path.display(), lines.len()));
    }
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_function =
            line.trim_start().split('(').next().is_some_and(|head| head.split(' ').any(|word| word == "fn"));
        if !is_function || line.trim_start().starts_with("//") || line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        // rustfmt puts the end of a function at the indentation of its beginning.
        let end = format!("{:indent$}}}", "");
        if let Some(length) = lines[start..].iter().position(|line| *line == end)
            && length > FUNCTION_LINES_MAX
        {
            findings.warnings.push(format!("{}:{}: a function of {length} lines", file.path.display(), start + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(path: &str, text: &str, rule: fn(&TextFile, &mut Findings)) -> usize {
        let mut findings = Findings::default();
        rule(&TextFile { path: path.into(), text: text.into() }, &mut findings);
        findings.errors.len()
    }

    #[test]
    fn leftovers_are_words_and_not_parts_of_words() {
        assert_eq!(errors_of("a.rs", concat!("// TO", "DO: later"), leftovers), 1);
        assert_eq!(errors_of("a.rs", concat!("    to", "do!()"), leftovers), 1);
        assert_eq!(errors_of("a.rs", concat!("MASTO", "DON and A_TO", "DO"), leftovers), 0);
        assert_eq!(errors_of("a.md", concat!("see /wo", "rk/file"), leftovers), 1);
        assert_eq!(errors_of("a.md", concat!("a net/wo", "rk/ and example.com/ho", "me/"), leftovers), 0);
    }

    #[test]
    fn a_first_line_says_more_than_a_word() {
        assert_eq!(errors_of("a.rs", "//! XEP-0199: XMPP Ping\n", first_line), 0);
        assert_eq!(errors_of("a.rs", "fn main() {}\n", first_line), 1);
        assert_eq!(errors_of("a.rs", "//! Ping\n", first_line), 1);
    }

    #[test]
    fn every_module_of_the_index_names_its_document() {
        let list = |entries: &str| format!("modules! {{\n{entries}}}\n");
        let carbons = "    /// XEP-0280: Message Carbons\n    carbons: Carbons,\n";
        assert_eq!(errors_of("m.rs", &list(carbons), modules), 0);
        assert_eq!(errors_of("m.rs", &list(&format!("{carbons}    ping: Ping,\n")), modules), 1);
        assert_eq!(errors_of("m.rs", &list("    /// Carbons\n    carbons: Carbons,\n"), modules), 1);
        assert_eq!(errors_of("m.rs", "//! nothing\n", modules), 1);
    }

    #[test]
    fn names_that_say_nothing_are_found_in_folders_too() {
        let mut findings = Findings::default();
        names(Path::new("crates/server/src/util/time.rs"), &mut findings);
        names(Path::new("crates/server/src/core.rs"), &mut findings);
        names(Path::new("crates/server/src/score.rs"), &mut findings);
        assert_eq!(findings.errors.len(), 2);
    }

    #[test]
    fn long_functions_are_seen_by_their_indentation() {
        let body = "        x();\n".repeat(FUNCTION_LINES_MAX + 1);
        let text = format!("impl A {{\n    fn long() {{\n{body}    }}\n    fn short() {{}}\n}}\n");
        let mut findings = Findings::default();
        sizes(&TextFile { path: "a.rs".into(), text }, &mut findings);
        assert_eq!(findings.warnings.len(), 1);
    }
}
