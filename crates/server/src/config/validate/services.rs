//! What `[invites]` (XEP-0401) and `[[external_service]]` (XEP-0215) must fulfil.

use magpie_proto::jid::parse_domain;

use super::Check;

impl Check<'_> {
    pub(super) fn invites(&mut self) {
        let invites = &self.config.invites;
        if !(1..=3650).contains(&invites.days) {
            let message = format!("{} days are none, or more than ten years", invites.days);
            self.refuse("invites.days", message, "write 1 to 3650");
        }
        let page = &invites.page;
        let is_page = page.starts_with("https://") && (page.contains("{token}") || page.contains("{uri}"));
        if !page.is_empty() && !is_page {
            let help = "write it as https://example.org/invite/#{token}";
            self.refuse("invites.page", format!("\"{page}\" is no https address with {{token}} or {{uri}}"), help);
        }
    }

    pub(super) fn external_services(&mut self) {
        for (index, service) in self.config.external_service.iter().enumerate() {
            let key = |name: &str| format!("external_service[{index}].{name}");
            let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            if !is_word(&service.kind) {
                self.refuse(key("kind"), format!("\"{}\" is no type", service.kind), "write stun, turn or turns");
            }
            if parse_domain(&service.host).is_err() {
                let help = "write a name or an address, as turn.example.org or 192.0.2.1";
                self.refuse(key("host"), format!("\"{}\" is no host", service.host), help);
            }
            if service.port == Some(0) {
                self.refuse(key("port"), "0 is no port", "write 3478 for STUN and TURN, or leave it out");
            }
            if !service.secret.is_empty() && !service.username.is_empty() {
                self.refuse(key("username"), "there is a secret as well", "remove one of them");
            }
            if service.username.is_empty() != service.password.is_empty() {
                self.refuse(key("password"), "username and password go together", "write both, or none");
            }
            if !(60..=31_536_000).contains(&service.seconds) {
                let message = format!("{} seconds are less than a minute, or more than a year", service.seconds);
                self.refuse(key("seconds"), message, "write 86400 for a day");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ExternalService, Invites};

    fn wrong(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        config.validate().into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn an_invite_lasts_and_its_page_says_which_it_is() {
        let invites = |days, page: &str| {
            wrong(|config| config.invites = Invites { days, page: page.into(), ..Invites::default() })
        };
        assert_eq!(invites(7, "https://example.org/#{token}"), [""; 0]);
        assert_eq!(invites(7, "https://example.org/?invite={uri}"), [""; 0]);
        assert_eq!(invites(0, ""), ["invites.days"]);
        for page in ["https://example.org/", "http://example.org/{token}", "{token}"] {
            assert_eq!(invites(7, page), ["invites.page"], "{page}");
        }
    }

    #[test]
    fn a_service_has_a_type_a_host_and_one_kind_of_credentials_at_most() {
        let service = || ExternalService {
            kind: "turn".into(),
            host: "turn.example.org".into(),
            port: Some(3478),
            transport: None,
            name: None,
            secret: "x".into(),
            username: String::new(),
            password: String::new(),
            seconds: 3600,
        };
        let one = |service: ExternalService| wrong(|config| config.external_service = vec![service]);
        assert_eq!(one(service()), [""; 0]);
        assert_eq!(one(ExternalService { host: "192.0.2.1".into(), secret: String::new(), ..service() }), [""; 0]);
        assert_eq!(one(ExternalService { kind: "".into(), ..service() }), ["external_service[0].kind"]);
        assert_eq!(one(ExternalService { host: "a b".into(), ..service() }), ["external_service[0].host"]);
        assert_eq!(one(ExternalService { port: Some(0), ..service() }), ["external_service[0].port"]);
        assert_eq!(one(ExternalService { seconds: 1, ..service() }), ["external_service[0].seconds"]);
        assert_eq!(one(ExternalService { password: "p".into(), ..service() }), ["external_service[0].password"]);
        let both = ExternalService { username: "u".into(), password: "p".into(), ..service() };
        assert_eq!(one(both), ["external_service[0].username"]);
    }
}
