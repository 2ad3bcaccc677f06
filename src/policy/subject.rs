//! Who calls: a session, what it may ever hold, and what it holds now.

use super::attributes::Attributes;
use super::certificate::Thumbprint;
use super::id::{GrantId, SessionId};
use super::name::{AgentName, PrincipalName, ProjectName, ScopeName};
use super::resource::{Resource, ResourcePattern};
use super::time::{Tick, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most attributes of one session.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest attribute value, in bytes; the shortest is 1.
pub const ATTRIBUTE_BYTES_MAX: usize = 256;

/// One run of an agent: the facts that never change after minting.
///
/// Laid out as written, because there are as many as sessions: what every decision reads lies together in front.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Session {
    /// When it ends by itself, for decisions.
    pub ends: Tick,
    /// The ruleset it lives in; decides which tools, routes and limits exist for it.
    pub project: ProjectName,
    /// The kind of agent; decides the ceiling.
    pub agent: AgentName,
    /// What patterns such as `user:{session.customer_id}` are filled from. Strings of 1 to 256 bytes.
    pub attributes: Attributes,
    /// The session within whose ceiling and end this one lies.
    pub parent: Option<Arc<Session>>,
    /// `None`: the agent's whole ceiling.
    pub narrowing: Option<Narrowing>,
    /// Its token is good only on connections that have shown this certificate (RFC 8705); a child has its parent's.
    pub bound_to: Option<Thumbprint>,
    /// Names it in records and to operators. Not a secret.
    pub id: SessionId,
    /// The orchestrator's own name for the run.
    pub run: Option<Box<str>>,
    /// Who minted it. May not approve for it.
    pub minted_by: PrincipalName,
    /// When it was minted.
    pub minted_at: Timestamp,
    /// When it ends by itself, for records.
    pub expires_at: Timestamp,
}

/// Scopes a session was narrowed to at minting: a scope not named is not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowing {
    /// What is left of each scope.
    pub scopes: BTreeMap<ScopeName, Narrowed>,
}

/// What a session was left of one scope. `None`: as the agent's ceiling has it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Narrowed {
    /// Resources, already literal or `type:*`; never empty.
    pub resources: Option<Box<[ResourcePattern]>>,
    /// Ceiling on the uses of one stored grant.
    pub uses: Option<u32>,
}

/// A stored grant: made on request, spent by use, gone with its session.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Names it in records and in `DELETE`.
    pub id: GrantId,
    /// What it permits.
    pub scope: ScopeName,
    /// On what; `None`: whatever the session's ceiling for the scope covers.
    pub resource: Option<Resource>,
    /// Calls left; zero is spent.
    pub uses_left: u32,
    /// Of those, calls that wait for a person's word: each is spent by its approved call, and by nothing else.
    pub reserved: u32,
    /// Calls it was made for.
    pub uses: u32,
    /// When it ends, for records.
    pub expires_at: Timestamp,
    /// When it ends, for decisions.
    pub ends: Tick,
    /// Why it was asked for, in the asker's words.
    pub why: Box<str>,
}

impl Grant {
    /// One of a single use that no question outlives: for answers about what would be.
    pub fn imagined(id: GrantId, scope: ScopeName, resource: Option<Resource>) -> Self {
        Self {
            id,
            scope,
            resource,
            uses_left: 1,
            reserved: 0,
            uses: 1,
            expires_at: Timestamp::from_micros(i64::MAX),
            ends: Tick::from_nanos(u64::MAX),
            why: "".into(),
        }
    }

    /// Whether it can still be spent.
    pub fn live_at(&self, now: Tick) -> bool {
        self.uses_left > 0 && now < self.ends
    }

    /// Whether a call can still be made on it that nothing waits for.
    pub fn free_at(&self, now: Tick) -> bool {
        self.uses_left > self.reserved && now < self.ends
    }
}

/// What a decision reads of the caller.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The run.
    pub session: &'a Session,
    /// Its stored grants, in the order they were made.
    pub grants: &'a [Grant],
}
