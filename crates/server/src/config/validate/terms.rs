//! What must hold for the term service.

use super::super::{Listen, ListenKind};
use super::Check;

impl Check<'_> {
    pub(super) fn terms(&mut self) {
        for (index, listen) in self.config.listen.iter().enumerate() {
            self.term_listener(index, listen);
        }
        let terms = &self.config.terms;
        if terms.tokens.iter().any(String::is_empty) {
            self.refuse("terms.tokens", "an empty token is none", "remove it, or write a long random text");
        }
        for (index, alias) in terms.esi.iter().enumerate() {
            if !alias.starts_with('/') {
                let key = format!("terms.esi[{index}]");
                self.refuse(key, format!("\"{alias}\" is no path"), "begin it with a /, as /esi");
            }
        }
        for (key, value) in [
            ("idle_seconds_max", terms.idle_seconds_max),
            ("head_seconds_max", terms.head_seconds_max),
            ("function_seconds_max", terms.function_seconds_max),
            ("source_seconds_max", terms.source_seconds_max),
        ] {
            if value == 0 {
                self.refuse(format!("terms.{key}"), "nothing would be answered", "write at least 1");
            }
        }
        if terms.term_bytes_max < 1024 || u32::try_from(terms.term_bytes_max).is_err() {
            let help = "write at least 1024, and less than 4294967296";
            self.refuse("terms.term_bytes_max", "no size for a term", help);
        }
        if terms.held_bytes_max < terms.term_bytes_max {
            let help = "write at least terms.term_bytes_max";
            self.refuse("terms.held_bytes_max", "the largest terms would have no room", help);
        }
    }

    fn term_listener(&mut self, index: usize, listen: &Listen) {
        if listen.kind.is_xmpp() || listen.address.ip().is_loopback() || listen.force {
            return;
        }
        let key = format!("listen[{index}].kind");
        let (message, help) = match listen.kind {
            ListenKind::TermsTls if !self.config.terms.tokens.is_empty() => return,
            ListenKind::TermsTls => (
                "everybody could read the terms",
                "write terms.tokens, listen on 127.0.0.1, or add force = true if you know why",
            ),
            ListenKind::Bert => {
                ("everybody could call the functions", "listen on 127.0.0.1, or add force = true if you know why")
            }
            _ => (
                "terms and tokens would cross the network in the clear",
                "write kind = \"terms-tls\", listen on 127.0.0.1, or add force = true if you know why",
            ),
        };
        self.refuse(key, format!("{message}: {} is not loopback", listen.address), help);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Listen, ListenKind, TlsMode};

    fn refusals(address: &str, kind: ListenKind, token: &str, force: bool) -> Vec<String> {
        let address = address.parse().expect("the address is one");
        let mut config = Config::default();
        config.listen.push(Listen { address, kind, tls: TlsMode::Required, force });
        config.terms.tokens.extend((!token.is_empty()).then(|| token.to_owned()));
        config.validate().into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn terms_are_not_shown_to_the_network_by_mistake() {
        for kind in [ListenKind::Terms, ListenKind::TermsTls, ListenKind::Bert] {
            assert!(refusals("127.0.0.1:8080", kind, "", false).is_empty(), "{kind}");
            assert_eq!(refusals("192.0.2.1:8080", kind, "", false), ["listen[2].kind"], "{kind}");
            assert!(refusals("192.0.2.1:8080", kind, "", true).is_empty(), "{kind}");
        }
        assert!(refusals("192.0.2.1:8080", ListenKind::TermsTls, "secret", false).is_empty());
        assert_eq!(refusals("192.0.2.1:8080", ListenKind::Terms, "secret", false), ["listen[2].kind"]);
    }

    #[test]
    fn limits_that_would_let_nothing_through_are_refused() {
        let mut config = Config::default();
        config.terms.idle_seconds_max = 0;
        config.terms.held_bytes_max = 1;
        config.terms.esi = vec!["esi".to_owned()];
        let keys: Vec<_> = config.validate().into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["terms.esi[0]", "terms.idle_seconds_max", "terms.held_bytes_max"]);
    }
}
