//! The two files as they are written: every key, in one declaration each.
//!
//! A key that only a later version can honour is listed as such and refused by name. What is not listed is unknown.

use super::error::Reports;
use super::leaf::{
    Address, Amount, Calls, Count, Flag, HeaderName, HostName, Interpolated, Network, Sha256, Size,
    Span, Spend, Text, Variable, Version, Workers,
};
use super::read::{At, List, ListOrNone, Map, OneOrMore, Read, record, unexpected, words};
use super::tree::{Node, Value};
use crate::policy::name::{
    AgentName, LimitId, PrincipalName, ProjectName, RouteId, ScopeName, ToolName,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

record! {
    /// The server file of Toolgate: where it listens, who may administer it, where it keeps what it knows.
    Server: "the server file";
    /// The version of this file's format: 1.
    required version = "version": Version,
    /// Data-plane threads. Default: auto, one per core.
    optional workers = "workers": Workers,
    /// Where the gate listens.
    required listeners = "listeners": Listeners,
    /// Who may use the admin API.
    required principals = "principals": List<Principal>,
    /// Where sessions, grants and quarantines are kept.
    required store = "store": Store,
    /// The record of every call.
    required ledger = "ledger": Ledger,
    /// Project files, relative to this file; `*` and `?` stand for any characters within one name.
    required projects = "projects": List<Text>,
}

record! {
    /// Where the gate listens.
    Listeners: "`listeners`";
    /// The data plane: agents' tools point here.
    required agents = "agents": Agents,
    /// The admin API.
    required admin = "admin": Admin,
    /// Metrics and health: no secrets.
    required metrics = "metrics": Metrics,
}

record! {
    /// The agents' listener.
    Agents: "the agents' listener";
    /// IP address and port.
    required address = "address": Address,
    /// Peers whose X-Forwarded-For is believed. Default: none.
    optional trusted_proxies = "trusted_proxies": ListOrNone<Network>,
    /// How long a connection may take over each step.
    optional timeouts = "timeouts": Timeouts,
    /// Most connections.
    optional caps = "caps": Caps,
    ; later "tls"
}

record! {
    /// The admin listener.
    Admin: "the admin listener";
    /// IP address and port.
    required address = "address": Address,
    /// Accepted Host names. Default: the listener's own address and localhost.
    optional hosts = "hosts": List<HostName>,
    /// How long a connection may take over each step.
    optional timeouts = "timeouts": Timeouts,
    /// Most connections.
    optional caps = "caps": Caps,
    ; later "tls", "trusted_proxies"
}

record! {
    /// The metrics listener.
    Metrics: "the metrics listener";
    /// IP address and port.
    required address = "address": Address,
    ; later "tls", "trusted_proxies", "timeouts", "caps"
}

record! {
    /// How long a connection may take over each step.
    Timeouts: "`timeouts`";
    /// For a whole request head. Default: 10s.
    optional head = "head": Span<1, HOUR>,
    /// Between two pieces of a request body. Default: 30s.
    optional body_idle = "body_idle": Span<1, HOUR>,
    /// Between two requests. Default: 75s.
    optional idle = "idle": Span<1, HOUR>,
    ; later "tls"
}

record! {
    /// Most connections.
    Caps: "`caps`";
    /// In all. Default: 20000.
    optional connections = "connections": Count<1_000_000>,
    /// From one address. Default: 16384.
    optional per_address = "per_address": Count<1_000_000>,
}

record! {
    /// Who may use the admin API.
    Principal: "a principal", named "principal" by "name";
    /// Appears in the ledger.
    required name = "name": PrincipalName,
    /// The key it authenticates with; `toolgate key new NAME` makes one.
    required key = "key": Key,
    /// What it may do.
    required roles = "roles": List<Role>,
    /// Groups it decides approvals in.
    optional groups = "groups": List<Text>,
    /// Projects it may do so in.
    required projects = "projects": List<ProjectName>,
}

record! {
    /// Where a key comes from: one of these.
    Key: "a key";
    /// The environment variable that holds the key.
    optional env = "env": Variable,
    /// The file that holds the key.
    optional file = "file": Text,
    /// The SHA-256 of the key's whole text.
    optional sha256 = "sha256": Sha256,
    ; secret true
    ; one_of "env", "file", "sha256"
}

words! {
    /// What a principal may do.
    Role: "a role";
    Issuer = "issuer",
    Approver = "approver",
    Operator = "operator",
    Auditor = "auditor",
}

record! {
    /// Where sessions, grants and quarantines are kept.
    Store: "`store`";
    /// A file beside the gate.
    required embedded = "embedded": Embedded,
    ; later "redis"
}

record! {
    /// A file beside the gate.
    Embedded: "`embedded`";
    /// The file; made if it is absent. Relative to the working directory.
    required path = "path": Text,
}

record! {
    /// The record of every call.
    Ledger: "`ledger`";
    /// Its directory; made if it is absent. Relative to the working directory.
    required directory = "directory": Text,
    /// How intents are recorded. Default: full.
    optional intent = "intent": Intent,
    /// How far a record must have got before its call goes on. Default: written.
    optional level = "level": Level,
    /// How long records are kept. Default: 180d.
    optional retain = "retain": Span<HOUR, { 36_500 * DAY }>,
    /// When a new file is begun.
    optional segment = "segment": Segment,
    ; later "signing_key", "anchor"
}

record! {
    /// When the ledger begins a new file.
    Segment: "`segment`";
    /// At this size. Default: 256MiB.
    optional size = "size": Size<{ 64 * KIB }, { 64 * GIB }>,
    /// At this age. Default: 24h.
    optional age = "age": Span<MINUTE, { 366 * DAY }>,
}

words! {
    /// How intents are recorded.
    Intent: "a way to record intents";
    Full = "full",
    Digest = "digest",
    Omit = "omit",
}

words! {
    /// How far a record must have got before its call goes on.
    Level: "a level of the ledger";
    Written = "written",
    ; later "sync", "batched"
}

record! {
    /// A project file of Toolgate: one isolated ruleset.
    Project: "a project file";
    /// The version of this file's format: 1.
    required version = "version": Version,
    /// Its name; unique over all files.
    required project = "project": ProjectName,
    /// Whether decisions are enforced. Default: enforce.
    optional mode = "mode": Mode,
    /// Kinds of agents, and what each may ever be granted.
    required agents = "agents": Map<AgentName, Agent>,
    /// Backends and their routes.
    required tools = "tools": Map<ToolName, Tool>,
    /// Bounds on rate, repeats and cost.
    optional limits = "limits": List<Limit>,
    ; later "approvals", "notify", "tests"
}

words! {
    /// Whether decisions are enforced.
    Mode: "a mode";
    Enforce = "enforce",
    ; later "shadow"
}

record! {
    /// A kind of agent.
    Agent: "an agent";
    /// How long its sessions live.
    optional session = "session": Session,
    /// The ceiling: what its sessions may ever be granted. Nothing is held until granted.
    required scopes = "scopes": Map<ScopeName, ScopeRule>,
}

record! {
    /// How long sessions live.
    Session: "`session`";
    /// If the minter does not say. Default: 15m.
    optional ttl = "ttl": Span<1, { 31 * DAY }>,
    /// The longest a minter may ask for. Default: 4h.
    optional max_ttl = "max_ttl": Span<1, { 31 * DAY }>,
    /// Most live sessions of this agent. Default: no bound.
    optional max_live = "max_live": Count<10_000_000>,
}

/// A scope's ceiling: the way it is granted alone, or with its bounds.
#[derive(Debug)]
pub(super) struct ScopeRule(pub Scope);

impl Read for ScopeRule {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Scope::read(node, reports).map(Self),
            Value::Scalar(_) | Value::List(_) => {
                let (place, value) = (node.place, Grant::read(node, reports)?);
                let mut scope = Scope::silent();
                scope.grant = Some(At { place, value });
                Some(Self(scope))
            }
        }
    }
}

impl JsonSchema for ScopeRule {
    fn schema_name() -> Cow<'static, str> {
        "ScopeRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Grant>(), generator.subschema_for::<Scope>()] })
    }
}

words! {
    /// How a grant comes about.
    Grant: "a way to grant";
    OnUse = "on_use",
    OnRequest = "on_request",
    ; later "on_approval"
}

record! {
    /// The ceiling of one scope.
    Scope: "the ceiling of a scope";
    /// How a grant comes about: on_use, by the gate at the call; on_request, by asking first. Default: on_use.
    optional grant = "grant": Grant,
    /// Most uses of one stored grant. Default: 1.
    optional uses = "uses": Count<1_000_000>,
    /// Longest life of one stored grant. Default: 5m.
    optional ttl = "ttl": Span<1, { 31 * DAY }>,
    /// Most stored grants per session's life. Default: 10.
    optional grants = "grants": Count<10_000>,
    /// On what: `any`, or patterns such as `user:7`, `user:*` and `user:{session.customer_id}`. Default: any.
    optional resources = "resources": Resources,
    ; later "approval"
}

impl Scope {
    fn silent() -> Self {
        Self {
            grant: None,
            uses: None,
            ttl: None,
            grants: None,
            resources: None,
        }
    }
}

/// `any`, or a list of patterns.
#[derive(Debug)]
pub(super) enum Resources {
    Any,
    Patterns(Vec<At<Text>>),
}

impl Read for Resources {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::List(_) => {
                List::read(node, reports).map(|list: List<Text>| Self::Patterns(list.0))
            }
            Value::Scalar(scalar) if scalar.text == "any" => Some(Self::Any),
            Value::Scalar(_) | Value::Map(_) => unexpected(
                node,
                "`any` or a list of patterns",
                "write `resources: [\"user:*\"]`",
                reports,
            ),
        }
    }
}

impl JsonSchema for Resources {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Resources".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "any" }, generator.subschema_for::<List<Text>>()] })
    }
}

record! {
    /// A backend and its routes.
    Tool: "a tool";
    /// The path prefix agents find it at; removed before forwarding. Either this or `host`.
    optional mount = "mount": Text,
    /// The host name agents find it at; the path is forwarded whole. Either this or `mount`.
    optional host = "host": HostName,
    /// How it is spoken to. Default: http.
    optional protocol = "protocol": Protocol,
    /// Where it is.
    required upstream = "upstream": Upstream,
    /// Its rules.
    required routes = "routes": List<Route>,
    /// Send the agent's Host on instead of the backend's own authority. Default: false.
    optional preserve_host = "preserve_host": Flag,
    /// The header that carries the session's token. Default: authorization.
    optional session_header = "session_header": HeaderName,
    /// Method-override headers agents may send. Default: none.
    optional allow_method_override = "allow_method_override": ListOrNone<HeaderName>,
    /// Headers that are not part of a held request's identity. Default: none.
    optional volatile_headers = "volatile_headers": ListOrNone<HeaderName>,
    /// Headers shown masked to approvers. Default: none.
    optional mask_headers = "mask_headers": ListOrNone<HeaderName>,
    /// Query names whose values enter the ledger. Default: none.
    optional record_query = "record_query": ListOrNone<Text>,
    /// Bytes of a body read where one is needed. Default: 1MiB.
    optional body_limit = "body_limit": Size<KIB, GIB>,
    ; later "mode"
    ; one_of "mount", "host"
}

words! {
    /// How a tool is spoken to.
    Protocol: "a protocol";
    Http = "http",
    ; later "mcp", "function"
}

record! {
    /// Where a backend is.
    Upstream: "`upstream`";
    /// `http://host:port/base`; `${NAME}` is the environment's, `$${` is `${`.
    required url = "url": Interpolated,
    /// From request sent to the first byte of its answer. Default: 30s.
    optional timeout = "timeout": Span<1, DAY>,
    /// For the connection. Default: 5s.
    optional connect_timeout = "connect_timeout": Span<1, HOUR>,
    /// What the gate adds in the agent's stead.
    optional credential = "credential": Credential,
    ; later "tls", "http2"
}

record! {
    /// What the gate adds in the agent's stead; the agent never sees it.
    Credential: "`credential`";
    /// The header it is sent in.
    required header = "header": HeaderName,
    /// The value: text in which `${NAME}` is the environment's, or `{ file: PATH }`.
    required value = "value": SecretText,
    ; secret true
}

/// A secret value: text with `${NAME}`, or a file.
#[derive(Debug)]
pub(super) enum SecretText {
    Interpolated(Interpolated),
    Kept(SecretFile),
}

impl Read for SecretText {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Map(_) => SecretFile::read(node, reports).map(Self::Kept),
            Value::Scalar(_) | Value::List(_) => {
                reports.hide(node.place);
                Interpolated::read(node, reports).map(Self::Interpolated)
            }
        }
    }
}

impl JsonSchema for SecretText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Interpolated>(), generator.subschema_for::<SecretFile>()] })
    }
}

record! {
    /// A secret that a file holds.
    SecretFile: "a secret's source";
    /// The file; a line break at its end is not part of the secret. Relative to the working directory.
    required file = "file": Text,
}

record! {
    /// One rule: method and path to the permission it needs.
    Route: "a route", named "route" by "id";
    /// Unique in the project; appears in ledger and metrics.
    required id = "id": RouteId,
    /// `METHOD /path/{parameter}`, or several; GET also answers HEAD.
    required matches = "match": OneOrMore<Text>,
    /// The permission it needs.
    required scope = "scope": ScopeName,
    /// What it acts on: `type:id` with parameters of the path, `user:{user_id}`.
    optional resource = "resource": Text,
    /// `never`: no person is asked. A DELETE or irreversible route must say so.
    optional approval = "approval": Approval,
    /// What a call costs.
    optional cost = "cost": Cost,
    /// Can't be undone. Default: false, and true for DELETE.
    optional irreversible = "irreversible": Flag,
    /// Whether the agent must say what it is doing. Default: optional.
    optional intent = "intent": IntentRule,
    /// Bytes of a body read where one is needed. Default: the tool's.
    optional body_limit = "body_limit": Size<KIB, GIB>,
    /// Whether decisions are enforced. Default: enforce.
    optional mode = "mode": Mode,
    ; later "where", "upgrade"
}

/// `never`; chains come with approvals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Approval;

impl Read for Approval {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text == "never" => Some(Self),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                reports.error(
                    node.place,
                    "approval by a person is not available yet",
                    "write `approval: never` to let it pass without, or remove the route",
                );
                // Read all the same, so that the route is not said to lack one.
                Some(Self)
            }
        }
    }
}

impl JsonSchema for Approval {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Approval".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": "never" })
    }
}

words! {
    /// Whether the agent must say what it is doing.
    IntentRule: "a rule for intents";
    Optional = "optional",
    Required = "required",
}

record! {
    /// What a call costs.
    Cost: "`cost`";
    /// The same for every call, or what counts where the header is absent or unreadable.
    optional fixed = "fixed": Amount,
    /// The header of the answer that says.
    optional header = "header": HeaderName,
    ; schema { "minProperties": 1 }
}

record! {
    /// A bound on rate, repeats or cost.
    Limit: "a limit", named "limit" by "id";
    /// Unique in the project; counters are carried over by it on reload.
    required id = "id": LimitId,
    /// Whose calls are counted together.
    required per = "per": Per,
    /// Only calls that need this scope.
    optional scope = "scope": ScopeName,
    /// Only calls to this tool.
    optional tool = "tool": ToolName,
    /// Only calls on this route.
    optional route = "route": RouteId,
    /// `600/1m`: smoothed, and no window ever admits more than burst and rate together.
    optional rate = "rate": Calls,
    /// Calls at once, with `rate`. Default: the rate's count.
    optional burst = "burst": Count<100_000_000>,
    /// `500/1m`: calls in any sliding window.
    optional count = "count": Calls,
    /// `20/1m`: calls with the same method, target and body in any sliding window.
    optional repeats = "repeats": Calls,
    /// `5.00/1h`: the sum of what routes cost in any sliding window.
    optional cost = "cost": Spend,
    /// What happens then. Default: throttle.
    optional exceeded = "exceeded": Exceeded,
    ; one_of "rate", "count", "repeats", "cost"
}

words! {
    /// Whose calls are counted together.
    Per: "whose calls are counted together";
    Session = "session",
    Agent = "agent",
    Project = "project",
}

words! {
    /// What exceeding a limit does.
    Exceeded: "what exceeding a limit does";
    Throttle = "throttle",
    Quarantine = "quarantine",
}
