//! Log lines, on standard error: pretty for people, JSON for machines. `TOOLGATE_LOG` filters them (`info` by default).

use clap::ValueEnum;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text, coloured on a terminal
    #[default]
    Pretty,
    /// One JSON object a line
    Json,
}

/// Sends the process's log lines to standard error. Only the first call of a process does anything.
pub fn start(format: Format, default_filter: &str) {
    let filter =
        EnvFilter::try_from_env("TOOLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(default_filter));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    // A second subscriber is refused, which is what is wanted of it.
    let _ = match format {
        Format::Pretty => lines.with_ansi(colour()).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// On a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
