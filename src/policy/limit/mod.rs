//! Limits: GCRA rates, sliding counts, repeats of one request, and cost. Values that take `now`; no clock within.
//!
//! A [`Limit`] is what the YAML says; [`Cells`] is the state of one holder (a session, an agent, the project), laid out by
//! the policy so that no keyed map is touched on the way. It refuses to say what follows from an exceedance: the gate does.

mod cells;
mod gcra;
mod repeats;
mod window;

pub use cells::{Cells, Layout, Only};

use super::model::LimitIndex;
use super::name::{LimitId, RouteId, ScopeName, ToolName};
use super::time::Tick;
use std::time::Duration;

/// A bound from the YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Named in refusals, metrics, records and carried over by it on reload.
    pub id: LimitId,
    /// Whose calls are counted together.
    pub per: Per,
    /// Which calls.
    pub select: Select,
    /// How much.
    pub bound: Bound,
    /// And then.
    pub exceeded: Exceeded,
}

/// Whose calls are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// One session's.
    Session,
    /// Those of all sessions of one agent.
    Agent,
    /// Those of the whole project.
    Project,
}

/// Which calls a limit covers: all that fit every name given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Only calls that need this scope.
    pub scope: Option<ScopeName>,
    /// Only calls to this tool.
    pub tool: Option<ToolName>,
    /// Only calls on this route.
    pub route: Option<RouteId>,
}

/// How much is within bounds. Counts are at least 1; windows at least a second and at most 31 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// GCRA: no window ever admits more than `burst + count` of it.
    Rate {
        /// Calls per window.
        count: u32,
        /// The window.
        window: Duration,
        /// Calls at once; `count` unless the YAML says otherwise.
        burst: u32,
    },
    /// Calls in any sliding window, exact to a sixtieth of it.
    Count {
        /// Calls within bounds.
        count: u32,
        /// The window.
        window: Duration,
    },
    /// Calls with one digest in any sliding window; the 64 most recent digests are watched.
    Repeats {
        /// Calls within bounds.
        count: u32,
        /// The window.
        window: Duration,
    },
    /// Sum of costs in any sliding window, in millionths.
    Cost {
        /// Millionths within bounds.
        micros: u64,
        /// The window.
        window: Duration,
    },
}

/// What exceeding a limit does; the harsher is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exceeded {
    /// 429 until there is room.
    Throttle,
    /// The session is quarantined; the call that trips it is refused as such.
    Quarantine,
}

/// A limit that a call exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceedance {
    /// Which.
    pub limit: LimitIndex,
    /// And then.
    pub exceeded: Exceeded,
    /// When a call may fit again.
    pub retry_after: Duration,
}

/// SHA-256 over method, canonical target and body: what `repeats` counts.
pub type CallDigest = [u8; 32];

/// What one limit has left: for `RateLimit` fields and the session view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub limit: LimitIndex,
    /// Calls (or millionths of cost) that still fit now.
    pub remaining: u64,
    /// Until more fit (zero if the limit is untouched).
    pub resets_in: Duration,
}

/// A moment and what is counted at it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// When.
    pub now: Tick,
    /// For `repeats`; `None`: not counted by them.
    pub digest: Option<&'a CallDigest>,
}

impl Select {
    /// Whether a call on this route is covered.
    pub fn covers(&self, scope: &ScopeName, tool: &ToolName, route: &RouteId) -> bool {
        self.scope.as_ref().is_none_or(|name| name == scope)
            && self.tool.as_ref().is_none_or(|name| name == tool)
            && self.route.as_ref().is_none_or(|name| name == route)
    }

    /// Names nothing: covers every call.
    pub fn is_all(&self) -> bool {
        self.scope.is_none() && self.tool.is_none() && self.route.is_none()
    }
}
