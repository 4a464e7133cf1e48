//! `magpie config default`: the default configuration as a TOML file that explains itself.
//!
//! Comments and keys come from the types. What is no comment but is commented out has no space after its `#`.

use magpie_server::config::schema::Kind;
use magpie_server::config::{Config, Key, Section, reference};
use serde_json::json;
use toml::{Table, Value};

/// The file.
pub(crate) fn as_toml() -> String {
    let default = Table::try_from(Config::default()).expect("the default configuration can be written as TOML");
    let mut text = String::from(
        "# Magpie's configuration: every key with its default.\n\
         # What is left out has its default; an empty file is a good one. Relative paths begin at the folder of the file.\n",
    );
    for section in reference() {
        text.push('\n');
        add_section(&mut text, section, &default);
    }
    text
}

/// The same for programs.
pub(crate) fn as_json() -> serde_json::Value {
    json!(Config::default())
}

fn add_section(text: &mut String, section: &Section, default: &Table) {
    if section.key.is_empty() {
        add_keys(text, section, default, true, "");
        return;
    }
    add_comment(text, &section.doc);
    let value = section.key.split('.').try_fold(None, |at: Option<&Value>, name| {
        Some(Some(at.and_then(Value::as_table).unwrap_or(default).get(name)?))
    });
    if !section.repeated {
        text.push_str(&format!("[{}]\n", section.key));
        let table = value.flatten().and_then(Value::as_table);
        add_keys(text, section, table.unwrap_or(&Table::new()), true, "");
        return;
    }
    let items = value.flatten().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, item) in items.iter().filter_map(Value::as_table).enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&format!("[[{}]]\n", section.key));
        add_keys(text, section, item, index == 0, "");
    }
    if items.is_empty() {
        text.push_str(&format!("#[[{}]]\n", section.key));
        add_keys(text, section, &Table::new(), true, "#");
    }
}

/// Adds the keys with their values, or with an example of their kind where there is none.
fn add_keys(text: &mut String, section: &Section, values: &Table, explain: bool, prefix: &str) {
    for key in &section.keys {
        if explain {
            add_comment(text, &key.doc);
            for (word, doc) in &key.words {
                add_comment(text, &format!("  {}: {doc}", Value::from(*word)));
            }
        }
        let example = example(key);
        text.push_str(&format!("{prefix}{} = {}\n", key.name, values.get(key.name).unwrap_or(&example)));
    }
}

fn add_comment(text: &mut String, comment: &str) {
    for line in comment.lines() {
        text.push_str(&format!("# {line}\n"));
    }
}

fn example(key: &Key) -> Value {
    match &key.kind {
        Kind::Boolean => Value::from(false),
        Kind::Integer => Value::from(0),
        Kind::Float => Value::from(0.0),
        Kind::Choice { words, .. } => Value::from(words.first().copied().unwrap_or_default()),
        Kind::List(_) => Value::Array(Vec::new()),
        Kind::Any | Kind::Text | Kind::Table(_) => Value::from("…"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `cargo xtask generate` runs this with `MAGPIE_GENERATE` set, which writes the file.
    #[test]
    fn the_generated_file_is_what_the_types_say() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.toml");
        if std::env::var_os("MAGPIE_GENERATE").is_some() {
            std::fs::write(&path, as_toml()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == as_toml(), "docs/configuration.toml is out of date: run `cargo xtask generate`");
    }

    #[test]
    fn the_printed_default_is_the_default() {
        let read: Config = toml::from_str(&as_toml()).unwrap();
        assert_eq!(read, Config::default());
        // And names each key, so that it is not the defaults of the types that make it equal.
        let mut written: Table = toml::from_str(&as_toml()).unwrap();
        drop_empty_lists(&mut written);
        let mut expected = Table::try_from(Config::default()).unwrap();
        drop_empty_lists(&mut expected);
        for (key, value) in &expected {
            assert_eq!(written.get(key), Some(value), "{key}");
        }
    }

    /// Tables that may be repeated are shown commented out.
    fn drop_empty_lists(table: &mut Table) {
        table.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
        table.iter_mut().filter_map(|(_, value)| value.as_table_mut()).for_each(drop_empty_lists);
    }

    #[test]
    fn what_is_commented_out_can_be_commented_in() {
        let text: String = as_toml()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(code) if !code.starts_with(' ') => format!("{code}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let read: Config = toml::from_str(&text).unwrap();
        assert_eq!(read.certificate.len(), 1);
        assert_eq!(read.certificate[0].domain, "…");
    }

    #[test]
    fn each_key_is_explained_on_the_line_before() {
        let text = as_toml();
        let lines: Vec<&str> = text.lines().collect();
        for section in reference() {
            for key in &section.keys {
                let start = format!("{} = ", key.name);
                let at = lines.iter().position(|line| line.trim_start_matches('#').starts_with(&start)).unwrap();
                assert!(lines[at - 1].starts_with("# "), "{start}");
            }
        }
    }
}
