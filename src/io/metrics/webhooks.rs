//! What is told to targets of `notify`, and what waits to be.

use super::{int_counters, int_gauges, registered};
use crate::policy::name::{NotifyName, ProjectName};
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

/// Webhooks, by what became of them.
#[derive(Debug)]
pub struct WebhookMetrics {
    deliveries: IntCounterVec,
    queue: IntGaugeVec,
}

/// What became of a webhook, or of one attempt to deliver it, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookResult {
    /// The receiver has it.
    Delivered,
    /// An attempt failed.
    Failed,
    /// It was given up.
    Dead,
    /// It was lost for lack of room.
    Dropped,
}

impl WebhookMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let metrics = Self {
            deliveries: registered(
                registry,
                int_counters(
                    "toolgate_webhook_deliveries_total",
                    "Webhooks delivered, given up (dead) or lost for lack of room (dropped), and attempts that failed.",
                    &["project", "target", "result"],
                ),
            ),
            queue: registered(
                registry,
                int_gauges(
                    "toolgate_webhook_queue",
                    "Webhooks that wait for their receivers, and dead letters that are kept.",
                    &["state"],
                ),
            ),
        };
        metrics.holds(0, 0);
        metrics
    }

    /// An attempt or a webhook came to this.
    pub fn count(&self, project: &ProjectName, target: &NotifyName, result: WebhookResult) {
        self.deliveries
            .with_label_values(&[project.as_str(), target.as_str(), result.as_str()])
            .inc();
    }

    /// So many wait, and so many were given up and are kept.
    pub fn holds(&self, waiting: usize, dead: usize) {
        for (state, count) in [("waiting", waiting), ("dead", dead)] {
            self.queue
                .with_label_values(&[state])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

impl WebhookResult {
    const fn as_str(self) -> &'static str {
        match self {
            WebhookResult::Delivered => "delivered",
            WebhookResult::Failed => "failed",
            WebhookResult::Dead => "dead",
            WebhookResult::Dropped => "dropped",
        }
    }
}
