//! What is logged, and how: on standard error, from then on as `magpie log` says.

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::cli::LogFormat;
use crate::failure::Failure;

/// The filter of the running log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogFilter {
    handle: Arc<reload::Handle<EnvFilter, Registry>>,
}

/// Reads a filter. The error says what is wrong with it.
///
/// A word that is no level would be read as the name of a module, and silence all others: `debog` is refused.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, String> {
    let directives: Vec<&str> = filter.split(',').map(str::trim).collect();
    for directive in &directives {
        let names_a_module = directive.contains(['=', '[']);
        if directive.is_empty() || !names_a_module && LevelFilter::from_str(directive).is_err() {
            return Err(format!(
                "\"{directive}\" is no level; write off, error, warn, info, debug or trace, or MODULE=LEVEL, \
                 as in info,magpie_server=debug"
            ));
        }
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| error.to_string())
}

/// As <https://no-color.org> asks for.
fn in_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts the log.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<LogFilter, Failure> {
    let filter = parse(filter).map_err(Failure::usage)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = match format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(in_colours()).boxed(),
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
        let filter = parse(filter)?;
        self.handle.reload(filter).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn levels_and_modules_are_filters() {
        for filter in
            ["info", "WARN", "off", "info,magpie_server=debug", "warn, magpie_store=trace", "error,[session]=info"]
        {
            parse(filter).unwrap();
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_does_not_silence_the_log() {
        for filter in ["debog", "info,debog", "", "info,", "magpie_server", "info,magpie_server=loud"] {
            assert!(parse(filter).is_err(), "{filter}");
        }
        assert!(parse("debog").unwrap_err().starts_with("\"debog\" is no level"));
    }
}
