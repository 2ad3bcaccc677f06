//! What changes in the life of an approval, and what is reserved for it among its session's grants.

use super::{Ending, LiveApproval, Outcome};
use crate::policy::approval::{Asked, Facts, Stage, Vote};
use crate::policy::decision::GrantUse;
use crate::policy::id::GrantId;
use crate::policy::name::PrincipalName;
use crate::policy::subject::Grant;
use crate::policy::time::{Now, Tick, Timestamp};
use crate::store::live::approvals::kept::Room;
use crate::store::live::{Book, LiveSession, locked};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What changes.
#[derive(Debug)]
pub(super) struct Paper {
    /// Store and ledger have it. Until then only its maker, and who waits to join, know of it.
    pub made: bool,
    /// It came to nothing while it was made: it leaves with the next sweep.
    pub unasked: bool,
    /// Its session's list has it.
    pub listed: bool,
    pub votes: Vec<Vote>,
    /// Principals whose word is on its way to store and ledger.
    pub casting: Vec<PrincipalName>,
    /// Words that the store may have and that do not count: to be taken out of it.
    pub miscast: Vec<Vote>,
    /// A step that gives is on its way: there is one at a time.
    pub giving: bool,
    /// A step that gives and has to be made, or made to its end.
    pub due: Option<Due>,
    pub since: Timestamp,
    /// Until when it stands at a stage that time ends.
    pub until: Tick,
    /// When, once it is over, it is not shown any more.
    pub leaves: Tick,
    pub ending: Option<Ending>,
    pub outcome: Option<Box<Outcome>>,
    pub delivered: bool,
    /// What memory has done and store or ledger have not yet: [`OWES_STORE`] and its like.
    pub owes: u8,
    /// Its share of what may wait; given back when it is over.
    pub room: Option<Room>,
}

/// A step that gives.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// Enough people agreed; the last of them, and when.
    Agree(Ending),
    /// Not a byte of the run was sent.
    Return,
    /// An operator found out that it did not run.
    Resolve(Ending),
}

impl Due {
    /// The stage that it leads from.
    pub(super) fn before(&self) -> Stage {
        match self {
            Due::Agree(_) => Stage::Pending,
            Due::Return => Stage::Executing,
            Due::Resolve(_) => Stage::Unknown,
        }
    }
}

impl LiveApproval {
    pub(super) fn new(facts: Facts, session: Weak<LiveSession>, room: Option<Room>) -> Self {
        let paper = Paper {
            made: false,
            unasked: false,
            listed: true,
            votes: Vec::new(),
            casting: Vec::new(),
            miscast: Vec::new(),
            giving: false,
            due: None,
            since: facts.created_at,
            until: facts.ends,
            leaves: facts.ends,
            ending: None,
            outcome: None,
            delivered: false,
            owes: 0,
            room,
        };
        Self {
            facts,
            stage: watch::Sender::new(Stage::Pending),
            session,
            paper: Mutex::new(paper),
            busy: AtomicU32::new(0),
            turn: Notify::new(),
        }
    }

    pub(super) fn paper(&self) -> MutexGuard<'_, Paper> {
        locked(&self.paper)
    }

    /// Shows what changes, under the lock of its session and its own: in that order, always. `None`: the session has ended
    /// and is forgotten, and its grants with it.
    pub(super) fn with<T>(&self, act: impl FnOnce(Option<Scene<'_>>, &mut Paper) -> T) -> T {
        let session = self.session.upgrade();
        let mut book = session.as_deref().map(|session| locked(&session.book));
        let scene = session.as_deref().zip(book.as_deref_mut());
        let scene = scene.map(|(session, book)| Scene { session, book });
        act(scene, &mut self.paper())
    }

    /// Whether the same request finds it.
    pub(super) fn stands(&self, paper: &Paper, now: Tick) -> bool {
        match self.stage() {
            Stage::Pending | Stage::Approved | Stage::Unknown | Stage::Denied => now < paper.until,
            Stage::Executing => true,
            Stage::Executed => !paper.delivered && now < paper.until,
            Stage::Expired | Stage::Withdrawn => false,
        }
    }

    /// Whether time ends it now.
    pub(super) fn is_out_of_time(&self, paper: &Paper, now: Tick) -> bool {
        matches!(
            self.stage(),
            Stage::Pending | Stage::Approved | Stage::Unknown
        ) && now >= paper.until
    }

    /// Comes to a stage. What is visible is the caller's to say, with `show`.
    pub(super) fn enter(&self, paper: &mut Paper, stage: Stage, now: Now) {
        let facts = &self.facts;
        paper.since = now.wall;
        // What was to be given from the stage before is not any more.
        paper.due = None;
        paper.leaves = now.tick.plus(super::VIEWED_FOR);
        paper.until = match stage {
            Stage::Denied => now.tick.plus(facts.denied_for),
            // What ran in its last moments can still be asked for.
            Stage::Executed | Stage::Unknown => facts.ends.max(now.tick.plus(GRACE)),
            Stage::Pending
            | Stage::Approved
            | Stage::Expired
            | Stage::Withdrawn
            | Stage::Executing => facts.ends,
        };
        if stage.is_over() {
            paper.room = None;
        }
    }

    /// All who wait see its stage. The lock of `paper` is held.
    pub(super) fn show(&self, _paper: &mut Paper, stage: Stage) {
        self.stage.send_replace(stage);
        self.turn.notify_waiters();
    }

    /// The stored grant that its call goes on.
    pub(super) fn grant(&self) -> Option<GrantId> {
        match &self.facts.asked {
            Asked::Call(call) => match call.grant {
                GrantUse::Stored(grant) => Some(grant),
                GrantUse::OnUse => None,
            },
            Asked::Grant(_) => None,
        }
    }

    /// Bytes of the request's body, and of the answer's while that is kept.
    pub(super) fn bytes(&self, paper: &Paper) -> usize {
        let kept = paper
            .outcome
            .as_ref()
            .and_then(|outcome| outcome.body.as_ref());
        body_bytes(&self.facts) + kept.map_or(0, |body| body.len())
    }

    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }
}

/// Bytes of the body that people are shown.
pub(super) fn body_bytes(facts: &Facts) -> usize {
    match &facts.asked {
        Asked::Call(call) => call.body.len(),
        Asked::Grant(_) => 0,
    }
}

/// The session of an approval and what changes in it, locked.
pub(super) struct Scene<'a> {
    pub session: &'a LiveSession,
    pub book: &'a mut Book,
}

impl Scene<'_> {
    /// What calls read of the list without its lock.
    pub fn note_approvals(&self) {
        let any = !self.book.held.approvals.is_empty();
        self.session.holds_approvals.store(any, Ordering::Release);
    }

    /// The call's use is kept for it: `false` if there is none.
    pub fn reserve(&mut self, grant: GrantId, now: Tick) -> bool {
        let held = self.find(grant).filter(|held| held.free_at(now));
        held.map(|held| held.reserved += 1).is_some()
    }

    /// It is kept for it no longer.
    pub fn release(&mut self, grant: GrantId) {
        if let Some(held) = self.find(grant) {
            held.reserved = held.reserved.saturating_sub(1);
        }
    }

    /// The reserved use is taken: `false` if there is none.
    pub fn take(&mut self, grant: GrantId, now: Tick) -> bool {
        let held = self.find(grant);
        let held = held.filter(|held| held.reserved > 0 && held.live_at(now));
        held.map(|held| {
            held.reserved -= 1;
            held.uses_left -= 1;
        })
        .is_some()
    }

    /// The use was not made: it is there again, and reserved again.
    pub fn give_back(&mut self, grant: GrantId) {
        if let Some(held) = self.find(grant) {
            held.uses_left = (held.uses_left + 1).min(held.uses);
            held.reserved += 1;
        }
    }

    /// The same request does not find it any more.
    pub fn strike(&mut self, approval: &Arc<LiveApproval>) {
        let others = |one: &Arc<LiveApproval>| !Arc::ptr_eq(one, approval);
        self.book.held.approvals.retain(others);
        self.note_approvals();
    }

    fn find(&mut self, grant: GrantId) -> Option<&mut Grant> {
        let mut grants = self.book.held.grants.iter_mut();
        grants.find(|held| held.id == grant)
    }
}

/// Marks a change of an approval under way for as long as it lives; who waits for its turn is told of its end.
#[derive(Debug)]
pub(super) struct Busy(Arc<LiveApproval>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
        self.0.turn.notify_waiters();
    }
}

/// The store does not have its stage.
pub(super) const OWES_STORE: u8 = 1;
/// The ledger has no record of it.
pub(super) const OWES_RECORD: u8 = 2;
/// The store still has an answer that was delivered.
pub(super) const OWES_DELIVERY: u8 = 4;

/// How long an answer, or an outcome that nobody knows, stands at least.
const GRACE: Duration = Duration::from_secs(600);
