//! XEP-0317: Hats
//!
//! What people are in a room besides its roles and affiliations. Owners and admins make hats and give them to accounts; whoever wears
//! some is seen with them.

use std::collections::BTreeMap;

use magpie_proto::error::ErrorType;
use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::disco;
use magpie_proto::xeps::muc::{self, Affiliation, Status};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::Record;

use super::room::{Change, Outcome, Outside, Room};
use crate::modules::adhoc;

/// The namespace.
pub const NS: &str = "urn:xmpp:hats:0";

const FORM_TYPE: &str = "urn:xmpp:hats:commands";

/// Hats of one room; hats on all heads together.
const HATS_MAX: usize = 64;
const WORN_MAX: usize = 1000;

/// Bytes of a URI and of a title.
const URI_BYTES_MAX: usize = 1024;
const TITLE_BYTES_MAX: usize = 256;

/// A hat, whose name is its URI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hat {
    title: String,
    hue: Option<String>,
}

/// The hats of a room, and who wears them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hats {
    all: BTreeMap<String, Hat>,
    worn: BTreeMap<BareJid, Vec<String>>,
}

impl Hats {
    /// What an account wears, for its presence.
    fn of(&self, account: &BareJid) -> Option<Element> {
        let worn = self.worn.get(account)?.iter().filter_map(|uri| Some(element(uri, self.all.get(uri)?)));
        Some(Element::new("hats", NS).with_all(worn))
    }

    fn take_all(&mut self, account: &BareJid) -> bool {
        self.worn.remove(account).is_some()
    }

    fn worn(&self) -> usize {
        self.worn.values().map(Vec::len).sum()
    }

    fn take(&mut self, account: &BareJid, uri: &str) -> bool {
        let Some(worn) = self.worn.get_mut(account) else { return false };
        let before = worn.len();
        worn.retain(|other| other != uri);
        let taken = worn.len() < before;
        if worn.is_empty() {
            self.worn.remove(account);
        }
        taken
    }

    /// §2: another one for each list.
    fn hash(&self) -> String {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for (uri, hat) in &self.all {
            for text in [uri, &hat.title, hat.hue.as_deref().unwrap_or_default()] {
                context.update(text.as_bytes());
                context.update(&[0]);
            }
        }
        context.finish().as_ref().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn element(uri: &str, hat: &Hat) -> Element {
    let mut element = Element::new("hat", NS).with_attr("title", &hat.title).with_attr("uri", uri);
    if let Some(hue) = &hat.hue {
        element.set_attr("hue", hue);
    }
    element
}

impl Record for Hats {
    fn encode(&self, out: &mut Vec<u8>) {
        let worn = self.worn.iter().flat_map(|(account, uris)| uris.iter().map(move |uri| (account, uri)));
        let worn = worn.map(|(account, uri)| Element::new("worn", NS).with_attr("by", account).with_attr("uri", uri));
        let all = self.all.iter().map(|(uri, hat)| element(uri, hat));
        Element::new("hats", NS).with_all(all).with_all(worn).write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut hats = Self::default();
        for child in Element::parse(bytes, ns::CLIENT).ok()?.children() {
            let uri = child.attr("uri")?.to_owned();
            match child.attr("by") {
                Some(account) => hats.worn.entry(BareJid::parse(account).ok()?).or_default().push(uri),
                None => {
                    let hat = Hat { title: child.attr("title")?.to_owned(), hue: child.attr("hue").map(str::to_owned) };
                    hats.all.insert(uri, hat);
                }
            }
        }
        Some(hats)
    }
}

/// A command of §3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Create,
    Destroy,
    List,
    Assign,
    Unassign,
    ListAssigned,
}

impl Command {
    const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Create, "urn:xmpp:hats:commands:create", "Make or change a hat"),
        (Self::Destroy, "urn:xmpp:hats:commands:destroy", "Destroy a hat"),
        (Self::List, "urn:xmpp:hats:commands:list", "List hats"),
        (Self::Assign, "urn:xmpp:hats:commands:assign", "Assign a hat"),
        (Self::Unassign, "urn:xmpp:hats:commands:unassign", "Take a hat back"),
        (Self::ListAssigned, "urn:xmpp:hats:commands:list-assigned", "List assigned hats"),
    ];
}

fn bad_payload(text: &str) -> StanzaError {
    let error = StanzaError::new(StanzaCondition::BadRequest, text).with_type(ErrorType::Modify);
    error.with_application(Element::new("bad-payload", adhoc::NS))
}

impl Room {
    /// An account wears none any more.
    pub(super) fn drop_hats(&mut self, account: &BareJid, out: &mut impl Outside) {
        if self.hats.as_mut().is_some_and(|hats| hats.take_all(account)) {
            out.change(Change::Hats);
        }
    }

    /// What an account wears in the room.
    pub(super) fn hats_of(&self, account: &BareJid) -> Option<Element> {
        self.hats.as_ref()?.of(account)
    }

    /// The field that tells which hats there are.
    pub(super) fn hats_field(&self) -> Option<Field> {
        let hats = self.hats.as_ref().filter(|hats| !hats.all.is_empty())?;
        Some(Field::new(FieldType::TextSingle, "hats#hash").with_label("Hats").with_value(hats.hash()))
    }

    /// The commands, for those who may run them.
    pub(super) fn hat_commands(&self, from: &Jid) -> disco::Items {
        let may = self.affiliation(&from.to_bare()) >= Affiliation::Admin;
        let items = Command::ALL.iter().filter(|(command, ..)| may || *command == Command::List);
        let item = |(_, node, title): &(Command, &str, &str)| {
            disco::Item::new(self.address.clone()).with_node(*node).with_name(*title)
        };
        disco::Items { node: Some(adhoc::NS.to_owned()), items: items.map(item).collect() }
    }

    /// Runs a command, and says what came of it. Nothing is kept between a form and its submission.
    pub fn hat_command(&mut self, from: &Jid, payload: &Element, id: &str, out: &mut impl Outside) -> Outcome<Element> {
        self.check_seen(from)?;
        let node = payload.attr("node").ok_or(StanzaCondition::BadRequest)?;
        let found = Command::ALL.iter().find(|(_, known, _)| *known == node);
        let (command, node, title) = *found.ok_or(StanzaCondition::ItemNotFound)?;
        let may = match command {
            Command::List => self.admits(&from.to_bare()),
            _ => self.affiliation(&from.to_bare()) >= Affiliation::Admin,
        };
        if !may {
            return Err(StanzaCondition::Forbidden.into());
        }
        let answer = |status: &str| {
            Element::new("command", adhoc::NS)
                .with_attr("node", node)
                .with_attr("sessionid", id)
                .with_attr("status", status)
        };
        let form = Form::of(payload).filter(|form| form.kind == FormKind::Submit);
        match (command, payload.attr("action"), form) {
            (_, Some("cancel"), _) => Ok(answer("canceled")),
            (_, Some("prev"), _) => {
                let error = StanzaError::new(StanzaCondition::BadRequest, "this is the first form");
                Err(error.with_application(Element::new("bad-action", adhoc::NS)))
            }
            (Command::List | Command::ListAssigned, ..) => {
                Ok(answer("completed").with(self.hats_shown(command).element()))
            }
            (_, _, None) => {
                let actions = Element::new("actions", adhoc::NS).with_attr("execute", "complete");
                let actions = actions.with(Element::new("complete", adhoc::NS));
                Ok(answer("executing").with(actions).with(self.hat_form(command, title).element()))
            }
            (_, _, Some(form)) => {
                self.change_hats(command, &form, out)?;
                Ok(answer("completed"))
            }
        }
    }

    fn hat_form(&self, command: Command, title: &str) -> Form {
        let line = |var: &str, label: &str| Field::new(FieldType::TextSingle, var).with_label(label);
        let form = Form::typed(FormKind::Form, FORM_TYPE).with_title(title);
        let jid = Field::new(FieldType::JidSingle, "hats#jid").with_label("Address").required();
        let choice = Field::new(FieldType::ListSingle, "hats#uri").with_label("Hat").required();
        let all = self.hats.iter().flat_map(|hats| &hats.all);
        let choice = all.fold(choice, |choice, (uri, hat)| choice.with_option(hat.title.as_str(), uri.as_str()));
        match command {
            Command::Create => form
                .with(line("hats#title", "Title").required())
                .with(line("hats#uri", "URI").required())
                .with(line("hats#hue", "Hue, as degrees")),
            Command::Destroy => form.with(choice),
            _ => form.with(jid).with(choice),
        }
    }

    fn hats_shown(&self, command: Command) -> Form {
        let field =
            |var: &str, value: &str| Field { kind: None, ..Field::new(FieldType::TextSingle, var) }.with_value(value);
        let hat = |uri: &str, hat: &Hat| {
            let mut fields = vec![field("hats#title", &hat.title), field("hats#uri", uri)];
            fields.extend(hat.hue.as_deref().map(|hue| field("hats#hue", hue)));
            fields
        };
        let mut form = Form::typed(FormKind::Result, FORM_TYPE);
        let mut vars = vec!["hats#title", "hats#uri", "hats#hue"];
        match (command, self.hats.as_deref()) {
            (Command::ListAssigned, hats) => {
                vars.insert(0, "hats#jid");
                for (account, uris) in hats.iter().flat_map(|hats| &hats.worn) {
                    let worn = uris.iter().filter_map(|uri| Some((uri, hats?.all.get(uri)?)));
                    form.items.extend(
                        worn.map(|(uri, known)| [vec![field("hats#jid", account.as_str())], hat(uri, known)].concat()),
                    );
                }
            }
            (_, hats) => form.items.extend(hats.iter().flat_map(|hats| &hats.all).map(|(uri, known)| hat(uri, known))),
        }
        form.reported = vars.iter().map(|var| Field::new(FieldType::TextSingle, *var)).collect();
        form
    }

    fn change_hats(&mut self, command: Command, form: &Form, out: &mut impl Outside) -> Outcome {
        // §3.3: the form of a destruction has had another name for it.
        let uri = form.value("hats#uri").or_else(|| form.value("hat")).map(str::trim).filter(|uri| !uri.is_empty());
        let uri = uri.ok_or_else(|| bad_payload("the URI of the hat is missing"))?.to_owned();
        let account = match command {
            Command::Assign | Command::Unassign => {
                let jid = form.value("hats#jid").ok_or_else(|| bad_payload("the address is missing"))?;
                let jid = Jid::parse(jid).map_err(|_| bad_payload("the address is none"))?;
                Some(jid.to_bare())
            }
            _ => None,
        };
        let mut hats = self.hats.as_deref().cloned().unwrap_or_default();
        let too_many = |text: &str| Err(StanzaError::new(StanzaCondition::ResourceConstraint, text));
        let concerned: Vec<BareJid> = match (command, account) {
            (Command::Create, _) => {
                if hats.all.len() >= HATS_MAX && !hats.all.contains_key(&uri) {
                    return too_many("the room has too many hats");
                }
                let hat = read(form, &uri)?;
                hats.all.insert(uri.clone(), hat);
                wearers(&hats, &uri)
            }
            (Command::Destroy, _) => {
                hats.all.remove(&uri).ok_or(StanzaCondition::ItemNotFound)?;
                let wearers = wearers(&hats, &uri);
                for account in &wearers {
                    hats.take(account, &uri);
                }
                wearers
            }
            (Command::Assign, Some(account)) => {
                if !hats.all.contains_key(&uri) {
                    return Err(StanzaCondition::ItemNotFound.into());
                }
                if hats.worn() >= WORN_MAX {
                    return too_many("too many hats are assigned in the room");
                }
                let worn = hats.worn.entry(account.clone()).or_default();
                if !worn.contains(&uri) {
                    worn.push(uri);
                }
                vec![account]
            }
            (_, Some(account)) => match hats.take(&account, &uri) {
                true => vec![account],
                false => return Err(StanzaCondition::ItemNotFound.into()),
            },
            (_, None) => return Err(StanzaCondition::BadRequest.into()),
        };
        if self.hats.as_deref() == Some(&hats) {
            return Ok(());
        }
        let listed = self.hats.as_deref().map(|hats| &hats.all) != Some(&hats.all)
            && matches!(command, Command::Create | Command::Destroy);
        self.hats = Some(Box::new(hats));
        out.change(Change::Hats);
        if listed {
            let message =
                Element::new("message", ns::CLIENT).with_attr("from", &self.address).with_attr("type", "groupchat");
            self.broadcast(&Stanza::new(&message.with(muc::user(None, &[Status::ConfigurationChanged]))), out);
        }
        for account in &concerned {
            let nicks: Vec<String> =
                self.occupants.of_account(account).map(|occupant| occupant.nick().to_owned()).collect();
            for nick in &nicks {
                self.refresh(nick);
                self.show(nick, &[], out);
            }
        }
        Ok(())
    }
}

fn wearers(hats: &Hats, uri: &str) -> Vec<BareJid> {
    hats.worn
        .iter()
        .filter(|(_, uris)| uris.iter().any(|worn| worn == uri))
        .map(|(account, _)| account.clone())
        .collect()
}

fn read(form: &Form, uri: &str) -> Outcome<Hat> {
    if uri.len() > URI_BYTES_MAX || !uri.contains(':') || uri.contains(char::is_whitespace) {
        return Err(bad_payload("the URI is none, or too long"));
    }
    let title = form.value("hats#title").map(str::trim).filter(|title| (1..=TITLE_BYTES_MAX).contains(&title.len()));
    let title = title.ok_or_else(|| bad_payload("the title is missing or too long"))?.to_owned();
    let hue = form.value("hats#hue").map(str::trim).filter(|hue| !hue.is_empty());
    let is_hue = |hue: &str| hue.len() <= 32 && hue.parse::<f64>().is_ok_and(|hue| (0.0..=360.0).contains(&hue));
    match hue.is_none_or(is_hue) {
        true => Ok(Hat { title, hue: hue.map(str::to_owned) }),
        false => Err(bad_payload("the hue is 0 to 360 degrees")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::tests::{Scene, bare, full, stanza};
    use super::*;

    const TEACHER: &str = "http://tech.example.edu/hats#Teacher";

    fn run(scene: &mut Scene, who: &str, command: &str, fields: &[(&str, &str)]) -> Outcome<Element> {
        let form = fields.iter().fold(Form::typed(FormKind::Submit, FORM_TYPE), |form, (var, value)| {
            form.with(Field::new(FieldType::TextSingle, format!("hats#{var}")).with_value(*value))
        });
        let payload = Element::new("command", adhoc::NS).with_attr("node", format!("{FORM_TYPE}:{command}"));
        let payload = if fields.is_empty() { payload } else { payload.with(form.element()) };
        scene.room.hat_command(&full(who).into(), &payload, "1", &mut scene.written)
    }

    /// The titles that an occupant is shown with to another in what was sent since the last look.
    fn shown(scene: &mut Scene) -> Vec<String> {
        let sent = std::mem::take(&mut scene.written.sent);
        let presences =
            sent.iter().filter(|(to, stanza)| to == "crone" && stanza.kind() == magpie_proto::xml::Kind::Presence);
        let titles = |presence: &Stanza| {
            let hats = presence.child("hats", NS).map(|hats| hats.element());
            let titles = hats.iter().flat_map(Element::children).filter_map(|hat| hat.attr("title"));
            titles.collect::<Vec<_>>().join(",")
        };
        presences.map(|(_, presence)| titles(presence)).collect()
    }

    #[test]
    fn who_is_given_a_hat_is_seen_with_it_until_it_is_taken_back_or_destroyed() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        let (uri, jid) = (("uri", TEACHER), ("jid", "hag@shakespeare.example"));
        run(&mut scene, "crone", "create", &[uri, ("title", "Teacher"), ("hue", "327.25")]).unwrap();
        assert_eq!(shown(&mut scene), [""; 0]);
        run(&mut scene, "crone", "assign", &[uri, jid]).unwrap();
        assert_eq!(shown(&mut scene), ["Teacher"]);
        // Its next presence shows it too, and its own words about hats do not count.
        let claims = format!("<presence><hats xmlns='{NS}'><hat uri='x:y' title='King'/></hats></presence>");
        scene.presence("hag", "hag", &claims).unwrap();
        assert_eq!(shown(&mut scene), ["Teacher"]);
        run(&mut scene, "crone", "create", &[uri, ("title", "Professor")]).unwrap();
        assert_eq!(shown(&mut scene), ["Professor"]);
        run(&mut scene, "crone", "unassign", &[uri, jid]).unwrap();
        assert_eq!(shown(&mut scene), [""]);
        run(&mut scene, "crone", "assign", &[uri, jid]).unwrap();
        run(&mut scene, "crone", "destroy", &[uri]).unwrap();
        assert_eq!(shown(&mut scene), ["Professor", ""]);
        assert_eq!(scene.written.changes.last(), Some(&Change::Hats));
        assert_eq!(
            run(&mut scene, "crone", "assign", &[uri, jid]).unwrap_err().condition,
            StanzaCondition::ItemNotFound
        );
    }

    #[test]
    fn only_owners_and_admins_change_hats() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        for command in ["create", "destroy", "assign", "unassign", "list-assigned"] {
            assert_eq!(run(&mut scene, "hag", command, &[]).unwrap_err().condition, StanzaCondition::Forbidden);
        }
        run(&mut scene, "hag", "list", &[]).unwrap();
        assert_eq!(run(&mut scene, "crone", "wear", &[]).unwrap_err().condition, StanzaCondition::ItemNotFound);
        assert_eq!(scene.room.hat_commands(&full("hag").into()).items.len(), 1);
        assert_eq!(scene.room.hat_commands(&full("crone").into()).items.len(), 6);
    }

    #[test]
    fn a_hat_that_is_none_and_one_too_many_are_refused() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
        for fields in [
            &[("uri", TEACHER)][..],
            &[("title", "Teacher")],
            &[("uri", "teacher"), ("title", "Teacher")],
            &[("uri", TEACHER), ("title", "Teacher"), ("hue", "400")],
        ] {
            assert_eq!(
                run(&mut scene, "crone", "create", fields).unwrap_err().condition,
                StanzaCondition::BadRequest,
                "{fields:?}"
            );
        }
        for n in 0..=HATS_MAX {
            let made = run(&mut scene, "crone", "create", &[("uri", &format!("x:{n}")), ("title", "x")]);
            assert_eq!(made.is_ok(), n < HATS_MAX, "{n}");
        }
    }

    #[test]
    fn hats_are_read_as_they_are_written_and_another_list_has_another_hash() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
        let hash = |scene: &Scene| scene.room.hats_field().map(|field| field.value().unwrap().to_owned());
        assert_eq!(hash(&scene), None);
        run(&mut scene, "crone", "create", &[("uri", TEACHER), ("title", "A & B"), ("hue", "1.5")]).unwrap();
        let first = hash(&scene);
        run(&mut scene, "crone", "create", &[("uri", "x:y"), ("title", "C")]).unwrap();
        run(&mut scene, "crone", "assign", &[("uri", TEACHER), ("jid", "hag@shakespeare.example/pda")]).unwrap();
        assert!(first.is_some() && first != hash(&scene));
        let hats = scene.room.hats.as_deref().unwrap();
        assert!(hats.worn.contains_key(&bare("hag")));
        let mut bytes = Vec::new();
        hats.encode(&mut bytes);
        assert_eq!(Hats::decode(&bytes).as_ref(), Some(hats));
        assert!(!stanza("<presence/>").text().contains("hats"));
    }
}
