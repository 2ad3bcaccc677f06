//! Taking power away, and giving a quarantined session its own back.
//!
//! Revocation and quarantine are in force in memory before anything is waited for, and stay so whatever fails after.

use super::super::Change;
use super::super::news::What;
use super::super::outbox::NoticeRow;
use super::{
    Busy, ChangeError, ENDED, LIVE, LiveSession, OWES_NOTICE, OWES_RECORD, OWES_STORE, QUARANTINED,
    Sessions, State, Table, locked,
};
use crate::ledger::record::{Cause, Event};
use crate::ledger::{Ack, Level};
use crate::policy::time::{Now, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Sessions {
    /// Ends a session, its grants, and its children's likewise.
    ///
    /// # Errors
    /// [`ChangeError`]: the session has ended in memory and nothing of it passes; the store or the ledger does not
    /// know yet. Call again, or leave it to the sweep.
    pub async fn revoke(
        &self,
        session: &Arc<LiveSession>,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<(), ChangeError> {
        let mut kin = Vec::new();
        session.descendants(&mut kin);
        let _busy: Vec<_> = kin.iter().map(|child| Busy::with(child)).collect();
        let own = Busy::with(session);
        // The parent first: from here on none of its children passes, whatever their own marks say.
        let fresh = session.end(own.alone);
        let stored = self.0.store.apply(Change::End {
            session: session.facts.id,
        });
        let mut told: Vec<(&LiveSession, Ack)> = Vec::new();
        let mut withdrawn = Vec::new();
        let why = "its session was revoked";
        self.0
            .withdraw_all(session, why, &cause, now, &mut withdrawn);
        if fresh {
            told.push((
                session,
                self.0.tell(session, "revoked", None, cause, now.wall),
            ));
        }
        for (child, busy) in kin.iter().zip(&_busy) {
            let ended = child.end(busy.alone);
            self.0
                .withdraw_all(child, why, &Cause::Gate, now, &mut withdrawn);
            if ended {
                let told_of = self.0.tell(child, "revoked", None, Cause::Gate, now.wall);
                told.push((child, told_of));
            }
        }
        let mut result = stored.await.map(drop).map_err(ChangeError::from);
        if result.is_ok() {
            // The store's End takes the children's rows with it.
            session.paid(OWES_STORE);
            kin.iter().for_each(|child| child.paid(OWES_STORE));
        }
        for (one, ack) in told {
            match ack.await {
                Ok(()) => one.paid(OWES_RECORD),
                Err(unavailable) => result = result.and(Err(unavailable.into())),
            }
        }
        // What is left undone of them the sweep does, whether or not there is a session to it.
        result = result.and(self.0.conclude_all(withdrawn).await.map_err(Into::into));
        for one in kin.iter().chain([session]) {
            if !one.owes(OWES_STORE | OWES_RECORD) {
                self.0.forget(one);
            }
        }
        result
    }

    /// Lets nothing of a session pass until it is released. A session in quarantine keeps its first reason. True for whoever
    /// put it there.
    ///
    /// # Errors
    /// [`ChangeError`]: it has ended; or it is in quarantine in memory, and the store or the ledger does not know yet.
    pub async fn quarantine(
        &self,
        session: &Arc<LiveSession>,
        reason: &str,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<bool, ChangeError> {
        let busy = Busy::with(session);
        let (stored, told, first) = {
            let mut book = locked(&session.book);
            let first = session.own() == State::Live;
            let fresh = match session.own() {
                State::Ended => return Err(ChangeError::Ended),
                State::Live => {
                    session.own.store(QUARANTINED, Ordering::Release);
                    book.quarantined = Some(Box::new((now.wall, reason.to_owned())));
                    true
                }
                // One that has no record yet, because the ledger failed, gets it now.
                State::Quarantined => busy.alone && session.owes(OWES_RECORD),
            };
            book.quarantines = book.quarantines.wrapping_add(1);
            session.owe(match (fresh, first) {
                (true, true) => OWES_STORE | OWES_RECORD | OWES_NOTICE,
                (true, false) => OWES_STORE | OWES_RECORD,
                (false, _) => OWES_STORE,
            });
            let stored = self.0.store.apply(session.quarantine_row(&book, now.wall));
            let told = fresh.then(|| {
                self.0
                    .tell_quarantine(session, "quarantined", reason, cause.clone(), now.wall)
            });
            (stored, told, first)
        };
        let mut withdrawn = Vec::new();
        let why = "its session is in quarantine";
        self.0
            .withdraw_all(session, why, &cause, now, &mut withdrawn);
        let mut kin = Vec::new();
        session.descendants(&mut kin);
        for child in &kin {
            let why = "a session above its own is in quarantine";
            self.0
                .withdraw_all(child, why, &Cause::Gate, now, &mut withdrawn);
        }
        let stored = stored.await;
        if stored.is_ok() {
            session.paid(OWES_STORE);
            self.0.announce_quarantine(session, now.wall);
        }
        let mut recorded = Ok(());
        if let Some(told) = told {
            recorded = told.await;
            if recorded.is_ok() {
                session.paid(OWES_RECORD);
            }
        }
        let withdrawn = self.0.conclude_all(withdrawn).await;
        recorded?;
        stored?;
        withdrawn?;
        Ok(first)
    }

    /// Lets a session out of quarantine; its counters start anew.
    ///
    /// # Errors
    /// [`ChangeError`]: there is nothing to release, or the store or ledger has a fault; then it stays in quarantine.
    pub async fn release(
        &self,
        session: &Arc<LiveSession>,
        reason: &str,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<(), ChangeError> {
        let _busy = Busy::with(session);
        let id = session.facts.id;
        let (stored, quarantines) = {
            let book = locked(&session.book);
            match session.own() {
                State::Ended => return Err(ChangeError::Ended),
                State::Live => return Err(ChangeError::NotQuarantined),
                State::Quarantined => {}
            }
            // Until memory follows, the store is the one that is wrong: if this fails or is dropped, the sweep puts
            // the quarantine back there.
            session.owe(OWES_STORE);
            let released = self.0.store.apply(Change::Release { session: id });
            let cleared = self.0.store.apply(Change::ClearCost { session: id });
            ([released, cleared], book.quarantines)
        };
        for change in stored {
            change.await?;
        }
        self.0
            .tell_quarantine(session, "released", reason, cause, now.wall)
            .await?;
        let mut book = locked(&session.book);
        if session.own() != State::Quarantined {
            return Err(ChangeError::Ended);
        }
        if book.quarantines != quarantines {
            // The later quarantine stands, in the store too; it needs a record behind the release's.
            session.owe(OWES_RECORD);
            return Err(ChangeError::QuarantinedAgain);
        }
        if let Some(cells) = session.cells.load_full() {
            cells.clear();
        }
        book.saved = None;
        book.quarantined = None;
        session.own.store(LIVE, Ordering::Release);
        session.paid(OWES_STORE);
        drop(book);
        self.0.tell_of(session, "released", now.wall);
        Ok(())
    }
}

impl Table {
    pub(super) fn tell_quarantine(
        &self,
        session: &LiveSession,
        change: &'static str,
        reason: &str,
        cause: Cause<'_>,
        time: Timestamp,
    ) -> Ack {
        let event = Event::Quarantine {
            change,
            project: &session.facts.project,
            session: session.facts.id,
            reason,
            cause,
        };
        self.ledger.append(&event, time, Level::Sync)
    }
}

impl Table {
    /// A quarantine is durable: who is to be told is told once.
    pub(super) fn announce_quarantine(&self, session: &LiveSession, now: Timestamp) {
        if !session.owes(OWES_NOTICE) {
            return;
        }
        session.paid(OWES_NOTICE);
        self.tell_of(session, "quarantined", now);
    }

    fn tell_of(&self, session: &LiveSession, change: &'static str, now: Timestamp) {
        let session_id = session.facts.id;
        let what = What::Quarantine {
            session: session_id,
            change,
        };
        self.news.tell(now, Some(&session.facts.project), what);
    }
}

impl LiveSession {
    /// Ends in memory. True if a record of it is due: it is the first to, or the one before failed and has gone.
    pub(super) fn end(&self, alone: bool) -> bool {
        let _book = locked(&self.book);
        let first = self.own.swap(ENDED, Ordering::AcqRel) != ENDED;
        let due = first || (alone && self.owes(OWES_RECORD));
        self.owe(if due {
            OWES_STORE | OWES_RECORD
        } else {
            OWES_STORE
        });
        due
    }

    /// Every session below it.
    pub(super) fn descendants(&self, into: &mut Vec<Arc<LiveSession>>) {
        let children: Vec<_> = locked(&self.book)
            .children
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        for child in children {
            child.descendants(into);
            into.push(child);
        }
    }

    /// The store's row of its quarantine, as memory has it.
    pub(super) fn quarantine_row(&self, book: &super::Book, now: Timestamp) -> Change {
        let (at, reason) = match &book.quarantined {
            Some(entry) => (**entry).clone(),
            None => (now, String::new()),
        };
        Change::Quarantine {
            session: self.facts.id,
            at,
            reason,
            notice: self
                .owes(OWES_NOTICE)
                .then(|| Box::new(self.notice_of_quarantine(book, now))),
        }
    }

    fn notice_of_quarantine(&self, book: &super::Book, now: Timestamp) -> NoticeRow {
        let (at, reason) = match &book.quarantined {
            Some(entry) => (entry.0, entry.1.as_str()),
            None => (now, ""),
        };
        NoticeRow::quarantined(&self.facts, at, reason)
    }
}
