//! Small policies for laws and benchmarks: built through `Policy::assemble`, as the reader of files builds them.

#![allow(dead_code, reason = "each user of this file needs a part of it")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use toolgate::policy::approval::{Chain, ChainIndex};
use toolgate::policy::call::{Bare, OnPath};
use toolgate::policy::condition::{Condition, Subject, Test, Where};
use toolgate::policy::id::{GrantId, SessionId};
use toolgate::policy::limit::{Bound, Exceeded, Limit, Per, Select};
use toolgate::policy::model::{
    Agent, Ceiling, GrantMode, Http2, IntentRule, MatchPart, Mount, Parts, Policy, PolicyHash,
    Protocol, Resources, RoutePart, SessionHeader, Tool, ToolIndex, Upstream,
};
use toolgate::policy::name::{
    AgentName, ChainName, GroupName, LimitId, PrincipalName, ProjectName, RouteId, ScopeName,
    ToolName,
};
use toolgate::policy::resource::{Resource, ResourcePattern, ResourceTemplate};
use toolgate::policy::route::TableError;
use toolgate::policy::subject::{Grant, Narrowed, Narrowing, Session};
use toolgate::policy::template::{Captures, Template};
use toolgate::policy::time::{Now, Tick, Timestamp};
use uuid::Uuid;

/// Parts of a policy, put together line by line.
pub struct Builder {
    parts: Parts,
}

/// The project of every policy and session built here.
pub const PROJECT: &str = "demo";

impl Builder {
    /// No agent, no tool, no route, no limit.
    pub fn new() -> Self {
        let parts = Parts {
            project: ProjectName::parse(PROJECT).unwrap(),
            hash: PolicyHash([0; 32]),
            agents: Vec::new(),
            tools: Vec::new(),
            routes: Vec::new(),
            limits: Vec::new(),
            chains: Vec::new(),
            notify: Vec::new(),
        };
        Self { parts }
    }

    /// Tells one version of a policy from another.
    pub fn hash(mut self, byte: u8) -> Self {
        self.parts.hash = PolicyHash([byte; 32]);
        self
    }

    /// A tool at a mount that begins with `/`, or else at a host. Named `t0`, `t1`, ...
    pub fn tool(mut self, mount: &str) -> Self {
        let name = format!("t{}", self.parts.tools.len());
        let mount = if mount.starts_with('/') {
            Mount::Path(mount.into())
        } else {
            Mount::Host(mount.into())
        };
        self.parts.tools.push(Tool {
            name: ToolName::parse(&name).unwrap(),
            protocol: Protocol::Http,
            mount,
            upstream: Some(Upstream {
                authority: "127.0.0.1:9".into(),
                host: "127.0.0.1:9".into(),
                base_path: "".into(),
                timeout: Duration::from_secs(30),
                connect_timeout: Duration::from_secs(5),
                credential: None,
                tls: None,
                http2: Http2::Auto,
            }),
            oauth: None,
            preserve_host: false,
            session_header: SessionHeader::Authorization,
            allow_method_override: Box::default(),
            record_query: Box::default(),
            body_limit: 1 << 20,
            volatile_headers: Box::default(),
            mask_headers: Box::default(),
            pin: false,
        });
        self
    }

    /// A route of the last tool: `GET,POST /users/{id}`. Named `r0`, `r1`, ...
    pub fn route(mut self, matching: &str, scope: &str, resource: Option<&str>) -> Self {
        let (methods, template) = matching.split_once(' ').unwrap();
        let id = format!("r{}", self.parts.routes.len());
        let last = self.parts.tools.len().checked_sub(1).unwrap();
        self.parts.routes.push(RoutePart {
            conditions: None,
            id: RouteId::parse(&id).unwrap(),
            tool: ToolIndex(u32::try_from(last).unwrap()),
            matches: vec![MatchPart {
                methods: methods.split(',').map(Into::into).collect(),
                template: Template::parse(template).unwrap(),
            }],
            scope: ScopeName::parse(scope).unwrap(),
            resource: resource.map(|text| ResourceTemplate::parse(text).unwrap()),
            cost: None,
            irreversible: false,
            intent: IntentRule::Optional,
            shadow: false,
            body_limit: 1 << 20,
            upgrade: None,
            approval: None,
        });
        self
    }

    /// The last route asks this too, of calls.
    pub fn when(mut self, subject: Subject, test: Test) -> Self {
        let last = self.parts.routes.last_mut().unwrap();
        let have = last.conditions.take().unwrap_or_default().0;
        let tests = [test].into();
        let mut conditions = have.into_vec();
        conditions.push(Condition { subject, tests });
        last.conditions = Some(Where(conditions.into()));
        self
    }

    /// An agent and its ceilings.
    pub fn agent(mut self, name: &str, scopes: &[(&str, Ceiling)]) -> Self {
        let scopes: HashMap<_, _> = scopes
            .iter()
            .map(|(scope, ceiling)| (ScopeName::parse(scope).unwrap(), ceiling.clone()))
            .collect();
        self.parts.agents.push(Agent {
            name: AgentName::parse(name).unwrap(),
            ttl: Duration::from_secs(900),
            max_ttl: Duration::from_secs(14_400),
            max_live: None,
            scopes,
        });
        self
    }

    /// A chain of these groups.
    pub fn chain(mut self, name: &str, approvers: &[&str], quorum: u32) -> Self {
        let groups = approvers
            .iter()
            .map(|group| GroupName::parse(group).unwrap());
        self.parts.chains.push(Chain {
            name: ChainName::parse(name).unwrap(),
            approvers: groups.collect(),
            quorum,
            hold: Duration::from_secs(50),
            expires: Duration::from_secs(3600),
            denied_for: Duration::from_secs(600),
            pending_per_session: 16,
            pending_per_route: 8,
            notify: Box::default(),
        });
        self
    }

    /// Every route so far asks the last chain.
    pub fn asking(mut self) -> Self {
        let last = self.parts.chains.len().checked_sub(1).unwrap();
        let chain = ChainIndex(u16::try_from(last).unwrap());
        for route in &mut self.parts.routes {
            route.approval = Some(chain);
        }
        self
    }

    /// A limit on every call.
    pub fn limit(self, id: &str, per: Per, bound: Bound) -> Self {
        self.limit_of(id, per, Select::default(), bound, Exceeded::Throttle)
    }

    /// A limit on some calls.
    pub fn limit_of(
        mut self,
        id: &str,
        per: Per,
        select: Select,
        bound: Bound,
        exceeded: Exceeded,
    ) -> Self {
        self.parts.limits.push(Limit {
            id: LimitId::parse(id).unwrap(),
            per,
            select,
            bound,
            exceeded,
        });
        self
    }

    /// The parts as they are.
    pub fn parts(self) -> Parts {
        self.parts
    }

    /// The policy, or what is wrong with it.
    pub fn assemble(self) -> Result<Policy, Vec<TableError>> {
        Policy::assemble(self.parts)
    }

    /// The policy.
    pub fn build(self) -> Policy {
        self.assemble().expect("a policy without faults")
    }
}

/// A ceiling; no patterns: any resource.
pub fn ceiling(grant: GrantMode, patterns: &[&str]) -> Ceiling {
    let resources = if patterns.is_empty() {
        Resources::Any
    } else {
        Resources::Patterns(patterns.iter().map(|text| pattern(text)).collect())
    };
    Ceiling {
        grant,
        uses: 5,
        ttl: Duration::from_secs(300),
        grants: 10,
        resources,
    }
}

/// A pattern as the YAML writes it.
pub fn pattern(text: &str) -> ResourcePattern {
    ResourcePattern::parse(text).unwrap()
}

/// A session of [`PROJECT`] with these attributes, neither narrowed nor a child.
pub fn session(agent: &str, attributes: &[(&str, &str)]) -> Session {
    Session {
        id: SessionId::new(Uuid::from_u128(1)),
        project: ProjectName::parse(PROJECT).unwrap(),
        agent: AgentName::parse(agent).unwrap(),
        attributes: attributes.iter().copied().collect(),
        narrowing: None,
        parent: None,
        run: None,
        bound_to: None,
        minted_by: PrincipalName::parse("orchestrator").unwrap(),
        minted_at: Timestamp::from_micros(0),
        expires_at: Timestamp::from_micros(900_000_000),
        ends: Tick::from_nanos(900_000_000_000),
    }
}

/// What is left of one scope: its name, patterns and uses.
pub type NarrowedTo<'a> = (&'a str, Option<Vec<ResourcePattern>>, Option<u32>);

/// The same session, narrowed.
pub fn narrowed(mut session: Session, scopes: &[NarrowedTo<'_>]) -> Session {
    let left = scopes.iter().map(|(scope, resources, uses)| {
        let left = Narrowed {
            resources: resources.clone().map(Into::into),
            uses: *uses,
        };
        (ScopeName::parse(scope).unwrap(), left)
    });
    session.narrowing = Some(Narrowing {
        scopes: left.collect::<BTreeMap<_, _>>(),
    });
    session
}

/// The same session as a child.
pub fn child_of(mut session: Session, parent: Session) -> Session {
    session.parent = Some(Arc::new(parent));
    session
}

/// A stored grant that lives until `ends`.
pub fn grant(
    number: u128,
    scope: &str,
    resource: Option<&str>,
    uses_left: u32,
    ends: Tick,
) -> Grant {
    Grant {
        reserved: 0,
        id: GrantId::new(Uuid::from_u128(number)),
        scope: ScopeName::parse(scope).unwrap(),
        resource: resource.map(|text| Resource::parse(text).unwrap()),
        uses_left,
        uses: 5,
        expires_at: Timestamp::from_micros(0),
        ends,
        why: "".into(),
    }
}

/// A moment, in seconds.
pub fn at(seconds: u64) -> Now {
    Now {
        wall: Timestamp::from_micros(i64::try_from(seconds).unwrap() * 1_000_000),
        tick: Tick::from_nanos(seconds * 1_000_000_000),
    }
}

/// What a template makes of a path and a session.
pub fn filled(
    template: &ResourceTemplate,
    captures: &Captures<'_>,
    session: &Session,
) -> Option<Resource> {
    let call = &Bare(session);
    template.fill(&OnPath { captures, call }).ok()
}
