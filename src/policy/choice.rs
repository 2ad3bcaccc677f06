//! Which of the routes of one match judges a call: the arms of a match are asked in the order of the file, and the first
//! whose conditions hold is the one.
//!
//! An arm that can't be judged ends the search: nothing falls through to a laxer one. The body is asked for only when an
//! arm is reached that reads it, so that calls which no condition on a body concerns are never held up by theirs.

use super::condition::{Content, Facts, Found, Subject, Why};
use super::content::Unreadable;
use super::decision::Reason;
use super::json::Value;
use super::model::{Policy, Route, RouteIndex};
use super::resource::{Resource, Unfilled, decoded};
use super::route::Matched;
use super::subject::Session;
use super::template::Captures;
use super::time::Timestamp;
use core::net::{IpAddr, Ipv6Addr};

/// What conditions may read of a call, its path apart.
pub trait Call {
    /// A parameter of the query.
    fn query(&self, name: &str) -> Found<'_>;
    /// A header field.
    fn header(&self, name: &str) -> Found<'_>;
    /// The body.
    fn body(&self) -> Body<'_>;
    /// The arguments, of a call that the body names.
    fn args(&self) -> Option<&Value<'_>> {
        None
    }
    /// The id of what it is about, of a call of a function.
    fn resource_id(&self) -> Found<'_> {
        Found::Absent
    }
    /// The properties of what it is about, of a call of a function.
    fn properties(&self) -> Option<&Value<'_>> {
        None
    }
    /// An attribute of the session.
    fn session(&self, name: &str) -> Option<&str>;
    /// The agent's name.
    fn agent(&self) -> &str;
    /// The client's address.
    fn client(&self) -> IpAddr;
    /// Wall time.
    fn now(&self) -> Timestamp;
    /// Whether it is known what the call says there. Of a call that is made all is known; of one that is told of, what is
    /// not known decides nothing: [`trace`](super::trace) says so, and nobody else asks.
    fn knows(&self, _: &Subject) -> bool {
        true
    }
    /// Why the body would be refused before anything is judged by it, where no more than this many bytes are read. Of a
    /// call that is made, the gate finds out when it reads.
    fn refused_body(&self, _bytes_max: u64) -> Option<RefusedBody> {
        None
    }
}

/// Why a body is refused before anything is judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBody {
    /// It is over the route's bound.
    #[error("it is longer than {0} bytes")]
    Long(u64),
    /// It can't be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl RefusedBody {
    /// What the agent is told.
    pub const fn reason(self) -> Reason {
        match self {
            RefusedBody::Long(_) => Reason::BodyTooLarge,
            RefusedBody::Unreadable(_) => Reason::BodyUnreadable,
        }
    }
}

/// A body as far as it is known.
#[derive(Clone, Copy, Debug)]
pub enum Body<'b> {
    /// Nobody has read it yet.
    Unread,
    /// This.
    Read(&'b Content<'b>),
}

/// Why no arm judges a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The conditions of this route read the body, which is unread.
    Unread(RouteIndex),
    /// A subject of this route can't be judged.
    Unevaluable {
        /// Whose.
        route: RouteIndex,
        /// Which of its conditions.
        condition: usize,
        /// Why.
        why: Why,
    },
    /// No arm's conditions hold; of the last one, this does not.
    Unmet {
        /// The last in the file.
        route: RouteIndex,
        /// Which of its conditions.
        condition: usize,
    },
}

impl Unfit {
    /// Whose conditions.
    pub fn route(self) -> RouteIndex {
        match self {
            Unfit::Unread(route)
            | Unfit::Unevaluable { route, .. }
            | Unfit::Unmet { route, .. } => route,
        }
    }
}

/// The arm that judges a call, from the first of its match on.
///
/// # Errors
/// [`Unfit`].
pub fn choose<'t>(
    policy: &'t Policy,
    first: Matched<'t>,
    call: &dyn Call,
) -> Result<Matched<'t>, Unfit> {
    let mut arm = first;
    loop {
        let route = policy.route(arm.route);
        let Some(conditions) = &route.conditions else {
            return Ok(arm);
        };
        if conditions.reads_body() && matches!(call.body(), Body::Unread) {
            return Err(Unfit::Unread(arm.route));
        }
        let captures = &arm.captures;
        let facts = OnPath { captures, call };
        let unmet = conditions.unmet(&facts).map_err(|it| Unfit::Unevaluable {
            route: arm.route,
            condition: it.condition,
            why: it.why,
        })?;
        let Some(condition) = unmet else {
            return Ok(arm);
        };
        arm = policy.table.behind(&arm).ok_or(Unfit::Unmet {
            route: arm.route,
            condition,
        })?;
    }
}

/// What is wrong with the SQL of a call that no arm judges, in words for the agent that wrote it. `None`: that is not it.
pub fn sql_told(
    policy: &Policy,
    first: Matched<'_>,
    call: &dyn Call,
    unfit: Unfit,
) -> Option<String> {
    let (route, condition) = match unfit {
        Unfit::Unread(_) => return None,
        Unfit::Unevaluable {
            route, condition, ..
        }
        | Unfit::Unmet { route, condition } => (route, condition),
    };
    let arm = policy.table.arms(first).find(|arm| arm.route == route)?;
    let facts = OnPath {
        captures: &arm.captures,
        call,
    };
    let conditions = policy.route(route).conditions.as_deref()?;
    conditions.0.get(condition)?.objection(&facts)
}

/// Why it can't be said what a call acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vague {
    /// It stands in the body, which is unread.
    Unread,
    /// This of what it is read from can't be used.
    Unfilled(Unfilled),
}

/// What a call acts on, by the route that judges it.
///
/// # Errors
/// [`Vague`]. That is not "no resource": nothing that bounds resources allows such a call.
pub fn acts_on(
    route: &Route,
    captures: &Captures<'_>,
    call: &dyn Call,
) -> Result<Option<Resource>, Vague> {
    let Some(template) = &route.resource else {
        return Ok(None);
    };
    if template.reads_body() && matches!(call.body(), Body::Unread) {
        return Err(Vague::Unread);
    }
    let filled = template.fill(&OnPath { captures, call });
    filled.map(Some).map_err(Vague::Unfilled)
}

/// A call of which nothing is known but its path and its session: for what reads no more than those. All else of it is
/// unreadable, or unread.
#[derive(Clone, Copy, Debug)]
pub struct Bare<'a>(pub &'a Session);

impl Call for Bare<'_> {
    fn query(&self, _name: &str) -> Found<'_> {
        Found::Unreadable
    }

    fn header(&self, _name: &str) -> Found<'_> {
        Found::Unreadable
    }

    fn body(&self) -> Body<'_> {
        Body::Unread
    }

    fn session(&self, name: &str) -> Option<&str> {
        self.0.attributes.get(name)
    }

    fn agent(&self) -> &str {
        self.0.agent.as_str()
    }

    fn client(&self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }
}

/// A call, and what one arm's template captures of its path.
#[derive(Clone, Copy)]
pub struct OnPath<'a> {
    /// What the template captures.
    pub captures: &'a Captures<'a>,
    /// What the call says besides.
    pub call: &'a dyn Call,
}

impl Facts for OnPath<'_> {
    fn path(&self, name: &str) -> Found<'_> {
        match self.captures.get(name) {
            None => Found::Absent,
            Some(value) => decoded(value).map_or(Found::Unreadable, Found::One),
        }
    }

    fn query(&self, name: &str) -> Found<'_> {
        self.call.query(name)
    }

    fn header(&self, name: &str) -> Found<'_> {
        self.call.header(name)
    }

    fn body(&self) -> Option<&Content<'_>> {
        match self.call.body() {
            Body::Unread => None,
            Body::Read(content) => Some(content),
        }
    }

    fn args(&self) -> Option<&Value<'_>> {
        self.call.args()
    }

    fn resource_id(&self) -> Found<'_> {
        self.call.resource_id()
    }

    fn properties(&self) -> Option<&Value<'_>> {
        self.call.properties()
    }

    fn session(&self, name: &str) -> Option<&str> {
        self.call.session(name)
    }

    fn agent(&self) -> &str {
        self.call.agent()
    }

    fn client(&self) -> IpAddr {
        self.call.client()
    }

    fn now(&self) -> Timestamp {
        self.call.now()
    }
}
