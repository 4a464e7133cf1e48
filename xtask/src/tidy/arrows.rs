//! The arrows of ARCHITECTURE.md are what `cargo metadata` shows, no more and no less.
//!
//! They stand in a fenced block with the language `arrows`, a line a crate: `server -> proto store`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Findings;
use crate::Workspace;

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Crates that promise to do without others, however indirectly: the protocol has no runtime and no socket.
const WITHOUT: &[(&str, &[&str])] = &[("magpie-proto", &["tokio", "mio", "socket2", "async-io"])];

pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    let name = "ARCHITECTURE.md";
    match std::fs::read_to_string(workspace.root.join(name)) {
        Ok(page) => match written(&page) {
            Some(written) => compare(&written, workspace, findings),
            None => findings.errors.push(format!("{name}: has no block that begins with ```arrows")),
        },
        Err(error) => findings.errors.push(format!("{name}: {error}")),
    }
    for (package, forbidden) in WITHOUT {
        for found in reachable(&workspace.metadata, package).intersection(&forbidden.iter().copied().collect()) {
            findings.errors.push(format!("{package} depends on {found}, however indirectly"));
        }
    }
}

fn written(page: &str) -> Option<Arrows> {
    let (_, block) = page.split_once("```arrows\n")?;
    let (block, _) = block.split_once("```")?;
    let arrows = block.lines().filter_map(|line| line.split_once("->")).map(|(from, to)| {
        (from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect::<BTreeSet<String>>())
    });
    Some(arrows.collect())
}

fn compare(written: &Arrows, workspace: &Workspace, findings: &mut Findings) {
    let page = "ARCHITECTURE.md";
    let (normal, for_tests) = (found(&workspace.metadata, false), found(&workspace.metadata, true));
    for (from, there) in &normal {
        let Some(allowed) = written.get(from) else {
            findings.errors.push(format!("{page}: has no line for the crate {from}"));
            continue;
        };
        for to in there.difference(allowed) {
            findings.errors.push(format!("{from} depends on {to}, which {page} does not allow"));
        }
        for to in allowed.difference(there) {
            findings.errors.push(format!("{page}: {from} -> {to} is no longer there"));
        }
        // Tests may not bend the arrows either.
        for to in for_tests.get(from).into_iter().flatten().filter(|to| !allowed.contains(*to)) {
            findings.errors.push(format!("the tests of {from} depend on {to}, which {page} does not allow"));
        }
    }
    for from in written.keys().filter(|from| !normal.contains_key(*from)) {
        findings.errors.push(format!("{page}: there is no crate {from}"));
    }
    for (from, there) in &normal {
        if there.contains("magpie") {
            findings.errors.push(format!("{from} depends on the binary"));
        }
    }
}

/// The arrows between members of the workspace.
fn found(metadata: &Value, for_tests: bool) -> Arrows {
    let members: BTreeSet<&str> = items(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
    let packages: Vec<&Value> = items(&metadata["packages"])
        .filter(|package| package["id"].as_str().is_some_and(|id| members.contains(id)))
        .collect();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut arrows = Arrows::new();
    for package in &packages {
        let to = items(&package["dependencies"])
            .filter(|dependency| (dependency["kind"].as_str() == Some("dev")) == for_tests)
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| names.contains(name));
        if let Some(from) = package["name"].as_str() {
            arrows.insert(short(from), to.map(short).collect());
        }
    }
    arrows
}

/// `magpie-proto` is called `proto` on the page, the binary `magpie`.
fn short(name: &str) -> String {
    name.strip_prefix("magpie-").unwrap_or(name).to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Every package that the normal and build dependencies of `package` reach.
fn reachable<'a>(metadata: &'a Value, package: &str) -> BTreeSet<&'a str> {
    let name_by_id: BTreeMap<&str, &str> = items(&metadata["packages"])
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let node_by_id: BTreeMap<&str, &Value> =
        items(&metadata["resolve"]["nodes"]).filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let mut waiting: Vec<&str> = name_by_id.iter().filter(|(_, name)| **name == package).map(|(id, _)| *id).collect();
    let mut seen: BTreeSet<&str> = waiting.iter().copied().collect();
    while let Some(id) = waiting.pop() {
        for dependency in node_by_id.get(id).into_iter().flat_map(|node| items(&node["deps"])) {
            let is_for_tests_only = items(&dependency["dep_kinds"]).all(|kind| kind["kind"].as_str() == Some("dev"));
            if let Some(id) = dependency["pkg"].as_str()
                && !is_for_tests_only
                && seen.insert(id)
            {
                waiting.push(id);
            }
        }
    }
    seen.into_iter().filter_map(|id| name_by_id.get(id).copied()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_block_is_read_with_and_without_targets() {
        let arrows = written("text\n```arrows\nproto ->\nserver -> proto store\n```\nmore -> text\n").unwrap();
        assert_eq!(arrows.len(), 2);
        assert!(arrows["proto"].is_empty());
        assert_eq!(arrows["server"], BTreeSet::from(["proto".to_owned(), "store".to_owned()]));
        assert!(written("no block").is_none());
    }

    #[test]
    fn a_dependency_through_another_crate_is_seen_and_one_of_tests_is_not() {
        let metadata = serde_json::json!({
            "packages": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "c"}, {"id": "4", "name": "d"}],
            "resolve": {"nodes": [
                {"id": "1", "deps": [{"pkg": "2", "dep_kinds": [{"kind": null}]}, {"pkg": "4", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "2", "deps": [{"pkg": "3", "dep_kinds": [{"kind": "build"}]}]},
                {"id": "3", "deps": []}, {"id": "4", "deps": []}]}
        });
        assert_eq!(reachable(&metadata, "a"), BTreeSet::from(["a", "b", "c"]));
    }
}
