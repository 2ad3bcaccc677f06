//! Asking people: one approval for the same request, however many ask at once.

use super::book::{OWES_RECORD, Scene, body_bytes};
use super::kept::Room;
use super::step::Said;
use super::sweep::NEVER_ASKED;
use super::{Ending, Held, HoldError, LiveApproval, Step};
use crate::ledger::record::Cause;
use crate::policy::approval::{Asked, Chain, Facts, Stage};
use crate::policy::decision::GrantUse;
use crate::policy::time::Now;
use crate::store::approval::ApprovalRow;
use crate::store::live::{Book, LiveSession, Sessions, State, Table, locked};
use crate::store::outbox::NoticeRow;
use crate::store::{Applied, Change};
use std::pin::pin;
use std::sync::{Arc, PoisonError};

impl Sessions {
    /// Asks people. Joins what the same request stands under; else makes an approval, which is durable and recorded when
    /// this returns. Reserves one use of the grant that `facts` names. It ends with the session and with that grant at the
    /// latest, whatever `facts` says. `cause`: the agent, or the principal who wants a grant for it.
    ///
    /// Dropped before it returns, what it was making is withdrawn.
    ///
    /// # Errors
    /// [`HoldError`]: there is none.
    pub async fn hold(
        &self,
        session: &Arc<LiveSession>,
        chain: &Chain,
        facts: Facts,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<Held, HoldError> {
        let step = loop {
            let found = {
                let mut book = locked(&session.book);
                match session.state(now.tick) {
                    State::Live => {}
                    State::Quarantined => return Err(HoldError::Quarantined),
                    State::Ended => return Err(HoldError::Ended),
                }
                match find(&book, &facts, now) {
                    Some(found) => found,
                    None => break self.0.make(session, &mut book, chain, facts, cause, now)?,
                }
            };
            // Another is just making it: what becomes of that is waited for.
            let mut turn = pin!(found.turn.notified());
            turn.as_mut().enable();
            let (made, stands) = {
                let paper = found.paper();
                (paper.made, found.stands(&paper, now.tick))
            };
            match (made, stands) {
                (_, false) => {}
                (true, true) => return Ok(Held::Joined(Arc::clone(&found))),
                (false, true) => turn.await,
            }
        };
        let approval = Arc::clone(&step.approval);
        let making = Making {
            table: &self.0,
            approval: &approval,
            now,
        };
        let settled = self.0.settle(step).await?;
        if settled.applied == Applied::Refused {
            // The one precondition: the session is there.
            return Err(HoldError::Ended);
        }
        approval.paper().made = true;
        drop(making);
        settled.announce(&self.0);
        match (approval.stage(), session.state(now.tick)) {
            (Stage::Withdrawn, State::Quarantined) => Err(HoldError::Quarantined),
            (Stage::Withdrawn, State::Ended) => Err(HoldError::Ended),
            _ => Ok(Held::Made(approval)),
        }
    }
}

/// What the same request stands under, or is about to.
fn find(book: &Book, facts: &Facts, now: Now) -> Option<Arc<LiveApproval>> {
    let same = |approval: &&Arc<LiveApproval>| {
        approval.facts.digest == facts.digest && approval.stands(&approval.paper(), now.tick)
    };
    book.held.approvals.iter().find(same).cloned()
}

impl Table {
    /// Makes one in memory, for its maker alone, and hands it to store and ledger.
    fn make(
        &self,
        session: &Arc<LiveSession>,
        book: &mut Book,
        chain: &Chain,
        mut facts: Facts,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<Step, HoldError> {
        book.held.approvals.retain(|approval| {
            let mut paper = approval.paper();
            paper.listed = approval.stands(&paper, now.tick);
            paper.listed
        });
        room_in_chain(book, chain, &facts)?;
        let room = Room::take(&self.kept, body_bytes(&facts)).ok_or(HoldError::Full)?;
        let mut scene = Scene { session, book };
        bound(&mut scene, &mut facts, now)?;
        let approval = Arc::new(LiveApproval::new(
            facts,
            Arc::downgrade(session),
            Some(room),
        ));
        scene.book.held.approvals.push(Arc::clone(&approval));
        scene.note_approvals();
        let facts = &approval.facts;
        let row = ApprovalRow {
            facts: facts.clone(),
            stage: Stage::Pending,
            since: facts.created_at,
            votes: Vec::new(),
            ending: None,
            outcome: None,
            delivered: false,
        };
        let notice = Some(NoticeRow::requested(facts).id);
        let change = Change::Hold(Box::new(row));
        let told = self.tell_approval(
            &approval,
            "requested",
            Stage::Pending,
            Said::default(),
            cause,
            now.wall,
        );
        let step = self.step(&approval, change, "requested", notice, now);
        Ok(step.with_record(told))
    }

    /// Where it is found by its id.
    pub(super) fn list_approval(&self, approval: &Arc<LiveApproval>) {
        let all = self.approvals.write();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.insert(approval.facts.id, Arc::clone(approval));
    }
}

/// As many wait as may.
fn room_in_chain(book: &Book, chain: &Chain, facts: &Facts) -> Result<(), HoldError> {
    let pending = book.held.approvals.iter();
    let pending = pending.filter(|approval| approval.stage() == Stage::Pending);
    let (mut all, mut alike) = (0, 0);
    for approval in pending {
        all += 1;
        let same = match (&approval.facts.asked, &facts.asked) {
            (Asked::Call(one), Asked::Call(other)) => one.route == other.route,
            (Asked::Grant(_), Asked::Grant(_)) => approval.facts.scope == facts.scope,
            _ => false,
        };
        alike += u32::from(same);
    }
    for (waiting, max, of_route) in [
        (alike, chain.pending_per_route, true),
        (all, chain.pending_per_session, false),
    ] {
        if waiting >= max {
            return Err(HoldError::TooManyPending { max, of_route });
        }
    }
    Ok(())
}

/// Within its session's end and its grant's, one use of which is reserved.
fn bound(scene: &mut Scene<'_>, facts: &mut Facts, now: Now) -> Result<(), HoldError> {
    let session = &scene.session.facts;
    facts.ends = facts.ends.min(session.ends);
    facts.expires_at = facts.expires_at.min(session.expires_at);
    let Asked::Call(call) = &facts.asked else {
        return Ok(());
    };
    let GrantUse::Stored(id) = call.grant else {
        return Ok(());
    };
    if !scene.reserve(id, now.tick) {
        return Err(HoldError::GrantMissing);
    }
    if let Some(grant) = scene.book.held.grants.iter().find(|grant| grant.id == id) {
        facts.ends = facts.ends.min(grant.ends);
        facts.expires_at = facts.expires_at.min(grant.expires_at);
    }
    Ok(())
}

/// What is being made is withdrawn unless it came to be, and those who wait to join it look again.
struct Making<'t> {
    table: &'t Table,
    approval: &'t Arc<LiveApproval>,
    now: Now,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let Making {
            table,
            approval,
            now,
        } = self;
        approval.with(|scene, paper| {
            if !paper.made && approval.stage() == Stage::Pending {
                if let (Some(grant), Some(mut scene)) = (approval.grant(), scene) {
                    scene.release(grant);
                }
                // The store may have it, and a notice of it, and the ledger a record: the sweep takes it out.
                paper.unasked = true;
                paper.owes |= OWES_RECORD;
                paper.ending = Some(Ending::by_itself(NEVER_ASKED, *now));
                approval.enter(paper, Stage::Withdrawn, *now);
                approval.show(paper, Stage::Withdrawn);
            }
            paper.made = true;
        });
        table.list_approval(approval);
        approval.turn.notify_waiters();
    }
}
