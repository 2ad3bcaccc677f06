//! Stored grants: given within the ceiling, spent once per use, taken away at once.

use super::super::{Applied, Change, GrantRow, StoreFault};
use super::{
    Busy, ChangeError, GiveError, Hoard, LiveSession, OWES_GRANT, Sessions, State, Table, locked,
};
use crate::ledger::record::{Cause, Event};
use crate::ledger::{Ack, Level};
use crate::policy::id::GrantId;
use crate::policy::model::{GrantMode, Policy};
use crate::policy::name::ScopeName;
use crate::policy::resource::Resource;
use crate::policy::subject::{Grant, Session};
use crate::policy::time::{Now, Tick, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a grant is to permit.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The permission.
    pub scope: ScopeName,
    /// On what; `None`: whatever the session's ceiling for the scope covers.
    pub resource: Option<Resource>,
    /// Calls; `None`: as many as the ceiling has.
    pub uses: Option<u32>,
    /// How long; `None`: as long as the ceiling has.
    pub ttl: Option<Duration>,
    /// Why; stays in the ledger.
    pub why: String,
}

/// A wish within the ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// How the grant comes about.
    pub mode: GrantMode,
    /// Calls.
    pub uses: u32,
    /// How long.
    pub ttl: Duration,
    /// Most grants of the scope in the session's life.
    pub grants_max: u32,
}

impl Ask {
    /// How such a grant would come about, whether or not there is room for it now; `None`: never.
    pub fn mode(&self, policy: &Policy, session: &Session) -> Option<GrantMode> {
        self.fit(policy, session).ok().map(|fit| fit.mode)
    }

    /// Holds it against the session's ceiling.
    fn fit(&self, policy: &Policy, session: &Session) -> Result<Fit, GiveError> {
        let scope = || self.scope.clone();
        let ceiling = crate::policy::ceiling(policy, session, self.scope.as_str());
        let Some(ceiling) = ceiling else {
            return Err(GiveError::ScopeOutside { scope: scope() });
        };
        match ceiling.grant() {
            GrantMode::OnUse => return Err(GiveError::OnUse { scope: scope() }),
            GrantMode::OnRequest | GrantMode::OnApproval(_) => {}
        }
        if let Some(resource) = &self.resource
            && !ceiling.allows(Some(resource))
        {
            let (scope, resource) = (scope(), resource.clone());
            return Err(GiveError::ResourceOutside { scope, resource });
        }
        let uses = self.uses.unwrap_or(ceiling.uses());
        if uses == 0 || uses > ceiling.uses() {
            let max = ceiling.uses();
            return Err(GiveError::Uses {
                scope: scope(),
                max,
            });
        }
        let ttl = self.ttl.unwrap_or(ceiling.ttl());
        if ttl.is_zero() || ttl > ceiling.ttl() {
            let max = ceiling.ttl();
            return Err(GiveError::Ttl {
                scope: scope(),
                max,
            });
        }
        if self.why.len() > WHY_BYTES_MAX {
            return Err(GiveError::Why);
        }
        Ok(Fit {
            mode: ceiling.grant(),
            uses,
            ttl,
            grants_max: ceiling.grants(),
        })
    }
}

impl Sessions {
    /// Gives a session a grant. It is durable and recorded when this returns.
    ///
    /// # Errors
    /// [`GiveError`]: it does not fit the session's ceiling, or the store or ledger has a fault; then there is none.
    pub async fn give(
        &self,
        policy: &Policy,
        session: &Arc<LiveSession>,
        ask: Ask,
        id: GrantId,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<Grant, GiveError> {
        let grant = session.ask(policy, ask, id, now)?;
        // From here until it is among the grants: if this is dropped or fails, the store is told to undo.
        let mut undo = Undo {
            table: &self.0,
            session,
            grant: Some(id),
        };
        let row = Box::new(row(session, &grant));
        match self.0.store.apply(Change::Give(row)).await? {
            Applied::Done => {}
            // The one precondition: the session is there.
            Applied::Refused => return Err(GiveError::Ended),
        }
        self.0
            .tell_grant(session, "given", &grant, cause, now.wall)
            .await?;
        undo.grant = None;
        let mut book = locked(&session.book);
        // Those of an ended session are gone with it, from the index too.
        if session.own() == State::Ended {
            return Err(GiveError::Ended);
        }
        book.held.asked.retain(|asked| asked.id != id);
        book.held.grants.push(grant.clone());
        session.holds_grants.store(true, Ordering::Release);
        locked(&self.0.holders).insert(id, session.facts.id);
        Ok(grant)
    }

    /// Takes one use: `true` if there was one. It is gone from memory before this waits, from the store when it
    /// returns, and never given back.
    ///
    /// # Errors
    /// [`StoreFault`]: the use is gone and nothing may be forwarded on it.
    pub async fn spend(
        &self,
        session: &Arc<LiveSession>,
        grant: GrantId,
        now: Now,
    ) -> Result<bool, StoreFault> {
        let spent = {
            let mut book = locked(&session.book);
            let held = book.held.grants.iter_mut().find(|held| held.id == grant);
            match held.filter(|held| held.free_at(now.tick)) {
                Some(held) if session.state(now.tick) == State::Live => {
                    held.uses_left -= 1;
                    self.0.store.apply(Change::Spend { grant })
                }
                Some(_) | None => return Ok(false),
            }
        };
        match spent.await? {
            Applied::Done => Ok(true),
            Applied::Refused => {
                // The store knows of fewer uses than memory does: the lesser number is the true one.
                let mut book = locked(&session.book);
                if let Some(held) = book.held.grants.iter_mut().find(|held| held.id == grant) {
                    held.uses_left = 0;
                }
                Ok(false)
            }
        }
    }

    /// Takes a grant away: `true` if the session had it.
    ///
    /// # Errors
    /// [`ChangeError`]: it is gone from memory; the store or the ledger does not know yet. Call again, or leave it to
    /// the sweep.
    pub async fn revoke_grant(
        &self,
        session: &Arc<LiveSession>,
        id: GrantId,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<bool, ChangeError> {
        let _busy = Busy::with(session);
        let (stored, told) = {
            let mut book = locked(&session.book);
            if let Some(held) = book.held.grants.iter().position(|held| held.id == id) {
                let gone = book.held.grants.remove(held);
                book.held.revoked.push(gone);
            }
            let Some(gone) = book.held.revoked.iter().find(|gone| gone.id == id) else {
                return Ok(false);
            };
            session.owe(OWES_GRANT);
            let told = self
                .0
                .tell_grant(session, "revoked", gone, cause.clone(), now.wall);
            (self.0.store.apply(Change::Revoke { grant: id }), told)
        };
        let mut withdrawn = Vec::new();
        self.0
            .withdraw_of_grant(session, id, &cause, now, &mut withdrawn);
        let stored = stored.await;
        // What is left undone of them the sweep does.
        let withdrawn = self.0.conclude_all(withdrawn).await;
        told.await?;
        stored?;
        withdrawn?;
        self.0.strike(session, id);
        Ok(true)
    }
}

impl Table {
    pub(super) fn tell_grant(
        &self,
        session: &LiveSession,
        change: &'static str,
        grant: &Grant,
        cause: Cause<'_>,
        time: Timestamp,
    ) -> Ack {
        let event = Event::Grant {
            change,
            project: &session.facts.project,
            session: session.facts.id,
            grant: grant.id,
            scope: &grant.scope,
            resource: grant.resource.as_ref(),
            uses: grant.uses,
            expires: grant.expires_at,
            why: &grant.why,
            cause,
        };
        self.ledger.append(&event, time, Level::Written)
    }

    /// A grant is gone for good, from the store too.
    pub(super) fn strike(&self, session: &LiveSession, id: GrantId) {
        let mut book = locked(&session.book);
        book.held.revoked.retain(|gone| gone.id != id);
        if book.held.revoked.is_empty() {
            session.paid(OWES_GRANT);
        }
        drop(book);
        locked(&self.holders).remove(&id);
    }
}

impl LiveSession {
    /// Judges a wish and reserves its place, so that two at once can't both be the last.
    fn ask(&self, policy: &Policy, ask: Ask, id: GrantId, now: Now) -> Result<Grant, GiveError> {
        let Fit {
            uses,
            ttl,
            grants_max,
            ..
        } = ask.fit(policy, &self.facts)?;
        let grant = Grant {
            id,
            scope: ask.scope,
            resource: ask.resource,
            uses_left: uses,
            uses,
            reserved: 0,
            expires_at: now.wall.plus(ttl).min(self.facts.expires_at),
            ends: now.tick.plus(ttl).min(self.facts.ends),
            why: ask.why.into(),
        };
        let mut book = locked(&self.book);
        match self.state(now.tick) {
            State::Live => {}
            State::Quarantined => return Err(GiveError::Quarantined),
            State::Ended => return Err(GiveError::Ended),
        }
        book.held.reserve(&grant, grants_max, now.tick)?;
        Ok(grant)
    }

    /// Whether a wish could be granted now, and how. Reserves nothing: asking people comes in between.
    ///
    /// # Errors
    /// [`GiveError`]: it could not.
    pub fn would_give(&self, policy: &Policy, ask: &Ask, now: Now) -> Result<Fit, GiveError> {
        let fit = ask.fit(policy, &self.facts)?;
        match self.state(now.tick) {
            State::Live => {}
            State::Quarantined => return Err(GiveError::Quarantined),
            State::Ended => return Err(GiveError::Ended),
        }
        locked(&self.book).held.room_for(
            &ask.scope,
            ask.resource.as_ref(),
            fit.grants_max,
            now.tick,
        )?;
        Ok(fit)
    }
}

impl Hoard {
    /// Whether there is room for one more grant.
    fn room_for(
        &self,
        scope: &ScopeName,
        resource: Option<&Resource>,
        max: u32,
        now: Tick,
    ) -> Result<(), GiveError> {
        let same = |held: &&Grant| {
            held.scope == *scope && held.resource.as_ref() == resource && held.live_at(now)
        };
        let scope = scope.clone();
        if let Some(held) = self.grants.iter().chain(&self.asked).find(same) {
            let held = held.id;
            return Err(GiveError::Conflict { scope, held });
        }
        let given = self.given.iter().find(|given| given.0 == scope);
        if given.is_some_and(|given| given.1 >= max) {
            return Err(GiveError::Exhausted { scope, max });
        }
        Ok(())
    }

    fn reserve(&mut self, grant: &Grant, max: u32, now: Tick) -> Result<(), GiveError> {
        self.room_for(&grant.scope, grant.resource.as_ref(), max, now)?;
        let scope = grant.scope.clone();
        let position = self.given.iter().position(|given| given.0 == scope);
        let position = position.unwrap_or_else(|| {
            self.given.push((scope, 0));
            self.given.len() - 1
        });
        // Counted from here on, even if a fault undoes the grant: a count too high is the safe one.
        self.given[position].1 += 1;
        self.asked.push(grant.clone());
        Ok(())
    }
}

fn row(session: &LiveSession, grant: &Grant) -> GrantRow {
    GrantRow {
        id: grant.id,
        session: session.facts.id,
        scope: grant.scope.clone(),
        resource: grant.resource.as_ref().map(ToString::to_string),
        uses: grant.uses,
        uses_left: grant.uses_left,
        expires_at: grant.expires_at,
        why: grant.why.to_string(),
    }
}

/// Takes a grant out of the store again unless it came to be.
struct Undo<'t> {
    table: &'t Table,
    session: &'t LiveSession,
    grant: Option<GrantId>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let Some(grant) = self.grant else { return };
        let mut book = locked(&self.session.book);
        let asked = book.held.asked.iter().position(|asked| asked.id == grant);
        if let Some(asked) = asked {
            // Left for the sweep too, should the store not take this either.
            let mut gone = book.held.asked.remove(asked);
            // Nobody was told of it, so its end needs no record.
            gone.uses_left = 0;
            book.held.revoked.push(gone);
            self.session.owe(OWES_GRANT);
        }
        drop(book);
        // The store makes the change whether or not it is waited for.
        drop(self.table.store.apply(Change::Revoke { grant }));
    }
}

/// Longest reason for a grant.
pub const WHY_BYTES_MAX: usize = 1024;
