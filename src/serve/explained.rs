//! A decision in words: each step that led to it, and the line of the file that decided. For the command line and the
//! admin API alike.
//!
//! It asks [`policy::trace`](crate::policy::trace) and decides nothing itself. What it says of a call is what the policy
//! says: limits are named, not asked for room, and a request's body and fields are not looked at.
//!
//! It is long because every step of the journey has its own words here, and nothing else.

use crate::config::{Lines, meant};
use crate::policy::approval::{Approvers, ChainIndex};
use crate::policy::attributes::Attributes;
use crate::policy::decision::GrantUse;
use crate::policy::id::SessionId;
use crate::policy::model::{GrantMode, IntentRule, Mount, Policy, RouteIndex};
use crate::policy::name::{AgentName, PrincipalName, ScopeName};
use crate::policy::resource::{Part, Resource};
use crate::policy::subject::{Grant, Session, Subject};
use crate::policy::time::{Now, Tick, Timestamp};
use crate::policy::trace::{self, Answer, Asked, Bounds, Held, Outcome, Routed, Step};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A call in words, `DELETE /crm/users/7`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In upper case.
    pub method: String,
    /// As it would be sent.
    pub target: String,
    /// `Host`.
    pub host: String,
}

impl Request {
    /// Of a method, a space and a target, and of the host that is called.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str, host: Option<&str>) -> Result<Self, String> {
        let (method, target) = text
            .trim()
            .split_once(char::is_whitespace)
            .map(|(method, target)| (method, target.trim_start()))
            .ok_or_else(|| {
                format!("`{text}` is not a request: write method and target, `DELETE /crm/users/7`")
            })?;
        let upper = method.to_ascii_uppercase();
        if method != upper {
            return Err(format!(
                "`{method}` is not a method: write `{upper} {target}`"
            ));
        }
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(format!("{method} is never forwarded, whatever the policy"));
        }
        let of_target = target
            .split_once("://")
            .map(|(_, rest)| &rest[..rest.find(['/', '?']).unwrap_or(rest.len())]);
        Ok(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: host.or(of_target).unwrap_or(HOST).to_owned(),
        })
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            method: &self.method,
            host: &self.host,
            target: &self.target,
        }
    }
}

/// Where nobody says which host is called.
const HOST: &str = "localhost";

/// What would be decided, and how it comes about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// `allow`, `hold` (people are asked) or `deny`.
    pub decision: &'static str,
    /// Why it is denied.
    pub reason: Option<&'static str>,
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
    /// What was found.
    pub says: String,
    /// Where the rule stands that decided, `file:line`.
    pub at: Option<String>,
}

/// Whose call it would be.
#[derive(Debug)]
pub struct Imagined {
    /// A session as if it had just been minted.
    pub session: Session,
    /// What it would hold.
    pub grants: Vec<Grant>,
}

impl Imagined {
    /// A session of this agent with these attributes, which holds a grant of each of these.
    pub fn new(
        policy: &Policy,
        agent: AgentName,
        attributes: Attributes,
        held: Vec<(ScopeName, Option<Resource>)>,
        now: Now,
    ) -> Self {
        let session = Session {
            ends: Tick::from_nanos(u64::MAX),
            project: policy.project.clone(),
            agent,
            attributes,
            parent: None,
            narrowing: None,
            bound_to: None,
            id: SessionId::new(Uuid::nil()),
            run: None,
            minted_by: PrincipalName::parse("nobody").expect("this is a name"),
            minted_at: now.wall,
            expires_at: Timestamp::from_micros(i64::MAX),
        };
        let numbered = (1u128..).zip(held);
        let grants = numbered.map(|(number, (scope, resource))| Grant {
            id: crate::policy::id::GrantId::new(Uuid::from_u128(number)),
            scope,
            resource,
            uses_left: 1,
            reserved: 0,
            uses: 1,
            expires_at: Timestamp::from_micros(i64::MAX),
            ends: Tick::from_nanos(u64::MAX),
            why: "".into(),
        });
        Self {
            session,
            grants: grants.collect(),
        }
    }

    /// For a decision.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            session: &self.session,
            grants: &self.grants,
        }
    }
}

/// What explaining stands on.
#[derive(Clone, Copy)]
pub struct Explainer<'a> {
    /// Whose word.
    pub policy: &'a Policy,
    /// Where it stands; `None`: not known.
    pub lines: Option<&'a Lines>,
    /// Who could be asked.
    pub approvers: &'a Approvers,
}

impl Explainer<'_> {
    /// What would be decided of a call.
    pub fn explain(&self, subject: Subject<'_>, request: &Request, now: Now) -> Explanation {
        let told = trace::trace(self.policy, subject, request.asked(), now);
        let answer = &told.answer;
        let steps = told.steps.iter();
        let mut steps: Vec<StepSaid> = steps
            .filter_map(|step| self.say(step, answer, subject, request))
            .collect();
        self.say_intent(answer, &mut steps);
        let route = answer.route.map(|route| self.policy.route(route));
        let asked = route
            .and_then(|route| route.approval)
            .filter(|_| answer.outcome == Outcome::Hold);
        Explanation {
            decision: answer.outcome.as_str(),
            reason: answer.outcome.reason().map(|reason| reason.as_str()),
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
            chain: asked.map(|chain| self.policy.chain(chain).name.to_string()),
            steps,
        }
    }

    fn say(
        &self,
        step: &Step,
        answer: &Answer,
        subject: Subject<'_>,
        request: &Request,
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
            Step::Target(target) => {
                let says = match target {
                    Ok(target) if target.as_str() == request.target => request.target.clone(),
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
                let says = match &others[..] {
                    [] => "the tool has none for this path".to_owned(),
                    others => format!(
                        "the tool has none for {} on this path, only for {}",
                        request.method,
                        others.join(", ")
                    ),
                };
                self.said("route", false, says, None)
            }
            Step::Unfilled(missing) => self.said(
                "resource",
                false,
                self.unfilled(route?, missing),
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

    fn unfilled(&self, route: RouteIndex, missing: &[Part]) -> String {
        let template = self.policy.route(route).resource.as_ref();
        let template = template.map_or_else(String::new, |it| format!("`{it}` "));
        match missing.first() {
            Some(part) => format!("{template}can't be computed: the session has no {part}"),
            None => format!("{template}can't be computed from this path"),
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
        let people = self.approvers.of(&self.policy.project, chain);
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

    /// Asked for before anything is decided, and never decides by what it says.
    fn say_intent(&self, answer: &Answer, steps: &mut Vec<StepSaid>) {
        let Some(route) = answer.route else {
            return;
        };
        if self.policy.route(route).intent == IntentRule::Required {
            let at = steps.iter().position(|step| step.step == "route");
            let at = at.map_or(steps.len(), |at| at + 1);
            let line = self.lines.and_then(|lines| lines.route(route));
            let says = "must be said: in `Toolgate-Intent`, or for the session";
            steps.insert(at, self.said("intent", true, says, line));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_words_is_taken_apart_and_what_is_none_is_said() {
        let of = |text: &str, host| Request::parse(text, host);
        let read = of("DELETE  /crm/users/7", None).unwrap();
        assert_eq!((&*read.method, &*read.target), ("DELETE", "/crm/users/7"));
        assert_eq!(read.host, "localhost");
        let whole = of("GET https://crm.example:8443/users?x=1", None).unwrap();
        assert_eq!(whole.host, "crm.example:8443");
        assert_eq!(
            of("GET /", Some("crm.example")).unwrap().host,
            "crm.example"
        );
        for (wrong, says) in [
            ("/crm/users/7", "write method and target"),
            ("delete /x", "write `DELETE /x`"),
            ("CONNECT x:1", "never forwarded"),
        ] {
            assert!(of(wrong, None).unwrap_err().contains(says), "{wrong}");
        }
    }
}
