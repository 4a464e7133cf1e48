//! XEP-0059: Result Set Management
//!
//! Pages of a list that is too long for one answer. Items are named by opaque ids.

use crate::Element;

/// The namespace.
pub const NS: &str = "http://jabber.org/protocol/rsm";

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// From the start of the list (§2.2).
    First,
    /// What follows the item with this id (§2.2).
    After(String),
    /// The end of the list (§2.5).
    Last,
    /// What precedes the item with this id (§2.3).
    Before(String),
    /// From this place on, the first being 0 (§2.6).
    Index(u64),
}

/// `<set/>` in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many items at most; 0 asks for their count alone (§2.7).
    pub max: Option<u64>,
    /// Which.
    pub page: Page,
}

/// A `<set/>` that contradicts itself or has a number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the result set's {0} is malformed")]
pub struct PageError(&'static str);

impl PageRequest {
    /// Parses the `<set/>` in the element that asks; `None` where there is none.
    pub fn of(query: &Element) -> Result<Option<Self>, PageError> {
        query.child("set", NS).map(Self::parse).transpose()
    }

    /// Parses `<set/>`.
    pub fn parse(set: &Element) -> Result<Self, PageError> {
        let text = |name| set.child(name, NS).map(Element::text);
        let number = |name| text(name).map(|text| text.trim().parse().map_err(|_| PageError(name))).transpose();
        let page = match (text("after"), text("before"), number("index")?) {
            (None, None, None) => Page::First,
            // Before the first page there is no item to name; clients that always name one leave it empty.
            (Some(after), None, None) if after.is_empty() => Page::First,
            (Some(after), None, None) => Page::After(after),
            (None, Some(before), None) if before.is_empty() => Page::Last,
            (None, Some(before), None) => Page::Before(before),
            (None, None, Some(index)) => Page::Index(index),
            _ => return Err(PageError("page")),
        };
        Ok(Self { max: number("max")?, page })
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let set = Element::new("set", NS).with_all(self.max.map(|max| child("max", max.to_string())));
        match &self.page {
            Page::First => set,
            Page::After(id) => set.with(child("after", id.as_str())),
            Page::Last => set.with(Element::new("before", NS)),
            Page::Before(id) => set.with(child("before", id.as_str())),
            Page::Index(index) => set.with(child("index", index.to_string())),
        }
    }
}

/// `<set/>` in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageAnswer {
    /// The page's first and last item; `None` where it has no item.
    pub ends: Option<PageEnds>,
    /// How many items the whole list has; may be an estimate.
    pub count: Option<u64>,
}

/// Between which items a page lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEnds {
    /// The first item's id.
    pub first: String,
    /// The first item's place in the list, the list's first being 0.
    pub index: Option<u64>,
    /// The last item's id.
    pub last: String,
}

impl PageAnswer {
    /// Parses `<set/>`.
    pub fn parse(set: &Element) -> Result<Self, PageError> {
        let number = |text: &str, name| text.trim().parse().map_err(|_| PageError(name));
        let ends = match (set.child("first", NS), set.child("last", NS)) {
            (None, None) => None,
            (Some(first), Some(last)) => Some(PageEnds {
                first: first.text(),
                index: first.attr("index").map(|index| number(index, "index")).transpose()?,
                last: last.text(),
            }),
            _ => return Err(PageError("page")),
        };
        let count = set.child("count", NS).map(|count| number(&count.text(), "count")).transpose()?;
        Ok(Self { ends, count })
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let mut set = Element::new("set", NS);
        if let Some(ends) = &self.ends {
            let mut first = child("first", ends.first.as_str());
            if let Some(index) = ends.index {
                first.set_attr("index", index.to_string());
            }
            set = set.with(first).with(child("last", ends.last.as_str()));
        }
        set.with_all(self.count.map(|count| child("count", count.to_string())))
    }
}

fn child(name: &str, text: impl Into<String>) -> Element {
    Element::new(name, NS).with_text(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ns;

    fn element(inner: &str) -> Element {
        let xml = format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>");
        Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
    }

    #[test]
    fn each_request_of_the_document_is_read_and_written() {
        for (inner, max, page) in [
            ("", None, Page::First),
            ("<max>10</max>", Some(10), Page::First),
            ("<max>10</max><after>peterpan</after>", Some(10), Page::After("peterpan".into())),
            ("<max>10</max><before/>", Some(10), Page::Last),
            (
                "<max>10</max><before>peter@pixyland.example</before>",
                Some(10),
                Page::Before("peter@pixyland.example".into()),
            ),
            ("<max>10</max><index>371</index>", Some(10), Page::Index(371)),
            ("<max>0</max>", Some(0), Page::First),
        ] {
            let request = PageRequest { max, page };
            assert_eq!(PageRequest::parse(&element(inner)), Ok(request.clone()), "{inner}");
            assert_eq!(request.element(), element(inner));
        }
        assert_eq!(PageRequest::parse(&element("<after/>")), Ok(PageRequest { max: None, page: Page::First }));
    }

    #[test]
    fn a_request_without_a_set_asks_for_no_page() {
        let query = Element::new("query", "urn:xmpp:mam:2");
        assert_eq!(PageRequest::of(&query), Ok(None));
        let request = PageRequest::of(&query.with(element("<max>5</max>")));
        assert_eq!(request, Ok(Some(PageRequest { max: Some(5), page: Page::First })));
    }

    #[test]
    fn a_request_that_contradicts_itself_is_refused() {
        for inner in [
            "<max>ten</max>",
            "<max/>",
            "<max>-1</max>",
            "<index>x</index>",
            "<after>a</after><before>b</before>",
            "<after>a</after><index>1</index>",
            "<before/><index>1</index>",
        ] {
            assert!(PageRequest::parse(&element(inner)).is_err(), "{inner}");
        }
    }

    #[test]
    fn each_answer_of_the_document_is_read_and_written() {
        let ends = |index| PageEnds { first: "a".into(), index, last: "b".into() };
        for (inner, answer) in [
            (
                "<first index='0'>a</first><last>b</last><count>800</count>",
                PageAnswer { ends: Some(ends(Some(0))), count: Some(800) },
            ),
            ("<first>a</first><last>b</last>", PageAnswer { ends: Some(ends(None)), count: None }),
            ("<count>800</count>", PageAnswer { ends: None, count: Some(800) }),
            ("", PageAnswer::default()),
        ] {
            assert_eq!(PageAnswer::parse(&element(inner)), Ok(answer.clone()), "{inner}");
            assert_eq!(answer.element(), element(inner));
        }
        for inner in
            ["<first>a</first>", "<last>a</last>", "<count>x</count>", "<first index='x'>a</first><last>b</last>"]
        {
            assert!(PageAnswer::parse(&element(inner)).is_err(), "{inner}");
        }
    }
}
