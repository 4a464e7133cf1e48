//! What is wrong in the text of a configuration, and where. The known keys come from the types.

use std::ops::Range;

use magpie_server::config::schema::{Kind, Table, table_of};
use magpie_server::config::{Config, reference};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::{Problem, Unusable};

/// Reads and validates. Reports all that is wrong, not only the first.
pub(super) fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| of_toml(error, String::new())).collect());
    }
    let whole = document.clone();
    let mut walk = Walk { problems: Vec::new() };
    walk.table(document.get_mut(), &schema::<Config>(), "");
    let mut problems = walk.problems;
    match Config::deserialize(Deserializer::from(document)) {
        Ok(config) if problems.is_empty() => match config.prepared() {
            Ok(config) => return Ok(config),
            Err(errors) => problems.extend(errors.into_iter().map(|error| {
                let span = find(whole.get_ref(), &error.key);
                Problem { key: error.key, message: error.message, help: error.help, span }
            })),
        },
        // What is wrong with the values is said too: unknown keys are left out, so they do not hide it.
        Ok(config) => problems.extend(config.validate().into_iter().map(|error| {
            let span = find(whole.get_ref(), &error.key);
            Problem { key: error.key, message: error.message, help: error.help, span }
        })),
        Err(error) => {
            let problem = of_toml(&error, String::new());
            let known = |at: &Range<usize>| problems.iter().any(|problem| problem.span.as_ref() == Some(at));
            if problem.span.as_ref().is_none_or(|at| !known(at)) {
                let key = problem.span.as_ref().map_or_else(String::new, |at| key_at(whole.get_ref(), at));
                problems.push(in_words(Problem { key, ..problem }));
            }
        }
    }
    problems.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
    Err(problems)
}

/// Puts problems, each with its key, at their place in the text.
pub(super) fn located(text: &str, problems: Vec<Unusable>) -> Vec<Problem> {
    let document = DeTable::parse(text).ok();
    let place = |key: &str| document.as_ref().and_then(|document| find(document.get_ref(), key));
    problems
        .into_iter()
        .map(|Unusable { key, message, help }| Problem { span: place(&key), key, message, help: Some(help.to_owned()) })
        .collect()
}

fn schema<T: DeserializeOwned>() -> Table {
    table_of::<T>().expect("the configuration is a table")
}

fn of_toml(error: &toml::de::Error, key: String) -> Problem {
    // The parser's messages have more lines than one where they say what was expected.
    Problem { key, message: error.message().replace('\n', ", "), help: None, span: error.span() }
}

/// What serde says, in the words of the file.
fn in_words(problem: Problem) -> Problem {
    let Problem { key, message, help, span } = problem;
    let between = |start: &str, end: &str| {
        let rest = message.strip_prefix(start)?;
        Some(rest.split_once(end)?.0.to_owned())
    };
    let (message, help) = if let Some(name) = between("missing field `", "`") {
        let kind = kind_at(&schema::<Config>(), &format!("{key}.{name}"));
        let line = kind.map_or_else(|| name.clone(), |kind| example(&kind, &name));
        (format!("{name} is missing"), Some(format!("add {line}")))
    } else if let Some(number) = between("invalid value: integer `", "`").or(between("invalid type: integer `", "`")) {
        let max = match message.rsplit_once("expected ").map(|(_, width)| width) {
            Some("u16") => u64::from(u16::MAX),
            Some("u32") => u64::from(u32::MAX),
            // TOML has no larger numbers.
            _ => i64::MAX.unsigned_abs(),
        };
        (format!("{number} is not possible here"), Some(format!("write a whole number from 0 to {max}")))
    } else if message == "invalid socket address syntax" {
        let help = "write 0.0.0.0:5222 for all IPv4 addresses, [::]:5222 for all, or one, as 127.0.0.1:5222";
        ("this is no IP address with a port".to_owned(), Some(help.to_owned()))
    } else {
        (message, help)
    };
    Problem { key, message, help, span }
}

/// What the dotted key holds, as `listen[0].kind`.
fn kind_at(known: &Table, key: &str) -> Option<Kind> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let kind = known.get(first.split('[').next().unwrap_or(first))?;
    match rest {
        Some(rest) => kind_at(kind.as_table()?, rest),
        None => Some(kind.clone()),
    }
}

/// Compares a document with the types, and takes unknown keys out of it.
struct Walk {
    problems: Vec<Problem>,
}

impl Walk {
    fn table(&mut self, table: &mut DeTable<'_>, known: &Table, path: &str) {
        let mut unknown = Vec::new();
        for (key, value) in table.iter_mut() {
            let name: &str = key.get_ref();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match known.get(name) {
                Some(kind) => self.value(value, kind, &path),
                None => {
                    unknown.push(name.to_owned());
                    self.problems.push(Problem {
                        message: "there is no such key".to_owned(),
                        help: Some(suggestion(name, known)),
                        span: Some(key.span()),
                        key: path,
                    });
                }
            }
        }
        for name in unknown {
            table.remove(name.as_str());
        }
    }

    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, kind: &Kind, path: &str) {
        let span = value.span();
        match (kind, value.get_mut()) {
            (Kind::Table(known), DeValue::Table(table)) => self.table(table, known, path),
            (Kind::List(item), DeValue::Array(array)) => {
                for (index, value) in array.iter_mut().enumerate() {
                    self.value(value, item, &format!("{path}[{index}]"));
                }
            }
            (Kind::Choice { words, .. }, DeValue::String(word)) => {
                if !words.contains(&word.as_ref()) {
                    let message = format!("\"{word}\" is not possible here");
                    let closest = closest(word, words.iter().copied());
                    let help = closest.map_or_else(String::new, |closest| format!("did you mean \"{closest}\"? "));
                    self.refuse(path, message, format!("{help}possible are: {}", quoted(words)), span);
                }
            }
            (Kind::Any, _)
            | (Kind::Boolean, DeValue::Boolean(_))
            | (Kind::Integer, DeValue::Integer(_))
            | (Kind::Float, DeValue::Float(_) | DeValue::Integer(_))
            | (Kind::Text, DeValue::String(_)) => {}
            (kind, value) => {
                let message = format!("{} is needed, this is {}", needed(kind), shown(value));
                self.refuse(path, message, format!("write it as {}", example(kind, path)), span);
            }
        }
    }

    fn refuse(&mut self, path: &str, message: String, help: String, span: Range<usize>) {
        self.problems.push(Problem { key: path.to_owned(), message, help: Some(help), span: Some(span) });
    }
}

fn needed(kind: &Kind) -> &'static str {
    match kind {
        Kind::Any => "a value",
        Kind::Boolean => "true or false",
        Kind::Integer => "a whole number",
        Kind::Float => "a number",
        Kind::Text => "text",
        Kind::Choice { .. } => "a word",
        Kind::List(item) if item.as_table().is_some() => "a list of tables",
        Kind::List(_) => "a list",
        Kind::Table(_) => "a table",
    }
}

fn shown(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn example(kind: &Kind, path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    match kind {
        Kind::Boolean => format!("{name} = true"),
        Kind::Any | Kind::Integer | Kind::Float => format!("{name} = 1"),
        Kind::Text => format!("{name} = \"…\""),
        Kind::Choice { words, .. } => format!("{name} = {}", quoted(words).replace(", ", " or ")),
        Kind::List(item) if item.as_table().is_some() => format!("[[{path}]]"),
        Kind::List(_) => format!("{name} = [\"…\"]"),
        Kind::Table(_) => format!("[{path}]"),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// What may have been meant by a key that is not known here: one that is spelt alike, or one of another table.
fn suggestion(name: &str, known: &Table) -> String {
    let keys = || known.keys.iter().map(|(key, _)| *key);
    let longer = keys().find(|key| name.len() > 2 && key.split('_').any(|word| word == name));
    if let Some(closest) = closest(name, keys()).or(longer) {
        return format!("did you mean {closest}?");
    }
    let elsewhere = reference().iter().find(|section| section.keys.iter().any(|key| key.name == name));
    match elsewhere {
        Some(section) if section.key.is_empty() => {
            format!("{name} belongs at the top of the file, before the first [table]")
        }
        Some(section) if section.repeated => format!("{name} belongs in [[{}]]", section.key),
        Some(section) => format!("{name} belongs in [{}]", section.key),
        None => format!("known here: {}", known.keys.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ")),
    }
}

/// The word that is spelt most alike, unless none is.
fn closest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&word, &known.replace('-', "_"));
    let far = (word.chars().count() / 3).max(2);
    among.map(|known| (distance(known), known)).filter(|(distance, _)| *distance <= far).min().map(|(_, known)| known)
}

/// Where the value of a dotted key stands; where it is left out, the innermost table around it that is there.
fn find(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut span = None;
    let mut table = table;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.strip_suffix(']').and_then(|index| index.parse::<usize>().ok())),
            None => (part, None),
        };
        let Some(mut value) = table.get(name) else { break };
        if let Some(item) = index.and_then(|index| value.get_ref().as_array()?.get(index)) {
            value = item;
        }
        span = Some(value.span());
        match value.get_ref().as_table() {
            Some(inner) => table = inner,
            None => break,
        }
    }
    span
}

/// The dotted key of the innermost value that contains `at`.
fn key_at(table: &DeTable<'_>, at: &Range<usize>) -> String {
    fn inside(value: &Spanned<DeValue<'_>>, at: &Range<usize>) -> Option<String> {
        let rest = match value.get_ref() {
            DeValue::Table(table) => key_at(table, at),
            DeValue::Array(array) => {
                let mut found = array.iter().enumerate();
                found
                    .find_map(|(index, item)| Some(dotted(&format!("[{index}]"), &inside(item, at)?)))
                    .unwrap_or_default()
            }
            _ => String::new(),
        };
        let here = value.span().start <= at.start && at.end <= value.span().end;
        (here || !rest.is_empty()).then_some(rest)
    }
    table.iter().find_map(|(key, value)| Some(dotted(key.get_ref(), &inside(value, at)?))).unwrap_or_default()
}

fn dotted(first: &str, rest: &str) -> String {
    match rest {
        "" => first.to_owned(),
        rest if rest.starts_with('[') => format!("{first}{rest}"),
        rest => format!("{first}.{rest}"),
    }
}

#[cfg(test)]
mod tests;
