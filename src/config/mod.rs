//! Configuration: YAML in, validated types out. After this nothing is left to check.

use crate::policy::model::Policy;
use crate::policy::name::{PrincipalName, ProjectName};
use crate::policy::token::TokenDigest;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// All files of one configuration, valid as a whole.
#[derive(Debug)]
pub struct Loaded {
    /// The server file.
    pub server: Server,
    /// The projects, in order of name.
    pub projects: Vec<Policy>,
    /// What is legal and probably not meant.
    pub warnings: Vec<Warning>,
    /// Every file read (server, projects, secret files), for watching.
    pub files: Vec<PathBuf>,
}

/// Legal and probably not meant; an error under `check --strict`. `text` is the rendered report with place and help.
#[derive(Clone, Debug)]
pub struct Warning {
    /// `file:line:column: message`.
    pub summary: String,
    /// With excerpt and help.
    pub rendered: String,
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
}

/// The agents' listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub trusted_proxies: Vec<Cidr>,
    pub timeouts: Timeouts,
    pub caps: Caps,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListener {
    pub address: SocketAddr,
    /// Accepted `Host` names, lower case, without port.
    pub hosts: Vec<String>,
    pub timeouts: Timeouts,
    pub caps: Caps,
}

/// How long a connection may take over each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub head: Duration,
    pub body_idle: Duration,
    pub idle: Duration,
}

/// Most connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    pub connections: u32,
    pub per_address: u32,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub network: IpAddr,
    pub prefix_bits: u8,
}

/// Who may use the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub name: PrincipalName,
    pub key: TokenDigest,
    pub roles: Vec<Role>,
    pub groups: Vec<String>,
    pub projects: Vec<ProjectName>,
}

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Issuer,
    Approver,
    Operator,
    Auditor,
}

/// The ledger's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    pub directory: PathBuf,
    pub intent: IntentRecord,
    pub segment_bytes_max: u64,
    pub segment_age_max: Duration,
    pub retain: Duration,
}

/// How intents enter the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentRecord {
    Full,
    Digest,
    Omit,
}
