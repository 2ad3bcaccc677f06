//! What must survive a restart: sessions, grants, quarantines, costs. The authority over who is live.
//!
//! [`Store`] is the seam: a durable file today. [`live::Sessions`] is the table that the hot path reads; every
//! change goes through it, so that nothing is acknowledged before it is durable and recorded.

use crate::policy::id::{GrantId, SessionId};
use crate::policy::name::{AgentName, LimitId, PrincipalName, ProjectName, ScopeName};
use crate::policy::subject::Narrowing;
use crate::policy::time::Timestamp;
use crate::policy::token::TokenDigest;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

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
    End { session: SessionId },
    /// Nothing of it passes.
    Quarantine {
        session: SessionId,
        at: Timestamp,
        reason: String,
    },
    /// It passes again.
    Release { session: SessionId },
    /// A new stored grant.
    Give(Box<GrantRow>),
    /// One use of a stored grant; refused when none is left.
    Spend { grant: GrantId },
    /// A grant is gone.
    Revoke { grant: GrantId },
    /// What the agent says it is doing.
    Intent { session: SessionId, intent: String },
    /// Cost in one bucket of a cost limit, absolute.
    Cost(CostRow),
    /// Counters of a session's cost limits are cleared.
    ClearCost { session: SessionId },
}

/// A session at rest.
#[derive(Clone, Debug)]
pub struct SessionRow {
    pub id: SessionId,
    pub token: TokenDigest,
    pub project: ProjectName,
    pub agent: AgentName,
    pub attributes: BTreeMap<Box<str>, Box<str>>,
    pub narrowing: Option<Narrowing>,
    pub parent: Option<SessionId>,
    pub run: Option<String>,
    pub intent: Option<String>,
    pub minted_by: PrincipalName,
    pub minted_at: Timestamp,
    pub expires_at: Timestamp,
    /// Since when and why.
    pub quarantined: Option<(Timestamp, String)>,
}

/// A stored grant at rest.
#[derive(Clone, Debug)]
pub struct GrantRow {
    pub id: GrantId,
    pub session: SessionId,
    pub scope: ScopeName,
    pub resource: Option<String>,
    pub uses: u32,
    pub uses_left: u32,
    pub expires_at: Timestamp,
    pub why: String,
}

/// Cost of one holder in one bucket.
#[derive(Clone, Debug)]
pub struct CostRow {
    pub project: ProjectName,
    pub limit: LimitId,
    /// Session id, agent name, or empty for the project.
    pub holder: String,
    /// Start of the bucket.
    pub bucket: Timestamp,
    /// Millionths.
    pub micros: u64,
}
