//! Why a change was refused or failed. Texts say where and what to do; none carries a value that came from outside
//! but names.

use super::super::StoreFault;
use super::grants::WHY_BYTES_MAX;
use super::mint::{ATTRIBUTE_NAME_BYTES_MAX, DEPTH_MAX, INTENT_BYTES_MAX, RUN_BYTES_MAX};
use crate::ledger::Unavailable;
use crate::policy::id::{GrantId, SessionId};
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use crate::policy::resource::Resource;
use crate::policy::subject::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX};
use std::time::Duration;

/// Why no session was minted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MintError {
    /// The policy has no such agent.
    #[error("`agent`: the policy of project {project} has no agent {agent}")]
    AgentUnknown {
        /// The ruleset.
        project: ProjectName,
        /// What was asked for.
        agent: AgentName,
    },
    /// Nothing, or more than the agent may have.
    #[error("`ttl`: {}s is not between a microsecond and the agent's max_ttl, {}s", asked.as_secs_f64(), max.as_secs_f64())]
    Ttl {
        /// What was asked for.
        asked: Duration,
        /// `session.max_ttl`.
        max: Duration,
    },
    /// Another than its parent's.
    #[error("`bind`: the parent is bound to another certificate, and its children with it")]
    Bond,
    /// Too many.
    #[error("`attributes`: at most {ATTRIBUTES_MAX} are kept")]
    Attributes,
    /// Not a name a pattern could write.
    #[error(
        "`attributes`: {name:?} is no attribute name; letters, digits, `_`, `-` and `.`, beginning with a letter or \
         `_`, at most {ATTRIBUTE_NAME_BYTES_MAX}"
    )]
    AttributeName {
        /// The name.
        name: Box<str>,
    },
    /// Empty or too long.
    #[error("`attributes.{name}`: a value has 1 to {ATTRIBUTE_BYTES_MAX} bytes")]
    AttributeValue {
        /// The name.
        name: Box<str>,
    },
    /// `scopes: {}`.
    #[error(
        "`scopes`: an empty object would leave nothing; name the scopes to keep, or leave `scopes` out"
    )]
    NarrowingEmpty,
    /// `resources: []`.
    #[error(
        "`scopes.{scope}.resources`: an empty list would leave nothing; name resources, or leave it out"
    )]
    ResourcesEmpty {
        /// Of which scope.
        scope: ScopeName,
    },
    /// `uses: 0`.
    #[error("`scopes.{scope}.uses`: at least 1")]
    UsesZero {
        /// Of which scope.
        scope: ScopeName,
    },
    /// Not in the agent's ceiling.
    #[error("`scopes.{scope}`: agent {agent} may never hold it, and `scopes` only narrows")]
    ScopeOutside {
        /// The scope.
        scope: ScopeName,
        /// The agent.
        agent: AgentName,
    },
    /// Not in the parent's ceiling.
    #[error(
        "`scopes.{scope}`: the parent {parent} may not hold it, and a child lies within its parent"
    )]
    ScopeOutsideParent {
        /// The scope.
        scope: ScopeName,
        /// The parent.
        parent: SessionId,
    },
    /// Empty or too long.
    #[error("`run`: 1 to {RUN_BYTES_MAX} bytes")]
    Run,
    /// Empty or too long.
    #[error("`intent`: 1 to {INTENT_BYTES_MAX} bytes")]
    Intent,
    /// Unknown, of another project, ended or in quarantine: one answer for all.
    #[error("`parent`: {parent} is not a live session of this project")]
    Parent {
        /// What was asked for.
        parent: SessionId,
    },
    /// Too many generations.
    #[error("`parent`: {parent} has {DEPTH_MAX} sessions above it; none can be minted under it")]
    Depth {
        /// What was asked for.
        parent: SessionId,
    },
    /// `session.max_live`.
    #[error("agent {agent} has {max} live sessions, its `session.max_live`; end one first")]
    Full {
        /// The agent.
        agent: AgentName,
        /// How many it may have.
        max: u32,
    },
    /// The store has a fault.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The ledger has a fault.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
}

/// Why no grant was given.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GiveError {
    /// Not in the session's ceiling.
    #[error("`scope`: this session may never hold {scope}")]
    ScopeOutside {
        /// What was asked for.
        scope: ScopeName,
    },
    /// Nothing to ask for.
    #[error(
        "`scope`: {scope} needs no stored grant; make the call, its grant is made when it is used"
    )]
    OnUse {
        /// What was asked for.
        scope: ScopeName,
    },
    /// Not in the session's ceiling.
    #[error("`resource`: this session may never hold {scope} on {resource}")]
    ResourceOutside {
        /// What was asked for.
        scope: ScopeName,
        /// On what.
        resource: Resource,
    },
    /// Nothing, or too many.
    #[error("`uses`: {scope} is granted for 1 to {max} uses")]
    Uses {
        /// What was asked for.
        scope: ScopeName,
        /// The ceiling.
        max: u32,
    },
    /// Nothing, or too long.
    #[error("`ttl`: {scope} is granted for at most {}s", max.as_secs_f64())]
    Ttl {
        /// What was asked for.
        scope: ScopeName,
        /// The ceiling.
        max: Duration,
    },
    /// Too long.
    #[error("`reason`: at most {WHY_BYTES_MAX} bytes")]
    Why,
    /// All that there are.
    #[error("this session was given {max} grants of {scope}, all it may have in its life")]
    Exhausted {
        /// What was asked for.
        scope: ScopeName,
        /// The ceiling.
        max: u32,
    },
    /// There is one.
    #[error("grant {held} of {scope} on the same resource is live; use it, or give it back first")]
    Conflict {
        /// What was asked for.
        scope: ScopeName,
        /// The one there is.
        held: GrantId,
    },
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// The session is in quarantine.
    #[error("the session is in quarantine; an operator must release it first")]
    Quarantined,
    /// The store has a fault.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The ledger has a fault.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
}

/// Why another change was not made, or not made for good.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// There is nothing to release.
    #[error("the session is not in quarantine")]
    NotQuarantined,
    /// It was put in quarantine again while it was being released, and stays there.
    #[error("the session was put in quarantine again meanwhile; look at it before you release it")]
    QuarantinedAgain,
    /// The store has a fault. What takes power away is in force all the same.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The ledger has a fault. What takes power away is in force all the same.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
}
