//! Routes in shadow: what the policy denies there is written down and passes all the same, so that a policy can be tried
//! on real calls before it is in their way.
//!
//! What passes has no [`Permit`](super::decision::Permit), for nothing allowed it, and spends nothing. Its evidence is
//! [`Shadowed`], which only this module makes: of routes in shadow alone, and of denials that are the policy's own. What
//! protects the gate and the backend from a caller (who it is, what its target is, how it is framed, a quarantine, the
//! ledger) is none of those: it refuses in shadow too.

use super::decision::Reason;
use super::model::{Policy, Route};
use super::route::Matched;

/// What would have been decided of a call, had its route not been in shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WouldBe {
    decision: Would,
    reason: Reason,
}

/// The word of such a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Would {
    /// It would have been refused.
    Deny,
    /// People would have been asked.
    Hold,
}

impl Would {
    /// As records and metrics have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Would::Deny => "deny",
            Would::Hold => "hold",
        }
    }
}

impl WouldBe {
    /// What stands for this reason; `None`: it is not the policy that says so of a route, or not to be let through.
    pub const fn of(reason: Reason) -> Option<Self> {
        let decision = match reason {
            Reason::ScopeOutsideCeiling
            | Reason::ResourceOutsideCeiling
            | Reason::GrantMissing
            | Reason::LimitExceeded
            | Reason::Unevaluable
            | Reason::ConditionUnmet
            | Reason::ToolChanged
            | Reason::BodyTooLarge
            | Reason::BodyUnreadable
            | Reason::IntentMissing => Would::Deny,
            Reason::PendingApproval => Would::Hold,
            // Who calls, what a call is, and a brake that was pulled.
            Reason::CredentialMissing
            | Reason::CredentialInvalid
            | Reason::Quarantined
            | Reason::TargetAmbiguous
            | Reason::RequestMalformed
            | Reason::FieldForbidden
            | Reason::InvalidInput
            // No route, and so none in shadow.
            | Reason::NoRoute
            | Reason::NotFound
            // What people were asked before, and what came of it.
            | Reason::ApprovalDenied
            | Reason::ApprovalExpired
            | Reason::ApprovalVoid
            | Reason::OutcomeUnknown
            | Reason::OutcomeNotKept
            | Reason::TooManyPending
            // Principals' calls.
            | Reason::RoleMissing
            | Reason::Conflict
            // Faults.
            | Reason::UpstreamFailed
            | Reason::UpstreamTimeout
            | Reason::LedgerUnavailable
            | Reason::StoreUnavailable
            | Reason::Overloaded
            | Reason::Internal => return None,
        };
        Some(Self { decision, reason })
    }

    /// Whether it would have been refused or held.
    pub const fn decision(self) -> Would {
        self.decision
    }

    /// Why.
    pub const fn reason(self) -> Reason {
        self.reason
    }
}

/// Evidence that one call passes because its route is in shadow. Not `Clone`, built only here, consumed by forwarding.
#[derive(Debug)]
pub struct Shadowed<'p> {
    route: &'p Route,
    would: WouldBe,
}

impl<'p> Shadowed<'p> {
    /// The matched route.
    pub fn route(&self) -> &'p Route {
        self.route
    }

    /// What would have been decided.
    pub fn would(&self) -> WouldBe {
        self.would
    }
}

/// Lets a call on this route pass that would be refused or held for this reason; `None`: it stays refused.
pub fn shadowed(route: &Route, reason: Reason) -> Option<Shadowed<'_>> {
    let would = WouldBe::of(reason)?;
    route.shadow.then_some(Shadowed { route, would })
}

/// Whether every route that may judge a call of this match is in shadow. As long as it is not known which of them does, a
/// call passes on none: else an agent could say what is judged by none of them, and be let past the enforced ones.
pub fn all_shadowed(policy: &Policy, first: &Matched<'_>) -> bool {
    let mut arms = policy.table.arms(*first);
    arms.all(|arm| policy.route(arm.route).shadow)
}
