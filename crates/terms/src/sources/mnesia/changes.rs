//! What the items of Mnesia's logs say of a table.

use magpie_etf::{Elements, Term, TermKind};

use super::index::Change;

/// What an item says of one key, or of all.
pub(super) enum Said<'a> {
    /// A change of a key: its number in the item, and what is written, deleted or counted.
    Key { nth: u32, change: Change, key: Term<'a>, value: Term<'a> },
    /// All keys are gone.
    Cleared,
}

/// What becomes of the changes of an item.
pub(super) enum Fate<'a> {
    /// They count.
    Committed,
    /// They count when it is said later that this transaction was committed.
    Pending(Term<'a>),
    /// This transaction was committed, or was not.
    Decided(Term<'a>, bool),
    /// It has none.
    None,
}

/// An item of a `.DCL` file: `{{Table,Key},Value,Change}`.
pub(super) fn of_change_log<'a>(item: Term<'a>, table: &str, mut each: impl FnMut(Said<'a>)) {
    if let Some(said) = change(item, table, 0) {
        each(said);
    }
}

/// An item of `LATEST.LOG`, and how it is to be taken.
pub(super) fn of_transaction_log<'a>(item: Term<'a>, table: &str, mut each: impl FnMut(Said<'a>)) -> Fate<'a> {
    let Some(mut fields) = item.as_tuple() else { return Fate::None };
    match fields.next().and_then(Term::as_atom) {
        Some("commit") => {}
        Some("decision") => return decision(fields),
        _ => return Fate::None,
    }
    // Node, decision, ram_copies, disc_copies, disc_only_copies, others, operations on the schema.
    let Some(fields) = fields.collect::<Vec<_>>().try_into().ok() else { return Fate::None };
    let [_, decision, _, disc, disc_only, _, schema]: [Term<'a>; 7] = fields;
    if elements(schema).any(|operation| clears(operation, table)) {
        each(Said::Cleared);
    }
    for (nth, term) in elements(disc).chain(elements(disc_only)).enumerate() {
        if let Some(said) = change(term, table, nth as u32) {
            each(said);
        }
    }
    if decision.as_atom() == Some("presume_commit") {
        return Fate::Committed;
    }
    let Some(mut fields) = decision.as_tuple() else { return Fate::None };
    match (fields.next().and_then(Term::as_atom), self::decision(fields)) {
        (Some("decision"), Fate::Decided(_, true)) => Fate::Committed,
        (Some("decision"), Fate::Pending(transaction)) => Fate::Pending(transaction),
        _ => Fate::None,
    }
}

/// What stands behind the tag of a decision: transaction, outcome, nodes.
fn decision(mut fields: Elements<'_>) -> Fate<'_> {
    match (fields.next(), fields.next().and_then(Term::as_atom)) {
        (Some(transaction), Some("committed")) => Fate::Decided(transaction, true),
        (Some(transaction), Some("aborted")) => Fate::Decided(transaction, false),
        (Some(transaction), Some(_)) => Fate::Pending(transaction),
        _ => Fate::None,
    }
}

fn change<'a>(term: Term<'a>, table: &str, nth: u32) -> Option<Said<'a>> {
    let [place, value, change] = tuple(term)?;
    let [name, key] = tuple(place)?;
    if name.as_atom() != Some(table) {
        return None;
    }
    let change = match change.as_atom()? {
        "write" => Change::Write,
        "delete" => Change::Delete,
        "delete_object" => Change::DeleteObject,
        "update_counter" => Change::Count,
        "clear_table" => return Some(Said::Cleared),
        _ => return None,
    };
    Some(Said::Key { nth, change, key, value })
}

/// `{op,clear_table,Properties,…}` and `{op,delete_table,…}` of this table.
fn clears(operation: Term<'_>, table: &str) -> bool {
    let Some(mut fields) = operation.as_tuple() else { return false };
    let is_one = fields.next().and_then(Term::as_atom) == Some("op")
        && matches!(fields.next().and_then(Term::as_atom), Some("clear_table" | "delete_table"));
    is_one && fields.next().and_then(|properties| property(properties, "name")).and_then(Term::as_atom) == Some(table)
}

/// A property of a list of pairs.
pub(super) fn property<'a>(list: Term<'a>, name: &str) -> Option<Term<'a>> {
    elements(list).find_map(|pair| {
        let [key, value] = tuple(pair)?;
        (key.as_atom() == Some(name)).then_some(value)
    })
}

/// The change of a number in an item.
pub(super) fn nth<'a>(item: Term<'a>, is_transaction: bool, table: &str, wanted: u32) -> Option<[Term<'a>; 2]> {
    let mut found = None;
    let mut look = |said| {
        if let Said::Key { nth, key, value, .. } = said
            && nth == wanted
        {
            found = Some([key, value]);
        }
    };
    if is_transaction {
        of_transaction_log(item, table, &mut look);
    } else {
        of_change_log(item, table, &mut look);
    }
    found
}

pub(super) fn tuple<const N: usize>(term: Term<'_>) -> Option<[Term<'_>; N]> {
    let elements = term.as_tuple()?;
    if elements.len() != N {
        return None;
    }
    elements.collect::<Vec<_>>().try_into().ok()
}

fn elements<'a>(list: Term<'a>) -> impl Iterator<Item = Term<'a>> {
    match list.kind() {
        TermKind::List(elements) => Some(elements),
        _ => None,
    }
    .into_iter()
    .flatten()
}
