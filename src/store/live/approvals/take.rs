//! What ends an approval before it runs: a withdrawal, its session's end or quarantine, its grant's, and time.
//!
//! In force in memory before anything is waited for.

use super::book::{Paper, Scene};
use super::step::Said;
use super::{Ending, LiveApproval, Step, VoteError};
use crate::ledger::record::Cause;
use crate::policy::approval::{Stage, Vote};
use crate::policy::id::GrantId;
use crate::policy::time::Now;
use crate::store::live::{LiveSession, Sessions, Table, locked};
use std::sync::Arc;

impl Sessions {
    /// Takes an approval back that has not begun to run. In force before this waits.
    ///
    /// # Errors
    /// [`VoteError::Late`], or store and ledger do not know yet.
    pub async fn withdraw(
        &self,
        approval: &Arc<LiveApproval>,
        why: &str,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<(), VoteError> {
        let (stage, step) = approval.with(|scene, paper| match approval.stage() {
            Stage::Pending | Stage::Approved => {
                let step = self.0.withdraw(scene, approval, paper, why, cause, now);
                (approval.stage(), step)
            }
            late => (late, None),
        });
        match (stage, step) {
            (Stage::Withdrawn, Some(step)) => {
                self.0.conclude(step).await?;
                Ok(())
            }
            (late, step) => {
                // Its time was over before. Whether that is durable already is not the caller's affair.
                if let Some(step) = step {
                    let _ = self.0.conclude(step).await;
                }
                Err(VoteError::Late(late))
            }
        }
    }
}

impl Table {
    /// All that a session waits for is taken back. The caller has seen to it that nothing comes after.
    pub(in crate::store::live) fn withdraw_all(
        &self,
        session: &LiveSession,
        why: &str,
        cause: &Cause<'_>,
        now: Now,
        steps: &mut Vec<Step>,
    ) {
        self.withdraw_some(session, why, cause, now, steps, |_| true);
    }

    /// All that waits to go on a grant is taken back with it.
    pub(in crate::store::live) fn withdraw_of_grant(
        &self,
        session: &LiveSession,
        grant: GrantId,
        cause: &Cause<'_>,
        now: Now,
        steps: &mut Vec<Step>,
    ) {
        let why = "the grant that it was to go on was taken away";
        let goes_on = |approval: &LiveApproval| approval.grant() == Some(grant);
        self.withdraw_some(session, why, cause, now, steps, goes_on);
    }

    fn withdraw_some(
        &self,
        session: &LiveSession,
        why: &str,
        cause: &Cause<'_>,
        now: Now,
        steps: &mut Vec<Step>,
        which: impl Fn(&LiveApproval) -> bool,
    ) {
        let all = locked(&session.book).held.approvals.clone();
        for approval in all.iter().filter(|approval| which(approval)) {
            let step = approval.with(|scene, paper| match approval.stage() {
                Stage::Pending | Stage::Approved => {
                    self.withdraw(scene, approval, paper, why, cause.clone(), now)
                }
                _ => None,
            });
            steps.extend(step);
        }
    }

    /// One that waits becomes `withdrawn`, or `expired` if time was faster.
    pub(super) fn withdraw(
        &self,
        scene: Option<Scene<'_>>,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        why: &str,
        cause: Cause<'_>,
        now: Now,
    ) -> Option<Step> {
        if approval.is_out_of_time(paper, now.tick) {
            return Some(self.expire(scene, approval, paper, now));
        }
        let by = match cause {
            Cause::Principal(name) => Some(name.clone()),
            Cause::Agent | Cause::Limit(_) | Cause::Gate => None,
        };
        paper.ending = Some(Ending {
            by,
            ..Ending::by_itself(why, now)
        });
        Some(self.take(scene, approval, paper, (Stage::Withdrawn, None), cause, now))
    }

    /// Its time is over.
    pub(super) fn expire(
        &self,
        scene: Option<Scene<'_>>,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        now: Now,
    ) -> Step {
        let why = match approval.stage() {
            Stage::Pending => "nobody said enough in time",
            Stage::Approved => "nobody came to run it in time",
            _ => "nobody found out in time how it ended",
        };
        paper.ending = Some(Ending::by_itself(why, now));
        let step = (Stage::Expired, None);
        self.take(scene, approval, paper, step, Cause::Gate, now)
    }

    /// Comes to a stage at once, by a word where somebody said one; store and ledger are owed.
    pub(super) fn take(
        &self,
        scene: Option<Scene<'_>>,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        (to, vote): (Stage, Option<&Vote>),
        cause: Cause<'_>,
        now: Now,
    ) -> Step {
        let waited = matches!(approval.stage(), Stage::Pending | Stage::Approved);
        if let (true, Some(grant), Some(mut scene)) = (waited, approval.grant(), scene) {
            scene.release(grant);
        }
        approval.enter(paper, to, now);
        approval.show(paper, to);
        let step = self.hand_over(approval, paper, to, NOT_OVER, vote, now);
        self.tell_taken(approval, paper, vote, cause, now, step)
            .owed(paper)
    }

    /// With the records of it: the word, where there was one, and what became of the approval.
    pub(super) fn tell_taken(
        &self,
        approval: &LiveApproval,
        paper: &Paper,
        vote: Option<&Vote>,
        cause: Cause<'_>,
        now: Now,
        mut step: Step,
    ) -> Step {
        let stage = approval.stage();
        if let Some(vote) = vote {
            let said = Said {
                word: Some(vote.word),
                note: vote.note.as_deref(),
                outcome: None,
            };
            let cause = Cause::Principal(&vote.principal);
            step = step
                .with_record(self.tell_approval(approval, "voted", stage, said, cause, now.wall));
        }
        let said = Said {
            word: None,
            note: paper
                .ending
                .as_ref()
                .and_then(|ending| ending.note.as_deref()),
            outcome: paper.outcome.as_deref(),
        };
        step.with_record(self.tell_approval(approval, stage.as_str(), stage, said, cause, now.wall))
    }
}

/// Where the store may have an approval that memory has taken further.
pub(super) const NOT_OVER: &[Stage] = &[
    Stage::Pending,
    Stage::Approved,
    Stage::Executing,
    Stage::Unknown,
];
