//! Which route of a match judges a recorded call, where conditions choose.
//!
//! Of a call there is on record what it asked for, from where and when; neither its body nor its header fields, and query
//! values only where a tool lists them. What a condition reads of the rest is found again in one way alone: where all
//! routes of the match are as they were, so is their choice.

use super::judge::{Old, Past, Verdict, look_up, verdict};
use super::runs::Run;
use crate::policy::call::{Body, Call};
use crate::policy::condition::{Found, Subject, named};
use crate::policy::decision::Reason;
use crate::policy::model::Policy;
use crate::policy::route::Matched;
use crate::policy::subject::Session;
use crate::policy::target::Target;
use crate::policy::time::Timestamp;
use crate::policy::trace::{Fit, Outcome, search};
use std::net::IpAddr;
use std::sync::Arc;

impl<'p> Past<'p> {
    /// The route that judges a call, of those that answer to its match.
    ///
    /// # Errors
    /// None does, and what is said of that; or what is not recorded and would decide.
    pub(super) fn arm<'t>(
        &self,
        old: &'t Old,
        first: Matched<'t>,
        wanted: (Option<&'t Target>, Option<&'t str>),
    ) -> Result<Matched<'t>, Result<Verdict, String>>
    where
        'p: 't,
    {
        let new = self.new;
        if self.unchanged(old, first, wanted)
            && let Some(arm) = new
                .table
                .arms(first)
                .find(|arm| old.is_of(new.route(arm.route).id.as_str()))
        {
            let route = new.route(arm.route);
            let refused = [Reason::ConditionUnmet, Reason::Unevaluable];
            return match refused.into_iter().find(|reason| old.was(*reason)) {
                // Its resource may be what could not be told: then that must be as it was.
                Some(reason) if self.same_route(old, route) => {
                    Err(Ok(verdict(route, Outcome::Deny(reason), None)))
                }
                Some(_) => Err(Err("body".to_owned())),
                None => Ok(arm),
            };
        }
        if new.route(first.route).conditions.is_none() {
            return Ok(first);
        }
        let run = self.runs.get(old.session);
        let recorded = Recorded {
            old,
            query: wanted.0.and_then(Target::query).unwrap_or_default(),
            session: run.map(|run| self.runs.current(&run.facts)),
            known: run.is_some_and(Run::is_known),
        };
        search(new, first, &recorded, &mut |_, _| ()).map_err(|(route, fit)| match fit {
            Fit::Refused(reason) => Ok(verdict(new.route(route), Outcome::Deny(reason), None)),
            Fit::Unknown(subject) => Err(subject.into()),
            Fit::RefusedBody(_) | Fit::Taken | Fit::Next => Err("body".to_owned()),
        })
    }

    /// Whether all routes of the match are those that there were, with the same conditions in the same order.
    fn unchanged(
        &self,
        old: &Old,
        first: Matched<'_>,
        (target, path): (Option<&Target>, Option<&str>),
    ) -> bool {
        let Some(then) = self.old else {
            return false;
        };
        let Ok(first_then) = look_up(then, old, target, path) else {
            return false;
        };
        let told = |policy: &Policy, arm: &Matched<'_>| {
            let route = policy.route(arm.route);
            let written = policy.written(arm.route).to_owned();
            let limit = route.body_limit;
            (route.id.clone(), written, limit, route.conditions.clone())
        };
        let now = self.new.table.arms(first).map(|arm| told(self.new, &arm));
        now.eq(then.table.arms(first_then).map(|arm| told(then, &arm)))
    }
}

/// A call as far as it is recorded.
struct Recorded<'a> {
    old: &'a Old,
    query: &'a str,
    session: Option<Arc<Session>>,
    /// Whether the session's attributes are known.
    known: bool,
}

impl Call for Recorded<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.query, name)
    }

    fn header(&self, _name: &str) -> Found<'_> {
        Found::Unreadable
    }

    fn body(&self) -> Body<'_> {
        Body::Unread
    }

    fn session(&self, name: &str) -> Option<&str> {
        self.session.as_ref()?.attributes.get(name)
    }

    fn agent(&self) -> &str {
        self.old.agent.as_str()
    }

    fn client(&self) -> Option<IpAddr> {
        self.old.client
    }

    fn now(&self) -> Timestamp {
        self.old.time
    }

    fn knows(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Path(_) | Subject::Agent | Subject::Hour(_) | Subject::Weekday(_) => true,
            Subject::Query(name) => {
                // A part without a name is masked whole: it may have been any name.
                let nameless = self.query.split('&').any(|part| part == MASK);
                !nameless && named(self.query, name) != Found::One(MASK.into())
            }
            Subject::Session(_) => self.known,
            Subject::Client => self.old.client.is_some(),
            Subject::Header(_)
            | Subject::Body(_)
            | Subject::Args(_)
            | Subject::Id
            | Subject::Property(_) => false,
        }
    }
}

/// What stands for a query value that is not recorded.
const MASK: &str = "*";
