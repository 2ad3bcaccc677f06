//! `tests`: calls taken apart, and that what they expect can be expected at all.

use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::explained::{Imagined, Request, address, time};
use crate::config::leaf::Text;
use crate::config::meant;
use crate::config::raw;
use crate::config::read::{At, clipped};
use crate::policy::attributes::Attributes;
use crate::policy::decision::Reason;
use crate::policy::model::Policy;
use crate::policy::name::{AgentName, ScopeName};
use crate::policy::resource::Resource;
use crate::policy::subject::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX};
use crate::policy::time::{Now, Tick, Timestamp};
use std::collections::HashMap;

/// A promise: a call, and what the policy must make of it.
#[derive(Debug)]
pub struct Promise {
    /// "test `...`".
    pub subject: String,
    pub place: Place,
    pub caller: Imagined,
    pub request: Request,
    pub now: Now,
    /// What must be so, by the member of an explanation, and where it is written; the decision first.
    pub expected: Vec<(&'static str, At<String>)>,
}

impl Promise {
    /// What it expects of this member of an explanation, if anything.
    pub fn expects(&self, name: &str) -> Option<&At<String>> {
        let of = self.expected.iter().find(|(have, _)| *have == name);
        of.map(|(_, expected)| expected)
    }
}

/// What can be told before there is a policy.
pub fn tests(raw: &[At<raw::Test>], reports: &mut Reports) {
    let mut first: HashMap<&str, Place> = HashMap::new();
    for test in raw {
        let Some(name) = &test.value.name else {
            continue;
        };
        if let Some(first) = first.get(&*name.value.0) {
            let line = reports.line_of(*first);
            let message = format!("a test `{}` stands on line {line}", clipped(&name.value.0));
            reports.error(name.place, message, "give each test a name of its own");
            continue;
        }
        first.insert(&name.value.0, name.place);
    }
}

/// One test of a policy. `None`: it was reported.
pub fn promise(policy: &Policy, raw: &At<raw::Test>, reports: &mut Reports) -> Option<Promise> {
    let test = &raw.value;
    let name = test.name.as_ref()?;
    let subject = format!("test `{}`", clipped(&name.value.0));
    reports.enter(subject.clone());
    let request = request(test, reports);
    let now = Now {
        wall: request
            .as_ref()
            .and_then(|request| request.at)
            .unwrap_or(Timestamp::from_micros(0)),
        tick: Tick::from_nanos(0),
    };
    let caller = test
        .session
        .as_ref()
        .and_then(|session| caller(policy, &session.value, now, reports));
    let expected = test
        .expect
        .as_ref()
        .and_then(|expect| expected(policy, &expect.value, reports));
    reports.leave();
    Some(Promise {
        subject,
        place: test.tool.as_ref().map_or(name.place, |tool| tool.place),
        caller: caller?,
        request: request?,
        now,
        expected: expected?,
    })
}

fn request(test: &raw::Test, reports: &mut Reports) -> Option<Request> {
    let at = test.request.as_ref()?;
    let text = |key: &Option<At<Text>>| key.as_ref().map(|at| at.value.0.clone());
    let host = test.host.as_ref().map(|at| &*at.value.0);
    let parsed = Request::parse(&at.value.0, host, text(&test.tool).as_deref());
    let mut request = said(parsed, at.place, reports)?;
    if let Some(headers) = &test.headers {
        let fields = headers.value.0.iter();
        let fields = fields.flat_map(|(name, values)| {
            let values = values.iter().flat_map(|at| &at.value.0);
            values.map(|value| (&name.value.0, &value.value.0))
        });
        request = said(request.with_headers(fields), headers.place, reports)?;
    }
    if let Some(body) = &test.body {
        request = request.with_body(body.value.0.clone().into_bytes(), "application/json");
    }
    if let Some(args) = &test.args {
        let parsed = request.with_args(args.value.0.clone().into_bytes());
        request = said(parsed, args.place, reports)?;
    }
    request.intent = test.intent.as_ref().map(|at| at.value.0.clone());
    if let Some(client) = &test.client {
        request.client = Some(said(address(&client.value.0), client.place, reports)?);
    }
    if let Some(at) = &test.at {
        request.at = Some(said(time(&at.value.0), at.place, reports)?);
    }
    Some(request)
}

/// What was read, or what was wrong with it, reported.
fn said<T>(read: Result<T, String>, place: Place, reports: &mut Reports) -> Option<T> {
    let report = |message| {
        reports.error(
            place,
            message,
            "a test tells of one call as it would be made",
        )
    };
    read.map_err(report).ok()
}

fn caller(
    policy: &Policy,
    session: &raw::TestSession,
    now: Now,
    reports: &mut Reports,
) -> Option<Imagined> {
    let agent = session.agent.as_ref()?;
    let Some(known) = policy.agents.get(&agent.value) else {
        let names = policy.agents.keys().map(AgentName::as_str);
        let message = format!("there is no agent `{}`", agent.value);
        let help = format!("an agent of `agents`{}", meant(agent.value.as_str(), names));
        reports.error(agent.place, message, help);
        return None;
    };
    let attributes = session
        .attributes
        .as_ref()
        .map_or(&[][..], |at| &at.value.0);
    if let Some((name, _)) = attributes.get(ATTRIBUTES_MAX) {
        let message = format!("a session has at most {ATTRIBUTES_MAX} attributes");
        reports.error(name.place, message, "remove some");
    }
    let mut whole = attributes.len() <= ATTRIBUTES_MAX;
    for (_, value) in attributes {
        let value = value.as_ref()?;
        let bytes = value.value.0.len();
        if !(1..=ATTRIBUTE_BYTES_MAX).contains(&bytes) {
            let message =
                format!("an attribute has 1 to {ATTRIBUTE_BYTES_MAX} bytes, this has {bytes}");
            reports.error(value.place, message, "no session could be minted with it");
            whole = false;
        }
    }
    let pairs = attributes.iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some((name.value.0.clone(), value.value.0.clone()))
    });
    let attributes: Attributes = pairs.collect();
    let mut grants = Vec::new();
    for grant in session.grants.iter().flat_map(|at| &at.value.0) {
        let scope = grant.value.scope.as_ref()?;
        if !known.scopes.contains_key(&scope.value) {
            let names = known.scopes.keys().map(ScopeName::as_str);
            let help = match did_you_mean(scope.value.as_str(), names) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "no session of the agent could hold it".to_owned(),
            };
            let message = format!(
                "the ceiling of `{}` does not have `{}`",
                agent.value, scope.value
            );
            reports.error(scope.place, message, help);
            whole = false;
        }
        let resource = match &grant.value.resource {
            None => None,
            Some(at) => Some(resource(at, Resource::parse(&at.value.0), reports)?),
        };
        grants.push((scope.value.clone(), resource));
    }
    whole.then(|| Imagined::new(policy, agent.value.clone(), attributes, grants, now))
}

fn resource<E: std::fmt::Display>(
    at: &At<Text>,
    read: Result<Resource, E>,
    reports: &mut Reports,
) -> Option<Resource> {
    let report = |error: E| {
        let message = format!("`{}` is not a resource: {error}", clipped(&at.value.0));
        reports.error(at.place, message, "write it as calls have it: `user:7`");
    };
    read.map_err(report).ok()
}

fn expected(
    policy: &Policy,
    expect: &raw::Expect,
    reports: &mut Reports,
) -> Option<Vec<(&'static str, At<String>)>> {
    let decision = expect.decision.as_ref()?;
    let word = match decision.value {
        raw::Decision::Allow => "allow",
        raw::Decision::Hold => "hold",
        raw::Decision::Deny => "deny",
    };
    let mut whole = true;
    let mut wrong = |place, message: String, help: String| {
        reports.error(place, message, help);
        whole = false;
    };
    if let Some(reason) = &expect.reason {
        let known = || Reason::ALL.iter().map(|reason| reason.as_str());
        if !known().any(|known| known == reason.value.0) {
            let message = format!("`{}` is not a reason", clipped(&reason.value.0));
            let help = match did_you_mean(&reason.value.0, known()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "such as `no_route`, `scope_outside_ceiling`, `resource_outside_ceiling`, `grant_missing`, `condition_unmet`, `unevaluable`".to_owned(),
            };
            wrong(reason.place, message, help);
        } else if word != "deny" {
            let message = format!("what is decided as `{word}` has no reason");
            wrong(
                reason.place,
                message,
                "remove it, or expect `deny`".to_owned(),
            );
        }
    }
    if let Some(route) = &expect.route {
        let known = || policy.routes.iter().map(|route| route.id.as_str());
        if !known().any(|known| known == route.value.as_str()) {
            let message = format!("there is no route `{}`", route.value);
            let help = format!("a route of `tools`{}", meant(route.value.as_str(), known()));
            wrong(route.place, message, help);
        }
    }
    if let Some(chain) = &expect.chain {
        let known = || policy.chains.iter().map(|chain| chain.name.as_str());
        if !known().any(|known| known == chain.value.as_str()) {
            let message = format!("there is no chain `{}`", chain.value);
            let help = format!(
                "a chain of `approvals`{}",
                meant(chain.value.as_str(), known())
            );
            wrong(chain.place, message, help);
        } else if word != "hold" {
            let message = format!("nobody is asked about what is decided as `{word}`");
            wrong(
                chain.place,
                message,
                "remove it, or expect `hold`".to_owned(),
            );
        }
    }
    if let Some(at) = &expect.resource {
        resource(at, Resource::parse_recorded(&at.value.0), reports)?;
    }
    let at = |place, value: &dyn ToString| At {
        place,
        value: value.to_string(),
    };
    let mut all = vec![("decision", at(decision.place, &word))];
    all.extend(
        expect
            .shadow
            .iter()
            .map(|it| ("shadow", at(it.place, &it.value.0))),
    );
    all.extend(
        expect
            .reason
            .iter()
            .map(|it| ("reason", at(it.place, &it.value.0))),
    );
    all.extend(
        expect
            .route
            .iter()
            .map(|it| ("route", at(it.place, &it.value))),
    );
    all.extend(
        expect
            .scope
            .iter()
            .map(|it| ("scope", at(it.place, &it.value))),
    );
    all.extend(
        expect
            .resource
            .iter()
            .map(|it| ("resource", at(it.place, &it.value.0))),
    );
    all.extend(
        expect
            .chain
            .iter()
            .map(|it| ("chain", at(it.place, &it.value))),
    );
    whole.then_some(all)
}
