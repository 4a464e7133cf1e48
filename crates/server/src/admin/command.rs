//! XEP-0050, XEP-0133: what people see of an operation where they run it from a client: a form to fill in, and what came of it.
//!
//! An operation says it in constants beside its arguments; `modules/adhoc.rs` speaks the protocol.

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::{Element, Jid, ns};
use serde_json::{Map, Value};

use crate::config::schema::Kind;

/// XEP-0133: the type of its forms, and with what the names of its commands begin.
pub const ADMIN: &str = "http://jabber.org/protocol/admin";

/// Addresses that one form may name: one more is refused.
pub const ADDRESSES_MAX: usize = 1000;

/// An operation as a command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its node: stable, unique.
    pub node: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// What to fill in.
    pub instructions: &'static str,
    /// Which kind of form it is (XEP-0068).
    pub form_type: &'static str,
    /// Who may run it.
    pub permission: Permission,
    /// Where the arguments come from.
    pub arguments: &'static [Argument],
    /// What is shown of the result.
    pub results: &'static [Shown],
    /// What is said where nothing is shown.
    pub done: &'static str,
    /// The operation whose result stands in the form at first, by the names of the arguments.
    pub filled_by: Option<&'static str>,
}

/// Who may run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The `admins` of the configuration.
    Admin,
    /// They, and every user where the configuration lets users invite others to make accounts.
    Inviter,
    /// Every user, on the domain of the own account.
    User,
}

/// An argument of the operation.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name in the operation.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
}

/// Where an argument comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The form.
    Field(FormField),
    /// The domain that was asked.
    Host,
    /// The account that asks.
    Requester,
    /// It is so.
    Always(bool),
    /// It is this word.
    Word(&'static str),
}

/// A field of the form.
#[derive(Clone, Copy, Debug)]
pub struct FormField {
    /// Its name on the wire.
    pub var: &'static str,
    /// What it holds.
    pub kind: FieldType,
    /// Its name for people.
    pub label: &'static str,
    /// Whether the form is incomplete without it.
    pub required: bool,
    /// What stands in it at first.
    pub default: Option<&'static str>,
    /// What there is to choose from: value and label.
    pub options: &'static [(&'static str, &'static str)],
    /// Whether the operation runs once for each of its values.
    pub each: bool,
    /// A second field that must say the same.
    pub again: Option<(&'static str, &'static str)>,
}

/// A part of the result.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Its key in the operation's result.
    pub key: &'static str,
    /// Its name on the wire.
    pub var: &'static str,
    /// What it is; `None`: a roster, as RFC 6121 writes it.
    pub kind: Option<FieldType>,
    /// Its name for people.
    pub label: &'static str,
}

impl Command {
    /// A command for administrators without arguments.
    pub const fn new(node: &'static str, title: &'static str, instructions: &'static str) -> Self {
        Self {
            node,
            title,
            instructions,
            form_type: ADMIN,
            permission: Permission::Admin,
            arguments: &[],
            results: &[],
            done: "Done.",
            filled_by: None,
        }
    }

    /// With arguments.
    pub const fn with(self, arguments: &'static [Argument]) -> Self {
        Self { arguments, ..self }
    }

    /// With what is shown of the result.
    pub const fn showing(self, results: &'static [Shown]) -> Self {
        Self { results, ..self }
    }

    /// With what is said where nothing is shown.
    pub const fn saying(self, done: &'static str) -> Self {
        Self { done, ..self }
    }

    /// With the operation whose result stands in the form at first. It takes those of the arguments that are in no field.
    pub const fn filled_by(self, operation: &'static str) -> Self {
        Self { filled_by: Some(operation), ..self }
    }

    /// The arguments that are in no field.
    pub fn given(&self, host: &str, requester: &str) -> Map<String, Value> {
        let given = |argument: &Argument| {
            let value = match argument.source {
                Source::Host => host.into(),
                Source::Requester => requester.into(),
                Source::Always(so) => so.into(),
                Source::Word(word) => word.into(),
                Source::Field(_) => return None,
            };
            Some((argument.name.to_owned(), value))
        };
        self.arguments.iter().filter_map(given).collect()
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, &'static FormField)> {
        self.arguments.iter().filter_map(|argument| match &argument.source {
            Source::Field(field) => Some((argument.name, field)),
            _ => None,
        })
    }

    /// Whether there is something to fill in.
    pub fn has_form(&self) -> bool {
        self.fields().next().is_some()
    }

    /// The form to fill in, with what stands there at first.
    pub fn form(&self, first: &Value) -> Form {
        let mut form = Form::typed(FormKind::Form, self.form_type).with_title(self.title);
        form = form.with_instructions(self.instructions);
        for (name, field) in self.fields() {
            let mut shown = Field::new(field.kind, field.var).with_label(field.label);
            shown.required = field.required;
            match texts(&first[name]) {
                values if !values.is_empty() => {
                    shown = shown.with_values(values.iter().flat_map(|value| value.lines()))
                }
                _ => shown = shown.with_values(field.default),
            }
            shown = field.options.iter().fold(shown, |shown, (value, label)| shown.with_option(*label, *value));
            form = form.with(shown);
            if let Some((var, label)) = field.again {
                let again = Field { required: field.required, ..Field::new(field.kind, var).with_label(label) };
                form = form.with(again);
            }
        }
        form
    }

    /// The arguments of each run: one, unless a field asks for a run for each of its values. `arguments` is what the operation takes.
    ///
    /// # Errors
    /// What is wrong with the form.
    pub fn read(&self, form: &Form, arguments: &Kind, host: &str, requester: &str) -> Result<Vec<Value>, String> {
        let mut one = self.given(host, requester);
        let mut each = None;
        for (name, field) in self.fields() {
            if field.each {
                each = Some((name, field.values(form)?));
                continue;
            }
            let kind = arguments.as_table().and_then(|table| table.get(name));
            if let Some(value) = field.value(form, kind.unwrap_or(&Kind::Text))? {
                one.insert(name.to_owned(), value);
            }
        }
        let Some((name, values)) = each else { return Ok(vec![one.into()]) };
        let with = |value: String| {
            let mut one = one.clone();
            one.insert(name.to_owned(), value.into());
            one.into()
        };
        Ok(values.into_iter().map(with).collect())
    }

    /// What is shown of the results of the runs; `None` where nothing is.
    pub fn result(&self, results: &[Value]) -> Option<Element> {
        if self.results.is_empty() || results.is_empty() {
            return None;
        }
        let mut form = Form::typed(FormKind::Result, self.form_type).with_title(self.title);
        let plain = |shown: &&Shown| shown.kind.is_some();
        if let [result] = results {
            form.fields.extend(self.results.iter().filter(plain).filter_map(|shown| shown.field(result)));
        } else {
            form.reported =
                self.results.iter().filter(plain).map(|shown| Field { values: Vec::new(), ..shown.empty() }).collect();
            let row = |result: &Value| {
                let shown = self.results.iter().filter(plain);
                shown.map(|shown| shown.field(result).unwrap_or_else(|| shown.empty())).collect()
            };
            form.items = results.iter().map(row).collect();
        }
        let mut element = form.element();
        for shown in self.results.iter().filter(|shown| shown.kind.is_none()) {
            results.iter().for_each(|result| element.push(roster(&result[shown.key])));
        }
        Some(element)
    }
}

impl Argument {
    /// An argument that a field of the form holds.
    pub const fn field(name: &'static str, var: &'static str, kind: FieldType, label: &'static str) -> Self {
        let field =
            FormField { var, kind, label, required: false, default: None, options: &[], each: false, again: None };
        Self { name, source: Source::Field(field) }
    }

    /// The domain that was asked.
    pub const fn host(name: &'static str) -> Self {
        Self { name, source: Source::Host }
    }

    /// The account that asks.
    pub const fn requester(name: &'static str) -> Self {
        Self { name, source: Source::Requester }
    }

    /// An argument that is always so.
    pub const fn always(name: &'static str, so: bool) -> Self {
        Self { name, source: Source::Always(so) }
    }

    /// An argument that is always this word.
    pub const fn word(name: &'static str, word: &'static str) -> Self {
        Self { name, source: Source::Word(word) }
    }

    /// The address of an account.
    pub const fn account(label: &'static str) -> Self {
        Self::field("jid", "accountjid", FieldType::JidSingle, label).required()
    }

    /// The addresses of accounts, for each of which the operation runs.
    pub const fn accounts(label: &'static str) -> Self {
        Self::field("jid", "accountjids", FieldType::JidMulti, label).required().edited(None, &[], true, None)
    }

    /// How many lines are wanted at most.
    pub const fn max_items() -> Self {
        const OPTIONS: &[(&str, &str)] = &[
            ("25", "25"),
            ("50", "50"),
            ("75", "75"),
            ("100", "100"),
            ("150", "150"),
            ("200", "200"),
            ("none", "None"),
        ];
        Self::field("limit", "max_items", FieldType::ListSingle, "Maximum number of items to show").edited(
            Some("200"),
            OPTIONS,
            false,
            None,
        )
    }

    /// The form is incomplete without it.
    pub const fn required(self) -> Self {
        match self.source {
            Source::Field(field) => Self { source: Source::Field(FormField { required: true, ..field }), ..self },
            _ => self,
        }
    }

    /// With a value that stands there at first.
    pub const fn with_default(self, default: &'static str) -> Self {
        self.edited(Some(default), &[], false, None)
    }

    /// With what there is to choose from, value and label; the first stands there at first.
    pub const fn choosing(self, options: &'static [(&'static str, &'static str)]) -> Self {
        self.edited(Some(options[0].0), options, false, None)
    }

    /// With another field that must say the same.
    pub const fn again(self, var: &'static str, label: &'static str) -> Self {
        self.edited(None, &[], false, Some((var, label)))
    }

    const fn edited(
        self,
        default: Option<&'static str>,
        options: &'static [(&'static str, &'static str)],
        each: bool,
        again: Option<(&'static str, &'static str)>,
    ) -> Self {
        match self.source {
            Source::Field(field) => {
                Self { source: Source::Field(FormField { default, options, each, again, ..field }), ..self }
            }
            _ => self,
        }
    }
}

impl FormField {
    /// The values of a field of addresses, each once.
    fn values(&self, form: &Form) -> Result<Vec<String>, String> {
        let field = form.field(self.var).ok_or_else(|| self.missing())?;
        // Some clients send all of them as one value, a line each.
        let lines = field.values.iter().flat_map(|value| value.lines()).map(str::trim).filter(|line| !line.is_empty());
        let mut values: Vec<String> = Vec::new();
        for line in lines {
            let jid = Jid::parse(line).map_err(|_| format!("\"{line}\" is no address"))?.to_string();
            if !values.contains(&jid) {
                values.push(jid);
            }
        }
        match values.len() {
            0 => Err(self.missing()),
            1..=ADDRESSES_MAX => Ok(values),
            _ => Err(format!("{}: more than {ADDRESSES_MAX} addresses", self.label)),
        }
    }

    fn value(&self, form: &Form, kind: &Kind) -> Result<Option<Value>, String> {
        let field = form.field(self.var).filter(|field| field.values.iter().any(|value| !value.is_empty()));
        let Some(field) = field else {
            return if self.required { Err(self.missing()) } else { Ok(None) };
        };
        if let Some((again, _)) = self.again
            && form.field(again).is_some_and(|other| other.values != field.values)
        {
            return Err(format!("{}: the two differ", self.label));
        }
        let chosen = |value: &str| self.options.iter().any(|(option, _)| *option == value);
        if self.kind == FieldType::ListSingle && !self.options.is_empty() && !field.value().is_some_and(chosen) {
            return Err(format!("{}: this cannot be chosen", self.label));
        }
        let text = field.value().unwrap_or_default();
        Ok(Some(match kind {
            Kind::Boolean => field.boolean().ok_or_else(|| format!("{}: write 1 or 0", self.label))?.into(),
            // A list to choose from may have a word for no limit.
            Kind::Integer if text == "none" => return Ok(None),
            Kind::Integer => {
                let number = text.trim().parse::<u64>();
                number.map_err(|_| format!("{}: \"{text}\" is no number", self.label))?.into()
            }
            Kind::List(_) => {
                let lines = field.values.iter().flat_map(|value| value.lines()).map(str::trim);
                lines.filter(|line| !line.is_empty()).map(Value::from).collect()
            }
            _ if self.kind == FieldType::TextMulti => field.text().into(),
            _ => text.into(),
        }))
    }

    fn missing(&self) -> String {
        format!("{}: it is missing", self.label)
    }
}

impl Shown {
    /// A part that is text, addresses or a number.
    pub const fn new(key: &'static str, var: &'static str, kind: FieldType, label: &'static str) -> Self {
        Self { key, var, kind: Some(kind), label }
    }

    /// A part that is a roster.
    pub const fn roster(key: &'static str) -> Self {
        Self { key, var: "", kind: None, label: "" }
    }

    fn empty(&self) -> Field {
        Field { kind: self.kind, ..Field::new(FieldType::TextSingle, self.var) }.with_label(self.label)
    }

    fn field(&self, result: &Value) -> Option<Field> {
        let values = texts(&result[self.key]);
        (!values.is_empty()).then(|| self.empty().with_values(values))
    }
}

/// A value of a result as lines.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(values) => {
            let pairs = values.iter().filter(|(_, value)| !value.is_null());
            vec![pairs.map(|(key, value)| format!("{key}: {}", texts(value).join(", "))).collect::<Vec<_>>().join("; ")]
        }
        other => vec![other.to_string()],
    }
}

/// XEP-0133 §4.8: the roster that `user_roster` gave.
fn roster(items: &Value) -> Element {
    let mut query = Element::new("query", ns::ROSTER);
    for item in items.as_array().into_iter().flatten() {
        let mut element = Element::new("item", ns::ROSTER);
        for name in ["jid", "name", "subscription", "ask"] {
            if let Some(text) = item[name].as_str() {
                element.set_attr(name, text);
            }
        }
        let groups = texts(&item["groups"]);
        query
            .push(element.with_all(groups.into_iter().map(|group| Element::new("group", ns::ROSTER).with_text(group))));
    }
    query
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::admin::OPERATIONS;
    use serde_json::json;

    fn command(node: &str) -> (&'static Command, Kind) {
        let found = OPERATIONS.iter().flat_map(|operation| operation.commands.iter().map(move |c| (c, operation)));
        let (command, operation) = found.into_iter().find(|(command, _)| command.node.ends_with(node)).unwrap();
        (command, (operation.arguments)())
    }

    fn submitted(fields: &[(&str, &[&str])]) -> Form {
        let field = |(var, values): &(&str, &[&str])| {
            Field { kind: None, ..Field::new(FieldType::TextSingle, *var) }.with_values(values.iter().copied())
        };
        fields.iter().map(field).fold(Form::typed(FormKind::Submit, ADMIN), Form::with)
    }

    #[test]
    fn each_command_has_a_node_of_its_own_and_gives_arguments_that_the_operation_takes() {
        let mut nodes = Vec::new();
        for operation in OPERATIONS {
            let kind = (operation.arguments)();
            for command in operation.commands {
                assert!(!nodes.contains(&command.node), "{}", command.node);
                nodes.push(command.node);
                for argument in command.arguments {
                    let known = kind.as_table().and_then(|table| table.get(argument.name));
                    assert!(known.is_some(), "{} has no argument {}", operation.name, argument.name);
                }
                if operation.name != "user_add" {
                    continue;
                }
                assert!(command.form(&Value::Null).field("accountjid").unwrap().required);
            }
        }
        assert!(nodes.len() > 15);
    }

    #[test]
    fn a_form_is_read_into_the_arguments_of_the_operation() {
        let (add, kind) = command("#add-user");
        let form = submitted(&[("accountjid", &["a@example.org"]), ("password", &["x"]), ("password-verify", &["x"])]);
        let read = add.read(&form, &kind, "example.org", "admin@example.org").unwrap();
        assert_eq!(read, [json!({ "jid": "a@example.org", "password": "x" })]);
        let differs =
            submitted(&[("accountjid", &["a@example.org"]), ("password", &["x"]), ("password-verify", &["y"])]);
        assert!(add.read(&differs, &kind, "", "").unwrap_err().contains("differ"));
        assert!(add.read(&submitted(&[("password", &["x"])]), &kind, "", "").is_err());
    }

    #[test]
    fn what_is_there_already_stands_in_the_form_line_by_line() {
        let (edit, _) = command("#edit-motd");
        let form = edit.form(&json!({ "text": "one\ntwo" }));
        assert_eq!(form.field("motd").unwrap().values, ["one", "two"]);
        assert_eq!(edit.form(&Value::Null).field("motd").unwrap().values, [""; 0]);
        assert_eq!(Value::Object(edit.given("example.org", "")), json!({ "host": "example.org", "kind": "motd" }));
    }

    #[test]
    fn a_form_with_many_addresses_runs_the_operation_once_for_each() {
        let (delete, kind) = command("#delete-user");
        let form = submitted(&[("accountjids", &["a@example.org\nB@example.org", "a@example.org", ""])]);
        let read = delete.read(&form, &kind, "", "").unwrap();
        assert_eq!(read, [json!({ "jid": "a@example.org" }), json!({ "jid": "b@example.org" })]);
        let many: Vec<String> = (0..=ADDRESSES_MAX).map(|n| format!("{n}@example.org")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(delete.read(&submitted(&[("accountjids", &many)]), &kind, "", "").is_err());
        assert!(delete.read(&submitted(&[("accountjids", &["a@"])]), &kind, "", "").is_err());
    }

    #[test]
    fn what_is_chosen_must_be_among_the_options_and_none_is_no_limit() {
        let (list, kind) = command("#get-registered-users-list");
        let read = |value: &str| list.read(&submitted(&[("max_items", &[value])]), &kind, "example.org", "");
        assert_eq!(read("25").unwrap(), [json!({ "host": "example.org", "limit": 25 })]);
        assert_eq!(read("none").unwrap(), [json!({ "host": "example.org" })]);
        assert!(read("26").is_err());
    }

    #[test]
    fn one_result_is_fields_and_several_are_a_table() {
        let (seen, _) = command("#get-user-lastlogin");
        let result = |jid: &str| json!({ "jid": jid, "last_seen": "2026-01-01T00:00:00Z" });
        let one = Form::parse(&seen.result(&[result("a@example.org")]).unwrap()).unwrap();
        assert_eq!(one.value("lastlogin"), Some("2026-01-01T00:00:00Z"));
        let two = Form::parse(&seen.result(&[result("a@example.org"), result("b@example.org")]).unwrap()).unwrap();
        assert_eq!((two.reported.len(), two.items.len()), (2, 2));
        assert_eq!(two.items[1][0].value(), Some("b@example.org"));
    }

    #[test]
    fn a_roster_is_shown_as_clients_get_it() {
        let (roster, _) = command("#get-user-roster");
        let items = json!([{ "jid": "b@example.org", "name": "B", "subscription": "both", "groups": ["x"] }]);
        let shown = roster.result(&[json!({ "jid": "a@example.org", "items": items })]).unwrap();
        let xml = shown.child("query", ns::ROSTER).unwrap().to_xml(ns::CLIENT);
        let expected = "<query xmlns='jabber:iq:roster'><item jid='b@example.org' name='B' subscription='both'>\
                        <group>x</group></item></query>";
        assert_eq!(xml, expected);
    }
}
