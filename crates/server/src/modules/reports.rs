//! XEP-0377: Blocking Command Abuse Reporting
//!
//! A user who blocks somebody can say why, and those who run the server read it: `magpie report list`, and a message to the
//! administrators where the configuration wants it. `blocking.rs` blocks first, whatever becomes of the report.

use std::sync::Arc;
use std::time::Duration;

use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, ns};
use magpie_store::{Batch, Log, LogId, Record, Store, StoreError};
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::{About, Module, stanza_ids};
use crate::pipeline;
use crate::server::{Deps, Server, now, random_text};

/// The namespace.
pub const NS: &str = "urn:xmpp:reporting:1";

/// Bytes of what a user says; the rest is cut off.
const TEXT_BYTES_MAX: usize = 4096;

/// Bytes of a reason; a longer one is none.
const REASON_BYTES_MAX: usize = 255;

/// Messages that one report names.
const MESSAGES_MAX: usize = 64;

/// Reports of one domain; one more takes the place of the oldest.
const REPORTS_MAX: u64 = 10_000;

/// Reports of one user in an hour; one more is not kept.
const PER_HOUR_MAX: usize = 20;

/// Reports looked at to know how many a user made.
const LOOKED_AT: usize = 200;

/// A report as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it came, seconds since 1970.
    pub at: u64,
    /// Who made it.
    pub reporter: String,
    /// Whom it is about.
    pub reported: String,
    /// Why: `urn:xmpp:reporting:spam`, `urn:xmpp:reporting:abuse`.
    pub reason: String,
    /// What the user says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The messages that it is about, by their ids (XEP-0359).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<MessageId>,
    /// Whether it may be told to the server of the one whom it is about.
    #[serde(default)]
    pub report_origin: bool,
    /// Whether it may be told to others.
    #[serde(default)]
    pub third_party: bool,
}

/// `<stanza-id/>`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageId {
    /// Who gave it.
    pub by: String,
    /// The id.
    pub id: String,
}

impl Record for Report {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings, numbers and flags always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Report {
    /// Reads the report in an `<item/>` of `<block/>`; `None` where there is none, or one without a reason (§4).
    pub fn of(item: &Element, reporter: &BareJid, reported: &Jid, at: Duration) -> Option<Self> {
        let report = item.child("report", NS)?;
        let reason = report.attr("reason").filter(|reason| (1..=REASON_BYTES_MAX).contains(&reason.len()))?;
        let mut text = report.child("text", NS).map(Element::text).unwrap_or_default().trim().to_owned();
        text.truncate((0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default());
        let messages = report.children().filter(|child| child.is("stanza-id", stanza_ids::NS)).take(MESSAGES_MAX);
        let id = |element: &Element| {
            let short = |name| element.attr(name).filter(|text| text.len() <= 1023).map(str::to_owned);
            Some(MessageId { by: short("by")?, id: short("id")? })
        };
        Some(Self {
            at: at.as_secs(),
            reporter: reporter.to_string(),
            reported: reported.to_string(),
            reason: reason.to_owned(),
            text: Some(text).filter(|text| !text.is_empty()),
            messages: messages.filter_map(id).collect(),
            report_origin: report.child("report-origin", NS).is_some(),
            third_party: report.child("third-party", NS).is_some(),
        })
    }

    /// For people, in one message.
    fn words(&self) -> String {
        let reason = self.reason.strip_prefix("urn:xmpp:reporting:").unwrap_or(&self.reason);
        let text = self.text.as_ref().map(|text| format!("\n{text}")).unwrap_or_default();
        format!("{} reports {}: {reason}{text}", self.reporter, self.reported)
    }
}

/// The reports in a store, by domain of those who made them.
#[derive(Clone)]
pub struct ReportBook {
    store: Store,
    reports: Log<Report>,
}

impl ReportBook {
    /// Those of this store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), reports: store.log("reports") }
    }

    /// Those of the domain before this one, the newest first.
    pub async fn list(
        &self,
        host: &str,
        before: Option<LogId>,
        limit: usize,
    ) -> Result<Vec<(LogId, Report)>, StoreError> {
        self.reports.range_back(host, before, limit).await
    }

    /// Deletes a report.
    pub async fn remove(&self, host: &str, id: LogId) -> Result<bool, StoreError> {
        let before = LogId(id.0.saturating_add(1));
        if !self.list(host, Some(before), 1).await?.iter().any(|(found, _)| *found == id) {
            return Ok(false);
        }
        let mut batch = Batch::new();
        self.reports.delete(&mut batch, host, id);
        self.store.commit(batch).await.map(|()| true)
    }

    /// Keeps a report, unless its maker has made too many; whether it is kept.
    pub async fn add(&self, host: &str, report: &Report) -> Result<bool, StoreError> {
        let since = report.at.saturating_sub(60 * 60);
        let latest = self.list(host, None, LOOKED_AT).await?;
        let mine = latest.iter().filter(|(_, other)| other.reporter == report.reporter && other.at > since).count();
        if mine >= PER_HOUR_MAX {
            return Ok(false);
        }
        let mut batch = Batch::new();
        if self.reports.count(host).await? >= REPORTS_MAX {
            for (id, _) in self.reports.range(host, None, 1).await? {
                self.reports.delete(&mut batch, host, id);
            }
        }
        self.reports.append(&mut batch, host, self.store.next_id(), report);
        self.store.commit(batch).await.map(|()| true)
    }
}

/// The module.
pub struct Reports {
    book: ReportBook,
}

impl Module for Reports {
    const ABOUT: &'static [About] = &[About {
        xep: Some(377),
        title: "Blocking Command Abuse Reporting",
        version: "0.4.1",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self { book: ReportBook::new(&deps.store) }
    }
}

impl Reports {
    /// Hears of a `<block/>` that was done: what it reports is kept, and told where that is wanted.
    pub async fn blocked(&self, server: &Arc<Server>, by: &BareJid, block: &Element) {
        for item in block.children().filter(|item| item.child("report", NS).is_some()) {
            let Some(Ok(jid)) = item.attr("jid").map(Jid::parse) else { continue };
            let Some(report) = Report::of(item, by, &jid, now()) else { continue };
            match self.book.add(by.domain(), &report).await {
                Ok(true) => {
                    info!(reporter = %by, reported = %jid, reason = report.reason, "abuse reported");
                    self.tell(server, by.domain(), &report).await;
                }
                Ok(false) => info!(reporter = %by, "too many reports of one user: this one is not kept"),
                Err(error) => error!(%error, reporter = %by, "a report could not be kept"),
            }
        }
    }

    /// Sends the report to the administrators who have an account here.
    async fn tell(&self, server: &Arc<Server>, host: &str, report: &Report) {
        let config = server.config().clone();
        if !config.reports.notify_admins {
            return;
        }
        for admin in config.admins.iter().filter_map(|admin| BareJid::parse(admin).ok()) {
            if !server.serves(admin.domain()) {
                continue;
            }
            let message = Element::new("message", ns::CLIENT)
                .with_attr("from", host)
                .with_attr("to", &admin)
                .with_attr("id", random_text(6))
                .with(Element::new("subject", ns::CLIENT).with_text("Abuse report"))
                .with(Element::new("body", ns::CLIENT).with_text(report.words()));
            let message = Stanza::new(&message);
            let told = pipeline::account_receives_message(server, &admin.clone().into(), &message, true).await;
            match told.map(|promise| promise.ticket) {
                Ok(Some(ticket)) => {
                    if let Err(error) = ticket.await {
                        error!(%error, %admin, "an administrator was not told of a report");
                    }
                }
                Ok(None) => {}
                Err(error) => info!(%admin, %error, "an administrator was not told of a report"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn report(item: &str) -> Option<Report> {
        let item = format!("<item xmlns='urn:xmpp:blocking' jid='spam@example.net'>{item}</item>");
        let item = Element::parse(item.as_bytes(), ns::CLIENT).unwrap();
        let (by, of) = (BareJid::parse("juliet@example.org").unwrap(), Jid::parse("spam@example.net").unwrap());
        Report::of(&item, &by, &of, Duration::from_secs(1000))
    }

    #[test]
    fn a_report_says_why_and_may_say_more() {
        let whole = report(
            "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'><text xml:lang='en'> Never came. </text>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.org' id='1'/><stanza-id xmlns='urn:xmpp:sid:0' id='2'/>\
             <report-origin/></report>",
        )
        .unwrap();
        assert_eq!((whole.reason.as_str(), whole.text.as_deref()), ("urn:xmpp:reporting:spam", Some("Never came.")));
        assert_eq!(whole.messages, [MessageId { by: "juliet@example.org".into(), id: "1".into() }]);
        assert!(whole.report_origin && !whole.third_party);
        assert_eq!(whole.words(), "juliet@example.org reports spam@example.net: spam\nNever came.");
        assert_eq!(Report::decode(&{
            let mut bytes = Vec::new();
            whole.encode(&mut bytes);
            bytes
        }), Some(whole));
    }

    #[test]
    fn without_a_reason_it_is_none_and_a_long_text_is_cut_between_characters() {
        assert_eq!(report(""), None);
        assert_eq!(report("<report xmlns='urn:xmpp:reporting:1'/>"), None);
        assert_eq!(report(&format!("<report xmlns='urn:xmpp:reporting:1' reason='{}'/>", "x".repeat(300))), None);
        let long = report(&format!(
            "<report xmlns='urn:xmpp:reporting:1' reason='r'><text>a{}</text></report>",
            "\u{e9}".repeat(TEXT_BYTES_MAX)
        ));
        assert_eq!(long.unwrap().text.unwrap().len(), TEXT_BYTES_MAX - 1);
    }

    #[tokio::test]
    async fn a_user_makes_so_many_reports_an_hour_and_others_go_on() {
        let book = ReportBook::new(&Store::memory());
        let made = |reporter: &str, at: u64| Report {
            reporter: reporter.into(),
            at,
            ..report("<report xmlns='urn:xmpp:reporting:1' reason='r'/>").unwrap()
        };
        for _ in 0..PER_HOUR_MAX {
            assert!(book.add("example.org", &made("a@example.org", 10_000)).await.unwrap());
        }
        assert!(!book.add("example.org", &made("a@example.org", 10_001)).await.unwrap());
        assert!(book.add("example.org", &made("b@example.org", 10_001)).await.unwrap());
        assert!(book.add("example.org", &made("a@example.org", 13_700)).await.unwrap());
        let latest = book.list("example.org", None, 2).await.unwrap();
        assert_eq!((latest[0].1.reporter.as_str(), latest[1].1.reporter.as_str()), ("a@example.org", "b@example.org"));
        let older = book.list("example.org", Some(latest[1].0), 100).await.unwrap();
        assert_eq!(older.len(), PER_HOUR_MAX);
        assert!(book.remove("example.org", latest[0].0).await.unwrap());
        assert!(!book.remove("example.org", latest[0].0).await.unwrap());
        assert!(!book.remove("example.net", latest[1].0).await.unwrap());
    }
}
