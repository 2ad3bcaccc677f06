//! Log lines, on standard error: pretty on a terminal, JSON for machines.
//!
//! Nothing secret is ever handed to a log macro: tokens, keys and credentials are types that print as nothing.

use std::io::{self, IsTerminal as _};
use std::panic;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text, coloured on a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The environment's filter; stronger than the level asked for on the command line.
const FILTER: &str = "TOOLGATE_LOG";

/// Sends the process's log lines, and the place of every panic, to standard error. Only the first call does anything.
pub fn start(format: Format, level: &str) {
    let asked = std::env::var(FILTER).ok().filter(|text| !text.is_empty());
    let parsed = asked.map(|text| EnvFilter::try_new(&text).map_err(|error| (text, error)));
    let (filter, wrong) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(wrong)) => (EnvFilter::new(level), Some(wrong)),
        None => (EnvFilter::new(level), None),
    };
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let json = match format {
        Format::Auto => !terminal,
        Format::Pretty => false,
        Format::Json => true,
    };
    let started = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        lines.with_ansi(colour).with_target(false).try_init()
    };
    if started.is_err() {
        return;
    }
    log_panics();
    if let Some((text, error)) = wrong {
        tracing::warn!(%error, "{FILTER}={text} is no filter; `{level}` is used");
    }
}

/// One request's panic is answered and survived, so it must not be silent. The message is left out: it may quote what an
/// agent sent.
fn log_panics() {
    panic::set_hook(Box::new(|about| {
        let place = about.location().map(ToString::to_string);
        tracing::error!(
            place = place.as_deref().unwrap_or("unknown"),
            "panicked: a fault of the gate"
        );
    }));
}
