//! The one run of an approved request: begun once, and ended by whoever has it.

use super::book::{Busy, Due, OWES_DELIVERY, OWES_RECORD, OWES_STORE, Paper};
use super::step::Said;
use super::take::NOT_OVER;
use super::{Ending, LiveApproval, Outcome, Step, VoteError};
use crate::ledger::record::Cause;
use crate::policy::approval::{KEPT_BYTES_MAX, Stage};
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
            First::Run(step, beginning) => (step, beginning),
            First::Late(stage, step) => {
                // Over, and in force: durable or not, nothing runs.
                let _ = self.0.conclude_all(step.into_iter().collect()).await;
                return Err(VoteError::Late(stage));
            }
        };
        let settled = self.0.settle(step).await?;
        if settled.applied == Applied::Refused {
            // The store knows of less than memory does: the lesser is the true one.
            let steps = beginning.void(&self.0, now);
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
                paper.listed = false;
                if let Some(mut scene) = scene {
                    scene.strike(approval);
                }
            }
        });
    }
}

impl Table {
    fn step_to_run(&self, approval: &Arc<LiveApproval>, now: Now) -> First {
        approval.with(|scene, paper| {
            let stage = approval.stage();
            if stage != Stage::Approved {
                return First::Late(stage, None);
            }
            if approval.is_out_of_time(paper, now.tick) {
                let step = self.expire(scene, approval, paper, now);
                return First::Late(Stage::Expired, Some(step));
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
                return First::Late(approval.stage(), step);
            }
            approval.enter(paper, Stage::Executing, now);
            approval.show(paper, Stage::Executing);
            let (to, from) = (Stage::Executing, &[Stage::Approved]);
            let step = self.hand_over(approval, paper, to, from, None, now);
            let (said, cause) = (Said::default(), Cause::Gate);
            let told = self.tell_approval(approval, "executing", to, said, cause, now.wall);
            let beginning = Beginning(Some(Arc::clone(approval)));
            First::Run(step.with_record(told), beginning)
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
}

/// Whether a caller was the first to run it.
enum First {
    Run(Step, Beginning),
    /// It has come to this, and that ends it.
    Late(Stage, Option<Step>),
}

/// A step to `executing` that is not acknowledged. Dropped, nothing was sent: it comes back.
struct Beginning(Option<Arc<LiveApproval>>);

impl Beginning {
    fn has_begun(mut self) {
        self.0 = None;
    }

    fn void(mut self, table: &Table, now: Now) -> Option<Step> {
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
