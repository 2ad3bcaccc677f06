//! OpenID AuthZEN Authorization API 1.0 for issuers: what would be decided of a function, for a session that is live or for
//! one that an agent would be minted.
//!
//! It asks the same policy by the same look-up as the agents' own questions do, and it spends nothing, counts nothing and
//! asks nobody: a yes here is no yes to act on.

use super::Admin;
use super::caller::Caller;
use super::input;
use super::problem::{ProblemDocument, Refused, json};
use crate::config::explained::Imagined;
use crate::config::{Role, meant};
use crate::gate::respond::problem;
use crate::gate::{Channel, Peer};
use crate::policy::choice::{Unfit, Vague};
use crate::policy::condition::Subject as Looked;
use crate::policy::decision::{Decision, Reason};
use crate::policy::function::{self, Asked, Batch, Flaw, Question, Sent, Unclear};
use crate::policy::json::Value;
use crate::policy::model::{IntentRule, Policy};
use crate::policy::name::{AgentName, ProjectName};
use crate::policy::subject::Subject;
use crate::policy::time::Now;
use crate::policy::{self, AccessRequest};
use crate::store::live::State as Life;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::HOST;
use http::{HeaderName, StatusCode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A question, as the standard writes it. Members that are not known are passed over.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes what is read by the policy's own reader"
)]
pub(super) struct EvaluationInput {
    /// `{"type": "session", "id": ID}`, or `{"type": "agent", "id": NAME, "properties": ATTRIBUTES}`.
    subject: EntityInput,
    action: ActionInput,
    resource: EntityInput,
    context: Option<ContextInput>,
}

#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes what is read by the policy's own reader"
)]
pub(super) struct EntityInput {
    r#type: String,
    id: String,
    properties: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes what is read by the policy's own reader"
)]
pub(super) struct ActionInput {
    /// The function's name: that of `match: call NAME`.
    name: String,
    properties: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes what is read by the policy's own reader"
)]
pub(super) struct ContextInput {
    /// The function's arguments.
    args: Option<BTreeMap<String, serde_json::Value>>,
    intent: Option<String>,
    /// Of an agent, where the principal has several projects.
    project: Option<String>,
}

/// Several questions. What one leaves out is taken from the top.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes what is read by the policy's own reader"
)]
pub(super) struct EvaluationsInput {
    subject: Option<EntityInput>,
    action: Option<ActionInput>,
    resource: Option<EntityInput>,
    context: Option<ContextInput>,
    evaluations: Vec<serde_json::Value>,
    /// `{"evaluations_semantic": "execute_all" | "deny_on_first_deny" | "permit_on_first_permit"}`
    options: Option<BTreeMap<String, serde_json::Value>>,
}

/// What would be decided.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Evaluated {
    decision: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Why>,
}

/// Why something would be denied.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Why {
    /// From a closed set; `pending_approval`: a person would be asked.
    reason: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
}

/// In the order of the questions, as far as their semantic goes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EvaluatedAll {
    evaluations: Vec<Evaluated>,
}

/// Say what would be decided of a function (OpenID AuthZEN 1.0). Nothing is spent, counted or held. Needs the role issuer.
#[utoipa::path(post, path = "/access/v1/evaluation", request_body = EvaluationInput, responses(
    (status = 200, description = "What would be decided, whatever it is.", body = Evaluated),
    (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn evaluation(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Issuer])?;
    let text = input::text(request).await?;
    let value = read(&text)?;
    let evaluated = evaluate(&admin, &caller, &value, None)?;
    Ok(json(StatusCode::OK, &evaluated))
}

/// The same for several questions at once. Needs the role issuer.
#[utoipa::path(post, path = "/access/v1/evaluations", request_body = EvaluationsInput, responses(
    (status = 200, description = "What would be decided of each.", body = EvaluatedAll),
    (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn evaluations(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Issuer])?;
    let text = input::text(request).await?;
    let value = read(&text)?;
    let Some(batch) = Batch::read(&value).map_err(flawed)? else {
        let evaluated = evaluate(&admin, &caller, &value, None)?;
        return Ok(json(StatusCode::OK, &evaluated));
    };
    let mut evaluations = Vec::with_capacity(batch.evaluations.len());
    for one in batch.evaluations {
        // One that can't be read is no reason not to answer the others, and no yes.
        let evaluated = evaluate(&admin, &caller, one, Some(&value))
            .unwrap_or_else(|refused| no(refused.reason(), refused.detail().to_owned()));
        let ends = batch.semantic.ends_with(evaluated.decision);
        evaluations.push(evaluated);
        if ends {
            break;
        }
    }
    let all = EvaluatedAll { evaluations };
    Ok(json(StatusCode::OK, &all))
}

/// Where the two are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Configuration {
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
}

/// Say what is served of OpenID AuthZEN 1.0, and where. Needs the role issuer.
#[utoipa::path(get, path = "/.well-known/authzen-configuration", responses(
    (status = 200, body = Configuration),
    (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn configuration(caller: Caller, request: Request) -> Result<Response, Refused> {
    caller.needs(&[Role::Issuer])?;
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let scheme = match peer.map(|ConnectInfo(peer)| peer.channel) {
        Some(Channel::Tls { .. }) => "https",
        Some(Channel::Plain) | None => "http",
    };
    // Checked against the names that this listener answers to.
    let header = request.headers().get(HOST).and_then(|it| it.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let base = format!("{scheme}://{}", header.or(authority).unwrap_or_default());
    Ok(json(
        StatusCode::OK,
        &Configuration {
            access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
            access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
            policy_decision_point: base,
        },
    ))
}

fn read(text: &[u8]) -> Result<Value<'_>, Refused> {
    Value::read(text)
        .map_err(|why| Refused::invalid(format!("the body is not JSON that can be judged: {why}")))
}

fn flawed(flaw: Flaw) -> Refused {
    Refused::invalid(format!("{flaw}; GET /openapi.json shows what is read"))
}

fn evaluate(
    admin: &Admin,
    caller: &Caller,
    value: &Value<'_>,
    defaults: Option<&Value<'_>>,
) -> Result<Evaluated, Refused> {
    let subject = Question::subject(value, defaults).map_err(flawed)?;
    let question = Question::read(value, defaults).map_err(flawed)?;
    match subject.kind {
        "session" => of_session(admin, caller, subject, &question),
        "agent" => of_agent(admin, caller, subject, &question),
        _ => Err(Refused::invalid(
            "`subject.type` is `session`, with its id, or `agent`, with its name",
        )),
    }
}

fn of_session(
    admin: &Admin,
    caller: &Caller,
    subject: Sent<'_>,
    question: &Question<'_>,
) -> Result<Evaluated, Refused> {
    let session = caller.session(admin, subject.id)?;
    let (facts, now) = (&session.facts, admin.parts.clock.now());
    if question
        .project
        .is_some_and(|project| project != facts.project.as_str())
    {
        return Err(Refused::invalid(
            "`context.project` is not the session's own: leave it out",
        ));
    }
    // Whatever the policy says, nothing of it passes.
    match session.state(now.tick) {
        Life::Live => {}
        Life::Quarantined => return Ok(no_for(Reason::Quarantined)),
        Life::Ended => return Ok(no_for(Reason::CredentialInvalid)),
    }
    let ruleset = admin.parts.gate.ruleset(&facts.project);
    let ruleset = ruleset.ok_or_else(|| gone(&facts.project))?;
    let intent = question.intent.is_some() || session.intent().is_some();
    Ok(session.with_grants(|grants| {
        let subject = Subject {
            session: facts,
            grants,
        };
        decided(&ruleset.policy, subject, question, intent, now)
    }))
}

fn of_agent(
    admin: &Admin,
    caller: &Caller,
    subject: Sent<'_>,
    question: &Question<'_>,
) -> Result<Evaluated, Refused> {
    let project = project(caller, question)?;
    let ruleset = admin.parts.gate.ruleset(project);
    let ruleset = ruleset.ok_or_else(|| gone(project))?;
    let (policy, now) = (&ruleset.policy, admin.parts.clock.now());
    let agents = policy.agents.keys();
    let Some(agent) = agents.clone().find(|known| known.as_str() == subject.id) else {
        // Nobody has no ceiling.
        let more = meant(subject.id, agents.map(AgentName::as_str));
        let detail = format!("this is not an agent of the project {project}{more}");
        return Ok(no(Reason::ScopeOutsideCeiling, detail));
    };
    let attributes = attributes(subject.properties)?;
    let imagined = Imagined::new(
        policy,
        agent.clone(),
        attributes.into_iter().collect(),
        Vec::new(),
        now,
    );
    let intent = question.intent.is_some();
    Ok(decided(policy, imagined.subject(), question, intent, now))
}

/// Of which of the caller's projects.
fn project<'c>(caller: &'c Caller, question: &Question<'_>) -> Result<&'c ProjectName, Refused> {
    let own = &caller.principal.projects;
    match (question.project, &own[..]) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Refused::invalid(
            "say in `context.project` of which of your projects the agent is",
        )),
        (Some(said), own) => own.iter().find(|own| own.as_str() == said).ok_or_else(|| {
            let more = meant(said, own.iter().map(ProjectName::as_str));
            Refused::invalid(format!("`context.project` is not a project of yours{more}"))
        }),
    }
}

fn attributes<'v>(properties: Option<&'v Value<'v>>) -> Result<Vec<(&'v str, &'v str)>, Refused> {
    let Some(Value::Object(members)) = properties else {
        return Ok(Vec::new());
    };
    let attribute = members.iter().map(|(name, value)| match value {
        Value::Text(text) if (1..=256).contains(&text.len()) => Ok((&**name, &**text)),
        _ => Err(Refused::invalid(
            "`subject.properties` are the agent's attributes: text of 1 to 256 bytes each",
        )),
    });
    attribute.collect()
}

/// The very look-up and decision of the agents' own questions, up to where something would be spent or somebody asked.
fn decided(
    policy: &Policy,
    subject: Subject<'_>,
    question: &Question<'_>,
    intent: bool,
    now: Now,
) -> Evaluated {
    let asked = Asked {
        question,
        session: subject.session,
        // Where the agent will ask from is not known.
        client: None,
        now: now.wall,
    };
    let path = function::path(question.name());
    let first = path
        .as_deref()
        .and_then(|path| policy.table.find_function(path));
    let Some(first) = first else {
        return no_for(Reason::NoRoute);
    };
    let matched = match asked.chosen(policy, first) {
        Ok(matched) => matched,
        Err(unfit) => {
            return untold(unfit, policy).by(policy.route(unfit.route()).id.as_str());
        }
    };
    let route = policy.route(matched.route);
    let resource = match asked.resource(route, &matched.captures) {
        Ok(resource) => resource,
        Err(unclear) => {
            let reason = match unclear {
                Unclear::Vague(Vague::Unfilled(unfilled)) => unfilled.reason(),
                Unclear::Vague(Vague::Unread) | Unclear::Disagrees => Reason::Unevaluable,
            };
            return no_for(reason).by(route.id.as_str());
        }
    };
    if route.intent == IntentRule::Required && !intent {
        return no_for(Reason::IntentMissing).by(route.id.as_str());
    }
    let (reason, resource) =
        match policy::decide(policy, subject, AccessRequest { route, resource }, now) {
            Decision::Allow(_) => {
                return Evaluated {
                    decision: true,
                    context: None,
                };
            }
            Decision::Hold(hold) => (Reason::PendingApproval, hold.resource().cloned()),
            Decision::Deny(denial) => (denial.reason, denial.resource),
        };
    let mut evaluated = no_for(reason).by(route.id.as_str());
    if let Some(why) = &mut evaluated.context {
        why.scope = Some(route.scope.to_string());
        why.resource = resource.map(|resource| resource.to_string());
    }
    evaluated
}

/// No route judges it: by which subject, and never by what it says.
fn untold(unfit: Unfit, policy: &Policy) -> Evaluated {
    let subject = unfit.condition(policy).map(|it| &it.subject);
    match (unfit, subject) {
        (Unfit::Unmet { .. }, Some(subject)) => {
            let detail = format!("the policy does not allow it with such a `{subject}`");
            no(Reason::ConditionUnmet, detail)
        }
        (Unfit::Unevaluable { .. }, Some(Looked::Client)) => no(
            Reason::Unevaluable,
            "the policy decides it by `client`, where it is asked from, which is known when the agent asks itself"
                .to_owned(),
        ),
        (Unfit::Unevaluable { why, .. }, Some(subject)) => {
            let detail = format!("the policy decides it by `{subject}`, which {why}");
            no(Reason::Unevaluable, detail)
        }
        (Unfit::Unmet { .. } | Unfit::Unevaluable { .. } | Unfit::Unread(_), _) => {
            no_for(Reason::Unevaluable)
        }
    }
}

impl Evaluated {
    /// The route that decides.
    fn by(mut self, route: &str) -> Self {
        if let Some(why) = &mut self.context {
            why.route = Some(route.to_owned());
        }
        self
    }
}

fn no(reason: Reason, detail: String) -> Evaluated {
    Evaluated {
        decision: false,
        context: Some(Why {
            reason: reason.as_str(),
            detail,
            route: None,
            scope: None,
            resource: None,
        }),
    }
}

fn no_for(reason: Reason) -> Evaluated {
    no(reason, problem(reason).meaning.to_owned())
}

fn gone(project: &ProjectName) -> Refused {
    Refused::conflict(format!(
        "the project {project} is not in the policy any more"
    ))
}

/// A request of the API's that has one name for itself gets it back, whatever the answer is.
pub(super) async fn identified(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let own = path.starts_with(API) || path == CONFIGURATION;
    let mut ids = request.headers().get_all(&X_REQUEST_ID).iter();
    let id = match (ids.next(), ids.next()) {
        (Some(id), None) if own && id.len() <= REQUEST_ID_BYTES_MAX => Some(id.clone()),
        _ => None,
    };
    let mut answer = next.run(request).await;
    if let Some(id) = id {
        answer.headers_mut().insert(X_REQUEST_ID, id);
    }
    answer
}

const API: &str = "/access/v1/";
const CONFIGURATION: &str = "/.well-known/authzen-configuration";
const REQUEST_ID_BYTES_MAX: usize = 256;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
