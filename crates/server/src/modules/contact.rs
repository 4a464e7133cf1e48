//! XEP-0157: Contact Addresses for XMPP Services
//!
//! Tells in what a host says of itself where to reach those who run it, as configured under `[contact]`.

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};

use super::{About, Module};
use crate::config::Contact;
use crate::server::Deps;

const FORM_TYPE: &str = "http://jabber.org/network/serverinfo";

/// The module: an entry in the list, since `disco.rs` gives the answer that the form stands in.
pub struct ContactAddresses;

impl Module for ContactAddresses {
    const ABOUT: &'static [About] = &[
        About {
            xep: Some(157),
            title: "Contact Addresses for XMPP Services",
            version: "1.1.1",
            host_features: &[],
            account_features: &[],
        },
        About {
            xep: Some(128),
            title: "Service Discovery Extensions",
            version: "1.0.1",
            host_features: &[],
            account_features: &[],
        },
    ];

    fn new(_deps: &Deps) -> Self {
        Self
    }
}

/// The form for the answer to `disco#info`; `None` where no address is configured.
pub fn form(contact: &Contact) -> Option<Form> {
    let Contact { abuse, admin, feedback, sales, security, status, support } = contact;
    let fields = [
        ("abuse-addresses", abuse),
        ("admin-addresses", admin),
        ("feedback-addresses", feedback),
        ("sales-addresses", sales),
        ("security-addresses", security),
        ("status-addresses", status),
        ("support-addresses", support),
    ];
    let configured = fields.iter().filter(|(_, addresses)| !addresses.is_empty());
    let fields = configured.map(|(var, addresses)| Field::new(FieldType::ListMulti, *var).with_values(*addresses));
    let form = fields.fold(Form::typed(FormKind::Result, FORM_TYPE), Form::with);
    (form.fields.len() > 1).then_some(form)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_addresses_there_is_no_form() {
        assert_eq!(form(&Contact::default()), None);
    }

    #[test]
    fn each_kind_of_address_that_is_configured_is_a_field() {
        let contact = Contact {
            abuse: vec!["mailto:abuse@example.org".into(), "xmpp:abuse@example.org".into()],
            status: vec!["https://status.example.org".into()],
            ..Contact::default()
        };
        let form = form(&contact).unwrap();
        assert_eq!(form.form_type(), Some(FORM_TYPE));
        assert_eq!(form.fields.len(), 3);
        assert_eq!(form.field("abuse-addresses").unwrap().values, contact.abuse);
        assert_eq!(form.field("status-addresses").unwrap().values, contact.status);
        assert_eq!(form.field("abuse-addresses").unwrap().kind, Some(FieldType::ListMulti));
    }
}
