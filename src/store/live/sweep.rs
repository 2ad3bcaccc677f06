//! The sweep: what ended by time leaves memory and store and is recorded; what a fault left undone is tried again.
//!
//! Nothing waits for it: an expired session or grant permits nothing from its last moment on.

use super::super::{Applied, Change, StoreFuture};
use super::{
    Busy, LiveSession, OWES_GRANT, OWES_RECORD, OWES_STORE, Sessions, State, Table, approvals,
    locked,
};
use crate::ledger::Ack;
use crate::ledger::record::Cause;
use crate::policy::id::GrantId;
use crate::policy::time::Now;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions that left.
    pub sessions: usize,
    /// Grants that left.
    pub grants: usize,
    /// Approvals that time ended, that were brought to where they should be, or that left.
    pub approvals: usize,
    /// Changes that failed again.
    pub failed: usize,
}

/// One change under way.
struct Step {
    session: Arc<LiveSession>,
    stored: Option<StoreFuture<Applied>>,
    told: Option<Ack>,
    grant: Option<GrantId>,
}

impl Sessions {
    /// Goes over the table once.
    pub async fn sweep(&self, now: Now) -> Swept {
        let mut swept = Swept::default();
        // Before sessions and grants: what ends with them ends by its own time.
        self.0.sweep_approvals(now, &mut swept).await;
        let mut due = Vec::new();
        self.0.each(None, |session| {
            if session.is_due(now) {
                due.push(Arc::clone(session));
            }
            due.len() < DUE_MAX
        });
        for batch in due.chunks(BATCH) {
            let _busy: Vec<_> = batch.iter().map(|session| Busy::with(session)).collect();
            let (mut steps, mut withdrawn) = (Vec::new(), Vec::new());
            for (session, busy) in batch.iter().zip(&_busy) {
                if busy.alone {
                    self.0.begin(session, now, &mut steps, &mut withdrawn);
                }
            }
            if self.0.conclude_all(withdrawn).await.is_err() {
                swept.failed += 1;
            }
            for step in steps {
                self.0.end(step, now, &mut swept).await;
            }
        }
        swept
    }
}

impl LiveSession {
    fn is_due(&self, now: Now) -> bool {
        let owes = self.owes.load(Ordering::Acquire) != 0;
        let ended = self.state(now.tick) == State::Ended;
        let grants = self.holds_grants.load(Ordering::Acquire)
            && locked(&self.book)
                .held
                .grants
                .iter()
                .any(|grant| now.tick >= grant.ends);
        (owes || ended || grants) && self.busy.load(Ordering::Acquire) == 0
    }
}

impl Table {
    /// Hands what is due of one session to store and ledger.
    fn begin(
        &self,
        session: &Arc<LiveSession>,
        now: Now,
        steps: &mut Vec<Step>,
        withdrawn: &mut Vec<approvals::Step>,
    ) {
        if session.state(now.tick) == State::Ended {
            let marked = session.own() == State::Ended;
            // Marked already: its record or its row failed, or its parent was revoked.
            let change = if marked || now.tick < session.facts.ends {
                "revoked"
            } else {
                "expired"
            };
            let told = session
                .end(true)
                .then(|| self.tell(session, change, None, Cause::Gate, now.wall));
            let why = "its session has ended";
            self.withdraw_all(session, why, &Cause::Gate, now, withdrawn);
            let stored = self.store.apply(Change::End {
                session: session.facts.id,
            });
            steps.push(Step {
                session: Arc::clone(session),
                stored: Some(stored),
                told,
                grant: None,
            });
            return;
        }
        self.begin_quarantine(session, now, steps);
        let mut book = locked(&session.book);
        let expired: Vec<_> = book
            .held
            .grants
            .extract_if(.., |grant| now.tick >= grant.ends)
            .collect();
        session
            .holds_grants
            .store(!book.held.grants.is_empty(), Ordering::Release);
        for grant in &expired {
            // A spent one ended with its last use, which its decision recorded.
            let told = (grant.uses_left > 0)
                .then(|| self.tell_grant(session, "expired", grant, Cause::Gate, now.wall));
            steps.push(self.revoke_step(session, grant.id, told));
        }
        for grant in &book.held.revoked {
            let told = (grant.uses_left > 0)
                .then(|| self.tell_grant(session, "revoked", grant, Cause::Gate, now.wall));
            steps.push(self.revoke_step(session, grant.id, told));
        }
        if !expired.is_empty() {
            book.held.revoked.extend(expired);
            session.owe(OWES_GRANT);
        }
    }

    /// A quarantine that a fault kept from the store or the ledger, or that a failed release took from the store.
    fn begin_quarantine(&self, session: &Arc<LiveSession>, now: Now, steps: &mut Vec<Step>) {
        let book = locked(&session.book);
        if session.own() != State::Quarantined || !session.owes(OWES_STORE | OWES_RECORD) {
            return;
        }
        let reason = book.quarantined.as_ref().map_or("", |entry| &entry.1);
        let told = session
            .owes(OWES_RECORD)
            .then(|| self.tell_quarantine(session, "quarantined", reason, Cause::Gate, now.wall));
        steps.push(Step {
            session: Arc::clone(session),
            stored: Some(self.store.apply(session.quarantine_row(&book, now.wall))),
            told,
            grant: None,
        });
    }

    fn revoke_step(&self, session: &Arc<LiveSession>, grant: GrantId, told: Option<Ack>) -> Step {
        Step {
            session: Arc::clone(session),
            stored: Some(self.store.apply(Change::Revoke { grant })),
            told,
            grant: Some(grant),
        }
    }

    /// Waits for one step and pays what was owed.
    async fn end(&self, step: Step, now: Now, swept: &mut Swept) {
        let session = &step.session;
        let stored = match step.stored {
            Some(stored) => stored.await.is_ok(),
            None => true,
        };
        let told = match step.told {
            Some(told) => told.await.is_ok(),
            None => true,
        };
        if !(stored && told) {
            swept.failed += 1;
        }
        if let Some(grant) = step.grant {
            if stored && told {
                self.strike(session, grant);
                swept.grants += 1;
            }
            return;
        }
        if stored {
            session.paid(OWES_STORE);
            if session.own() == State::Quarantined {
                self.announce_quarantine(session, now.wall);
            }
        }
        if told {
            session.paid(OWES_RECORD);
        }
        if stored && told && session.own() == State::Ended {
            self.forget(session);
            swept.sessions += 1;
        }
    }
}

/// Sessions in one sweep; the rest come with the next.
const DUE_MAX: usize = 4096;
/// Sessions whose changes wait at once: well below what the store's queue holds, which others need too.
const BATCH: usize = 256;
