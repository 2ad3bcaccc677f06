//! What was counted within the last window: exact to a sixtieth of it, always on the strict side.
//!
//! Sixtieths without a call take no room, so a window that is hardly used is small.

use super::super::time::Tick;
use std::collections::VecDeque;
use std::time::Duration;

/// Parts a window is counted in.
const PARTS: u64 = 60;

/// Counts (calls, or millionths of cost) of the parts of the last window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Number of the part and what was counted in it; oldest first, none empty.
    parts: VecDeque<(u64, u64)>,
    total: u64,
}

/// A sixtieth of the window, in nanoseconds, rounded up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part(u64);

impl Part {
    pub(super) fn of(window: Duration) -> Self {
        Self(
            u64::try_from(window.as_nanos())
                .unwrap_or(u64::MAX)
                .div_ceil(PARTS)
                .max(1),
        )
    }

    fn number(self, now: Tick) -> u64 {
        now.nanos() / self.0
    }

    /// The longest that something counted may still lie within the window, the part it was counted in included.
    pub(super) fn window(self) -> Duration {
        Duration::from_nanos(self.0.saturating_mul(PARTS + 1))
    }

    /// When a part began.
    pub(super) fn began(self, number: u64) -> Tick {
        Tick::from_nanos(number.saturating_mul(self.0))
    }
}

impl Window {
    /// What lies within the window that ends now: nothing of it is forgotten before the whole window has passed over it.
    pub(super) fn total(&mut self, part: Part, now: Tick) -> u64 {
        let oldest = part.number(now).saturating_sub(PARTS);
        while let Some(&(number, count)) = self.parts.front()
            && number < oldest
        {
            self.total -= count;
            self.parts.pop_front();
        }
        self.total
    }

    /// Counts `count` at `now`; the total stays within `u64`.
    pub(super) fn add(&mut self, part: Part, now: Tick, count: u64) {
        let number = part.number(now);
        let count = count.min(u64::MAX - self.total);
        if count == 0 {
            return;
        }
        self.total += count;
        match self.parts.iter().rposition(|(have, _)| *have <= number) {
            Some(at) if self.parts[at].0 == number => self.parts[at].1 += count,
            Some(at) => self.parts.insert(at + 1, (number, count)),
            None => self.parts.push_front((number, count)),
        }
    }

    /// Takes back what [`Window::add`] counted at the same `now`.
    pub(super) fn take_back(&mut self, part: Part, now: Tick, count: u64) {
        let number = part.number(now);
        if let Some(at) = self.parts.iter().position(|(have, _)| *have == number) {
            let count = count.min(self.parts[at].1);
            self.parts[at].1 -= count;
            self.total -= count;
            if self.parts[at].1 == 0 {
                self.parts.remove(at);
            }
        }
    }

    /// How long until enough is forgotten that `fits` more are within `bound`.
    pub(super) fn until(&self, part: Part, now: Tick, fits: u64, bound: u64) -> Duration {
        let mut left = self.total;
        for (number, count) in &self.parts {
            left -= count;
            if left.saturating_add(fits) <= bound {
                return part.began(number + PARTS + 1).since(now);
            }
        }
        // It never fits; the last thing known to change is all being forgotten.
        self.parts.back().map_or(Duration::ZERO, |(number, _)| {
            part.began(number + PARTS + 1).since(now)
        })
    }

    /// Parts and their counts, oldest first.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.parts.iter().copied()
    }
}
