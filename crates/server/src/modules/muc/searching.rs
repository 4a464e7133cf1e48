//! XEP-0433: Extended Channel Search
//!
//! Who looks for a room finds those that are listed, by words in their names, descriptions and addresses.

use std::sync::Arc;

use hashbrown::HashMap;
use magpie_proto::error::ErrorType;
use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::result_sets::{Page, PageAnswer, PageEnds, PageRequest};
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, StanzaCondition, StanzaError};

use super::Muc;
use super::room::Outcome;
use super::storage::Listed;
use super::throttling::Rate;
use crate::modules::offline::refusal;
use crate::requests::{Reply, Request};
use crate::server::now;

/// The namespace.
pub const NS: &str = "urn:xmpp:channel-search:0:search";

const NS_PARAMETERS: &str = "urn:xmpp:channel-search:0:search-params";
const NS_ERROR: &str = "urn:xmpp:channel-search:0:error";
const BY_USERS: &str = "{urn:xmpp:channel-search:0:order}nusers";
const BY_ADDRESS: &str = "{urn:xmpp:channel-search:0:order}address";
const MUC: &str = "xep-0045";

/// Rooms on a page.
const FOUND_MAX: usize = 100;

/// Rooms that one search looks at.
const LOOKED_MAX: usize = 20_000;

/// Rooms read at once.
const READ_AT_ONCE: usize = 500;

/// Bytes and words of a search.
const WORDS_BYTES_MAX: usize = 1024;
const WORDS_MAX: usize = 16;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Search {
    /// In lower case; none: everything is found.
    words: Vec<String>,
    in_name: bool,
    in_description: bool,
    in_address: bool,
    users_min: usize,
    /// Whether rooms of this kind are wanted at all.
    rooms: bool,
    by_users: bool,
}

/// A room that may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    address: BareJid,
    listed: Listed,
    users: usize,
}

/// An error with its condition of §3.2.3.
fn wrong(kind: ErrorType, name: &str, text: &str) -> StanzaError {
    let error = StanzaError::new(StanzaCondition::BadRequest, text).with_type(kind);
    error.with_application(Element::new(name, NS_ERROR))
}

impl Search {
    fn parse(form: &Form) -> Outcome<Self> {
        if form.form_type() != Some(NS_PARAMETERS) {
            return Err(StanzaError::new(StanzaCondition::BadRequest, "the form is of another type"));
        }
        let flag = |var: &str, otherwise: bool| match form.field(var) {
            Some(field) if !field.values.is_empty() => {
                field.boolean().ok_or_else(|| StanzaError::new(StanzaCondition::BadRequest, format!("{var} is 1 or 0")))
            }
            _ => Ok(otherwise),
        };
        let q = form.value("q").map(str::trim).filter(|q| !q.is_empty());
        let all = flag("all", false)?;
        let words = match (q, all) {
            (Some(_), true) => return Err(conflict(&["all", "q"], "either all rooms, or those with the words")),
            (None, false) => {
                return Err(wrong(ErrorType::Cancel, "no-search-conditions", "say what is looked for, or that all is"));
            }
            (None, true) => Vec::new(),
            (Some(q), false) => words(q)?,
        };
        let by_users = match form.value("key") {
            None | Some(BY_USERS) => true,
            Some(BY_ADDRESS) => false,
            Some(_) => {
                let error = StanzaError::new(StanzaCondition::FeatureNotImplemented, "rooms are not put in that order");
                let error = error.with_type(ErrorType::Modify);
                return Err(error.with_application(Element::new("invalid-sort-key", NS_ERROR)));
            }
        };
        let users_min = match form.value("min_users").map(str::trim) {
            None | Some("") => 0,
            Some(text) => {
                let number = text.parse();
                number.map_err(|_| StanzaError::new(StanzaCondition::BadRequest, "min_users is a number"))?
            }
        };
        let types = form.field("types").map(|field| field.values.as_slice()).unwrap_or_default();
        let search = Self {
            words,
            in_name: flag("sinname", true)?,
            in_description: flag("sindescription", true)?,
            // The document has both names.
            in_address: flag("sinaddress", true)? && flag("sinaddr", true)?,
            users_min,
            rooms: types.is_empty() || types.iter().any(|kind| kind == MUC),
            by_users,
        };
        match search.words.is_empty() || search.in_name || search.in_description || search.in_address {
            true => Ok(search),
            false => Err(conflict(&["q", "sinname", "sindescription", "sinaddress"], "words are looked for somewhere")),
        }
    }

    fn finds(&self, candidate: &Candidate) -> bool {
        let Candidate { address, listed, users } = candidate;
        let texts = [
            (self.in_name, listed.name.to_lowercase()),
            (self.in_description, listed.description.to_lowercase()),
            (self.in_address, address.as_str().to_lowercase()),
        ];
        let is_in = |word: &String| texts.iter().any(|(wanted, text)| *wanted && text.contains(word.as_str()));
        *users >= self.users_min && self.words.iter().all(is_in)
    }

    /// What was found, in its order.
    fn sort(&self, found: &mut [Candidate]) {
        found.sort_unstable_by(|one, other| {
            let by_users = other.users.cmp(&one.users);
            let by_address = one.address.cmp(&other.address);
            if self.by_users { by_users.then(by_address) } else { by_address }
        });
    }
}

fn conflict(vars: &[&str], text: &str) -> StanzaError {
    let vars = vars.iter().map(|var| Element::new("var", NS_ERROR).with_text(*var));
    let condition = Element::new("conflicting-fields", NS_ERROR).with_all(vars);
    StanzaError::new(StanzaCondition::BadRequest, text).with_type(ErrorType::Modify).with_application(condition)
}

fn words(q: &str) -> Outcome<Vec<String>> {
    let invalid = |text| Err(wrong(ErrorType::Modify, "invalid-search-terms", text));
    if q.len() > WORDS_BYTES_MAX {
        return invalid("that is too long to be looked for");
    }
    let lower = q.to_lowercase();
    let mut words: Vec<String> = Vec::new();
    for word in lower
        .split_whitespace()
        .map(|word| word.trim_matches('"'))
        .filter(|word| word.chars().any(char::is_alphanumeric))
    {
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    match words.len() {
        0 => invalid("there is no word in it"),
        1..=WORDS_MAX => Ok(words),
        _ => invalid("those are too many words"),
    }
}

/// §3.2.1: the form.
fn form() -> Form {
    let flag = |var: &str, label: &str, value| Field::new(FieldType::Boolean, var).with_label(label).with_bool(value);
    Form::typed(FormKind::Form, NS_PARAMETERS)
        .with(Field::new(FieldType::TextSingle, "q").with_label("Search for"))
        .with(flag("all", "All rooms", false))
        .with(flag("sinname", "Search in names", true))
        .with(flag("sindescription", "Search in descriptions", true))
        .with(flag("sinaddress", "Search in addresses", true))
        .with(Field::new(FieldType::TextSingle, "min_users").with_label("Occupants at least").with_value("0"))
        .with(
            Field::new(FieldType::ListMulti, "types")
                .with_label("Kinds of rooms")
                .with_value(MUC)
                .with_option("Multi-User Chat (XEP-0045)", MUC),
        )
        .with(
            Field::new(FieldType::ListSingle, "key")
                .with_label("Order")
                .with_value(BY_USERS)
                .with_option("Number of occupants", BY_USERS)
                .with_option("Address", BY_ADDRESS),
        )
}

fn item(candidate: &Candidate) -> Element {
    let Candidate { address, listed, users } = candidate;
    let text = |name: &str, text: &str| Element::new(name, NS).with_text(text);
    let known = |name: &'static str, value: &str| (!value.is_empty()).then(|| text(name, value));
    let name = if listed.name.is_empty() { address.local().unwrap_or_default() } else { &listed.name };
    Element::new("item", NS)
        .with_attr("address", address)
        .with(text("name", name))
        .with_all(known("description", &listed.description))
        .with_all(known("language", &listed.language))
        .with(text("nusers", &users.to_string()))
        .with(text("service-type", MUC))
        .with(text("is-open", if listed.open { "true" } else { "false" }))
        .with(text(
            "anonymity-mode",
            match listed.non_anonymous {
                true => "{urn:xmpp:channel-search:0:anonymity}none",
                false => "muc_semianonymous",
            },
        ))
}

impl Muc {
    pub(super) async fn search(self: Arc<Self>, request: Request) -> Reply {
        if request.to.local().is_some() {
            return Err(StanzaCondition::ServiceUnavailable.into());
        }
        let payload = request.payload();
        let Some(asked) = Form::of(&payload).filter(|form| form.kind == FormKind::Submit) else {
            return Ok(Some(Element::new("search", NS).with(form().element())));
        };
        let search = Search::parse(&asked)?;
        self.check_searcher(&request)?;
        let page = PageRequest::of(&payload)
            .map_err(|error| StanzaError::new(StanzaCondition::BadRequest, error.to_string()))?;
        let mut found = match search.rooms {
            true => self.candidates(&request.to, &search).await?,
            false => Vec::new(),
        };
        search.sort(&mut found);
        let count = found.len() as u64;
        let (start, found) = paged(found, page.as_ref())?;
        let ends = found.first().zip(found.last()).map(|(first, last)| PageEnds {
            first: first.address.to_string(),
            index: Some(start as u64),
            last: last.address.to_string(),
        });
        let set = PageAnswer { ends, count: Some(count) }.element();
        Ok(Some(Element::new("result", NS).with_all(found.iter().map(item)).with(set)))
    }

    /// Each search looks at many rooms, so nobody searches as often as it likes.
    fn check_searcher(&self, request: &Request) -> Outcome {
        let rate = Rate::new(request.server.config().rooms.searches_per_minute_max, 60);
        let now_millis = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
        // §3.2.3.4
        self.searches.take(&request.from.to_bare(), rate, now_millis).map_err(|seconds| {
            let limit = Element::new("rate-limit", NS_ERROR).with_attr("retry-after", seconds.to_string());
            let text = format!("you search too often: search again in {seconds} seconds");
            StanzaError::new(StanzaCondition::ResourceConstraint, text).with_application(limit)
        })
    }

    /// The rooms of a service that are found among those that are listed, as they are now.
    async fn candidates(&self, service: &BareJid, search: &Search) -> Outcome<Vec<Candidate>> {
        let mut awake: HashMap<BareJid, (Listed, usize)> = HashMap::new();
        for address in self.rooms.awake_of(service) {
            let look = |room: &mut super::room::Room, _: &mut super::rooms::Act<'_>| {
                room.is_listed().then(|| (Listed::of(room), room.occupants.len()))
            };
            if let Some((Some(known), _)) = self.rooms.with_awake(&address, false, look) {
                awake.insert(address, known);
            }
        }
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        // Nobody is in a room that sleeps: who looks for company need not look at those.
        let mut left = if search.users_min == 0 { LOOKED_MAX } else { 0 };
        while left > 0 {
            let rows = self.rooms.storage.listed(service, after.as_deref(), READ_AT_ONCE).await.map_err(refusal)?;
            let is_last = rows.len() < READ_AT_ONCE;
            left = left.saturating_sub(rows.len());
            after = rows.last().map(|(local, _)| local.clone());
            for (local, listed) in rows {
                let Ok(address) = BareJid::from_parts(Some(&local), service.domain()) else { continue };
                let (listed, users) = awake.remove(&address).unwrap_or((listed, 0));
                found.extend(Some(Candidate { address, listed, users }).filter(|candidate| search.finds(candidate)));
            }
            if is_last {
                break;
            }
        }
        // Rooms that do not last are in no row.
        let awake = awake.into_iter().map(|(address, (listed, users))| Candidate { address, listed, users });
        found.extend(awake.filter(|candidate| search.finds(candidate)));
        Ok(found)
    }
}

/// The page that is asked for, and how many are before it.
fn paged(mut found: Vec<Candidate>, page: Option<&PageRequest>) -> Outcome<(usize, Vec<Candidate>)> {
    let max = page.and_then(|page| page.max).map_or(FOUND_MAX, |max| (max as usize).min(FOUND_MAX));
    let place = |address: &str| {
        let place = found.iter().position(|candidate| candidate.address.as_str() == address);
        place.ok_or_else(|| StanzaError::from(StanzaCondition::ItemNotFound))
    };
    let start = match page.map(|page| &page.page) {
        None | Some(Page::First) => 0,
        Some(Page::After(address)) => place(address)? + 1,
        Some(Page::Before(address)) => place(address)?.saturating_sub(max),
        Some(Page::Last) => found.len().saturating_sub(max),
        Some(Page::Index(index)) => (*index as usize).min(found.len()),
    };
    let end = match page.map(|page| &page.page) {
        Some(Page::Before(address)) => place(address)?,
        _ => (start + max).min(found.len()),
    };
    found.truncate(end);
    Ok((start, found.split_off(start)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn submitted(fields: &[(&str, &str)]) -> Result<Search, (StanzaCondition, ErrorType, String)> {
        let form = fields.iter().fold(Form::typed(FormKind::Submit, NS_PARAMETERS), |form, (var, value)| {
            form.with(Field::new(FieldType::TextSingle, *var).with_value(*value))
        });
        Search::parse(&form).map_err(|error| {
            let name = error.application.as_ref().map_or_else(String::new, |element| element.name().to_owned());
            (error.condition, error.kind, name)
        })
    }

    fn candidate(local: &str, name: &str, description: &str, users: usize) -> Candidate {
        let address = BareJid::parse(&format!("{local}@chat.shakespeare.example")).unwrap();
        Candidate {
            address,
            listed: Listed { name: name.into(), description: description.into(), ..Listed::default() },
            users,
        }
    }

    #[test]
    fn what_cannot_be_searched_for_has_the_error_of_the_document() {
        use ErrorType::{Cancel, Modify};
        use StanzaCondition::{BadRequest, FeatureNotImplemented};
        for (fields, condition, kind, name) in [
            (&[][..], BadRequest, Cancel, "no-search-conditions"),
            (&[("all", "0"), ("q", " ")], BadRequest, Cancel, "no-search-conditions"),
            (&[("all", "1"), ("q", "x")], BadRequest, Modify, "conflicting-fields"),
            (
                &[("q", "x"), ("sinname", "0"), ("sindescription", "0"), ("sinaddress", "0")],
                BadRequest,
                Modify,
                "conflicting-fields",
            ),
            (&[("q", "?! -")], BadRequest, Modify, "invalid-search-terms"),
            (&[("q", "x"), ("key", "{x}y")], FeatureNotImplemented, Modify, "invalid-sort-key"),
            (&[("q", "x"), ("min_users", "many")], BadRequest, Modify, ""),
            (&[("q", "x"), ("sinname", "perhaps")], BadRequest, Modify, ""),
        ] {
            assert_eq!(submitted(fields), Err((condition, kind, name.to_owned())), "{fields:?}");
        }
        let many = (0..17).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        for q in [many, "x".repeat(1025)] {
            assert_eq!(submitted(&[("q", &q)]).unwrap_err().2, "invalid-search-terms");
        }
    }

    #[test]
    fn every_word_is_in_one_of_the_texts_that_are_looked_at() {
        let cave = candidate("coven", "A Dark Cave", "Witches' meetings", 3);
        for (fields, found) in [
            (&[("q", "dark WITCHES")][..], true),
            (&[("q", "\"cave\" coven")], true),
            (&[("q", "dark heath")], false),
            (&[("q", "witches"), ("sindescription", "0")], false),
            (&[("q", "coven"), ("sinaddr", "0")], false),
            (&[("all", "1"), ("min_users", "4")], false),
            (&[("all", "true"), ("min_users", "3")], true),
        ] {
            assert_eq!(submitted(fields).unwrap().finds(&cave), found, "{fields:?}");
        }
        assert!(!submitted(&[("all", "1"), ("types", "xep-0369")]).unwrap().rooms);
    }

    #[test]
    fn rooms_come_by_their_occupants_or_their_addresses_in_pages() {
        let rooms = [candidate("b", "", "", 1), candidate("c", "", "", 5), candidate("a", "", "", 1)];
        let locals = |found: &[Candidate]| -> String {
            found.iter().filter_map(|c| c.address.local().map(str::to_owned)).collect()
        };
        for (key, order) in [(BY_USERS, "cab"), (BY_ADDRESS, "abc")] {
            let mut found = rooms.to_vec();
            submitted(&[("all", "1"), ("key", key)]).unwrap().sort(&mut found);
            assert_eq!(locals(&found), order);
            let at = |n: usize| found[n].address.to_string();
            for (page, start, expected) in [
                (Page::First, 0, &order[0..2]),
                (Page::After(at(0)), 1, &order[1..3]),
                (Page::After(at(2)), 3, ""),
                (Page::Last, 1, &order[1..3]),
                (Page::Before(at(1)), 0, &order[0..1]),
                (Page::Index(2), 2, &order[2..3]),
            ] {
                let asked = PageRequest { max: Some(2), page };
                let (begins, found) = paged(found.clone(), Some(&asked)).unwrap();
                assert_eq!((begins, &*locals(&found)), (start, expected), "{asked:?}");
            }
        }
        let gone = PageRequest { max: None, page: Page::After("x".into()) };
        assert_eq!(paged(rooms.to_vec(), Some(&gone)).unwrap_err().condition, StanzaCondition::ItemNotFound);
    }
}
