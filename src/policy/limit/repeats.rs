//! Repeats: calls with one digest, for the most recent digests of a session.

use super::super::time::Tick;
use super::CallDigest;
use super::window::{Part, Window};
use std::time::Duration;

/// Digests watched; the one unused longest makes room.
const DIGESTS_MAX: usize = 64;

/// The calls seen lately, by digest.
#[derive(Clone, Debug, Default)]
pub(super) struct Repeats {
    seen: Vec<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    digest: CallDigest,
    last: Tick,
    window: Window,
}

impl Repeats {
    /// Takes one call, or says how long until one with this digest fits.
    pub(super) fn take(
        &mut self,
        part: Part,
        now: Tick,
        digest: &CallDigest,
        count: u32,
    ) -> Result<(), Duration> {
        let at = match self.seen.iter().position(|seen| seen.digest == *digest) {
            Some(at) => at,
            None => self.watch(digest, now),
        };
        let seen = &mut self.seen[at];
        seen.last = now;
        if seen.window.total(part, now) >= u64::from(count) {
            return Err(seen.window.until(part, now, 1, u64::from(count)));
        }
        seen.window.add(part, now, 1);
        Ok(())
    }

    fn watch(&mut self, digest: &CallDigest, now: Tick) -> usize {
        let fresh = Seen {
            digest: *digest,
            last: now,
            window: Window::default(),
        };
        if self.seen.len() < DIGESTS_MAX {
            self.seen.push(fresh);
            return self.seen.len() - 1;
        }
        let oldest = (0..self.seen.len())
            .min_by_key(|at| self.seen[*at].last)
            .unwrap_or(0);
        self.seen[oldest] = fresh;
        oldest
    }

    /// What is left for the digest that has the least left, and how long until it has more.
    pub(super) fn standing(&mut self, part: Part, now: Tick, count: u32) -> (u64, Duration) {
        let bound = u64::from(count);
        let mut least = (bound, Duration::ZERO);
        for seen in &mut self.seen {
            let remaining = bound.saturating_sub(seen.window.total(part, now));
            if remaining < least.0 {
                least = (
                    remaining,
                    seen.window.until(part, now, remaining + 1, bound),
                );
            }
        }
        least
    }
}
