//! A decision again, for people: the one answer of the whole way from target to grant ([`answer`]), and each step that
//! led to it ([`trace`]).
//!
//! Beside the hot path, and on the same primitives: [`answer`] asks [`decide`] itself, [`trace`] walks the steps one by
//! one, and a law holds the two to the same verdict. It refuses to touch counters: of limits it says which would count,
//! never whether there is room.

use super::attributes::Attributes;
use super::ceiling::{self, Listed};
use super::choice::{Bare, acts_on};
use super::decision::{Decision, GrantUse, Reason};
use super::model::{GrantMode, LimitIndex, Policy, Route, RouteIndex, ToolIndex};
use super::name::{AgentName, ScopeName};
use super::resource::{Part, Resource, ResourcePattern};
use super::route::{Matched, NoRoute};
use super::subject::{Session, Subject};
use super::target::{Ambiguity, Target};
use super::time::Now;
use super::{AccessRequest, decide, stored};

/// A call as it would arrive.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// In upper case.
    pub method: &'a str,
    /// `Host` or `:authority`.
    pub host: &'a str,
    /// Origin-form or absolute-form, as sent.
    pub target: &'a str,
}

/// What was decided, without what lets it happen: no permit comes out of here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The word.
    pub outcome: Outcome,
    /// The tool at that host or mount.
    pub tool: Option<ToolIndex>,
    /// The route that answers to it.
    pub route: Option<RouteIndex>,
    /// The permission it needs.
    pub scope: Option<ScopeName>,
    /// What it acts on.
    pub resource: Option<Resource>,
    /// What it would go on.
    pub grant: Option<GrantUse>,
}

/// The word of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It passes.
    Allow,
    /// It passes if people agree.
    Hold,
    /// It does not, and this is why.
    Deny(Reason),
}

impl Outcome {
    /// `allow`, `hold`, `deny`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Hold => "hold",
            Outcome::Deny(_) => "deny",
        }
    }

    /// Why it is denied.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Outcome::Deny(reason) => Some(reason),
            Outcome::Allow | Outcome::Hold => None,
        }
    }
}

impl Answer {
    fn unrouted(reason: Reason, tool: Option<ToolIndex>) -> Self {
        Self {
            outcome: Outcome::Deny(reason),
            tool,
            route: None,
            scope: None,
            resource: None,
            grant: None,
        }
    }

    fn of(route: &Route, outcome: Outcome) -> Self {
        Self {
            outcome,
            tool: Some(route.tool),
            route: Some(route.index),
            scope: Some(route.scope.clone()),
            resource: None,
            grant: None,
        }
    }

    fn on(self, resource: Option<Resource>, grant: Option<GrantUse>) -> Self {
        Self {
            resource,
            grant,
            ..self
        }
    }
}

/// The whole way of a call whose target is canonical: route, resource, [`decide`].
pub fn answer(
    policy: &Policy,
    subject: Subject<'_>,
    method: &str,
    target: &Target,
    now: Now,
) -> Answer {
    let matched = match policy.table.find(method, target) {
        Ok(matched) => matched,
        Err(NoRoute::Tool) => return Answer::unrouted(Reason::NoRoute, None),
        Err(NoRoute::Route(tool) | NoRoute::Called(tool)) => {
            return Answer::unrouted(Reason::NoRoute, Some(tool));
        }
    };
    let route = policy.route(matched.route);
    let resource = match acts_on(route, &matched.captures, &Bare(subject.session)) {
        Ok(resource) => resource,
        // Not "no resource": it can't be said what the call acts on.
        Err(_) => return Answer::of(route, UNFILLED),
    };
    let access = AccessRequest { route, resource };
    match decide(policy, subject, access, now) {
        Decision::Allow(permit) => {
            Answer::of(route, Outcome::Allow).on(permit.resource, Some(permit.grant))
        }
        Decision::Hold(hold) => {
            Answer::of(route, Outcome::Hold).on(hold.resource, Some(hold.grant))
        }
        Decision::Deny(denial) => {
            Answer::of(route, Outcome::Deny(denial.reason)).on(denial.resource, None)
        }
    }
}

/// A template that can't be filled leaves nothing that a ceiling could allow.
const UNFILLED: Outcome = Outcome::Deny(Reason::ResourceOutsideCeiling);

/// A decision and how it came about.
#[derive(Clone, Debug)]
pub struct Trace {
    /// In the order of the journey; the last but `Limits` is the one that decided.
    pub steps: Vec<Step>,
    /// The word.
    pub answer: Answer,
}

/// One step of the journey.
#[derive(Clone, Debug)]
pub enum Step {
    /// Whether the session is one of this project.
    Project(bool),
    /// Whether the project has the session's agent. One it does not have holds nothing, which the scope will say.
    Agent(bool),
    /// The canonical target, or why there is none.
    Target(Result<Target, Ambiguity>),
    /// Whose host or mount it is.
    Tool(Option<ToolIndex>),
    /// The route that answers; else the methods that would find one there.
    Route(Result<Routed, Vec<&'static str>>),
    /// The resource that the route acts on can't be computed: what it reads and what is not there.
    Unfilled(Vec<Part>),
    /// Whether the scope lies in the ceiling.
    Scope(ScopeName, Held),
    /// What it acts on, and every list that must have it.
    Resource(Option<Resource>, Vec<Bounds>),
    /// How a grant comes about, and the one it would go on.
    Grant(GrantMode, Option<GrantUse>),
    /// Whether people are asked.
    Approval(bool),
    /// Limits that would count the call.
    Limits(Vec<LimitIndex>),
}

/// What matched.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The route.
    pub route: RouteIndex,
    /// Names and values, still percent-encoded.
    pub captures: Vec<(Box<str>, Box<str>)>,
}

/// Whether a scope lies in a session's ceiling, and where it is lost if it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It does.
    Yes,
    /// The agent's ceiling does not have it.
    NotByAgent(AgentName),
    /// The session was narrowed to others.
    NotLeft,
    /// So it is of a session above it, which is of this agent.
    NotByParent(AgentName),
}

/// A list of patterns, of which one must match; of several resources one for each.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Whose ceiling it is.
    pub agent: AgentName,
    /// It is what narrowing left, not what the agent's ceiling says.
    pub narrowed: bool,
    /// It is that of a session above this one.
    pub above: bool,
    /// In file order.
    pub patterns: Vec<Tried>,
    /// Whether each of what the call acts on is matched by one.
    holds: bool,
}

/// A pattern that was tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// As written.
    pub pattern: ResourcePattern,
    /// As it reads for this session; `None`: an attribute is missing.
    pub filled: Option<String>,
    /// Whether it matches; of several resources each.
    pub matches: bool,
}

impl Bounds {
    fn of(listed: &Listed<'_>, own: &Session, resource: Option<&Resource>) -> Self {
        let attributes: &Attributes = &listed.session.attributes;
        let tried = |pattern: &ResourcePattern| Tried {
            pattern: pattern.clone(),
            filled: pattern.filled(attributes),
            matches: resource.is_some_and(|resource| pattern.matches(resource, attributes)),
        };
        Self {
            agent: listed.session.agent.clone(),
            narrowed: listed.narrowed,
            above: !std::ptr::eq(listed.session, own),
            patterns: listed.patterns.iter().map(tried).collect(),
            holds: resource.is_some_and(|it| it.is_within(listed.patterns, attributes)),
        }
    }

    /// Whether it has all that the call acts on.
    pub fn holds(&self) -> bool {
        self.holds
    }
}

/// Each step of the way of a call, until one decides.
pub fn trace(policy: &Policy, subject: Subject<'_>, asked: Asked<'_>, now: Now) -> Trace {
    let mut steps = Vec::new();
    let answer = walk(policy, subject, asked, now, &mut steps);
    steps.push(Step::Limits(counting(policy, &answer)));
    Trace { steps, answer }
}

fn walk(
    policy: &Policy,
    subject: Subject<'_>,
    asked: Asked<'_>,
    now: Now,
    steps: &mut Vec<Step>,
) -> Answer {
    let session = subject.session;
    let own_project = session.project == policy.project;
    steps.push(Step::Project(own_project));
    let known = policy.agents.contains_key(&session.agent);
    steps.push(Step::Agent(known));
    let target = Target::parse(asked.target, asked.host);
    steps.push(Step::Target(target.clone()));
    let Ok(target) = target else {
        return Answer::unrouted(Reason::TargetAmbiguous, None);
    };
    let matched = match found(policy, asked.method, &target, steps) {
        Ok(matched) => matched,
        Err(tool) => return Answer::unrouted(Reason::NoRoute, tool),
    };
    let route = policy.route(matched.route);
    let denied = |reason| Answer::of(route, Outcome::Deny(reason));
    let resource = match acts_on(route, &matched.captures, &Bare(session)) {
        Ok(resource) => resource,
        Err(_) => {
            let missing = |part: &&Part| match part {
                Part::Session(name) => session.attributes.get(name).is_none(),
                _ => false,
            };
            let template = route.resource.iter();
            let missing = template.flat_map(|it| it.placeholders().filter(missing));
            steps.push(Step::Unfilled(missing.cloned().collect()));
            return Answer::of(route, UNFILLED);
        }
    };
    let held = if own_project {
        held(policy, session, route)
    } else {
        // Of another project: it holds nothing here.
        Held::NotByAgent(session.agent.clone())
    };
    steps.push(Step::Scope(route.scope.clone(), held.clone()));
    let effective = ceiling::ceiling_of_route(policy, session, route);
    let (Some(effective), Held::Yes) = (effective, held) else {
        return denied(Reason::ScopeOutsideCeiling).on(resource, None);
    };
    let lists = effective.listed();
    let bounds: Vec<Bounds> = lists
        .map(|listed| Bounds::of(&listed, session, resource.as_ref()))
        .collect();
    let within = bounds.iter().all(Bounds::holds);
    steps.push(Step::Resource(resource.clone(), bounds));
    if !within {
        return denied(Reason::ResourceOutsideCeiling).on(resource, None);
    }
    let mode = effective.grant();
    let grant = match mode {
        GrantMode::OnUse => Some(GrantUse::OnUse),
        GrantMode::OnRequest | GrantMode::OnApproval(_) => {
            stored(subject.grants, route, resource.as_ref(), now).map(GrantUse::Stored)
        }
    };
    steps.push(Step::Grant(mode, grant));
    if grant.is_none() {
        return denied(Reason::GrantMissing).on(resource, None);
    }
    steps.push(Step::Approval(route.approval.is_some()));
    let outcome = match route.approval {
        Some(_) => Outcome::Hold,
        None => Outcome::Allow,
    };
    Answer::of(route, outcome).on(resource, grant)
}

/// Tool and route; where there is no route, the tool if one was found.
fn found<'t>(
    policy: &'t Policy,
    method: &str,
    target: &'t Target,
    steps: &mut Vec<Step>,
) -> Result<Matched<'t>, Option<ToolIndex>> {
    match policy.table.find(method, target) {
        Ok(matched) => {
            let captures = matched.captures.iter();
            steps.push(Step::Tool(Some(matched.tool)));
            steps.push(Step::Route(Ok(Routed {
                route: matched.route,
                captures: captures.map(|(n, v)| (n.into(), v.into())).collect(),
            })));
            Ok(matched)
        }
        Err(NoRoute::Tool) => {
            steps.push(Step::Tool(None));
            Err(None)
        }
        Err(NoRoute::Route(tool) | NoRoute::Called(tool)) => {
            steps.push(Step::Tool(Some(tool)));
            let answering = |other: &&str| policy.table.find(other, target).is_ok();
            let others = METHODS.iter().copied();
            steps.push(Step::Route(Err(others.filter(answering).collect())));
            Err(Some(tool))
        }
    }
}

/// Methods that are tried where the one that was asked for finds nothing.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

fn held(policy: &Policy, session: &Session, route: &Route) -> Held {
    let has = |agent: &AgentName| {
        let agent = policy.agents.get(agent);
        agent.is_some_and(|agent| agent.scopes.contains_key(&route.scope))
    };
    let left = |session: &Session| {
        let narrowing = session.narrowing.as_ref();
        narrowing.is_none_or(|left| left.scopes.contains_key(&route.scope))
    };
    if !has(&session.agent) {
        return Held::NotByAgent(session.agent.clone());
    }
    if !left(session) {
        return Held::NotLeft;
    }
    let mut above = session.parent.as_deref();
    while let Some(parent) = above {
        if !has(&parent.agent) || !left(parent) {
            return Held::NotByParent(parent.agent.clone());
        }
        above = parent.parent.as_deref();
    }
    Held::Yes
}

/// Session-wide limits count every call whose session is known; those of the route whatever is decided; what others share
/// and what it costs only a call that would be forwarded or held.
fn counting(policy: &Policy, answer: &Answer) -> Vec<LimitIndex> {
    let mut limits = policy.session_wide.to_vec();
    if let Some(route) = answer.route {
        let route = policy.route(route);
        limits.extend(&route.session_limits);
        if answer.outcome.reason().is_none() {
            limits.extend(&route.shared_limits);
            limits.extend(&route.cost_limits);
        }
    }
    limits.sort_unstable();
    limits.dedup();
    limits
}
