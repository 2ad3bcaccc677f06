//! News: what approvers, operators and webhooks are told of as it happens. Beside every durable change, never before it.
//!
//! The last [`KEPT`] items stay in memory, so that who lost the connection for a moment misses nothing. It promises no
//! more: what must not be lost is in the store.

use crate::policy::id::{ApprovalId, SessionId};
use crate::policy::name::{ProjectName, ToolName};
use crate::policy::time::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Counts up from 1 in each run of the gate.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Where; `None`: in all projects.
    pub project: Option<ProjectName>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An approval was asked for, voted on, or came to another stage.
    Approval {
        /// Which.
        id: ApprovalId,
        /// `requested`, `voted`, or the stage's name.
        change: &'static str,
    },
    /// A session was `quarantined` or `released`.
    Quarantine {
        /// Which.
        session: SessionId,
        /// What.
        change: &'static str,
    },
    /// What a server says of its tools, where they are pinned: some were `changed`, `restored`, `accepted` or `forgotten`.
    Pins {
        /// The server.
        tool: ToolName,
        /// What.
        change: &'static str,
    },
    /// A policy was `reloaded`, or a reload `rejected`.
    Policy {
        /// What.
        change: &'static str,
    },
}

/// The newest items, and who waits for more. Clones are the same.
#[derive(Clone, Debug)]
pub struct News(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<Kept>,
    told: broadcast::Sender<Item>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    items: VecDeque<Item>,
}

/// What a listener that was away is told.
#[derive(Debug)]
pub struct Missed {
    /// What happened since, in order.
    pub items: Vec<Item>,
    /// Whether more happened than was kept: look at everything anew.
    pub gap: bool,
    /// What happens from now on.
    pub rest: broadcast::Receiver<Item>,
}

impl Default for News {
    fn default() -> Self {
        Self(Arc::new(Inner {
            kept: Mutex::default(),
            told: broadcast::Sender::new(KEPT),
        }))
    }
}

impl News {
    /// Tells all who listen.
    pub fn tell(&self, at: Timestamp, project: Option<&ProjectName>, what: What) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += 1;
        let item = Item {
            number: kept.last,
            at,
            project: project.cloned(),
            what,
        };
        if kept.items.len() == KEPT {
            kept.items.pop_front();
        }
        kept.items.push_back(item.clone());
        // Under the lock, so that the order is one. Nobody may be listening.
        let _ = self.0.told.send(item);
    }

    /// The newest item's number; 0: nothing has happened.
    pub fn last(&self) -> u64 {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last
    }

    /// What happened after `number`, and then what happens; `None`: only what happens.
    pub fn after(&self, number: Option<u64>) -> Missed {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = self.0.told.subscribe();
        let number = number.unwrap_or(kept.last);
        let oldest = kept.items.front().map_or(kept.last + 1, |item| item.number);
        Missed {
            items: kept
                .items
                .iter()
                .filter(|item| item.number > number)
                .cloned()
                .collect(),
            // A number from another run says nothing of this one.
            gap: number > kept.last || number + 1 < oldest,
            rest,
        }
    }
}

/// Items kept for those who lost the connection.
pub const KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(news: &News) {
        news.tell(
            Timestamp::from_micros(0),
            None,
            What::Policy { change: "reloaded" },
        );
    }

    #[test]
    fn who_was_away_hears_what_was_missed_once_and_in_order() {
        let news = News::default();
        for _ in 0..5 {
            tell(&news);
        }
        let mut missed = news.after(Some(3));
        let numbers: Vec<_> = missed.items.iter().map(|item| item.number).collect();
        assert_eq!((numbers, missed.gap), (vec![4, 5], false));
        tell(&news);
        assert_eq!(missed.rest.try_recv().unwrap().number, 6);
    }

    #[test]
    fn who_was_away_too_long_or_in_another_run_is_told_so() {
        let news = News::default();
        assert!(news.after(Some(7)).gap);
        for _ in 0..=KEPT {
            tell(&news);
        }
        assert!(news.after(Some(0)).gap);
        assert!(!news.after(Some(1)).gap);
    }
}
