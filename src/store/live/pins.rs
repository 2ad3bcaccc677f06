//! Pins as the hot path reads them: how each tool of a pinned server stands, one look-up without a lock.
//!
//! What changes them is a list that shows something new, or a person's word. Changes of one server are made one after
//! another, in the order of the live table: what **gives** (a first definition, one that is as accepted again, a person's
//! word) is durable, then recorded, then in force; what **takes** (another definition) is in force at once, then durable
//! and recorded, and where either fails the next list makes it so.
//!
//! A server is not trusted with room: names, bytes and the number of times it may tell another story are bounded. What is
//! beyond is not kept, and so neither shown nor called.
//!
//! It refuses to decide what is shown or called: it says how a tool stands.

mod make;
mod plan;

use super::super::pin::{PinKey, PinRow};
use super::super::{Change, StoreFault};
use super::{Sessions, locked};
use crate::ledger::record::{Cause, Event};
use crate::ledger::{Level, Unavailable};
use crate::policy::id::SessionId;
use crate::policy::name::{PrincipalName, ProjectName, ToolName};
use crate::policy::pin::{Definition, PinDigest, Standing, path_of};
use crate::policy::time::Timestamp;
use arc_swap::ArcSwap;
use plan::{Plan, Step};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// All pins there are, by server.
pub(super) type Pins = Mutex<BTreeMap<(ProjectName, ToolName), Arc<ToolPins>>>;

/// The pins of one server.
#[derive(Debug)]
pub struct ToolPins {
    project: ProjectName,
    tool: ToolName,
    /// By what stands in the table of routes for the tool's call.
    stands: ArcSwap<HashMap<Box<str>, Stands>>,
    book: Mutex<BTreeMap<Arc<str>, Pin>>,
    /// Held by whoever changes something, until that is in force or undone.
    changing: tokio::sync::Mutex<()>,
    /// What can't be kept was said of in the log and the ledger.
    told: AtomicBool,
}

/// A pin in memory.
#[derive(Clone, Debug)]
struct Pin {
    row: PinRow,
    /// The store or the ledger does not have it as it is.
    owed: bool,
}

/// What the hot path reads of a pin.
#[derive(Clone, Copy, Debug)]
struct Stands {
    accepted: PinDigest,
    /// What is said instead.
    latest: Option<PinDigest>,
    /// It has told so many stories that only a person's word counts.
    frozen: bool,
    owed: bool,
}

/// What a list says of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What was accepted.
    Accepted,
    /// Something else, which is known.
    Changed,
    /// What must be made durable before it goes on.
    News,
}

/// What a list may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is the answer to a call for it, as the server gives it now.
    Fresh,
    /// It may be an older one, or come where none was asked for: nothing is accepted or restored by it.
    Again,
    /// It was kept, and says nothing new of anything.
    Kept,
}

/// Why what a list shows could not be made durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SightError {
    /// The store has a fault.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The ledger has a fault.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
}

/// Why a person's word did not count.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PinError {
    /// There is none.
    #[error("nothing is pinned of this tool by this name")]
    Unknown,
    /// It changed again, or was decided.
    #[error(
        "the digest is not that of what the server says now; look at it again before you accept it"
    )]
    Moved,
    /// Nobody can be shown what it says.
    #[error(
        "the definition is longer than is kept, so that nobody could look at it; have the server say less, or forget the pin"
    )]
    Unseen,
    /// The store has a fault.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The ledger has a fault.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
}

impl From<SightError> for PinError {
    fn from(error: SightError) -> Self {
        match error {
            SightError::Store(fault) => PinError::Store(fault),
            SightError::Ledger(fault) => PinError::Ledger(fault),
        }
    }
}

/// How many tools of one server stand in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinCount {
    /// The ruleset.
    pub project: ProjectName,
    /// The server.
    pub tool: ToolName,
    /// Held to what was accepted.
    pub accepted: u64,
    /// Saying something else.
    pub changed: u64,
}

impl ToolPins {
    fn new(project: ProjectName, tool: ToolName) -> Self {
        Self {
            project,
            tool,
            stands: ArcSwap::default(),
            book: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// How the tool stands whose call is this path of the table of routes.
    pub fn standing(&self, path: &str) -> Standing {
        match self.stands.load().get(path) {
            None => Standing::Unseen,
            Some(Stands { latest: None, .. }) => Standing::Accepted,
            Some(Stands { .. }) => Standing::Changed,
        }
    }

    /// What a list says of the tool whose call is this path.
    pub fn shown(&self, path: &str, digest: PinDigest, sight: Sight) -> Shown {
        let stands = self.stands.load();
        let known = match stands.get(path) {
            Some(stands) => stands,
            None if sight != Sight::Fresh => return Shown::Changed,
            None => return Shown::News,
        };
        let told = match (digest == known.accepted, known.latest) {
            (true, None) => Shown::Accepted,
            (true, Some(_)) if known.frozen || sight != Sight::Fresh => Shown::Changed,
            (true, Some(_)) => Shown::News,
            (false, Some(latest)) if known.frozen || latest == digest => Shown::Changed,
            (false, _) if sight == Sight::Kept => Shown::Changed,
            (false, _) => Shown::News,
        };
        match known.owed && sight != Sight::Kept {
            true => Shown::News,
            false => told,
        }
    }

    /// The hot path sees the book as it is.
    fn publish(&self, book: &BTreeMap<Arc<str>, Pin>) {
        let entry = |pin: &Pin| {
            let latest = pin.row.latest.as_ref().map(|latest| latest.digest);
            let stands = Stands {
                accepted: pin.row.accepted,
                latest,
                frozen: pin.row.turns >= TURNS_MAX,
                owed: pin.owed,
            };
            Some((path_of(&pin.row.name)?.into(), stands))
        };
        self.stands
            .store(Arc::new(book.values().filter_map(entry).collect()));
    }

    /// Puts rows in force.
    fn enter(&self, rows: &[PinRow], owed: bool) {
        let mut book = locked(&self.book);
        for row in rows {
            let pin = Pin {
                row: row.clone(),
                owed,
            };
            book.insert(Arc::clone(&row.name), pin);
        }
        self.publish(&book);
    }

    /// Says once that something can't be kept; `true`: to whoever is first.
    fn tells(&self) -> bool {
        !self.told.swap(true, Ordering::AcqRel)
    }

    /// One pin, as it stands.
    fn row(&self, name: &str) -> Option<PinRow> {
        locked(&self.book).get(name).map(|pin| pin.row.clone())
    }
}

impl Sessions {
    /// The pins of a server: the same for as long as the gate runs, whatever becomes of the policy.
    pub fn pins(&self, project: &ProjectName, tool: &ToolName) -> Arc<ToolPins> {
        self.0.pins_of(project, tool)
    }

    /// The same, where anything is pinned; a look-up makes none.
    pub fn pinned(&self, project: &ProjectName, tool: &ToolName) -> Option<Arc<ToolPins>> {
        let pins = locked(&self.0.pins);
        pins.get(&(project.clone(), tool.clone())).cloned()
    }

    /// At most `limit` pins of these projects behind `after`, in order of their keys, that `wanted` says yes to.
    pub fn list_pins(
        &self,
        projects: &[ProjectName],
        after: Option<&PinKey>,
        limit: usize,
        wanted: impl Fn(&PinRow) -> bool,
    ) -> Vec<PinRow> {
        let servers: Vec<Arc<ToolPins>> = {
            let pins = locked(&self.0.pins);
            let from = after.map_or(Bound::Unbounded, |key| {
                Bound::Included((key.project.clone(), key.tool.clone()))
            });
            let behind = pins.range((from, Bound::Unbounded));
            let own = behind.filter(|((project, _), _)| projects.contains(project));
            own.map(|(_, server)| Arc::clone(server)).collect()
        };
        let mut rows = Vec::new();
        for server in servers {
            let book = locked(&server.book);
            let is_later = |row: &PinRow| after.is_none_or(|after| row.key() > *after);
            let found = book.values().map(|pin| &pin.row);
            let room = limit - rows.len();
            rows.extend(
                found
                    .filter(|row| is_later(row) && wanted(row))
                    .take(room)
                    .cloned(),
            );
            if rows.len() == limit {
                break;
            }
        }
        rows
    }

    /// How many pins there are.
    pub fn pin_counts(&self) -> Vec<PinCount> {
        let servers: Vec<Arc<ToolPins>> = locked(&self.0.pins).values().cloned().collect();
        let counts = servers.iter().map(|server| {
            let stands = server.stands.load();
            let changed = stands.values().filter(|it| it.latest.is_some()).count();
            PinCount {
                project: server.project.clone(),
                tool: server.tool.clone(),
                accepted: (stands.len() - changed) as u64,
                changed: changed as u64,
            }
        });
        counts.collect()
    }

    /// Takes in a list of a server's tools: all of one message. When this returns, what is new in it is durable, recorded
    /// and in force. It must not be given up half way.
    ///
    /// # Errors
    /// [`SightError`]: what was to be given is not; what was to be taken is, and the next list makes it durable.
    pub async fn sight(
        &self,
        pins: &ToolPins,
        list: &[Definition],
        sight: Sight,
        session: SessionId,
        now: Timestamp,
    ) -> Result<(), SightError> {
        if sight == Sight::Kept {
            return Ok(());
        }
        let _alone = pins.changing.lock().await;
        let plan = Plan::of(
            &locked(&pins.book),
            (&pins.project, &pins.tool),
            list,
            sight,
            now,
        );
        if let Some((definition, why)) = plan.unkept.filter(|_| pins.tells()) {
            tracing::warn!(project = %pins.project, tool = %pins.tool, why, "a server says more of its tools than is kept; what is beyond is neither shown nor called");
            let (name, digest) = (bounded(&definition.name), definition.digest);
            let event = Event::Pin {
                change: "refused",
                project: &pins.project,
                tool: &pins.tool,
                name: &name,
                digest,
                accepted: None,
                session: Some(session),
                why: Some(why),
                cause: Cause::Gate,
            };
            self.0.ledger.append(&event, now, Level::Written).await?;
        }
        let (taken, given): (Vec<Step>, Vec<Step>) =
            plan.steps.into_iter().partition(|step| step.takes);
        self.0.take_pins(pins, &taken, session, now).await?;
        self.0.give_pins(pins, &given, Some(session), now).await
    }

    /// Holds a server to what it says of a tool now, or to what was accepted before: whichever a person has seen.
    ///
    /// # Errors
    /// [`PinError`]: nothing has changed.
    pub async fn accept_pin(
        &self,
        pins: &ToolPins,
        name: &str,
        digest: PinDigest,
        by: &PrincipalName,
        now: Timestamp,
    ) -> Result<PinRow, PinError> {
        let _alone = pins.changing.lock().await;
        let row = pins.row(name).ok_or(PinError::Unknown)?;
        let Some(latest) = &row.latest else {
            // It was accepted by another, or is what was seen first.
            return match row.accepted == digest {
                true => Ok(row),
                false => Err(PinError::Moved),
            };
        };
        let definition = match (digest == latest.digest, digest == row.accepted) {
            (true, _) => Arc::clone(latest.definition.as_ref().ok_or(PinError::Unseen)?),
            (false, true) => Arc::clone(&row.definition),
            (false, false) => return Err(PinError::Moved),
        };
        let step = Step {
            change: "accepted",
            takes: false,
            digest,
            other: (digest != row.accepted).then_some(row.accepted),
            by: Some(by.clone()),
            row: PinRow {
                accepted: digest,
                definition,
                accepted_at: now,
                accepted_by: Some(by.clone()),
                latest: None,
                turns: 0,
                ..row.clone()
            },
            before: Some(row),
        };
        let after = step.row.clone();
        self.0.give_pins(pins, &[step], None, now).await?;
        Ok(after)
    }

    /// Holds a server to nothing of a tool any longer: what it says next is accepted.
    ///
    /// # Errors
    /// [`PinError`]: nothing has changed.
    pub async fn forget_pin(
        &self,
        pins: &ToolPins,
        name: &str,
        digest: PinDigest,
        by: &PrincipalName,
        now: Timestamp,
    ) -> Result<PinRow, PinError> {
        let _alone = pins.changing.lock().await;
        let row = pins.row(name).ok_or(PinError::Unknown)?;
        if row.accepted != digest {
            return Err(PinError::Moved);
        }
        let table = &self.0;
        table.store.apply(Change::Unpin(vec![row.key()])).await?;
        let step = Step {
            change: "forgotten",
            takes: false,
            digest,
            other: None,
            by: Some(by.clone()),
            row: row.clone(),
            before: None,
        };
        if let Err(fault) = table.tell_pin(&step, None, now).await {
            // What the ledger does not know is not forgotten.
            let back = Change::Pin {
                rows: vec![row],
                notice: None,
            };
            let _ = table.store.apply(back).await;
            return Err(fault.into());
        }
        let mut book = locked(&pins.book);
        book.remove(name);
        pins.publish(&book);
        drop(book);
        table.announce(pins, "forgotten", now);
        Ok(row)
    }
}

/// What a server calls a tool can be anything; this much of it is told where it is not kept.
fn bounded(name: &str) -> String {
    name.chars().take(NAME_BYTES_MAX / 4).collect()
}

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Tools that are kept of one server.
pub const NAMES_MAX: usize = 1024;
/// Longest definition that is kept, in its one spelling.
pub const DEFINITION_BYTES_MAX: usize = 64 * 1024;
/// Bytes of definitions that are kept of one server.
pub const SERVER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Other stories of one tool that are taken in until a person has a word; then it stays changed, whatever is listed.
pub const TURNS_MAX: u32 = 16;
