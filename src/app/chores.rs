//! What is done by the clock: ended sessions swept, strangers summed up, costs saved, files watched. On the control runtime.

use super::parts::Parts;
use super::reload::Reloader;
use crate::serve::admin::Admin;
use crate::serve::reload::Trigger;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How late a session that ended by time may leave memory and store; it stops passing at once without this.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// How often strangers are summed up: the ledger promises a record a second for each address.
const SUM_UP_EVERY: Duration = Duration::from_secs(1);

/// Ended sessions and grants leave memory and store.
pub(super) async fn sweep(parts: Arc<Parts>) {
    loop {
        let begun = parts.clock.now();
        let swept = parts.sessions.sweep(begun).await;
        if swept.failed > 0 {
            tracing::warn!(
                failed = swept.failed,
                "changes wait for the store or the ledger"
            );
        }
        // With a million sessions a pass takes a while: whatever it takes, it gets a twentieth of one core.
        let took = parts.clock.tick().since(begun.tick);
        tokio::time::sleep(SWEEP_EVERY.max(took * 20)).await;
    }
}

/// Failed authentications reach the ledger, costs the store.
pub(super) async fn sum_up(parts: Arc<Parts>, admin: Arc<Admin>) {
    let mut ticks = interval(SUM_UP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        flush(&parts, &admin).await;
    }
}

/// Once: also when the gate stops.
pub(super) async fn flush(parts: &Parts, admin: &Admin) {
    parts.gate.flush_strangers().await;
    parts.gate.flush_costs().await;
    admin.flush().await;
}

/// Changed files are read again.
pub(super) async fn follow(mut changes: watch::Receiver<u64>, reloader: Arc<Reloader>) {
    while changes.changed().await.is_ok() {
        reloader.reload(Trigger::FileChange).await;
    }
}
