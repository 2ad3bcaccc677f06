//! One recorded call, decided again in every way that what is not recorded could turn out.
//!
//! It is long because each thing that a record does not hold is one short case here, and they are read against each other.

use super::OF_THE_POLICY;
use super::record::{Record, digest, time};
use super::report::Words;
use super::runs::{POOR, RICH, Run, Runs, tick, unknown};
use crate::policy::attributes::Attributes;
use crate::policy::call::{Bare, OnPath};
use crate::policy::decision::{Decision, GrantUse, Reason};
use crate::policy::function;
use crate::policy::id::{ApprovalId, GrantId, SessionId};
use crate::policy::model::{
    Agent, IntentRule, Mount, Policy, PolicyHash, Protocol, Resources, Route, RouteIndex, Tool,
    ToolIndex,
};
use crate::policy::name::{AgentName, ScopeName};
use crate::policy::resource::{Part, Resource, ResourcePattern, Untried};
use crate::policy::route::{Matched, NoRoute, called};
use crate::policy::subject::{Grant, Narrowing, Session, Subject};
use crate::policy::target::{Ambiguity, Target};
use crate::policy::time::{Now, Timestamp};
use crate::policy::trace::{Outcome, is_exempt};
use crate::policy::{AccessRequest, decide};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// A decision as it was recorded.
pub(super) struct Old {
    pub time: Timestamp,
    pub request: String,
    pub agent: AgentName,
    pub session: SessionId,
    pub policy: PolicyHash,
    pub method: String,
    pub target: String,
    tool: Option<String>,
    pub words: Words,
    pub approval: Option<ApprovalId>,
    /// What it was for was said.
    intended: bool,
    /// What its body called, of a tool whose calls are named there.
    call: Option<String>,
    /// It needed no route.
    exempt: bool,
    /// Where it came from.
    pub client: Option<IpAddr>,
}

/// Whose word it was, where it was not the policy's.
pub(super) enum Beside {
    /// The gate's: limits, quarantine, the form of the request.
    Gate(String),
    /// People's, on a call that is counted where it was held.
    People,
    /// The call was for the gate itself.
    Own,
}

/// What another policy says of it.
pub(super) struct Judged {
    /// `Err`: what is not recorded and would decide.
    pub verdict: Result<Verdict, String>,
    /// The stored grant that is used, with as few and as many as there may be.
    pub spent: [Option<Spent>; 2],
    /// Scopes that the call may have needed: of each a grant may have been used, where it is not known which.
    pub scopes: Vec<ScopeName>,
    /// The session's attributes, where the call gave them away.
    pub learned: Option<Attributes>,
}

/// A use of a stored grant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    pub grant: GrantId,
    /// Reserved until people decide.
    pub waits: bool,
}

/// What is decided.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub outcome: Outcome,
    pub route: Option<RouteIndex>,
    pub scope: Option<ScopeName>,
    pub resource: Option<Resource>,
}

impl Verdict {
    /// As a record would have it.
    pub fn words(&self, policy: &Policy) -> Words {
        Words {
            route: self.route.map(|route| policy.route(route).id.to_string()),
            decision: self.outcome.as_str().to_owned(),
            reason: self
                .outcome
                .reason()
                .map(|reason| reason.as_str().to_owned()),
            scope: self.scope.as_ref().map(ToString::to_string),
            resource: self.resource.as_ref().map(ToString::to_string),
        }
    }
}

impl Old {
    /// `None`: it is no whole decision.
    pub fn of(record: &Record) -> Option<Self> {
        let (decision, reason) = record.decided()?;
        Some(Self {
            time: time(&record.time)?,
            request: record.request.clone()?,
            agent: AgentName::parse(record.agent.as_deref()?).ok()?,
            session: record.session.as_deref()?.parse().ok()?,
            policy: PolicyHash(digest(record.policy.as_deref()?)?),
            method: record.method.clone()?,
            target: record.target.clone()?,
            tool: record.tool.clone(),
            words: Words {
                route: record.route.clone(),
                decision,
                reason,
                scope: record.scope.clone(),
                resource: record.resource.clone(),
            },
            approval: match record.approval.as_deref() {
                None => None,
                Some(id) => Some(id.parse().ok()?),
            },
            intended: record.intent.is_some() || record.intent_sha256.is_some(),
            call: record.call.clone(),
            exempt: record.grant.as_deref() == Some("protocol"),
            client: match record.client.as_deref() {
                None => None,
                Some(text) => Some(text.parse().ok()?),
            },
        })
    }

    /// Whose word it was, where it was not the policy's.
    pub fn beside_the_policy(&self) -> Option<Beside> {
        if crate::policy::route::is_under(self.path(), crate::policy::route::OWN_PATH) {
            return Some(Beside::Own);
        }
        if self.words.decision != "hold" && self.approval.is_some() {
            return Some(Beside::People);
        }
        let reason = self.words.reason.as_deref()?;
        let own = OF_THE_POLICY.iter().any(|own| own.as_str() == reason);
        (!own).then(|| Beside::Gate(reason.to_owned()))
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn was(&self, reason: Reason) -> bool {
        self.words.reason.as_deref() == Some(reason.as_str())
    }

    /// What stands in the table for what its body called; `None`: it named none, or it is not on record to the letter.
    fn called(&self) -> Option<String> {
        let call = self.call.as_deref()?;
        let whole = !call.ends_with('…') && !call.contains(['\u{fffd}', '(', '*']);
        let (method, name) = match call.split_once(' ') {
            Some((method, name)) => (method, Some(name)),
            None => (call, None),
        };
        called(method, name).filter(|_| whole)
    }

    /// Whether its tool is one of functions.
    fn is_function_of(&self, policy: &Policy) -> bool {
        let is = |tool: &Tool| {
            tool.protocol == Protocol::Function && self.tool.as_deref() == Some(tool.name.as_str())
        };
        policy.tools.iter().any(is)
    }

    /// Whether a function was asked about, or an agent used a method of that name.
    pub fn asks(&self) -> bool {
        self.method == function::METHOD
    }

    /// Whether this route judged it.
    pub fn is_of(&self, route: &str) -> bool {
        self.words.route.as_deref() == Some(route)
    }

    /// Whether it was about the same act: what was found of that holds for both.
    fn same_act(&self, scope: &ScopeName, resource: Option<&Resource>) -> bool {
        self.words.scope.as_deref() == Some(scope.as_str())
            && self.words.resource.as_deref() == resource.map(Resource::as_str)
    }
}

/// What a call is judged by.
pub(super) struct Past<'a> {
    pub new: &'a Policy,
    /// The one that decided then.
    pub old: Option<&'a Policy>,
    pub runs: &'a Runs<'a>,
}

/// What a matched call comes to: verdicts by what attributes could be, then by what grants could be.
struct Ways {
    /// With as few grants as there may be, and as many.
    verdicts: Vec<[(Verdict, Option<Spent>); 2]>,
    /// What they differ by in the first place.
    subject: String,
    learned: Option<Attributes>,
}

/// All ways that were tried, on the way to one answer.
struct Tried {
    verdict: Result<Verdict, String>,
    spent: [Vec<Option<Spent>>; 2],
    scopes: Vec<ScopeName>,
    learned: Option<Attributes>,
}

impl Tried {
    fn one(verdict: Result<Verdict, String>) -> Self {
        Self {
            verdict,
            spent: [vec![None], vec![None]],
            scopes: Vec::new(),
            learned: None,
        }
    }
}

impl Past<'_> {
    pub fn judge(&self, old: &Old) -> Judged {
        let mut all: Option<Tried> = None;
        for host in self.hosts(old) {
            let tried = self.at_host(old, host);
            all = Some(match all {
                None => tried,
                Some(before) => both(before, tried, "host"),
            });
        }
        let tried = all.unwrap_or_else(|| Tried::one(Err("host".to_owned())));
        let [poor, rich] = tried.spent;
        let first = rich.first().copied().flatten();
        Judged {
            verdict: tried.verdict,
            // As many uses as there may be are left where none was surely made.
            spent: [
                poor.into_iter().flatten().next(),
                first.filter(|first| rich.iter().all(|other| *other == Some(*first))),
            ],
            scopes: tried.scopes,
            learned: tried.learned,
        }
    }

    /// Records do not have the host. A tool of the same name is taken to be found as it was; where there was none, any
    /// host may have been meant.
    fn hosts(&self, old: &Old) -> Vec<&str> {
        let mut tools = self.new.tools.iter();
        let then = old.tool.as_deref();
        if let Some(tool) = then.and_then(|name| tools.find(|tool| tool.name.as_str() == name)) {
            return vec![host_of(tool).unwrap_or(NOWHERE)];
        }
        let hosts = self.new.tools.iter().filter_map(host_of);
        std::iter::once(NOWHERE)
            .chain(hosts.take(HOSTS_MAX))
            .collect()
    }

    fn at_host(&self, old: &Old, host: &str) -> Tried {
        let target = Target::parse(&old.target, host);
        let path = old.called();
        let first = match look_up(self.new, old, target.as_ref().ok(), path.as_deref()) {
            // Methods have no spaces that anybody must respect: as it is written it was none that matched.
            Ok(first)
                if path.is_some()
                    && old.was(Reason::NoRoute)
                    && self.old_finds(old, &target, &path) =>
            {
                return unjudged(
                    "call".to_owned(),
                    std::iter::once(self.new.route(first.route)),
                );
            }
            Ok(first) => first,
            // What it called can't be told from what is recorded.
            Err(NoRoute::Called(tool)) => {
                let routes = self.new.routes.iter().filter(|route| route.tool == tool);
                return unjudged("call".to_owned(), routes);
            }
            Err(NoRoute::Route(tool)) if self.needs_none(old, tool) => {
                return Tried::one(Ok(Verdict {
                    outcome: Outcome::Allow,
                    route: None,
                    scope: None,
                    resource: None,
                }));
            }
            Err(NoRoute::Tool | NoRoute::Route(_)) if target.is_err() && !old.asks() => {
                return Tried::one(Err("target".to_owned()));
            }
            Err(NoRoute::Tool | NoRoute::Route(_)) => {
                return Tried::one(Ok(Verdict {
                    outcome: Outcome::Deny(Reason::NoRoute),
                    route: None,
                    scope: None,
                    resource: None,
                }));
            }
        };
        let wanted = (target.as_ref().ok(), path.as_deref());
        let matched = match self.arm(old, first, wanted) {
            Ok(matched) => matched,
            Err(Ok(verdict)) => return Tried::one(Ok(verdict)),
            Err(Err(subject)) => {
                let arms = self
                    .new
                    .table
                    .arms(first)
                    .map(|arm| self.new.route(arm.route));
                return unjudged(subject, arms);
            }
        };
        let route = self.new.route(matched.route);
        // Asked for before anything is decided.
        let unsaid = Verdict {
            outcome: Outcome::Deny(Reason::IntentMissing),
            route: Some(route.index),
            scope: Some(route.scope.clone()),
            resource: None,
        };
        match (route.intent, old.intended) {
            (IntentRule::Required, false) if old.was(Reason::IntentMissing) => {
                Tried::one(Ok(unsaid))
            }
            (IntentRule::Required, false) => both(
                self.matched(old, route, &matched),
                Tried::one(Ok(unsaid)),
                "intent",
            ),
            (IntentRule::Required, true) | (IntentRule::Optional, _) => {
                self.matched(old, route, &matched)
            }
        }
    }

    /// Whether the policy that decided then would find a route now, or is not known.
    fn old_finds(
        &self,
        old: &Old,
        target: &Result<Target, Ambiguity>,
        path: &Option<String>,
    ) -> bool {
        let finds = |then| look_up(then, old, target.as_ref().ok(), path.as_deref()).is_ok();
        self.old.is_none_or(finds)
    }

    /// Whether what was called belongs to the protocol itself.
    fn needs_none(&self, old: &Old, tool: ToolIndex) -> bool {
        let method = old.call.as_deref().and_then(|call| call.split(' ').next());
        old.exempt || method.is_some_and(|method| is_exempt(self.new, tool, method))
    }

    fn matched(&self, old: &Old, route: &Route, matched: &Matched<'_>) -> Tried {
        let scopes = vec![route.scope.clone()];
        let ways = match self.ways(old, route, matched) {
            Ok(ways) => ways,
            Err(subject) => {
                return Tried {
                    scopes,
                    ..Tried::one(Err(subject))
                };
            }
        };
        let all = || ways.verdicts.iter();
        let by = |grants: usize| all().map(move |way| &way[grants].0);
        let same = |grants: usize| {
            let first = &ways.verdicts[0][grants].0;
            by(grants).all(|verdict| verdict == first)
        };
        let verdict = if !same(POOR) || !same(RICH) {
            Err(ways.subject)
        } else if ways.verdicts[0][POOR].0 != ways.verdicts[0][RICH].0 {
            Err("grants".to_owned())
        } else {
            Ok(ways.verdicts[0][POOR].0.clone())
        };
        let spent = [POOR, RICH].map(|grants| all().map(|way| way[grants].1).collect());
        Tried {
            verdict,
            spent,
            scopes,
            learned: ways.learned,
        }
    }

    fn ways(&self, old: &Old, route: &Route, matched: &Matched<'_>) -> Result<Ways, String> {
        let run = self.runs.get(old.session);
        let facts = match run {
            Some(run) => self.runs.current(&run.facts),
            None => Arc::new(unknown(old.session, old.agent.clone(), self.new)),
        };
        let (resource, mut learned) = match self.resource(old, route, matched, run, &facts)? {
            Filled::By(resource, learned) => (resource, learned),
            Filled::Never => {
                let outside = verdict(route, Outcome::Deny(Reason::ResourceOutsideCeiling), None);
                return Ok(Ways {
                    verdicts: vec![[(outside.clone(), None), (outside, None)]],
                    subject: String::new(),
                    learned: None,
                });
            }
        };
        let open = run.is_none() || self.runs.is_open(&facts);
        let subject = self.subject(run, &facts, &route.scope);
        let mut sessions = Vec::with_capacity(2);
        match (
            open,
            self.held_then(old, route, resource.as_ref(), run, &facts),
        ) {
            (false, _) => sessions.push(facts),
            (true, Some(false)) => {
                let reason = Reason::ResourceOutsideCeiling;
                let outside = verdict(route, Outcome::Deny(reason), resource);
                return Ok(Ways {
                    verdicts: vec![[(outside.clone(), None), (outside, None)]],
                    subject: String::new(),
                    learned,
                });
            }
            (true, then) => {
                if then.is_none() {
                    sessions.push(Arc::new(least(&facts, run)));
                }
                let most = self.most(&facts, &route.scope, resource.as_ref());
                let most = most.map_err(|Untried| self.subject(run, &facts, &route.scope))?;
                if run.is_some_and(|run| run.has(&most.attributes)) {
                    // What it must have had to be within its ceiling is just what it had.
                    learned = Some(most.attributes.clone());
                    sessions.clear();
                    // What those above it have is not known by that.
                    let above = facts.parent.as_ref();
                    if above.is_some_and(|parent| self.runs.is_open(parent)) {
                        let mut own = Session::clone(&facts);
                        own.attributes = most.attributes.clone();
                        sessions.push(Arc::new(own));
                    }
                }
                sessions.push(Arc::new(most));
            }
        }
        let now = Now {
            wall: old.time,
            tick: tick(old.time),
        };
        let verdicts = sessions.iter().map(|session| {
            [POOR, RICH].map(|world| {
                let grants = grants(old, run, route, resource.as_ref(), world);
                let subject = Subject {
                    session,
                    grants: &grants,
                };
                decided(self.new, subject, route, resource.clone(), now)
            })
        });
        Ok(Ways {
            verdicts: verdicts.collect(),
            subject,
            learned,
        })
    }

    /// What the call acts on.
    fn resource(
        &self,
        old: &Old,
        route: &Route,
        matched: &Matched<'_>,
        run: Option<&Run>,
        facts: &Session,
    ) -> Result<Filled, String> {
        let Some(template) = &route.resource else {
            return Ok(Filled::By(None, None));
        };
        // What is recorded of a call is neither its query nor its fields nor its body.
        let unsaid = |part: &&Part| !matches!(part, Part::Path(_) | Part::Session(_));
        if let Some(part) = template.placeholders().find(unsaid) {
            let recorded = old
                .words
                .resource
                .as_deref()
                .filter(|_| self.same_route(old, route));
            let recorded = recorded.and_then(|text| Resource::parse_recorded(text).ok());
            let name = part.to_string();
            let name = || name.trim_matches(['{', '}']).to_owned();
            return recorded.map_or_else(|| Err(name()), |it| Ok(Filled::By(Some(it), None)));
        }
        let unknown = run.is_none_or(|run| run.digest.is_some());
        let read = template.attributes().next();
        let Some(name) = read.filter(|_| unknown) else {
            let captures = &matched.captures;
            let filled = template.fill(&OnPath {
                captures,
                call: &Bare(facts),
            });
            return Ok(filled.map_or(Filled::Never, |resource| Filled::By(Some(resource), None)));
        };
        let Some(pattern) = template.with_path(&matched.captures) else {
            return Ok(Filled::Never);
        };
        let recorded = old.words.resource.as_deref();
        let recorded = recorded.and_then(|text| Resource::parse(text).ok());
        let solved = recorded.as_ref().and_then(|it| pattern.solve(it));
        let learned = solved.filter(|solved| run.is_some_and(|run| run.has(solved)));
        if learned.is_some() || self.same_route(old, route) {
            let unfilled = recorded.is_none() && old.was(Reason::ResourceOutsideCeiling);
            if recorded.is_some() {
                return Ok(Filled::By(recorded, learned));
            }
            if unfilled {
                return Ok(Filled::Never);
            }
        }
        Err(format!("session.{name}"))
    }

    /// Whether the route that matched then read the same from the same.
    pub(super) fn same_route(&self, old: &Old, route: &Route) -> bool {
        let then = self.old.and_then(|then| {
            let id = old.words.route.as_deref()?;
            let route = then.routes.iter().find(|route| route.id.as_str() == id)?;
            Some((then, route))
        });
        then.is_some_and(|(policy, then)| {
            then.resource == route.resource
                && policy.written(then.index) == self.new.written(route.index)
        })
    }

    /// Whether the resource was found to be within the ceiling then, where the same patterns are asked now: whatever they
    /// read has not changed since.
    fn held_then(
        &self,
        old: &Old,
        route: &Route,
        resource: Option<&Resource>,
        run: Option<&Run>,
        facts: &Session,
    ) -> Option<bool> {
        let then = self.old?;
        if !old.same_act(&route.scope, resource) {
            return None;
        }
        if then.hash != self.new.hash {
            // Who is above it is not known.
            run?;
            let mut one = Some(facts);
            while let Some(session) = one {
                let (agent, scope) = (&session.agent, &route.scope);
                (bounds(then, agent, scope)? == bounds(self.new, agent, scope)?).then_some(())?;
                one = session.parent.as_deref();
            }
        }
        match old.words.reason.as_deref() {
            None => Some(true),
            Some(_) if old.was(Reason::GrantMissing) => Some(true),
            Some(_) if old.was(Reason::ResourceOutsideCeiling) => Some(false),
            Some(_) => None,
        }
    }

    /// The session as it would have to be to be within its ceiling, and above it the same.
    ///
    /// # Errors
    /// There are too many ways.
    fn most(
        &self,
        facts: &Session,
        scope: &ScopeName,
        resource: Option<&Resource>,
    ) -> Result<Session, Untried> {
        let mut session = facts.clone();
        if self
            .runs
            .get(facts.id)
            .is_none_or(|run| run.digest.is_some())
            && let (Some(resource), Some(Resources::Patterns(patterns))) =
                (resource, bounds(self.new, &facts.agent, scope))
        {
            session.attributes = resource.solve(patterns)?.unwrap_or_default();
        }
        session.parent = match &facts.parent {
            Some(parent) => Some(Arc::new(self.most(parent, scope, resource)?)),
            None => None,
        };
        Ok(session)
    }

    /// What is missing, by name.
    fn subject(&self, run: Option<&Run>, facts: &Session, scope: &ScopeName) -> String {
        if run.is_none() {
            return "session".to_owned();
        }
        let mut one = Some(facts);
        while let Some(session) = one {
            let unknown = self
                .runs
                .get(session.id)
                .is_none_or(|run| run.digest.is_some());
            if let (true, Some(Resources::Patterns(patterns))) =
                (unknown, bounds(self.new, &session.agent, scope))
            {
                let mut names = patterns.iter().flat_map(ResourcePattern::attributes);
                if let Some(name) = names.next() {
                    return format!("session.{name}");
                }
            }
            one = session.parent.as_deref();
        }
        "session".to_owned()
    }
}

/// The first route of a call's match.
pub(super) fn look_up<'t>(
    policy: &'t Policy,
    old: &'t Old,
    target: Option<&'t Target>,
    path: Option<&'t str>,
) -> Result<Matched<'t>, NoRoute> {
    let by_target = || match target {
        Some(target) => match (policy.table.find(&old.method, target), path) {
            (Err(NoRoute::Called(tool)), Some(path)) => {
                let found = policy.table.find_call(tool, path);
                found.ok_or(NoRoute::Route(tool))
            }
            (found, _) => found,
        },
        None => Err(NoRoute::Tool),
    };
    if !old.asks() {
        return by_target();
    }
    let by_name = policy.table.find_function(&old.target);
    match (by_name, by_target()) {
        // An agent may have sent a method of that name: records tell the two apart by the tool alone.
        (Some(first), Err(_)) if old.is_function_of(policy) => Ok(first),
        (Some(first), _) => Err(NoRoute::Called(first.tool)),
        (None, found) => found,
    }
}

/// It is not known which of these routes judges a call, by this.
fn unjudged<'p>(subject: String, routes: impl Iterator<Item = &'p Route>) -> Tried {
    Tried {
        scopes: routes.map(|route| route.scope.clone()).collect(),
        ..Tried::one(Err(subject))
    }
}

/// What a route's template comes to.
enum Filled {
    /// This, and what of the session that gave away.
    By(Option<Resource>, Option<Attributes>),
    /// It can't be computed.
    Never,
}

/// Two ways that may both have been: one answer if they agree.
fn both(a: Tried, b: Tried, subject: &str) -> Tried {
    let verdict = match (a.verdict, b.verdict) {
        (Err(subject), _) | (_, Err(subject)) => Err(subject),
        (Ok(a), Ok(b)) if a == b => Ok(a),
        (Ok(_), Ok(_)) => Err(subject.to_owned()),
    };
    let ([mut poor, mut rich], [more, most]) = (a.spent, b.spent);
    poor.extend(more);
    rich.extend(most);
    let mut scopes = a.scopes;
    scopes.extend(b.scopes);
    Tried {
        verdict,
        spent: [poor, rich],
        scopes,
        learned: None,
    }
}

/// The session with nothing that it may not have had.
fn least(facts: &Session, run: Option<&Run>) -> Session {
    let mut session = facts.clone();
    if run.is_none() {
        session.narrowing = Some(Narrowing {
            scopes: Default::default(),
        });
    }
    session
}

/// Grants of the session, as few or as many as there may have been.
fn grants<'r>(
    old: &Old,
    run: Option<&'r Run>,
    route: &Route,
    resource: Option<&Resource>,
    world: usize,
) -> Cow<'r, [Grant]> {
    let held = run.map_or(&[][..], |run| &run.grants[world]);
    // Calls at the same moment are not written down in the order in which grants were used: what was found then stands.
    let none = old.was(Reason::GrantMissing) && old.same_act(&route.scope, resource);
    match (world, run, none) {
        (POOR, _, true) => {
            let others = held.iter().filter(|grant| grant.scope != route.scope);
            Cow::Owned(others.cloned().collect())
        }
        (RICH, None, false) => Cow::Owned(vec![Grant::imagined(
            GrantId::new(Uuid::nil()),
            route.scope.clone(),
            None,
        )]),
        _ => Cow::Borrowed(held),
    }
}

fn decided(
    policy: &Policy,
    subject: Subject<'_>,
    route: &Route,
    resource: Option<Resource>,
    now: Now,
) -> (Verdict, Option<Spent>) {
    let of = |outcome, resource: Option<&Resource>| verdict(route, outcome, resource.cloned());
    let spent = |grant, waits| match grant {
        GrantUse::OnUse => None,
        GrantUse::Stored(grant) => Some(Spent { grant, waits }),
    };
    let access = AccessRequest {
        route: policy.route(route.index),
        resource,
    };
    match decide(policy, subject, access, now) {
        Decision::Allow(permit) => (
            of(Outcome::Allow, permit.resource()),
            spent(permit.grant(), false),
        ),
        Decision::Hold(hold) => (
            of(Outcome::Hold, hold.resource()),
            spent(hold.grant(), true),
        ),
        Decision::Deny(denial) => (
            of(Outcome::Deny(denial.reason), denial.resource.as_ref()),
            None,
        ),
    }
}

pub(super) fn verdict(route: &Route, outcome: Outcome, resource: Option<Resource>) -> Verdict {
    Verdict {
        outcome,
        route: Some(route.index),
        scope: Some(route.scope.clone()),
        resource,
    }
}

/// What an agent's ceiling of a scope bounds resources with.
fn bounds<'p>(policy: &'p Policy, agent: &AgentName, scope: &ScopeName) -> Option<&'p Resources> {
    let agent: &Agent = policy.agents.get(agent)?;
    agent.scopes.get(scope).map(|ceiling| &ceiling.resources)
}

fn host_of(tool: &Tool) -> Option<&str> {
    match &tool.mount {
        Mount::Host(host) => Some(host),
        Mount::Path(_) | Mount::None => None,
    }
}

/// A host that no tool has (RFC 6761).
const NOWHERE: &str = "nowhere.invalid";
/// Most hosts that are tried.
const HOSTS_MAX: usize = 64;
