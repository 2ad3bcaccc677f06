//! The state of all limits of one holder.

use super::super::model::{LimitIndex, Policy, PolicyHash};
use super::super::time::{Now, Tick, Timestamp};
use super::gcra::Rate;
use super::repeats::Repeats;
use super::window::{Part, Window};
use super::{Bound, Call, Exceedance, Exceeded, Limit, Per, Standing};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where each limit's state lies in a holder's [`Cells`].
#[derive(Debug)]
pub struct Layout {
    hash: PolicyHash,
    limits: Arc<[Limit]>,
    /// By [`LimitIndex`].
    rules: Box<[Rule]>,
}

/// What counting a call reads of a limit, computed once.
#[derive(Clone, Copy, Debug)]
struct Rule {
    per: Per,
    /// Position among the limits of its own [`Per`].
    place: u32,
    exceeded: Exceeded,
    bound: Fast,
}

/// A [`Bound`] in the units that counting uses.
#[derive(Clone, Copy, Debug)]
enum Fast {
    Rate(Rate),
    Count { count: u64, part: Part },
    Repeats { count: u32, part: Part },
    Cost { micros: u64, part: Part },
}

impl Rule {
    fn exceedance(&self, limit: LimitIndex, retry_after: Duration) -> Exceedance {
        Exceedance {
            limit,
            exceeded: self.exceeded,
            retry_after,
        }
    }
}

impl Fast {
    fn of(bound: Bound) -> Self {
        match bound {
            Bound::Rate {
                count,
                window,
                burst,
            } => Fast::Rate(Rate::new(count, window, burst)),
            Bound::Count { count, window } => Fast::Count {
                count: u64::from(count),
                part: Part::of(window),
            },
            Bound::Repeats { count, window } => Fast::Repeats {
                count,
                part: Part::of(window),
            },
            Bound::Cost { micros, window } => Fast::Cost {
                micros,
                part: Part::of(window),
            },
        }
    }
}

impl Layout {
    /// The layout of one policy's limits.
    pub fn new(hash: PolicyHash, limits: Arc<[Limit]>) -> Self {
        let mut next = [0u32; 3];
        let rules = limits
            .iter()
            .map(|limit| {
                let place = &mut next[limit.per as usize];
                *place += 1;
                Rule {
                    per: limit.per,
                    place: *place - 1,
                    exceeded: limit.exceeded,
                    bound: Fast::of(limit.bound),
                }
            })
            .collect();
        Self {
            hash,
            limits,
            rules,
        }
    }
}

/// The state of all limits of one holder: a session, an agent, or the project. Shared by threads; each cell is its own.
#[derive(Debug)]
pub struct Cells {
    layout: Arc<Layout>,
    per: Per,
    /// In place: sessions have few, and reading them must not lead elsewhere.
    cells: SmallVec<[Cell; 2]>,
}

/// Some of the limits that a call is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Rates.
    Rates,
    /// Counts and repeats.
    Others,
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
        self.cells.get(self.layout.rules[at].place as usize)
    }

    /// The limits of this holder among `limits`, with their state. Positions are of the policy this was laid out by.
    fn own<'a>(
        &'a self,
        limits: &'a [LimitIndex],
    ) -> impl Iterator<Item = (LimitIndex, &'a Rule, &'a Cell)> {
        limits.iter().filter_map(|&index| {
            let rule = self.layout.rules.get(index.0 as usize)?;
            let cell = self.cells.get(rule.place as usize)?;
            (rule.per == self.per).then_some((index, rule, cell))
        })
    }

    /// Counts one call against the rates, counts and repeats among `limits`, in order; cost is not looked at. A call that
    /// exceeds one is not counted by it.
    ///
    /// # Errors
    /// The first [`Exceedance`]; later limits are untouched.
    pub fn take(&self, limits: &[LimitIndex], call: Call<'_>) -> Result<(), Exceedance> {
        for (index, rule, cell) in self.own(limits) {
            take_one(rule.bound, cell, call)
                .map_err(|retry_after| rule.exceedance(index, retry_after))?;
        }
        Ok(())
    }

    /// As [`Cells::take`], the rates alone or all but the rates: who asks again for what a person is asked already is a
    /// client that polls, not one that calls.
    ///
    /// # Errors
    /// The first [`Exceedance`]; later limits are untouched.
    pub fn take_only(
        &self,
        which: Only,
        limits: &[LimitIndex],
        call: Call<'_>,
    ) -> Result<(), Exceedance> {
        for (index, rule, cell) in self.own(limits) {
            if matches!(rule.bound, Fast::Rate(_)) != (which == Only::Rates) {
                continue;
            }
            take_one(rule.bound, cell, call)
                .map_err(|retry_after| rule.exceedance(index, retry_after))?;
        }
        Ok(())
    }

    /// Whether one more call fits the rates and counts among `limits`. Counts nothing: limits that must count only calls
    /// which pass are all asked before any is taken. Repeats and cost are not looked at.
    ///
    /// # Errors
    /// The first [`Exceedance`] there would be.
    pub fn ask(&self, limits: &[LimitIndex], now: Tick) -> Result<(), Exceedance> {
        for (index, rule, cell) in self.own(limits) {
            if !matches!(rule.bound, Fast::Rate(_) | Fast::Count { .. }) {
                continue;
            }
            let (remaining, retry_after) = standing(rule.bound, cell, now);
            if remaining == 0 {
                return Err(rule.exceedance(index, retry_after));
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
        for (index, rule, cell) in self.own(limits) {
            let Err(retry_after) = spend_one(rule.bound, cell, now, micros) else {
                continue;
            };
            let earlier = limits.iter().position(|have| *have == index).unwrap_or(0);
            self.refund(&limits[..earlier], now, micros);
            return Err(rule.exceedance(index, retry_after));
        }
        Ok(())
    }

    /// Takes back what [`Cells::spend`] added at the same `now`, for a call that was then refused.
    pub fn refund(&self, limits: &[LimitIndex], now: Tick, micros: u64) {
        for (_, rule, cell) in self.own(limits) {
            if let (Fast::Cost { part, .. }, Cell::Cost(lazy)) = (rule.bound, cell)
                && let Some(sum) = &mut *lock(lazy)
            {
                sum.take_back(part, now, micros);
            }
        }
    }

    /// Adds a cost that became known after the call to the cost limits among `limits`, whatever the bound.
    /// `Some`: a sum has passed its bound; a limit that quarantines comes before one that throttles.
    pub fn charge(&self, limits: &[LimitIndex], now: Tick, micros: u64) -> Option<Exceedance> {
        let mut worst: Option<Exceedance> = None;
        for (index, rule, cell) in self.own(limits) {
            let (
                Fast::Cost {
                    micros: bound,
                    part,
                },
                Cell::Cost(lazy),
            ) = (rule.bound, cell)
            else {
                continue;
            };
            let mut sum = lock(lazy);
            let sum = sum.get_or_insert_default();
            // First what has left the window: a sum is bounded, and what is stale takes no room from what is added.
            sum.total(part, now);
            sum.add(part, now, micros);
            if sum.total(part, now) > bound {
                let exceedance = rule.exceedance(index, sum.until(part, now, 0, bound));
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
        self.own(limits).map(move |(index, rule, cell)| {
            let (remaining, resets_in) = standing(rule.bound, cell, now);
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
        for (_, rule, cell) in self.own(&[limit]) {
            if let (Fast::Cost { part, .. }, Cell::Cost(lazy)) = (rule.bound, cell)
                && let Some(sum) = &mut *lock(lazy)
            {
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
        for (_, rule, cell) in self.own(&[limit]) {
            if let (Fast::Cost { part, .. }, Cell::Cost(lazy)) = (rule.bound, cell) {
                let ago = now.wall.since(bucket);
                if ago > part.window() {
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

fn take_one(bound: Fast, cell: &Cell, call: Call<'_>) -> Result<(), Duration> {
    match (bound, cell) {
        (Fast::Rate(rate), Cell::Rate(due)) => rate.take(due, call.now),
        (Fast::Count { count, part }, Cell::Count(lazy)) => {
            let mut calls = lock(lazy);
            let calls = calls.get_or_insert_default();
            if calls.total(part, call.now) >= count {
                return Err(calls.until(part, call.now, 1, count));
            }
            calls.add(part, call.now, 1);
            Ok(())
        }
        (Fast::Repeats { count, part }, Cell::Repeats(lazy)) => match call.digest {
            Some(digest) => {
                let mut seen = lock(lazy);
                seen.get_or_insert_default()
                    .take(part, call.now, digest, count)
            }
            None => Ok(()),
        },
        // Cost is spent or charged; a cell is always made from its own bound.
        (Fast::Cost { .. }, _)
        | (_, Cell::Rate(_) | Cell::Count(_) | Cell::Repeats(_) | Cell::Cost(_)) => Ok(()),
    }
}

fn spend_one(bound: Fast, cell: &Cell, now: Tick, micros: u64) -> Result<(), Duration> {
    let (
        Fast::Cost {
            micros: bound,
            part,
        },
        Cell::Cost(lazy),
    ) = (bound, cell)
    else {
        return Ok(());
    };
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

fn standing(bound: Fast, cell: &Cell, now: Tick) -> (u64, Duration) {
    let within = |lazy: &Lazy<Window>, part, bound: u64| match &mut *lock(lazy) {
        None => (bound, Duration::ZERO),
        Some(counted) => {
            let remaining = bound.saturating_sub(counted.total(part, now));
            let until = match remaining == bound {
                true => Duration::ZERO,
                false => counted.until(part, now, remaining + 1, bound),
            };
            (remaining, until)
        }
    };
    match (bound, cell) {
        (Fast::Rate(rate), Cell::Rate(due)) => rate.standing(due, now),
        (Fast::Count { count, part }, Cell::Count(lazy)) => within(lazy, part, count),
        (Fast::Cost { micros, part }, Cell::Cost(lazy)) => within(lazy, part, micros),
        (Fast::Repeats { count, part }, Cell::Repeats(lazy)) => match &mut *lock(lazy) {
            None => (u64::from(count), Duration::ZERO),
            Some(seen) => seen.standing(part, now, count),
        },
        // A cell is always made from its own bound; nothing is left of one that is not.
        (_, Cell::Rate(_) | Cell::Count(_) | Cell::Repeats(_) | Cell::Cost(_)) => {
            (0, Duration::ZERO)
        }
    }
}
