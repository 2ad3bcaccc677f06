//! The server file as it is written.

use super::{DAY, GIB, HOUR, KIB, MINUTE, SECOND, SecretText, UpstreamTls, Webhook};
use crate::config::collection::{List, ListOrNone, Map};
use crate::config::leaf::{
    Address, AttributeName, Count, HeaderName, HostName, Network, Sha256, Share, Size, Span, Text,
    Variable, Version, Workers,
};
use crate::config::read::{record, words};
use crate::policy::name::{GroupName, PrincipalName, ProjectName};

record! {
    /// The server file of Toolgate: where it listens, who may administer it, where it keeps what it knows.
    Server: "the server file";
    /// The version of this file's format: 1.
    required _version = "version": Version,
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
    /// Calls as spans, for an OpenTelemetry collector. Default: none are made.
    optional telemetry = "telemetry": Telemetry,
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
    /// Failed authentications of one client address in a minute. Beyond them its calls are answered with 503 before any
    /// credential is looked up, but on connections that have shown a good one. Default: 6000.
    optional failed_tries = "failed_tries": Count<1_000_000>,
    /// Bytes a second, on the average of the time it is waited for beyond `body_idle`, of a request body that says how long it
    /// is or must be read before it is judged. Default: 500.
    optional body_rate = "body_rate": Count<1_000_000>,
    /// Default: plain HTTP.
    optional tls = "tls": ListenerTls,
}

record! {
    /// The admin listener.
    Admin: "the admin listener";
    /// IP address and port.
    required address = "address": Address,
    /// Accepted Host names. Default: the listener's own address and localhost.
    optional hosts = "hosts": List<HostName>,
    /// Where approvers find the console, as webhooks tell them: `https://host` or `https://host:port`. Default: the address.
    optional url = "url": Text,
    /// How long a connection may take over each step.
    optional timeouts = "timeouts": Timeouts,
    /// Most connections.
    optional caps = "caps": Caps,
    /// Default: plain HTTP.
    optional tls = "tls": ListenerTls,
    ; later "trusted_proxies"
}

record! {
    /// TLS on a listener. Its files are read again whenever they change.
    ListenerTls: "`tls`";
    /// The listener's certificate and those between it and its authority, in PEM. Relative to the working directory.
    required certificate = "certificate": Text,
    /// The certificate's private key, in PEM. Relative to the working directory.
    required private_key = "private_key": Text,
    /// Authorities of clients' certificates, in PEM: clients are asked for one. Relative to the working directory.
    optional client_ca = "client_ca": Text,
    /// Whether a client must have a certificate. Default: required, where client_ca is given.
    optional client_auth = "client_auth": ClientAuth,
}

words! {
    /// Whether a client must have a certificate.
    ClientAuth: "a value of `client_auth`";
    Optional = "optional",
    Required = "required",
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
    /// For a TLS handshake. Default: 10s.
    optional tls = "tls": Span<1, HOUR>,
    /// For a whole request head. Default: 10s.
    optional head = "head": Span<1, HOUR>,
    /// Between two pieces of a request body. Default: 30s.
    optional body_idle = "body_idle": Span<1, HOUR>,
    /// Between two requests. Default: 75s.
    optional idle = "idle": Span<1, HOUR>,
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
    /// Projects it may do so in.
    required projects = "projects": List<ProjectName>,
    /// With the role approver: the groups it decides as a member of. Chains of the projects name them.
    optional groups = "groups": List<GroupName>,
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
    /// How far a record must have got before an ordinary call goes on. What can't be undone always waits for the disk. Default: written.
    optional level = "level": Level,
    /// When a new file is begun.
    optional segment = "segment": Segment,
    /// Whole files are dropped when all of their records are older; what comes later can still be proven. Default: 180d.
    optional retain = "retain": Span<DAY, { 36_500 * DAY }>,
    /// The key that signs checkpoints. Default: `key` in the directory, made at the first start.
    optional signing_key = "signing_key": SigningKey,
    /// Where checkpoints are kept beside the ledger, so that not even who has its key can change what was.
    optional anchor = "anchor": Anchor,
}

record! {
    /// The key that signs checkpoints.
    SigningKey: "`signing_key`";
    /// The file that holds it, which only its owner may read; `toolgate ledger keygen` makes one. Relative to the working directory.
    required file = "file": Text,
    ; secret true
}

record! {
    /// Where checkpoints are kept beside the ledger.
    Anchor: "`anchor`";
    /// A file that they are appended to, best on another volume; made if it is absent. At the start it must agree with the ledger. Relative to the working directory.
    optional file = "file": Text,
    /// A URL that is called with each (Standard Webhooks).
    optional webhook = "webhook": Webhook,
    /// How often, where there is a new one. Default: 1m.
    optional every = "every": Span<SECOND, DAY>,
    ; some_of "file", "webhook"
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
    Intent: "a value of `intent`";
    Full = "full",
    Digest = "digest",
    Omit = "omit",
}

words! {
    /// How far a record must have got before an ordinary call goes on: on the disk, in the kernel's hands, or queued.
    Level: "a value of `level`";
    Sync = "sync",
    Written = "written",
    Batched = "batched",
}

record! {
    /// Calls as spans, for an OpenTelemetry collector: beside the ledger, not in its place.
    Telemetry: "`telemetry`";
    /// Where spans are sent.
    required otlp = "otlp": Otlp,
    /// The part of traces that is kept of those that begin at the gate, from 0 to 1. Those that an agent's `traceparent`
    /// continues are kept as it says. Default: 1.
    optional sample = "sample": Share,
    /// What is said of the gate with all its spans: `deployment.environment.name: production`. Default: `service.name` is
    /// toolgate, `service.instance.id` the ledger's instance.
    optional resource = "resource": Map<AttributeName, Text>,
}

record! {
    /// A collector that speaks OTLP over HTTP (Protocol Buffers).
    Otlp: "`otlp`";
    /// `http://host:port` or `https://`; spans go to `/v1/traces` behind it.
    required endpoint = "endpoint": Text,
    /// Header fields that spans are sent with, each text in which `${NAME}` is the environment's, or `{ file: PATH }`.
    /// Default: none.
    optional headers = "headers": Map<HeaderName, SecretText>,
    /// For one message, from looking the name up to the answer. Default: 10s.
    optional timeout = "timeout": Span<1, MINUTE>,
    /// How connections are protected, where the endpoint begins with `https://`.
    optional tls = "tls": UpstreamTls,
}
