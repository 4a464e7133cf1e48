//! XEP-0004: Data Forms
//!
//! Forms that one entity asks another to fill in, and data that is shaped like them. Which kind of form it is, the hidden field
//! `FORM_TYPE` says (XEP-0068).

use crate::{Element, Jid, JidError};

/// The namespace.
pub const NS: &str = "jabber:x:data";

/// XEP-0068 §3: the field that names the form.
pub const FORM_TYPE: &str = "FORM_TYPE";

/// What a form is in its conversation (§3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FormKind {
    /// To be filled in.
    Form,
    /// Filled in.
    Submit,
    /// Not going to be filled in.
    Cancel,
    /// Data that answers.
    Result,
}

impl FormKind {
    /// The value of the attribute `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Result => "result",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Form, Self::Submit, Self::Cancel, Self::Result].into_iter().find(|kind| kind.name() == name)
    }
}

/// What a field holds (§3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// `boolean`
    Boolean,
    /// `fixed`: text between the fields
    Fixed,
    /// `hidden`: comes back as it is
    Hidden,
    /// `jid-multi`
    JidMulti,
    /// `jid-single`
    JidSingle,
    /// `list-multi`
    ListMulti,
    /// `list-single`
    ListSingle,
    /// `text-multi`: a value a line
    TextMulti,
    /// `text-private`
    TextPrivate,
    /// `text-single`
    TextSingle,
}

impl FieldType {
    const ALL: [Self; 10] = [
        Self::Boolean,
        Self::Fixed,
        Self::Hidden,
        Self::JidMulti,
        Self::JidSingle,
        Self::ListMulti,
        Self::ListSingle,
        Self::TextMulti,
        Self::TextPrivate,
        Self::TextSingle,
    ];

    /// The value of the attribute `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Fixed => "fixed",
            Self::Hidden => "hidden",
            Self::JidMulti => "jid-multi",
            Self::JidSingle => "jid-single",
            Self::ListMulti => "list-multi",
            Self::ListSingle => "list-single",
            Self::TextMulti => "text-multi",
            Self::TextPrivate => "text-private",
            Self::TextSingle => "text-single",
        }
    }

    /// A type that is not understood is `text-single` (§3.3).
    fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or(Self::TextSingle)
    }
}

/// `<x/>`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it is in its conversation.
    pub kind: FormKind,
    /// A title for people.
    pub title: Option<String>,
    /// Instructions for people.
    pub instructions: Vec<String>,
    /// The fields.
    pub fields: Vec<Field>,
    /// The head of a table of results (§3.4).
    pub reported: Vec<Field>,
    /// The rows of a table of results (§3.4).
    pub items: Vec<Vec<Field>>,
}

impl Form {
    /// A form without fields.
    pub fn new(kind: FormKind) -> Self {
        Self {
            kind,
            title: None,
            instructions: Vec::new(),
            fields: Vec::new(),
            reported: Vec::new(),
            items: Vec::new(),
        }
    }

    /// A form of this type: `Form::typed(FormKind::Submit, "urn:xmpp:mam:2")`.
    pub fn typed(kind: FormKind, form_type: &str) -> Self {
        Self::new(kind).with(Field::new(FieldType::Hidden, FORM_TYPE).with_value(form_type))
    }

    /// With a title.
    pub fn with_title(self, title: impl Into<String>) -> Self {
        Self { title: Some(title.into()), ..self }
    }

    /// With one more paragraph of instructions.
    pub fn with_instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions.push(instructions.into());
        self
    }

    /// With one more field.
    pub fn with(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// The field of this name.
    pub fn field(&self, var: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.var.as_deref() == Some(var))
    }

    /// The first value of the field of this name.
    pub fn value(&self, var: &str) -> Option<&str> {
        self.field(var)?.value()
    }

    /// Which kind of form it is. In a form or a result the field must be hidden (XEP-0068 §3.1).
    pub fn form_type(&self) -> Option<&str> {
        let field = self.field(FORM_TYPE)?;
        let may_omit_type = matches!(self.kind, FormKind::Submit | FormKind::Cancel);
        match field.kind {
            Some(FieldType::Hidden) => field.value(),
            None if may_omit_type => field.value(),
            _ => None,
        }
    }

    /// Parses the form in an element that wraps it; `None` where there is none.
    pub fn of(wrapper: &Element) -> Option<Self> {
        wrapper.child("x", NS).and_then(Self::parse)
    }

    /// Parses `<x/>`; `None` where it is another element, or has no type that exists.
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is("x", NS) {
            return None;
        }
        let mut form = Self::new(FormKind::parse(element.attr("type")?)?);
        for child in element.children().filter(|child| child.ns() == NS) {
            match child.name() {
                "title" => form.title = Some(child.text()),
                "instructions" => form.instructions.push(child.text()),
                "field" => form.fields.push(Field::parse(child)),
                "reported" => form.reported = fields(child),
                "item" => form.items.push(fields(child)),
                _ => {}
            }
        }
        Some(form)
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let text = |name: &str, text: &String| Element::new(name, NS).with_text(text.as_str());
        let group = |name: &str, fields: &[Field]| Element::new(name, NS).with_all(fields.iter().map(Field::element));
        Element::new("x", NS)
            .with_attr("type", self.kind.name())
            .with_all(self.title.iter().map(|title| text("title", title)))
            .with_all(self.instructions.iter().map(|instructions| text("instructions", instructions)))
            .with_all(self.fields.iter().map(Field::element))
            .with_all((!self.reported.is_empty()).then(|| group("reported", &self.reported)))
            .with_all(self.items.iter().map(|item| group("item", item)))
    }
}

/// `<field/>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Its name; only a fixed field may have none.
    pub var: Option<String>,
    /// Its type; whoever asked knows it already and may leave it out when it fills the form in.
    pub kind: Option<FieldType>,
    /// A name for people.
    pub label: Option<String>,
    /// A description for people.
    pub desc: Option<String>,
    /// Whether the form is incomplete without it.
    pub required: bool,
    /// Its values.
    pub values: Vec<String>,
    /// The values of a list to choose from.
    pub options: Vec<FieldOption>,
}

/// `<option/>`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOption {
    /// A name for people.
    pub label: Option<String>,
    /// What is chosen.
    pub value: String,
}

impl Field {
    /// A field without values.
    pub fn new(kind: FieldType, var: impl Into<String>) -> Self {
        Self { var: Some(var.into()), kind: Some(kind), ..Self::default() }
    }

    /// Text between the fields.
    pub fn fixed(text: impl Into<String>) -> Self {
        Self { kind: Some(FieldType::Fixed), values: vec![text.into()], ..Self::default() }
    }

    /// With a name for people.
    pub fn with_label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// With a description for people.
    pub fn with_desc(self, desc: impl Into<String>) -> Self {
        Self { desc: Some(desc.into()), ..self }
    }

    /// The form is incomplete without it.
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// With one more value.
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.values.push(value.into());
        self
    }

    /// With one more value for each.
    pub fn with_values(mut self, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// With `1` or `0` as the value.
    pub fn with_bool(self, value: bool) -> Self {
        self.with_value(if value { "1" } else { "0" })
    }

    /// With one more option to choose.
    pub fn with_option(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push(FieldOption { label: Some(label.into()), value: value.into() });
        self
    }

    /// The first value.
    pub fn value(&self) -> Option<&str> {
        self.values.first().map(String::as_str)
    }

    /// The values of `text-multi` as one text, a value a line.
    pub fn text(&self) -> String {
        self.values.join("\n")
    }

    /// The value as a truth; `None` where it is missing or is none.
    pub fn boolean(&self) -> Option<bool> {
        match self.value()?.trim() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }

    /// The values as addresses, each once (§3.3).
    pub fn jids(&self) -> Result<Vec<Jid>, JidError> {
        let mut jids = Vec::with_capacity(self.values.len());
        let mut seen = std::collections::HashSet::new();
        for value in &self.values {
            let jid = Jid::parse(value)?;
            if seen.insert(jid.clone()) {
                jids.push(jid);
            }
        }
        Ok(jids)
    }

    fn parse(element: &Element) -> Self {
        let attr = |name| element.attr(name).map(str::to_owned);
        let value = |element: &Element| element.child("value", NS).map(Element::text);
        let mut field = Self {
            var: attr("var"),
            kind: element.attr("type").map(FieldType::parse),
            label: attr("label"),
            ..Self::default()
        };
        for child in element.children().filter(|child| child.ns() == NS) {
            match child.name() {
                "desc" => field.desc = Some(child.text()),
                "required" => field.required = true,
                "value" => field.values.push(child.text()),
                "option" => field.options.extend(
                    value(child).map(|value| FieldOption { label: child.attr("label").map(str::to_owned), value }),
                ),
                _ => {}
            }
        }
        field
    }

    fn element(&self) -> Element {
        let value = |value: &String| Element::new("value", NS).with_text(value.as_str());
        let mut element = Element::new("field", NS);
        for (name, text) in
            [("var", self.var.as_deref()), ("type", self.kind.map(FieldType::name)), ("label", self.label.as_deref())]
        {
            if let Some(text) = text {
                element.set_attr(name, text);
            }
        }
        let options = self.options.iter().map(|option| {
            let mut element = Element::new("option", NS).with(value(&option.value));
            if let Some(label) = &option.label {
                element.set_attr("label", label);
            }
            element
        });
        element
            .with_all(self.desc.iter().map(|desc| Element::new("desc", NS).with_text(desc.as_str())))
            .with_all(self.required.then(|| Element::new("required", NS)))
            .with_all(self.values.iter().map(value))
            .with_all(options)
    }
}

fn fields(element: &Element) -> Vec<Field> {
    element.children().filter(|child| child.is("field", NS)).map(Field::parse).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ns;

    fn parsed(xml: &str) -> Option<Form> {
        Form::parse(&Element::parse(xml.as_bytes(), ns::CLIENT).unwrap())
    }

    #[test]
    fn a_form_with_everything_is_written_and_read() {
        let form = Form::typed(FormKind::Form, "jabber:bot")
            .with_title("Bot")
            .with_instructions("Fill")
            .with_instructions("in")
            .with(Field::fixed("Section 1"))
            .with(Field::new(FieldType::TextSingle, "name").with_label("Name").with_desc("Of the bot").required())
            .with(Field::new(FieldType::Boolean, "public").with_bool(true))
            .with(
                Field::new(FieldType::ListMulti, "features")
                    .with_values(["news", "search"])
                    .with_option("News", "news"),
            );
        let xml = "<x xmlns='jabber:x:data' type='form'><title>Bot</title><instructions>Fill</instructions>\
                   <instructions>in</instructions>\
                   <field var='FORM_TYPE' type='hidden'><value>jabber:bot</value></field>\
                   <field type='fixed'><value>Section 1</value></field>\
                   <field var='name' type='text-single' label='Name'><desc>Of the bot</desc><required/></field>\
                   <field var='public' type='boolean'><value>1</value></field>\
                   <field var='features' type='list-multi'><value>news</value><value>search</value>\
                   <option label='News'><value>news</value></option></field></x>";
        assert_eq!(form.element().to_xml(ns::CLIENT), xml);
        assert_eq!(parsed(xml), Some(form));
    }

    #[test]
    fn a_submitted_form_is_asked_by_name() {
        let form = parsed(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>\
             <field var='a'><value>one</value><value>two</value></field><field var='t'><value> true </value></field>\
             <field var='f'><value>0</value></field><field var='n'><value>maybe</value></field><field var='e'/>\
             <other xmlns='urn:x'/></x>",
        )
        .unwrap();
        assert_eq!(form.form_type(), Some("urn:xmpp:mam:2"));
        assert_eq!((form.value("a"), form.value("e"), form.value("missing")), (Some("one"), None, None));
        assert_eq!(form.field("a").unwrap().text(), "one\ntwo");
        let boolean = |var| form.field(var).unwrap().boolean();
        assert_eq!(["t", "f", "n", "e"].map(boolean), [Some(true), Some(false), None, None]);
    }

    #[test]
    fn the_type_of_a_result_is_in_a_hidden_field() {
        let typed = |kind: &str, field: &str| {
            let field = format!("<field var='FORM_TYPE'{field}><value>t</value></field>");
            let form = parsed(&format!("<x xmlns='jabber:x:data' type='{kind}'>{field}</x>")).unwrap();
            form.form_type().is_some()
        };
        assert!(typed("result", " type='hidden'"));
        assert!(!typed("result", ""));
        assert!(!typed("form", " type='text-single'"));
        assert!(typed("submit", ""));
        assert!(!typed("submit", " type='boolean'"));
    }

    #[test]
    fn addresses_are_prepared_and_each_is_taken_once() {
        let field =
            Field::new(FieldType::JidMulti, "jids").with_values(["A@Example.com", "a@example.com", "b@example.com"]);
        assert_eq!(field.jids().unwrap(), ["a@example.com", "b@example.com"]);
        assert_eq!(field.with_value("@").jids(), Err(JidError::Localpart));
    }

    #[test]
    fn a_table_of_results_has_a_head_and_rows() {
        let row = |value: &str| vec![Field { var: Some("name".into()), ..Field::default() }.with_value(value)];
        let mut form = Form::new(FormKind::Result);
        form.reported = vec![Field::new(FieldType::TextSingle, "name").with_label("Name")];
        form.items = vec![row("Juliet"), row("Romeo")];
        let xml = "<x xmlns='jabber:x:data' type='result'><reported><field var='name' type='text-single' label='Name'/>\
                   </reported><item><field var='name'><value>Juliet</value></field></item>\
                   <item><field var='name'><value>Romeo</value></field></item></x>";
        assert_eq!(form.element().to_xml(ns::CLIENT), xml);
        assert_eq!(parsed(xml), Some(form));
    }

    #[test]
    fn an_unknown_field_type_is_text_and_an_unknown_form_type_is_no_form() {
        let form = parsed("<x xmlns='jabber:x:data' type='form'><field var='a' type='colour'/></x>").unwrap();
        assert_eq!(form.fields[0].kind, Some(FieldType::TextSingle));
        assert_eq!(parsed("<x xmlns='jabber:x:data' type='poem'/>"), None);
        assert_eq!(parsed("<x xmlns='jabber:x:data'/>"), None);
        assert_eq!(parsed("<x xmlns='jabber:x:oob' type='form'/>"), None);
        for kind in FieldType::ALL {
            assert_eq!(FieldType::parse(kind.name()), kind);
        }
    }
}
