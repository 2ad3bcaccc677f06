//! What is still to be told to webhooks: the notices that were made with their changes, until they are fanned out.
//!
//! Memory has those of this run as soon as they are durable; a restart brings back the rest. Who sends them, to whom and how
//! often is not this file's affair.

use super::{Sessions, locked};
use crate::policy::time::Timestamp;
use crate::store::approval::{DeliveryRow, NoticeRow};
use crate::store::{Change, StoreFault};
use std::collections::VecDeque;
use std::sync::Mutex;

/// Notices that are durable and not fanned out.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<VecDeque<NoticeRow>>);

impl Outbox {
    pub fn put(&self, notice: NoticeRow) {
        let mut notices = locked(&self.0);
        if notices.len() < NOTICES_MAX {
            notices.push_back(notice);
        } else {
            tracing::warn!(notice = %notice.id, "{NOTICES_MAX} notices wait to be sent; this one waits for a restart");
        }
    }

    pub fn fill(&self, notices: Vec<NoticeRow>) {
        locked(&self.0).extend(notices);
    }
}

impl Sessions {
    /// The oldest notices that are not fanned out.
    pub fn notices(&self, limit: usize) -> Vec<NoticeRow> {
        let notices = locked(&self.0.outbox.0);
        notices.iter().take(limit).cloned().collect()
    }

    /// A notice becomes these deliveries, or none. Durable when this returns.
    ///
    /// # Errors
    /// [`StoreFault`]: it is still a notice.
    pub async fn fan_out(
        &self,
        notice: &str,
        deliveries: Vec<DeliveryRow>,
    ) -> Result<(), StoreFault> {
        let change = Change::FanOut {
            notice: notice.into(),
            deliveries,
        };
        // Refused: it was fanned out before.
        self.0.store.apply(change).await?;
        locked(&self.0.outbox.0).retain(|one| *one.id != *notice);
        Ok(())
    }

    /// A delivery did not arrive: it is tried again, or given up.
    ///
    /// # Errors
    /// [`StoreFault`]: after a restart it is as it was before.
    pub async fn reschedule(
        &self,
        delivery: &str,
        attempts: u32,
        next_at: Timestamp,
        dead: bool,
    ) -> Result<(), StoreFault> {
        let change = Change::Reschedule {
            delivery: delivery.into(),
            attempts,
            next_at,
            dead,
        };
        self.0.store.apply(change).await.map(drop)
    }

    /// A delivery has arrived, or is not wanted any more.
    ///
    /// # Errors
    /// [`StoreFault`]: after a restart it is sent again.
    pub async fn arrived(&self, delivery: &str) -> Result<(), StoreFault> {
        let change = Change::Arrive {
            delivery: delivery.into(),
        };
        self.0.store.apply(change).await.map(drop)
    }
}

/// Most notices in memory.
const NOTICES_MAX: usize = 10_000;
