//! What the policy in force would decide of a call, and why: for a session that is live, or for one that is imagined.
//!
//! It spends nothing, counts nothing and holds nothing.

use super::Admin;
use super::caller::Caller;
use super::input::{self, Object, unique_map};
use super::problem::{ProblemDocument, Refused, json};
use crate::config::explained::{
    Explainer, Explanation, Imagined, Request as Wanted, StepSaid, address, time,
};
use crate::config::{Role, meant};
use crate::policy::decision::Reason;
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use crate::policy::resource::Resource;
use crate::policy::subject::Subject;
use crate::policy::time::Timestamp;
use crate::store::live::{LiveSession, State as Life};
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A call to be explained: of a live `session`, or else of an agent of a project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainInput {
    /// Method and target, `DELETE /crm/users/7`; of a tool whose calls are named by their body `tools/call list_issues` or
    /// `call delete_user`.
    request: String,
    /// `Host`, where tools are told by it; `localhost` unless given.
    host: Option<String>,
    /// Whose call it is, where the body names it and several tools have such calls.
    tool: Option<String>,
    /// All header fields of the call. Absent: not known, and where one decides, the decision is `unknown`. The type of
    /// `body` is `application/json` unless `content-type` says otherwise.
    #[serde(default, deserialize_with = "unique_map")]
    headers: Option<BTreeMap<String, String>>,
    /// The body, as text. Absent: not known.
    body: Option<String>,
    /// The arguments of a call that the body names: JSON, as text, so that it is read to the byte as the gate reads it.
    /// Absent: not known.
    args: Option<String>,
    /// What the agent says the call is for; empty: nothing. Absent: what is said for the session, or in `headers`.
    intent: Option<String>,
    /// The address it comes from. Absent: not known.
    client: Option<String>,
    /// When it is made, as RFC 3339 has it; now unless given.
    at: Option<String>,
    /// A live session, with the attributes, the narrowing and the grants it has now. Then nothing below is given.
    session: Option<String>,
    project: Option<String>,
    agent: Option<String>,
    /// What the session would be minted with.
    #[serde(default, deserialize_with = "unique_map")]
    attributes: Option<BTreeMap<String, String>>,
    /// Stored grants it would hold.
    #[schema(value_type = Option<Vec<HeldInput>>)]
    grants: Option<Vec<Object<HeldInput>>>,
}

/// A stored grant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeldInput {
    scope: String,
    /// Absent: on whatever the ceiling covers.
    resource: Option<String>,
}

/// Say what would be decided of a call, with each step that leads to it and the line of the file that decides. Nothing is
/// spent, counted or held. Needs the role operator.
#[utoipa::path(post, path = "/v1/policy/explain", request_body = ExplainInput, responses(
    (status = 200, description = "What would be decided, whatever it is.", body = Explanation),
    (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn explain(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Operator])?;
    let input: ExplainInput = input::read(request).await?;
    let now = admin.parts.clock.now().wall;
    let wanted = wanted(&input, now).map_err(Refused::invalid)?;
    let explanation = match &input.session {
        Some(id) => of_session(&admin, &caller, id, &input, &wanted)?,
        None => imagined(&admin, &caller, &input, &wanted)?,
    };
    Ok(json(StatusCode::OK, &explanation))
}

/// The call, as far as it is told of.
fn wanted(input: &ExplainInput, now: Timestamp) -> Result<Wanted, String> {
    let mut wanted = Wanted::parse(&input.request, input.host.as_deref(), input.tool.as_deref())?;
    if let Some(headers) = &input.headers {
        wanted = wanted.with_headers(headers)?;
    }
    if let Some(body) = &input.body {
        wanted = wanted.with_body(body.clone().into_bytes(), "application/json");
    }
    if let Some(args) = &input.args {
        wanted = wanted.with_args(args.clone().into_bytes())?;
    }
    let client = input.client.as_deref().map(address).transpose()?;
    let at = input.at.as_deref().map(time).transpose()?;
    (wanted.client, wanted.at) = (client, Some(at.unwrap_or(now)));
    wanted.intent.clone_from(&input.intent);
    Ok(wanted)
}

fn of_session(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    input: &ExplainInput,
    wanted: &Wanted,
) -> Result<Explanation, Refused> {
    let given = [
        ("project", input.project.is_some()),
        ("agent", input.agent.is_some()),
        ("attributes", input.attributes.is_some()),
        ("grants", input.grants.is_some()),
    ];
    if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Refused::invalid(format!(
            "`{name}` is the session's own: leave it out, or leave out `session`"
        )));
    }
    let session = caller.session(admin, id)?;
    let now = admin.parts.clock.now();
    let mut wanted = wanted.clone();
    // What is said for one call goes before what is said for all.
    wanted.intent = wanted
        .intent
        .or_else(|| session.intent().map(|it| it.to_string()));
    let mut explanation = with(admin, &session.facts.project, |explainer| {
        session.with_grants(|grants| {
            let facts = &session.facts;
            let subject = Subject {
                session: facts,
                grants,
            };
            explainer.explain(subject, &wanted, now)
        })
    })?
    .map_err(Refused::invalid)?;
    explanation.steps.insert(0, alive(&session, now.tick));
    // Whatever the policy says, nothing of it passes.
    match session.state(now.tick) {
        Life::Live => {}
        Life::Quarantined => refuse(&mut explanation, Reason::Quarantined),
        Life::Ended => refuse(&mut explanation, Reason::CredentialInvalid),
    }
    Ok(explanation)
}

fn refuse(explanation: &mut Explanation, reason: Reason) {
    explanation.decision = "deny";
    explanation.reason = Some(reason.as_str());
    explanation.shadow = false;
    (explanation.grant, explanation.chain, explanation.unknown) = (None, None, None);
}

fn alive(session: &LiveSession, now: crate::policy::time::Tick) -> StepSaid {
    let id = session.facts.id;
    let (passes, says) = match session.state(now) {
        Life::Live => (true, format!("{id} is live")),
        Life::Quarantined => (
            false,
            format!("{id} is in quarantine: nothing passes until it is released"),
        ),
        Life::Ended => (false, format!("{id} has ended")),
    };
    StepSaid {
        step: "session",
        passes,
        next: false,
        says,
        at: None,
    }
}

fn imagined(
    admin: &Admin,
    caller: &Caller,
    input: &ExplainInput,
    wanted: &Wanted,
) -> Result<Explanation, Refused> {
    let (Some(project), Some(agent)) = (&input.project, &input.agent) else {
        return Err(Refused::invalid(
            "say whose call it is: `session`, or `project` and `agent`",
        ));
    };
    let own = caller.principal.projects.iter();
    let project = own
        .clone()
        .find(|own| own.as_str() == project)
        .ok_or_else(|| {
            let more = meant(project, own.map(ProjectName::as_str));
            Refused::invalid(format!("`{project}` is not a project of yours{more}"))
        })?;
    let grants = input.grants.iter().flatten().map(|Object(held)| {
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            Refused::invalid(format!("`{what}` in `grants`: {error}"))
        };
        let scope = ScopeName::parse(&held.scope).map_err(|error| wrong(&held.scope, &error))?;
        let resource = held
            .resource
            .as_deref()
            .map(|text| Resource::parse(text).map_err(|error| wrong(text, &error)));
        Ok((scope, resource.transpose()?))
    });
    let grants = grants.collect::<Result<Vec<_>, Refused>>()?;
    let now = admin.parts.clock.now();
    with(admin, project, |explainer| {
        let agents = explainer.policy.agents.keys();
        let Some(agent) = agents.clone().find(|known| known.as_str() == agent) else {
            let more = meant(agent, agents.map(AgentName::as_str));
            return Err(Refused::invalid(format!(
                "`{agent}` is not an agent of the project {project}{more}"
            )));
        };
        let attributes = input.attributes.iter().flatten();
        let attributes = attributes.map(|(name, value)| (name.as_str(), value.as_str()));
        let caller = Imagined::new(
            explainer.policy,
            agent.clone(),
            attributes.collect(),
            grants,
            now,
        );
        let explained = explainer.explain(caller.subject(), wanted, now);
        explained.map_err(Refused::invalid)
    })?
}

/// Lends what explains the policy in force.
fn with<T>(
    admin: &Admin,
    project: &ProjectName,
    explain: impl FnOnce(&Explainer<'_>) -> T,
) -> Result<T, Refused> {
    let ruleset = admin.parts.gate.ruleset(project).ok_or_else(|| {
        Refused::conflict(format!(
            "the project {project} is not in the policy any more"
        ))
    })?;
    let lines = admin.parts.lines.load();
    // A reload may fall in between: no line at all before one of another version.
    let lines = lines.iter().find(|lines| lines.are_of(&ruleset.policy));
    Ok(explain(&Explainer {
        policy: &ruleset.policy,
        lines,
        approvers: Some(&admin.parts.gate.approvers()),
    }))
}
