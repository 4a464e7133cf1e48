//! Every dependency may be used under a licence of the list in deny.toml. Reads SPDX expressions.

use serde_json::Value;

use super::Findings;
use crate::Workspace;

pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    let allowed = match std::fs::read_to_string(workspace.root.join("deny.toml")) {
        Ok(text) => allowed(&text),
        Err(error) => return findings.errors.push(format!("deny.toml: {error}")),
    };
    if allowed.is_empty() {
        return findings.errors.push("deny.toml: allows no licence".into());
    }
    for package in workspace.metadata["packages"].as_array().into_iter().flatten() {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        match package["license"].as_str() {
            Some(expression) if holds(expression, &allowed) => {}
            Some(expression) => findings.errors.push(format!("{name}: the licence {expression} is not allowed")),
            None => findings.errors.push(format!("{name}: names no licence")),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// The names in `allow = [ … ]`, below `[licenses]`.
fn allowed(deny: &str) -> Vec<String> {
    let list = deny
        .split_once("[licenses]")
        .and_then(|(_, rest)| rest.split_once("allow = ["))
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(list, _)| list);
    list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Whether the expression can be satisfied with allowed licences.
fn holds(expression: &str, allowed: &[String]) -> bool {
    // Old manifests write `MIT/Apache-2.0`.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    any(&mut rest, allowed) && rest.is_empty()
}

fn any(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut outcome = all(words, allowed);
    while let Some(("OR", rest)) = words.split_first().map(|(word, rest)| (*word, rest)) {
        *words = rest;
        outcome |= all(words, allowed);
    }
    outcome
}

fn all(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut outcome = one(words, allowed);
    while let Some(("AND", rest)) = words.split_first().map(|(word, rest)| (*word, rest)) {
        *words = rest;
        outcome &= one(words, allowed);
    }
    outcome
}

fn one(words: &mut &[&str], allowed: &[String]) -> bool {
    let Some((word, rest)) = words.split_first() else { return false };
    *words = rest;
    if *word == "(" {
        let outcome = any(words, allowed);
        let closed = words.first() == Some(&")");
        *words = words.get(1..).unwrap_or_default();
        return outcome && closed;
    }
    if let ["WITH", exception, rest @ ..] = words {
        let with = format!("{word} WITH {exception}");
        *words = rest;
        return allowed.contains(&with);
    }
    allowed.iter().any(|name| name == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_holds_where_its_choices_allow_it() {
        let allowed = ["MIT".to_owned(), "ISC".to_owned()];
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("ISC AND (Apache-2.0 OR MIT)", true),
            ("ISC AND (Apache-2.0 OR BSD-3-Clause)", false),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("(MIT", false),
            ("", false),
        ] {
            assert_eq!(holds(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        assert_eq!(allowed("[licenses]\nallow = [\n \"MIT\",\n \"ISC\",\n]\n"), ["MIT", "ISC"]);
        assert!(allowed("[bans]\nallow = [\"MIT\"]").is_empty());
    }
}
