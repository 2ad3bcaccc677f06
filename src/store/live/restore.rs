//! After a restart: the table from the store's rows. What remains of a life is counted from wall time, once; from then
//! on the monotonic clock rules.

use super::super::{CostRow, GivenRow, GrantRow, SessionRow, Snapshot};
use super::{LiveSession, QUARANTINED, Table, approvals, locked};
use crate::policy::id::SessionId;
use crate::policy::limit::{Cells, Per};
use crate::policy::model::{LimitIndex, Policy};
use crate::policy::name::{AgentName, PrincipalName, ProjectName};
use crate::policy::resource::Resource;
use crate::policy::subject::{Grant, Session};
use crate::policy::time::Now;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Costs of a session from before the restart.
#[derive(Debug)]
pub(super) struct Saved {
    origin: Now,
    rows: Vec<CostRow>,
}

impl Saved {
    /// Into counters that have just been made.
    pub fn put_back(self, policy: &Policy, cells: &Cells) {
        for row in self.rows {
            let limits = policy.limits.iter().zip(0..);
            let mut own = limits.filter(|(limit, _)| limit.per == Per::Session);
            if let Some((_, index)) = own.find(|(limit, _)| limit.id == row.limit) {
                cells.restore_cost(LimitIndex(index), row.bucket, row.micros, self.origin);
            }
        }
    }
}

/// Fills an empty table.
pub(super) fn fill(table: &Table, snapshot: Snapshot, now: Now) {
    let mut sessions = HashMap::new();
    let mut names = Names::default();
    for row in snapshot.sessions {
        let id = row.id;
        // Parents come first. A child whose parent is missing can't be: the store ends both at once.
        let parent = match row.parent.map(|parent| sessions.get(&parent)) {
            None => None,
            Some(Some(parent)) => Some(Arc::clone(parent)),
            Some(None) => {
                tracing::error!(session = %id, "the store has a session without its parent; it stays out");
                continue;
            }
        };
        let session = session(row, parent, &mut names, now);
        if let Some(parent) = &session.parent {
            parent.adopt(&session);
        }
        let facts = &session.facts;
        let key = (facts.project.clone(), facts.agent.clone());
        *locked(&table.seats).entry(key).or_default() += 1;
        sessions.insert(id, session);
    }
    for row in snapshot.grants {
        if let Some(session) = sessions.get(&row.session) {
            grant(table, session, row, now);
        }
    }
    for GivenRow {
        session,
        scope,
        count,
    } in snapshot.given
    {
        if let Some(session) = sessions.get(&session) {
            locked(&session.book).held.given.push((scope, count));
        }
    }
    for row in snapshot.costs {
        let holder = row.holder.parse::<SessionId>().ok();
        if let Some(session) = holder.and_then(|holder| sessions.get(&holder)) {
            let mut book = locked(&session.book);
            let saved = book.saved.get_or_insert_with(|| {
                Box::new(Saved {
                    origin: now,
                    rows: Vec::new(),
                })
            });
            saved.rows.push(row);
        }
    }
    sessions.values().for_each(|session| table.enter(session));
    approvals::restore(table, snapshot.approvals, now);
    table.restore_pins(snapshot.pins);
}

/// Names that many sessions share are kept once.
#[derive(Default)]
struct Names {
    projects: HashSet<ProjectName>,
    agents: HashSet<AgentName>,
    principals: HashSet<PrincipalName>,
}

fn once<T: Clone + Eq + Hash>(known: &mut HashSet<T>, name: T) -> T {
    if let Some(known) = known.get(&name) {
        return known.clone();
    }
    known.insert(name.clone());
    name
}

fn session(
    row: SessionRow,
    parent: Option<Arc<LiveSession>>,
    names: &mut Names,
    now: Now,
) -> Arc<LiveSession> {
    let facts = Session {
        id: row.id,
        project: once(&mut names.projects, row.project),
        agent: once(&mut names.agents, row.agent),
        attributes: row.attributes,
        narrowing: row.narrowing,
        parent: parent.as_ref().map(|parent| Arc::new(parent.facts.clone())),
        run: row.run.map(Into::into),
        bound_to: row.bound_to,
        minted_by: once(&mut names.principals, row.minted_by),
        minted_at: row.minted_at,
        expires_at: row.expires_at,
        ends: now.tick_at(row.expires_at),
    };
    let session = LiveSession::new(facts, row.token, parent);
    let mut book = locked(&session.book);
    book.intent = row.intent.map(Into::into);
    if let Some(quarantined) = row.quarantined {
        book.quarantined = Some(Box::new(quarantined));
        session.own.store(QUARANTINED, Ordering::Release);
    }
    drop(book);
    Arc::new(session)
}

fn grant(table: &Table, session: &LiveSession, row: GrantRow, now: Now) {
    let resource = match row.resource.as_deref().map(Resource::parse).transpose() {
        Ok(resource) => resource,
        Err(error) => {
            // Without its resource it would permit more than it was given for.
            tracing::error!(grant = %row.id, %error, "a stored grant's resource can't be read; it stays out");
            return;
        }
    };
    let grant = Grant {
        reserved: 0,
        id: row.id,
        scope: row.scope,
        resource,
        uses_left: row.uses_left,
        uses: row.uses,
        expires_at: row.expires_at,
        ends: now.tick_at(row.expires_at),
        why: row.why.into(),
    };
    locked(&table.holders).insert(grant.id, session.facts.id);
    session.holds_grants.store(true, Ordering::Release);
    locked(&session.book).held.grants.push(grant);
}
