//! What all connections share: settings, sources, functions.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use crate::config::{TermSource, Terms};
use crate::counters::{Counters, Family, Lookups};
use crate::functions::echo::Echo;
use crate::functions::forward::Forward;
use crate::functions::{Functions, conversions};
use crate::http::input::{Held, Room};
use crate::problem::Problem;
use crate::sources::{self, Found, Source, SourceError};
use crate::turns::{Turns, Work};

/// Casts of BERT-RPC that run at once.
const CASTS_MAX: usize = 1024;

/// There is room for so many of the longest terms in any case: one that comes, and what is made of it.
const ROOM_TERMS_MIN: usize = 4;

/// A source that knows what it waits for says so in time by itself.
const GRACE: Duration = Duration::from_secs(1);

/// The term service.
#[derive(Debug)]
pub struct Service {
    /// A request keeps the one in which it began.
    state: ArcSwap<State>,
    functions: Functions,
    sources: Vec<Place>,
    casts: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// Something in the configuration that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Misconfigured {
    /// Which key, as `terms.source[0]`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

impl Service {
    /// Opens the sources that are configured. `sources`, by name, and `functions` are there beside; so are, where nothing else is behind their
    /// names, the functions `echo_server:echo` and, in the module `terms`, `to_json`, `from_json`, `to_text` and `get`. Of one name
    /// the configured function is taken before that of `functions`.
    ///
    /// # Errors
    /// If a source or a function is not configured as it must be.
    pub fn new(
        settings: Terms,
        functions: Functions,
        sources: Vec<(String, Arc<dyn Source>)>,
    ) -> Result<Self, Misconfigured> {
        let counters = Arc::<Counters>::default();
        let place = |(name, source): (String, Arc<dyn Source>)| {
            let counted = counters.lookups(&name);
            let reading = Arc::new(Semaphore::new(0));
            Place { name, source, configured: None, counted, reading, time_max: Duration::ZERO }
        };
        let sources: Vec<Place> = sources.into_iter().map(place).collect();
        let state = State::new(settings, &functions, &sources, &counters, None)?;
        let casts = Arc::new(Semaphore::new(CASTS_MAX));
        Ok(Self { state: ArcSwap::from_pointee(state), functions, sources, casts, counters })
    }

    /// Takes other settings for all requests that begin from now on. Sources that are configured as they were are kept with what they know;
    /// open connections keep the times after which they are closed.
    ///
    /// # Errors
    /// If a source or a function is not configured as it must be. All is then as it was.
    pub fn reload(&self, settings: Terms) -> Result<(), Misconfigured> {
        let before = self.state();
        let state = State::new(settings, &self.functions, &self.sources, &self.counters, Some(&before))?;
        self.state.store(Arc::new(state));
        Ok(())
    }

    /// All that is wrong with the sources and functions that are configured. Nothing is asked of them, and no file of theirs is read
    /// but authorities' certificates.
    pub fn misconfigured(settings: &Terms) -> Vec<Misconfigured> {
        let mut problems = Vec::new();
        for (index, source) in settings.source.iter().enumerate() {
            let key = || format!("terms.source[{index}]");
            if settings.source[..index].iter().any(|before| before.name == source.name) {
                problems.push(Misconfigured { key: key(), message: named_twice(&source.name) });
            }
            let opened = sources::open(source, settings);
            problems.extend(opened.err().map(|message| Misconfigured { key: key(), message }));
        }
        for (index, function) in settings.function.iter().enumerate() {
            let made = Forward::new(function, settings);
            let key = format!("terms.function[{index}]");
            problems.extend(made.err().map(|message| Misconfigured { key, message }));
        }
        problems
    }

    /// How long a request's head may take, and what comes before it.
    pub fn head_time(&self) -> Duration {
        Duration::from_secs(self.state.load().settings.head_seconds_max)
    }

    /// All that was counted so far.
    pub fn counted(&self) -> Vec<Family> {
        self.counters.families()
    }

    /// What is configured now.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    pub(crate) fn casts(&self) -> &Arc<Semaphore> {
        &self.casts
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

/// What is configured, and what is there by it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Terms,
    pub(crate) functions: Functions,
    pub(crate) room: Room,
    pub(crate) work: Work,
    pub(crate) counters: Arc<Counters>,
    sources: Arc<[Place]>,
}

impl State {
    fn new(
        settings: Terms,
        functions: &Functions,
        registered: &[Place],
        counters: &Arc<Counters>,
        before: Option<&Self>,
    ) -> Result<Self, Misconfigured> {
        let is_same =
            |limit: fn(&Terms) -> u64| before.is_some_and(|before| limit(&before.settings) == limit(&settings));
        let same_limits = is_same(|terms| terms.term_bytes_max as u64)
            && is_same(|terms| terms.held_bytes_max as u64)
            && is_same(|terms| terms.source_seconds_max);
        let time_max = Duration::from_secs(settings.source_seconds_max);
        let held_bytes_max = settings.held_bytes_max.max(settings.term_bytes_max.saturating_mul(ROOM_TERMS_MIN));
        let reading = || Arc::new(Semaphore::new(held_bytes_max / settings.term_bytes_max.max(1)));
        let mut sources = registered.to_vec();
        for place in &mut sources {
            (place.time_max, place.reading) = (time_max, reading());
        }
        for (index, source) in settings.source.iter().enumerate() {
            let wrong = |message| Misconfigured { key: format!("terms.source[{index}]"), message };
            if sources.iter().any(|place| place.name == source.name) {
                return Err(wrong(named_twice(&source.name)));
            }
            let known = before
                .filter(|_| same_limits)
                .and_then(|before| before.sources.iter().find(|place| place.configured.as_ref() == Some(source)));
            sources.push(match known {
                Some(known) => known.clone(),
                None => Place {
                    name: source.name.clone(),
                    source: sources::open(source, &settings).map_err(wrong)?,
                    configured: Some(source.clone()),
                    counted: counters.lookups(&source.name),
                    reading: reading(),
                    time_max,
                },
            });
        }
        let sources: Arc<[Place]> = sources.into();
        let mut functions = functions.clone();
        for (index, function) in settings.function.iter().enumerate() {
            let forward = Forward::new(function, &settings)
                .map_err(|message| Misconfigured { key: format!("terms.function[{index}]"), message })?;
            functions.set(&function.module, &function.function, Arc::new(forward));
        }
        functions.set_unless_known("echo_server", "echo", Arc::new(Echo));
        let room = match before.filter(|before| before.room.bytes() == held_bytes_max) {
            Some(before) => before.room.clone(),
            None => Room::new(held_bytes_max),
        };
        let turns = before.map_or_else(Turns::default, |before| before.work.turns.clone());
        let work = Work { turns, room: room.clone() };
        conversions::register(&mut functions, &settings, &sources, &work);
        Ok(Self { settings, functions, room, work, counters: Arc::clone(counters), sources })
    }

    /// The source that has a key, and its key there.
    pub(crate) fn source<'a>(&self, path: &'a str) -> Option<(&Place, &'a str)> {
        find(&self.sources, path)
    }
}

fn named_twice(name: &str) -> String {
    format!("there are two sources named \"{name}\"")
}

/// A source under its name.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    name: String,
    source: Arc<dyn Source>,
    /// How; none if it was not the configuration that made it.
    configured: Option<TermSource>,
    counted: Arc<Lookups>,
    /// How long a term is shows when it is there, and then it waits for room: only as many are read at once as have room if all are long.
    reading: Arc<Semaphore>,
    time_max: Duration,
}

impl Place {
    /// The term under a key, and the room that is taken for it.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) async fn get(
        &self,
        key: &str,
        room: &Room,
    ) -> Result<(Result<Option<Found>, SourceError>, Held), Problem> {
        let looking = async {
            let reading = self.reading.acquire().await;
            (self.source.get(key).await, reading)
        };
        let (outcome, reading) = match tokio::time::timeout(self.time_max + GRACE, looking).await {
            Ok((outcome, reading)) => (outcome, Some(reading)),
            Err(_) => {
                let detail = format!("no answer in {} s", self.time_max.as_secs());
                (Err(SourceError::Unavailable(detail)), None)
            }
        };
        self.counted.ended(&outcome);
        let bytes = outcome.as_ref().map_or(0, |found| found.as_ref().map_or(0, |found| found.bytes.len()));
        let held = room.take(bytes).await?;
        drop(reading);
        Ok((outcome, held))
    }
}

/// Waits until the service is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// The source that has a path: the one that is named by its beginning, or else the one without a name.
pub(crate) fn find<'s, 'a>(places: &'s [Place], path: &'a str) -> Option<(&'s Place, &'a str)> {
    let named = path.split_once('/').and_then(|(first, rest)| {
        let place = places.iter().find(|place| !place.name.is_empty() && place.name == first)?;
        Some((place, rest))
    });
    named.or_else(|| places.iter().find(|place| place.name.is_empty()).map(|place| (place, path)))
}
