//! Objects that the admin API shows. Tokens and their digests are in none of them.

use crate::policy::approval::Asked;
use crate::policy::limit::{Bound, Per};
use crate::policy::model::{LimitIndex, Policy};
use crate::policy::subject::{Grant, Narrowing};
use crate::policy::time::{Now, Timestamp, seconds_up};
use crate::store::live::LiveSession;
use crate::store::live::approvals::LiveApproval;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct List<T> {
    pub items: Vec<T>,
    /// Give it as `after` for the next page; null on the last.
    pub next: Option<String>,
}

/// A new session. The token is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct MintedView<'a> {
    pub id: String,
    /// `tgs_...`: what the agent's tools send as `Authorization: Bearer`.
    pub token: &'a str,
    pub expires_at: String,
}

/// One run of an agent.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct SessionView {
    /// `ses_...`
    pub id: String,
    pub project: String,
    pub agent: String,
    /// `live`, `quarantined` or `ended`.
    pub state: &'static str,
    /// The orchestrator's own name for the run.
    pub run: Option<String>,
    /// What the agent says it is doing.
    pub intent: Option<String>,
    /// The session within whose ceiling and end this one lies.
    pub parent: Option<String>,
    /// What its token is bound to; null: whoever has it may use it.
    pub bind: Option<BindView>,
    pub attributes: BTreeMap<String, String>,
    /// What the session was narrowed to; null: the agent's whole ceiling.
    pub scopes: Option<BTreeMap<String, NarrowedView>>,
    /// The principal who minted it.
    pub minted_by: String,
    pub minted_at: String,
    pub expires_at: String,
    /// Since when nothing of it passes.
    pub quarantined_at: Option<String>,
    /// Why.
    pub quarantine_reason: Option<String>,
    /// Stored grants; in lists left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<GrantView>>,
    /// What of it people were asked, oldest first; in lists left out. Approvers see each whole: `GET /v1/approvals/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Vec<AskedView>>,
    /// Where its own limits stand; in lists left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<LimitView>>,
}

/// What a session's token is bound to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct BindView {
    /// `x5t#S256` of the certificate that its connections must show (RFC 8705).
    pub certificate: String,
}

/// What a session was left of one scope; a member that is absent is as the agent's ceiling has it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct NarrowedView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

/// A stored grant.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct GrantView {
    /// `grt_...`
    pub id: String,
    pub session: String,
    pub scope: String,
    /// Null: whatever the session's ceiling for the scope covers.
    pub resource: Option<String>,
    /// `live`, `spent`, `expired` or `revoked`.
    pub state: &'static str,
    pub uses: u32,
    pub uses_left: u32,
    pub expires_at: String,
    /// Why it was asked for.
    pub reason: String,
}

/// What a person was asked, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct AskedView {
    /// `apr_...`
    pub id: String,
    /// `pending`, `approved`, `denied`, `expired`, `withdrawn`, `executing`, `executed` or `unknown`.
    pub state: &'static str,
    /// `call` or `grant`.
    pub asked: &'static str,
    /// The rule, where a call was asked for.
    pub route: Option<String>,
    pub scope: String,
    pub resource: Option<String>,
    /// Who decides.
    pub chain: String,
    pub created_at: String,
    pub expires_at: String,
}

/// Where one limit of a session stands.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct LimitView {
    pub id: String,
    /// `rate`, `count`, `repeats` or `cost`.
    pub kind: &'static str,
    /// Calls within bounds in one window; for a cost, its amount.
    #[schema(value_type = f64)]
    pub quota: serde_json::Number,
    pub window_seconds: u64,
    /// Calls, or the amount, that still fit now.
    #[schema(value_type = f64)]
    pub remaining: serde_json::Number,
    /// Until more fit.
    pub resets_in_seconds: u64,
}

/// A grant that a person must agree to first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct PendingView {
    /// `PENDING_APPROVAL`
    pub status: &'static str,
    /// `apr_...`
    pub approval: String,
    /// Who decides.
    pub chain: String,
    /// When the question ends by itself.
    pub expires_at: String,
}

/// A policy in force.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct PolicyView {
    pub project: String,
    /// SHA-256 of the project file.
    pub hash: String,
    pub agents: Vec<String>,
    pub tools: Vec<String>,
    pub routes: usize,
    pub limits: usize,
}

impl SessionView {
    /// For a list.
    pub(in crate::serve) fn brief(session: &LiveSession, now: Now) -> Self {
        let facts = &session.facts;
        Self {
            id: facts.id.to_string(),
            project: facts.project.to_string(),
            agent: facts.agent.to_string(),
            state: session.state(now.tick).as_str(),
            run: facts.run.as_deref().map(str::to_owned),
            intent: session.intent().as_deref().map(str::to_owned),
            parent: facts.parent.as_ref().map(|parent| parent.id.to_string()),
            bind: facts.bound_to.map(|certificate| BindView {
                certificate: certificate.to_string(),
            }),
            attributes: facts
                .attributes
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            scopes: facts.narrowing.as_ref().map(narrowed),
            minted_by: facts.minted_by.to_string(),
            minted_at: time(facts.minted_at),
            expires_at: time(facts.expires_at),
            quarantined_at: session.quarantined_since().map(time),
            quarantine_reason: session.quarantine_reason(),
            grants: None,
            approvals: None,
            limits: None,
        }
    }

    /// For itself: with grants, approvals and, where its policy is in force, limits.
    pub(in crate::serve) fn full(
        session: &LiveSession,
        approvals: &[Arc<LiveApproval>],
        policy: Option<&Policy>,
        now: Now,
    ) -> Self {
        let mut view = Self::brief(session, now);
        let id = &view.id;
        view.grants = Some(session.with_grants(|grants| {
            grants
                .iter()
                .map(|grant| GrantView::new(grant, id, now))
                .collect()
        }));
        view.approvals = Some(approvals.iter().map(|each| AskedView::new(each)).collect());
        view.limits = policy.map(|policy| limits(session, policy, now));
        view
    }
}

impl GrantView {
    pub(in crate::serve) fn new(grant: &Grant, session: &str, now: Now) -> Self {
        Self {
            id: grant.id.to_string(),
            session: session.to_owned(),
            scope: grant.scope.to_string(),
            resource: grant.resource.as_ref().map(ToString::to_string),
            state: match grant.uses_left {
                0 => "spent",
                _ if now.tick >= grant.ends => "expired",
                _ => "live",
            },
            uses: grant.uses,
            uses_left: grant.uses_left,
            expires_at: time(grant.expires_at),
            reason: grant.why.to_string(),
        }
    }
}

impl AskedView {
    pub(in crate::serve) fn new(approval: &LiveApproval) -> Self {
        let facts = &approval.facts;
        let (asked, route) = match &facts.asked {
            Asked::Call(call) => ("call", Some(call.route.to_string())),
            Asked::Grant(_) => ("grant", None),
        };
        Self {
            id: facts.id.to_string(),
            state: approval.stage().as_str(),
            asked,
            route,
            scope: facts.scope.to_string(),
            resource: facts.resource.as_ref().map(ToString::to_string),
            chain: facts.chain.to_string(),
            created_at: time(facts.created_at),
            expires_at: time(facts.expires_at),
        }
    }
}

impl PolicyView {
    pub(in crate::serve) fn new(policy: &Policy) -> Self {
        let mut agents: Vec<String> = policy.agents.keys().map(ToString::to_string).collect();
        agents.sort();
        Self {
            project: policy.project.to_string(),
            hash: policy.hash.to_string(),
            agents,
            tools: policy
                .tools
                .iter()
                .map(|tool| tool.name.to_string())
                .collect(),
            routes: policy.routes.len(),
            limits: policy.limits.len(),
        }
    }
}

fn narrowed(narrowing: &Narrowing) -> BTreeMap<String, NarrowedView> {
    let scope = |(name, left): (&_, &crate::policy::subject::Narrowed)| {
        let view = NarrowedView {
            resources: left
                .resources
                .as_ref()
                .map(|patterns| patterns.iter().map(ToString::to_string).collect()),
            uses: left.uses,
        };
        (ToString::to_string(name), view)
    };
    narrowing.scopes.iter().map(scope).collect()
}

fn limits(session: &LiveSession, policy: &Policy, now: Now) -> Vec<LimitView> {
    let own: Vec<LimitIndex> = policy
        .limits
        .iter()
        .zip(0..)
        .filter(|(limit, _)| limit.per == Per::Session)
        .map(|(_, index)| LimitIndex(index))
        .collect();
    let cells = session.cells(policy);
    cells
        .standings(&own, now.tick)
        .map(|standing| {
            let limit = &policy.limits[standing.limit.0 as usize];
            let (kind, quota, window, remaining) = match limit.bound {
                Bound::Rate { count, window, .. } => {
                    ("rate", count.into(), window, standing.remaining.into())
                }
                Bound::Count { count, window } => {
                    ("count", count.into(), window, standing.remaining.into())
                }
                Bound::Repeats { count, window } => {
                    ("repeats", count.into(), window, standing.remaining.into())
                }
                Bound::Cost { micros, window } => {
                    ("cost", amount(micros), window, amount(standing.remaining))
                }
            };
            LimitView {
                id: limit.id.to_string(),
                kind,
                quota,
                window_seconds: window.as_secs(),
                remaining,
                resets_in_seconds: seconds_up(standing.resets_in),
            }
        })
        .collect()
}

/// Millionths as a decimal.
#[allow(
    clippy::cast_precision_loss,
    reason = "shown to people; records keep millionths"
)]
fn amount(micros: u64) -> serde_json::Number {
    serde_json::Number::from_f64(micros as f64 / 1e6).unwrap_or_else(|| 0.into())
}

/// RFC 3339, UTC.
pub(in crate::serve) fn time(at: Timestamp) -> String {
    // Out of range only for a moment no clock shows.
    jiff::Timestamp::from_microsecond(at.micros())
        .unwrap_or_default()
        .to_string()
}
