//! What the ledger has written and sealed, and what it has not.

use super::{CONSTANT, int_counter, int_gauge, raise, registered};
use crate::ledger::LedgerStats;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};

/// The ledger's families; read from it at scrape time.
#[derive(Debug)]
pub(super) struct LedgerMetrics {
    records: IntCounter,
    failures: IntCounter,
    queue: IntGauge,
    checkpointed: IntGauge,
    batched: IntGauge,
    batched_max: IntGauge,
    batched_seconds_max: Gauge,
}

impl LedgerMetrics {
    pub fn register(registry: &Registry) -> Self {
        let counter = |name, help| registered(registry, int_counter(name, help));
        let gauge = |name, help| registered(registry, int_gauge(name, help));
        Self {
            records: counter(
                "toolgate_ledger_records_total",
                "Records the ledger has written.",
            ),
            failures: counter(
                "toolgate_ledger_failures_total",
                "Writes and flushes of the ledger that failed, and times its disk hung.",
            ),
            queue: gauge("toolgate_ledger_queue", "Records waiting to be written."),
            checkpointed: gauge(
                "toolgate_ledger_checkpoint_size",
                "Records that the newest signed checkpoint covers, from the ledger's first on.",
            ),
            batched: gauge(
                "toolgate_ledger_batched",
                "Records that calls went on without and that are not written yet (level batched).",
            ),
            batched_max: gauge(
                "toolgate_ledger_batched_max",
                "Most of those there can be; 0 at another level.",
            ),
            batched_seconds_max: registered(
                registry,
                Gauge::new(
                    "toolgate_ledger_batched_seconds_max",
                    "How long one of those waits at most while the disk answers; 0 at another level.",
                )
                .expect(CONSTANT),
            ),
        }
    }

    pub fn refresh(&self, stats: &LedgerStats) {
        raise(&self.records, stats.records);
        raise(&self.failures, stats.failures);
        for (gauge, value) in [
            (&self.queue, stats.queue),
            (&self.checkpointed, stats.checkpointed),
            (&self.batched, stats.batched),
            (&self.batched_max, stats.batched_max),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.batched_seconds_max
            .set(stats.batched_wait.as_secs_f64());
    }
}
