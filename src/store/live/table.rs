//! The look-ups of the table, and what is told of a session whose state changes.

use super::{LiveSession, SHARDS, Shard, Table, locked, mint};
use crate::ledger::record::{Cause, Event};
use crate::ledger::{Ack, Level};
use crate::policy::id::SessionId;
use crate::policy::name::{AgentName, ProjectName};
use crate::policy::subject::Session;
use crate::policy::time::Timestamp;
use crate::policy::token::TokenDigest;
use std::hash::Hasher;
use std::ops::Bound;
use std::sync::{Arc, PoisonError};

impl Table {
    pub fn shard(&self, token: &TokenDigest) -> &Shard {
        // The other end of the digest picks the bucket within the shard.
        &self.tokens[usize::from(token.as_bytes()[31]) % SHARDS]
    }

    /// Shows every session behind `after` to `see` until it returns false. The lock is given up now and then.
    pub fn each(&self, after: Option<SessionId>, mut see: impl FnMut(&Arc<LiveSession>) -> bool) {
        let mut from = after.map_or(Bound::Unbounded, Bound::Excluded);
        loop {
            let ids = self.ids.read().unwrap_or_else(PoisonError::into_inner);
            let mut last = None;
            for (id, session) in ids.range((from, Bound::Unbounded)).take(EACH_AT_ONCE) {
                if !see(session) {
                    return;
                }
                last = Some(*id);
            }
            let Some(last) = last else { return };
            from = Bound::Excluded(last);
        }
    }

    /// Puts a session where it is found.
    pub fn enter(&self, session: &Arc<LiveSession>) {
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        ids.insert(session.facts.id, Arc::clone(session));
        drop(ids);
        let mut shard = self
            .shard(&session.token)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.insert(session.token, Arc::clone(session));
    }

    /// Takes a session out: store and ledger know that it has ended.
    pub fn forget(&self, session: &LiveSession) {
        let mut shard = self
            .shard(&session.token)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.remove(&session.token);
        drop(shard);
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever removes it gives its seat back, once.
        if ids.remove(&session.facts.id).is_none() {
            return;
        }
        drop(ids);
        let book = locked(&session.book);
        let mut holders = locked(&self.holders);
        for grant in book.held.grants.iter().chain(&book.held.revoked) {
            holders.remove(&grant.id);
        }
        drop((book, holders));
        self.leave_seat(&session.facts.project, &session.facts.agent);
    }

    pub fn leave_seat(&self, project: &ProjectName, agent: &AgentName) {
        let key = (project.clone(), agent.clone());
        if let Some(taken) = locked(&self.seats).get_mut(&key) {
            *taken = taken.saturating_sub(1);
        }
    }

    /// Records a session's change of state.
    pub fn tell(
        &self,
        session: &LiveSession,
        change: &'static str,
        intent: Option<&str>,
        cause: Cause<'_>,
        time: Timestamp,
    ) -> Ack {
        let event = session_event(&session.facts, change, intent, cause);
        self.ledger.append(&event, time, Level::Written)
    }
}

/// A `session` record.
pub(super) fn session_event<'a>(
    facts: &'a Session,
    change: &'static str,
    intent: Option<&'a str>,
    cause: Cause<'a>,
) -> Event<'a> {
    Event::Session {
        change,
        project: &facts.project,
        agent: &facts.agent,
        session: facts.id,
        run: facts.run.as_deref(),
        parent: facts.parent.as_ref().map(|parent| parent.id),
        expires: facts.expires_at,
        intent,
        attributes: mint::attributes_digest(&facts.attributes),
        narrowing: facts.narrowing.as_ref().filter(|_| change == "minted"),
        cause,
    }
}

/// The digest is a hash already: its first bytes are taken as they are.
#[derive(Default)]
pub(super) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length of an array comes first; it says nothing.
    fn write_usize(&mut self, _: usize) {}
}

/// Sessions looked at before the lock of the table is given up.
const EACH_AT_ONCE: usize = 4096;
