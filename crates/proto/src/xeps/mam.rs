//! XEP-0313: Message Archive Management
//!
//! What is asked of an archive, and how it answers.

use super::data_forms::{Field, FieldType, Form, FormKind};
use super::date_time::DateTime;
use super::result_sets::{PageAnswer, PageError, PageRequest};
use crate::{Element, Jid};

/// The namespace.
pub const NS: &str = "urn:xmpp:mam:2";

/// The feature of an archive that knows `before-id`, `after-id`, `ids`, flipped pages and metadata.
pub const NS_EXTENDED: &str = "urn:xmpp:mam:2#extended";

/// The feature of an archive that knows `include-groupchat`.
pub const NS_GROUPCHAT_FIELD: &str = "urn:xmpp:mam:2#groupchat-field";

/// The feature of an archive that can be searched by words (XEP-0431).
pub const NS_FULLTEXT: &str = "urn:xmpp:fulltext:0";

/// The field with the words.
const FULLTEXT: &str = "{urn:xmpp:fulltext:0}fulltext";

/// `<query/>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveQuery {
    /// Which the answers repeat.
    pub queryid: Option<String>,
    /// Which messages.
    pub filter: Filter,
    /// Which page of them.
    pub page: Option<PageRequest>,
    /// Whether the newest of the page comes first (§4.3.4).
    pub flip: bool,
}

/// The fields of a query's form (§4.1). A field without a value filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// To or from this address; a bare one stands for all its resources.
    pub with: Option<Jid>,
    /// At this moment or later.
    pub start: Option<DateTime>,
    /// At this moment or earlier.
    pub end: Option<DateTime>,
    /// Before the message with this id.
    pub before_id: Option<String>,
    /// After the message with this id.
    pub after_id: Option<String>,
    /// With one of these ids; empty: with any.
    pub ids: Vec<String>,
    /// Whether messages of rooms are wanted.
    pub include_groupchat: Option<bool>,
    /// With these words (XEP-0431).
    pub text: Option<String>,
}

/// Why a query cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It filters by what is not known here: `feature-not-implemented` (§4.1.5).
    #[error("the field {0} is not known here")]
    UnknownField(String),
    /// A value is none of its kind.
    #[error("the field {0} has a value that is none of its kind")]
    BadValue(&'static str),
    /// Its form is one of something else.
    #[error("the form is not one of {NS}")]
    OtherForm,
    /// Its `<set/>` is malformed.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl ArchiveQuery {
    /// Parses the element.
    pub fn parse(query: &Element) -> Result<Self, QueryError> {
        let filter = Form::of(query).map(|form| Filter::parse(&form)).transpose()?.unwrap_or_default();
        Ok(Self {
            queryid: query.attr("queryid").map(str::to_owned),
            filter,
            page: PageRequest::of(query)?,
            flip: query.child("flip-page", NS).is_some(),
        })
    }
}

impl Filter {
    /// Parses a submitted form.
    pub fn parse(form: &Form) -> Result<Self, QueryError> {
        if form.form_type() != Some(NS) {
            return Err(QueryError::OtherForm);
        }
        let mut filter = Self::default();
        for field in &form.fields {
            let value = field.value().map(str::trim).filter(|value| !value.is_empty());
            let text = || value.map(str::to_owned);
            let time = |name| value.map(|value| value.parse().map_err(|_| QueryError::BadValue(name))).transpose();
            match field.var.as_deref().unwrap_or_default() {
                "FORM_TYPE" => {}
                "with" => {
                    let jid = value.map(|value| Jid::parse(value).map_err(|_| QueryError::BadValue("with")));
                    filter.with = jid.transpose()?;
                }
                "start" => filter.start = time("start")?,
                "end" => filter.end = time("end")?,
                "before-id" => filter.before_id = text(),
                "after-id" => filter.after_id = text(),
                "ids" => filter.ids = field.values.clone(),
                FULLTEXT => filter.text = text(),
                "include-groupchat" => {
                    let wanted = field.boolean().ok_or(QueryError::BadValue("include-groupchat"));
                    filter.include_groupchat = value.map(|_| wanted).transpose()?;
                }
                other => return Err(QueryError::UnknownField(other.to_owned())),
            }
        }
        Ok(filter)
    }
}

/// The form of the fields that a query may have (§4.1.5).
pub fn form() -> Form {
    let text = |var| Field::new(FieldType::TextSingle, var);
    Form::typed(FormKind::Form, NS)
        .with(Field::new(FieldType::JidSingle, "with"))
        .with(text("start"))
        .with(text("end"))
        .with(text("before-id"))
        .with(text("after-id"))
        .with(Field::new(FieldType::ListMulti, "ids"))
        .with(Field::new(FieldType::Boolean, "include-groupchat"))
        .with(text(FULLTEXT))
}

/// `<query/>` with the form of the fields that a query may have. Its `ids` is open to any value (XEP-0122).
pub fn form_answer() -> Element {
    let mut query = Element::new("query", NS);
    let mut answer = Element::new("x", super::data_forms::NS);
    let form = form().element();
    form.attrs().for_each(|(name, value)| answer.set_attr(name, value));
    for field in form.children() {
        let validated = field.attr("var") == Some("ids");
        let validate = || {
            let ns = "http://jabber.org/protocol/xdata-validate";
            Element::new("validate", ns).with_attr("datatype", "xs:string").with(Element::new("open", ns))
        };
        answer.push(field.clone().with_all(validated.then(validate)));
    }
    query.push(answer);
    query
}

/// `<result/>` around what is forwarded (§4.2).
pub fn result(queryid: Option<&str>, id: &str, forwarded: Element) -> Element {
    let mut result = Element::new("result", NS).with_attr("id", id);
    if let Some(queryid) = queryid {
        result.set_attr("queryid", queryid);
    }
    result.with(forwarded)
}

/// `<fin/>`: the end of the answers. `complete`: no further page has anything.
pub fn fin(answer: &PageAnswer, complete: bool) -> Element {
    let fin = Element::new("fin", NS).with(answer.element());
    if complete { fin.with_attr("complete", "true") } else { fin }
}

/// `<metadata/>` with the ids and times of the first and the last message; `None`: the archive is empty (§5).
pub fn metadata(ends: Option<[(&str, DateTime); 2]>) -> Element {
    let metadata = Element::new("metadata", NS);
    let Some(ends) = ends else { return metadata };
    metadata.with_all(
        ["start", "end"].into_iter().zip(ends).map(|(name, (id, time))| {
            Element::new(name, NS).with_attr("id", id).with_attr("timestamp", time.to_string())
        }),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::result_sets::Page;
    use super::*;
    use crate::ns;

    fn parse(inner: &str) -> Result<ArchiveQuery, QueryError> {
        let xml = format!("<query xmlns='urn:xmpp:mam:2' queryid='q'>{inner}</query>");
        ArchiveQuery::parse(&Element::parse(xml.as_bytes(), ns::CLIENT).unwrap())
    }

    fn with_fields(fields: &[(&str, &str)]) -> Result<ArchiveQuery, QueryError> {
        let field = |(var, value): &(&str, &str)| format!("<field var='{var}'><value>{value}</value></field>");
        let fields: String = fields.iter().map(field).collect();
        parse(&format!(
            "<x xmlns='jabber:x:data' type='submit'>
            <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>{fields}</x>"
        ))
    }

    #[test]
    fn a_query_without_anything_asks_for_everything() {
        assert_eq!(parse("").unwrap(), ArchiveQuery { queryid: Some("q".into()), ..ArchiveQuery::default() });
    }

    #[test]
    fn each_field_and_the_page_are_read() {
        let query = with_fields(&[
            ("with", "juliet@capulet.example/balcony"),
            ("start", "2010-06-07T00:00:00Z"),
            ("end", "2010-07-07T13:23:54.5Z"),
            ("before-id", "b"),
            ("after-id", "a"),
            ("include-groupchat", "true"),
            (FULLTEXT, "wherefore art"),
        ]);
        let filter = query.unwrap().filter;
        assert_eq!(filter.with, Some(Jid::parse("juliet@capulet.example/balcony").unwrap()));
        assert_eq!(filter.start.unwrap().unix_millis(), 1_275_868_800_000);
        assert_eq!(filter.end.unwrap().unix_millis(), 1_278_509_034_500);
        assert_eq!((filter.before_id.as_deref(), filter.after_id.as_deref()), (Some("b"), Some("a")));
        assert_eq!((filter.include_groupchat, filter.text.as_deref()), (Some(true), Some("wherefore art")));
        let paged = parse("<set xmlns='http://jabber.org/protocol/rsm'><max>10</max><before/></set><flip-page/>");
        let paged = paged.unwrap();
        assert_eq!((paged.page.unwrap().page, paged.flip), (Page::Last, true));
    }

    #[test]
    fn a_field_without_a_value_filters_nothing() {
        assert_eq!(with_fields(&[("with", ""), ("start", " "), (FULLTEXT, "")]).unwrap().filter, Filter::default());
    }

    #[test]
    fn what_is_not_known_or_malformed_is_refused() {
        let unknown = |var: &str| Err(QueryError::UnknownField(var.to_owned()));
        assert_eq!(with_fields(&[("{urn:x}y", "1")]), unknown("{urn:x}y"));
        assert_eq!(with_fields(&[("start", "yesterday")]), Err(QueryError::BadValue("start")));
        assert_eq!(with_fields(&[("with", "@")]), Err(QueryError::BadValue("with")));
        assert_eq!(with_fields(&[("include-groupchat", "perhaps")]), Err(QueryError::BadValue("include-groupchat")));
        let other = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>o</value></field></x>";
        assert_eq!(parse(other), Err(QueryError::OtherForm));
        let page = parse("<set xmlns='http://jabber.org/protocol/rsm'><max>many</max></set>");
        assert!(matches!(page, Err(QueryError::Page(_))));
    }

    #[test]
    fn the_form_names_every_field_that_is_read_and_leaves_ids_open() {
        let answer = form_answer();
        let form = Form::of(&answer).unwrap();
        let submitted: Vec<_> =
            form.fields.iter().map(|field| (field.var.as_deref().unwrap_or_default(), "")).collect();
        assert_eq!(with_fields(&submitted).map(|query| query.queryid), Ok(Some("q".into())));
        assert!(answer.to_xml(ns::CLIENT).contains("<open/>"));
    }
}
