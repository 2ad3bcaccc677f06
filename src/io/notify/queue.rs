//! Which messages wait for which target, and since when nobody tries any more: pure bookkeeping, time is an argument.
//!
//! Targets share nothing but the room: each has its own line and its own [`AT_ONCE`] attempts, so that one that stalls
//! holds up no other. Where there is no room left ([`ROOM`]), the longest line makes some: whoever floods loses its own.
//!
//! What survives a restart is the store's affair; this is filled from it.

use super::target::Address;
use crate::policy::id::MessageId;
use crate::policy::time::{Tick, Timestamp};
use crate::store::outbox::DeliveryKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// All that waits or is dead.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Address, Line>,
    held: usize,
    dead: usize,
}

/// What is kept for one target.
#[derive(Debug, Default)]
struct Line {
    deliveries: BTreeMap<MessageId, Delivery>,
    /// Those that wait and are not being tried, soonest first.
    due: BTreeSet<(Tick, MessageId)>,
    dead: BTreeSet<MessageId>,
    in_flight: usize,
}

/// One message for one target.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// As it is sent.
    pub payload: Arc<str>,
    /// Made so far, and all of them failed.
    pub attempts: u32,
    pub fate: Fate,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// To be tried at this moment, or being tried since.
    Waits(Tick),
    /// Not tried any more, since when and why.
    Dead(Timestamp, Box<str>),
}

/// An attempt to be made.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub address: Address,
    pub id: MessageId,
    pub payload: Arc<str>,
    /// Which one this is, from 1.
    pub attempt: u32,
}

/// Attempts at one target at a time.
pub(super) const AT_ONCE: usize = 4;
/// Messages that are kept, of all targets, dead ones included.
pub(super) const ROOM: usize = 10_000;
/// How long a dead one is kept.
pub(super) const DEAD_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

impl Job {
    /// As the store names it.
    pub fn key(&self) -> DeliveryKey {
        self.address.key(self.id)
    }
}

impl Queue {
    /// Puts a message in its line. One that is there already stays as it is.
    pub fn put(&mut self, address: Address, id: MessageId, delivery: Delivery) {
        let line = self.lines.entry(address).or_default();
        if line.deliveries.contains_key(&id) {
            return;
        }
        match &delivery.fate {
            Fate::Waits(due) => {
                line.due.insert((*due, id));
            }
            Fate::Dead(..) => {
                line.dead.insert(id);
                self.dead += 1;
            }
        }
        line.deliveries.insert(id, delivery);
        self.held += 1;
    }

    /// What is to be tried now; it is in flight from here on.
    pub fn take_due(&mut self, now: Tick) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (address, line) in &mut self.lines {
            while line.in_flight < AT_ONCE
                && line.due.first().is_some_and(|(due, _)| *due <= now)
                && let Some((_, id)) = line.due.pop_first()
                && let Some(delivery) = line.deliveries.get(&id)
            {
                line.in_flight += 1;
                jobs.push(Job {
                    address: address.clone(),
                    id,
                    payload: Arc::clone(&delivery.payload),
                    attempt: delivery.attempts + 1,
                });
            }
        }
        jobs
    }

    /// When [`Queue::take_due`] has something next, if nothing changes before.
    pub fn next_due(&self) -> Option<Tick> {
        let free = self.lines.values().filter(|line| line.in_flight < AT_ONCE);
        free.filter_map(|line| line.due.first().map(|(due, _)| *due))
            .min()
    }

    /// The receiver has it.
    pub fn delivered(&mut self, job: &Job) {
        self.landed(job);
        self.remove(&job.address, job.id);
    }

    /// It is to be tried again.
    pub fn postpone(&mut self, job: &Job, due: Tick) {
        self.landed(job);
        self.meets(job, Fate::Waits(due));
    }

    /// It is not to be tried any more.
    pub fn bury(&mut self, job: &Job, at: Timestamp, why: &str) {
        self.landed(job);
        self.meets(job, Fate::Dead(at, why.into()));
    }

    /// An attempt is over; if the last of its line had been taken out meanwhile, the line goes now.
    fn landed(&mut self, job: &Job) {
        let Some(line) = self.lines.get_mut(&job.address) else {
            return;
        };
        line.in_flight = line.in_flight.saturating_sub(1);
        if line.deliveries.is_empty() && line.in_flight == 0 {
            self.lines.remove(&job.address);
        }
    }

    /// Its fate after an attempt, if it was not taken out meanwhile: until then it is in neither set.
    fn meets(&mut self, job: &Job, fate: Fate) {
        let Some(line) = self.lines.get_mut(&job.address) else {
            return;
        };
        let Some(delivery) = line.deliveries.get_mut(&job.id) else {
            return;
        };
        match &fate {
            Fate::Waits(due) => {
                line.due.insert((*due, job.id));
            }
            Fate::Dead(..) => {
                line.dead.insert(job.id);
                self.dead += 1;
            }
        }
        delivery.attempts = job.attempt;
        delivery.fate = fate;
    }

    /// Takes a message out, wherever it stands.
    pub fn remove(&mut self, address: &Address, id: MessageId) {
        let Some(line) = self.lines.get_mut(address) else {
            return;
        };
        let Some(delivery) = line.deliveries.remove(&id) else {
            return;
        };
        self.held -= 1;
        match delivery.fate {
            Fate::Waits(due) => {
                line.due.remove(&(due, id));
            }
            Fate::Dead(..) => {
                line.dead.remove(&id);
                self.dead -= 1;
            }
        }
        if line.deliveries.is_empty() && line.in_flight == 0 {
            self.lines.remove(address);
        }
    }

    /// What must go so that `more` have room: of the longest line first the dead, then what waits; the oldest each time.
    /// What is in flight may be among it: its end then changes nothing.
    pub fn make_room(&mut self, more: usize) -> Vec<(Address, MessageId)> {
        let mut gone = Vec::new();
        while self.held > 0 && self.held + more > ROOM {
            let longest = self
                .lines
                .iter()
                .max_by_key(|(_, line)| line.deliveries.len());
            let Some((address, line)) = longest else {
                break;
            };
            // Ids sort by time.
            let oldest = line.dead.first().or_else(|| line.deliveries.keys().next());
            let Some(&id) = oldest else { break };
            let address = address.clone();
            self.remove(&address, id);
            gone.push((address, id));
        }
        gone
    }

    /// Those that have been dead for [`DEAD_FOR`].
    pub fn prune(&mut self, now: Timestamp) -> Vec<(Address, MessageId)> {
        let over = |delivery: &Delivery| matches!(delivery.fate, Fate::Dead(at, _) if now.since(at) >= DEAD_FOR);
        let gone: Vec<_> = self
            .deliveries()
            .filter(|(_, _, delivery)| over(delivery))
            .map(|(address, id, _)| (address.clone(), id))
            .collect();
        for (address, id) in &gone {
            self.remove(address, *id);
        }
        gone
    }

    /// All there is, by target and age.
    pub fn deliveries(&self) -> impl Iterator<Item = (&Address, MessageId, &Delivery)> {
        self.lines.iter().flat_map(|(address, line)| {
            let deliveries = line.deliveries.iter();
            deliveries.map(move |(id, delivery)| (address, *id, delivery))
        })
    }

    /// How many wait for one target, or are being tried.
    pub fn waiting(&self, address: &Address) -> usize {
        let line = self.lines.get(address);
        line.map_or(0, |line| line.deliveries.len() - line.dead.len())
    }

    /// How many wait or are being tried, and how many are dead.
    pub fn counts(&self) -> (usize, usize) {
        (self.held - self.dead, self.dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::name::{NotifyName, ProjectName};
    use uuid::Uuid;

    fn address(target: &str) -> Address {
        Address {
            project: ProjectName::parse("demo").unwrap(),
            target: NotifyName::parse(target).unwrap(),
        }
    }

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    fn put(queue: &mut Queue, target: &str, number: u128, due: u64) {
        let delivery = Delivery {
            payload: "{}".into(),
            attempts: 0,
            fate: Fate::Waits(at(due)),
        };
        queue.put(address(target), id(number), delivery);
    }

    fn id(number: u128) -> MessageId {
        MessageId::new(Uuid::from_u128(number))
    }

    fn ids(jobs: &[Job]) -> Vec<u128> {
        jobs.iter().map(|job| job.id.uuid().as_u128()).collect()
    }

    #[test]
    fn what_is_due_is_tried_soonest_first_and_four_at_a_time() {
        let mut queue = Queue::default();
        for number in 1..=6 {
            put(&mut queue, "ops", number, 10 - number as u64);
        }
        assert_eq!(queue.next_due(), Some(at(4)));
        assert!(queue.take_due(at(3)).is_empty());
        let jobs = queue.take_due(at(100));
        assert_eq!(ids(&jobs), [6, 5, 4, 3]);
        assert!(queue.take_due(at(100)).is_empty(), "four are in flight");
        assert_eq!(queue.next_due(), None);
        queue.delivered(&jobs[0]);
        assert_eq!(ids(&queue.take_due(at(100))), [2]);
        assert_eq!(queue.counts(), (5, 0));
    }

    #[test]
    fn a_target_that_stalls_holds_up_no_other() {
        let mut queue = Queue::default();
        for number in 0..100 {
            put(&mut queue, "slow", number, 0);
        }
        assert_eq!(queue.take_due(at(1)).len(), AT_ONCE);
        put(&mut queue, "quick", 500, 1);
        assert_eq!(ids(&queue.take_due(at(1))), [500]);
    }

    #[test]
    fn what_failed_waits_for_its_next_attempt_and_then_counts_it() {
        let mut queue = Queue::default();
        put(&mut queue, "ops", 1, 0);
        let job = queue.take_due(at(0)).remove(0);
        assert_eq!(job.attempt, 1);
        queue.postpone(&job, at(5));
        assert!(queue.take_due(at(4)).is_empty());
        let again = queue.take_due(at(5)).remove(0);
        assert_eq!((again.attempt, again.id), (2, job.id));
        queue.bury(&again, Timestamp::from_micros(9), "it answered 500");
        assert_eq!((queue.counts(), queue.next_due()), ((0, 1), None));
        let (_, _, delivery) = queue.deliveries().next().unwrap();
        let dead = Fate::Dead(Timestamp::from_micros(9), "it answered 500".into());
        assert_eq!((delivery.attempts, &delivery.fate), (2, &dead));
    }

    #[test]
    fn dead_letters_are_kept_for_seven_days() {
        let mut queue = Queue::default();
        put(&mut queue, "ops", 1, 0);
        let job = queue.take_due(at(0)).remove(0);
        let died = Timestamp::from_micros(1);
        queue.bury(&job, died, "gone");
        let eve = Timestamp::from_micros(died.plus(DEAD_FOR).micros() - 1);
        assert!(queue.prune(eve).is_empty());
        assert_eq!(queue.prune(died.plus(DEAD_FOR)), [(address("ops"), job.id)]);
        assert_eq!(queue.counts(), (0, 0));
    }

    #[test]
    fn who_floods_makes_room_by_losing_its_own_dead_letters_first() {
        let mut queue = Queue::default();
        for number in 0..100 {
            put(&mut queue, "modest", number, 0);
        }
        for number in 100..ROOM as u128 {
            put(&mut queue, "flood", number, 0);
        }
        assert!(queue.make_room(0).is_empty());
        let jobs = queue.take_due(at(0));
        let last = jobs
            .iter()
            .find(|job| job.id.uuid().as_u128() == 103)
            .unwrap();
        queue.bury(last, Timestamp::from_micros(0), "gone");
        let gone: Vec<u128> = queue
            .make_room(3)
            .iter()
            .map(|(_, id)| id.uuid().as_u128())
            .collect();
        assert_eq!(gone, [103, 100, 101]);
        // One of them was in flight: that it arrived changes nothing.
        queue.delivered(
            jobs.iter()
                .find(|job| job.id.uuid().as_u128() == 100)
                .unwrap(),
        );
        assert_eq!(queue.counts(), (ROOM - 3, 0));
    }

    #[test]
    fn a_line_that_is_empty_is_forgotten_when_its_last_attempt_is_over() {
        let mut queue = Queue::default();
        put(&mut queue, "ops", 1, 0);
        let job = queue.take_due(at(0)).remove(0);
        queue.delivered(&job);
        assert!(queue.lines.is_empty());
        put(&mut queue, "ops", 2, 0);
        let job = queue.take_due(at(0)).remove(0);
        queue.remove(&job.address, job.id);
        queue.delivered(&job);
        assert!(queue.lines.is_empty());
    }
}
