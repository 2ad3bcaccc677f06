//! Webhooks: telling the outside that somebody is wanted (Standard Webhooks), beside the journey and never in it.
//!
//! A notice is in the store from the very commit that made its event durable. From there it is fanned out, in one commit, to
//! a delivery for each target that the policy in force names, and each is tried until its receiver has it, or given up
//! after [three days](schedule) and kept for a while as a dead letter. So a crash loses nothing and may repeat an attempt:
//! the id of a message stays, and receivers know by it what they have.
//!
//! Messages carry no power: they link to where a person decides. It refuses to send anywhere that the operators' files do
//! not name, to show a URL or a secret, and to hold anything up: it has a task of its own, bounded in every direction.

mod event;
mod queue;
mod schedule;
pub(super) mod send;
mod sign;
pub(super) mod target;
mod targets;
mod work;

use crate::io::clock::Clock;
use crate::io::metrics::{Metrics, WebhookResult};
use crate::policy::id::MessageId;
use crate::policy::name::ProjectName;
use crate::policy::time::Timestamp;
use crate::store::embedded::Embedded;
use crate::store::outbox::DeliveryRow;
use arc_swap::ArcSwap;
use queue::{Delivery, Fate, Queue};
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

pub use target::{Address, TargetError};
pub use targets::Targets;

/// Sends what is to be told. Clones are the same.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

/// What a notifier stands on.
pub struct NotifierParts {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Keeps what is not delivered.
    pub store: Arc<Embedded>,
    /// What of it was there when the store was opened.
    pub deliveries: Vec<DeliveryRow>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// A message that is not sent any more.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Whom it was for.
    pub address: Address,
    /// Its `webhook-id`.
    pub message: MessageId,
    /// What it says.
    pub payload: Arc<str>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub since: Timestamp,
    /// Why.
    pub why: Box<str>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    store: Arc<Embedded>,
    metrics: Arc<Metrics>,
    console: OnceLock<Box<str>>,
    targets: ArcSwap<Targets>,
    queue: Mutex<Queue>,
    /// Targets whose last attempt failed: the log hears of it once.
    failing: Mutex<HashSet<Address>>,
    /// Something is due that was not, or may be tried that might not.
    roused: Notify,
    stage: watch::Sender<Stage>,
}

/// What the notifier is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Runs,
    /// Begins nothing more.
    Stops,
}

impl Notifier {
    /// A notifier of what the store holds, that knows no target yet.
    pub fn new(parts: NotifierParts) -> Self {
        let NotifierParts {
            clock,
            store,
            deliveries,
            metrics,
        } = parts;
        let now = clock.now();
        let mut queue = Queue::default();
        for DeliveryRow {
            key,
            payload,
            progress,
        } in deliveries
        {
            let address = Address {
                project: key.project,
                target: key.target,
            };
            let fate = match progress.dead {
                None => Fate::Waits(now.tick_at(progress.due)),
                Some((since, why)) => Fate::Dead(since, why),
            };
            let delivery = Delivery {
                payload,
                attempts: progress.attempts,
                fate,
            };
            queue.put(address, key.message, delivery);
        }
        let notifier = Self(Arc::new(Inner {
            clock,
            store,
            metrics,
            console: OnceLock::new(),
            targets: ArcSwap::default(),
            queue: Mutex::new(queue),
            failing: Mutex::default(),
            roused: Notify::new(),
            stage: watch::Sender::new(Stage::Idle),
        }));
        notifier.0.show();
        notifier
    }

    /// Where people find the console, once that is known: `https://host[:port]`. Messages link to it.
    pub fn link_to(&self, console: &str) {
        self.0.console.get_or_init(|| console.into());
    }

    /// Puts targets in the place of those before. One that answered 410 gets another chance.
    pub fn install(&self, targets: Targets) {
        self.0.targets.store(Arc::new(targets));
        self.0.roused.notify_one();
    }

    /// Sends until it is told to [rest](Self::rest). To be run once.
    pub async fn run(self) {
        self.0.stage.send_replace(Stage::Runs);
        tokio::join!(self.0.fan_out(), self.0.deliver());
        self.0.stage.send_replace(Stage::Idle);
    }

    /// Begins nothing more, and waits at most `bound` for what is in flight. What is then still in flight is tried again by
    /// the next process: the store has it.
    pub async fn rest(&self, bound: Duration) {
        let mut stage = self.0.stage.subscribe();
        let running = |stage: &mut Stage| {
            let runs = *stage != Stage::Idle;
            if runs {
                *stage = Stage::Stops;
            }
            runs
        };
        if self.0.stage.send_if_modified(running) {
            let over = stage.wait_for(|stage| *stage == Stage::Idle);
            if tokio::time::timeout(bound, over).await.is_err() {
                tracing::debug!("webhooks in flight were cut; they are sent again");
            }
        }
    }

    /// How many messages wait for a target, those in flight included.
    pub fn waiting(&self, address: &Address) -> usize {
        self.0.queue().waiting(address)
    }

    /// The dead letters of these projects, by target and age.
    pub fn dead(&self, projects: &[ProjectName]) -> Vec<DeadLetter> {
        let queue = self.0.queue();
        let dead = queue
            .deliveries()
            .filter_map(|(address, message, delivery)| {
                let Fate::Dead(since, why) = &delivery.fate else {
                    return None;
                };
                projects.contains(&address.project).then(|| DeadLetter {
                    address: address.clone(),
                    message,
                    payload: Arc::clone(&delivery.payload),
                    attempts: delivery.attempts,
                    since: *since,
                    why: why.clone(),
                })
            });
        dead.collect()
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }

    fn count(&self, address: &Address, result: WebhookResult) {
        let Address { project, target } = address;
        self.metrics.webhooks.count(project, target, result);
    }

    /// What the gauges show.
    fn show(&self) {
        let (waiting, dead) = self.queue().counts();
        self.metrics.webhooks.holds(waiting, dead);
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notifier")
    }
}

#[cfg(test)]
pub(super) mod tests;
