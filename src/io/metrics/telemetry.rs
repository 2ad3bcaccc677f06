//! What became of spans.

use super::{int_counters, registered};
use prometheus::{IntCounterVec, Registry};

/// Spans, by what became of them.
#[derive(Debug)]
pub struct SpanMetrics(IntCounterVec);

/// What became of spans, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanResult {
    /// The collector has them.
    Sent,
    /// The collector did not want them.
    Rejected,
    /// They were given up, after as many attempts as there was time for.
    Failed,
    /// They were lost for lack of room, or because the gate stopped.
    Dropped,
}

impl SpanMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self(registered(
            registry,
            int_counters(
                "toolgate_telemetry_spans_total",
                "Spans that the collector has (sent) or did not want (rejected), that could not be delivered (failed), or for which there was no room (dropped).",
                &["result"],
            ),
        ))
    }

    /// So many came to this.
    pub fn count(&self, result: SpanResult, spans: usize) {
        if spans > 0 {
            self.0
                .with_label_values(&[result.as_str()])
                .inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
        }
    }
}

impl SpanResult {
    const fn as_str(self) -> &'static str {
        match self {
            SpanResult::Sent => "sent",
            SpanResult::Rejected => "rejected",
            SpanResult::Failed => "failed",
            SpanResult::Dropped => "dropped",
        }
    }
}
