//! Minting: a session with its own token, within its agent's ceiling and its parent's.

use super::super::{Applied, Change, SessionRow};
use super::table::session_event;
use super::{LiveSession, MintError, Sessions, State, Table, locked};
use crate::ledger::Level;
use crate::ledger::record::Cause;
use crate::policy::attributes::Attributes;
use crate::policy::certificate::Thumbprint;
use crate::policy::id::SessionId;
use crate::policy::model::{Agent, Policy};
use crate::policy::name::{AgentName, PrincipalName, ProjectName};
use crate::policy::subject::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, Narrowing, Session};
use crate::policy::time::Now;
use crate::policy::token::TokenDigest;
use aws_lc_rs::digest;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What a session is to be.
#[derive(Clone, Debug)]
pub struct Order {
    /// The kind of agent.
    pub agent: AgentName,
    /// How long it lives; `None`: the agent's `session.ttl`.
    pub ttl: Option<Duration>,
    /// What patterns are filled from.
    pub attributes: Attributes,
    /// What is left of the ceiling; `None`: all of it.
    pub scopes: Option<Narrowing>,
    /// What it is to do.
    pub intent: Option<String>,
    /// The orchestrator's own name for the run.
    pub run: Option<String>,
    /// Within whose ceiling and end it lies.
    pub parent: Option<SessionId>,
    /// The certificate that its token is bound to; `None`: its parent's, or none.
    pub bound_to: Option<Thumbprint>,
    /// Who asks.
    pub minted_by: PrincipalName,
}

impl Sessions {
    /// Mints a session. It is durable and recorded when this returns.
    ///
    /// # Errors
    /// [`MintError`]: the order does not fit the policy, or the store or ledger has a fault; then there is no session.
    pub async fn mint(
        &self,
        policy: &Policy,
        order: Order,
        id: SessionId,
        token: TokenDigest,
        now: Now,
    ) -> Result<Arc<LiveSession>, MintError> {
        let parent = order
            .parent
            .map(|id| self.parent(policy, id, now))
            .transpose()?;
        let agent = check(policy, &order, parent.as_deref())?;
        let seat = Seat::take(&self.0, policy, agent, now)?;
        let intent = order.intent.clone();
        let facts = facts(policy, agent, order, id, parent.as_deref(), now);
        // From here until it is in the table: if this is dropped or fails, the store is told to undo.
        let mut undo = Undo {
            table: &self.0,
            session: Some(id),
        };
        let row = Box::new(row(&facts, token, intent.clone()));
        match self.0.store.apply(Change::Mint(row)).await? {
            Applied::Done => {}
            // The one precondition: the parent ended meanwhile.
            Applied::Refused => {
                undo.session = None;
                let parent = facts.parent.as_ref().map_or(id, |parent| parent.id);
                return Err(MintError::Parent { parent });
            }
        }
        let cause = Cause::Principal(&facts.minted_by);
        let event = session_event(&facts, "minted", intent.as_deref(), cause);
        self.0
            .ledger
            .append(&event, now.wall, Level::Written)
            .await?;
        undo.session = None;
        let session = LiveSession::new(facts, token, parent.clone());
        locked(&session.book).intent = intent.map(Into::into);
        let session = Arc::new(session);
        if let Some(parent) = parent {
            parent.adopt(&session);
        }
        // Its seat is kept until it is forgotten.
        seat.keep();
        self.0.enter(&session);
        Ok(session)
    }

    fn parent(
        &self,
        policy: &Policy,
        id: SessionId,
        now: Now,
    ) -> Result<Arc<LiveSession>, MintError> {
        let parent = self
            .by_id(id)
            .filter(|parent| parent.facts.project == policy.project)
            .filter(|parent| parent.state(now.tick) == State::Live)
            .ok_or(MintError::Parent { parent: id })?;
        if parent.lineage().count() > DEPTH_MAX {
            return Err(MintError::Depth { parent: id });
        }
        Ok(parent)
    }
}

impl LiveSession {
    /// Knows its children, to end them with itself.
    pub(super) fn adopt(&self, child: &Arc<LiveSession>) {
        let children = &mut locked(&self.book).children;
        if children.len() == children.capacity() {
            // Instead of growing by those that have gone.
            children.retain(|child| child.strong_count() > 0);
        }
        children.push(Arc::downgrade(child));
    }
}

/// Whether the order fits; the agent it is for.
fn check<'p>(
    policy: &'p Policy,
    order: &Order,
    parent: Option<&LiveSession>,
) -> Result<&'p Agent, MintError> {
    let agent = policy
        .agents
        .get(order.agent.as_str())
        .ok_or_else(|| MintError::AgentUnknown {
            project: policy.project.clone(),
            agent: order.agent.clone(),
        })?;
    let (asked, max) = (order.ttl.unwrap_or(agent.ttl), agent.max_ttl);
    if asked < Duration::from_micros(1) || asked > max {
        return Err(MintError::Ttl { asked, max });
    }
    check_attributes(&order.attributes)?;
    if order
        .run
        .as_deref()
        .is_some_and(|run| !fits(run, RUN_BYTES_MAX))
    {
        return Err(MintError::Run);
    }
    if order
        .intent
        .as_deref()
        .is_some_and(|intent| !fits(intent, INTENT_BYTES_MAX))
    {
        return Err(MintError::Intent);
    }
    if let (Some(asked), Some(bound)) = (
        order.bound_to,
        parent.and_then(|parent| parent.facts.bound_to),
    ) && asked != bound
    {
        return Err(MintError::Bond);
    }
    if let Some(narrowing) = &order.scopes {
        check_narrowing(policy, agent, narrowing, parent)?;
    }
    Ok(agent)
}

fn fits(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max
}

fn check_attributes(attributes: &Attributes) -> Result<(), MintError> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(MintError::Attributes);
    }
    for (name, value) in attributes.iter() {
        let first = name.as_bytes().first();
        let begins = first.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if !begins || name.len() > ATTRIBUTE_NAME_BYTES_MAX || !name.bytes().all(legal) {
            let name = name
                .chars()
                .take(ATTRIBUTE_NAME_BYTES_MAX)
                .collect::<String>();
            return Err(MintError::AttributeName { name: name.into() });
        }
        if !fits(value, ATTRIBUTE_BYTES_MAX) {
            return Err(MintError::AttributeValue { name: name.into() });
        }
    }
    Ok(())
}

fn check_narrowing(
    policy: &Policy,
    agent: &Agent,
    narrowing: &Narrowing,
    parent: Option<&LiveSession>,
) -> Result<(), MintError> {
    if narrowing.scopes.is_empty() {
        return Err(MintError::NarrowingEmpty);
    }
    for (scope, left) in &narrowing.scopes {
        let scope = scope.clone();
        if !agent.scopes.contains_key(&scope) {
            let agent = agent.name.clone();
            return Err(MintError::ScopeOutside { scope, agent });
        }
        if let Some(parent) = parent
            && crate::policy::ceiling(policy, &parent.facts, scope.as_str()).is_none()
        {
            let parent = parent.facts.id;
            return Err(MintError::ScopeOutsideParent { scope, parent });
        }
        if left
            .resources
            .as_ref()
            .is_some_and(|patterns| patterns.is_empty())
        {
            return Err(MintError::ResourcesEmpty { scope });
        }
        if left.uses == Some(0) {
            return Err(MintError::UsesZero { scope });
        }
    }
    Ok(())
}

fn facts(
    policy: &Policy,
    agent: &Agent,
    order: Order,
    id: SessionId,
    parent: Option<&LiveSession>,
    now: Now,
) -> Session {
    let ttl = order.ttl.unwrap_or(agent.ttl);
    let (expires_at, ends) = (now.wall.plus(ttl), now.tick.plus(ttl));
    Session {
        id,
        project: policy.project.clone(),
        agent: agent.name.clone(),
        attributes: order.attributes,
        narrowing: order.scopes,
        parent: parent.map(|parent| Arc::new(parent.facts.clone())),
        run: order.run.map(Into::into),
        bound_to: parent
            .and_then(|parent| parent.facts.bound_to)
            .or(order.bound_to),
        minted_by: order.minted_by,
        minted_at: now.wall,
        // Within its parent's end, on both clocks.
        expires_at: parent.map_or(expires_at, |parent| expires_at.min(parent.facts.expires_at)),
        ends: parent.map_or(ends, |parent| ends.min(parent.facts.ends)),
    }
}

fn row(facts: &Session, token: TokenDigest, intent: Option<String>) -> SessionRow {
    SessionRow {
        id: facts.id,
        token,
        project: facts.project.clone(),
        agent: facts.agent.clone(),
        attributes: facts.attributes.clone(),
        narrowing: facts.narrowing.clone(),
        parent: facts.parent.as_ref().map(|parent| parent.id),
        run: facts.run.as_deref().map(str::to_owned),
        bound_to: facts.bound_to,
        intent,
        minted_by: facts.minted_by.clone(),
        minted_at: facts.minted_at,
        expires_at: facts.expires_at,
        quarantined: None,
    }
}

/// One of the agent's `max_live`, given back unless kept.
struct Seat<'t> {
    table: Option<&'t Table>,
    project: ProjectName,
    agent: AgentName,
}

impl<'t> Seat<'t> {
    fn take(table: &'t Table, policy: &Policy, agent: &Agent, now: Now) -> Result<Self, MintError> {
        let key = (policy.project.clone(), agent.name.clone());
        let mut seats = locked(&table.seats);
        let taken = seats.entry(key.clone()).or_default();
        if let Some(max) = agent.max_live
            && *taken >= max
            && *taken - gone(table, &key, now).min(*taken) >= max
        {
            let agent = agent.name.clone();
            return Err(MintError::Full { agent, max });
        }
        *taken += 1;
        Ok(Seat {
            table: Some(table),
            project: key.0,
            agent: key.1,
        })
    }

    fn keep(mut self) {
        self.table = None;
    }
}

/// Sessions that have ended and still sit: looked for only when every seat is taken.
fn gone(table: &Table, key: &(ProjectName, AgentName), now: Now) -> u32 {
    let ids = table.ids.read().unwrap_or_else(PoisonError::into_inner);
    let ended = ids.values().filter(|session| {
        let facts = &session.facts;
        facts.project == key.0 && facts.agent == key.1 && session.state(now.tick) == State::Ended
    });
    u32::try_from(ended.count()).unwrap_or(u32::MAX)
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(table) = self.table {
            table.leave_seat(&self.project, &self.agent);
        }
    }
}

/// Takes a row out of the store again unless it came to be. Should that fail too, the row is a session whose token
/// nobody was shown: it can't be used, and expires.
struct Undo<'t> {
    table: &'t Table,
    session: Option<SessionId>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            // The store makes the change whether or not it is waited for.
            drop(self.table.store.apply(Change::End { session }));
        }
    }
}

/// What a record says of attributes: SHA-256 over them as canonical JSON.
pub(super) fn attributes_digest(attributes: &Attributes) -> Option<[u8; 32]> {
    if attributes.is_empty() {
        return None;
    }
    let text = serde_json::to_string(attributes).expect("a map of texts is JSON");
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    Some(out)
}

/// Most sessions above one.
pub const DEPTH_MAX: usize = 8;
/// Longest run name.
pub const RUN_BYTES_MAX: usize = 256;
/// Longest intent.
pub const INTENT_BYTES_MAX: usize = 8192;
/// Longest attribute name.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
