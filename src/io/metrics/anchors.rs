//! Checkpoints that were handed to who keeps them beside the ledger.

use super::{CONSTANT, int_counters, registered};
use crate::policy::time::Timestamp;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};
use std::fmt;

/// Anchors, by what became of what they were handed.
#[derive(Debug)]
pub struct AnchorMetrics {
    handed: IntCounterVec,
    anchored: GaugeVec,
}

/// Who keeps checkpoints, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorKind {
    /// A file.
    File,
    /// A URL.
    Webhook,
}

/// What became of an attempt to hand one over, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorResult {
    /// It is kept.
    Anchored,
    /// It was not taken.
    Failed,
    /// The keeper has another one, or a larger one.
    Conflict,
}

impl AnchorMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let help = "Time of the newest checkpoint that an anchor has, in seconds since 1970.";
        let name = "toolgate_ledger_anchored_timestamp_seconds";
        Self {
            handed: registered(
                registry,
                int_counters(
                    "toolgate_ledger_anchors_total",
                    "Checkpoints handed to anchors, by what became of them; conflict: the anchor has another or a larger one.",
                    &["kind", "result"],
                ),
            ),
            anchored: registered(
                registry,
                GaugeVec::new(Opts::new(name, help), &["kind"]).expect(CONSTANT),
            ),
        }
    }

    /// These there are: their series exist from the start, so that a first conflict is a rise and not an appearance.
    pub fn expect(&self, kinds: impl Iterator<Item = AnchorKind>) {
        for kind in kinds {
            for result in [
                AnchorResult::Anchored,
                AnchorResult::Failed,
                AnchorResult::Conflict,
            ] {
                self.handed
                    .with_label_values(&[kind.as_str(), result.as_str()]);
            }
        }
    }

    /// An attempt came to this.
    pub fn count(&self, kind: AnchorKind, result: AnchorResult) {
        self.handed
            .with_label_values(&[kind.as_str(), result.as_str()])
            .inc();
    }

    /// The newest checkpoint that is kept was made at this time.
    #[allow(clippy::cast_precision_loss, reason = "metrics are read, not settled")]
    pub fn anchored(&self, kind: AnchorKind, time: Timestamp) {
        self.anchored
            .with_label_values(&[kind.as_str()])
            .set(time.micros() as f64 / 1_000_000.0);
    }
}

impl AnchorKind {
    const fn as_str(self) -> &'static str {
        match self {
            AnchorKind::File => "file",
            AnchorKind::Webhook => "webhook",
        }
    }
}

impl fmt::Display for AnchorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AnchorResult {
    const fn as_str(self) -> &'static str {
        match self {
            AnchorResult::Anchored => "anchored",
            AnchorResult::Failed => "failed",
            AnchorResult::Conflict => "conflict",
        }
    }
}
