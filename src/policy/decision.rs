//! What a decision says: allow with a permit, or deny with a reason from a closed set.

use super::approval::Chain;
use super::id::{ApprovalId, GrantId, SessionId};
use super::mcp::Exempt;
use super::model::{Route, Tool};
use super::name::ScopeName;
use super::resource::Resource;
use super::shadow::{Shadowed, WouldBe};

/// The outcome of [`super::decide`].
#[derive(Debug)]
pub enum Decision<'p> {
    /// The call may be recorded and forwarded, on this permit.
    Allow(Permit<'p>),
    /// It may be once a person agrees.
    Hold(Hold<'p>),
    /// It may not.
    Deny(Denial),
}

/// Evidence that `decide` allowed one call. Not `Clone`, built only in `policy`, consumed by forwarding.
#[derive(Debug)]
pub struct Permit<'p> {
    pub(super) route: &'p Route,
    pub(super) resource: Option<Resource>,
    pub(super) grant: GrantUse,
    pub(super) approval: Option<ApprovalId>,
}

/// What a call is forwarded on: nothing leaves without one.
#[derive(Debug)]
pub enum Evidence<'p> {
    /// It was allowed.
    Permit(Permit<'p>),
    /// It was not, on a route in shadow.
    Shadowed(Shadowed<'p>),
    /// It belongs to the tool's protocol itself, and needs neither route nor grant.
    Protocol(Exempt),
}

impl<'p> Evidence<'p> {
    /// The matched route.
    pub fn route(&self) -> Option<&'p Route> {
        match self {
            Evidence::Permit(permit) => Some(permit.route),
            Evidence::Shadowed(shadowed) => Some(shadowed.route()),
            Evidence::Protocol(_) => None,
        }
    }

    /// What would have been decided; `None`: it was allowed.
    pub fn would(&self) -> Option<WouldBe> {
        match self {
            Evidence::Permit(_) | Evidence::Protocol(_) => None,
            Evidence::Shadowed(shadowed) => Some(shadowed.would()),
        }
    }

    /// What the call goes on; `None`: on none.
    pub fn grant(&self) -> Option<GrantUse> {
        match self {
            Evidence::Permit(permit) => Some(permit.grant()),
            Evidence::Shadowed(_) | Evidence::Protocol(_) => None,
        }
    }
}

/// Evidence that a person's word is all that one call lacks. Built only in `policy`; [`super::redeem`] makes a [`Permit`]
/// of it and of that word.
#[derive(Debug)]
pub struct Hold<'p> {
    pub(super) session: SessionId,
    pub(super) route: &'p Route,
    pub(super) tool: &'p Tool,
    pub(super) resource: Option<Resource>,
    pub(super) grant: GrantUse,
    pub(super) chain: &'p Chain,
}

impl<'p> Hold<'p> {
    /// The matched route.
    pub fn route(&self) -> &'p Route {
        self.route
    }

    /// What the call acts on.
    pub fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    /// What it would go on. Of a stored grant all uses may be reserved already, for this very request or for others.
    pub fn grant(&self) -> GrantUse {
        self.grant
    }

    /// Who decides.
    pub fn chain(&self) -> &'p Chain {
        self.chain
    }
}

/// Why what people agreed to may not run any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// Another session, route, scope, resource, backend, chain or way to its grant is in force for it.
    #[error("the policy has changed: its {0} is not the one that was agreed to")]
    Changed(&'static str),
    /// Of those who agreed, too few may decide it now.
    #[error("of those who agreed, too few may still decide it")]
    Quorum,
}

/// The grant a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantUse {
    /// Minted at the moment of the call and gone after it.
    OnUse,
    /// One use of a stored grant; must be taken, durably, before forwarding.
    Stored(GrantId),
}

impl<'p> Permit<'p> {
    /// The matched route.
    pub fn route(&self) -> &'p Route {
        self.route
    }

    /// What the call acts on.
    pub fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    /// What it goes on.
    pub fn grant(&self) -> GrantUse {
        self.grant
    }

    /// By whose word; `None`: nobody's was needed.
    pub fn approval(&self) -> Option<ApprovalId> {
        self.approval
    }
}

/// The policy said no: expected, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// The scope that was needed.
    pub scope: Option<ScopeName>,
    /// What the call acts on.
    pub resource: Option<Resource>,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Every reason the gate gives, as it appears in problem documents, ledger and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them, in the order of the contract's table.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The code in snake case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// No bearer token.
    CredentialMissing = "credential_missing",
    /// Unknown, malformed, expired or revoked: one answer for all.
    CredentialInvalid = "credential_invalid",
    /// The session waits for an operator.
    Quarantined = "quarantined",
    /// Two readers could disagree on the target.
    TargetAmbiguous = "target_ambiguous",
    /// No route for method and path.
    NoRoute = "no_route",
    /// The agent may never hold this scope.
    ScopeOutsideCeiling = "scope_outside_ceiling",
    /// The agent or session may never hold it on this resource.
    ResourceOutsideCeiling = "resource_outside_ceiling",
    /// It may be held, and is not.
    GrantMissing = "grant_missing",
    /// Too much.
    LimitExceeded = "limit_exceeded",
    /// A person is asked.
    PendingApproval = "pending_approval",
    /// A person said no.
    ApprovalDenied = "approval_denied",
    /// Nobody answered in time.
    ApprovalExpired = "approval_expired",
    /// The approved call ran, or may have, and nobody knows how it ended.
    OutcomeUnknown = "outcome_unknown",
    /// A condition can't be judged for this call.
    Unevaluable = "unevaluable",
    /// The conditions of no route of the match hold.
    ConditionUnmet = "condition_unmet",
    /// What the server says of its tool is not what was accepted, or not known.
    ToolChanged = "tool_changed",
    /// A body was needed and is over its bound.
    BodyTooLarge = "body_too_large",
    /// A body was needed and can't be read.
    BodyUnreadable = "body_unreadable",
    /// Framing, head, method, Host.
    RequestMalformed = "request_malformed",
    /// A field that may not be sent.
    FieldForbidden = "field_forbidden",
    /// Bad JSON to `/.toolgate/` or the admin API.
    InvalidInput = "invalid_input",
    /// Unknown id.
    NotFound = "not_found",
    /// As many of the session's calls wait for a person as may.
    TooManyPending = "too_many_pending",
    /// What people agreed to is not what the present policy would let run.
    ApprovalVoid = "approval_void",
    /// The approved call ran; its answer was not kept.
    OutcomeNotKept = "outcome_not_kept",
    /// Admin: the principal's roles do not permit it.
    RoleMissing = "role_missing",
    /// Admin: late or changed.
    Conflict = "conflict",
    /// The route demands an intent.
    IntentMissing = "intent_missing",
    /// The backend refused, reset or spoke nonsense.
    UpstreamFailed = "upstream_failed",
    /// The backend was too slow.
    UpstreamTimeout = "upstream_timeout",
    /// The decision could not be recorded.
    LedgerUnavailable = "ledger_unavailable",
    /// The store could not make it durable.
    StoreUnavailable = "store_unavailable",
    /// A bound of the gate itself was met.
    Overloaded = "overloaded",
    /// The gate itself failed on this call.
    Internal = "internal",
}
