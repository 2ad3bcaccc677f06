//! What code that is about to act asks: may I? A tool that is a function has no requests of its own; it asks in the words
//! of the OpenID AuthZEN Authorization API 1.0, with an action, a resource and a context, whose `args` are its arguments.
//!
//! A [`Question`] is read strictly and once. What of it is judged, shown to people and bound by their word is exactly
//! [`Question::text`]: action, resource and arguments, in one spelling. What else stands beside them (a time, a trace) has
//! no part in the decision. It refuses to believe what a caller says of itself: whose call it is comes from elsewhere.

mod batch;
mod question;

pub use batch::{Batch, Semantic};
pub use question::{Flaw, Question, Sent};

use super::call::{Body, Call};
use super::choice::{Unfit, Vague, acts_on, choose};
use super::condition::{Content, Found};
use super::json::Value;
use super::model::{Policy, Route};
use super::resource::{Part, Resource, decoded};
use super::route::{CALL, Matched, called};
use super::subject::Session;
use super::template::Captures;
use super::time::Timestamp;
use core::net::IpAddr;

/// The path that stands for a function in the table: `/delete_user`. `None`: a name so long that no route has it.
pub fn path(name: &str) -> Option<String> {
    called("call", Some(name))
}

/// The method that records of such calls have.
pub const METHOD: &str = CALL;

/// A question, and who asks it from where and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What is asked.
    pub question: &'a Question<'a>,
    /// Whose call it is.
    pub session: &'a Session,
    /// From where; `None`: not known.
    pub client: Option<IpAddr>,
    /// Wall time.
    pub now: Timestamp,
}

/// Why it can't be said what a function acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// The route's template can't be filled from it.
    Vague(Vague),
    /// The template says one thing, and the question another.
    Disagrees,
}

impl<'a> Asked<'a> {
    /// The route that judges it, of those that answer to its name.
    ///
    /// # Errors
    /// [`Unfit`]: none does.
    pub fn chosen<'t>(&self, policy: &'t Policy, first: Matched<'t>) -> Result<Matched<'t>, Unfit> {
        choose(policy, first, self)
    }

    /// What it acts on, by the route's template. The resource that was sent must agree with that.
    ///
    /// # Errors
    /// [`Unclear`]: then nothing that bounds resources allows it.
    pub fn resource(
        &self,
        route: &Route,
        captures: &Captures<'_>,
    ) -> Result<Option<Resource>, Unclear> {
        let computed = acts_on(route, captures, self).map_err(Unclear::Vague)?;
        let Some(resource) = &computed else {
            return Ok(None);
        };
        let by_property = route.resource.iter().any(|template| {
            template
                .placeholders()
                .any(|part| matches!(part, Part::Property(_)))
        });
        match agrees(resource, self.question.resource(), by_property) {
            true => Ok(computed),
            false => Err(Unclear::Disagrees),
        }
    }
}

/// Whether the resource sent is the computed one, or one of them. A template that reads a property names the resource by
/// that instead of by its id: then its type must agree.
fn agrees(computed: &Resource, sent: Sent<'_>, by_property: bool) -> bool {
    let mut all = computed.each().filter_map(|one| one.split_once(':'));
    all.any(|(kind, id)| {
        kind == sent.kind && (by_property || decoded(id).is_some_and(|id| id == sent.id))
    })
}

impl Call for Asked<'_> {
    fn query(&self, _name: &str) -> Found<'_> {
        Found::Absent
    }

    fn header(&self, _name: &str) -> Found<'_> {
        Found::Absent
    }

    fn body(&self) -> Body<'_> {
        // The question is read: nothing of it is still to come. No route of a function looks at a body.
        Body::Read(&NO_BODY)
    }

    fn args(&self) -> Option<&Value<'_>> {
        Some(self.question.args())
    }

    fn resource_id(&self) -> Found<'_> {
        Found::One(self.question.resource().id.into())
    }

    fn properties(&self) -> Option<&Value<'_>> {
        self.question.resource().properties
    }

    fn session(&self, name: &str) -> Option<&str> {
        self.session.attributes.get(name)
    }

    fn agent(&self) -> &str {
        self.session.agent.as_str()
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

static NO_BODY: Content<'static> = Content::Json(Value::Null);
