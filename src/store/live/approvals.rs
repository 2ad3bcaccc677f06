//! Approvals: held requests and what people say of them. Durable before anything follows from them.
//!
//! An approval belongs to a session. Its stages change under the session's lock and then its own, so that with the grants
//! and the end of the session there is one order, in memory, in the store and in the ledger. No lock is held while a commit
//! is waited for.
//!
//! - What **gives** (agreement, the return of a run that sent nothing, an operator's finding that it did not run) is durable
//!   and recorded, and only then visible. A fault undoes it.
//! - What **takes** (denial, withdrawal, expiry, the step to `executing`, an outcome nobody knows) is visible first. Should
//!   store or ledger fail, the approval *owes*, and the sweep goes on trying.
//! - A run is begun once: [`Sessions::begin`] returns the one [`Run`]. Where the step to it fails, nothing was sent, and the
//!   sweep brings the approval back to `approved`.
//!
//! It refuses to know who may decide (an argument), what a request means, and how it is run.

mod book;
mod give;
mod hold;
mod kept;
mod resolve;
mod restore;
mod run;
mod step;
mod sweep;
mod take;
mod vote;

pub(super) use restore::restore;
pub(super) use step::Step;

use super::{LiveSession, Sessions};
use crate::ledger::Unavailable;
use crate::policy::approval::{Facts, NOTE_BYTES_MAX, RequestDigest, Stage, Vote, Word};
use crate::policy::id::ApprovalId;
use crate::policy::name::{PrincipalName, ProjectName};
use crate::policy::time::{Now, Timestamp};
use crate::store::StoreFault;
use crate::store::news::News;
use book::Paper;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Notify, watch};

pub use super::super::approval::{Ending, Outcome};
pub(super) use kept::Kept;
pub use kept::{OVER_BYTES_MAX, OVER_MAX, VIEWED_FOR, WAITING_BYTES_MAX, WAITING_MAX};
pub use run::Run;

/// One approval, as it stands.
#[derive(Debug)]
pub struct LiveApproval {
    /// What never changes.
    pub facts: Facts,
    /// Written under `paper`, read without.
    stage: watch::Sender<Stage>,
    /// Gone once the session has ended and nobody looks at it any more.
    session: Weak<LiveSession>,
    paper: Mutex<Paper>,
    /// Changes under way; while there are any, the sweep leaves it alone.
    busy: AtomicU32,
    /// A change under way has come to its end.
    turn: Notify,
}

/// An approval that a request stands under.
#[derive(Debug)]
pub enum Held {
    /// It was made for this request; durable and recorded.
    Made(Arc<LiveApproval>),
    /// The same request was held before.
    Joined(Arc<LiveApproval>),
}

/// Why no approval was made.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// As many of the session wait as may, in all or of this route.
    #[error("{max} approvals of this session wait already{of}", of = if *.of_route { " for this route" } else { "" })]
    TooManyPending {
        /// How many.
        max: u32,
        /// Which of the two.
        of_route: bool,
    },
    /// As many wait in all as the gate keeps, or their bodies take as much memory as it gives them.
    #[error("the gate holds as many requests as it can; try again later")]
    Full,
    /// No stored grant has a use left that is not reserved.
    #[error("no grant has a use left for it")]
    GrantMissing,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// The session is in quarantine.
    #[error("the session is in quarantine")]
    Quarantined,
    /// The store could not make it durable.
    #[error("{0}")]
    Store(#[from] StoreFault),
    /// The ledger could not record it.
    #[error("{0}")]
    Ledger(#[from] Unavailable),
}

/// Why a word was not taken, or a stage not left.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// It does not wait any more.
    #[error("it is {} already", .0.as_str())]
    Late(Stage),
    /// The digest is not the one that was shown.
    #[error("what was shown is not what is asked: look at it again")]
    Changed,
    /// This principal said something else before.
    #[error("you have said the opposite of it already")]
    OtherWord,
    /// Not in the chain's groups, or not a principal of the project any more.
    #[error("you are in none of the groups that decide it")]
    NotApprover,
    /// Too long.
    #[error("`note`: at most {NOTE_BYTES_MAX} bytes")]
    Note,
    /// Minted the session.
    #[error("who minted the session can't decide for it")]
    Minter,
    /// The store could not make it durable.
    #[error("{0}")]
    Store(#[from] StoreFault),
    /// The ledger could not record it.
    #[error("{0}")]
    Ledger(#[from] Unavailable),
}

/// A principal's word, and on what.
#[derive(Clone, Debug)]
pub struct Ballot<'a> {
    /// Who; authenticated.
    pub principal: &'a PrincipalName,
    /// What.
    pub word: Word,
    /// What was shown.
    pub digest: RequestDigest,
    /// Why.
    pub note: Option<&'a str>,
}

impl Sessions {
    /// What happens to approvals and quarantines, as it happens.
    pub fn news(&self) -> &News {
        &self.0.news
    }

    /// The approval of this id, for as long as it is kept.
    pub fn approval(&self, id: ApprovalId) -> Option<Arc<LiveApproval>> {
        let all = self.0.approvals.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        all.get(&id).cloned()
    }

    /// At most `limit` approvals of these projects, oldest first, behind `after`; at one of `stages`, if any are named.
    pub fn approvals(
        &self,
        projects: &[ProjectName],
        stages: &[Stage],
        after: Option<ApprovalId>,
        limit: usize,
    ) -> Vec<Arc<LiveApproval>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self.0.approvals.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let behind = all.range((from, Bound::Unbounded));
        behind
            .map(|(_, approval)| approval)
            .filter(|approval| projects.contains(&approval.facts.project))
            .filter(|approval| stages.is_empty() || stages.contains(&approval.stage()))
            .take(limit)
            .cloned()
            .collect()
    }

    /// The approval that the same request of the session stands under: one that is not over, one that was executed and
    /// whose answer was not delivered, or one that was denied within `denied_for`.
    pub fn standing(
        &self,
        session: &LiveSession,
        digest: RequestDigest,
        now: Now,
    ) -> Option<Arc<LiveApproval>> {
        let book = super::locked(&session.book);
        book.held
            .approvals
            .iter()
            .find(|approval| {
                approval.facts.digest == digest && {
                    let paper = approval.paper();
                    paper.made && approval.stands(&paper, now.tick)
                }
            })
            .cloned()
    }
}

impl LiveSession {
    /// Whether any approvals are kept for it: without a lock, for every call asks.
    pub fn holds_approvals(&self) -> bool {
        self.holds_approvals.load(Ordering::Acquire)
    }

    /// Those that the same requests would find, oldest first.
    pub fn approvals(&self) -> Vec<Arc<LiveApproval>> {
        let book = super::locked(&self.book);
        let made = |approval: &&Arc<LiveApproval>| approval.paper().made;
        book.held.approvals.iter().filter(made).cloned().collect()
    }
}

impl LiveApproval {
    /// Whether anybody waits for its next stage.
    pub fn is_watched(&self) -> bool {
        self.stage.receiver_count() > 0
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Tells of every new stage.
    pub fn watch(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether the agent has the answer.
    pub fn is_delivered(&self) -> bool {
        self.paper().delivered
    }

    /// Since when it stands there.
    pub fn since(&self) -> Timestamp {
        self.paper().since
    }

    /// What people said, in order.
    pub fn votes(&self) -> Vec<Vote> {
        self.paper().votes.clone()
    }

    /// How it was decided or ended; `None`: it waits.
    pub fn ending(&self) -> Option<Ending> {
        self.paper().ending.clone()
    }

    /// How its run ended, if it is known.
    pub fn outcome(&self) -> Option<Outcome> {
        let paper = self.paper();
        // A run that is being recorded is not over for anybody yet.
        let over = self.stage() == Stage::Executed;
        paper.outcome.as_deref().filter(|_| over).cloned()
    }
}
