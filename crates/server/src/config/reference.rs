//! What each key of the configuration means: the words of the comments in `config.rs`, the keys of its types.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::Config;
use super::schema::{Kind, Table, table_of};

/// The text that the comments are read from. It has rustfmt's layout: one field, one variant, one comment a line.
const SOURCE: &str = concat!(include_str!("../config.rs"), include_str!("../../../terms/src/config.rs"));

/// A table of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Dotted key; empty for the top.
    pub key: String,
    /// Whether it can be there several times (`[[key]]`).
    pub repeated: bool,
    /// What it is for.
    pub doc: String,
    /// Its keys, without those that are sections themselves.
    pub keys: Vec<Key>,
}

/// A key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name in its table.
    pub name: &'static str,
    /// What it means.
    pub doc: String,
    /// What it holds.
    pub kind: Kind,
    /// Its words with what they mean, where it is a choice.
    pub words: Vec<(&'static str, String)>,
}

/// All sections: the top first, the others in the order of the type.
pub fn reference() -> &'static [Section] {
    static REFERENCE: LazyLock<Vec<Section>> = LazyLock::new(|| {
        let docs = read_docs(SOURCE);
        let mut sections = Vec::new();
        if let Some(table) = table_of::<Config>() {
            let doc = docs.types.get(table.name).cloned().unwrap_or_default();
            add_section(
                &mut sections,
                &docs,
                &table,
                Section { key: String::new(), repeated: false, doc, keys: vec![] },
            );
        }
        sections
    });
    &REFERENCE
}

fn add_section(sections: &mut Vec<Section>, docs: &Docs, table: &Table, mut section: Section) {
    let mut nested = Vec::new();
    for (name, kind) in &table.keys {
        let doc = docs.get(table.name, name);
        if let Some(inner) = kind.as_table() {
            let key = if section.key.is_empty() { (*name).to_owned() } else { format!("{}.{name}", section.key) };
            let repeated = matches!(kind, Kind::List(_));
            nested.push((inner, Section { key, repeated, doc, keys: Vec::new() }));
            continue;
        }
        let words = match kind {
            Kind::Choice { name, words } => {
                // Serde names the variants in the order in which they are declared.
                let variants = docs.members.get(*name).map_or(&[][..], Vec::as_slice);
                words.iter().zip(variants).map(|(word, (_, doc))| (*word, doc.clone())).collect()
            }
            _ => Vec::new(),
        };
        section.keys.push(Key { name, doc, kind: kind.clone(), words });
    }
    sections.push(section);
    for (table, section) in nested {
        add_section(sections, docs, table, section);
    }
}

/// The comments of a source file.
#[derive(Default)]
struct Docs {
    /// By name of the type.
    types: BTreeMap<String, String>,
    /// Fields or variants with their comments, by name of the type, in order.
    members: BTreeMap<String, Vec<(String, String)>>,
}

impl Docs {
    fn get(&self, of: &str, member: &str) -> String {
        let members = self.members.get(of).map_or(&[][..], Vec::as_slice);
        members.iter().find(|(name, _)| name == member).map(|(_, doc)| doc.clone()).unwrap_or_default()
    }
}

fn read_docs(source: &str) -> Docs {
    let mut docs = Docs::default();
    let mut doc: Vec<&str> = Vec::new();
    let mut inside: Option<String> = None;
    for line in source.lines() {
        let text = line.trim();
        if let Some(comment) = text.strip_prefix("///") {
            doc.push(comment.trim());
        } else if text.starts_with("#[") {
            // Attributes stand between a comment and what it is about.
        } else if let Some(of) = &inside {
            if line == "}" {
                inside = None;
            } else if let Some(name) = member_name(text) {
                docs.members.entry(of.clone()).or_default().push((name.to_owned(), doc.join("\n")));
            }
            doc.clear();
        } else {
            let declared = text.strip_prefix("pub struct ").or_else(|| text.strip_prefix("pub enum "));
            if let Some(name) = declared.and_then(|rest| rest.strip_suffix(" {")) {
                docs.types.insert(name.to_owned(), doc.join("\n"));
                inside = Some(name.to_owned());
            }
            doc.clear();
        }
    }
    docs
}

/// The name in `pub name: Type,` or `Name,`.
fn member_name(line: &str) -> Option<&str> {
    let name = match line.strip_prefix("pub ") {
        Some(field) => field.split_once(':')?.0,
        None => line.strip_suffix(',')?,
    };
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_every_word_has_its_comment() {
        let mut keys = 0;
        for section in reference() {
            assert!(!section.doc.is_empty(), "[{}] has no comment", section.key);
            for key in &section.keys {
                keys += 1;
                assert!(!key.doc.is_empty(), "{}.{} has no comment", section.key, key.name);
                if let Kind::Choice { words, .. } = &key.kind {
                    assert_eq!(key.words.len(), words.len(), "{}.{}", section.key, key.name);
                    assert!(key.words.iter().all(|(_, doc)| !doc.is_empty()), "{}.{}", section.key, key.name);
                }
            }
        }
        assert!(keys > 30, "only {keys} keys found");
    }

    #[test]
    fn comments_stand_beside_keys_that_exist() {
        // The other direction: a field that serde does not read (skipped, renamed) would leave a comment without key.
        let docs = read_docs(SOURCE);
        let mut known: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        fn collect<'a>(table: &'a Table, known: &mut BTreeMap<&'a str, Vec<&'a str>>) {
            known.insert(table.name, table.keys.iter().map(|(name, _)| *name).collect());
            for inner in table.keys.iter().filter_map(|(_, kind)| kind.as_table()) {
                collect(inner, known);
            }
        }
        let table = table_of::<Config>().expect("the configuration is a table");
        collect(&table, &mut known);
        for (name, keys) in known {
            let commented: Vec<&str> = docs.members[name].iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(commented, keys, "{name}");
        }
    }

    #[test]
    fn the_words_of_a_choice_stand_in_the_order_of_the_variants() {
        let listen = reference().iter().find(|section| section.key == "listen").expect("there are listeners");
        let kind = listen.keys.iter().find(|key| key.name == "kind").expect("a listener has a kind");
        let expected = [("c2s", "Clients, STARTTLS."), ("c2s-tls", "Clients, direct TLS (XEP-0368).")];
        let words: Vec<_> = kind.words.iter().map(|(word, doc)| (*word, doc.as_str())).collect();
        assert_eq!(words[..2], expected);
        assert_eq!(words.last().expect("there are words").0, "bert");
        assert!(listen.repeated);
    }
}
