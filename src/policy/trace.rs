//! A decision again, for people: the one answer of the whole way from target to grant ([`answer`]), and each step that
//! led to it ([`trace`]).
//!
//! Beside the hot path, and on the same primitives: [`answer`] asks [`decide`] itself, [`trace`] walks the steps one by
//! one, and a law holds the two to the same verdict. It refuses to touch counters: of limits it says which would count,
//! never whether there is room.
//!
//! A call is taken as a [`Call`], which may not [know](Call::knows) all of itself: where that would decide, the answer is
//! that it is unknown. It is long because it has a step for each step of the journey.

mod arms;
mod told;

pub use arms::{Arm, Fit, Judged, Verdict, search};
pub use told::{Told, ToldBody};

use super::attributes::Attributes;
use super::call::{Call, RefusedBody};
use super::ceiling::{self, Listed};
use super::choice::{self, acts_on};
use super::condition::Subject as Looked;
use super::decision::{Decision, GrantUse, Reason};
use super::fields::FieldFault;
use super::mcp;
use super::model::{
    GrantMode, IntentRule, LimitIndex, Policy, Protocol, Route, RouteIndex, ToolIndex,
};
use super::name::{AgentName, ScopeName};
use super::resource::{Part, Resource, ResourcePattern, Unfilled};
use super::route::{Matched, NoRoute, called};
use super::shadow::{WouldBe, all_shadowed, shadowed};
use super::subject::{Session, Subject};
use super::target::{Ambiguity, Target};
use super::time::Now;
use super::{AccessRequest, decide, stored};

/// A call as it would arrive.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// By method and target.
    Http {
        /// In upper case.
        method: &'a str,
        /// `Host` or `:authority`.
        host: &'a str,
        /// Origin-form or absolute-form, as sent.
        target: &'a str,
    },
    /// By its body.
    Called {
        /// Of which tool.
        tool: ToolIndex,
        /// `tools/call`; `call`.
        method: &'a str,
        /// What is called, or read.
        name: Option<&'a str>,
    },
}

/// A call that can be looked up.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// By method, in upper case, and target.
    Http(&'a str, &'a Target),
    /// By its body: a method, and what it is for.
    Called(ToolIndex, &'a str, Option<&'a str>),
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
    /// Of [`Outcome::Unknown`]: what is not known of the call, as the policy names it, `body./amount`.
    pub unknown: Option<Box<str>>,
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
    /// What would decide is not known of the call.
    Unknown,
}

impl Outcome {
    /// `allow`, `hold`, `deny`, `unknown`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Hold => "hold",
            Outcome::Deny(_) => "deny",
            Outcome::Unknown => "unknown",
        }
    }

    /// Whether it would be forwarded, now or when people agree.
    pub const fn passes(self) -> bool {
        matches!(self, Outcome::Allow | Outcome::Hold)
    }

    /// Why it is denied.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Outcome::Deny(reason) => Some(reason),
            Outcome::Allow | Outcome::Hold | Outcome::Unknown => None,
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
            unknown: None,
        }
    }

    /// Of a message that needs no route.
    fn exempt(tool: ToolIndex) -> Self {
        Self {
            outcome: Outcome::Allow,
            ..Self::unrouted(Reason::NoRoute, Some(tool))
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
            unknown: None,
        }
    }

    /// Why it does not pass, as far as a route in shadow would let it pass all the same.
    fn would(&self) -> Option<Reason> {
        let reason = match self.outcome {
            Outcome::Deny(reason) => reason,
            Outcome::Hold => Reason::PendingApproval,
            Outcome::Allow | Outcome::Unknown => return None,
        };
        WouldBe::of(reason).map(WouldBe::reason)
    }

    /// No route judges the call.
    fn unfit(self, fit: Fit) -> Self {
        let (outcome, unknown) = match fit {
            Fit::Refused(reason) => (Outcome::Deny(reason), None),
            Fit::RefusedBody(refused) => (Outcome::Deny(refused.reason()), None),
            Fit::Unknown(what) => (Outcome::Unknown, Some(what)),
            // A search ends with neither.
            Fit::Taken | Fit::Next => (Outcome::Deny(Reason::Internal), None),
        };
        Self {
            outcome,
            unknown,
            ..self
        }
    }

    /// What it is for decides, and is not said, or not known.
    fn about_intent(self) -> Self {
        Self {
            unknown: (self.outcome == Outcome::Unknown).then(|| "intent".into()),
            ..self
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

/// The whole way of a call that can be looked up: route, conditions, resource, [`decide`].
pub fn answer(
    policy: &Policy,
    subject: Subject<'_>,
    wanted: Wanted<'_>,
    call: &dyn Call,
    now: Now,
) -> Answer {
    let path;
    let found = match wanted {
        Wanted::Http(method, target) => policy.table.find(method, target),
        Wanted::Called(tool, method, name) => {
            path = called(method, name);
            let found = path.as_deref();
            let found = found.and_then(|path| find_called(policy, tool, path));
            if found.is_none() && is_exempt(policy, tool, method) {
                return Answer::exempt(tool);
            }
            found.ok_or(NoRoute::Route(tool))
        }
    };
    match found {
        Ok(first) => match forbidden(policy, &first, wanted, call) {
            Some(fault) => Answer::of(policy.route(first.route), Outcome::Deny(fault.reason())),
            None => answer_matched(policy, subject, first, call, now),
        },
        Err(NoRoute::Tool) => Answer::unrouted(Reason::NoRoute, None),
        Err(NoRoute::Route(tool) | NoRoute::Called(tool)) => {
            Answer::unrouted(Reason::NoRoute, Some(tool))
        }
    }
}

/// Why the fields of a call may not be sent, before anything is decided. Nothing is sent for a function.
fn forbidden(
    policy: &Policy,
    first: &Matched<'_>,
    wanted: Wanted<'_>,
    call: &dyn Call,
) -> Option<FieldFault> {
    let target = match wanted {
        Wanted::Http(_, target) => Some(target),
        Wanted::Called(..) => None,
    };
    match policy.tool(first.tool) {
        tool if tool.protocol == Protocol::Function => None,
        tool => call.forbidden(tool, target),
    }
}

/// Functions are found by their name, whichever tool they are of.
fn find_called<'t>(policy: &'t Policy, tool: ToolIndex, path: &'t str) -> Option<Matched<'t>> {
    match policy.tool(tool).protocol {
        Protocol::Function => policy.table.find_function(path),
        Protocol::Http | Protocol::Mcp => policy.table.find_call(tool, path),
    }
}

/// Whether a message belongs to the protocol of the tool itself, and passes without a route.
pub fn is_exempt(policy: &Policy, tool: ToolIndex, method: &str) -> bool {
    let said = match method.starts_with(mcp::NOTIFICATIONS) {
        true => mcp::Said::Notification(method),
        false => mcp::Said::Request(method),
    };
    policy.tool(tool).protocol == Protocol::Mcp && mcp::exempt(said).is_some()
}

/// The same from the first route of its match on.
pub fn answer_matched(
    policy: &Policy,
    subject: Subject<'_>,
    first: Matched<'_>,
    call: &dyn Call,
    now: Now,
) -> Answer {
    let matched = match arms::search(policy, first, call, &mut |_, _| ()) {
        Ok(matched) => matched,
        Err((route, fit)) => return Answer::of(policy.route(route), Outcome::Unknown).unfit(fit),
    };
    let route = policy.route(matched.route);
    if let Some(outcome) = unintended(route, call) {
        return Answer::of(route, outcome).about_intent();
    }
    let resource = match resource_of(route, &matched, call) {
        Ok(resource) => resource,
        // Not "no resource": it can't be said what the call acts on.
        Err(why) => return Answer::of(route, Outcome::Unknown).unfit(why.fit()),
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

/// What comes of a call on a route that wants to know what it is for, where that is not said or not known.
fn unintended(route: &Route, call: &dyn Call) -> Option<Outcome> {
    match (route.intent, call.intended()) {
        (IntentRule::Optional, _) | (IntentRule::Required, Some(true)) => None,
        (IntentRule::Required, Some(false)) => Some(Outcome::Deny(Reason::IntentMissing)),
        (IntentRule::Required, None) => Some(Outcome::Unknown),
    }
}

/// What a call acts on, where that is known.
fn resource_of(
    route: &Route,
    matched: &Matched<'_>,
    call: &dyn Call,
) -> Result<Option<Resource>, Vague> {
    let Some(template) = &route.resource else {
        return Ok(None);
    };
    let unknown = |part: &Part| {
        let name = part.to_string();
        Vague::Unknown(name.trim_matches(['{', '}']).into())
    };
    let mut of_body = template.placeholders().filter(|part| part.reads_body());
    if let Some(part) = of_body.find(|part| !knows(call, part)) {
        return Err(unknown(part));
    }
    if template.reads_body()
        && let Some(refused) = call.refused_body(route.body_limit)
    {
        return Err(Vague::Body(refused));
    }
    if let Some(part) = template.placeholders().find(|part| !knows(call, part)) {
        return Err(unknown(part));
    }
    acts_on(route, &matched.captures, call).map_err(|why| match why {
        choice::Vague::Unfilled(unfilled) => Vague::Unfilled(unfilled),
        choice::Vague::Unread => Vague::Unknown("body".into()),
    })
}

fn knows(call: &dyn Call, part: &Part) -> bool {
    match part {
        Part::Literal(_) | Part::Path(_) => true,
        Part::Session(name) => call.knows(&Looked::Session(name.clone())),
        Part::Query(name) => call.knows(&Looked::Query(name.clone())),
        Part::Header(name) => call.knows(&Looked::Header(name.clone())),
        Part::Body(pointer) => call.knows(&Looked::Body(pointer.clone())),
        Part::Args(pointer) => call.knows(&Looked::Args(pointer.clone())),
        Part::Id => call.knows(&Looked::Id),
        Part::Property(pointer) => call.knows(&Looked::Property(pointer.clone())),
    }
}

/// Why it can't be said what a call acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vague {
    /// This of what it is read from can't be used.
    Unfilled(Unfilled),
    /// It is read from a body that is refused before.
    Body(RefusedBody),
    /// It is read from this, which is not known.
    Unknown(Box<str>),
}

impl Vague {
    fn fit(self) -> Fit {
        match self {
            Vague::Unfilled(unfilled) => Fit::Refused(unfilled.reason()),
            Vague::Body(refused) => Fit::RefusedBody(refused),
            Vague::Unknown(what) => Fit::Unknown(what),
        }
    }
}

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
    /// The canonical target, or why there is none; `None`: the body names the call.
    Target(Option<Result<Target, Ambiguity>>),
    /// Whose host or mount it is.
    Tool(Option<ToolIndex>),
    /// The route that answers; else the methods that would find one there.
    Route(Result<Routed, Vec<&'static str>>),
    /// It needs none: the message belongs to the protocol itself.
    Exempt,
    /// A route with conditions was asked.
    Arm(Arm),
    /// A header field may not be sent.
    Field(FieldFault),
    /// The route wants to know what the call is for; whether that is said, where it is known.
    Intent(Option<bool>),
    /// The resource that the route acts on can't be computed.
    Vague(Vague),
    /// Whether the scope lies in the ceiling.
    Scope(ScopeName, Held),
    /// What it acts on, and every list that must have it.
    Resource(Option<Resource>, Vec<Bounds>),
    /// How a grant comes about, and the one it would go on.
    Grant(GrantMode, Option<GrantUse>),
    /// Whether people are asked.
    Approval(bool),
    /// What keeps the call from passing does not: its route is in shadow.
    Shadow,
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
pub fn trace(
    policy: &Policy,
    subject: Subject<'_>,
    asked: Asked<'_>,
    call: &dyn Call,
    now: Now,
) -> Trace {
    let mut steps = Vec::new();
    let answer = walk(policy, subject, (asked, call), now, &mut steps);
    steps.push(Step::Limits(counting(policy, &answer)));
    Trace { steps, answer }
}

fn walk(
    policy: &Policy,
    subject: Subject<'_>,
    (asked, call): (Asked<'_>, &dyn Call),
    now: Now,
    steps: &mut Vec<Step>,
) -> Answer {
    let session = subject.session;
    steps.push(Step::Project(session.project == policy.project));
    let known = policy.agents.contains_key(&session.agent);
    steps.push(Step::Agent(known));
    match asked {
        Asked::Http {
            method,
            host,
            target,
        } => {
            let target = Target::parse(target, host);
            steps.push(Step::Target(Some(target.clone())));
            let Ok(target) = target else {
                return Answer::unrouted(Reason::TargetAmbiguous, None);
            };
            let wanted = Wanted::Http(method, &target);
            match found(policy, method, &target, steps) {
                Ok(first) if let Some(fault) = forbidden(policy, &first, wanted, call) => {
                    refused_field(policy, &first, fault, steps)
                }
                Ok(first) => judged(policy, subject, (first, call), now, steps),
                Err(tool) => Answer::unrouted(Reason::NoRoute, tool),
            }
        }
        Asked::Called { tool, method, name } => {
            steps.push(Step::Target(None));
            let path = called(method, name);
            let first = path
                .as_deref()
                .and_then(|path| find_called(policy, tool, path));
            let of = first.as_ref().map_or(tool, |first| first.tool);
            steps.push(Step::Tool(Some(of)));
            let Some(first) = first else {
                if is_exempt(policy, tool, method) {
                    steps.push(Step::Exempt);
                    return Answer::exempt(tool);
                }
                steps.push(Step::Route(Err(Vec::new())));
                return Answer::unrouted(Reason::NoRoute, Some(tool));
            };
            let wanted = Wanted::Called(tool, method, name);
            if let Some(fault) = forbidden(policy, &first, wanted, call) {
                return refused_field(policy, &first, fault, steps);
            }
            judged(policy, subject, (first, call), now, steps)
        }
    }
}

/// Before any route of a match is asked.
fn refused_field(
    policy: &Policy,
    first: &Matched<'_>,
    fault: FieldFault,
    steps: &mut Vec<Step>,
) -> Answer {
    let outcome = Outcome::Deny(fault.reason());
    steps.push(Step::Field(fault));
    Answer::of(policy.route(first.route), outcome)
}

/// From the first route of a match on.
fn judged(
    policy: &Policy,
    subject: Subject<'_>,
    (first, call): (Matched<'_>, &dyn Call),
    now: Now,
    steps: &mut Vec<Step>,
) -> Answer {
    let found = arms::search(policy, first, call, &mut |arm, fit| {
        let captures = arm.captures.iter();
        steps.push(Step::Route(Ok(Routed {
            route: arm.route,
            captures: captures.map(|(n, v)| (n.into(), v.into())).collect(),
        })));
        steps.extend(Arm::told(policy, arm, fit, call).map(Step::Arm));
    });
    let matched = match found {
        Ok(matched) => matched,
        Err((route, fit)) => {
            let answer = Answer::of(policy.route(route), Outcome::Unknown).unfit(fit);
            // Which route would have judged it is not known.
            if all_shadowed(policy, &first) && answer.would().is_some() {
                steps.push(Step::Shadow);
            }
            return answer;
        }
    };
    let answer = decided(policy, subject, (matched, call), now, steps);
    let would = answer.would();
    if would.is_some_and(|reason| shadowed(policy.route(matched.route), reason).is_some()) {
        steps.push(Step::Shadow);
    }
    answer
}

/// From the route that judges the call on.
fn decided(
    policy: &Policy,
    subject: Subject<'_>,
    (matched, call): (Matched<'_>, &dyn Call),
    now: Now,
    steps: &mut Vec<Step>,
) -> Answer {
    let session = subject.session;
    let route = policy.route(matched.route);
    let denied = |reason| Answer::of(route, Outcome::Deny(reason));
    if route.intent == IntentRule::Required {
        steps.push(Step::Intent(call.intended()));
    }
    if let Some(outcome) = unintended(route, call) {
        return Answer::of(route, outcome).about_intent();
    }
    let resource = match resource_of(route, &matched, call) {
        Ok(resource) => resource,
        Err(why) => {
            steps.push(Step::Vague(why.clone()));
            return Answer::of(route, Outcome::Unknown).unfit(why.fit());
        }
    };
    let held = if session.project == policy.project {
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
            steps.push(Step::Tool(Some(matched.tool)));
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
        if answer.outcome.passes() {
            limits.extend(&route.shared_limits);
            limits.extend(&route.cost_limits);
        }
    }
    limits.sort_unstable();
    limits.dedup();
    limits
}
