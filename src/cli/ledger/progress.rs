//! How far long work on the ledger has come: on a terminal only, on standard error, and only once it takes a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// A bar over bytes.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub fn new(what: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_message(what);
        let style =
            ProgressStyle::with_template("{msg} {bar:40} {bytes} of {total_bytes}, {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Progress(bar)
    }

    pub fn at(&self, done: u64, all: u64) {
        if self.0.elapsed().as_millis() >= SHOWN_AFTER_MS {
            self.0.set_length(all);
            self.0.set_position(done);
        }
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// What is over sooner needs no bar.
const SHOWN_AFTER_MS: u128 = 1_000;
