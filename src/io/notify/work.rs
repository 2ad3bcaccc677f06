//! The two loops of the notifier: notices become deliveries, and deliveries are tried when they are due.
//!
//! They share the queue and nothing else, so that a store that is slow to fan out keeps no delivery waiting. An attempt
//! holds its place among its target's [`AT_ONCE`](super::queue::AT_ONCE) until the store knows how it ended.

use super::queue::{Delivery, Fate, Job};
use super::send::{self, Attempt, Message};
use super::target::{Address, Target};
use super::targets::GONE;
use super::{Inner, Stage, event, locked, schedule};
use crate::io::clock;
use crate::io::metrics::WebhookResult;
use crate::policy::id::MessageId;
use crate::policy::time::Now;
use crate::store::outbox::{DeliveryRow, NoticeRow, Progress};
use crate::store::{Change, Store as _, StoreFault};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Notices that are fanned out in one commit.
const BATCH: usize = 64;
/// How long after a fault of the store it is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked for dead letters that are old enough to go.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

impl Inner {
    /// Notices become deliveries, until the notifier stops.
    pub(super) async fn fan_out(&self) {
        let noticed = self.store.noticed();
        let mut stage = self.stage.subscribe();
        loop {
            let next = async {
                match self.fan_out_some().await {
                    Ok(0) => noticed.notified().await,
                    Ok(_) => {}
                    Err(fault) => {
                        tracing::warn!(%fault, "webhooks wait for the store");
                        sleep(STORE_PAUSE).await;
                    }
                }
            };
            tokio::select! {
                () = next => {}
                _ = stage.wait_for(|stage| *stage == Stage::Stops) => return,
            }
        }
    }

    /// How many notices became deliveries. Dropped half-way it leaves both or neither, in memory a message less at worst:
    /// the next process reads it from the store.
    async fn fan_out_some(&self) -> Result<usize, StoreFault> {
        let notices = self.store.notices(BATCH).await?;
        if notices.is_empty() {
            return Ok(0);
        }
        let now = self.clock.now();
        let deliveries: Vec<_> = notices
            .iter()
            .flat_map(|notice| self.deliveries(notice, now))
            .collect();
        self.make_room(deliveries.len()).await;
        let change = Change::FanOut {
            notices: notices.iter().map(|notice| notice.id.clone()).collect(),
            deliveries: deliveries.clone(),
        };
        self.store.apply(change).await?;
        {
            let mut queue = self.queue();
            for DeliveryRow { key, payload, .. } in deliveries {
                let address = Address {
                    project: key.project,
                    target: key.target,
                };
                let delivery = Delivery {
                    payload,
                    attempts: 0,
                    fate: Fate::Waits(now.tick),
                };
                queue.put(address, key.message, delivery);
            }
        }
        self.show();
        self.roused.notify_one();
        Ok(notices.len())
    }

    /// One message, and a delivery of it for everybody who is told.
    fn deliveries(&self, notice: &NoticeRow, now: Now) -> Vec<DeliveryRow> {
        let targets = self.targets.load();
        let told = targets.told(&notice.project, notice.chain.as_ref());
        let message = clock::message_id(now);
        let console = self.console.get().map_or("", |console| console);
        let payload = event::payload(notice, console);
        let delivery = |address: Address| DeliveryRow {
            key: address.key(message),
            payload: Arc::clone(&payload),
            progress: Progress {
                attempts: 0,
                due: now.wall,
                dead: None,
            },
        };
        told.into_iter().map(delivery).collect()
    }

    /// Where too much is kept already, some of it is lost: counted, and said.
    async fn make_room(&self, more: usize) {
        let gone = self.queue().make_room(more);
        for (address, message) in &gone {
            self.count(address, WebhookResult::Dropped);
            let Address { project, target } = address;
            tracing::error!(%project, %target, %message, "a webhook was dropped: too many wait or are dead");
        }
        self.forget(gone).await;
    }

    async fn forget(&self, gone: Vec<(Address, MessageId)>) {
        if gone.is_empty() {
            return;
        }
        let keys = gone.iter().map(|(address, message)| address.key(*message));
        if let Err(fault) = self.store.apply(Change::Arrive(keys.collect())).await {
            // The next process finds them there once more: too often is not too seldom.
            tracing::warn!(%fault, "the store keeps webhooks that are done");
        }
        self.show();
    }

    /// Deliveries are tried when they are due, until the notifier stops and the last of them has landed.
    pub(super) async fn deliver(&self) {
        let mut stage = self.stage.subscribe();
        let mut in_flight = FuturesUnordered::new();
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        loop {
            let stopping = *stage.borrow_and_update() == Stage::Stops;
            if stopping && in_flight.is_empty() {
                return;
            }
            let mut wait = Duration::MAX;
            if !stopping {
                let now = self.clock.tick();
                let mut queue = self.queue();
                in_flight.extend(
                    queue
                        .take_due(now)
                        .into_iter()
                        .map(|job| self.try_once(job)),
                );
                wait = queue.next_due().map_or(wait, |due| due.since(now));
            }
            tokio::select! {
                Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
                () = self.roused.notified() => {}
                () = sleep(wait.min(PRUNE_EVERY)) => {}
                _ = prune.tick() => self.prune().await,
                _ = stage.changed() => {}
            }
        }
    }

    pub(super) async fn prune(&self) {
        let now = self.clock.now().wall;
        let gone = self.queue().prune(now);
        self.forget(gone).await;
    }

    /// One attempt, and what follows from it.
    async fn try_once(&self, job: Job) {
        let found = self.targets.load().find(&job.address).cloned();
        let attempt = match found {
            Ok(target) => self.attempt(&target, &job).await,
            Err(why) => return self.bury(&job, why.to_owned()).await,
        };
        // Counted last: whoever reads the counter finds the rest done.
        match attempt {
            Attempt::Delivered => {
                self.well(&job.address);
                self.store_soon(Change::Arrive(vec![job.key()])).await;
                self.queue().delivered(&job);
                self.show();
                self.count(&job.address, WebhookResult::Delivered);
            }
            Attempt::Gone => {
                self.targets.load().disable(&job.address);
                self.bury(&job, GONE.to_owned()).await;
                self.count(&job.address, WebhookResult::Failed);
            }
            Attempt::Failed { why, after } => {
                self.ill(&job, &why);
                match schedule::pause(job.attempt, u32::from_ne_bytes(clock::random())) {
                    Some(pause) => {
                        self.postpone(&job, pause.max(after.unwrap_or_default()))
                            .await
                    }
                    None => self.bury(&job, why.to_string()).await,
                }
                self.count(&job.address, WebhookResult::Failed);
            }
        }
    }

    async fn attempt(&self, target: &Target, job: &Job) -> Attempt {
        let id = job.id.to_string();
        let message = Message {
            id: &id,
            payload: &job.payload,
        };
        send::attempt(target, message, self.clock.now().wall).await
    }

    async fn postpone(&self, job: &Job, pause: Duration) {
        let now = self.clock.now();
        let progress = Progress {
            attempts: job.attempt,
            due: now.wall.plus(pause),
            dead: None,
        };
        let key = job.key();
        self.store_soon(Change::Reschedule { key, progress }).await;
        self.queue().postpone(job, now.tick.plus(pause));
    }

    async fn bury(&self, job: &Job, why: String) {
        let now = self.clock.now().wall;
        let Address { project, target } = &job.address;
        let (message, attempts) = (job.id, job.attempt);
        tracing::error!(%project, %target, %message, attempts, "a webhook is given up: {why}");
        let progress = Progress {
            attempts,
            due: now,
            dead: Some((now, why.as_str().into())),
        };
        let key = job.key();
        self.store_soon(Change::Reschedule { key, progress }).await;
        self.queue().bury(job, now, &why);
        self.show();
        self.count(&job.address, WebhookResult::Dead);
    }

    /// What the store does not learn now it does not learn in this process: then the next one tries once more, with the
    /// same id.
    async fn store_soon(&self, change: Change) {
        if let Err(fault) = self.store.apply(change).await {
            tracing::warn!(%fault, "a webhook may be sent once more after a restart");
        }
    }

    fn ill(&self, job: &Job, why: &send::Failure) {
        let Address { project, target } = &job.address;
        if locked(&self.failing).insert(job.address.clone()) {
            tracing::warn!(%project, %target, %why, "webhooks can't be delivered; they are tried again");
        } else {
            tracing::debug!(%project, %target, %why, attempt = job.attempt, "a webhook was not delivered");
        }
    }

    fn well(&self, address: &Address) {
        if locked(&self.failing).remove(address) {
            let Address { project, target } = address;
            tracing::info!(%project, %target, "webhooks are delivered again");
        }
    }
}
