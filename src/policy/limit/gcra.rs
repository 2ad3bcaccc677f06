//! The generic cell rate algorithm (ITU-T I.371), one atomic word a cell.
//!
//! The word is the theoretical arrival time: when the next call would be due if all came evenly. A call may come up to
//! `tolerance` early. Whatever the schedule, a window admits at most `burst + count` calls.

use super::super::time::Tick;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A rate, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Between two calls that come evenly; rounded up, so that rounding never admits more.
    interval: u64,
    /// How early a call may come.
    tolerance: u64,
}

impl Rate {
    pub(super) fn new(count: u32, window: Duration, burst: u32) -> Self {
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let interval = window.div_ceil(u64::from(count.max(1))).max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(burst.max(1)) - 1),
        }
    }

    /// Takes one call, or says how long until one fits.
    pub(super) fn take(self, cell: &AtomicU64, now: Tick) -> Result<(), Duration> {
        let mut due = cell.load(Ordering::Relaxed);
        loop {
            let early = due.saturating_sub(now.nanos());
            if early > self.tolerance {
                return Err(Duration::from_nanos(early - self.tolerance));
            }
            // Beyond the end of time nothing fits: a due time that stood still there would admit every call.
            let Some(next) = due.max(now.nanos()).checked_add(self.interval) else {
                return Err(Duration::from_nanos(self.interval));
            };
            match cell.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(meanwhile) => due = meanwhile,
            }
        }
    }

    /// Calls that fit now, and how long until one more does.
    pub(super) fn standing(self, cell: &AtomicU64, now: Tick) -> (u64, Duration) {
        let early = cell.load(Ordering::Relaxed).saturating_sub(now.nanos());
        if early == 0 {
            return (self.tolerance / self.interval + 1, Duration::ZERO);
        }
        if early > self.tolerance {
            return (0, Duration::from_nanos(early - self.tolerance));
        }
        let remaining = (self.tolerance - early) / self.interval + 1;
        let until = match early % self.interval {
            0 => self.interval,
            part => part,
        };
        (remaining, Duration::from_nanos(until))
    }
}
