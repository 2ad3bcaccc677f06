//! The policy of one project, lowered: what `decide` reads. Built by `config::lower`, never changed after.

use super::limit::Limit;
use super::name::{AgentName, ProjectName, RouteId, ScopeName, ToolName};
use super::resource::{ResourcePattern, ResourceTemplate};
use super::route::RouteTable;
use std::collections::HashMap;
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
#[derive(Debug)]
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
    /// Limits that name no tool, scope or route and are `per: session` and not `repeats`: taken before the target is read.
    pub session_wide: Box<[LimitIndex]>,
    /// Target and method -> route.
    pub table: RouteTable,
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantMode {
    /// The gate mints a one-use grant at the moment of the call.
    OnUse,
    /// The agent or its orchestrator asks first.
    OnRequest,
}

/// Resources of a ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resources {
    /// Any; the YAML says nothing.
    Any,
    /// Any; the YAML says `any`, so no warning is due.
    AnyMeant,
    /// Only what one of these matches; never empty.
    Patterns(Box<[ResourcePattern]>),
}

/// A backend API.
#[derive(Debug)]
pub struct Tool {
    /// Its name in the YAML.
    pub name: ToolName,
    /// Where agents find it.
    pub mount: Mount,
    /// Where it is.
    pub upstream: Upstream,
    /// Send the agent's `Host` on instead of the backend's own authority.
    pub preserve_host: bool,
    /// `session_header: toolgate-session`: the agent's own `Authorization` is forwarded.
    pub session_header: SessionHeader,
    /// Method-override header names (lower case) this tool's agents may send; forwarded.
    pub allow_method_override: Box<[Box<str>]>,
    /// Not part of a held request's identity (lower case).
    pub volatile_headers: Box<[Box<str>]>,
    /// Shown masked to approvers (lower case).
    pub mask_headers: Box<[Box<str>]>,
    /// Query names whose values enter the ledger.
    pub record_query: Box<[Box<str>]>,
    /// Bytes of a body read where one is needed.
    pub body_limit: u64,
}

/// Where agents find a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A prefix on whole segments, `/crm`; removed before forwarding. Canonical, no trailing slash; `/` is the root.
    Path(Box<str>),
    /// A host name (lower case, no port); the path is forwarded whole.
    Host(Box<str>),
}

/// Which header carries the session's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionHeader {
    /// `Authorization: Bearer`, or `Toolgate-Session` alone.
    Authorization,
    /// `Toolgate-Session`; an `Authorization` beside it goes to the backend.
    ToolgateSession,
}

/// Where a backend is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `host:port` to connect to; IPv6 in brackets.
    pub authority: Box<str>,
    /// The `Host` sent: the URL's authority as written.
    pub host: Box<str>,
    /// Put in front of what is forwarded: empty, or `/base` without a trailing slash.
    pub base_path: Box<str>,
    /// From request sent to first byte of the answer's head.
    pub timeout: Duration,
    /// For the TCP connection.
    pub connect_timeout: Duration,
    /// What the gate adds in the agent's stead.
    pub credential: Option<Credential>,
}

/// A backend's credential. The agent never sees it; it prints as nothing.
#[derive(Clone)]
pub struct Credential {
    /// Header name, lower case.
    pub header: Box<str>,
    /// The value sent. Secret.
    pub value: secrecy::SecretString,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.header)
    }
}

/// One rule.
#[derive(Debug)]
pub struct Route {
    /// Its position in [`Policy::routes`].
    pub index: RouteIndex,
    /// Stable name: ledger, metrics, explain.
    pub id: RouteId,
    /// Whose it is.
    pub tool: ToolIndex,
    /// The permission it needs.
    pub scope: ScopeName,
    /// What it acts on.
    pub resource: Option<ResourceTemplate>,
    /// What a call costs.
    pub cost: Option<Cost>,
    /// Can't be undone (also every DELETE).
    pub irreversible: bool,
    /// Whether the agent must say what it is doing.
    pub intent: IntentRule,
    /// Bytes of a body read where one is needed; the tool's unless the route says otherwise.
    pub body_limit: u64,
    /// `per: session` limits that name this route, its tool or its scope, and all `repeats`; in file order.
    pub session_limits: Box<[LimitIndex]>,
    /// `per: agent` and `per: project` limits that cover this route; in file order.
    pub shared_limits: Box<[LimitIndex]>,
    /// Cost limits (any holder) that cover this route; charged when the outcome is known.
    pub cost_limits: Box<[LimitIndex]>,
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
