//! What all connections share: settings, sources, functions.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::config::Terms;
use crate::functions::echo::Echo;
use crate::functions::forward::Forward;
use crate::functions::{Functions, conversions};
use crate::http::input::Room;
use crate::sources::{self, Source};

/// Casts of BERT-RPC that run at once.
const CASTS_MAX: usize = 1024;

/// The term service.
#[derive(Debug)]
pub struct Service {
    settings: Terms,
    sources: Vec<(String, Arc<dyn Source>)>,
    functions: Functions,
    room: Room,
    casts: Arc<Semaphore>,
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
    /// Opens the sources that are configured. `sources`, by name, and `functions` are there beside; so are always the functions
    /// `echo_server:echo` and, in the module `terms`, `to_json`, `from_json`, `to_text` and `get`.
    ///
    /// # Errors
    /// If a source or a function is not configured as it must be.
    pub fn new(
        settings: Terms,
        mut functions: Functions,
        mut sources: Vec<(String, Arc<dyn Source>)>,
    ) -> Result<Self, Misconfigured> {
        for (index, source) in settings.source.iter().enumerate() {
            let wrong = |message| Misconfigured { key: format!("terms.source[{index}]"), message };
            if sources.iter().any(|(name, _)| *name == source.name) {
                return Err(wrong(format!("there are two sources named \"{}\"", source.name)));
            }
            sources.push((source.name.clone(), sources::open(source, &settings).map_err(wrong)?));
        }
        functions.set("echo_server", "echo", Arc::new(Echo));
        conversions::register(&mut functions, &settings, &sources);
        for (index, function) in settings.function.iter().enumerate() {
            let forward = Forward::new(function, &settings)
                .map_err(|message| Misconfigured { key: format!("terms.function[{index}]"), message })?;
            functions.set(&function.module, &function.function, Arc::new(forward));
        }
        let room = Room::new(settings.held_bytes_max.max(settings.term_bytes_max));
        Ok(Self { settings, sources, functions, room, casts: Arc::new(Semaphore::new(CASTS_MAX)) })
    }

    /// The settings.
    pub fn settings(&self) -> &Terms {
        &self.settings
    }

    /// What may be called.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    pub(crate) fn casts(&self) -> &Arc<Semaphore> {
        &self.casts
    }

    /// The source that has a key, and its key there.
    pub(crate) fn source<'a>(&self, path: &'a str) -> Option<(&dyn Source, &'a str)> {
        find(&self.sources, path)
    }
}

/// Waits until the service is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// The source that has a path: the one that is named by its beginning, or else the one without a name.
pub(crate) fn find<'s, 'a>(
    sources: &'s [(String, Arc<dyn Source>)],
    path: &'a str,
) -> Option<(&'s dyn Source, &'a str)> {
    let named = path.split_once('/').and_then(|(first, rest)| {
        let (_, source) = sources.iter().find(|(name, _)| !name.is_empty() && name == first)?;
        Some((&**source, rest))
    });
    named.or_else(|| sources.iter().find(|(name, _)| name.is_empty()).map(|(_, source)| (&**source, path)))
}
