//! The policy of one project, lowered: what `decide` reads. [`Policy::assemble`] builds it from [`Parts`]; it is never
//! changed after. Its types stand in one file, for they are read together.

mod oauth;
mod parts;
mod told;
mod upstream;

pub use oauth::{METADATA_PATH, OAuth};
pub use parts::{MatchPart, Parts, RoutePart};
pub use told::Notify;
pub use upstream::{Credential, Http2, Upstream, UpstreamTls, Verify};

use super::approval::{Chain, ChainIndex};
use super::condition::Where;
use super::held::{Held, ScopeNumber};
use super::limit::{Bound, Layout, Limit, Per};
use super::name::{AgentName, ChainName, ProjectName, RouteId, ScopeName, ToolName};
use super::resource::{ResourcePattern, ResourceTemplate, Shared};
use super::route::{RouteMatch, RouteTable, TableError};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// SHA-256 of the project file's bytes: what `sha256sum` prints for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyHash(pub [u8; 32]);

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One project's ruleset.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whose it is.
    pub project: ProjectName,
    /// Which version of it.
    pub hash: PolicyHash,
    /// Agents and their ceilings.
    pub agents: HashMap<AgentName, Agent>,
    /// In file order; [`ToolIndex`] points here.
    pub tools: Box<[Tool]>,
    /// In file order over all tools; [`RouteIndex`] points here.
    pub routes: Box<[Route]>,
    /// In file order; [`LimitIndex`] points here.
    pub limits: Arc<[Limit]>,
    /// In file order; [`ChainIndex`] points here.
    pub chains: Box<[Chain]>,
    /// Who can be told; chains name them.
    pub notify: Box<[Notify]>,
    /// `per: session` rates and counts that name no tool, scope or route: taken before the target is read.
    pub session_wide: Box<[LimitIndex]>,
    /// Target and method -> route.
    pub table: RouteTable,
    /// By [`RouteIndex`], for people: `GET /crm/users/{user_id}`.
    written: Box<[Box<str>]>,
    /// Where each limit's state lies in a holder's [`super::limit::Cells`].
    pub layout: Arc<Layout>,
    /// `agents`, laid out for decisions.
    pub(super) held: Held,
}

/// Position in [`Policy::tools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ToolIndex(pub u32);
/// Position in [`Policy::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub u32);
/// Position in [`Policy::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitIndex(pub u32);

/// A kind of agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its name in the YAML.
    pub name: AgentName,
    /// `session.ttl`: how long a session lives if the minter does not say.
    pub ttl: Duration,
    /// `session.max_ttl`: the longest a minter may ask for.
    pub max_ttl: Duration,
    /// `session.max_live`: most live sessions of this agent.
    pub max_live: Option<u32>,
    /// What its sessions may ever be granted.
    pub scopes: HashMap<ScopeName, Ceiling>,
}

/// The ceiling of one scope for one agent. Not a permission.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ceiling {
    /// How a grant comes about.
    pub grant: GrantMode,
    /// Most uses of one stored grant; what a request that says nothing gets.
    pub uses: u32,
    /// Longest life of one stored grant; what a request that says nothing gets.
    pub ttl: Duration,
    /// Most stored grants per session's life.
    pub grants: u32,
    /// On what.
    pub resources: Resources,
}

/// How a grant of a scope comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantMode {
    /// The gate mints a one-use grant at the moment of the call.
    OnUse,
    /// The agent or its orchestrator asks first.
    OnRequest,
    /// The same, and a person must agree.
    OnApproval(ChainIndex),
}

/// Resources of a ceiling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resources {
    /// Any; the YAML says nothing.
    Any,
    /// Any; the YAML says `any`, so no warning is due.
    AnyMeant,
    /// Only what one of these matches; never empty.
    Patterns(Arc<[ResourcePattern]>),
}

/// A backend API.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name in the YAML.
    pub name: ToolName,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where agents find it.
    pub mount: Mount,
    /// Where it is; `None`: it is a function, code in the agent's own process.
    pub upstream: Option<Upstream>,
    /// What MCP clients without a token are told of how to get one.
    pub oauth: Option<OAuth>,
    /// Send the agent's `Host` on instead of the backend's own authority.
    pub preserve_host: bool,
    /// `session_header: toolgate-session`: the agent's own `Authorization` is forwarded.
    pub session_header: SessionHeader,
    /// Method-override header names (lower case) this tool's agents may send; forwarded.
    pub allow_method_override: Box<[Box<str>]>,
    /// Query names whose values enter the ledger.
    pub record_query: Box<[Box<str>]>,
    /// Bytes of a body read where one is needed.
    pub body_limit: u64,
    /// Header names (lower case) that do not tell one held request from another.
    pub volatile_headers: Box<[Box<str>]>,
    /// Header names (lower case) whose values approvers see as length and SHA-256.
    pub mask_headers: Box<[Box<str>]>,
    /// What its server says of each of its tools is accepted once and held to that ([`super::pin`]).
    pub pin: bool,
}

/// How a tool is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP: a call is a method and a path.
    Http,
    /// MCP over Streamable HTTP: a call is a JSON-RPC method and what it is for.
    Mcp,
    /// Asked about through AuthZEN, before code in the agent's own process acts: a call is `call NAME`.
    Function,
}

impl Protocol {
    /// Whether a call is named by its body instead of by method and path.
    pub const fn names_calls(self) -> bool {
        match self {
            Protocol::Http => false,
            Protocol::Mcp | Protocol::Function => true,
        }
    }
}

impl Tool {
    /// SHA-256 over where it is: what an approver agreed to. A function is nowhere.
    pub fn backend(&self) -> [u8; 32] {
        self.upstream.as_ref().map_or([0; 32], Upstream::identity)
    }
}

/// Where agents find a tool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mount {
    /// A prefix on whole segments, `/crm`; removed before forwarding. Canonical, no trailing slash; `/` is the root.
    Path(Box<str>),
    /// A host name (lower case, no port); the path is forwarded whole.
    Host(Box<str>),
    /// Nowhere: a function is asked about at the gate itself.
    None,
}

/// Which header carries the session's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionHeader {
    /// `Authorization: Bearer`, or `Toolgate-Session` alone.
    Authorization,
    /// `Toolgate-Session`; an `Authorization` beside it goes to the backend.
    ToolgateSession,
}

/// One rule.
///
/// Laid out as written: what every decision reads fits the first cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Route {
    /// What it acts on.
    pub resource: Option<ResourceTemplate>,
    /// `per: session` rates and counts that name this route, its tool or its scope, and `repeats` that cover it; in
    /// file order.
    pub session_limits: Box<[LimitIndex]>,
    /// What it asks of a call besides method and path; `None`: nothing.
    pub conditions: Option<Box<Where>>,
    /// Its position in [`Policy::routes`].
    pub index: RouteIndex,
    /// Whose it is.
    pub tool: ToolIndex,
    /// The scope it needs, for [`Held`].
    pub(super) scope_number: ScopeNumber,
    /// Can't be undone (also every DELETE).
    pub irreversible: bool,
    /// Whether the agent must say what it is doing.
    pub intent: IntentRule,
    /// What would be denied is recorded and passes ([`super::shadow`]).
    pub shadow: bool,
    /// What a call may become; of requests by GET alone.
    pub upgrade: Option<Upgrade>,
    /// Who must agree to each call; `None`: nobody.
    pub approval: Option<ChainIndex>,
    /// The permission it needs.
    pub scope: ScopeName,
    /// Stable name: ledger, metrics, explain.
    pub id: RouteId,
    /// Bytes of a body read where one is needed; the tool's unless the route says otherwise.
    pub body_limit: u64,
    /// What a call costs.
    pub cost: Option<Cost>,
    /// `per: agent` and `per: project` limits, cost apart, that cover this route; in file order.
    pub shared_limits: Box<[LimitIndex]>,
    /// Cost limits (any holder) that cover this route; charged when the outcome is known.
    pub cost_limits: Box<[LimitIndex]>,
}

/// What a call may become instead of request and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Frames both ways (RFC 6455), over HTTP/1.1 or HTTP/2 (RFC 8441).
    WebSocket,
}

/// Whether a route demands an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentRule {
    /// Recorded where given.
    Optional,
    /// Refused where absent.
    Required,
}

/// What a call costs, in millionths of the unit the YAML counts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The same for every call.
    Fixed(u64),
    /// What the answer's header says; `fixed` where it is absent, negative or unreadable.
    Header {
        /// Lower case.
        name: Box<str>,
        /// In its absence.
        fixed: Option<u64>,
    },
}

impl Policy {
    /// Derives the route table, the limits that cover each route and their layout.
    ///
    /// # Errors
    /// Every fault of the whole, each with the positions in [`Parts`] it is about.
    pub fn assemble(mut parts: Parts) -> Result<Self, Vec<TableError>> {
        share(&mut parts);
        let mut faults = name_faults(&parts);
        let mut matches = Vec::with_capacity(parts.routes.len());
        let mut routes = Vec::with_capacity(parts.routes.len());
        let mut written = Vec::with_capacity(parts.routes.len());
        for (position, part) in parts.routes.into_iter().enumerate() {
            let index = RouteIndex(position_of(position));
            let Some(tool) = parts.tools.get(part.tool.0 as usize) else {
                faults.push(TableError::ToolMissing { route: index });
                continue;
            };
            if let Some(name) = unbound_placeholder(&part) {
                faults.push(TableError::Placeholder { route: index, name });
            }
            written.push(written_match(&part.matches, tool));
            let lists = LimitLists::covering(&parts.limits, &part, &tool.name);
            let conditional = part.conditions.is_some();
            routes.push(Route {
                irreversible: part.irreversible || part.deletes(),
                index,
                conditions: part.conditions.map(Box::new),
                id: part.id,
                tool: part.tool,
                scope: part.scope,
                scope_number: ScopeNumber::default(),
                resource: part.resource,
                cost: part.cost,
                intent: part.intent,
                shadow: part.shadow,
                body_limit: part.body_limit,
                upgrade: part.upgrade,
                approval: part.approval,
                session_limits: lists.session.into(),
                shared_limits: lists.shared.into(),
                cost_limits: lists.cost.into(),
            });
            matches.extend(part.matches.into_iter().map(|each| RouteMatch {
                route: index,
                tool: part.tool,
                methods: each.methods,
                template: each.template,
                conditional,
            }));
        }
        let table = match RouteTable::build(&parts.tools, matches) {
            Ok(table) if faults.is_empty() => table,
            Ok(_) => return Err(faults),
            Err(more) => {
                faults.extend(more);
                return Err(faults);
            }
        };
        let limits: Arc<[Limit]> = parts.limits.into();
        let agents = parts.agents.into_iter();
        let agents = agents.map(|agent| (agent.name.clone(), agent)).collect();
        Ok(Self {
            project: parts.project,
            hash: parts.hash,
            held: Held::new(&agents, &mut routes),
            agents,
            tools: parts.tools.into(),
            routes: routes.into(),
            session_wide: session_wide(&limits),
            layout: Arc::new(Layout::new(parts.hash, Arc::clone(&limits))),
            limits,
            chains: parts.chains.into(),
            notify: parts.notify.into(),
            table,
            written: written.into(),
        })
    }

    /// The chain at a position of this policy.
    pub fn chain(&self, index: ChainIndex) -> &Chain {
        &self.chains[usize::from(index.0)]
    }

    /// The chain of this name.
    pub fn chain_named(&self, name: &ChainName) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == *name)
    }

    /// The route at a position of this policy.
    pub fn route(&self, index: RouteIndex) -> &Route {
        &self.routes[index.0 as usize]
    }

    /// What a route answers to, for people: methods and templates with the tool's mount or host in front.
    pub fn written(&self, index: RouteIndex) -> &str {
        &self.written[index.0 as usize]
    }

    /// The tool at a position of this policy.
    pub fn tool(&self, index: ToolIndex) -> &Tool {
        &self.tools[index.0 as usize]
    }

    /// The limit at a position of this policy.
    pub fn limit(&self, index: LimitIndex) -> &Limit {
        &self.limits[index.0 as usize]
    }
}

/// The limits that cover one route, by where in the journey they are taken.
struct LimitLists {
    session: Vec<LimitIndex>,
    shared: Vec<LimitIndex>,
    cost: Vec<LimitIndex>,
}

impl LimitLists {
    fn covering(limits: &[Limit], part: &RoutePart, tool: &ToolName) -> Self {
        let mut lists = Self {
            session: Vec::new(),
            shared: Vec::new(),
            cost: Vec::new(),
        };
        for (position, limit) in limits.iter().enumerate() {
            if !limit.select.covers(&part.scope, tool, &part.id) {
                continue;
            }
            let index = LimitIndex(position_of(position));
            match (limit.bound, limit.per) {
                (Bound::Cost { .. }, _) => lists.cost.push(index),
                (_, Per::Agent | Per::Project) => lists.shared.push(index),
                (Bound::Rate { .. } | Bound::Count { .. }, Per::Session)
                    if limit.select.is_all() => {}
                (_, Per::Session) => lists.session.push(index),
            }
        }
        lists
    }
}

/// Puts equal templates, patterns and names in one place.
fn share(parts: &mut Parts) {
    let (mut shared, mut names) = (Shared::default(), HashSet::new());
    for route in &mut parts.routes {
        if let Some(resource) = &mut route.resource {
            shared.template(resource);
        }
        for each in &mut route.matches {
            each.template.share_names(&mut names);
        }
    }
    let ceilings = parts
        .agents
        .iter_mut()
        .flat_map(|agent| agent.scopes.values_mut());
    for ceiling in ceilings {
        if let Resources::Patterns(patterns) = &mut ceiling.resources {
            shared.patterns(patterns);
        }
    }
}

fn session_wide(limits: &[Limit]) -> Box<[LimitIndex]> {
    let wide = |limit: &Limit| {
        limit.per == Per::Session
            && limit.select.is_all()
            && matches!(limit.bound, Bound::Rate { .. } | Bound::Count { .. })
    };
    let indices = limits.iter().enumerate().filter(|(_, limit)| wide(limit));
    indices
        .map(|(position, _)| LimitIndex(position_of(position)))
        .collect()
}

fn written_match(matches: &[MatchPart], tool: &Tool) -> Box<str> {
    let place = match &tool.mount {
        Mount::None => "",
        Mount::Path(path) if &**path == "/" => "",
        Mount::Path(place) | Mount::Host(place) => place,
    };
    let written = |each: &MatchPart| {
        if tool.protocol.names_calls() {
            return each.template.to_string();
        }
        let methods: Vec<&str> = each.methods.iter().map(|method| &**method).collect();
        format!("{} {place}{}", methods.join(", "), each.template)
    };
    let all: Vec<String> = matches.iter().map(written).collect();
    all.join("; ").into()
}

/// A path parameter that the resource reads and some part of the match does not have: it could not be filled there.
fn unbound_placeholder(part: &RoutePart) -> Option<Box<str>> {
    let resource = part.resource.as_ref()?;
    let has =
        |each: &MatchPart, name: &str| each.template.names().iter().any(|have| **have == *name);
    resource
        .path_parameters()
        .find(|name| !part.matches.iter().all(|each| has(each, name)))
        .map(Into::into)
}

/// Names that must be unique and are not. (Two agents of one name would silently become one.)
fn name_faults(parts: &Parts) -> Vec<TableError> {
    let mut faults = Vec::new();
    let mut agents = HashSet::new();
    for agent in &parts.agents {
        if !agents.insert(&agent.name) {
            faults.push(TableError::AgentTwice {
                agent: agent.name.clone(),
            });
        }
    }
    let mut ids = HashMap::new();
    for (position, route) in parts.routes.iter().enumerate() {
        let second = RouteIndex(position_of(position));
        if let Some(first) = ids.insert(&route.id, second) {
            faults.push(TableError::IdTwice { first, second });
        }
    }
    let mut limits = HashMap::new();
    for (position, limit) in parts.limits.iter().enumerate() {
        let second = LimitIndex(position_of(position));
        if let Some(first) = limits.insert(&limit.id, second) {
            faults.push(TableError::LimitTwice { first, second });
        }
    }
    faults
}

/// Positions are `u32`: the files' size bounds keep them far below.
fn position_of(position: usize) -> u32 {
    u32::try_from(position).expect("a bounded file has fewer than 2^32 entries")
}
