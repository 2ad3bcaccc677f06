//! The table of live sessions: what the hot path reads, and the one door for every change.
//!
//! A session is found by its token's digest in one look-up; state, grants and counters live in it, so nothing else is
//! looked up by key. The store behind it is the authority after a restart; between restarts this table is.
//!
//! How changes are ordered, which is the argument for their safety:
//! - What **gives** (mint, grant, release) is durable, then recorded, and only then visible in memory. If the record
//!   can't be written, the store is told to undo it, so nothing is in force that the ledger does not know.
//! - What **takes** (revoke, quarantine, spend) is visible in memory first, then durable and recorded. If either fails
//!   the caller is told, memory stays as it is, and [`Sessions::sweep`] goes on trying.
//! - Within one session, changes reach the store's queue under that session's lock, so memory and disk agree on order.
//!   No lock is held while a commit is waited for.
//!
//! It refuses to decide calls, to read a clock and to make ids or tokens: all three are arguments.
//! It is long because the order above can only be judged where all of the table is in sight.

pub mod approvals;
pub mod endpoints;
mod error;
mod grants;
mod kill;
mod mint;
pub mod pins;
mod restore;
mod sweep;
mod table;

pub use error::{ChangeError, GiveError, MintError};
pub use grants::{Ask, Fit, WHY_BYTES_MAX};
pub use mint::{INTENT_BYTES_MAX, Order, RUN_BYTES_MAX};
pub use sweep::Swept;

use super::news::News;
use super::{Change, CostRow, Snapshot, Store, StoreFault};
use crate::ledger::Ledger;
use crate::ledger::record::Cause;
use crate::policy::id::{ApprovalId, GrantId, SessionId};
use crate::policy::limit::{Cells, Per};
use crate::policy::model::Policy;
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use crate::policy::subject::{Grant, Session};
use crate::policy::time::{Now, Tick, Timestamp};
use crate::policy::token::TokenDigest;
use approvals::{HoldError, Kept, LiveApproval};
use arc_swap::ArcSwapOption;
use restore::Saved;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use table::DigestHasher;

/// Every session that has not ended. Clones are the same table.
#[derive(Clone)]
pub struct Sessions(Arc<Table>);

struct Table {
    store: Arc<dyn Store>,
    ledger: Ledger,
    tokens: [Shard; SHARDS],
    /// In order of id, which is the order of minting.
    ids: RwLock<BTreeMap<SessionId, Arc<LiveSession>>>,
    /// Whose a stored grant is.
    holders: Mutex<HashMap<GrantId, SessionId>>,
    /// Sessions of an agent in the table or on their way into it.
    seats: Mutex<HashMap<(ProjectName, AgentName), u32>>,
    /// In order of id, which is the order of asking. Locked alone, or before an approval's own lock.
    approvals: RwLock<BTreeMap<ApprovalId, Arc<LiveApproval>>>,
    kept: Arc<Kept>,
    /// What servers are held to. Locked alone, and not by calls: rulesets have theirs at hand.
    pins: pins::Pins,
    news: News,
}

type Shard = RwLock<HashMap<TokenDigest, Arc<LiveSession>, BuildHasherDefault<DigestHasher>>>;

/// One run of an agent, as it stands. Laid out as written: what every call reads lies together in front.
#[derive(Debug)]
#[repr(C)]
pub struct LiveSession {
    /// One of [`LIVE`], [`QUARANTINED`], [`ENDED`]; written under `book`, read without.
    own: AtomicU8,
    /// What memory has done and the store or the ledger has not yet: [`OWES_STORE`] and its like.
    owes: AtomicU8,
    /// Changes under way; while there are any, the sweep leaves debts alone.
    busy: AtomicU8,
    /// Whether the sweep need look for grants.
    holds_grants: AtomicBool,
    /// Whether a call need look for an approval that it asks for again. Changed under `book`.
    holds_approvals: AtomicBool,
    parent: Option<Arc<LiveSession>>,
    cells: ArcSwapOption<Cells>,
    /// What never changes after minting.
    pub facts: Session,
    book: Mutex<Book>,
    token: TokenDigest,
}

/// What changes in a session's life and is not read by every call.
#[derive(Debug, Default)]
struct Book {
    held: Held,
    /// Since when and why.
    quarantined: Option<Box<(Timestamp, String)>>,
    /// Times it was put in quarantine: tells a release that another came in between.
    quarantines: u32,
    children: Vec<Weak<LiveSession>>,
    intent: Option<Arc<str>>,
    /// Costs from before the restart, until the counters they belong to are made.
    saved: Option<Box<Saved>>,
    /// Sessions of tools' own protocols, oldest first.
    #[expect(
        clippy::box_collection,
        reason = "few sessions have any, and their memory is counted in bytes"
    )]
    endpoints: Option<Box<Vec<endpoints::EndpointKey>>>,
}

/// Stored grants. Most sessions never ask for one, and their memory is counted in bytes: nothing until the first.
#[derive(Debug, Default)]
struct Held(Option<Box<Hoard>>);

#[derive(Debug, Default)]
struct Hoard {
    /// In the order they were made.
    grants: Vec<Grant>,
    /// On their way: they count and conflict already, and permit nothing.
    asked: Vec<Grant>,
    /// Gone from memory, perhaps not from the store.
    revoked: Vec<Grant>,
    /// Grants ever given, by scope.
    given: Vec<(ScopeName, u32)>,
    /// Those under which the same request stands, and those that are just being made.
    approvals: Vec<Arc<LiveApproval>>,
}

impl Deref for Held {
    type Target = Hoard;

    fn deref(&self) -> &Hoard {
        static NOTHING: Hoard = Hoard {
            grants: Vec::new(),
            asked: Vec::new(),
            revoked: Vec::new(),
            given: Vec::new(),
            approvals: Vec::new(),
        };
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Hoard {
        self.0.get_or_insert_default()
    }
}

/// Whether a session's calls may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// As the policy says.
    Live,
    /// Nothing passes until an operator releases it, or the parent it shares the fate of.
    Quarantined,
    /// Expired or revoked, or its parent is.
    Ended,
}

impl State {
    /// As metrics and views show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Quarantined => "quarantined",
            State::Ended => "ended",
        }
    }
}

/// How many sessions of one agent are in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The ruleset.
    pub project: ProjectName,
    /// The kind of agent.
    pub agent: AgentName,
    /// [`State::as_str`].
    pub state: &'static str,
    /// How many.
    pub sessions: u64,
}

impl Sessions {
    /// The table as the store had it. What expired meanwhile is there until the first sweep, and has ended.
    pub fn new(store: Arc<dyn Store>, snapshot: Snapshot, ledger: Ledger, now: Now) -> Sessions {
        let table = Table {
            store,
            ledger,
            tokens: std::array::from_fn(|_| Shard::default()),
            ids: RwLock::default(),
            holders: Mutex::default(),
            seats: Mutex::default(),
            approvals: RwLock::default(),
            kept: Arc::default(),
            pins: pins::Pins::default(),
            news: News::default(),
        };
        restore::fill(&table, snapshot, now);
        Sessions(Arc::new(table))
    }

    /// The session with this token, whatever its state.
    pub fn find(&self, token: &TokenDigest) -> Option<Arc<LiveSession>> {
        let shard = self.0.shard(token);
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        shard.get(token).cloned()
    }

    /// The session with this id.
    pub fn by_id(&self, id: SessionId) -> Option<Arc<LiveSession>> {
        let ids = self.0.ids.read().unwrap_or_else(PoisonError::into_inner);
        ids.get(&id).cloned()
    }

    /// The session that holds this stored grant.
    pub fn holder(&self, grant: GrantId) -> Option<Arc<LiveSession>> {
        let id = *locked(&self.0.holders).get(&grant)?;
        self.by_id(id)
    }

    /// At most `limit` sessions of these projects, in order of minting, behind `after`.
    pub fn list(
        &self,
        projects: &[ProjectName],
        after: Option<SessionId>,
        limit: usize,
    ) -> Vec<Arc<LiveSession>> {
        let mut found = Vec::new();
        self.0.each(after, |session| {
            if found.len() < limit && projects.contains(&session.facts.project) {
                found.push(Arc::clone(session));
            }
            found.len() < limit
        });
        found
    }

    /// Sessions by project, agent and state. What expired since the last sweep still counts.
    pub fn counts(&self) -> Vec<Count> {
        let mut counts: HashMap<(ProjectName, AgentName, State), u64> = HashMap::new();
        self.0.each(None, |session| {
            let facts = &session.facts;
            let key = (facts.project.clone(), facts.agent.clone(), session.marked());
            *counts.entry(key).or_default() += 1;
            true
        });
        let count = |((project, agent, state), sessions): ((_, _, State), u64)| Count {
            project,
            agent,
            state: state.as_str(),
            sessions,
        };
        let counts = counts.into_iter();
        counts
            .filter(|((_, _, state), _)| *state != State::Ended)
            .map(count)
            .collect()
    }

    /// Makes a bucket of a cost limit durable.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub async fn save_cost(&self, row: CostRow) -> Result<(), StoreFault> {
        // Refused means the session has ended, and its counters with it.
        self.0.store.apply(Change::Cost(row)).await.map(drop)
    }

    /// Sets what the agent says it is doing.
    ///
    /// Memory has it at once: it permits nothing, so a fault leaves no more than a newer text.
    ///
    /// # Errors
    /// [`ChangeError`]: it ended, or the store or ledger has a fault.
    pub async fn set_intent(
        &self,
        session: &Arc<LiveSession>,
        intent: &str,
        cause: Cause<'_>,
        now: Now,
    ) -> Result<(), ChangeError> {
        let (stored, recorded) = {
            let mut book = locked(&session.book);
            if session.state(now.tick) == State::Ended {
                return Err(ChangeError::Ended);
            }
            book.intent = Some(intent.into());
            let change = Change::Intent {
                session: session.facts.id,
                intent: intent.to_owned(),
            };
            let stored = self.0.store.apply(change);
            let told = self
                .0
                .tell(session, "intent", Some(intent), cause, now.wall);
            (stored, told)
        };
        stored.await?;
        Ok(recorded.await?)
    }
}

impl LiveSession {
    fn new(facts: Session, token: TokenDigest, parent: Option<Arc<LiveSession>>) -> Self {
        LiveSession {
            facts,
            token,
            parent,
            own: AtomicU8::new(LIVE),
            owes: AtomicU8::new(0),
            busy: AtomicU8::new(0),
            holds_grants: AtomicBool::new(false),
            holds_approvals: AtomicBool::new(false),
            cells: ArcSwapOption::empty(),
            book: Mutex::default(),
        }
    }

    /// Whether its calls may pass; parents included, without a lock.
    pub fn state(&self, now: Tick) -> State {
        let expired = |session: &LiveSession| now >= session.facts.ends;
        self.lineage()
            .map(|one| {
                if expired(one) {
                    State::Ended
                } else {
                    one.own()
                }
            })
            .max()
            .unwrap_or(State::Ended)
    }

    /// The same, but for what expired by time alone.
    fn marked(&self) -> State {
        self.lineage()
            .map(LiveSession::own)
            .max()
            .unwrap_or(State::Ended)
    }

    fn own(&self) -> State {
        match self.own.load(Ordering::Acquire) {
            LIVE => State::Live,
            QUARANTINED => State::Quarantined,
            // ENDED, and whatever else could ever stand there.
            _ => State::Ended,
        }
    }

    /// Itself, its parent, and so on up.
    fn lineage(&self) -> impl Iterator<Item = &LiveSession> {
        std::iter::successors(Some(self), |one| one.parent.as_deref())
    }

    /// Shows its stored grants, in the order they were made; spent and expired ones may be among them. No waiting
    /// within: the session's changes are locked out meanwhile.
    pub fn with_grants<T>(&self, see: impl FnOnce(&[Grant]) -> T) -> T {
        see(&locked(&self.book).held.grants)
    }

    /// How many grants of each scope it was ever given.
    pub fn grants_given(&self) -> Vec<(ScopeName, u32)> {
        locked(&self.book).held.given.clone()
    }

    /// Its counters under this policy; carried over from the policy before where they differ.
    pub fn cells(&self, policy: &Policy) -> Arc<Cells> {
        let fitting = |cells: &Arc<Cells>| cells.layout() == policy.hash;
        if let Some(cells) = self.cells.load_full().filter(fitting) {
            return cells;
        }
        // One at a time: two carrying over at once would each lose what the other then counts.
        let mut book = locked(&self.book);
        let present = self.cells.load_full();
        if let Some(cells) = present.clone().filter(fitting) {
            return cells;
        }
        let next = match present {
            Some(cells) => cells.carried_to(policy),
            None => {
                let fresh = Cells::new(policy, Per::Session);
                if let Some(saved) = book.saved.take() {
                    saved.put_back(policy, &fresh);
                }
                fresh
            }
        };
        let next = Arc::new(next);
        self.cells.store(Some(Arc::clone(&next)));
        next
    }

    /// What the agent said it is doing.
    pub fn intent(&self) -> Option<Arc<str>> {
        locked(&self.book).intent.clone()
    }

    /// Since when it is in quarantine itself (not through a parent).
    pub fn quarantined_since(&self) -> Option<Timestamp> {
        locked(&self.book).quarantined.as_ref().map(|entry| entry.0)
    }

    /// Why it is.
    pub fn quarantine_reason(&self) -> Option<String> {
        locked(&self.book)
            .quarantined
            .as_ref()
            .map(|entry| entry.1.clone())
    }

    fn owes(&self, debt: u8) -> bool {
        self.owes.load(Ordering::Acquire) & debt != 0
    }

    fn owe(&self, debt: u8) {
        self.owes.fetch_or(debt, Ordering::AcqRel);
    }

    fn paid(&self, debt: u8) {
        self.owes.fetch_and(!debt, Ordering::AcqRel);
    }
}

/// Marks a change under way for as long as it lives, however it ends.
struct Busy<'a> {
    session: &'a LiveSession,
    /// No other change was under way when this one began.
    alone: bool,
}

impl<'a> Busy<'a> {
    fn with(session: &'a LiveSession) -> Self {
        let alone = session.busy.fetch_add(1, Ordering::AcqRel) == 0;
        Busy { session, alone }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.session.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const LIVE: u8 = 0;
const QUARANTINED: u8 = 1;
const ENDED: u8 = 2;

/// The store does not have the present state.
const OWES_STORE: u8 = 1;
/// The ledger has no record of it.
const OWES_RECORD: u8 = 2;
/// A revoked grant is not gone for good.
const OWES_GRANT: u8 = 4;
/// Nobody will be told of its quarantine yet.
const OWES_NOTICE: u8 = 8;

/// Enough that two threads seldom meet.
const SHARDS: usize = 64;
