//! What the README names as shown by a test is there: conversations (`0198-*`) and paths (`crates/…`).

use super::{Findings, TextFile};

const CONVERSATIONS: &str = "crates/server/tests/conversations/";

pub(super) fn check(files: &[TextFile], findings: &mut Findings) {
    let paths: Vec<String> = files.iter().map(|file| file.path.to_string_lossy().into_owned()).collect();
    let Some(readme) = files.iter().find(|file| file.path.as_os_str() == "README.md") else {
        findings.errors.push("README.md: is missing".into());
        return;
    };
    for name in unknown(&readme.text, &paths) {
        findings.errors.push(format!("README.md: `{name}` names nothing"));
    }
}

fn unknown<'a>(readme: &'a str, paths: &[String]) -> Vec<&'a str> {
    let named = readme.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2));
    named.filter(|name| !is_known(name, paths)).collect()
}

fn is_known(name: &str, paths: &[String]) -> bool {
    let digits = name.chars().take_while(char::is_ascii_digit).count();
    let (prefix, ending) = if digits == 4 && name[4..].starts_with('-') {
        (format!("{CONVERSATIONS}{}", name.trim_end_matches('*')), ".txt")
    } else if ["crates/", "fuzz/", "tests/", "docs/"].iter().any(|folder| name.starts_with(folder)) {
        (name.trim_end_matches('*').to_owned(), "")
    } else {
        return true;
    };
    let exact = !name.ends_with('*') && !ending.is_empty();
    paths.iter().any(|path| if exact { *path == format!("{prefix}{ending}") } else { path.starts_with(&prefix) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_found() {
        let paths =
            ["crates/server/tests/conversations/0198-resume.txt".to_owned(), "crates/proto/src/jid/mod.rs".into()];
        let row = "| acks | `0198-*`, `0198-resume`, `0198-nothing`, `0199-*`, `crates/proto/src/jid`, `crates/none` |";
        assert_eq!(unknown(row, &paths), ["0198-nothing", "0199-*", "crates/none"]);
        assert!(unknown("`0198-nothing` outside of a table", &paths).is_empty());
    }
}
