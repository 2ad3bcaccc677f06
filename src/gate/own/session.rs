//! `GET /.toolgate/session`: who am I, what may I ever hold, what do I hold, what is left of my limits.
//! `PUT /.toolgate/intent`: this is what I am doing.

use super::{approvals, grants, input};
use crate::gate::body::RequestBody;
use crate::gate::intent;
use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::gate::{Inner, respond};
use crate::ledger::record::Cause;
use crate::ledger::without_tokens;
use crate::policy;
use crate::policy::ceiling::Effective;
use crate::policy::limit::{Bound, Exceeded, Limit, Per, Standing};
use crate::policy::model::{GrantMode, LimitIndex};
use crate::policy::time::Now;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize)]
struct View<'a> {
    session: String,
    project: &'a str,
    agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<&'a str>,
    /// `x5t#S256` of the certificate that its connections must show.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    minted_at: String,
    expires_at: String,
    expires_in_seconds: u64,
    /// The ceiling: not held until granted, unless `on_use`.
    scopes: BTreeMap<&'a str, ScopeView>,
    grants: Vec<grants::GrantView>,
    /// Those that wait for people, or were agreed to and did not run yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    approvals: Vec<approvals::ApprovalView>,
    limits: Vec<LimitView<'a>>,
}

#[derive(Serialize)]
struct ScopeView {
    grant: &'static str,
    /// Absent where nothing bounds resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<String>>,
    /// What narrowing and parents bound besides: a resource must be in each of these lists too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also_within: Vec<Vec<String>>,
    /// Bounds of a grant that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
}

#[derive(Serialize)]
struct LimitView<'a> {
    id: &'a str,
    kind: &'static str,
    /// Calls, or for `cost` the unit the policy counts in.
    quota: serde_json::Value,
    window_seconds: u64,
    remaining: serde_json::Value,
    resets_in_seconds: u64,
    exceeded: &'static str,
}

/// Shows the caller to itself.
pub(super) fn show(gate: &Inner, caller: &Caller) -> Response<Bytes> {
    let now = gate.clock.now();
    let (policy, facts) = (&caller.ruleset.policy, &caller.session.facts);
    let intent = caller.session.intent();
    let view = View {
        session: facts.id.to_string(),
        project: facts.project.as_str(),
        agent: facts.agent.as_str(),
        run: facts.run.as_deref(),
        intent: intent.as_deref(),
        certificate: facts.bound_to.map(|certificate| certificate.to_string()),
        minted_at: respond::timestamp(facts.minted_at),
        expires_at: respond::timestamp(facts.expires_at),
        expires_in_seconds: facts.ends.since(now.tick).as_secs(),
        scopes: scopes(caller),
        grants: caller.session.with_grants(|grants| {
            let live = grants.iter().filter(|grant| grant.live_at(now.tick));
            live.map(grants::GrantView::of).collect()
        }),
        approvals: approvals::standing(caller),
        limits: limits(caller, now, &policy.limits),
    };
    respond::json(StatusCode::OK, "application/json", &view)
}

fn scopes(caller: &Caller) -> BTreeMap<&str, ScopeView> {
    let (policy, facts) = (&caller.ruleset.policy, &caller.session.facts);
    let Some(agent) = policy.agents.get(&facts.agent) else {
        return BTreeMap::new();
    };
    let mut scopes = BTreeMap::new();
    for scope in agent.scopes.keys() {
        // After narrowing and all parents: what they left out is not shown.
        let Some(ceiling) = policy::ceiling(policy, facts, scope.as_str()) else {
            continue;
        };
        let asked = ceiling.grant() != GrantMode::OnUse;
        let mut bounding = resources(&ceiling);
        let view = ScopeView {
            grant: match ceiling.grant() {
                GrantMode::OnUse => "on_use",
                GrantMode::OnRequest => "on_request",
                GrantMode::OnApproval(_) => "on_approval",
            },
            resources: bounding.next(),
            also_within: bounding.collect(),
            uses: asked.then_some(ceiling.uses()),
            ttl_seconds: asked.then_some(ceiling.ttl().as_secs()),
        };
        scopes.insert(scope.as_str(), view);
    }
    scopes
}

/// Patterns as they read for this session. One that reads an attribute the session lacks matches nothing: left out.
fn resources(ceiling: &Effective<'_>) -> impl Iterator<Item = Vec<String>> {
    ceiling.bounding().map(|(session, patterns)| {
        let filled = patterns
            .iter()
            .filter_map(|pattern| pattern.filled(&session.attributes));
        filled.collect()
    })
}

fn limits<'a>(caller: &'a Caller, now: Now, limits: &'a [Limit]) -> Vec<LimitView<'a>> {
    let own: Vec<LimitIndex> = limits
        .iter()
        .zip(0..)
        .filter(|(limit, _)| limit.per == Per::Session)
        .map(|(_, index)| LimitIndex(index))
        .collect();
    let standings = caller.standings(&own, now.tick);
    standings
        .iter()
        .map(|standing| LimitView::of(&limits[standing.limit.0 as usize], standing))
        .collect()
}

impl<'a> LimitView<'a> {
    fn of(limit: &'a Limit, standing: &Standing) -> Self {
        let (kind, quota, window) = match limit.bound {
            Bound::Rate { count, window, .. } => ("rate", u64::from(count), window),
            Bound::Count { count, window } => ("count", u64::from(count), window),
            Bound::Repeats { count, window } => ("repeats", u64::from(count), window),
            Bound::Cost { micros, window } => ("cost", micros, window),
        };
        let amount = |value: u64| match limit.bound {
            // A decimal in a string: a number would round.
            Bound::Cost { .. } => format!("{}.{:06}", value / 1_000_000, value % 1_000_000).into(),
            Bound::Rate { .. } | Bound::Count { .. } | Bound::Repeats { .. } => value.into(),
        };
        Self {
            id: limit.id.as_str(),
            kind,
            quota: amount(quota),
            window_seconds: window.as_secs(),
            remaining: amount(standing.remaining),
            resets_in_seconds: standing.resets_in.as_secs()
                + u64::from(standing.resets_in.subsec_nanos() > 0),
            exceeded: match limit.exceeded {
                Exceeded::Throttle => "throttle",
                Exceeded::Quarantine => "quarantine",
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentInput {
    intent: String,
}

#[derive(Serialize)]
struct IntentView<'a> {
    intent: &'a str,
}

/// Sets the session's intent; calls without a `Toolgate-Intent` of their own are recorded with it.
pub(super) async fn state_intent(
    gate: &Inner,
    caller: &Caller,
    headers: &HeaderMap,
    body: &mut Option<RequestBody>,
) -> Result<Response<Bytes>, Refusal> {
    let input: IntentInput = input::read(headers, body).await?;
    let text = input.intent.trim();
    intent::check(text).map_err(|why| Refusal::invalid_input(format!("`intent` {why}")))?;
    let text = &*without_tokens(text);
    gate.sessions
        .set_intent(&caller.session, text, Cause::Agent, gate.clock.now())
        .await
        .map_err(grants::not_changed)?;
    Ok(respond::json(
        StatusCode::OK,
        "application/json",
        &IntentView { intent: text },
    ))
}
