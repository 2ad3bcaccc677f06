//! After a restart: approvals as they were acknowledged, and what the restart itself decides.
//!
//! A run that was under way is `unknown` now. What waits for a session that is gone or in quarantine, or for a grant that is
//! gone, is withdrawn. Store and ledger hear of both with the first sweep; before that, another restart says the same.

use super::book::{Due, OWES_RECORD, OWES_STORE, Scene, body_bytes};
use super::kept::Room;
use super::{Ending, LiveApproval, VIEWED_FOR};
use crate::policy::approval::{Facts, Stage, Vote, Word};
use crate::policy::time::Now;
use crate::store::approval::ApprovalRow;
use crate::store::live::{LiveSession, State, Table};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

/// Fills the table, which has its sessions already.
pub(in crate::store::live) fn restore(table: &Table, rows: Vec<ApprovalRow>, now: Now) {
    for row in rows {
        let session = {
            let ids = table.ids.read().unwrap_or_else(PoisonError::into_inner);
            ids.get(&row.facts.session).cloned()
        };
        let approval = approval(table, row, session.as_ref(), now);
        if let Some(session) = &session {
            let mut book = super::super::locked(&session.book);
            if approval.paper().listed {
                book.held.approvals.push(Arc::clone(&approval));
                session.holds_approvals.store(true, Ordering::Release);
            }
        }
        approval.with(|scene, paper| {
            let stage = approval.stage();
            let became = match stage {
                Stage::Executing => Some((Stage::Unknown, None)),
                Stage::Pending | Stage::Approved => {
                    let why = no_use(&approval, session.as_deref(), scene, now);
                    why.map(|why| (Stage::Withdrawn, Some(why)))
                }
                _ => None,
            };
            if let Some((to, why)) = became {
                if let Some(why) = why {
                    paper.ending = Some(Ending::by_itself(why, now));
                }
                approval.enter(paper, to, now);
                approval.show(paper, to);
                paper.owes |= OWES_STORE | OWES_RECORD;
            } else if stage == Stage::Pending {
                paper.due = agreed(&approval.facts, &paper.votes).map(Due::Agree);
            }
        });
        table.list_approval(&approval);
    }
}

fn approval(
    table: &Table,
    row: ApprovalRow,
    session: Option<&Arc<LiveSession>>,
    now: Now,
) -> Arc<LiveApproval> {
    let mut facts = row.facts;
    facts.ends = now.tick_at(facts.expires_at);
    let since = Now {
        wall: row.since,
        // What has passed of it has passed: counted from here on.
        tick: now.tick,
    };
    let session = session.map_or_else(Weak::new, Arc::downgrade);
    let approval = Arc::new(LiveApproval::new(facts, session, None));
    {
        let mut paper = approval.paper();
        approval.enter(&mut paper, row.stage, since);
        let past = now.wall.since(row.since);
        if row.stage.is_over() {
            paper.leaves = now.tick.plus(VIEWED_FOR.saturating_sub(past));
        } else {
            let room = Room::take_anyhow(&table.kept, body_bytes(&approval.facts));
            paper.room = Some(room);
        }
        if row.stage == Stage::Denied {
            paper.until = now
                .tick
                .plus(approval.facts.denied_for.saturating_sub(past));
        }
        paper.made = true;
        paper.votes = row.votes;
        paper.ending = row.ending;
        paper.outcome = row.outcome.map(Box::new);
        paper.delivered = row.delivered;
        approval.show(&mut paper, row.stage);
        // One whose time ran out meanwhile waits for the sweep, or for its session's end, as any other does.
        let waits = matches!(row.stage, Stage::Pending | Stage::Approved);
        paper.listed = waits || approval.stands(&paper, now.tick);
    }
    approval
}

/// Why it can never run; else one use of its grant is reserved again.
fn no_use(
    approval: &LiveApproval,
    session: Option<&LiveSession>,
    scene: Option<Scene<'_>>,
    now: Now,
) -> Option<&'static str> {
    // One that has ended by time alone ends its approvals by time, too.
    match session.map(LiveSession::marked) {
        None | Some(State::Ended) => return Some("its session has ended"),
        Some(State::Quarantined) => return Some("its session is in quarantine"),
        Some(State::Live) => {}
    }
    let (grant, mut scene) = (approval.grant()?, scene?);
    let expired = now.tick >= approval.facts.ends;
    let reserved = expired || scene.reserve(grant, now.tick);
    (!reserved).then_some("the grant that it was to go on is gone")
}

/// All who were needed had agreed when the gate stopped. Whether they still may decide is asked when it is run.
fn agreed(facts: &Facts, votes: &[Vote]) -> Option<Ending> {
    let agreeing = votes
        .iter()
        .filter(|vote| vote.word == Word::Approve && vote.principal != facts.minted_by);
    let last = agreeing.clone().next_back()?;
    (agreeing.count() >= facts.quorum as usize).then(|| Ending {
        at: last.at,
        by: Some(last.principal.clone()),
        note: last.note.clone(),
    })
}
