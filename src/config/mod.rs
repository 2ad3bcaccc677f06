//! Configuration: YAML in, validated types out. After this nothing is left to check.
//!
//! The way of a file: its text becomes a tree of places and values (`tree`), the tree the file as written (`raw`, read by
//! what `read` and `leaf` know), that the types the gate runs on (`lower`). Each step reports all it finds (`error`) and
//! goes on. Nothing that can't be honoured is read and then ignored: it is refused by name.

mod collection;
mod error;
pub mod explained;
mod files;
mod kept;
mod leaf;
mod load;
mod lower;
mod pem;
mod places;
mod raw;
mod read;
mod schema;
mod secrets;
mod tree;
mod units;
pub mod watch;

pub use error::{ConfigErrors, Report};
pub use load::{Project, check_project, load, load_project, load_untested, load_with};
pub use pem::{certificates_in as certificates, identity_in as identity, thumbprint};
pub use places::Lines;
pub use schema::{SchemaKind, schema};

use crate::policy::approval::{Approver, Approvers};
use crate::policy::certificate::{Certificates, Identity};
use crate::policy::model::{Policy, UpstreamTls};
use crate::policy::name::{GroupName, PrincipalName, ProjectName};
use crate::policy::time::Timestamp;
use crate::policy::token::TokenDigest;
use secrecy::{ExposeSecret as _, SecretString};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What an unset secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// An error: the gate is about to serve.
    Required,
    /// A warning: the files are only being looked at. What is loaded so must not be served.
    Optional,
}

/// All files of one configuration, valid as a whole.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The server file.
    pub server: Server,
    /// SHA-256 of the server file's bytes: what `sha256sum` prints for it.
    pub server_sha256: [u8; 32],
    /// The projects, in order of name.
    pub projects: Vec<Policy>,
    /// Where their rules stand, in the same order.
    pub lines: Vec<Lines>,
    /// What is legal and probably not meant.
    pub warnings: Vec<Warning>,
    /// What will be a warning from a time on: certificates that expire. See [`Loaded::warn_of_expired`].
    pub expiries: Vec<(Timestamp, Warning)>,
    /// Every file read (server, projects, secret files), for watching.
    pub files: Vec<PathBuf>,
    /// The patterns of `projects`, from the working directory: a file that newly fits one is a change too.
    pub patterns: Vec<PathBuf>,
}

impl Loaded {
    /// Counts among the warnings what is one at this time: loading knows no clock.
    pub fn warn_of_expired(&mut self, now: Timestamp) {
        let expired = self.expiries.extract_if(.., |(from, _)| *from <= now);
        self.warnings.extend(expired.map(|(_, warning)| warning));
    }
}

/// Legal and probably not meant; an error under `check --strict`. `text` is the rendered report with place and help.
#[derive(Clone, Debug)]
pub struct Warning {
    /// `file:line:column: message`.
    pub summary: String,
    /// With excerpt and help.
    pub rendered: String,
    /// As `rendered`, with terminal colours.
    pub coloured: String,
}

/// The name that was probably meant, as `; did you mean ...?`, or else what there is.
pub fn meant<'c>(written: &str, known: impl Iterator<Item = &'c str> + Clone) -> String {
    if let Some(meant) = error::did_you_mean(written, known.clone()) {
        return format!("; did you mean `{meant}`?");
    }
    let mut known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    known.sort();
    match known.len() {
        0 => "; there is none".to_owned(),
        1..=8 => format!("; there is {}", known.join(", ")),
        many => format!("; there are {many}, the first is {}", known[0]),
    }
}

/// The server file.
#[derive(Clone, Debug)]
pub struct Server {
    /// Data-plane threads; at least 1.
    pub workers: usize,
    /// Where agents connect.
    pub agents: Listener,
    /// Where the admin API is.
    pub admin: AdminListener,
    /// Where metrics and health are.
    pub metrics: SocketAddr,
    /// Who may use the admin API.
    pub principals: Vec<Principal>,
    /// The embedded store's file.
    pub store: PathBuf,
    /// The ledger.
    pub ledger: LedgerSettings,
    /// Spans of calls; `None`: none are made.
    pub telemetry: Option<Telemetry>,
}

/// The agents' listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// IP address and port.
    pub address: SocketAddr,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// How long a connection may take over each step.
    pub timeouts: Timeouts,
    /// Most connections.
    pub caps: Caps,
    /// Failed authentications of one client address in a minute.
    pub failed_tries: u32,
    /// Bytes a second, on the average of the time it is waited for beyond `body_idle`, of a request body that says how long it
    /// is or must be read before it is judged.
    pub body_rate: u32,
    /// `None`: plain HTTP.
    pub tls: Option<ListenerTls>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListener {
    /// IP address and port.
    pub address: SocketAddr,
    /// Accepted `Host` names, lower case, without port.
    pub hosts: Vec<String>,
    /// Where approvers find the console, if the file says: `https://host[:port]`. See [`AdminListener::console`].
    pub url: Option<Box<str>>,
    /// How long a connection may take over each step.
    pub timeouts: Timeouts,
    /// Most connections.
    pub caps: Caps,
    /// `None`: plain HTTP.
    pub tls: Option<ListenerTls>,
}

/// What a listener needs to speak TLS. Equal if the contents of its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Its certificate and key.
    pub identity: Identity,
    /// What it asks of its clients.
    pub clients: Clients,
}

/// What a listener asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// No certificate.
    Unasked,
    /// A certificate of these authorities, if they have one.
    Optional(Certificates),
    /// A certificate of these authorities.
    Required(Certificates),
}

/// How long a connection may take over each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TLS handshake.
    pub tls: Duration,
    /// For a whole request head.
    pub head: Duration,
    /// Between two pieces of a request body.
    pub body_idle: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// Most connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// In all.
    pub connections: u32,
    /// From one address.
    pub per_address: u32,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub network: IpAddr,
    /// How many bits of it count.
    pub prefix_bits: u8,
}

/// Who may use the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Appears in the ledger.
    pub name: PrincipalName,
    /// SHA-256 of its key.
    pub key: TokenDigest,
    /// What it may do; not empty.
    pub roles: Vec<Role>,
    /// Where it may do so; not empty.
    pub projects: Vec<ProjectName>,
    /// What it is a member of, as an approver.
    pub groups: Vec<GroupName>,
}

impl Server {
    /// Whose word on approvals counts.
    pub fn approvers(&self) -> Approvers {
        let approvers = self.principals.iter();
        let approvers = approvers.filter(|one| one.roles.contains(&Role::Approver));
        Approvers::new(approvers.map(|one| {
            let approver = Approver {
                groups: one.groups.clone().into(),
                projects: one.projects.clone().into(),
            };
            (one.name.clone(), approver)
        }))
    }
}

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Mints and revokes sessions, gives and revokes grants.
    Issuer,
    /// Decides approvals.
    Approver,
    /// Quarantines, releases, reloads, explains.
    Operator,
    /// Reads the ledger.
    Auditor,
}

/// The ledger's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Made if it is absent.
    pub directory: PathBuf,
    /// How intents are recorded.
    pub intent: IntentRecord,
    /// A new file is begun at this size.
    pub segment_bytes_max: u64,
    /// A new file is begun at this age.
    pub segment_age_max: Duration,
    /// How far a record must have got before an ordinary call goes on.
    pub level: LedgerLevel,
    /// Holds the key that signs checkpoints; absent: the directory's own, made at the first start.
    pub signing_key: Option<PathBuf>,
    /// Whole segments are dropped when all of their records are older.
    pub retain: Duration,
    /// Checkpoints are appended to this file too, on another volume; what it has must agree with the ledger at the start.
    pub anchor_file: Option<PathBuf>,
    /// And told to this URL.
    pub anchor_webhook: Option<AnchorWebhook>,
    /// How often both get one, where there is a new one.
    pub anchor_every: Duration,
}

/// A URL that is told of checkpoints (Standard Webhooks). Equal if it is the same place with the same secrets.
#[derive(Clone, Debug)]
pub struct AnchorWebhook {
    /// As [`crate::policy::model::Notify::url`]: a secret.
    pub url: SecretString,
    /// As [`crate::policy::model::Notify::secrets`].
    pub secrets: Vec<SecretString>,
}

impl PartialEq for AnchorWebhook {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&SecretString, &SecretString)| a.expose_secret() == b.expose_secret();
        same((&self.url, &other.url))
            && self.secrets.len() == other.secrets.len()
            && self.secrets.iter().zip(&other.secrets).all(same)
    }
}

impl Eq for AnchorWebhook {}

impl LedgerSettings {
    /// The defaults, in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        LedgerSettings {
            directory: directory.into(),
            intent: IntentRecord::Full,
            segment_bytes_max: 256 << 20,
            segment_age_max: Duration::from_secs(24 * 3600),
            level: LedgerLevel::Written,
            signing_key: None,
            retain: Duration::from_secs(180 * 24 * 3600),
            anchor_file: None,
            anchor_webhook: None,
            anchor_every: Duration::from_secs(60),
        }
    }
}

/// How far a record must have got before an ordinary call goes on. What can't be undone always waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerLevel {
    /// It is on the disk.
    Sync,
    /// The kernel has it.
    Written,
    /// It is queued: a kill loses what was queued last.
    Batched,
}

/// How intents enter the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentRecord {
    /// As the agent said it.
    Full,
    /// Its SHA-256.
    Digest,
    /// Not at all.
    Omit,
}

/// Spans of calls.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Where they go.
    pub otlp: Otlp,
    /// The part of traces that is kept of those that begin at the gate, in millionths.
    pub sample_millionths: u32,
    /// What is said of the gate, in the order written.
    pub resource: Vec<(Box<str>, Box<str>)>,
}

/// A collector that speaks OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// `host:port` to connect to; IPv6 in brackets.
    pub authority: Box<str>,
    /// The `Host` sent.
    pub host: Box<str>,
    /// Before `/v1/traces`: empty, or `/base`.
    pub base_path: Box<str>,
    /// Header fields that spans are sent with: name in lower case, value.
    pub headers: Vec<(Box<str>, SecretString)>,
    /// For one message, from looking the name up to the answer.
    pub timeout: Duration,
    /// `None`: plain HTTP.
    pub tls: Option<UpstreamTls>,
}

impl Listener {
    /// Whether no more than the contents of `tls` differ: those can be swapped, its absence can't.
    fn can_become(&self, new: &Self) -> bool {
        let tls = self.tls.is_some().then(|| new.tls.clone()).flatten();
        new.tls.is_some() == self.tls.is_some()
            && *new
                == Self {
                    tls,
                    ..self.clone()
                }
    }
}

impl AdminListener {
    /// Where approvers find the console: scheme, host and port, without a slash at its end. `bound` is where the listener
    /// listens, for addresses whose port the system chooses.
    pub fn console(&self, bound: SocketAddr) -> String {
        if let Some(url) = &self.url {
            return url.to_string();
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match bound.ip().is_unspecified() {
            // On every interface, this machine's own among them; what others call it is for `url` to say.
            true => format!("{scheme}://localhost:{}", bound.port()),
            false => format!("{scheme}://{bound}"),
        }
    }

    /// As [`Listener::can_become`].
    fn can_become(&self, new: &Self) -> bool {
        let tls = self.tls.is_some().then(|| new.tls.clone()).flatten();
        new.tls.is_some() == self.tls.is_some()
            && *new
                == Self {
                    tls,
                    ..self.clone()
                }
    }
}

/// What of a new server file only a restart can bring about; `None`: it can be swapped in.
pub fn restart_needed(old: &Server, new: &Server) -> Option<String> {
    let changes = [
        ("workers", old.workers != new.workers),
        ("listeners.agents", !old.agents.can_become(&new.agents)),
        ("listeners.admin", !old.admin.can_become(&new.admin)),
        ("listeners.metrics", old.metrics != new.metrics),
        ("store", old.store != new.store),
        ("ledger", old.ledger != new.ledger),
        (
            "telemetry",
            old.telemetry.is_some() != new.telemetry.is_some(),
        ),
    ];
    let changed: Vec<&str> = changes
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    (!changed.is_empty()).then(|| format!("a change to {} needs a restart", changed.join(", ")))
}
