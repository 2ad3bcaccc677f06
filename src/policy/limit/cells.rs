//! The state of all limits of one holder.

use super::super::model::{LimitIndex, Policy, PolicyHash};
use super::super::time::{Now, Tick, Timestamp};
use super::gcra::Rate;
use super::repeats::Repeats;
use super::window::{Part, Window};
use super::{Bound, Call, Exceedance, Limit, Per, Standing};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where each limit's state lies in a holder's [`Cells`].
#[derive(Debug)]
pub struct Layout {
    hash: PolicyHash,
    limits: Arc<[Limit]>,
    /// Position of each limit among those of its own [`Per`].
    places: Box<[u32]>,
}

impl Layout {
    /// The layout of one policy's limits.
    pub fn new(hash: PolicyHash, limits: Arc<[Limit]>) -> Self {
        let mut next = [0u32; 3];
        let places = limits
            .iter()
            .map(|limit| {
                let place = &mut next[limit.per as usize];
                *place += 1;
                *place - 1
            })
            .collect();
        Self {
            hash,
            limits,
            places,
        }
    }
}

/// The state of all limits of one holder: a session, an agent, or the project. Shared by threads; each cell is its own.
#[derive(Debug)]
pub struct Cells {
    layout: Arc<Layout>,
    per: Per,
    cells: Box<[Cell]>,
}

/// State made on first use, so that an unused limit costs a session two words.
type Lazy<T> = Mutex<Option<Box<T>>>;

#[derive(Debug)]
enum Cell {
    Rate(AtomicU64),
    Count(Lazy<Window>),
    Repeats(Lazy<Repeats>),
    Cost(Lazy<Window>),
}

impl Cell {
    fn new(bound: Bound) -> Self {
        match bound {
            Bound::Rate { .. } => Cell::Rate(AtomicU64::new(0)),
            Bound::Count { .. } => Cell::Count(Lazy::default()),
            Bound::Repeats { .. } => Cell::Repeats(Lazy::default()),
            Bound::Cost { .. } => Cell::Cost(Lazy::default()),
        }
    }

    fn copy(&self) -> Self {
        match self {
            Cell::Rate(due) => Cell::Rate(AtomicU64::new(due.load(Ordering::Relaxed))),
            Cell::Count(window) => Cell::Count(Mutex::new(lock(window).clone())),
            Cell::Repeats(repeats) => Cell::Repeats(Mutex::new(lock(repeats).clone())),
            Cell::Cost(window) => Cell::Cost(Mutex::new(lock(window).clone())),
        }
    }

    fn clear(&self) {
        match self {
            Cell::Rate(due) => due.store(0, Ordering::Relaxed),
            Cell::Count(window) | Cell::Cost(window) => *lock(window) = None,
            Cell::Repeats(repeats) => *lock(repeats) = None,
        }
    }
}

/// A panic elsewhere can't leave a count half taken: each change is a few plain stores.
fn lock<T>(lazy: &Mutex<T>) -> MutexGuard<'_, T> {
    lazy.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cells {
    /// Untouched state of one holder under `policy`.
    pub fn new(policy: &Policy, per: Per) -> Self {
        let own = policy.limits.iter().filter(|limit| limit.per == per);
        Self {
            layout: Arc::clone(&policy.layout),
            per,
            cells: own.map(|limit| Cell::new(limit.bound)).collect(),
        }
    }

    /// Of which policy it is.
    pub fn layout(&self) -> PolicyHash {
        self.layout.hash
    }

    /// The same holder's state under another policy: carried over by limit id where holder and numbers are unchanged.
    pub fn carried_to(&self, policy: &Policy) -> Self {
        let own = policy.limits.iter().filter(|limit| limit.per == self.per);
        let cells = own
            .map(|limit| match self.cell_of(limit) {
                Some(cell) => cell.copy(),
                None => Cell::new(limit.bound),
            })
            .collect();
        Self {
            layout: Arc::clone(&policy.layout),
            per: self.per,
            cells,
        }
    }

    fn cell_of(&self, limit: &Limit) -> Option<&Cell> {
        let same = |have: &Limit| {
            have.id == limit.id && have.per == limit.per && have.bound == limit.bound
        };
        let at = self.layout.limits.iter().position(same)?;
        self.cells.get(self.layout.places[at] as usize)
    }

    /// The limits of this holder among `limits`, with their state. Positions are of the policy this was laid out by.
    fn own<'a>(
        &'a self,
        limits: &'a [LimitIndex],
    ) -> impl Iterator<Item = (LimitIndex, &'a Limit, &'a Cell)> {
        limits.iter().filter_map(|&index| {
            let limit = self.layout.limits.get(index.0 as usize)?;
            let cell = self
                .cells
                .get(self.layout.places[index.0 as usize] as usize)?;
            (limit.per == self.per).then_some((index, limit, cell))
        })
    }

    /// Counts one call against the rates, counts and repeats among `limits`, in order; cost is not looked at. A call that
    /// exceeds one is not counted by it.
    ///
    /// # Errors
    /// The first [`Exceedance`]; later limits are untouched.
    pub fn take(&self, limits: &[LimitIndex], call: Call<'_>) -> Result<(), Exceedance> {
        for (index, limit, cell) in self.own(limits) {
            take_one(limit, cell, call).map_err(|retry_after| Exceedance {
                limit: index,
                exceeded: limit.exceeded,
                retry_after,
            })?;
        }
        Ok(())
    }

    /// Whether one more call fits the rates and counts among `limits`. Counts nothing: limits that must count only calls
    /// which pass are all asked before any is taken. Repeats and cost are not looked at.
    ///
    /// # Errors
    /// The first [`Exceedance`] there would be.
    pub fn ask(&self, limits: &[LimitIndex], now: Tick) -> Result<(), Exceedance> {
        for (index, limit, cell) in self.own(limits) {
            if !matches!(limit.bound, Bound::Rate { .. } | Bound::Count { .. }) {
                continue;
            }
            let (remaining, retry_after) = standing(limit, cell, now);
            if remaining == 0 {
                return Err(Exceedance {
                    limit: index,
                    exceeded: limit.exceeded,
                    retry_after,
                });
            }
        }
        Ok(())
    }

    /// Adds a cost that is known before the call to the cost limits among `limits`, all or none. With zero `micros` it
    /// only asks whether anything is left.
    ///
    /// # Errors
    /// The first [`Exceedance`]: the sum would pass its bound (or, for zero, has reached it).
    pub fn spend(&self, limits: &[LimitIndex], now: Tick, micros: u64) -> Result<(), Exceedance> {
        for (index, limit, cell) in self.own(limits) {
            let Err(retry_after) = spend_one(limit, cell, now, micros) else {
                continue;
            };
            let earlier = limits.iter().position(|have| *have == index).unwrap_or(0);
            self.refund(&limits[..earlier], now, micros);
            return Err(Exceedance {
                limit: index,
                exceeded: limit.exceeded,
                retry_after,
            });
        }
        Ok(())
    }

    /// Takes back what [`Cells::spend`] added at the same `now`, for a call that was then refused.
    pub fn refund(&self, limits: &[LimitIndex], now: Tick, micros: u64) {
        for (_, limit, cell) in self.own(limits) {
            if let (Bound::Cost { window, .. }, Cell::Cost(lazy)) = (limit.bound, cell)
                && let Some(sum) = &mut *lock(lazy)
            {
                sum.take_back(Part::of(window), now, micros);
            }
        }
    }

    /// Adds a cost that became known after the call to the cost limits among `limits`, whatever the bound.
    /// `Some`: a sum has passed its bound; a limit that quarantines comes before one that throttles.
    pub fn charge(&self, limits: &[LimitIndex], now: Tick, micros: u64) -> Option<Exceedance> {
        let mut worst: Option<Exceedance> = None;
        for (index, limit, cell) in self.own(limits) {
            let (
                Bound::Cost {
                    micros: bound,
                    window,
                },
                Cell::Cost(lazy),
            ) = (limit.bound, cell)
            else {
                continue;
            };
            let part = Part::of(window);
            let mut sum = lock(lazy);
            let sum = sum.get_or_insert_default();
            // First what has left the window: a sum is bounded, and what is stale takes no room from what is added.
            sum.total(part, now);
            sum.add(part, now, micros);
            if sum.total(part, now) > bound {
                let exceedance = Exceedance {
                    limit: index,
                    exceeded: limit.exceeded,
                    retry_after: sum.until(part, now, 0, bound),
                };
                if worst.is_none_or(|have| have.exceeded < exceedance.exceeded) {
                    worst = Some(exceedance);
                }
            }
        }
        worst
    }

    /// What each of this holder's limits among `limits` has left.
    pub fn standings<'a>(
        &'a self,
        limits: &'a [LimitIndex],
        now: Tick,
    ) -> impl Iterator<Item = Standing> + 'a {
        self.own(limits).map(move |(index, limit, cell)| {
            let (remaining, resets_in) = standing(limit, cell, now);
            Standing {
                limit: index,
                remaining,
                resets_in,
            }
        })
    }

    /// Forgets everything: a released session begins anew.
    pub fn clear(&self) {
        self.cells.iter().for_each(Cell::clear);
    }

    /// The sums of one cost limit, by when their part of the window began: what is kept across restarts.
    pub fn cost_buckets(&self, limit: LimitIndex, now: Now) -> Vec<(Timestamp, u64)> {
        let mut buckets = Vec::new();
        for (_, limit, cell) in self.own(&[limit]) {
            if let (Bound::Cost { window, .. }, Cell::Cost(lazy)) = (limit.bound, cell)
                && let Some(sum) = &mut *lock(lazy)
            {
                let part = Part::of(window);
                sum.total(part, now.tick);
                for (number, micros) in sum.parts() {
                    let ago = now.tick.since(part.began(number)).as_micros();
                    let ago = i64::try_from(ago).unwrap_or(i64::MAX);
                    buckets.push((Timestamp::from_micros(now.wall.micros() - ago), micros));
                }
            }
        }
        buckets
    }

    /// Adds a sum kept across a restart, to the part of the window in which `bucket` lies: best the middle of the part it
    /// was counted in, which no rounding moves to another. What the wall clock says has left the window is forgotten.
    pub fn restore_cost(&self, limit: LimitIndex, bucket: Timestamp, micros: u64, now: Now) {
        for (_, limit, cell) in self.own(&[limit]) {
            if let (Bound::Cost { window, .. }, Cell::Cost(lazy)) = (limit.bound, cell) {
                let part = Part::of(window);
                let ago = now.wall.since(bucket);
                if ago > window + window / 60 {
                    continue;
                }
                let then = Tick::from_nanos(
                    now.tick
                        .nanos()
                        .saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)),
                );
                lock(lazy).get_or_insert_default().add(part, then, micros);
            }
        }
    }
}

fn take_one(limit: &Limit, cell: &Cell, call: Call<'_>) -> Result<(), Duration> {
    match (limit.bound, cell) {
        (
            Bound::Rate {
                count,
                window,
                burst,
            },
            Cell::Rate(due),
        ) => Rate::new(count, window, burst).take(due, call.now),
        (Bound::Count { count, window }, Cell::Count(lazy)) => {
            let part = Part::of(window);
            let mut calls = lock(lazy);
            let calls = calls.get_or_insert_default();
            if calls.total(part, call.now) >= u64::from(count) {
                return Err(calls.until(part, call.now, 1, u64::from(count)));
            }
            calls.add(part, call.now, 1);
            Ok(())
        }
        (Bound::Repeats { count, window }, Cell::Repeats(lazy)) => match call.digest {
            Some(digest) => {
                let mut seen = lock(lazy);
                seen.get_or_insert_default()
                    .take(Part::of(window), call.now, digest, count)
            }
            None => Ok(()),
        },
        // Cost is spent or charged; a cell is always made from its own bound.
        (Bound::Cost { .. }, _)
        | (_, Cell::Rate(_) | Cell::Count(_) | Cell::Repeats(_) | Cell::Cost(_)) => Ok(()),
    }
}

fn spend_one(limit: &Limit, cell: &Cell, now: Tick, micros: u64) -> Result<(), Duration> {
    let (
        Bound::Cost {
            micros: bound,
            window,
        },
        Cell::Cost(lazy),
    ) = (limit.bound, cell)
    else {
        return Ok(());
    };
    let part = Part::of(window);
    let mut sum = lock(lazy);
    let sum = sum.get_or_insert_default();
    let spent = sum.total(part, now);
    // Of a cost that only the answer tells, at least a millionth must fit.
    let asked = micros.max(1);
    if spent.saturating_add(asked) > bound {
        return Err(sum.until(part, now, asked, bound));
    }
    sum.add(part, now, micros);
    Ok(())
}

fn standing(limit: &Limit, cell: &Cell, now: Tick) -> (u64, Duration) {
    let within = |lazy: &Lazy<Window>, window, bound: u64| match &mut *lock(lazy) {
        None => (bound, Duration::ZERO),
        Some(counted) => {
            let part = Part::of(window);
            let remaining = bound.saturating_sub(counted.total(part, now));
            let until = match remaining == bound {
                true => Duration::ZERO,
                false => counted.until(part, now, remaining + 1, bound),
            };
            (remaining, until)
        }
    };
    match (limit.bound, cell) {
        (
            Bound::Rate {
                count,
                window,
                burst,
            },
            Cell::Rate(due),
        ) => Rate::new(count, window, burst).standing(due, now),
        (Bound::Count { count, window }, Cell::Count(lazy)) => {
            within(lazy, window, u64::from(count))
        }
        (Bound::Cost { micros, window }, Cell::Cost(lazy)) => within(lazy, window, micros),
        (Bound::Repeats { count, window }, Cell::Repeats(lazy)) => match &mut *lock(lazy) {
            None => (u64::from(count), Duration::ZERO),
            Some(seen) => seen.standing(Part::of(window), now, count),
        },
        // A cell is always made from its own bound; nothing is left of one that is not.
        (_, Cell::Rate(_) | Cell::Count(_) | Cell::Repeats(_) | Cell::Cost(_)) => {
            (0, Duration::ZERO)
        }
    }
}
