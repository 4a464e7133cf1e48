//! What is logged, and how: on standard error, from then on as `magpie log` says.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::cli::{LogFormat, Serve};
use crate::failure::Failure;

/// The filter of the running log. Cheap to clone.
#[derive(Clone)]
pub(super) struct LogFilter {
    handle: Arc<reload::Handle<EnvFilter, Registry>>,
}

/// Starts the log.
pub(super) fn start(serve: &Serve) -> Result<LogFilter, Failure> {
    let filter = EnvFilter::try_new(&serve.log).map_err(|error| Failure::usage(error.to_string()))?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = match serve.log_format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| Failure::new(format!("cannot start the log: {error}")))?;
    Ok(LogFilter { handle: Arc::new(handle) })
}

impl LogFilter {
    /// Changes the filter. The error says what is wrong with it.
    pub(super) fn set(&self, filter: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        self.handle.reload(filter).map_err(|error| error.to_string())
    }
}
