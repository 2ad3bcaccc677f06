//! One step of an approval: handed to store and ledger under the lock, waited for without it.

use super::book::{Busy, OWES_RECORD, OWES_STORE, Paper};
use super::{Ending, LiveApproval, Outcome, VoteError};
use crate::ledger::record::{Cause, Event};
use crate::ledger::{Ack, Level, Unavailable};
use crate::policy::approval::{Stage, Vote, Word};
use crate::policy::time::{Now, Timestamp};
use crate::store::approval::Move;
use crate::store::live::{ChangeError, HoldError, Table};
use crate::store::news::What;
use crate::store::outbox::NoticeRow;
use crate::store::{Applied, Change, StoreFault, StoreFuture};
use std::sync::Arc;

/// A step that store and ledger have been handed and have not acknowledged.
pub(in crate::store::live) struct Step {
    pub(super) approval: Arc<LiveApproval>,
    stored: StoreFuture<Applied>,
    told: Vec<Ack>,
    /// What those who listen are told once it is durable.
    news: &'static str,
    /// [`NoticeRow::id`] of what goes with it.
    notice: Option<Box<str>>,
    at: Timestamp,
    /// Whether memory has made it already, and owes it.
    taken: bool,
    _busy: Busy,
}

/// What goes with a step into the record of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Said<'a> {
    pub word: Option<Word>,
    pub note: Option<&'a str>,
    pub outcome: Option<&'a Outcome>,
}

/// A step that is not durable, or not recorded.
#[derive(Clone, Debug)]
pub(in crate::store::live) enum Fault {
    Store(StoreFault),
    Ledger(Unavailable),
}

impl Table {
    /// Hands over a step from memory as it stands: the stage is `to`, whatever is visible.
    pub(super) fn hand_over(
        &self,
        approval: &Arc<LiveApproval>,
        paper: &Paper,
        to: Stage,
        from: &'static [Stage],
        vote: Option<&Vote>,
        now: Now,
    ) -> Step {
        let notice = match to {
            // Again, if its run came to nothing: that is no new decision.
            Stage::Approved if !from.contains(&Stage::Pending) => None,
            _ => NoticeRow::decided(&approval.facts, to, paper.ending.as_ref(), paper.since),
        };
        let named = notice.as_ref().map(|notice| notice.id.clone());
        let change = Change::Move(Box::new(Move {
            approval: approval.facts.id,
            from,
            to,
            at: paper.since,
            ending: paper.ending.clone(),
            outcome: paper.outcome.as_deref().cloned(),
            vote: vote.cloned(),
            notice,
        }));
        self.step(approval, change, to.as_str(), named, now)
    }

    pub(super) fn step(
        &self,
        approval: &Arc<LiveApproval>,
        change: Change,
        news: &'static str,
        notice: Option<Box<str>>,
        now: Now,
    ) -> Step {
        Step {
            _busy: approval.busy(),
            approval: Arc::clone(approval),
            stored: self.store.apply(change),
            told: Vec::new(),
            news,
            notice,
            at: now.wall,
            taken: false,
        }
    }

    /// Records a change of an approval.
    pub(super) fn tell_approval(
        &self,
        approval: &LiveApproval,
        change: &'static str,
        stage: Stage,
        said: Said<'_>,
        cause: Cause<'_>,
        time: Timestamp,
    ) -> Ack {
        let event = Event::Approval {
            change,
            facts: &approval.facts,
            stage,
            word: said.word,
            note: said.note,
            status: said.outcome.and_then(|outcome| outcome.status),
            given: said.outcome.and_then(|outcome| outcome.grant),
            cause,
        };
        self.ledger.append(&event, time, Level::Sync)
    }

    /// Waits for a step and pays what was owed for it. What is to be announced of it comes back, for when it is visible.
    pub(super) async fn settle(&self, step: Step) -> Result<Settled, Fault> {
        let stored = step.stored.await;
        let mut recorded = Ok(());
        for ack in step.told {
            recorded = recorded.and(ack.await);
        }
        if step.taken {
            let mut paper = step.approval.paper();
            if stored.is_ok() {
                paper.owes &= !OWES_STORE;
            }
            if recorded.is_ok() {
                paper.owes &= !OWES_RECORD;
            }
        }
        let applied = stored.map_err(Fault::Store)?;
        recorded.map_err(Fault::Ledger)?;
        Ok(Settled {
            approval: step.approval,
            applied,
            happened: applied == Applied::Done || step.taken,
            news: step.news,
            notice: step.notice,
            at: step.at,
            _busy: step._busy,
        })
    }

    /// The same of a step that is visible already.
    pub(in crate::store::live) async fn conclude(&self, step: Step) -> Result<(), Fault> {
        let settled = self.settle(step).await?;
        settled.announce(self);
        Ok(())
    }

    /// The same for many; the first fault.
    pub(in crate::store::live) async fn conclude_all(&self, steps: Vec<Step>) -> Result<(), Fault> {
        let mut result = Ok(());
        for step in steps {
            let concluded = self.conclude(step).await;
            result = result.and(concluded);
        }
        result
    }
}

/// A step that is durable and recorded.
#[must_use = "who listens is to be told"]
pub(super) struct Settled {
    approval: Arc<LiveApproval>,
    /// `Refused`: the store had it elsewhere.
    pub applied: Applied,
    happened: bool,
    news: &'static str,
    /// [`NoticeRow::id`] of what goes with it.
    notice: Option<Box<str>>,
    at: Timestamp,
    _busy: Busy,
}

impl Settled {
    /// It is visible now.
    pub fn announce(self, table: &Table) {
        if !self.happened {
            return;
        }
        let facts = &self.approval.facts;
        let what = What::Approval {
            id: facts.id,
            change: self.news,
        };
        table.news.tell(self.at, Some(&facts.project), what);
    }

    /// Another step came before it was visible: nobody is told.
    pub fn hush(self, table: &Table) {
        if let Some(notice) = self.notice {
            // The store makes the change whether or not it is waited for; told in vain, it does no harm.
            drop(table.store.apply(Change::FanOut {
                notices: vec![notice],
                deliveries: Vec::new(),
            }));
        }
    }
}

impl Step {
    pub(super) fn with_record(mut self, told: Ack) -> Self {
        self.told.push(told);
        self
    }

    /// Memory has made it: until it is acknowledged it is owed.
    pub(super) fn owed(mut self, paper: &mut Paper) -> Self {
        paper.owes |= OWES_STORE | OWES_RECORD;
        self.taken = true;
        self
    }

    /// The same, of a step that was owed before.
    pub(super) fn owed_before(mut self) -> Self {
        self.taken = true;
        self
    }
}

impl Ending {
    /// Of the gate's own working.
    pub(super) fn by_itself(note: &str, now: Now) -> Self {
        Self {
            at: now.wall,
            by: None,
            note: Some(note.into()),
        }
    }
}

macro_rules! from_fault {
    ($($error:ident)*) => {$(
        impl From<Fault> for $error {
            fn from(fault: Fault) -> Self {
                match fault {
                    Fault::Store(fault) => $error::Store(fault),
                    Fault::Ledger(unavailable) => $error::Ledger(unavailable),
                }
            }
        }
    )*};
}

from_fault! { VoteError HoldError ChangeError }
