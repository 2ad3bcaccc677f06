//! What an operator found out of a run that nobody ended: it ran, or it may run now.

use super::book::{Due, Paper};
use super::give::Giving;
use super::step::Said;
use super::take::NOT_OVER;
use super::{Ending, LiveApproval, Step, VoteError};
use crate::ledger::record::Cause;
use crate::policy::approval::{NOTE_BYTES_MAX, Stage};
use crate::policy::name::PrincipalName;
use crate::policy::time::Now;
use crate::store::live::{Sessions, Table};
use std::pin::pin;
use std::sync::Arc;

/// What the finding leads to.
enum Next<'t> {
    /// Another change comes first.
    Wait,
    Ran(Step),
    MayRun(Step, Giving<'t>),
}

impl Sessions {
    /// An operator found out how an unknown run ended: it `ran`, or it may run now.
    ///
    /// # Errors
    /// [`VoteError::Late`]: its outcome is not unknown; or store or ledger have a fault. That it ran is known all the same;
    /// that it may run is not, until it is said again.
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
        loop {
            let mut turn = pin!(approval.turn.notified());
            turn.as_mut().enable();
            match self.0.found_out(approval, ran, &ending, now)? {
                Next::Wait => turn.await,
                Next::Ran(step) => return Ok(self.0.conclude(step).await?),
                Next::MayRun(step, giving) => {
                    return match self.0.settle(step).await {
                        Ok(settled) => {
                            let steps = giving.give(settled, now);
                            Ok(self.0.conclude_all(steps).await?)
                        }
                        Err(fault) => {
                            giving.undo();
                            Err(fault.into())
                        }
                    };
                }
            }
        }
    }
}

impl Table {
    fn found_out(
        &self,
        approval: &Arc<LiveApproval>,
        ran: bool,
        ending: &Ending,
        now: Now,
    ) -> Result<Next<'_>, VoteError> {
        approval.with(|_, paper| {
            let stage = approval.stage();
            if stage != Stage::Unknown || approval.is_out_of_time(paper, now.tick) {
                return Err(VoteError::Late(stage));
            }
            if approval.is_busy() {
                return Ok(Next::Wait);
            }
            if ran {
                return Ok(Next::Ran(self.ran(approval, paper, ending, now)));
            }
            let due = Due::Resolve(ending.clone());
            let (step, giving) = self.offer(approval, paper, due, now);
            Ok(Next::MayRun(step, giving))
        })
    }

    /// It is over, with an outcome that nobody kept.
    fn ran(
        &self,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        ending: &Ending,
        now: Now,
    ) -> Step {
        let stage = Stage::Executed;
        paper.ending = Some(ending.clone());
        paper.outcome = Some(Box::default());
        approval.enter(paper, stage, now);
        approval.show(paper, stage);
        let said = Said {
            note: ending.note.as_deref(),
            ..Said::default()
        };
        let cause = ending.by.as_ref().map_or(Cause::Gate, Cause::Principal);
        let told = self.tell_approval(approval, "resolved", stage, said, cause, now.wall);
        let step = self.hand_over(approval, paper, stage, NOT_OVER, None, now);
        step.with_record(told).owed(paper)
    }
}
