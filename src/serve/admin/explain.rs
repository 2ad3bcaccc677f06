//! What the policy in force would decide of a call, and why: for a session that is live, or for one that is imagined.
//!
//! It spends nothing, counts nothing and holds nothing.

use super::Admin;
use super::caller::Caller;
use super::input::{self, Object, unique_map};
use super::problem::{ProblemDocument, Refused, json};
use crate::config::{Role, meant};
use crate::policy::decision::Reason;
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use crate::policy::resource::Resource;
use crate::policy::subject::Subject;
use crate::config::explained::{Explainer, Explanation, Imagined, Request as Wanted, StepSaid};
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
    /// Method and target: `DELETE /crm/users/7`.
    request: String,
    /// `Host`, where tools are told by it; `localhost` unless given.
    host: Option<String>,
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
    let wanted = Wanted::parse(&input.request, input.host.as_deref()).map_err(Refused::invalid)?;
    let explanation = match &input.session {
        Some(id) => of_session(&admin, &caller, id, &input, &wanted)?,
        None => imagined(&admin, &caller, &input, &wanted)?,
    };
    Ok(json(StatusCode::OK, &explanation))
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
    let mut explanation = with(admin, &session.facts.project, |explainer| {
        session.with_grants(|grants| {
            let facts = &session.facts;
            let subject = Subject {
                session: facts,
                grants,
            };
            explainer.explain(subject, wanted, now)
        })
    })?;
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
    (explanation.grant, explanation.chain) = (None, None);
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
        Ok(explainer.explain(caller.subject(), wanted, now))
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
        approvers: &admin.parts.gate.approvers(),
    }))
}
