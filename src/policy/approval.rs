//! Approvals: a person agrees before what can't be undone happens, and exactly what was agreed is what runs.
//!
//! An approval is bound to the digest of one request (or of one wish for a grant) of one session. It begins `pending`,
//! ends once, and is worth one run. What may follow what is [`Stage::may_become`]; whose word counts is
//! [`Approvers`]; whether an agreed request may still run is [`super::redeem`]'s to say.
//!
//! It refuses to know where approvals are kept, how they are shown, or what time it is.

use super::decision::GrantUse;
use super::id::{ApprovalId, RequestId, SessionId};
use super::model::PolicyHash;
use super::name::{
    AgentName, ChainName, GroupName, NotifyName, PrincipalName, ProjectName, RouteId, ScopeName,
    ToolName,
};
use super::resource::Resource;
use super::time::{Tick, Timestamp};
use core::net::IpAddr;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Who decides, and how long is waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the YAML.
    pub name: ChainName,
    /// Whose members may decide; not empty.
    pub approvers: Box<[GroupName]>,
    /// How many of them must agree; at least 1.
    pub quorum: u32,
    /// How long a connection is held; zero: never.
    pub hold: Duration,
    /// How long an approval waits, and is then worth a run.
    pub expires: Duration,
    /// How long the same request is denied again without asking.
    pub denied_for: Duration,
    /// Most approvals of one session that wait, in all.
    pub pending_per_session: u32,
    /// Most approvals of one session that wait, of one route.
    pub pending_per_route: u32,
    /// Who is told.
    pub notify: Box<[NotifyName]>,
}

/// Position in [`super::model::Policy::chains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainIndex(pub u16);

/// SHA-256 of all that makes two requests of one session the same (see `gate::hold`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestDigest(pub [u8; 32]);

impl RequestDigest {
    /// Of 64 lower-case hex digits, as [`fmt::Display`] writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 || bytes.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a person is asked, and for whom. Never changes.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names it.
    pub id: ApprovalId,
    /// The ruleset.
    pub project: ProjectName,
    /// Which version of it held the request.
    pub policy: PolicyHash,
    /// Who decides.
    pub chain: ChainName,
    /// The kind of agent.
    pub agent: AgentName,
    /// The run.
    pub session: SessionId,
    /// The orchestrator's own name for the run.
    pub run: Option<Box<str>>,
    /// Who minted the session; may not approve.
    pub minted_by: PrincipalName,
    /// What the agent says it is doing: its own claim.
    pub intent: Option<Arc<str>>,
    /// Where the request came from.
    pub client: IpAddr,
    /// The call that was held first.
    pub request: RequestId,
    /// The permission it needs.
    pub scope: ScopeName,
    /// What it acts on.
    pub resource: Option<Resource>,
    /// What is asked.
    pub asked: Asked,
    /// What it is bound to.
    pub digest: RequestDigest,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it ends by itself, for records: the chain's `expires`, the session's end or its grant's, whichever is first.
    pub expires_at: Timestamp,
    /// The same, for decisions.
    pub ends: Tick,
    /// For how long it is denied again, should it be denied: the chain's.
    pub denied_for: Duration,
    /// How many must agree: the chain's when it was asked.
    pub quorum: u32,
}

/// What a person is asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// May this call run, once?
    Call(Box<HeldCall>),
    /// May the session have this grant?
    Grant(AskedGrant),
}

impl Asked {
    /// As JSON and the ledger write it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Asked::Call(_) => "call",
            Asked::Grant(_) => "grant",
        }
    }
}

/// A request as it is shown and, once agreed, run.
#[derive(Clone, Debug)]
pub struct HeldCall {
    /// The backend.
    pub tool: ToolName,
    /// The rule.
    pub route: RouteId,
    /// SHA-256 over the tool's upstream: where it is and how it is spoken to ([`super::model::Upstream::identity`]).
    pub upstream: [u8; 32],
    /// As sent.
    pub method: Box<str>,
    /// Host and port as the agent sent them.
    pub authority: Box<str>,
    /// The agent's canonical target, mount and query included.
    pub target: Box<str>,
    /// Header fields that will be forwarded, names in lower case, in the order received. Not among them: credentials, and
    /// what the gate sets itself.
    pub fields: Vec<Field>,
    /// Whole.
    pub body: Arc<[u8]>,
    /// What it goes on; of a stored grant, one use is reserved.
    pub grant: GrantUse,
}

/// One header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// In lower case.
    pub name: Box<str>,
    /// As received.
    pub value: Box<[u8]>,
}

/// A wish for a grant of a scope that is `on_approval`.
#[derive(Clone, Debug)]
pub struct AskedGrant {
    /// Calls.
    pub uses: u32,
    /// How long it lives from when it is given.
    pub ttl: Duration,
    /// Why, in the asker's words.
    pub why: Box<str>,
}

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Waits for people.
    Pending,
    /// Enough of them agreed; it waits for its one run.
    Approved,
    /// One of them said no.
    Denied,
    /// Nobody said enough in time, or nobody came to run it.
    Expired,
    /// The agent or its session's end took it back, or it became void.
    Withdrawn,
    /// Its one run has begun.
    Executing,
    /// Its one run is over; the outcome is known.
    Executed,
    /// Its one run began and nobody can say how it ended.
    Unknown,
}

impl Stage {
    /// As JSON, the store and the ledger write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Pending => "pending",
            Stage::Approved => "approved",
            Stage::Denied => "denied",
            Stage::Expired => "expired",
            Stage::Withdrawn => "withdrawn",
            Stage::Executing => "executing",
            Stage::Executed => "executed",
            Stage::Unknown => "unknown",
        }
    }

    /// All of them.
    pub const ALL: [Stage; 8] = [
        Stage::Pending,
        Stage::Approved,
        Stage::Denied,
        Stage::Expired,
        Stage::Withdrawn,
        Stage::Executing,
        Stage::Executed,
        Stage::Unknown,
    ];

    /// The stage of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// Whether `next` may follow. `Executing` back to `Approved`: not a byte of it was written to a backend. `Unknown` to
    /// `Approved` or `Executed`: an operator found out what happened.
    pub const fn may_become(self, next: Stage) -> bool {
        use Stage::{Approved, Denied, Executed, Executing, Expired, Pending, Unknown, Withdrawn};
        matches!(
            (self, next),
            (Pending, Approved | Denied | Expired | Withdrawn)
                | (Approved, Executing | Expired | Withdrawn)
                | (Executing, Executed | Unknown | Approved)
                | (Unknown, Approved | Executed | Expired)
        )
    }

    /// Whether nothing follows any more.
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            Stage::Denied | Stage::Expired | Stage::Withdrawn | Stage::Executed
        )
    }
}

/// A person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It may run.
    Approve,
    /// It may not; one such word ends it.
    Deny,
}

impl Word {
    /// As JSON, the store and the ledger write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Word::Approve => "approve",
            Word::Deny => "deny",
        }
    }
}

/// Who said what about an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who.
    pub principal: PrincipalName,
    /// What.
    pub word: Word,
    /// Why, in their words.
    pub note: Option<Box<str>>,
    /// When.
    pub at: Timestamp,
}

/// Principals that may decide approvals, as the server file says now.
#[derive(Clone, Debug, Default)]
pub struct Approvers(HashMap<PrincipalName, Approver>);

/// One of them: has the role `approver`.
#[derive(Clone, Debug)]
pub struct Approver {
    /// What they are a member of.
    pub groups: Box<[GroupName]>,
    /// Where.
    pub projects: Box<[ProjectName]>,
}

impl Approvers {
    /// Of a server file.
    pub fn new(approvers: impl IntoIterator<Item = (PrincipalName, Approver)>) -> Self {
        Self(approvers.into_iter().collect())
    }

    /// Whether this principal's word on an approval of `chain` counts, whoever minted its session.
    pub fn may(&self, principal: &PrincipalName, project: &ProjectName, chain: &Chain) -> bool {
        self.0.get(principal).is_some_and(|approver| {
            approver.projects.contains(project)
                && approver
                    .groups
                    .iter()
                    .any(|group| chain.approvers.contains(group))
        })
    }

    /// Those whose word on approvals of `chain` counts, in no order.
    pub fn of<'a>(
        &'a self,
        project: &'a ProjectName,
        chain: &'a Chain,
    ) -> impl Iterator<Item = &'a PrincipalName> {
        self.0.keys().filter(|name| self.may(name, project, chain))
    }

    /// Whether anybody here is in the group.
    pub fn has(&self, project: &ProjectName, group: &GroupName) -> bool {
        self.0
            .values()
            .any(|approver| approver.projects.contains(project) && approver.groups.contains(group))
    }

    /// Whether people agree, as many as it takes under `chain` and as they were told it takes. One word against it, whoever
    /// said it, and nobody does.
    pub fn agree(&self, votes: &[Vote], facts: &Facts, chain: &Chain) -> bool {
        let quorum = chain.quorum.max(facts.quorum).max(1) as usize;
        votes.iter().all(|vote| vote.word == Word::Approve)
            && self.agreeing(votes, facts, chain) >= quorum
    }

    /// How many distinct principals agree whose word counts now. The minter's never does.
    pub fn agreeing(&self, votes: &[Vote], facts: &Facts, chain: &Chain) -> usize {
        let counts = |vote: &&Vote| {
            vote.word == Word::Approve
                && vote.principal != facts.minted_by
                && self.may(&vote.principal, &facts.project, chain)
        };
        let mut names: Vec<_> = votes
            .iter()
            .filter(counts)
            .map(|vote| &vote.principal)
            .collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }
}

/// Longest note of an approver, in bytes.
pub const NOTE_BYTES_MAX: usize = 1024;
/// Longest answer of a backend that is kept until it is delivered, in bytes.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;
