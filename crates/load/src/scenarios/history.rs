//! `history`: clients page through their archives (XEP-0313), from the oldest message to the newest and again.
//!
//! What is in the archives was put there before, by `pairs --messages` or by the server's own means.

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::Scenario;
use super::time::{hexadecimal, time};
use crate::client::negotiation::condition;
use crate::client::splitter::{attribute, name};
use crate::engine::World;
use crate::engine::connection::Stage;

/// What `history` needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct History {
    /// Messages of a page
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub page: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { page: 50 }
    }
}

/// Where a session is in its archive.
#[derive(Clone, Debug, Default)]
struct Reader {
    /// The last id of the page before, as the server wrote it.
    after: Vec<u8>,
    /// Messages of the page that is coming.
    messages: u32,
}

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    work: History,
    readers: Vec<Reader>,
    running: bool,
    asked: u64,
    answered: u64,
    messages: u64,
}

impl Worker {
    /// With all at the beginning of their archives.
    pub fn new(work: History, sessions: u32) -> Self {
        Self {
            work,
            readers: vec![Reader::default(); sessions as usize],
            running: false,
            asked: 0,
            answered: 0,
            messages: 0,
        }
    }

    fn ask(&mut self, world: &mut World, who: u32) {
        if world.session(who).stage() != Stage::Up {
            return;
        }
        self.asked += 1;
        let reader = &mut self.readers[who as usize];
        reader.messages = 0;
        let now = world.micros();
        let page = self.work.page;
        world.stanza(who, |out| {
            out.extend_from_slice(b"<iq type='set' id='");
            out.extend_from_slice(&hexadecimal(now));
            out.extend_from_slice(b"'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>");
            out.extend_from_slice(page.to_string().as_bytes());
            out.extend_from_slice(b"</max>");
            if !reader.after.is_empty() {
                out.extend_from_slice(b"<after>");
                out.extend_from_slice(&reader.after);
                out.extend_from_slice(b"</after>");
            }
            out.extend_from_slice(b"</set></query></iq>");
        });
    }
}

/// The text of an element without attributes.
fn text<'a>(element: &'a [u8], open: &[u8], close: &[u8]) -> Option<&'a [u8]> {
    let from = memmem::find(element, open)? + open.len();
    let length = memmem::find(&element[from..], close)?;
    Some(&element[from..from + length])
}

/// Whether there is no page after this one, by the attribute of `<fin/>`.
fn is_complete(answer: &[u8]) -> bool {
    [&b"complete='true'"[..], b"complete=\"true\"", b"complete='1'"]
        .iter()
        .any(|said| memmem::find(answer, said).is_some())
}

impl Scenario for Worker {
    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        let reader = &mut self.readers[who as usize];
        match name(element) {
            b"message" => reader.messages += 1,
            b"iq" => {
                let Some(began) = attribute(element, b"id").and_then(time) else { return };
                self.answered += 1;
                let now = world.micros();
                if attribute(element, b"type") == Some(b"error") {
                    world.recorder.error(&format!("page refused: {}", condition(element)));
                    reader.after.clear();
                } else {
                    let last = text(element, b"<last>", b"</last>");
                    let is_full = reader.messages == self.work.page;
                    self.messages += u64::from(reader.messages);
                    // What is left at the end is no page of the size that is measured.
                    if is_full {
                        world.recorder.record(began, now);
                    }
                    reader.after.clear();
                    // Then from the beginning again.
                    let is_last = !is_full || is_complete(element);
                    reader.after.extend_from_slice(last.filter(|_| !is_last).unwrap_or_default());
                }
                if self.running {
                    self.ask(world, who);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, world: &mut World) {
        self.running = true;
        (self.asked, self.answered, self.messages) = (0, 0, 0);
        for who in 0..world.len() {
            self.ask(world, who);
        }
    }

    fn stop(&mut self, _world: &mut World) {
        self.running = false;
    }

    fn is_waiting(&self, _world: &World) -> bool {
        self.answered < self.asked
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        vec![
            ("pages_not_answered".into(), self.asked.saturating_sub(self.answered) as f64),
            ("messages_of_pages".into(), self.messages as f64),
        ]
    }
}
