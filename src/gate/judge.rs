//! Step 3, where the policy asks more than method and path: which of the routes of one match judges the call, and what the
//! call acts on.
//!
//! Judging is the policy's ([`choose`], [`acts_on`]); here is what a call says, read once and strictly. A body is read only
//! where a condition or the resource needs it, within the route's bound, and what was judged is forwarded byte for byte. Nothing is repaired: a
//! body of another type, coding or charset, or one that readers take differently, is refused.

use crate::gate::body::{Prefix, RequestBody};
use crate::gate::describe::{self, Described};
use crate::gate::fields;
use crate::gate::mcp;
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::ledger::record::BodyDigest;
use crate::policy::approval::{Asked, Facts as Kept, Field, HeldCall};
use crate::policy::call::{Body, Call};
use crate::policy::choice::{Unfit, Vague, acts_on, choose, sql_told};
use crate::policy::condition::{Content, Found, named};
use crate::policy::content::{Media, Unreadable, is_taken_for, one};
use crate::policy::json::Value;
use crate::policy::model::{Policy, Protocol, Route, RouteIndex};
use crate::policy::resource::Resource;
use crate::policy::route::Matched;
use crate::policy::subject::Session;
use crate::policy::target::Target;
use crate::policy::time::{Now, Timestamp};
use crate::store::live::approvals::LiveApproval;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use std::net::IpAddr;

/// The route that judges a call, of those that answer to its match; on record from here on.
///
/// # Errors
/// A condition can't be judged, none of the routes' conditions hold, or the body can't be read.
pub(super) async fn chosen<'a>(
    caller: &'a Caller,
    (head, target): (&Parts, &Target),
    first: &Described<'a>,
    body: &mut Option<RequestBody>,
    entry: &mut Entry,
) -> Result<Described<'a>, Refusal> {
    if first.route.conditions.is_none() {
        return Ok(first.clone());
    }
    let policy = &caller.ruleset.policy;
    let said = Said::sent(caller, (head, target), entry);
    let mut filled = None;
    let found = match choose(policy, first.matched, &said) {
        Err(Unfit::Unread(route)) => {
            let route = policy.route(route);
            let read = Read::of(route, head, body, entry).await?;
            entry.route = Some(route.index);
            let content = read.content()?;
            let said = said.with(&content);
            match choose(policy, first.matched, &said) {
                Ok(arm) => {
                    let route = policy.route(arm.route);
                    entry.route = Some(route.index);
                    read.within_bounds(route)?;
                    // While what the body says is at hand.
                    filled = Some(acts_on(route, &arm.captures, &said));
                    Ok(arm)
                }
                Err(unfit) => Err(refused(unfit, policy, (first.matched, &said), entry)),
            }
        }
        Err(unfit) => Err(refused(unfit, policy, (first.matched, &said), entry)),
        Ok(arm) => Ok(arm),
    };
    let matched = found?;
    entry.route = Some(matched.route);
    Ok(Described {
        filled,
        ..first.clone().taken(matched, policy)
    })
}

/// What the call acts on; on record from here on. Where only this needs the body, it is read here.
///
/// # Errors
/// The route acts on something that can't be told from this call: that is not "nothing". Or the body can't be read.
pub(super) async fn acted_on(
    caller: &Caller,
    (head, target): (&Parts, &Target),
    call: &mut Described<'_>,
    body: &mut Option<RequestBody>,
    entry: &mut Entry,
) -> Result<Option<Resource>, Refusal> {
    let (route, captures) = (call.route, &call.matched.captures);
    let filled = match call.filled.take() {
        Some(filled) => filled,
        None => {
            let said = Said::sent(caller, (head, target), entry);
            match acts_on(route, captures, &said) {
                Err(Vague::Unread) => {
                    let read = Read::of(route, head, body, entry).await?;
                    let content = read.content()?;
                    acts_on(route, captures, &said.with(&content))
                }
                filled => filled,
            }
        }
    };
    let resource = filled.map_err(|vague| Refusal::vague(&vague, route))?;
    refuse_token(resource.as_ref())?;
    entry.resource.clone_from(&resource);
    Ok(resource)
}

/// A body may have one in it, and what a call acts on is shown and recorded.
pub(super) fn refuse_token(resource: Option<&Resource>) -> Result<(), Refusal> {
    match describe::holds_token(resource.map_or("", Resource::as_str)) {
        false => Ok(()),
        true => Err(Refusal::field_forbidden(
            "what this call acts on is read from a place that holds a token or a key; leave it out",
        )),
    }
}

/// What is said of a call that no route judges; on record is the one that ended the search.
fn refused(
    unfit: Unfit,
    policy: &Policy,
    (first, said): (Matched<'_>, &Said<'_>),
    entry: &mut Entry,
) -> Refusal {
    entry.route = Some(unfit.route());
    Refusal::unfit(
        unfit,
        policy,
        sql_told(policy, first, said, unfit).as_deref(),
    )
}

/// The call as one route of its match would have it, of those that were asked and did not judge it.
pub(super) fn arm<'a>(
    caller: &'a Caller,
    first: Described<'a>,
    route: Option<RouteIndex>,
) -> Described<'a> {
    let policy = &caller.ruleset.policy;
    let mut arms = policy.table.arms(first.matched);
    match arms.find(|arm| Some(arm.route) == route) {
        Some(arm) => first.taken(arm, policy),
        None => first,
    }
}

/// The route by which people were asked: who comes back for what came of it is not judged anew.
pub(super) fn asked<'a>(
    caller: &'a Caller,
    first: Described<'a>,
    approval: &LiveApproval,
    entry: &mut Entry,
) -> Described<'a> {
    let policy = &caller.ruleset.policy;
    let Asked::Call(call) = &approval.facts.asked else {
        return first;
    };
    let mut arms = policy.table.arms(first.matched);
    match arms.find(|arm| policy.route(arm.route).id == call.route) {
        Some(arm) => {
            entry.route = Some(arm.route);
            first.taken(arm, policy)
        }
        // It is gone, or changed: what becomes of the approval then is said further down.
        None => first,
    }
}

/// The route that judges a call which was kept for people, and what the call acts on.
///
/// # Errors
/// None of the routes judges it now, or it can't be told what it acts on.
pub(super) fn kept<'t>(
    policy: &'t Policy,
    first: Matched<'t>,
    (session, facts): (&Session, &Kept),
    (call, target): (&HeldCall, &Target),
    now: Now,
) -> Result<(Matched<'t>, Option<Resource>), Refusal> {
    let said = Said {
        query: target.query(),
        fields: Fields::Kept(&call.fields),
        body: Body::Unread,
        message: policy.tool(first.tool).protocol == Protocol::Mcp,
        session,
        client: facts.client,
        now: now.wall,
    };
    let judge = |said: &Said<'_>| -> Result<_, Unfit> {
        let matched = choose(policy, first, said)?;
        let route = policy.route(matched.route);
        Ok((matched, acts_on(route, &matched.captures, said)))
    };
    let judged = match judge(&said) {
        Err(Unfit::Unread(_)) | Ok((_, Err(Vague::Unread))) => {
            let media = media_of_kept(&call.fields).map_err(Refusal::unreadable)?;
            let content = media.content(&call.body).map_err(Refusal::unreadable)?;
            judge(&said.with(&content))
        }
        judged => judged,
    };
    let (matched, filled) = judged.map_err(|unfit| Refusal::unfit(unfit, policy, None))?;
    let route = policy.route(matched.route);
    let resource = filled.map_err(|vague| Refusal::vague(&vague, route))?;
    Ok((matched, resource))
}

/// A whole body.
struct Read {
    bytes: Bytes,
    media: Result<Media, Unreadable>,
}

impl Read {
    /// Within a route's bound; on record from here on.
    async fn of(
        route: &Route,
        head: &Parts,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Self, Refusal> {
        let media = media(&head.headers);
        let Some(body) = body else {
            let bytes = Bytes::new();
            return Ok(Self { bytes, media });
        };
        match body.read_prefix(route.body_limit).await {
            Err(fault) => Err(Refusal::body(fault)),
            Ok(Prefix::Longer(_)) => Err(Refusal::too_large_to_judge(route)),
            Ok(Prefix::Whole(bytes)) => {
                entry.body = (!bytes.is_empty()).then(|| BodyDigest::of(&bytes));
                Ok(Self { bytes, media })
            }
        }
    }

    /// What it says.
    fn content(&self) -> Result<Content<'_>, Refusal> {
        let media = self.media.map_err(Refusal::unreadable)?;
        media.content(&self.bytes).map_err(Refusal::unreadable)
    }

    /// A body may be within the bound of the route for which it was read, and not within that of the one which is taken.
    fn within_bounds(&self, route: &Route) -> Result<(), Refusal> {
        match self.bytes.len() as u64 > route.body_limit {
            true => Err(Refusal::too_large_to_judge(route)),
            false => Ok(()),
        }
    }
}

/// What a call acts on, or why that can't be told.
pub(super) type Filled = Result<Option<Resource>, Vague>;

/// What a call says.
#[derive(Clone, Copy)]
struct Said<'a> {
    query: Option<&'a str>,
    fields: Fields<'a>,
    body: Body<'a>,
    /// Whether the body is a message whose parameters hold the arguments.
    message: bool,
    session: &'a Session,
    client: IpAddr,
    now: Timestamp,
}

/// Header fields as they will be forwarded.
#[derive(Clone, Copy)]
enum Fields<'a> {
    Sent(&'a HeaderMap),
    Kept(&'a [Field]),
}

impl<'a> Said<'a> {
    /// All but its body.
    fn sent(caller: &'a Caller, (head, target): (&'a Parts, &'a Target), entry: &Entry) -> Self {
        Self {
            query: target.query(),
            fields: Fields::Sent(&head.headers),
            body: Body::Unread,
            message: entry
                .tool
                .is_some_and(|tool| caller.ruleset.policy.tool(tool).protocol == Protocol::Mcp),
            session: &caller.session.facts,
            client: entry.client,
            now: entry.opened.wall,
        }
    }

    /// And its body.
    fn with<'b>(self, content: &'b Content<'b>) -> Said<'b>
    where
        'a: 'b,
    {
        Said {
            body: Body::Read(content),
            ..self
        }
    }
}

impl Call for Said<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.query.unwrap_or_default(), name)
    }

    fn header(&self, name: &str) -> Found<'_> {
        match &self.fields {
            Fields::Sent(headers) => {
                let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                    return Found::Absent;
                };
                // What is taken away before it is forwarded is not there.
                if fields::is_nominated(headers, &name) {
                    return Found::Unreadable;
                }
                // Another that some backends take for it.
                let mut names = headers.keys().map(HeaderName::as_str);
                if names.any(|other| is_taken_for(other, name.as_str())) {
                    return Found::Many;
                }
                let values = headers.get_all(&name).iter();
                one(values.map(http::HeaderValue::as_bytes))
            }
            Fields::Kept(kept) => {
                let mut names = kept.iter().map(|field| &*field.name);
                if names.any(|other| is_taken_for(other, name)) {
                    return Found::Many;
                }
                let of = kept.iter().filter(|field| *field.name == *name);
                one(of.map(|field| &*field.value))
            }
        }
    }

    fn body(&self) -> Body<'_> {
        self.body
    }

    fn args(&self) -> Option<&Value<'_>> {
        match self.body {
            Body::Read(Content::Json(message)) if self.message => mcp::arguments(message),
            Body::Read(_) | Body::Unread => None,
        }
    }

    fn session(&self, name: &str) -> Option<&str> {
        self.session.attributes.get(name)
    }

    fn agent(&self) -> &str {
        self.session.agent.as_str()
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.client)
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

fn media(headers: &HeaderMap) -> Result<Media, Unreadable> {
    let values = |name| {
        headers
            .get_all(name)
            .iter()
            .map(http::HeaderValue::as_bytes)
    };
    Media::read(values(CONTENT_ENCODING), values(CONTENT_TYPE))
}

fn media_of_kept(fields: &[Field]) -> Result<Media, Unreadable> {
    let values = |name: HeaderName| {
        let of = fields
            .iter()
            .filter(move |field| *field.name == *name.as_str());
        of.map(|field| &*field.value)
    };
    Media::read(values(CONTENT_ENCODING), values(CONTENT_TYPE))
}
