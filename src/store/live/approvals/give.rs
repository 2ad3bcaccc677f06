//! The steps that give: to `approved` by people's words, and back to it where nothing was sent or nothing ran.
//!
//! Store and ledger have such a step before anybody sees it. What takes may come in between: then it never shows.

use super::book::{Due, OWES_RECORD, OWES_STORE, Paper};
use super::step::{Said, Settled};
use super::take::NOT_OVER;
use super::{LiveApproval, Step};
use crate::ledger::record::Cause;
use crate::policy::approval::Stage;
use crate::policy::time::Now;
use crate::store::live::{State, Table};
use std::sync::Arc;

impl Table {
    /// A step that gives, handed to store and ledger; it is made when it is given.
    pub(super) fn offer<'t>(
        &'t self,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        due: Due,
        now: Now,
    ) -> (Step, Giving<'t>) {
        // Further than memory, where a step before was taken back and the store did not hear of it.
        const PENDING: &[Stage] = &[Stage::Pending, Stage::Approved];
        const BEGUN: &[Stage] = &[Stage::Executing, Stage::Unknown, Stage::Approved];
        let stage = Stage::Approved;
        let (change, from, ending) = match &due {
            Due::Agree(ending) => ("approved", PENDING, Some(ending)),
            Due::Return => ("returned", BEGUN, None),
            Due::Resolve(ending) => ("resolved", BEGUN, Some(ending)),
        };
        let before = paper.ending.clone();
        if let Some(ending) = ending {
            paper.ending = Some(ending.clone());
        }
        let by = ending.and_then(|ending| ending.by.as_ref());
        let cause = by.map_or(Cause::Gate, Cause::Principal);
        let said = Said {
            note: ending.and_then(|ending| ending.note.as_deref()),
            ..Said::default()
        };
        let told = self.tell_approval(approval, change, stage, said, cause, now.wall);
        let since = std::mem::replace(&mut paper.since, now.wall);
        let step = self.hand_over(approval, paper, stage, from, None, now);
        // Nothing of it is visible yet.
        (paper.ending, paper.since) = (before, since);
        paper.giving = true;
        paper.due = None;
        let giving = Giving {
            table: self,
            approval: Arc::clone(approval),
            due: Some(due),
        };
        (step.with_record(told), giving)
    }
}

/// A step that gives, on its way. Dropped without a word, it is made to its end by the sweep.
pub(super) struct Giving<'t> {
    table: &'t Table,
    approval: Arc<LiveApproval>,
    due: Option<Due>,
}

impl Giving<'_> {
    /// Store and ledger have it: it is in force, unless what takes came meanwhile. What that leaves to be done.
    pub fn give(mut self, settled: Settled, now: Now) -> Vec<Step> {
        let Some(due) = self.due.take() else {
            return Vec::new();
        };
        let (table, approval) = (self.table, &self.approval);
        let (shown, steps) = approval.with(|mut scene, paper| {
            paper.giving = false;
            // Denied, withdrawn or expired meanwhile: that is in the store behind this.
            if approval.stage() != due.before() {
                return (false, Vec::new());
            }
            if let Due::Agree(ending) | Due::Resolve(ending) = &due {
                paper.ending = Some(ending.clone());
            }
            if let (Due::Return | Due::Resolve(_), Some(grant), Some(scene)) =
                (&due, approval.grant(), scene.as_mut())
            {
                scene.give_back(grant);
            }
            approval.enter(paper, Stage::Approved, now);
            // Whatever was owed of the stages before, this is behind it.
            paper.owes &= !(OWES_STORE | OWES_RECORD);
            let state = scene
                .as_ref()
                .map_or(State::Ended, |scene| scene.session.state(now.tick));
            let gone = approval.grant().is_some_and(|grant| {
                let held = scene.as_ref().map(|scene| &scene.book.held.grants);
                !held.is_some_and(|held| held.iter().any(|held| held.id == grant))
            });
            if state == State::Live && !gone && now.tick < paper.until {
                approval.show(paper, Stage::Approved);
                return (true, Vec::new());
            }
            // Nobody sees it approved: what took it away has come and gone while it ran.
            approval.stage.send_if_modified(|stage| {
                *stage = Stage::Approved;
                false
            });
            let why = "its session or its grant ended while it was under way";
            let step = table.withdraw(scene, approval, paper, why, Cause::Gate, now);
            (false, step.into_iter().collect())
        });
        match shown {
            true => settled.announce(table),
            false => settled.hush(table),
        }
        approval.turn.notify_waiters();
        steps
    }

    /// It is taken back, from the store too.
    pub fn undo(mut self) {
        self.due = None;
        let (table, approval) = (self.table, &self.approval);
        approval.with(|_, paper| {
            paper.giving = false;
            let stage = approval.stage();
            if matches!(stage, Stage::Pending | Stage::Unknown) {
                let now = Now {
                    wall: paper.since,
                    tick: paper.until,
                };
                // Not waited for; the sweep makes sure of it.
                paper.owes |= OWES_STORE;
                drop(table.hand_over(approval, paper, stage, NOT_OVER, None, now));
            }
        });
        approval.turn.notify_waiters();
    }
}

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        let Some(due) = self.due.take() else { return };
        let mut paper = self.approval.paper();
        paper.giving = false;
        if self.approval.stage() == due.before() {
            paper.due = Some(due);
        }
        drop(paper);
        self.approval.turn.notify_waiters();
    }
}
