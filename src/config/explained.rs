//! A decision in words: each step that led to it, and the line of the file that decided. For the command line, the admin
//! API and the tests of a project alike.
//!
//! It asks [`policy::trace`](crate::policy::trace) and decides nothing itself. What it says of a call is what the policy
//! says: limits are named, not asked for room, and what is not known of the call is said to be, never guessed at.
//!
//! It is long because every step of the journey has its own words here, and nothing else.

mod request;

use super::{Lines, meant};
use crate::policy::approval::{Approvers, ChainIndex};
use crate::policy::condition::{Condition, Subject as Looked};
use crate::policy::decision::GrantUse;
use crate::policy::json::Value;
use crate::policy::model::{GrantMode, Mount, Policy, RouteIndex, ToolIndex};
use crate::policy::name::{AgentName, PrincipalName, ScopeName};
use crate::policy::pin::CALL;
use crate::policy::resource::{Part, Resource, Unfilled};
use crate::policy::subject::Subject;
use crate::policy::target::Target;
use crate::policy::time::Now;
use crate::policy::trace::{
    self, Answer, Arm, Asked, Bounds, Fit, Held, Judged, Outcome, Routed, Step, Told, ToldBody,
    Vague, Verdict,
};
use serde::Serialize;
use utoipa::ToSchema;

pub use request::{Imagined, Request, Spelled, address, time};

/// What would be decided, and how it comes about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// `allow`, `hold` (people are asked), `deny`, or `unknown`: what decides was not said of the call.
    pub decision: &'static str,
    /// Why it is denied.
    pub reason: Option<&'static str>,
    /// What decides and was not said of the call: `body./amount`, `header.x-tenant`, `client`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// The call passes all the same, and this is on record: its route is in shadow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Whose rules decide.
    pub project: String,
    /// SHA-256 of the file they are in.
    pub policy: String,
    /// The kind of agent.
    pub agent: String,
    /// The rule that answers to the call.
    pub route: Option<String>,
    /// The permission it needs.
    pub scope: Option<String>,
    /// What it acts on.
    pub resource: Option<String>,
    /// What it would go on: `on_use`, or a stored grant.
    pub grant: Option<String>,
    /// Who is asked.
    pub chain: Option<String>,
    /// In the order of the journey, up to the one that decided.
    pub steps: Vec<StepSaid>,
}

/// One step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StepSaid {
    /// Its name.
    pub step: &'static str,
    /// Whether the call gets past it.
    pub passes: bool,
    /// It gets past it to the next route of the same match: a condition of this one does not hold.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub next: bool,
    /// What was found.
    pub says: String,
    /// Where the rule stands that decided, `file:line`.
    pub at: Option<String>,
}

/// What explaining stands on.
#[derive(Clone, Copy)]
pub struct Explainer<'a> {
    /// Whose word.
    pub policy: &'a Policy,
    /// Where it stands; `None`: not known.
    pub lines: Option<&'a Lines>,
    /// Who could be asked; `None`: not known.
    pub approvers: Option<&'a Approvers>,
}

impl Explainer<'_> {
    /// What would be decided of a call.
    ///
    /// # Errors
    /// The call is of no tool that the policy has.
    pub fn explain(
        &self,
        subject: Subject<'_>,
        request: &Request,
        now: Now,
    ) -> Result<Explanation, String> {
        let asked = request.asked(self.policy)?;
        let told = told(subject, request, asked, now, self.policy)?;
        let answer = &told.answer;
        let mut steps: Vec<StepSaid> = Vec::with_capacity(told.steps.len());
        for step in &told.steps {
            match step {
                Step::Arm(arm) => self.say_arm(arm, &mut steps),
                step => steps.extend(self.say(step, answer, subject, asked)),
            }
        }
        self.say_pin(answer, asked, &mut steps);
        let route = answer.route.map(|route| self.policy.route(route));
        let chain = route
            .and_then(|route| route.approval)
            .filter(|_| answer.outcome == Outcome::Hold);
        Ok(Explanation {
            decision: answer.outcome.as_str(),
            reason: answer.outcome.reason().map(|reason| reason.as_str()),
            shadow: told.steps.iter().any(|step| matches!(step, Step::Shadow)),
            unknown: answer.unknown.as_deref().map(str::to_owned),
            project: self.policy.project.to_string(),
            policy: self.policy.hash.to_string(),
            agent: subject.session.agent.to_string(),
            route: route.map(|route| route.id.to_string()),
            scope: answer.scope.as_ref().map(ToString::to_string),
            resource: answer.resource.as_ref().map(ToString::to_string),
            grant: answer.grant.map(|grant| match grant {
                GrantUse::OnUse => "on_use".to_owned(),
                GrantUse::Stored(id) => id.to_string(),
            }),
            chain: chain.map(|chain| self.policy.chain(chain).name.to_string()),
            steps,
        })
    }

    /// A route with conditions: a line for each.
    fn say_arm(&self, arm: &Arm, steps: &mut Vec<StepSaid>) {
        if let Fit::RefusedBody(refused) = &arm.fit {
            let line = self.lines.and_then(|lines| lines.route(arm.route));
            let says = format!("refused before it is judged: {refused}");
            steps.push(self.said("body", false, says, line));
        }
        let conditions = self.policy.route(arm.route).conditions.as_deref();
        let conditions = conditions.into_iter().flat_map(|all| &*all.0);
        for (at, (condition, judged)) in conditions.zip(&arm.judged).enumerate() {
            let line = self.lines.and_then(|lines| lines.condition(arm.route, at));
            let holds = judged.verdict == Verdict::Holds;
            let next = !holds && arm.fit == Fit::Next;
            let mut said = self.said("where", holds || next, in_words(condition, judged), line);
            if next {
                said.next = true;
                said.says.push_str(": the next route is asked");
            }
            steps.push(said);
        }
    }

    fn say(
        &self,
        step: &Step,
        answer: &Answer,
        subject: Subject<'_>,
        asked: Asked<'_>,
    ) -> Option<StepSaid> {
        let agent = &subject.session.agent;
        let route = answer.route;
        Some(match step {
            Step::Project(own) => self.said(
                "project",
                *own,
                match own {
                    true => self.policy.project.to_string(),
                    false => format!("{} is another project's", subject.session.project),
                },
                self.lines.map(Lines::name),
            ),
            Step::Agent(known) => self.said(
                "agent",
                *known,
                match known {
                    true => agent.to_string(),
                    false => format!("`{agent}` is not an agent of the project{}", {
                        let known = self.policy.agents.keys();
                        meant(agent.as_str(), known.map(AgentName::as_str))
                    }),
                },
                self.lines.and_then(|lines| lines.agent(agent)),
            ),
            // It is told with the tool.
            Step::Target(None) => return None,
            Step::Target(Some(target)) => {
                let written = match asked {
                    Asked::Http { target, .. } => target,
                    Asked::Called { .. } => "",
                };
                let says = match target {
                    Ok(target) if target.as_str() == written => written.to_owned(),
                    Ok(target) => format!("{}, in its one form", target.as_str()),
                    Err(ambiguity) => format!("refused before it is matched: {ambiguity}"),
                };
                self.said("target", target.is_ok(), says, None)
            }
            Step::Tool(tool) => self.said(
                "tool",
                tool.is_some(),
                match tool {
                    Some(tool) => {
                        let tool = self.policy.tool(*tool);
                        match &tool.mount {
                            Mount::Path(mount) => format!("{} at {mount}", tool.name),
                            Mount::Host(host) => format!("{} at host {host}", tool.name),
                            Mount::None => format!("{}, a function", tool.name),
                        }
                    }
                    None => self.no_tool(),
                },
                tool.and_then(|tool| self.lines?.tool(tool)),
            ),
            Step::Route(Ok(routed)) => self.said(
                "route",
                true,
                self.matched(routed),
                self.lines.and_then(|lines| lines.route(routed.route)),
            ),
            Step::Route(Err(others)) => {
                let says = self.unmatched(asked, answer.tool, others);
                self.said("route", false, says, None)
            }
            Step::Exempt => {
                let says = "needs none: such messages belong to the protocol itself, and what is listed is what the session could be granted";
                self.said("route", true, says, None)
            }
            // They have their own lines.
            Step::Arm(_) => return None,
            Step::Field(fault) => self.said(
                "field",
                false,
                format!("refused before it is judged: {fault}"),
                self.lines.and_then(|lines| lines.tool(answer.tool?)),
            ),
            Step::Intent(said) => self.said(
                "intent",
                *said == Some(true),
                match said {
                    Some(true) => "it is said what the call is for",
                    Some(false) => "must be said: in `Toolgate-Intent`, or for the session",
                    None => "`intent` would decide, and was not said",
                },
                self.lines.and_then(|lines| lines.route(route?)),
            ),
            Step::Vague(why) => self.said(
                "resource",
                false,
                self.vague(route?, why),
                self.lines.and_then(|lines| lines.resource_of_route(route?)),
            ),
            Step::Scope(scope, held) => self.scope(scope, held, agent, route?),
            Step::Resource(resource, bounds) => {
                let scope = answer.scope.as_ref()?;
                self.resource(resource.as_ref(), bounds, scope, route?)
            }
            Step::Grant(mode, grant) => {
                let scope = answer.scope.as_ref()?;
                self.grant(*mode, *grant, scope, agent)
            }
            Step::Approval(_) => self.approval(route?),
            Step::Shadow => self.said(
                "shadow",
                true,
                "the route is in shadow: the call passes all the same, and this is on record",
                self.lines.and_then(|lines| lines.route(route?)),
            ),
            Step::Limits(limits) if limits.is_empty() => return None,
            Step::Limits(limits) => {
                let ids = limits.iter();
                let ids: Vec<&str> = ids.map(|it| self.policy.limit(*it).id.as_str()).collect();
                let says = format!("{} would count it", ids.join(", "));
                let at = limits.first().and_then(|it| self.lines?.limit(*it));
                self.said("limits", true, says, at)
            }
        })
    }

    fn said(
        &self,
        step: &'static str,
        passes: bool,
        says: impl Into<String>,
        line: Option<u32>,
    ) -> StepSaid {
        StepSaid {
            step,
            passes,
            next: false,
            says: says.into(),
            at: line.and_then(|line| Some(self.lines?.shown(line))),
        }
    }

    fn no_tool(&self) -> String {
        let tools = self.policy.tools.iter();
        let found: Vec<String> = tools
            .filter_map(|tool| match &tool.mount {
                Mount::Path(mount) => Some(mount.to_string()),
                Mount::Host(host) => Some(format!("host {host}")),
                Mount::None => None,
            })
            .take(NAMED_MAX)
            .collect();
        format!(
            "none is found there; the project's tools are at {}",
            found.join(", ")
        )
    }

    fn unmatched(&self, asked: Asked<'_>, tool: Option<ToolIndex>, others: &[&str]) -> String {
        let named = tool.is_some_and(|tool| self.policy.tool(tool).protocol.names_calls());
        match (asked, others) {
            (Asked::Called { method, name, .. }, _) => {
                let name = name.map_or_else(String::new, |name| format!(" {name}"));
                format!("the tool has none for `{method}{name}`")
            }
            (Asked::Http { .. }, _) if named => {
                "the tool's calls are named by their body: ask for `tools/call NAME` of it"
                    .to_owned()
            }
            (Asked::Http { .. }, []) => "the tool has none for this path".to_owned(),
            (Asked::Http { method, .. }, others) => format!(
                "the tool has none for {method} on this path, only for {}",
                others.join(", ")
            ),
        }
    }

    fn matched(&self, routed: &Routed) -> String {
        let id = &self.policy.route(routed.route).id;
        let mut says = format!(
            "{id}, which answers to {}",
            self.policy.written(routed.route)
        );
        let mut mark = " with ";
        for (name, value) in &routed.captures {
            says.push_str(&format!("{mark}{name} = {value}"));
            mark = ", ";
        }
        says
    }

    fn vague(&self, route: RouteIndex, why: &Vague) -> String {
        let template = self.policy.route(route).resource.as_ref();
        let template = template.map_or_else(String::new, |it| format!("`{it}` "));
        match why {
            Vague::Unfilled(Unfilled { part, why }) => match part {
                Part::Session(name) => {
                    format!("{template}can't be computed: the session has no {name}")
                }
                part => format!("{template}can't be computed: {part} {why}"),
            },
            Vague::Body(refused) => {
                format!("{template}can't be computed: the body is refused, {refused}")
            }
            Vague::Unknown(what) => format!("{template}would decide, and `{what}` was not said"),
        }
    }

    fn scope(
        &self,
        scope: &ScopeName,
        held: &Held,
        agent: &AgentName,
        route: RouteIndex,
    ) -> StepSaid {
        let says = match held {
            Held::Yes => format!("{scope}, in the ceiling of {agent}"),
            Held::NotByAgent(agent) => format!("{scope} is not in the ceiling of {agent}"),
            Held::NotLeft => format!("the session was narrowed to other scopes than {scope}"),
            Held::NotByParent(agent) => {
                format!("a session above this one, of {agent}, does not hold {scope}")
            }
        };
        let own = self.lines.and_then(|lines| lines.scope(agent, scope));
        let needed = || self.lines.and_then(|lines| lines.scope_of_route(route));
        let line = match held {
            Held::Yes => own,
            // There is no line that gives it: that which asks for it.
            Held::NotByAgent(_) | Held::NotLeft | Held::NotByParent(_) => needed(),
        };
        self.said("scope", *held == Held::Yes, says, line)
    }

    fn resource(
        &self,
        resource: Option<&Resource>,
        bounds: &[Bounds],
        scope: &ScopeName,
        route: RouteIndex,
    ) -> StepSaid {
        let what = resource.map_or_else(|| "nothing named".to_owned(), ToString::to_string);
        let line = |bounds: &Bounds, at: usize| {
            let pattern = &bounds.patterns.get(at)?.pattern;
            (!bounds.narrowed).then_some(())?;
            self.lines?.pattern(&bounds.agent, scope, pattern)
        };
        if let Some(failed) = bounds.iter().find(|bounds| !bounds.holds()) {
            let whose = match (failed.narrowed, failed.above) {
                (false, false) => "the ceiling",
                (true, false) => "what the session was narrowed to",
                (_, true) => "what a session above this one holds",
            };
            let patterns: Vec<String> = failed.patterns.iter().map(read).collect();
            let says = format!("{what} is outside {whose}: {}", patterns.join(", "));
            return self.said("resource", false, says, line(failed, 0));
        }
        let Some(own) = bounds.first() else {
            let of_route = self.lines.and_then(|lines| lines.resource_of_route(route));
            let says = match resource {
                Some(_) => format!("{what}; the ceiling bounds none"),
                None => "nothing named, and the ceiling bounds none".to_owned(),
            };
            return self.said("resource", true, says, of_route);
        };
        let matched = own.patterns.iter().position(|tried| tried.matches);
        let matched = matched.unwrap_or_default();
        let says = match own.patterns.get(matched) {
            Some(tried) => format!("{what}, within {}", read(tried)),
            None => what,
        };
        self.said("resource", true, says, line(own, matched))
    }

    fn grant(
        &self,
        mode: GrantMode,
        grant: Option<GrantUse>,
        scope: &ScopeName,
        agent: &AgentName,
    ) -> StepSaid {
        let how = match mode {
            GrantMode::OnUse => "on use: made for the call, and gone after it".to_owned(),
            GrantMode::OnRequest => "on request".to_owned(),
            GrantMode::OnApproval(chain) => {
                format!("on approval by {}", self.asked(chain))
            }
        };
        let says = match (mode, grant) {
            (GrantMode::OnUse, _) => how,
            (_, Some(_)) => format!("{how}: the session holds one that covers the call"),
            (_, None) => format!("{how}: the session holds none that covers the call"),
        };
        let line = self.lines.and_then(|lines| lines.scope(agent, scope));
        self.said("grant", grant.is_some(), says, line)
    }

    fn approval(&self, route: RouteIndex) -> StepSaid {
        let own = self.lines.and_then(|lines| lines.approval_of_route(route));
        match self.policy.route(route).approval {
            None => self.said("approval", true, "nobody is asked", own),
            Some(chain) => {
                let at = own.or_else(|| self.lines?.chain(chain));
                self.said("approval", true, self.asked(chain), at)
            }
        }
    }

    /// `default: 1 of support-leads (dana) must agree`.
    fn asked(&self, chain: ChainIndex) -> String {
        let chain = self.policy.chain(chain);
        let groups: Vec<&str> = chain.approvers.iter().map(|it| it.as_str()).collect();
        let Some(approvers) = self.approvers else {
            let (name, quorum) = (&chain.name, chain.quorum);
            return format!("{name}: {quorum} of {} must agree", groups.join(", "));
        };
        let people = approvers.of(&self.policy.project, chain);
        let mut people: Vec<&str> = people.map(PrincipalName::as_str).collect();
        people.sort_unstable();
        let more = people.len().saturating_sub(NAMED_MAX);
        people.truncate(NAMED_MAX);
        let who = match (people.is_empty(), more) {
            (true, _) => "nobody is".to_owned(),
            (false, 0) => people.join(", "),
            (false, more) => format!("{} and {more} more", people.join(", ")),
        };
        format!(
            "{}: {} of {} ({who}) must agree",
            chain.name,
            chain.quorum,
            groups.join(", ")
        )
    }

    /// What a server says of its tools is no part of the policy: whether a call meets a changed one is not known here.
    fn say_pin(&self, answer: &Answer, asked: Asked<'_>, steps: &mut Vec<StepSaid>) {
        let Asked::Called { tool, method, .. } = asked else {
            return;
        };
        if answer.outcome.passes() && self.policy.tool(tool).pin && method == CALL {
            let line = self.lines.and_then(|lines| lines.tool(tool));
            let says = "the tool is pinned: refused as `tool_changed` unless the server says of it what was accepted; that the running gate alone knows (`toolgate pins list`)";
            // Before the word of people, who are not asked about one that has changed.
            let at = steps.iter().position(|step| step.step == "approval");
            let at = at.unwrap_or(steps.len());
            steps.insert(at, self.said("pin", true, says, line));
        }
    }
}

/// The call, as far as it is told of, traced.
fn told(
    subject: Subject<'_>,
    request: &Request,
    asked: Asked<'_>,
    now: Now,
    policy: &Policy,
) -> Result<trace::Trace, String> {
    let target = match asked {
        Asked::Http { target, host, .. } => Target::parse(target, host).ok(),
        Asked::Called { .. } => None,
    };
    let args = request.args.as_deref().map(Value::read).transpose();
    let args = args.map_err(|error| format!("the arguments: {error}"))?;
    let fields = &*request.headers;
    let body = request.body.as_deref();
    let call = Told {
        session: subject.session,
        query: target.as_ref().map(|it| it.query().unwrap_or_default()),
        fields,
        all_fields: request.headers_known,
        body: body.map(|bytes| ToldBody::read(bytes, fields)),
        args: args.as_ref(),
        intended: request.intended(),
        client: request.client,
        now: request.at,
    };
    Ok(trace::trace(policy, subject, asked, &call, now))
}

/// `body./amount: { at_most: 100 } does not hold`.
fn in_words(condition: &Condition, judged: &Judged) -> String {
    let more = judged.objection.as_ref();
    let more = more.map_or_else(String::new, |more| format!(": {more}"));
    match judged.verdict {
        Verdict::Holds => format!("{condition} holds"),
        Verdict::Fails => format!("{condition} does not hold{more}"),
        Verdict::Unevaluable(why) => format!("{condition} can't be judged: it {why}{more}"),
        Verdict::Unknown => {
            let what = match &condition.subject {
                Looked::Body(_) => "the body",
                Looked::Args(_) => "what the arguments are",
                Looked::Header(_) => "which header fields there are",
                Looked::Query(_) => "the query",
                Looked::Id | Looked::Property(_) => "what the function is asked about",
                Looked::Client => "where the call comes from",
                Looked::Hour(_) | Looked::Weekday(_) => "when the call is made",
                Looked::Path(_) | Looked::Session(_) | Looked::Agent => "its subject",
            };
            format!("{condition} would decide, and {what} was not said")
        }
    }
}

impl Explanation {
    /// Whether a step does not decide because something else was not said.
    pub fn leaves_open(&self, step: &StepSaid) -> bool {
        let unknown = self.unknown.as_ref();
        unknown.is_some_and(|unknown| !step.passes && !step.says.contains(&**unknown))
    }

    /// The step that decided.
    pub fn deciding(&self) -> Option<&StepSaid> {
        let mut steps = self.steps.iter();
        match self.decision {
            "allow" => steps.rfind(|step| step.step == "route"),
            "hold" => steps.rfind(|step| step.step == "approval"),
            _ => steps.rfind(|step| !step.passes && !self.leaves_open(step)),
        }
    }
}

/// `user:{session.customer_id} (user:7)`.
fn read(tried: &trace::Tried) -> String {
    let written = tried.pattern.to_string();
    match &tried.filled {
        Some(filled) if *filled == written => written,
        Some(filled) => format!("{written} ({filled})"),
        None => {
            let missing: Vec<&str> = tried.pattern.attributes().collect();
            format!("{written} (the session lacks {})", missing.join(", "))
        }
    }
}

/// Of lists, this many are named.
const NAMED_MAX: usize = 8;
