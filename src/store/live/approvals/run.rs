//! The one run of an approved request, and the steps that give: to `approved`, and back to it.

use super::book::{Busy, Due, OWES_DELIVERY, OWES_RECORD, OWES_STORE, Paper};
use super::step::{Said, Settled};
use super::take::NOT_OVER;
use super::{Ending, LiveApproval, Outcome, Step, VoteError};
use crate::ledger::record::Cause;
use crate::policy::approval::{KEPT_BYTES_MAX, NOTE_BYTES_MAX, Stage};
use crate::policy::name::PrincipalName;
use crate::policy::time::Now;
use crate::store::live::{Sessions, State, Table};
use crate::store::{Applied, Change};
use std::fmt;
use std::sync::Arc;

/// The one run of an approved request. Dropped without a word of how it ended, it is `unknown`.
#[must_use = "a run that nobody ends is recorded as unknown"]
pub struct Run {
    approval: Arc<LiveApproval>,
    begun: Now,
    /// Somebody said how it ended.
    ended: bool,
}

impl Run {
    /// Of what.
    pub fn approval(&self) -> &Arc<LiveApproval> {
        &self.approval
    }

    fn end(mut self) -> Arc<LiveApproval> {
        self.ended = true;
        Arc::clone(&self.approval)
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Run").field(&self.approval.facts.id).finish()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let approval = &self.approval;
        approval.with(|_, paper| {
            if approval.stage() == Stage::Executing {
                approval.enter(paper, Stage::Unknown, self.begun);
                approval.show(paper, Stage::Unknown);
                // Nobody is here to wait for it: the sweep tells store and ledger. Before that, a restart says the same.
                paper.owes |= OWES_STORE | OWES_RECORD;
            }
        });
    }
}

impl Sessions {
    /// The step to `executing`, which one caller gets, once. Takes the reserved use of the grant. Durable and recorded when
    /// this returns.
    ///
    /// Dropped before it returns, nothing was sent, and the approval comes back to `approved` with the next sweep.
    ///
    /// # Errors
    /// [`VoteError::Late`]: another was faster, or it is over; or store or ledger have a fault, and nothing may run: then
    /// too it comes back.
    pub async fn begin(&self, approval: &Arc<LiveApproval>, now: Now) -> Result<Run, VoteError> {
        let (step, beginning) = match self.0.step_to_run(approval, now) {
            Ok(begun) => begun,
            Err((stage, step)) => {
                // Over, and in force: durable or not, nothing runs.
                let _ = self.0.conclude_all(step.into_iter().collect()).await;
                return Err(VoteError::Late(stage));
            }
        };
        let settled = self.0.settle(step).await?;
        if settled.applied == Applied::Refused {
            // The store knows of less than memory does: the lesser is the true one.
            let steps = beginning.is_void(&self.0, now);
            let _ = self.0.conclude_all(steps.into_iter().collect()).await;
            return Err(VoteError::Late(approval.stage()));
        }
        beginning.has_begun();
        settled.announce(&self.0);
        Ok(Run {
            approval: Arc::clone(approval),
            begun: now,
            ended: false,
        })
    }

    /// The run is over: the outcome is durable and recorded, and seen by all who wait.
    ///
    /// # Errors
    /// [`VoteError`]: store or ledger have a fault; memory has the outcome, and the sweep goes on trying.
    pub async fn finish(&self, run: Run, outcome: Outcome, now: Now) -> Result<(), VoteError> {
        let approval = run.end();
        let step = approval.with(|_, paper| {
            let long = |body: &Arc<[u8]>| body.len() > KEPT_BYTES_MAX;
            let keeps = !outcome.body.as_ref().is_some_and(long);
            paper.outcome = Some(Box::new(match keeps {
                true => outcome,
                false => Outcome {
                    fields: Vec::new(),
                    body: None,
                    ..outcome
                },
            }));
            approval.enter(paper, Stage::Executed, now);
            self.0.step_executed(&approval, paper, now).owed(paper)
        });
        // Seen by all once this returns or is dropped, whatever became of it.
        let landing = Landing(&approval, approval.busy());
        let settled = self.0.settle(step).await;
        drop(landing);
        settled?.announce(&self.0);
        Ok(())
    }

    /// Not a byte of the request was written to a backend: it is `approved` again, and the grant's use reserved again; or
    /// `withdrawn`, if its session has ended or is in quarantine, or `expired`, if its time is over.
    ///
    /// # Errors
    /// [`VoteError`]: store or ledger have a fault; the sweep goes on trying. Until then it is `executing`, and after a
    /// restart `unknown`.
    pub async fn unsent(&self, run: Run, now: Now) -> Result<(), VoteError> {
        let approval = run.end();
        let (step, giving) =
            approval.with(|_, paper| self.0.offer(&approval, paper, Due::Return, now));
        let settled = self.0.settle(step).await?;
        let steps = giving.give(settled, now);
        Ok(self.0.conclude_all(steps).await?)
    }

    /// The agent has the answer to its last byte: what was kept of it goes, and the same request is a new one.
    pub fn delivered(&self, approval: &Arc<LiveApproval>) {
        approval.with(|scene, paper| {
            if approval.stage() == Stage::Executed && !paper.delivered {
                self.0.deliver(approval, paper);
                if let Some(scene) = scene {
                    let others = |one: &Arc<LiveApproval>| !Arc::ptr_eq(one, approval);
                    scene.book.held.approvals.retain(others);
                    scene.note_approvals();
                }
            }
        });
    }

    /// An operator found out how an unknown run ended: it `ran`, or it may run now.
    ///
    /// # Errors
    /// [`VoteError::Late`]: its outcome is not unknown; or store or ledger have a fault.
    pub async fn resolve(
        &self,
        approval: &Arc<LiveApproval>,
        ran: bool,
        note: &str,
        principal: &PrincipalName,
        now: Now,
    ) -> Result<(), VoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(VoteError::Note);
        }
        let ending = Ending {
            by: Some(principal.clone()),
            ..Ending::by_itself(note, now)
        };
        let begun = approval.with(|_, paper| {
            let stage = approval.stage();
            if stage != Stage::Unknown || paper.giving || approval.is_out_of_time(paper, now.tick) {
                return Err(VoteError::Late(stage));
            }
            if !ran {
                let (step, giving) = self.0.offer(approval, paper, Due::Resolve(ending), now);
                return Ok((step, Some(giving)));
            }
            paper.ending = Some(ending);
            paper.outcome = Some(Box::default());
            approval.enter(paper, Stage::Executed, now);
            approval.show(paper, Stage::Executed);
            let said = Said {
                note: Some(note),
                ..Said::default()
            };
            let cause = Cause::Principal(principal);
            let (change, stage) = ("resolved", Stage::Executed);
            let told = self
                .0
                .tell_approval(approval, change, stage, said, cause, now.wall);
            let step = self
                .0
                .hand_over(approval, paper, stage, NOT_OVER, None, now);
            Ok((step.with_record(told).owed(paper), None))
        })?;
        match begun {
            (step, None) => Ok(self.0.conclude(step).await?),
            (step, Some(giving)) => match self.0.settle(step).await {
                Ok(settled) => {
                    let steps = giving.give(settled, now);
                    Ok(self.0.conclude_all(steps).await?)
                }
                Err(fault) => {
                    giving.undo();
                    Err(fault.into())
                }
            },
        }
    }
}

impl Table {
    /// The step to `executing`; or what it has come to, and what ends it.
    fn step_to_run(
        &self,
        approval: &Arc<LiveApproval>,
        now: Now,
    ) -> Result<(Step, Beginning), (Stage, Option<Step>)> {
        approval.with(|scene, paper| {
            let stage = approval.stage();
            if stage != Stage::Approved {
                return Err((stage, None));
            }
            if approval.is_out_of_time(paper, now.tick) {
                let step = self.expire(scene, approval, paper, now);
                return Err((Stage::Expired, Some(step)));
            }
            let mut scene = scene;
            let live = scene
                .as_ref()
                .is_some_and(|scene| scene.session.state(now.tick) == State::Live);
            let may = live
                && approval.grant().is_none_or(|grant| {
                    let scene = scene.as_mut();
                    scene.is_some_and(|scene| scene.take(grant, now.tick))
                });
            if !may {
                let why = "its session or its grant has ended";
                let step = self.withdraw(scene, approval, paper, why, Cause::Gate, now);
                return Err((approval.stage(), step));
            }
            approval.enter(paper, Stage::Executing, now);
            approval.show(paper, Stage::Executing);
            let (to, from) = (Stage::Executing, &[Stage::Approved]);
            let step = self.hand_over(approval, paper, to, from, None, now);
            let (said, cause) = (Said::default(), Cause::Gate);
            let told = self.tell_approval(approval, "executing", to, said, cause, now.wall);
            Ok((
                step.with_record(told),
                Beginning(Some(Arc::clone(approval))),
            ))
        })
    }

    /// The step to `executed`, from memory as it stands.
    pub(super) fn step_executed(
        &self,
        approval: &Arc<LiveApproval>,
        paper: &Paper,
        now: Now,
    ) -> Step {
        let to = Stage::Executed;
        let said = Said {
            outcome: paper.outcome.as_deref(),
            ..Said::default()
        };
        let told = self.tell_approval(approval, "executed", to, said, Cause::Gate, now.wall);
        let step = self.hand_over(approval, paper, to, NOT_OVER, None, now);
        step.with_record(told)
    }

    /// What was kept of an answer goes.
    pub(super) fn deliver(&self, approval: &Arc<LiveApproval>, paper: &mut Paper) {
        paper.delivered = true;
        if let Some(outcome) = paper.outcome.as_deref_mut() {
            outcome.fields = Vec::new();
            outcome.body = None;
        }
        // Handed over now, so that it is soon durable; the sweep makes sure of it.
        paper.owes |= OWES_DELIVERY;
        drop(self.store.apply(Change::Deliver {
            approval: approval.facts.id,
        }));
    }

    /// A step that gives, handed to store and ledger; it is made when it is given.
    pub(super) fn offer<'t>(
        &'t self,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        due: Due,
        now: Now,
    ) -> (Step, Giving<'t>) {
        const PENDING: &[Stage] = &[Stage::Pending];
        // That it ran is in the store, or never came there.
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

/// A step to `executing` that is not acknowledged. Dropped, nothing was sent: it comes back.
struct Beginning(Option<Arc<LiveApproval>>);

impl Beginning {
    fn has_begun(mut self) {
        self.0 = None;
    }

    fn is_void(mut self, table: &Table, now: Now) -> Option<Step> {
        let approval = self.0.take()?;
        Some(approval.with(|scene, paper| {
            paper.ending = Some(Ending::by_itself("the store has no use for it", now));
            let to = (Stage::Withdrawn, None);
            table.take(scene, &approval, paper, to, Cause::Gate, now)
        }))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let Some(approval) = self.0.take() else {
            return;
        };
        let mut paper = approval.paper();
        if approval.stage() == Stage::Executing {
            paper.due = Some(Due::Return);
        }
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
        let steps = approval.with(|mut scene, paper| {
            paper.giving = false;
            let before = match &due {
                Due::Agree(_) => Stage::Pending,
                Due::Return => Stage::Executing,
                Due::Resolve(_) => Stage::Unknown,
            };
            // Denied, withdrawn or expired meanwhile: that is in the store behind this.
            if approval.stage() != before {
                return Vec::new();
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
                return Vec::new();
            }
            // Nobody sees it approved: what took it away has come and gone while it ran.
            approval.stage.send_if_modified(|stage| {
                *stage = Stage::Approved;
                false
            });
            let why = "its session or its grant ended while it was under way";
            let step = table.withdraw(scene, approval, paper, why, Cause::Gate, now);
            step.into_iter().collect()
        });
        match approval.stage() {
            Stage::Approved => settled.announce(table),
            _ => settled.hush(table),
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
        paper.due = Some(due);
        drop(paper);
        self.approval.turn.notify_waiters();
    }
}

/// The outcome is seen, however the wait for it ends.
struct Landing<'a>(
    &'a Arc<LiveApproval>,
    #[expect(dead_code, reason = "it is held")] Busy,
);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut paper = self.0.paper();
        self.0.show(&mut paper, Stage::Executed);
    }
}
