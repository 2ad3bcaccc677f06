//! People's words, and the stage they bring about.
//!
//! A word of agreement is durable and recorded, and only then counted; the step to `approved` follows on the last one that
//! was needed. A word of denial is in force at once. So an agreement that was on its way never beats a denial.

use super::book::{Due, Paper, Scene};
use super::give::Giving;
use super::step::Said;
use super::take::NOT_OVER;
use super::{Ballot, Ending, LiveApproval, Step, VoteError};
use crate::ledger::record::Cause;
use crate::policy::approval::{Approvers, Chain, NOTE_BYTES_MAX, Stage, Vote, Word};
use crate::policy::name::PrincipalName;
use crate::policy::time::Now;
use crate::store::live::{Sessions, Table};
use crate::store::{Applied, Change};
use std::pin::pin;
use std::sync::Arc;

/// What a word leads to.
enum Next<'t> {
    /// Another change comes first.
    Wait,
    /// It was said before, and this is where it stands.
    Said(Stage),
    /// Time was faster.
    Over(Step),
    Deny(Step),
    Cast(Step, Cast<'t>),
    Agree(Step, Giving<'t>),
}

impl Sessions {
    /// Takes a principal's word. The same word twice is one. Returns where the approval then stands: `Approved` once the
    /// quorum of `chain` is met, `Denied` at the first such word. Agreement is durable and recorded before it is visible;
    /// denial is in force before this waits.
    ///
    /// Dropped before it returns, an agreement may count or not: say it again.
    ///
    /// # Errors
    /// [`VoteError`]: it is not approved by it, and is if the same word is said again. A denial is in force all the same, and
    /// the sweep tells store and ledger.
    pub async fn vote(
        &self,
        approval: &Arc<LiveApproval>,
        ballot: Ballot<'_>,
        chain: &Chain,
        approvers: &Approvers,
        now: Now,
    ) -> Result<Stage, VoteError> {
        check(approval, &ballot, chain, approvers)?;
        loop {
            let mut turn = pin!(approval.turn.notified());
            turn.as_mut().enable();
            match self.0.next(approval, &ballot, chain, approvers, now)? {
                Next::Wait => turn.await,
                Next::Said(stage) => return Ok(stage),
                Next::Over(step) => {
                    let stage = approval.stage();
                    // Whether the end is durable already is not the voter's affair: the sweep sees to it.
                    let _ = self.0.conclude(step).await;
                    return Err(VoteError::Late(stage));
                }
                Next::Deny(step) => {
                    self.0.conclude(step).await?;
                    return Ok(Stage::Denied);
                }
                Next::Cast(step, cast) => {
                    let settled = self.0.settle(step).await?;
                    if settled.applied == Applied::Refused {
                        return Err(VoteError::Late(approval.stage()));
                    }
                    cast.count();
                    settled.announce(&self.0);
                }
                Next::Agree(step, giving) => match self.0.settle(step).await {
                    Ok(settled) => {
                        let steps = giving.give(settled, now);
                        // A withdrawal that came meanwhile is in force, durable or not.
                        let _ = self.0.conclude_all(steps).await;
                    }
                    Err(fault) => {
                        giving.undo();
                        return Err(fault.into());
                    }
                },
            }
        }
    }
}

/// Whether the word is one that counts, on what it was meant for.
fn check(
    approval: &LiveApproval,
    ballot: &Ballot<'_>,
    chain: &Chain,
    approvers: &Approvers,
) -> Result<(), VoteError> {
    let facts = &approval.facts;
    if ballot.note.is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
        return Err(VoteError::Note);
    }
    if *ballot.principal == facts.minted_by {
        return Err(VoteError::Minter);
    }
    if !approvers.may(ballot.principal, &facts.project, chain) {
        return Err(VoteError::NotApprover);
    }
    if ballot.digest != facts.digest {
        return Err(VoteError::Changed);
    }
    Ok(())
}

impl Table {
    fn next(
        &self,
        approval: &Arc<LiveApproval>,
        ballot: &Ballot<'_>,
        chain: &Chain,
        approvers: &Approvers,
        now: Now,
    ) -> Result<Next<'_>, VoteError> {
        approval.with(|scene, paper| {
            if paper.casting.contains(ballot.principal) {
                return Ok(Next::Wait);
            }
            let own = |vote: &&Vote| vote.principal == *ballot.principal;
            let before = paper.votes.iter().rfind(own).map(|vote| vote.word);
            let stage = approval.stage();
            let waits = stage == Stage::Pending && !approval.is_out_of_time(paper, now.tick);
            match before {
                Some(word) if word != ballot.word => return Err(VoteError::OtherWord),
                Some(_) if !waits => return Ok(Next::Said(stage)),
                None if stage != Stage::Pending => return Err(VoteError::Late(stage)),
                _ => {}
            }
            if !waits {
                return Ok(Next::Over(self.expire(scene, approval, paper, now)));
            }
            if ballot.word == Word::Deny {
                return Ok(Next::Deny(self.deny(scene, approval, paper, ballot, now)));
            }
            if paper.giving {
                return Ok(Next::Wait);
            }
            let agreed = approvers.agree(&paper.votes, &approval.facts, chain);
            match before {
                Some(_) if !agreed => Ok(Next::Said(stage)),
                Some(_) => {
                    let due = Due::Agree(Ending {
                        at: now.wall,
                        by: Some(ballot.principal.clone()),
                        note: ballot.note.map(Into::into),
                    });
                    let (step, giving) = self.offer(approval, paper, due, now);
                    Ok(Next::Agree(step, giving))
                }
                None => {
                    let (step, cast) = self.cast(approval, paper, ballot, now);
                    Ok(Next::Cast(step, cast))
                }
            }
        })
    }

    fn deny(
        &self,
        scene: Option<Scene<'_>>,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        ballot: &Ballot<'_>,
        now: Now,
    ) -> Step {
        let vote = vote_of(ballot, now);
        paper.votes.push(vote.clone());
        paper.ending = Some(Ending {
            at: now.wall,
            by: Some(vote.principal.clone()),
            note: vote.note.clone(),
        });
        let cause = Cause::Principal(ballot.principal);
        let step = (Stage::Denied, Some(&vote));
        self.take(scene, approval, paper, step, cause, now)
    }

    fn cast<'t>(
        &'t self,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        ballot: &Ballot<'_>,
        now: Now,
    ) -> (Step, Cast<'t>) {
        let vote = vote_of(ballot, now);
        paper.casting.push(vote.principal.clone());
        let change = Change::Vote {
            approval: approval.facts.id,
            vote: vote.clone(),
        };
        let said = Said {
            word: Some(vote.word),
            note: ballot.note,
            outcome: None,
        };
        let cause = Cause::Principal(ballot.principal);
        let told = self.tell_approval(approval, "voted", Stage::Pending, said, cause, now.wall);
        let step = self.step(approval, change, "voted", None, now);
        let cast = Cast {
            table: self,
            approval: Arc::clone(approval),
            vote,
            counted: false,
        };
        (step.with_record(told), cast)
    }

    /// A denial again that store or ledger did not take.
    pub(super) fn deny_again(&self, approval: &Arc<LiveApproval>, paper: &Paper, now: Now) -> Step {
        let said = |vote: &&Vote| vote.word == Word::Deny;
        let vote = paper.votes.iter().rfind(said);
        let step = self.hand_over(approval, paper, Stage::Denied, NOT_OVER, vote, now);
        let by = paper.ending.as_ref().and_then(|ending| ending.by.as_ref());
        let cause = by.map_or(Cause::Gate, Cause::Principal);
        self.tell_taken(approval, paper, vote, cause, now, step)
            .owed_before()
    }
}

fn vote_of(ballot: &Ballot<'_>, now: Now) -> Vote {
    Vote {
        principal: ballot.principal.clone(),
        word: ballot.word,
        note: ballot.note.map(Into::into),
        at: now.wall,
    }
}

/// A word on its way; taken out of the store again unless it is counted.
struct Cast<'t> {
    table: &'t Table,
    approval: Arc<LiveApproval>,
    vote: Vote,
    counted: bool,
}

impl Cast<'_> {
    fn count(mut self) {
        self.counted = true;
    }
}

impl Drop for Cast<'_> {
    fn drop(&mut self) {
        let mut paper = self.approval.paper();
        let own = |name: &PrincipalName| *name == self.vote.principal;
        paper.casting.retain(|name| !own(name));
        if self.counted {
            paper.votes.push(self.vote.clone());
        } else {
            // The store makes the change whether or not it is waited for; the sweep makes it again, in case it could not.
            drop(self.table.store.apply(Change::Unvote {
                approval: self.approval.facts.id,
                vote: self.vote.clone(),
            }));
            paper.miscast.push(self.vote.clone());
        }
        drop(paper);
        self.approval.turn.notify_waiters();
    }
}
