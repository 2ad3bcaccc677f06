//! How far long work on the ledger has come: on a terminal only, on standard error, and only once it takes a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal as _;

/// A bar over bytes.
pub(super) struct Progress {
    bar: ProgressBar,
    done: Cell<u64>,
}

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
        Progress {
            bar,
            done: Cell::new(0),
        }
    }

    pub fn at(&self, done: u64, all: u64) {
        self.done.set(done);
        if self.bar.elapsed().as_millis() >= SHOWN_AFTER_MS {
            self.bar.set_length(all);
            self.bar.set_position(done);
        }
    }

    /// So many more of all.
    pub fn add(&self, bytes: u64, all: u64) {
        self.at(self.done.get() + bytes, all);
    }

    /// Does something that prints, with the bar out of its way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// What is over sooner needs no bar.
const SHOWN_AFTER_MS: u128 = 1_000;
