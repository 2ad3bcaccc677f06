//! How many sockets to backends the process holds, and for whom. A connection of HTTP/2 brings a hundred calls, each of which
//! may need one: without a bound a few agents would leave no descriptor for anybody, nor for the ledger and the store.
//!
//! A session may hold as many as are left for all others together, and so never the last ones: one alone holds half of all,
//! two a third each, and who comes then still finds some.

use super::Owner;
use crate::policy::id::SessionId;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// Of the process.
static HELD: LazyLock<Mutex<Held>> = LazyLock::new(|| Mutex::new(Held::of(usize::MAX)));

struct Held {
    max: usize,
    all: usize,
    /// Without those who hold none.
    by_session: HashMap<SessionId, usize>,
}

/// The right to hold one. Given back when dropped.
pub(super) struct Ticket(SessionId);

/// Has no more than `max` sockets held at once. Asked once, at the start.
pub fn bound(max: usize) {
    held().max = max;
}

impl Ticket {
    /// `None`: `owner` holds as many as are left.
    pub(super) fn take(owner: Owner) -> Option<Self> {
        // None is made that was not taken: dropping it would give back what nobody has.
        if !held().take(owner.0) {
            return None;
        }
        Some(Self(owner.0))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        held().give_back(self.0);
    }
}

impl Held {
    fn of(max: usize) -> Self {
        Self {
            max,
            all: 0,
            by_session: HashMap::new(),
        }
    }

    fn take(&mut self, session: SessionId) -> bool {
        let own = self.by_session.get(&session).copied().unwrap_or(0);
        if own >= self.max.saturating_sub(self.all) {
            return false;
        }
        self.all += 1;
        self.by_session.insert(session, own + 1);
        true
    }

    fn give_back(&mut self, session: SessionId) {
        self.all -= 1;
        if let Some(own) = self.by_session.get_mut(&session) {
            *own -= 1;
            if *own == 0 {
                self.by_session.remove(&session);
            }
        }
    }
}

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn whoever_holds_many_leaves_as_many_and_who_comes_then_finds_some() {
        let [greedy, second, third] = [1, 2, 3].map(|n| SessionId::new(Uuid::from_u128(n)));
        let mut held = Held::of(12);
        let mut most = |session| (0..).take_while(|_| held.take(session)).count();
        assert_eq!([most(greedy), most(second), most(third)], [6, 3, 2]);
        held.give_back(greedy);
        held.give_back(greedy);
        assert!(held.take(third) && !held.take(greedy));
        for session in [greedy; 4].into_iter().chain([second; 3]).chain([third; 3]) {
            held.give_back(session);
        }
        assert_eq!((held.all, held.by_session.len()), (0, 0));
    }
}
