//! What a record says. Encoded on the caller's thread; `seq` and `prev` are filled in by the writer.
//!
//! A line is one canonical JSON object (RFC 8785): keys sorted, no white space, minimal escapes, UTF-8. A field that
//! does not apply is absent; there is no `null`. Numbers are integers up to 2^53 - 1.
//!
//! **In every record:** `seq` (from 0, without gaps), `time` (RFC 3339, UTC, microseconds), `prev` (lower-case hex
//! SHA-256 of the line before, without its newline; 64 zeros in the first), `kind`, `instance` (names this log).
//!
//! **`decision`:** `request`, `trace` (W3C trace id), `project`, `policy` (SHA-256 of the project file), `agent`,
//! `session`, `run`, `intent` (or `intent_sha256`, or neither, as configured), `tool`, `route`, `method`, `target`
//! (query values are `*` unless listed), `scope`, `resource`, `decision` (`allow`, `deny`), `reason` (where denied),
//! `grant` (`on_use`, or the stored grant's id), `limit` (the one exceeded), `client` (address), `body_bytes` and
//! `body_sha256` (where the body was read).
//!
//! **`outcome`:** `request`, `project`, `session`, `status` (sent to the agent), `bytes_in`, `bytes_out` (body bytes
//! from and to the agent), `decision_micros`, `upstream_micros`, `total_micros`, `cost` (a decimal *string*, `"0.01"`:
//! JSON numbers are doubles and money is not), `fault` ([`Fault::as_str`]).
//!
//! **Changes of state** have `change`, `cause` (`principal`, `agent`, `limit`, `gate`) and with it `principal` (name)
//! or `limit` (id):
//! - **`session`** (`minted`, `revoked`, `expired`, `intent`): `project`, `agent`, `session`, `run`, `parent`,
//!   `expires`, `intent` (as above), `attributes_sha256`.
//! - **`grant`** (`given`, `revoked`): `project`, `session`, `grant`, `scope`, `resource`, `uses`, `expires`, `why`.
//! - **`quarantine`** (`quarantined`, `released`): `project`, `session`, `reason`.
//!
//! **`policy`** (`loaded`, `reloaded`, `rejected`): `hashes` (project -> SHA-256 of its file), `trigger`, `detail`.
//!
//! **`principal`**: `change`, `principal`, `client`, `count`, `detail`. Agents that failed to authenticate are
//! summed up here too, as the change `strangers`.
//!
//! **`gate`** (`started`, `recovered`, `stopped`, `fault`): `version`, `detail`. After `fault`, `segment` and
//! `kept_bytes`: that file's bytes behind `kept_bytes` were never acknowledged and are not the ledger's. With
//! `recovered`: the same, and `cut_bytes`, `cut_sha256` of what was cut off.

use crate::policy::decision::{GrantUse, Reason};
use crate::policy::id::{GrantId, RequestId, SessionId};
use crate::policy::model::PolicyHash;
use crate::policy::name::{
    AgentName, LimitId, PrincipalName, ProjectName, RouteId, ScopeName, ToolName,
};
use crate::policy::resource::Resource;
use crate::policy::time::Timestamp;
use std::net::IpAddr;

/// Every call of a known session: what was wanted and what was decided. Borrowed: encoding copies.
#[derive(Clone, Debug)]
pub struct DecisionRecord<'a> {
    pub request: RequestId,
    pub time: Timestamp,
    /// W3C trace id, 32 hex digits, where the agent sent a valid `traceparent`.
    pub trace: Option<&'a str>,
    pub project: &'a ProjectName,
    pub policy: PolicyHash,
    pub agent: &'a AgentName,
    pub session: SessionId,
    pub run: Option<&'a str>,
    /// What the agent says it is doing, as it said it; encoded in full, as a digest, or omitted, as configured.
    pub intent: Option<&'a str>,
    pub tool: Option<&'a ToolName>,
    pub route: Option<&'a RouteId>,
    pub method: &'a str,
    /// Canonical path and query (the raw one, percent-escaped, where it is ambiguous).
    pub target: &'a str,
    /// Query names whose values are recorded; all other values are masked.
    pub record_query: &'a [Box<str>],
    pub scope: Option<&'a ScopeName>,
    pub resource: Option<&'a Resource>,
    pub decision: Verdict,
    /// Why, where it is not allow.
    pub reason: Option<Reason>,
    pub grant: Option<GrantUse>,
    pub limit: Option<&'a LimitId>,
    pub client: IpAddr,
    /// Where the body was read.
    pub body: Option<BodyDigest>,
}

/// The word of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
}

/// A body that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// A call's end.
#[derive(Clone, Debug)]
pub struct OutcomeRecord<'a> {
    pub request: RequestId,
    pub time: Timestamp,
    pub project: &'a ProjectName,
    pub session: SessionId,
    /// Sent to the agent; `None` if no head was.
    pub status: Option<u16>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    pub decision_micros: u64,
    pub upstream_micros: Option<u64>,
    pub total_micros: u64,
    /// Millionths.
    pub cost_micros: Option<u64>,
    pub fault: Option<Fault>,
}

/// How a call ended other than by its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The agent went away; the backend call was cancelled.
    AgentLeft,
    /// The agent's body ended early or was malformed.
    AgentFailed,
    /// The session was revoked, expired or quarantined meanwhile.
    SessionEnded,
    /// The backend refused, reset or spoke nonsense.
    UpstreamFailed,
    /// The backend was too slow.
    UpstreamTimeout,
    /// The answer of the backend broke off after its head.
    UpstreamBroke,
    /// A reported cost could not be read.
    CostUnreadable,
    /// The gate stopped before the end.
    GateStopped,
    /// The gate itself failed.
    Internal,
}

impl Fault {
    /// The code in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::AgentLeft => "agent_left",
            Fault::AgentFailed => "agent_failed",
            Fault::SessionEnded => "session_ended",
            Fault::UpstreamFailed => "upstream_failed",
            Fault::UpstreamTimeout => "upstream_timeout",
            Fault::UpstreamBroke => "upstream_broke",
            Fault::CostUnreadable => "cost_unreadable",
            Fault::GateStopped => "gate_stopped",
            Fault::Internal => "internal",
        }
    }
}

/// Who caused a change.
#[derive(Clone, Debug)]
pub enum Cause<'a> {
    /// A principal through the admin API.
    Principal(&'a PrincipalName),
    /// The agent itself.
    Agent,
    /// A limit.
    Limit(&'a LimitId),
    /// Time, a parent's end, or the gate's own working.
    Gate,
}

/// Everything that is not a call.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A session's change of state: `minted`, `revoked`, `expired`, `intent`.
    Session {
        change: &'static str,
        project: &'a ProjectName,
        agent: &'a AgentName,
        session: SessionId,
        run: Option<&'a str>,
        parent: Option<SessionId>,
        expires: Timestamp,
        intent: Option<&'a str>,
        attributes: Option<[u8; 32]>,
        cause: Cause<'a>,
    },
    /// A stored grant's: `given`, `revoked`.
    Grant {
        change: &'static str,
        project: &'a ProjectName,
        session: SessionId,
        grant: GrantId,
        scope: &'a ScopeName,
        resource: Option<&'a Resource>,
        uses: u32,
        expires: Timestamp,
        why: &'a str,
        cause: Cause<'a>,
    },
    /// `quarantined`, `released`.
    Quarantine {
        change: &'static str,
        project: &'a ProjectName,
        session: SessionId,
        reason: &'a str,
        cause: Cause<'a>,
    },
    /// A policy `loaded`, `reloaded`, or a reload `rejected`.
    Policy {
        change: &'static str,
        hashes: &'a [(ProjectName, PolicyHash)],
        trigger: &'a str,
        detail: &'a str,
    },
    /// An admin call that changed something, or failed admin authentication in summary.
    Principal {
        change: &'static str,
        principal: Option<&'a PrincipalName>,
        client: Option<IpAddr>,
        count: u64,
        detail: &'a str,
    },
    /// Failed agents' authentication in summary.
    Strangers { client: Option<IpAddr>, count: u64 },
    /// `started`, `recovered`, `stopped`, `fault`.
    Gate {
        change: &'static str,
        version: &'a str,
        detail: &'a str,
    },
}
