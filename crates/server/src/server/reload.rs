//! What of a new configuration a running server takes.

use std::sync::Arc;

use magpie_terms::config::Terms;

use super::Server;
use crate::admin::ReloadReport;
use crate::config::Config;

impl Server {
    /// Applies a new configuration as far as a running server can.
    pub async fn reload(&self, new: Config) -> ReloadReport {
        let old = self.config().clone();
        let mut report = ReloadReport::default();
        let restart = [
            ("domains", old.domains != new.domains),
            ("data", old.data != new.data),
            ("listen", old.listen != new.listen),
            ("certificate", old.certificate != new.certificate),
            ("metrics", old.metrics != new.metrics),
            ("auth.failures_per_minute_max", old.auth.failures_per_minute_max != new.auth.failures_per_minute_max),
        ];
        report.needs_restart.extend(restart.iter().filter(|(_, changed)| *changed).map(|(key, _)| (*key).to_owned()));
        let live = [
            ("admins", old.admins != new.admins),
            ("moved", old.moved != new.moved),
            ("registration", old.registration != new.registration),
            ("invites", old.invites != new.invites),
            ("rooms", old.rooms != new.rooms),
            ("reports", old.reports != new.reports),
            ("external_service", old.external_service != new.external_service),
            ("auth", old.auth != new.auth),
            ("limits", old.limits != new.limits),
            ("contact", old.contact != new.contact),
            ("privacy", old.privacy != new.privacy),
            ("archive", old.archive != new.archive),
            ("push", old.push != new.push),
        ];
        report.reloaded.extend(live.iter().filter(|(_, changed)| *changed).map(|(key, _)| (*key).to_owned()));
        let terms = self.reload_terms(&old, &new, &mut report);
        self.deps.accounts.set_policy(new.auth.scram_policy());
        self.limits.set(&new.limits);
        self.admission.set_limits(new.limits.connections_per_address_max, new.limits.unauthenticated_max);
        // What needs a restart stays as it was, so that every reader sees what is in force.
        let new = Config {
            domains: old.domains.clone(),
            data: old.data.clone(),
            listen: old.listen.clone(),
            certificate: old.certificate.clone(),
            metrics: old.metrics.clone(),
            terms,
            ..new
        };
        self.deps.config.store(Arc::new(new));
        let certificates = self.certificates.reload();
        report.reloaded.extend(certificates.changed.iter().map(|domain| format!("certificate of {domain}")));
        report.errors.extend(certificates.failed.iter().map(|(domain, error)| format!("{domain}: {error}")));
        report
    }

    /// Takes the settings of the term service that are new, and gives those that are in force then.
    fn reload_terms(&self, old: &Config, new: &Config, report: &mut ReloadReport) -> Terms {
        if old.terms == new.terms {
            return old.terms.clone();
        }
        // The listeners are those of before: what they need, as a token where a network can ask, must still be there.
        let together = Config { listen: old.listen.clone(), ..new.clone() };
        let exposed = together.validate().into_iter().find(|error| error.key.ends_with("].kind"));
        let refused = match exposed {
            Some(error) => Some(format!("terms: {}", error.message)),
            None => self.terms.reload(new.terms.clone()).err().map(|error| error.to_string()),
        };
        match refused {
            Some(error) => {
                report.errors.push(error);
                old.terms.clone()
            }
            None => {
                report.reloaded.push("terms".to_owned());
                new.terms.clone()
            }
        }
    }
}
