//! What a call says, as conditions and resources read it: the one form in which calls that are made, kept, recorded or only
//! told of are judged.
//!
//! Implementations answer from what is forwarded, byte for byte, and repair nothing.

use super::condition::{Content, Found, Subject};
use super::content::Unreadable;
use super::decision::Reason;
use super::fields::FieldFault;
use super::json::Value;
use super::model::Tool;
use super::resource::decoded;
use super::subject::Session;
use super::target::Target;
use super::template::Captures;
use super::time::Timestamp;
use core::net::IpAddr;

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
    /// The client's address; `None`: it is not known, and nothing is judged by it.
    fn client(&self) -> Option<IpAddr>;
    /// Wall time.
    fn now(&self) -> Timestamp;
    /// Whether it is known what the call says there. Of a call that is made all is known; of one that is told of, what is
    /// not known decides nothing: [`trace`](super::trace) says so, and nobody else asks.
    fn knows(&self, _: &Subject) -> bool {
        true
    }
    /// Why its header fields, or its target, may not be sent to this tool. Of a call that is made, the gate finds out before
    /// anything is decided.
    fn forbidden(&self, _tool: &Tool, _target: Option<&Target>) -> Option<FieldFault> {
        None
    }
    /// Whether it is said what the call is for; `None`: not known. Of a call that is made, the gate finds out.
    fn intended(&self) -> Option<bool> {
        Some(true)
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

    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }
}

/// A call as one arm judges it, with what the arm's template captures of its path.
#[derive(Clone, Copy)]
pub struct OnPath<'a> {
    /// What the template captures.
    pub captures: &'a Captures<'a>,
    /// What the call says besides.
    pub call: &'a dyn Call,
}

impl OnPath<'_> {
    /// A parameter of the path.
    pub fn path(&self, name: &str) -> Found<'_> {
        match self.captures.get(name) {
            None => Found::Absent,
            Some(value) => decoded(value).map_or(Found::Unreadable, Found::One),
        }
    }

    /// The body; `None`: there is none that can be judged.
    pub fn body(&self) -> Option<&Content<'_>> {
        match self.call.body() {
            Body::Unread => None,
            Body::Read(content) => Some(content),
        }
    }
}
