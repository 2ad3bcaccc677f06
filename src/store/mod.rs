//! What must survive a restart: sessions, grants, approvals, quarantines, costs, pins, and what is still to be told. The authority over who is live.
//!
//! [`Store`] is the seam: a durable file today. [`live::Sessions`] is the table that the hot path reads; every
//! change goes through it, so that nothing is acknowledged before it is durable and recorded.
//!
//! What it refuses to do: decide. Whether a call may pass is `policy`'s affair; this only knows what there is.

pub mod approval;
pub mod embedded;
pub mod live;
pub mod news;
pub mod outbox;
pub mod pin;
mod rows;

use crate::policy::approval::Vote;
use crate::policy::attributes::Attributes;
use crate::policy::certificate::Thumbprint;
use crate::policy::id::{ApprovalId, GrantId, SessionId};
use crate::policy::name::{AgentName, LimitId, PrincipalName, ProjectName, ScopeName};
use crate::policy::subject::Narrowing;
use crate::policy::time::Timestamp;
use crate::policy::token::TokenDigest;
use std::future::Future;
use std::pin::Pin;

use approval::{ApprovalRow, Move};
use outbox::NoticeRow;
use pin::{PinKey, PinRow};

/// A future that a store returns.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreFault>> + Send>>;

/// The store could not make a change durable.
#[derive(Clone, Debug, thiserror::Error)]
#[error("store: {0}")]
pub struct StoreFault(pub String);

/// Durable state behind the live table.
pub trait Store: Send + Sync + 'static {
    /// Makes one change durable. Resolves after the commit.
    ///
    /// The change takes its place in the order of changes when this is called, and is made whether or not the future
    /// is awaited. Callers rely on it: order in memory and order on disk are one, and an undo can be sent from `Drop`.
    ///
    /// # Errors
    /// [`StoreFault`]: nothing may be acknowledged.
    fn apply(&self, change: Change) -> StoreFuture<Applied>;
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is durable.
    Done,
    /// Its precondition did not hold (a spent grant, an ended session): nothing changed.
    Refused,
}

/// One durable change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new session.
    Mint(Box<SessionRow>),
    /// A session was revoked: it and its grants are gone.
    End {
        /// Which. Its children go with it.
        session: SessionId,
    },
    /// Nothing of it passes.
    Quarantine {
        /// Whose.
        session: SessionId,
        /// Since when; a session in quarantine keeps its first.
        at: Timestamp,
        /// Why; likewise.
        reason: String,
        /// Who is to be told, the first time.
        notice: Option<Box<NoticeRow>>,
    },
    /// It passes again.
    Release {
        /// Which.
        session: SessionId,
    },
    /// A new stored grant.
    Give(Box<GrantRow>),
    /// One use of a stored grant; refused when none is left.
    Spend {
        /// Which.
        grant: GrantId,
    },
    /// A grant is gone.
    Revoke {
        /// Which.
        grant: GrantId,
    },
    /// What the agent says it is doing.
    Intent {
        /// Whose.
        session: SessionId,
        /// In its words.
        intent: String,
    },
    /// Cost in one bucket of a cost limit, absolute.
    Cost(CostRow),
    /// Counters of a session's cost limits are cleared.
    ClearCost {
        /// Whose.
        session: SessionId,
    },
    /// People are asked; refused where the session is not there.
    Hold(Box<ApprovalRow>),
    /// A word that moves nothing; refused where the approval does not wait, or its principal said something else.
    Vote {
        /// On what.
        approval: ApprovalId,
        /// What.
        vote: Vote,
    },
    /// A word that came to nothing.
    Unvote {
        /// On what.
        approval: ApprovalId,
        /// Whose.
        vote: Vote,
    },
    /// An approval comes to another stage.
    Move(Box<Move>),
    /// The agent has the answer: what was kept of it goes.
    Deliver {
        /// Of which.
        approval: ApprovalId,
    },
    /// It has been kept for long enough, or was never asked; nothing is to be told of it any more.
    Forget {
        /// Which.
        approval: ApprovalId,
    },
    /// Notices become deliveries, in one step.
    FanOut {
        /// [`outbox::NoticeRow::id`] of each.
        notices: Vec<Box<str>>,
        /// What they become.
        deliveries: Vec<outbox::DeliveryRow>,
    },
    /// An attempt to deliver has failed.
    Reschedule {
        /// Of what.
        key: outbox::DeliveryKey,
        /// What follows.
        progress: outbox::Progress,
    },
    /// Deliveries that are done, or not kept any longer.
    Arrive(Vec<outbox::DeliveryKey>),
    /// What is held to of a server's tools, row by row as it stands from now on.
    Pin {
        /// All that differ.
        rows: Vec<PinRow>,
        /// Who is to be told.
        notice: Option<Box<NoticeRow>>,
    },
    /// It is not held to any longer.
    Unpin(Vec<PinKey>),
}

impl Change {
    /// Whether it may leave a notice for the targets of `notify`.
    fn may_notify(&self) -> bool {
        match self {
            Change::Hold(_) => true,
            Change::Move(step) => step.notice.is_some(),
            Change::Quarantine { notice, .. } | Change::Pin { notice, .. } => notice.is_some(),
            _ => false,
        }
    }
}

/// All that was durable when the store was opened.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Parents stand before their children.
    pub sessions: Vec<SessionRow>,
    /// In the order they were made.
    pub grants: Vec<GrantRow>,
    /// Counters of cost limits.
    pub costs: Vec<CostRow>,
    /// How many grants each session was ever given.
    pub given: Vec<GivenRow>,
    /// In the order they were asked.
    pub approvals: Vec<ApprovalRow>,
    /// What targets of `notify` are to be told, oldest first.
    pub deliveries: Vec<outbox::DeliveryRow>,
    /// What servers said of their tools when that was accepted.
    pub pins: Vec<PinRow>,
}

/// How many grants of one scope a session was ever given, those that are gone included.
#[derive(Clone, Debug)]
pub struct GivenRow {
    /// Whose.
    pub session: SessionId,
    /// What it permits.
    pub scope: ScopeName,
    /// How many.
    pub count: u32,
}

/// A session at rest.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Names it.
    pub id: SessionId,
    /// What is kept of its token.
    pub token: TokenDigest,
    /// The ruleset it lives in.
    pub project: ProjectName,
    /// The kind of agent.
    pub agent: AgentName,
    /// What patterns are filled from.
    pub attributes: Attributes,
    /// What it was left of its agent's ceiling.
    pub narrowing: Option<Narrowing>,
    /// Within whose ceiling and end it lies.
    pub parent: Option<SessionId>,
    /// The orchestrator's own name for the run.
    pub run: Option<String>,
    /// The certificate that its token is bound to.
    pub bound_to: Option<Thumbprint>,
    /// What the agent says it is doing.
    pub intent: Option<String>,
    /// Who minted it.
    pub minted_by: PrincipalName,
    /// When.
    pub minted_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Since when and why.
    pub quarantined: Option<(Timestamp, String)>,
}

/// A stored grant at rest.
#[derive(Clone, Debug)]
pub struct GrantRow {
    /// Names it.
    pub id: GrantId,
    /// Whose.
    pub session: SessionId,
    /// What it permits.
    pub scope: ScopeName,
    /// On what; `None`: the session's ceiling.
    pub resource: Option<String>,
    /// Calls it was made for.
    pub uses: u32,
    /// Calls left.
    pub uses_left: u32,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Why, in the asker's words.
    pub why: String,
}

/// Cost of one holder in one bucket.
#[derive(Clone, Debug)]
pub struct CostRow {
    /// The ruleset it lives in.
    pub project: ProjectName,
    /// Which limit.
    pub limit: LimitId,
    /// Session id, agent name, or empty for the project.
    pub holder: String,
    /// Start of the bucket.
    pub bucket: Timestamp,
    /// Millionths.
    pub micros: u64,
}
