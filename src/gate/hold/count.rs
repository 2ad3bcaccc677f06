//! What becomes of approvals, as metrics count it: from the news, beside every change and in no call's path.

use crate::gate::Gate;
use crate::policy::approval::Stage;
use crate::store::news::What;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

impl Gate {
    /// Counts what becomes of approvals, for as long as it is polled.
    pub async fn count_approvals(&self) {
        let (sessions, metrics) = (&self.0.sessions, &self.0.metrics);
        let mut news = sessions.news().after(None).rest;
        loop {
            let item = match news.recv().await {
                Ok(item) => item,
                // More at once than are kept: what is lost is not counted.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let What::Approval { id, change } = item.what else {
                continue;
            };
            if let (Some(outcome), Some(approval)) = (Stage::parse(change), sessions.approval(id)) {
                let facts = &approval.facts;
                let waited = item.at.micros() - facts.created_at.micros();
                let waited = Duration::from_micros(u64::try_from(waited).unwrap_or(0));
                // People are waited for until one of these.
                let decided = matches!(
                    outcome,
                    Stage::Approved | Stage::Denied | Stage::Expired | Stage::Withdrawn
                );
                metrics.approval(
                    &facts.project,
                    &facts.chain,
                    outcome,
                    decided.then_some(waited),
                );
            }
        }
    }
}
