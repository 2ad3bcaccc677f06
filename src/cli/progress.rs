//! How far long work has come: a bar on standard error, on a terminal only, and only for work of more than a second.

use crate::io::clock::{Clock as _, SystemClock};
use crate::policy::time::Tick;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

/// A bar over a number of bytes.
pub struct Progress {
    bar: ProgressBar,
    begun: Tick,
    shown: Cell<bool>,
}

/// Shorter work needs no bar.
const QUIET: Duration = Duration::from_secs(1);

impl Progress {
    /// Of work on so many bytes; `what` is done to them.
    pub fn bytes(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let style = "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        // A template that is not one shows the default bar.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        Progress {
            bar,
            begun: SystemClock.tick(),
            shown: Cell::new(false),
        }
    }

    /// So many of so many are done.
    pub fn at(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.add(done.saturating_sub(self.bar.position()));
    }

    /// So many more are done.
    pub fn add(&self, bytes: u64) {
        let now = SystemClock.tick();
        if !self.shown.get() && now.since(self.begun) >= QUIET && std::io::stderr().is_terminal() {
            self.shown.set(true);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes);
    }

    /// Does something that prints, with the bar out of its way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
