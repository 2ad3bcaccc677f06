//! A project file as it is written.

use super::approvals::{Approval, Chain, Notify};
use super::oauth::OAuth;
use super::{DAY, GIB, HOUR, KIB};
use crate::config::collection::{List, ListOrNone, Map, OneOrMore};
use crate::config::error::Reports;
use crate::config::leaf::{
    Amount, Calls, Count, Flag, HeaderName, HostName, Interpolated, Size, Span, Spend, Text,
    Version,
};
use crate::config::read::{At, Read, record, unexpected, words};
use crate::config::tree::{Node, Value};
use crate::policy::name::{
    AgentName, ChainName, LimitId, NotifyName, ProjectName, RouteId, ScopeName, ToolName,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

record! {
    /// A project file of Toolgate: one isolated ruleset.
    Project: "a project file";
    /// The version of this file's format: 1.
    required _version = "version": Version,
    /// Its name; unique over all files.
    required project = "project": ProjectName,
    /// Whether decisions are enforced, on routes whose tool and who themselves do not say: enforce; shadow, decided and
    /// recorded, and let through all the same. Default: enforce.
    optional mode = "mode": Mode,
    /// Whether agents must say what they are doing, on routes that do not say. Default: optional.
    optional intent = "intent": IntentRule,
    /// Kinds of agents, and what each may ever be granted.
    required agents = "agents": Map<AgentName, Agent>,
    /// Backends and their routes.
    required tools = "tools": Map<ToolName, Tool>,
    /// Bounds on rate, repeats and cost.
    optional limits = "limits": List<Limit>,
    /// Chains: who decides what a person must agree to. `default` decides DELETE and irreversible routes.
    optional approvals = "approvals": Map<ChainName, Chain>,
    /// Who can be told, by name.
    optional notify = "notify": Map<NotifyName, Notify>,
    /// What the policy promises: calls, and what must be decided of them. A promise that is not kept refuses the file.
    optional tests = "tests": List<super::tests::Test>,
}

words! {
    /// Whether decisions are enforced.
    Mode: "a value of `mode`";
    Enforce = "enforce",
    Shadow = "shadow",
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
pub(in crate::config) struct ScopeRule(pub Scope);

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
    Use = "on_use",
    Request = "on_request",
    Approval = "on_approval",
}

record! {
    /// The ceiling of one scope.
    Scope: "the ceiling of a scope";
    /// How a grant comes about: on_use, by the gate at the call; on_request, by asking first; on_approval, by
    /// asking and the word of a person. Default: on_use.
    optional grant = "grant": Grant,
    /// Most uses of one stored grant. Default: 1.
    optional uses = "uses": Count<1_000_000>,
    /// Longest life of one stored grant. Default: 5m.
    optional ttl = "ttl": Span<1, { 31 * DAY }>,
    /// Most stored grants per session's life. Default: 10.
    optional grants = "grants": Count<10_000>,
    /// On what: `any`, or patterns such as `user:7`, `user:*` and `user:{session.customer_id}`. Default: any.
    optional resources = "resources": Resources,
    /// With `grant: on_approval`: the chain that decides. Default: default.
    optional approval = "approval": ChainName,
}

impl Scope {
    fn silent() -> Self {
        Self {
            grant: None,
            uses: None,
            ttl: None,
            grants: None,
            resources: None,
            approval: None,
        }
    }
}

/// `any`, or a list of patterns.
#[derive(Debug)]
pub(in crate::config) enum Resources {
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
    /// Where it is. A function has none.
    optional upstream = "upstream": Upstream,
    /// With `protocol: mcp`: how clients of OAuth come by its tokens. Default: nothing is told to strangers.
    optional oauth = "oauth": OAuth,
    /// Its rules.
    required routes = "routes": List<Route>,
    /// Send the agent's Host on instead of the backend's own authority. Default: false.
    optional preserve_host = "preserve_host": Flag,
    /// The header that carries the session's token. Default: authorization.
    optional session_header = "session_header": HeaderName,
    /// Method-override headers agents may send. Default: none.
    optional allow_method_override = "allow_method_override": ListOrNone<HeaderName>,
    /// Query names whose values enter the ledger. Default: none.
    optional record_query = "record_query": ListOrNone<Text>,
    /// Bytes of a body read where one is needed. Default: 1MiB.
    optional body_limit = "body_limit": Size<KIB, GIB>,
    /// Header fields that do not tell one held request from another, beside those that never do. Default: none.
    optional volatile_headers = "volatile_headers": ListOrNone<HeaderName>,
    /// Header fields of which approvers see length and SHA-256 instead of the value. Default: none.
    optional mask_headers = "mask_headers": ListOrNone<HeaderName>,
    /// With `protocol: mcp`: a tool whose definition is not the one that was accepted is hidden and its calls are refused,
    /// until a person accepts the change. The first that is seen of each is accepted. Default: false.
    optional pin = "pin": Flag,
    /// Whether decisions are enforced, on its routes that do not say. Default: the project's.
    optional mode = "mode": Mode,
    ; unless "protocol" is "function", one_of "mount", "host", needs "upstream"
    ; schema {
        "oneOf": [
            { "required": ["mount"] },
            { "required": ["host"] },
            { "required": ["protocol"], "properties": { "protocol": { "const": "function" } } },
        ],
        "anyOf": [
            { "required": ["upstream"] },
            { "required": ["protocol"], "properties": { "protocol": { "const": "function" } } },
        ],
    }
}

words! {
    /// How a tool is spoken to.
    Protocol: "a value of `protocol`";
    Http = "http",
    Mcp = "mcp",
    Function = "function",
}

record! {
    /// Where a backend is.
    Upstream: "`upstream`";
    /// `http://host:port/base` or `https://`; `${NAME}` is the environment's, `$${` is `${`.
    required url = "url": Interpolated,
    /// From request sent to the first byte of its answer. Default: 30s.
    optional timeout = "timeout": Span<1, DAY>,
    /// For the connection, TLS included. Default: 5s.
    optional connect_timeout = "connect_timeout": Span<1, HOUR>,
    /// How connections are protected, where the URL begins with `https://`.
    optional tls = "tls": UpstreamTls,
    /// Which versions of HTTP are spoken: auto, over TLS what the backend chooses and HTTP/1.1 without; off, HTTP/1.1;
    /// prior_knowledge, HTTP/2 and nothing else. Default: auto.
    optional http2 = "http2": Http2,
    /// What the gate adds in the agent's stead.
    optional credential = "credential": Credential,
}

words! {
    /// Which versions of HTTP are spoken to a backend.
    Http2: "a value of `http2`";
    Auto = "auto",
    Off = "off",
    PriorKnowledge = "prior_knowledge",
}

record! {
    /// How connections to a backend are protected. Its certificate's issuer, time and name are always checked.
    UpstreamTls: "`tls` of an upstream";
    /// A PEM file with the authorities that may have issued the backend's certificate. Default: those that the system
    /// trusts.
    optional ca = "ca": Text,
    /// A PEM file with the certificate that the gate shows where the backend asks, and the chain behind it.
    optional certificate = "certificate": Text,
    /// A PEM file with the private key of `certificate`.
    optional private_key = "private_key": Text,
    /// The name that the backend's certificate must be valid for. Default: the URL's host.
    optional server_name = "server_name": HostName,
    /// For tests alone: whoever answers is believed. Warned of at every start, reload and check. Default: false.
    optional insecure_skip_verify_for_tests = "insecure_skip_verify_for_tests": Flag,
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
pub(in crate::config) enum SecretText {
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
    /// `METHOD /path/{parameter}`, or several; GET also answers HEAD. With `protocol: mcp` a JSON-RPC method and what it is
    /// for, `tools/call list_issues`, `resources/read repo://{owner}/{*path}`; with `protocol: function` `call NAME`.
    required matches = "match": OneOrMore<Text>,
    /// The permission it needs.
    required scope = "scope": ScopeName,
    /// What it acts on: `type:id` with a parameter of the match, `user:{user_id}`, or with what the call says:
    /// `{query.NAME}`, `{header.NAME}`, `{body./json/pointer}`, `{session.ATTRIBUTE}`, and of MCP and functions
    /// `{args./json/pointer}`. Where a place in a body is a list, the call acts on each, and each must be allowed.
    optional resource = "resource": Text,
    /// The chain whose people must agree to each call, or `never`. Default: `default` for DELETE and irreversible routes,
    /// and never for others.
    optional approval = "approval": Approval,
    /// What a call costs.
    optional cost = "cost": Cost,
    /// Can't be undone. Default: false, and true for DELETE.
    optional irreversible = "irreversible": Flag,
    /// Whether the agent must say what it is doing. Default: the project's.
    optional intent = "intent": IntentRule,
    /// Bytes of a body read where one is needed. Default: the tool's.
    optional body_limit = "body_limit": Size<KIB, GIB>,
    /// Whether decisions are enforced: enforce, or shadow: what would be denied is recorded and let through. Default: the
    /// tool's.
    optional mode = "mode": Mode,
    /// `websocket`: a call that asks for it becomes a tunnel. It lasts as long as its session, and is cut once neither
    /// side has sent anything, pings included, for the listener's `timeouts.idle`. Default: none.
    optional upgrade = "upgrade": Upgrade,
    /// What is asked of a call besides method and path: subjects (`path.NAME`, `query.NAME`, `header.NAME`, `body./pointer`,
    /// `session.ATTRIBUTE`, `agent`, `client`, `time.hour`, `time.weekday`), each with its tests. All must hold.
    optional conditions = "where": super::conditions::Where,
}

words! {
    /// What a call may be upgraded to.
    Upgrade: "a value of `upgrade`";
    Websocket = "websocket",
}

words! {
    /// Whether the agent must say what it is doing.
    IntentRule: "a value of `intent`";
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
    ; some_of "fixed", "header"
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
    Per: "a value of `per`";
    Session = "session",
    Agent = "agent",
    Project = "project",
}

words! {
    /// What exceeding a limit does.
    Exceeded: "a value of `exceeded`";
    Throttle = "throttle",
    Quarantine = "quarantine",
}
