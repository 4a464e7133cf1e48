//! A source that is a server: connected to when it is first asked, connected to again when the connection is lost.
//!
//! One connection serves all lookups, which do not wait for one another. A lookup that meets a connection which has just been lost
//! is made once more on a new one, so that a server may restart between two of them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::parameter::Parameter;
use super::{Found, Limits, Lookup, Source, SourceError};
use crate::config::KeyKind;

/// For so long a server that could not be reached is not tried again, and lookups are told so at once.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// After so long in silence the system asks the other end whether it is there.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How to reach a server of some kind, and how to ask it.
pub(super) trait Server: Send + Sync + fmt::Debug {
    type Connection: Send + Sync;

    /// Error: what is wrong, without secrets.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;
    fn is_closed(connection: &Self::Connection) -> bool;
    fn ask(
        &self,
        connection: &Self::Connection,
        key: &Parameter,
    ) -> impl Future<Output = Result<Option<Found>, Failure>> + Send;
    /// Where it is, for errors.
    fn place(&self) -> &str;
}

/// Why a connection gives no term.
pub(super) enum Failure {
    /// It cannot be used any more.
    Lost(String),
    Answer(SourceError),
}

pub(super) struct Remote<S: Server> {
    server: S,
    key: KeyKind,
    limits: Limits,
    link: Mutex<Link<S::Connection>>,
}

enum Link<C> {
    Unused,
    Up(Arc<C>),
    Down(Instant, String),
}

impl<S: Server> Remote<S> {
    pub(super) fn new(server: S, key: KeyKind, limits: Limits) -> Self {
        Self { server, key, limits, link: Mutex::new(Link::Unused) }
    }

    async fn ask(
        &self,
        keys: &[Parameter],
        used: &mut Option<Arc<S::Connection>>,
    ) -> Result<Option<Found>, SourceError> {
        for key in keys {
            if let Some(found) = self.ask_for(key, used).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn ask_for(
        &self,
        key: &Parameter,
        used: &mut Option<Arc<S::Connection>>,
    ) -> Result<Option<Found>, SourceError> {
        let mut is_second = false;
        loop {
            let connection = self.connection().await?;
            let connection = used.insert(connection);
            match self.server.ask(connection, key).await {
                Ok(found) => return Ok(found),
                Err(Failure::Answer(error)) => return Err(error),
                Err(Failure::Lost(why)) => {
                    self.leave(connection).await;
                    if is_second {
                        return Err(self.unavailable(&why));
                    }
                    is_second = true;
                }
            }
        }
    }

    async fn connection(&self) -> Result<Arc<S::Connection>, SourceError> {
        let mut link = self.link.lock().await;
        match &*link {
            Link::Up(connection) if !S::is_closed(connection) => return Ok(Arc::clone(connection)),
            Link::Down(since, why) if since.elapsed() < RETRY_AFTER => return Err(self.unavailable(why)),
            Link::Up(_) => tracing::warn!(server = self.server.place(), "connection lost"),
            Link::Unused | Link::Down(..) => {}
        }
        // A little sooner than the lookup gives up, so that those who wait for the same connection are told too.
        let connected = tokio::time::timeout(self.limits.time().mul_f64(0.9), self.server.connect()).await;
        match connected.unwrap_or_else(|_| Err(self.late())) {
            Ok(connection) => {
                tracing::info!(server = self.server.place(), "connected");
                let connection = Arc::new(connection);
                *link = Link::Up(Arc::clone(&connection));
                Ok(connection)
            }
            Err(why) => {
                tracing::warn!(server = self.server.place(), why, "no connection");
                let error = self.unavailable(&why);
                *link = Link::Down(Instant::now(), why);
                Err(error)
            }
        }
    }

    /// The next lookup connects anew.
    async fn leave(&self, connection: &Arc<S::Connection>) {
        let mut link = self.link.lock().await;
        if matches!(&*link, Link::Up(current) if Arc::ptr_eq(current, connection)) {
            *link = Link::Unused;
        }
    }

    fn late(&self) -> String {
        format!("no answer in {} s", self.limits.seconds_max)
    }

    fn unavailable(&self, why: &str) -> SourceError {
        SourceError::Unavailable(format!("{}: {why}", self.server.place()))
    }
}

impl<S: Server> Source for Remote<S>
where
    S::Connection: 'static,
{
    fn get<'a>(&'a self, key: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let keys = Parameter::parse(self.key, key)?;
            let mut used = None;
            if let Ok(outcome) = tokio::time::timeout(self.limits.time(), self.ask(&keys, &mut used)).await {
                return outcome;
            }
            // Whether the server is slow or gone cannot be seen from here; a new connection is cheap. While another lookup
            // connects there is nothing to leave.
            if let (Some(connection), Ok(mut link)) = (used, self.link.try_lock())
                && matches!(&*link, Link::Up(current) if Arc::ptr_eq(current, &connection))
            {
                *link = Link::Unused;
            }
            Err(self.unavailable(&self.late()))
        })
    }
}

/// What moves the bytes of a connection: it ends with it, even if the server says nothing any more.
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A part of a URL with its `%2F` and the like as what they stand for.
pub(super) fn percent_decoded(text: &str) -> Result<String, String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| format!("{text:?} in `url` is not UTF-8"))
}

impl<S: Server> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("server", &self.server).finish_non_exhaustive()
    }
}
