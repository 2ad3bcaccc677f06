//! Approvals: held requests and what people say of them. Durable before anything follows from them.
//!
//! An approval belongs to a session and shares its lock: stages, votes and the session's end reach store and ledger in one
//! order. What gives power (agreement) is durable and recorded before it is visible; what takes power (denial,
//! withdrawal, the step to `executing`) is visible first. A run is begun once: [`Sessions::begin`] returns the one [`Run`].

use super::{LiveSession, Sessions};
use crate::ledger::Unavailable;
use crate::ledger::record::Cause;
use crate::policy::approval::{
    Approvers, Chain, Facts, Field, NOTE_BYTES_MAX, RequestDigest, Stage, Vote, Word,
};
use crate::policy::id::{ApprovalId, GrantId};
use crate::policy::name::{PrincipalName, ProjectName};
use crate::policy::time::{Now, Timestamp};
use crate::store::StoreFault;
use crate::store::news::News;
use std::sync::Arc;
use tokio::sync::watch;

/// One approval, as it stands.
#[derive(Debug)]
pub struct LiveApproval {
    /// What never changes.
    pub facts: Facts,
    stage: watch::Sender<Stage>,
}

/// How the run of an approved call ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The backend's; `None`: it never answered, or a grant was given.
    pub status: Option<u16>,
    /// The backend's header fields, as the agent would see them; empty where nothing is kept.
    pub fields: Vec<Field>,
    /// The answer's body, kept until it is delivered; `None`: longer than is kept, streamed, delivered, or found out by a
    /// person.
    pub body: Option<Arc<[u8]>>,
    /// What it was asked for, where that is a grant.
    pub grant: Option<GrantId>,
}

/// How an approval ended or was decided.
#[derive(Clone, Debug)]
pub struct Ending {
    /// When.
    pub at: Timestamp,
    /// Who, where a principal did it.
    pub by: Option<PrincipalName>,
    /// Why: the approver's note, or the gate's words.
    pub note: Option<Box<str>>,
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

/// The one run of an approved request. Dropped without a word of how it ended, it is `unknown`.
#[derive(Debug)]
#[must_use = "a run that nobody ends is recorded as unknown"]
pub struct Run {
    approval: Arc<LiveApproval>,
}

impl Sessions {
    /// What happens to approvals and quarantines, as it happens.
    pub fn news(&self) -> &News {
        unimplemented!()
    }

    /// The approval of this id, for as long as it is kept.
    pub fn approval(&self, id: ApprovalId) -> Option<Arc<LiveApproval>> {
        let _ = id;
        unimplemented!()
    }

    /// At most `limit` approvals of these projects, oldest first, behind `after`; at one of `stages`, if any are named.
    pub fn approvals(
        &self,
        projects: &[ProjectName],
        stages: &[Stage],
        after: Option<ApprovalId>,
        limit: usize,
    ) -> Vec<Arc<LiveApproval>> {
        let _ = (projects, stages, after, limit);
        unimplemented!()
    }

    /// The approval that the same request of the session stands under: one that is not over, one that was executed and
    /// whose answer was not delivered, or one that was denied within `denied_for`.
    pub fn standing(
        &self,
        session: &LiveSession,
        digest: RequestDigest,
        now: Now,
    ) -> Option<Arc<LiveApproval>> {
        let _ = (session, digest, now);
        unimplemented!()
    }

    /// Asks people. Joins what the same request stands under; else makes an approval, which is durable and recorded when
    /// this returns. Reserves one use of the grant that `facts` names. It ends with the session and with that grant at the
    /// latest, whatever `facts` says. `cause`: the agent, or the principal who wants a grant for it.
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
        let _ = (session, chain, facts, cause, now);
        unimplemented!()
    }

    /// Takes a principal's word. The same word twice is one. Returns where the approval then stands: `Approved` once the
    /// quorum of `chain` is met, `Denied` at the first such word. Durable and recorded before it is visible.
    ///
    /// # Errors
    /// [`VoteError`]: it changed nothing.
    pub async fn vote(
        &self,
        approval: &Arc<LiveApproval>,
        ballot: Ballot<'_>,
        chain: &Chain,
        approvers: &Approvers,
        now: Now,
    ) -> Result<Stage, VoteError> {
        let _ = (approval, ballot, chain, approvers, now);
        unimplemented!()
    }

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
        let _ = (approval, why, cause, now);
        unimplemented!()
    }

    /// The step to `executing`, which one caller gets, once. Takes the reserved use of the grant. Durable and recorded when
    /// this returns.
    ///
    /// # Errors
    /// [`VoteError::Late`]: another was faster, or it is over; or store or ledger have a fault, and nothing may run.
    pub async fn begin(&self, approval: &Arc<LiveApproval>, now: Now) -> Result<Run, VoteError> {
        let _ = (approval, now);
        unimplemented!()
    }

    /// The run is over: the outcome is durable and recorded, and seen by all who wait.
    ///
    /// # Errors
    /// [`VoteError`]: store or ledger have a fault; memory has the outcome, and the sweep goes on trying.
    pub async fn finish(&self, run: Run, outcome: Outcome, now: Now) -> Result<(), VoteError> {
        let _ = (run, outcome, now);
        unimplemented!()
    }

    /// Not a byte of the request was written to a backend: it is `approved` again. The grant's use is reserved again.
    ///
    /// # Errors
    /// [`VoteError`]: store or ledger have a fault; then it is `unknown`.
    pub async fn unsent(&self, run: Run, now: Now) -> Result<(), VoteError> {
        let _ = (run, now);
        unimplemented!()
    }

    /// The agent has the answer to its last byte: what was kept of it goes, and the same request is a new one.
    pub fn delivered(&self, approval: &Arc<LiveApproval>) {
        let _ = approval;
        unimplemented!()
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
        let _ = (approval, ran, note, principal, now);
        unimplemented!()
    }
}

impl LiveSession {
    /// Whether any approvals are kept for it: without a lock, for every call asks.
    pub fn holds_approvals(&self) -> bool {
        false
    }

    /// Those that are kept for it, oldest first.
    pub fn approvals(&self) -> Vec<Arc<LiveApproval>> {
        unimplemented!()
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

    /// What people said, in order.
    pub fn votes(&self) -> Vec<Vote> {
        unimplemented!()
    }

    /// How it was decided or ended; `None`: it waits.
    pub fn ending(&self) -> Option<Ending> {
        unimplemented!()
    }

    /// How its run ended, if it is known.
    pub fn outcome(&self) -> Option<Outcome> {
        unimplemented!()
    }
}

impl Run {
    /// Of what.
    pub fn approval(&self) -> &Arc<LiveApproval> {
        &self.approval
    }
}
