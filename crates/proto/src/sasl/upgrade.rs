//! XEP-0480: SASL Upgrade Tasks
//!
//! A client that has authenticated by one hash gives the server what SCRAM keys for another are made of, so that it can use that the
//! next time. It never says its password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::sasl2::Authenticate;
use super::{Hash, Mechanism, Offer, SaslFailure, ScramKeys};
use crate::ns;
use crate::xml::Element;

/// Keys that an account lacks, and of what they are to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeTask {
    /// For which hash.
    pub hash: Hash,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// Fresh and random.
    pub salt: Vec<u8>,
}

/// The task's name (§3): without `-PLUS`, since channel binding is nothing to keys.
fn name(hash: Hash) -> String {
    format!("UPGR-{}", Mechanism::Scram { hash, plus: false }.name())
}

/// What is put into `<authentication/>` (§2.1): the tasks for what is on offer.
pub fn features(offer: &Offer) -> impl Iterator<Item = Element> {
    offer.hashes().map(|hash| Element::new("upgrade", ns::UPGRADE).with_text(name(hash)))
}

/// The hashes for which a client will give what keys are made of (§2.2), each once; tasks of other names are passed over.
pub fn wanted(request: &Authenticate) -> Vec<Hash> {
    let named: Vec<String> = request
        .inline
        .iter()
        .filter(|element| element.is("upgrade", ns::UPGRADE))
        .map(|element| element.text().trim().to_owned())
        .collect();
    Hash::ALL.into_iter().filter(|hash| named.contains(&name(*hash))).collect()
}

impl UpgradeTask {
    /// `<continue/>`, with what the mechanism had to say where this comes right after it.
    pub(crate) fn announcement(&self, data: Option<&[u8]>) -> Element {
        let task = Element::new("task", ns::SASL2).with_text(name(self.hash));
        let tasks = Element::new("tasks", ns::SASL2).with(task);
        let data = data.map(|data| Element::new("additional-data", ns::SASL2).with_text(BASE64.encode(data)));
        Element::new("continue", ns::SASL2).with_all(data).with(tasks)
    }

    /// Whether `<next/>` names it.
    pub(crate) fn is_called(&self, task: &str) -> bool {
        task == name(self.hash)
    }

    /// `<task-data/>` with what the client needs.
    pub(crate) fn question(&self) -> Element {
        let salt = Element::new("salt", ns::SCRAM_UPGRADE)
            .with_attr("iterations", self.iterations.to_string())
            .with_text(BASE64.encode(&self.salt));
        Element::new("task-data", ns::SASL2).with(salt)
    }

    /// The keys, of the client's `<task-data/>`.
    pub(crate) fn keys(&self, answer: &Element) -> Result<ScramKeys, SaslFailure> {
        let hash = answer.child("hash", ns::SCRAM_UPGRADE).ok_or(SaslFailure::MalformedRequest)?;
        let salted = BASE64.decode(hash.text().trim()).map_err(|_| SaslFailure::IncorrectEncoding)?;
        ScramKeys::of_salted(self.hash, self.iterations, &self.salt, &salted).ok_or(SaslFailure::MalformedRequest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU32;

    use super::*;
    use crate::sasl::ChannelBindings;

    fn task() -> UpgradeTask {
        UpgradeTask { hash: Hash::Sha256, iterations: 4096, salt: b"A_OXRSQ6sek8bf_Z".to_vec() }
    }

    fn answer(salted: &str) -> Element {
        Element::new("task-data", ns::SASL2).with(Element::new("hash", ns::SCRAM_UPGRADE).with_text(salted))
    }

    #[test]
    fn each_hash_on_offer_is_a_task_once_and_none_is_one_of_channel_binding() {
        let bindings = ChannelBindings { tls_exporter: Some([7; 32]), tls_server_end_point: None };
        let offer = Offer::new("example.org", bindings, &[Hash::Sha1, Hash::Sha256], true, false);
        let named: Vec<String> = features(&offer).map(|element| element.text()).collect();
        assert_eq!(named, ["UPGR-SCRAM-SHA-256", "UPGR-SCRAM-SHA-1"]);
    }

    #[test]
    fn tasks_that_are_known_are_wanted_once() {
        let wish = |name: &str| Element::new("upgrade", ns::UPGRADE).with_text(name);
        let names =
            ["UPGR-SCRAM-SHA-512", "UPGR-BLOOP", "UPGR-SCRAM-SHA-256-PLUS", "UPGR-SCRAM-SHA-512", "SCRAM-SHA-1"];
        let request = Authenticate { inline: names.map(wish).to_vec(), ..Authenticate::default() };
        assert_eq!(wanted(&request), [Hash::Sha512]);
    }

    #[test]
    fn keys_of_a_salted_password_are_those_of_the_password() {
        let task = task();
        let rounds = NonZeroU32::new(task.iterations).unwrap();
        let salted = Hash::Sha256.salted_password("pencil", &task.salt, rounds);
        let keys = task.keys(&answer(&format!(" {}\n", BASE64.encode(&salted)))).unwrap();
        assert!(keys == ScramKeys::derive(Hash::Sha256, rounds, &task.salt, "pencil"));
        assert!(keys.check_password("pencil") && !keys.check_password("Pencil"));
    }

    #[test]
    fn an_answer_that_is_no_hash_of_the_right_length_is_refused() {
        let task = task();
        assert_eq!(task.keys(&answer("!")), Err(SaslFailure::IncorrectEncoding));
        for wrong in ["", "AAAA", &BASE64.encode([1; 20]), &BASE64.encode([1; 64])] {
            assert_eq!(task.keys(&answer(wrong)), Err(SaslFailure::MalformedRequest), "{wrong}");
        }
        assert_eq!(task.keys(&Element::new("task-data", ns::SASL2)), Err(SaslFailure::MalformedRequest));
    }
}
