//! What a record says. Encoded on the caller's thread; `seq` and `prev` are filled in by the writer.
//!
//! A line is one canonical JSON object (RFC 8785): keys sorted, no white space, minimal escapes, UTF-8. A field that
//! does not apply is absent; there is no `null`. Numbers are integers up to 2^53 - 1.
//!
//! **In every record:** `seq` (from 0, without gaps), `time` (RFC 3339, UTC, microseconds), `prev` (lower-case hex
//! SHA-256 of the line before, without its newline; 64 zeros in the first), `kind`, `instance` (names this log).
//!
//! **`decision`:** `request`, `trace` (W3C trace id), `project`, `policy` (SHA-256 of the project file), `agent`,
//! `session`, `run`, `intent` (or `intent_sha256`, or neither, as configured), `tool`, `route`, `method`, `target`,
//! `call` (where the body names it: `tools/call list_issues`)
//! (query values are `*` unless listed), `scope`, `resource`, `decision` (`allow`, `deny`, `hold`), `reason` (where
//! denied), `grant` (`on_use`, the stored grant's id, or `protocol`: a message that acts on nothing and needs none), `approval` (it waits for that one, or runs by its word), `limit`
//! (the one exceeded), `shadow` (of what passes because its route is in shadow, with the decision `allow` and no grant: what
//! it `would` have been, `deny` or `hold`, and the `reason`), `client` (address), `body_bytes` and `body_sha256` (where the body was read). A call that stands under
//! an approval has the decision `hold`, whether it is the first to ask, a retry that joins, or one that gets the answer of
//! the run. What is decided behind it is a second decision of the same `request`: `allow`, of the one call by which what
//! people agreed to ran, before a byte of it leaves; or `deny`. The one `outcome` is that of the request, and tells what its
//! agent got; how the run ended the `approval` records tell, whoever was there to hear of it.
//!
//! **`outcome`:** `request`, `project`, `session`, `status` (sent to the agent), `bytes_in`, `bytes_out` (body bytes
//! from and to the agent), `decision_micros`, `hold_micros` (where people were waited for), `upstream_micros`, `total_micros`, `cost` (a decimal *string*, `"0.01"`:
//! JSON numbers are doubles and money is not), `fault` ([`Fault::as_str`]), `frames` (of a call that became a WebSocket:
//! `received` from the agent, `sent` to it; `bytes_in` and `bytes_out` are then those of the frames, heads included).
//!
//! **Changes of state** have `change`, `cause` (`principal`, `agent`, `limit`, `gate`) and with it `principal` (name)
//! or `limit` (id):
//! - **`session`** (`minted`, `revoked`, `expired`, `intent`): `project`, `agent`, `session`, `run`, `parent`,
//!   `expires`, `intent` (as above), `attributes_sha256`. When `minted`, `scopes`: what it was narrowed to (scope ->
//!   `resources`, `uses`, each where it is bounded further); absent: it was not narrowed.
//! - **`grant`** (`given`, `revoked`, `expired`): `project`, `session`, `grant`, `scope`, `resource`, `uses`, `expires`, `why`.
//! - **`quarantine`** (`quarantined`, `released`): `project`, `session`, `reason`.
//! - **`approval`**: `approval`, `project`, `agent`, `session`, `run`, `request` (the call that was held first), `chain`,
//!   `quorum`, `expires`, `digest` (what it is bound to), `asked` (`call`, `grant`), `scope`, `resource`, `grant` (what the
//!   call goes on; of a wish, the grant that was given), `stage` (where it then stands), of a call `tool` and `route`, of a
//!   wish `uses`, `ttl_seconds` and `why`; and as the change has it:
//!   - `requested`: `intent` (as above).
//!   - `voted`: `word` (`approve`, `deny`), `note`; `principal` said it.
//!   - `approved`, `denied`, `expired`, `withdrawn`: `note`. One word of denial can still follow `approved`, where both
//!     came at once: nobody had been told of the first.
//!   - `executing`: its one run may begin; it holds the use of `grant` from here on.
//!   - `executed`: `status` (the backend's). `unknown`: nobody can say how the run ended.
//!   - `returned`: not a byte of it was sent; it is `approved` again, and its use is given back.
//!   - `resolved`: `principal` found out how an unknown run ended, and said so in `note`.
//!
//! - **`pin`** (of a tool with `pin: true`: `pinned`, `changed`, `restored`, `accepted`, `forgotten`, `refused`): `project`,
//!   `tool`, `name` (what the server calls it), `digest` (of the definition that the change is about), `accepted` (of the one
//!   that is held to, where that is another; of an `accepted` one: that was held to before), `session` (whose list showed it).
//!   `pinned`: seen for the first time, and accepted. `restored`: the server says again what was accepted. `refused`: it can't
//!   be kept, and `why`; once for each tool and run of the gate.
//!
//! **`policy`** (`loaded`, `reloaded`, `rejected`): `hashes` (project -> SHA-256 of its file), `server_sha256` (of the server
//! file, which says who is a principal), `trigger` (`start`, `signal`, `file_change`, `principal:NAME`), `detail`. Of a
//! rejected reload the hashes are those of what stays in force.
//!
//! **`principal`** (`called`, `failed`, `strangers`): `principal`, `client`, `count`, `detail`. `called`: an admin call that
//! changed something, or the console's way in or out; `detail` is the call. `failed` sums up who had no good key at the
//! admin API, `strangers` who had no good token at the agents' listener, or sent a head that can't be read: one record for
//! each `client` and second, the rest (without `client`) one count.
//!
//! **`gate`** (`started`, `recovered`, `stopped`, `fault`, `dropped`, `key_rotated`): `version`, `detail`. After `fault`, `segment` and
//! `kept_bytes`: that file's bytes behind `kept_bytes` were never acknowledged and are not the ledger's. With
//! `recovered`: the same, and `cut_bytes`, `cut_sha256` of what was cut off. With `dropped`, which is written before a segment
//! is removed because of its age: `segment`, `first` (the `seq` of the first record behind it: the first there is from then
//! on) and `root` (hex, of the Merkle tree over all records before that one). With `key_rotated`: `old_key` and `new_key`,
//! verifier keys; the checkpoint over this record is signed by both, every later one by the new key.

use super::line::sha256;
use crate::policy::approval::{Facts, Stage, Word};
use crate::policy::decision::{GrantUse, Reason};
use crate::policy::id::{ApprovalId, GrantId, RequestId, SessionId};
use crate::policy::model::PolicyHash;
use crate::policy::name::{
    AgentName, LimitId, PrincipalName, ProjectName, RouteId, ScopeName, ToolName,
};
use crate::policy::pin::PinDigest;
use crate::policy::resource::Resource;
use crate::policy::shadow::WouldBe;
use crate::policy::subject::Narrowing;
use crate::policy::time::Timestamp;
use std::net::IpAddr;

/// Every call of a known session: what was wanted and what was decided. Borrowed: encoding copies.
#[derive(Clone, Debug)]
pub struct DecisionRecord<'a> {
    /// The call.
    pub request: RequestId,
    /// When.
    pub time: Timestamp,
    /// W3C trace id, 32 hex digits, where the agent sent a valid `traceparent`.
    pub trace: Option<&'a str>,
    /// The ruleset.
    pub project: &'a ProjectName,
    /// Which version of it.
    pub policy: PolicyHash,
    /// The kind of agent.
    pub agent: &'a AgentName,
    /// The run.
    pub session: SessionId,
    /// The orchestrator's own name for it.
    pub run: Option<&'a str>,
    /// What the agent says it is doing, as it said it; encoded in full, as a digest, or omitted, as configured.
    pub intent: Option<&'a str>,
    /// The backend, where one was matched.
    pub tool: Option<&'a ToolName>,
    /// The rule, where one was matched.
    pub route: Option<&'a RouteId>,
    /// As sent.
    pub method: &'a str,
    /// Canonical path and query (the raw one, percent-escaped, where it is ambiguous).
    pub target: &'a str,
    /// What the body names as called, where it is bodies that name calls.
    pub call: Option<&'a str>,
    /// Query names whose values are recorded; all other values are masked.
    pub record_query: &'a [Box<str>],
    /// The permission that was needed.
    pub scope: Option<&'a ScopeName>,
    /// What it acts on.
    pub resource: Option<&'a Resource>,
    /// What was decided.
    pub decision: Verdict,
    /// Why, where it is not allow.
    pub reason: Option<Reason>,
    /// What it goes on.
    pub grant: Option<GrantUse>,
    /// It belongs to the tool's protocol itself, and goes on no grant.
    pub protocol: bool,
    /// What would have been decided, where it passes because its route is in shadow.
    pub shadow: Option<WouldBe>,
    /// The one it waits for, or that lets it run.
    pub approval: Option<ApprovalId>,
    /// The one that was exceeded.
    pub limit: Option<&'a LimitId>,
    /// Where it came from.
    pub client: IpAddr,
    /// Where the body was read.
    pub body: Option<BodyDigest>,
}

/// The word of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be forwarded.
    Allow,
    /// It was refused.
    Deny,
    /// It waits for a person.
    Hold,
}

/// A body that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest {
    /// Length.
    pub bytes: u64,
    /// Digest.
    pub sha256: [u8; 32],
}

impl BodyDigest {
    /// That of these bytes.
    pub fn of(body: &[u8]) -> Self {
        Self {
            bytes: body.len() as u64,
            sha256: sha256(body),
        }
    }
}

/// A call's end.
#[derive(Clone, Debug)]
pub struct OutcomeRecord<'a> {
    /// The call.
    pub request: RequestId,
    /// When.
    pub time: Timestamp,
    /// The ruleset.
    pub project: &'a ProjectName,
    /// The run.
    pub session: SessionId,
    /// Sent to the agent; `None` if no head was.
    pub status: Option<u16>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    /// From the head to the decision recorded.
    pub decision_micros: u64,
    /// From then until people had answered or were no longer waited for, where they were asked.
    pub hold_micros: Option<u64>,
    /// From the request sent to the answer's head.
    pub upstream_micros: Option<u64>,
    /// From the head to the last byte.
    pub total_micros: u64,
    /// Millionths.
    pub cost_micros: Option<u64>,
    /// How it ended, other than well.
    pub fault: Option<Fault>,
    /// Of a call that became a tunnel.
    pub frames: Option<FrameCounts>,
}

/// Frames that went through a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// From the agent.
    pub received: u64,
    /// To the agent.
    pub sent: u64,
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
    /// TLS with the backend could not be set up: which check failed.
    UpstreamTls(TlsFault),
    /// The backend was too slow.
    UpstreamTimeout,
    /// The answer of the backend broke off after its head.
    UpstreamBroke,
    /// A tunnel through which neither side sent anything for too long.
    Idle,
    /// A reported cost could not be read.
    CostUnreadable,
    /// The gate stopped before the end.
    GateStopped,
    /// The ledger did not acknowledge the decision in time: nothing was sent.
    LedgerLate,
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
            Fault::UpstreamTls(fault) => fault.as_str(),
            Fault::UpstreamTimeout => "upstream_timeout",
            Fault::UpstreamBroke => "upstream_broke",
            Fault::Idle => "idle",
            Fault::CostUnreadable => "cost_unreadable",
            Fault::GateStopped => "gate_stopped",
            Fault::LedgerLate => "ledger_late",
            Fault::Internal => "internal",
        }
    }
}

/// Which check failed when TLS with a backend was set up. `Display` is for the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The backend's certificate is past its end.
    #[error("the backend's certificate has expired")]
    Expired,
    /// The backend's certificate has not begun.
    #[error("the backend's certificate is not valid yet")]
    NotYetValid,
    /// Nobody who is trusted issued the backend's certificate.
    #[error("the backend's certificate was issued by nobody that is trusted")]
    UnknownIssuer,
    /// The backend's certificate is another's.
    #[error("the backend's certificate is not valid for its name")]
    WrongName,
    /// The backend's certificate was revoked.
    #[error("the backend's certificate was revoked")]
    Revoked,
    /// Something else about the backend's certificate: its form, its signature, its purpose.
    #[error("the backend's certificate can't be accepted")]
    BadCertificate,
    /// The backend asks for a certificate of the gate's and none is configured.
    #[error("the backend demands a certificate of the gate")]
    CertificateDemanded,
    /// The backend does not accept the gate's certificate.
    #[error("the backend refuses the gate's certificate")]
    CertificateRefused,
    /// Only HTTP/2 was offered.
    #[error("the backend does not speak HTTP/2 over TLS")]
    NoHttp2,
    /// What came is not TLS, or broke off.
    #[error("the backend does not speak TLS, or broke off while it was set up")]
    NotTls,
    /// No version, cipher or key exchange in common, or another alert.
    #[error("the backend and the gate could not agree on how to speak TLS")]
    NoAgreement,
}

impl TlsFault {
    /// As the outcome records it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TlsFault::Expired => "upstream_tls_expired",
            TlsFault::NotYetValid => "upstream_tls_not_yet_valid",
            TlsFault::UnknownIssuer => "upstream_tls_unknown_issuer",
            TlsFault::WrongName => "upstream_tls_wrong_name",
            TlsFault::Revoked => "upstream_tls_revoked",
            TlsFault::BadCertificate => "upstream_tls_bad_certificate",
            TlsFault::CertificateDemanded => "upstream_tls_certificate_demanded",
            TlsFault::CertificateRefused => "upstream_tls_certificate_refused",
            TlsFault::NoHttp2 => "upstream_tls_no_http2",
            TlsFault::NotTls => "upstream_tls_not_tls",
            TlsFault::NoAgreement => "upstream_tls_no_agreement",
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
        /// What happened.
        change: &'static str,
        /// The ruleset.
        project: &'a ProjectName,
        /// The kind of agent.
        agent: &'a AgentName,
        /// The run.
        session: SessionId,
        /// The orchestrator's own name for it.
        run: Option<&'a str>,
        /// Within whose ceiling it lies.
        parent: Option<SessionId>,
        /// When it ends by itself.
        expires: Timestamp,
        /// What it is to do.
        intent: Option<&'a str>,
        /// SHA-256 over them as JSON.
        attributes: Option<[u8; 32]>,
        /// What it was narrowed to.
        narrowing: Option<&'a Narrowing>,
        /// Who did it.
        cause: Cause<'a>,
    },
    /// A stored grant's: `given`, `revoked`, `expired`.
    Grant {
        /// What happened.
        change: &'static str,
        /// The ruleset.
        project: &'a ProjectName,
        /// The run.
        session: SessionId,
        /// What it goes on.
        grant: GrantId,
        /// The permission that was needed.
        scope: &'a ScopeName,
        /// What it acts on.
        resource: Option<&'a Resource>,
        /// Calls it is good for.
        uses: u32,
        /// When it ends by itself.
        expires: Timestamp,
        /// In the asker's words.
        why: &'a str,
        /// Who did it.
        cause: Cause<'a>,
    },
    /// `quarantined`, `released`.
    Quarantine {
        /// What happened.
        change: &'static str,
        /// The ruleset.
        project: &'a ProjectName,
        /// The run.
        session: SessionId,
        /// Why.
        reason: &'a str,
        /// Who did it.
        cause: Cause<'a>,
    },
    /// An approval: see the table above.
    Approval {
        /// What happened.
        change: &'static str,
        /// Which, and what it is about.
        facts: &'a Facts,
        /// Where it then stands.
        stage: Stage,
        /// What was said, where somebody voted.
        word: Option<Word>,
        /// Why, in their words or the gate's.
        note: Option<&'a str>,
        /// The backend's, where it answered.
        status: Option<u16>,
        /// The one that was given, where a grant was asked for.
        given: Option<GrantId>,
        /// Who did it.
        cause: Cause<'a>,
    },
    /// What a server says of a tool that is pinned: `pinned`, `changed`, `restored`, `accepted`, `forgotten`, `refused`.
    Pin {
        /// What happened.
        change: &'static str,
        /// The ruleset.
        project: &'a ProjectName,
        /// The server.
        tool: &'a ToolName,
        /// What it calls the tool.
        name: &'a str,
        /// Of the definition that this is about.
        digest: PinDigest,
        /// Of the one that is held to, or was, where it is another.
        accepted: Option<PinDigest>,
        /// Whose list showed it.
        session: Option<SessionId>,
        /// Why it is not kept.
        why: Option<&'a str>,
        /// Who did it.
        cause: Cause<'a>,
    },
    /// A policy `loaded`, `reloaded`, or a reload `rejected`.
    Policy {
        /// What happened.
        change: &'static str,
        /// SHA-256 of the server file.
        server: &'a [u8; 32],
        /// SHA-256 of each project file.
        hashes: &'a [(ProjectName, PolicyHash)],
        /// Who or what asked for it.
        trigger: &'a str,
        /// In words.
        detail: &'a str,
    },
    /// An admin call that changed something, or failed admin authentication in summary.
    Principal {
        /// What happened.
        change: &'static str,
        /// Who, where known.
        principal: Option<&'a PrincipalName>,
        /// Where it came from.
        client: Option<IpAddr>,
        /// How many.
        count: u64,
        /// In words.
        detail: &'a str,
    },
    /// Failed agents' authentication in summary.
    Strangers {
        /// Where they came from; `None`: the rest of that second.
        client: Option<IpAddr>,
        /// How many.
        count: u64,
    },
    /// `started`, `recovered`, `stopped`, `fault`.
    Gate {
        /// What happened.
        change: &'static str,
        /// The gate's.
        version: &'a str,
        /// In words.
        detail: &'a str,
    },
}

/// Millionths as the shortest decimal, which is how costs are written: `1500000` is `1.5`.
pub fn decimal(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{part:06}")
        .trim_end_matches('0')
        .to_owned()
}

/// The millionths of such a decimal. `None`: it is none.
pub fn millionths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<6}");
    let whole: u64 = whole.parse().ok()?;
    whole
        .checked_mul(1_000_000)?
        .checked_add(part.get(..6)?.parse().ok()?)
}
