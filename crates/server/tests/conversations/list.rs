//! Which conversation is held with which server, and what a server is excused from: as tables in Markdown.

use std::collections::BTreeMap;

use crate::runner::script::Script;
use crate::runner::servers::Kind;

const PEERS: [Kind; 2] = [Kind::Prosody, Kind::Ejabberd];

/// A row for each document, and one for each conversation.
pub(crate) fn list(scripts: &[Script]) {
    let mut documents: BTreeMap<&str, Vec<&Script>> = BTreeMap::new();
    for script in scripts {
        documents.entry(script.name.split('-').next().unwrap_or_default()).or_default().push(script);
    }
    println!("| document | with Magpie | with Prosody | with ejabberd |\n|---|---|---|---|");
    for (number, scripts) in &documents {
        let [prosody, ejabberd] = PEERS.map(|peer| held_with(peer, scripts));
        println!("| {number} | {} | {prosody} | {ejabberd} |", scripts.len());
    }
    println!("\n| conversation | Prosody | ejabberd |\n|---|---|---|");
    for script in scripts {
        let [prosody, ejabberd] = PEERS.map(|peer| cell(peer, script));
        println!("| {} | {prosody} | {ejabberd} |", script.name);
    }
}

/// `3`, or `2, and 1 in part`, or why there is none.
fn held_with(peer: Kind, scripts: &[&Script]) -> String {
    let held = scripts.iter().filter(|script| !script.not_for.contains_key(&peer));
    let (in_part, whole): (Vec<&Script>, Vec<&Script>) = held.copied().partition(|script| script.is_excused(peer));
    match (whole.len(), in_part.len()) {
        (0, 0) => {
            let mut reasons: Vec<&str> =
                scripts.iter().filter_map(|script| script.not_for.get(&peer)).map(String::as_str).collect();
            reasons.sort_unstable();
            reasons.dedup();
            format!("none: {}", reasons.join("; "))
        }
        (whole, 0) => whole.to_string(),
        (0, in_part) => format!("{in_part} in part"),
        (whole, in_part) => format!("{whole}, and {in_part} in part"),
    }
}

fn cell(peer: Kind, script: &Script) -> String {
    if let Some(reason) = script.not_for.get(&peer) {
        return reason.clone();
    }
    let parts: Vec<&str> =
        script.parts_not_for.iter().filter(|(kind, _)| *kind == peer).map(|(_, reason)| reason.as_str()).collect();
    if parts.is_empty() { "yes".to_owned() } else { format!("yes, but: {}", parts.join("; ")) }
}
