//! XEP-0030: Service Discovery
//!
//! What an entity is, what it understands, and which other entities belong to it.

use super::data_forms::Form;
use crate::{Element, Jid};

/// The namespace of what an entity is and understands (§3).
pub const NS_INFO: &str = "http://jabber.org/protocol/disco#info";
/// The namespace of which entities belong to it (§4).
pub const NS_ITEMS: &str = "http://jabber.org/protocol/disco#items";

/// `<identity/>`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// As `server`, `conference`, `client`.
    pub category: String,
    /// Within the category: `im`, `text`, `pc`.
    pub kind: String,
    /// The language of the name.
    pub lang: Option<String>,
    /// A name for people.
    pub name: Option<String>,
}

impl Identity {
    /// An identity without a name.
    pub fn new(category: &str, kind: &str) -> Self {
        Self { category: category.to_owned(), kind: kind.to_owned(), lang: None, name: None }
    }

    /// With a name.
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// With the language of its name.
    pub fn with_lang(self, lang: impl Into<String>) -> Self {
        Self { lang: Some(lang.into()), ..self }
    }

    fn parse(element: &Element) -> Option<Self> {
        let attr = |name| element.attr(name).map(str::to_owned);
        Some(Self { category: attr("category")?, kind: attr("type")?, lang: attr("xml:lang"), name: attr("name") })
    }

    fn element(&self) -> Element {
        let mut element =
            Element::new("identity", NS_INFO).with_attr("category", &self.category).with_attr("type", &self.kind);
        if let Some(name) = &self.name {
            element.set_attr("name", name);
        }
        if let Some(lang) = &self.lang {
            element.set_attr("xml:lang", lang);
        }
        element
    }
}

/// `<query/>` of an answer to `disco#info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The node that was asked about.
    pub node: Option<String>,
    /// What the entity is.
    pub identities: Vec<Identity>,
    /// What it understands.
    pub features: Vec<String>,
    /// What else it says about itself (XEP-0128).
    pub forms: Vec<Form>,
}

impl Info {
    /// Parses `<query/>`; `None` where it is another element. Identities and features that lack an attribute are left out.
    pub fn parse(query: &Element) -> Option<Self> {
        if !query.is("query", NS_INFO) {
            return None;
        }
        let children = |name: &'static str| query.children().filter(move |child| child.is(name, NS_INFO));
        Some(Self {
            node: query.attr("node").map(str::to_owned),
            identities: children("identity").filter_map(Identity::parse).collect(),
            features: children("feature").filter_map(|feature| feature.attr("var").map(str::to_owned)).collect(),
            forms: query.children().filter_map(Form::parse).collect(),
        })
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let feature = |var: &String| Element::new("feature", NS_INFO).with_attr("var", var);
        query(NS_INFO, self.node.as_deref())
            .with_all(self.identities.iter().map(Identity::element))
            .with_all(self.features.iter().map(feature))
            .with_all(self.forms.iter().map(Form::element))
    }

    /// Whether the entity understands this.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|var| var == feature)
    }
}

/// `<item/>` of an answer to `disco#items`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its address.
    pub jid: Jid,
    /// What to ask it about, where that is not its whole self.
    pub node: Option<String>,
    /// A name for people.
    pub name: Option<String>,
}

impl Item {
    /// The entity at this address.
    pub fn new(jid: impl Into<Jid>) -> Self {
        Self { jid: jid.into(), node: None, name: None }
    }

    /// With a name.
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// With a node.
    pub fn with_node(self, node: impl Into<String>) -> Self {
        Self { node: Some(node.into()), ..self }
    }
}

/// `<query/>` of an answer to `disco#items`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// The node that was asked about.
    pub node: Option<String>,
    /// What belongs to it.
    pub items: Vec<Item>,
}

impl Items {
    /// Parses `<query/>`; `None` where it is another element. Items without a valid address are left out.
    pub fn parse(query: &Element) -> Option<Self> {
        if !query.is("query", NS_ITEMS) {
            return None;
        }
        let item = |element: &Element| {
            Some(Item {
                jid: Jid::parse(element.attr("jid")?).ok()?,
                node: element.attr("node").map(str::to_owned),
                name: element.attr("name").map(str::to_owned),
            })
        };
        let items = query.children().filter(|child| child.is("item", NS_ITEMS)).filter_map(item).collect();
        Some(Self { node: query.attr("node").map(str::to_owned), items })
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let item = |item: &Item| {
            let mut element = Element::new("item", NS_ITEMS).with_attr("jid", &item.jid);
            for (attr, text) in [("node", &item.node), ("name", &item.name)] {
                if let Some(text) = text {
                    element.set_attr(attr, text);
                }
            }
            element
        };
        query(NS_ITEMS, self.node.as_deref()).with_all(self.items.iter().map(item))
    }
}

/// The answer mirrors the node of the question (§3.2).
fn query(ns: &str, node: Option<&str>) -> Element {
    let query = Element::new("query", ns);
    match node {
        Some(node) => query.with_attr("node", node),
        None => query,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ns;
    use crate::xeps::data_forms::FormKind;

    fn element(xml: &str) -> Element {
        Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
    }

    #[test]
    fn what_an_entity_is_is_written_and_read() {
        let info = Info {
            node: Some("n".into()),
            identities: vec![
                Identity::new("server", "im").with_name("Magpie").with_lang("en"),
                Identity::new("pubsub", "pep"),
            ],
            features: vec![NS_INFO.into(), NS_ITEMS.into()],
            forms: vec![Form::typed(FormKind::Result, "http://jabber.org/network/serverinfo")],
        };
        let xml = "<query xmlns='http://jabber.org/protocol/disco#info' node='n'>\
                   <identity category='server' type='im' name='Magpie' xml:lang='en'/><identity category='pubsub' type='pep'/>\
                   <feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/>\
                   <x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'>\
                   <value>http://jabber.org/network/serverinfo</value></field></x></query>";
        assert_eq!(info.element().to_xml(ns::CLIENT), xml);
        assert_eq!(Info::parse(&element(xml)), Some(info.clone()));
        assert!(info.has(NS_ITEMS) && !info.has("urn:xmpp:ping"));
    }

    #[test]
    fn what_belongs_to_an_entity_is_written_and_read() {
        let jid = |text| Jid::parse(text).unwrap();
        let items = Items {
            node: None,
            items: vec![
                Item::new(jid("rooms.example.com")).with_name("Rooms"),
                Item::new(jid("a@example.com")).with_node("urn:x").with_name("A"),
            ],
        };
        let xml = "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='rooms.example.com' name='Rooms'/>\
                   <item jid='a@example.com' node='urn:x' name='A'/></query>";
        assert_eq!(items.element().to_xml(ns::CLIENT), xml);
        assert_eq!(Items::parse(&element(xml)), Some(items));
    }

    #[test]
    fn what_lacks_an_attribute_is_left_out() {
        let info = Info::parse(&element(
            "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='a'/><identity type='b'/><feature/>\
             <feature var='x' xmlns='urn:other'/></query>",
        ));
        assert_eq!(info, Some(Info::default()));
        let items = Items::parse(&element(
            "<query xmlns='http://jabber.org/protocol/disco#items'><item/><item jid='@'/></query>",
        ));
        assert_eq!(items, Some(Items::default()));
        assert_eq!(Info::parse(&Element::new("query", NS_ITEMS)), None);
        assert_eq!(Items::parse(&Element::new("query", NS_INFO)), None);
    }
}
