//! The sweep of approvals: what time ends, what a fault left undone, and what has been shown for long enough.
//!
//! Nothing waits for it: past its end an approval counts for nothing, swept or not.

use super::book::{OWES_DELIVERY, OWES_RECORD, OWES_STORE, Paper, Scene};
use super::give::Giving;
use super::step::Said;
use super::take::NOT_OVER;
use super::{LiveApproval, OVER_BYTES_MAX, OVER_MAX, Step};
use crate::ledger::record::Cause;
use crate::policy::approval::{Stage, Vote};
use crate::policy::time::Now;
use crate::store::live::{Swept, Table};
use crate::store::{Applied, Change, StoreFuture};
use std::sync::{Arc, PoisonError};

/// What is due of one approval.
enum Chore<'t> {
    Step(Step),
    Give(Step, Giving<'t>),
    Deliver(Arc<LiveApproval>, StoreFuture<Applied>),
    Unvote(Arc<LiveApproval>, Vote, StoreFuture<Applied>),
    Forget(Arc<LiveApproval>, StoreFuture<Applied>),
}

impl Table {
    /// Goes over all approvals once.
    pub(in crate::store::live) async fn sweep_approvals(&self, now: Now, swept: &mut Swept) {
        let (mut due, mut over, mut bytes) = (Vec::new(), 0, 0);
        {
            let all = self.approvals.read();
            let all = all.unwrap_or_else(PoisonError::into_inner);
            for approval in all.values() {
                let paper = approval.paper();
                if approval.stage().is_over() {
                    over += 1;
                    bytes += approval.bytes(&paper);
                }
                if due.len() < DUE_MAX && approval.is_due(&paper, now) {
                    due.push(Arc::clone(approval));
                }
            }
        }
        for batch in due.chunks(BATCH) {
            let chores: Vec<_> = batch
                .iter()
                .flat_map(|approval| {
                    let unvotes = self.unvotes(approval);
                    unvotes.into_iter().chain(self.chore(approval, now))
                })
                .collect();
            for chore in chores {
                self.do_chore(chore, now, swept).await;
            }
        }
        if over > OVER_MAX || bytes > OVER_BYTES_MAX {
            self.make_room(over, bytes, swept).await;
        }
    }

    fn chore(&self, approval: &Arc<LiveApproval>, now: Now) -> Option<Chore<'_>> {
        approval.with(|scene, paper| {
            if approval.is_busy() {
                return None;
            }
            if paper.unasked {
                return Some(self.never_asked(scene, approval, paper, now));
            }
            if paper.owes & (OWES_STORE | OWES_RECORD) != 0 {
                return Some(Chore::Step(self.step_again(approval, paper, now)));
            }
            if let Some(due) = paper.due.clone() {
                let (step, giving) = self.offer(approval, paper, due, now);
                return Some(Chore::Give(step, giving));
            }
            if approval.is_out_of_time(paper, now.tick) && !paper.giving {
                return Some(Chore::Step(self.expire(scene, approval, paper, now)));
            }
            if paper.listed && !approval.stands(paper, now.tick) {
                paper.listed = false;
                if let Some(mut scene) = scene {
                    scene.strike(approval);
                }
            }
            if paper.is_kept_in_vain(approval.stage(), now) {
                self.deliver(approval, paper);
            }
            let id = approval.facts.id;
            if paper.owes & OWES_DELIVERY != 0 {
                let delivered = self.store.apply(Change::Deliver { approval: id });
                return Some(Chore::Deliver(Arc::clone(approval), delivered));
            }
            paper.is_past(approval.stage(), now).then(|| {
                let forgotten = self.store.apply(Change::Forget { approval: id });
                Chore::Forget(Arc::clone(approval), forgotten)
            })
        })
    }

    async fn do_chore(&self, chore: Chore<'_>, now: Now, swept: &mut Swept) {
        let done = match chore {
            Chore::Step(step) => self.conclude(step).await.is_ok(),
            Chore::Give(step, giving) => match self.settle(step).await {
                Ok(settled) => {
                    let steps = giving.give(settled, now);
                    self.conclude_all(steps).await.is_ok()
                }
                Err(_) => false,
            },
            Chore::Deliver(approval, delivered) => {
                let delivered = delivered.await.is_ok();
                if delivered {
                    approval.paper().owes &= !OWES_DELIVERY;
                }
                delivered
            }
            Chore::Unvote(approval, vote, unvoted) => {
                let unvoted = unvoted.await.is_ok();
                if !unvoted {
                    approval.paper().miscast.push(vote);
                }
                unvoted
            }
            Chore::Forget(approval, forgotten) => {
                let forgotten = forgotten.await.is_ok();
                if forgotten {
                    self.unlist_approval(&approval);
                }
                forgotten
            }
        };
        match done {
            true => swept.approvals += 1,
            false => swept.failed += 1,
        }
    }

    /// Takes out what came to nothing while it was made. The ledger may have that it was asked for.
    fn never_asked(
        &self,
        scene: Option<Scene<'_>>,
        approval: &Arc<LiveApproval>,
        paper: &mut Paper,
        now: Now,
    ) -> Chore<'_> {
        if let Some(mut scene) = scene {
            scene.strike(approval);
        }
        paper.listed = false;
        if paper.owes & OWES_RECORD != 0 {
            paper.owes = 0;
            let stage = Stage::Withdrawn;
            let said = Said {
                note: Some(NEVER_ASKED),
                ..Said::default()
            };
            let (change, cause) = (stage.as_str(), Cause::Gate);
            // Once: of what was never in force, no record is owed.
            drop(self.tell_approval(approval, change, stage, said, cause, now.wall));
        }
        let forgotten = self.store.apply(Change::Forget {
            approval: approval.facts.id,
        });
        Chore::Forget(Arc::clone(approval), forgotten)
    }

    /// Takes words that do not count out of the store, but those that were said again since and do.
    fn unvotes(&self, approval: &Arc<LiveApproval>) -> Vec<Chore<'_>> {
        let mut paper = approval.paper();
        if approval.is_busy() {
            return Vec::new();
        }
        let Paper { miscast, votes, .. } = &mut *paper;
        miscast.retain(|vote| votes.iter().all(|own| own.principal != vote.principal));
        let unvote = |vote: Vote| {
            let unvoted = self.store.apply(Change::Unvote {
                approval: approval.facts.id,
                vote: vote.clone(),
            });
            Chore::Unvote(Arc::clone(approval), vote, unvoted)
        };
        miscast.drain(..).map(unvote).collect()
    }

    /// What memory has done, handed over once more.
    fn step_again(&self, approval: &Arc<LiveApproval>, paper: &mut Paper, now: Now) -> Step {
        let stage = approval.stage();
        if stage == Stage::Denied {
            return self.deny_again(approval, paper, now);
        }
        let step = self.hand_over(approval, paper, stage, NOT_OVER, None, now);
        let step = step.owed_before();
        if paper.owes & OWES_RECORD == 0 {
            return step;
        }
        let by = paper.ending.as_ref().and_then(|ending| ending.by.as_ref());
        let cause = match stage {
            Stage::Unknown => Cause::Gate,
            _ => by.map_or(Cause::Gate, Cause::Principal),
        };
        let note = paper
            .ending
            .as_ref()
            .and_then(|ending| ending.note.as_deref());
        let said = Said {
            word: None,
            note: note.filter(|_| stage != Stage::Unknown),
            outcome: paper.outcome.as_deref(),
        };
        let told = self.tell_approval(approval, stage.as_str(), stage, said, cause, now.wall);
        step.with_record(told)
    }

    fn unlist_approval(&self, approval: &LiveApproval) {
        let all = self.approvals.write();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.remove(&approval.facts.id);
    }

    /// There are more that are over than are shown: the oldest go.
    async fn make_room(&self, over: usize, bytes: usize, swept: &mut Swept) {
        let mut oldest = Vec::new();
        {
            let all = self.approvals.read();
            let all = all.unwrap_or_else(PoisonError::into_inner);
            for approval in all.values().filter(|one| one.stage().is_over()) {
                let paper = approval.paper();
                if paper.owes == 0 && !approval.is_busy() {
                    // What its session may still ask for goes last.
                    let rank = (paper.listed, paper.since, approval.facts.id);
                    oldest.push((rank, approval.bytes(&paper), Arc::clone(approval)));
                }
            }
        }
        oldest.sort_by_key(|(rank, ..)| *rank);
        let (mut over, mut bytes) = (over, bytes);
        let mut gone = Vec::new();
        for (_, own, approval) in oldest.into_iter().take(BATCH) {
            if over <= OVER_MAX && bytes <= OVER_BYTES_MAX {
                break;
            }
            over -= 1;
            bytes = bytes.saturating_sub(own);
            approval.with(|scene, paper| {
                paper.listed = false;
                if let Some(mut scene) = scene {
                    scene.strike(&approval);
                }
            });
            let forgotten = self.store.apply(Change::Forget {
                approval: approval.facts.id,
            });
            gone.push((approval, forgotten));
        }
        for (approval, forgotten) in gone {
            match forgotten.await {
                Ok(_) => {
                    self.unlist_approval(&approval);
                    swept.approvals += 1;
                }
                Err(_) => swept.failed += 1,
            }
        }
    }
}

impl LiveApproval {
    fn is_due(&self, paper: &Paper, now: Now) -> bool {
        let stage = self.stage();
        let due = paper.owes != 0
            || paper.unasked
            || !paper.miscast.is_empty()
            || paper.due.is_some()
            || self.is_out_of_time(paper, now.tick)
            || paper.listed && !self.stands(paper, now.tick)
            || paper.is_kept_in_vain(stage, now)
            || paper.is_past(stage, now);
        due && !self.is_busy()
    }
}

impl Paper {
    /// Nobody came for the answer in time.
    fn is_kept_in_vain(&self, stage: Stage, now: Now) -> bool {
        stage == Stage::Executed && !self.delivered && now.tick >= self.until
    }

    /// It is over, and has been shown for as long as any is.
    fn is_past(&self, stage: Stage, now: Now) -> bool {
        stage.is_over() && now.tick >= self.leaves && now.tick >= self.until
    }
}

/// Why nobody was asked.
pub(super) const NEVER_ASKED: &str = "it could not be asked";
/// Approvals in one sweep; the rest come with the next.
const DUE_MAX: usize = 4096;
/// Approvals whose changes wait at once.
const BATCH: usize = 256;
