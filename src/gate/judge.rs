//! Step 3, where the policy asks more than method and path: which of the routes of one match judges the call.
//!
//! Judging is the policy's ([`choose`]); here is what a call says, read once and strictly. A body is read only where a
//! condition needs it, within the route's bound, and what was judged is forwarded byte for byte. Nothing is repaired: a
//! body of another type, coding or charset, or one that readers take differently, is refused.

use crate::gate::body::{Prefix, RequestBody};
use crate::gate::describe::Described;
use crate::gate::fields;
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::ledger::record::BodyDigest;
use crate::policy::approval::{Asked, Facts as Kept, Field, HeldCall};
use crate::policy::choice::{Body, Call, Unfit, choose};
use crate::policy::condition::{Content, Found, named};
use crate::policy::json::{JsonError, Value};
use crate::policy::model::{Policy, Route, RouteIndex};
use crate::policy::route::Matched;
use crate::policy::subject::Session;
use crate::policy::target::Target;
use crate::policy::time::{Now, Timestamp};
use crate::store::live::approvals::LiveApproval;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;
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
    let said = |body| Said {
        query: target.query(),
        fields: Fields::Sent(&head.headers),
        body,
        session: &caller.session.facts,
        client: entry.client,
        now: entry.opened.wall,
    };
    let found = match choose(policy, first.matched, &said(Body::Unread)) {
        Err(Unfit::Unread(route)) => {
            let route = policy.route(route);
            let media = Media::of(&head.headers).map_err(Refusal::unreadable);
            let (bytes, digest) = read(route, body).await?;
            (entry.body, entry.route) = (digest, Some(route.index));
            let content = media?.content(&bytes).map_err(Refusal::unreadable)?;
            choose(policy, first.matched, &said(Body::Read(&content)))
        }
        found => found,
    };
    let matched = found.map_err(|unfit| {
        entry.route = Some(unfit.route());
        Refusal::unfit(unfit, policy)
    })?;
    entry.route = Some(matched.route);
    Ok(first.clone().taken(matched, policy))
}

/// The call as one route of its match would have it, of those that were asked and did not judge it.
pub(super) fn arm<'a>(
    caller: &'a Caller,
    first: Described<'a>,
    route: Option<RouteIndex>,
) -> Described<'a> {
    let policy = &caller.ruleset.policy;
    let mut arm = Some(first.matched);
    while let Some(matched) = arm {
        if Some(matched.route) == route {
            return first.taken(matched, policy);
        }
        arm = policy.table.behind(&matched);
    }
    first
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
    let mut arm = Some(first.matched);
    while let Some(matched) = arm {
        if policy.route(matched.route).id == call.route {
            entry.route = Some(matched.route);
            return first.taken(matched, policy);
        }
        arm = policy.table.behind(&matched);
    }
    // It is gone, or changed: what becomes of the approval then is said further down.
    first
}

/// The same for a call that was kept for people.
///
/// # Errors
/// None of the routes judges it now.
pub(super) fn kept<'t>(
    policy: &'t Policy,
    first: Matched<'t>,
    (session, facts): (&Session, &Kept),
    (call, target): (&HeldCall, &Target),
    now: Now,
) -> Result<Matched<'t>, Refusal> {
    if policy.route(first.route).conditions.is_none() {
        return Ok(first);
    }
    let said = |body| Said {
        query: target.query(),
        fields: Fields::Kept(&call.fields),
        body,
        session,
        client: facts.client,
        now: now.wall,
    };
    let found = match choose(policy, first, &said(Body::Unread)) {
        Err(Unfit::Unread(_)) => {
            let media = Media::of_kept(&call.fields).map_err(Refusal::unreadable)?;
            let content = media.content(&call.body).map_err(Refusal::unreadable)?;
            choose(policy, first, &said(Body::Read(&content)))
        }
        found => found,
    };
    found.map_err(|unfit| Refusal::unfit(unfit, policy))
}

/// The whole body, and what the record says of it.
async fn read(
    route: &Route,
    body: &mut Option<RequestBody>,
) -> Result<(Bytes, Option<BodyDigest>), Refusal> {
    let Some(body) = body else {
        return Ok((Bytes::new(), None));
    };
    match body.read_prefix(route.body_limit).await {
        Err(fault) => Err(Refusal::body(fault)),
        Ok(Prefix::Longer(_)) => Err(Refusal::too_large_to_judge(route)),
        Ok(Prefix::Whole(bytes)) => {
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
            let digest = BodyDigest {
                bytes: bytes.len() as u64,
                sha256,
            };
            Ok((bytes, Some(digest).filter(|digest| digest.bytes > 0)))
        }
    }
}

/// What a call says.
struct Said<'a> {
    query: Option<&'a str>,
    fields: Fields<'a>,
    body: Body<'a>,
    session: &'a Session,
    client: IpAddr,
    now: Timestamp,
}

/// Header fields as they will be forwarded.
enum Fields<'a> {
    Sent(&'a HeaderMap),
    Kept(&'a [Field]),
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
                let values = headers.get_all(&name).iter();
                one(values.map(http::HeaderValue::as_bytes))
            }
            Fields::Kept(fields) => {
                let of = fields.iter().filter(|field| *field.name == *name);
                one(of.map(|field| &*field.value))
            }
        }
    }

    fn body(&self) -> Body<'_> {
        self.body
    }

    fn session(&self, name: &str) -> Option<&str> {
        self.session.attributes.get(name)
    }

    fn agent(&self) -> &str {
        self.session.agent.as_str()
    }

    fn client(&self) -> IpAddr {
        self.client
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

/// The value of a field that stands there once.
fn one<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Found<'v> {
    match (values.next(), values.next()) {
        (None, _) => Found::Absent,
        (Some(_), Some(_)) => Found::Many,
        (Some(value), None) => match std::str::from_utf8(value) {
            Ok(text) => Found::One(Cow::Borrowed(text)),
            Err(_) => Found::Unreadable,
        },
    }
}

/// Why a body can't be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// It is compressed, or encoded in another way.
    #[error("it has a Content-Encoding")]
    Coding,
    /// None, more than one, or one that can't be read.
    #[error("its media type is neither JSON nor a URL-encoded form, or is not said once")]
    Media,
    /// Another charset than UTF-8.
    #[error("its charset is not UTF-8")]
    Charset,
    /// No JSON, or JSON that readers take differently.
    #[error("it is not JSON that can be judged: {0}")]
    Json(#[from] JsonError),
    /// A form is ASCII, and everything else in it is percent-encoded.
    #[error("it is not a URL-encoded form")]
    Form,
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Form,
}

impl Media {
    fn of(headers: &HeaderMap) -> Result<Self, Unreadable> {
        let values = |name| {
            headers
                .get_all(name)
                .iter()
                .map(http::HeaderValue::as_bytes)
        };
        Self::read(values(CONTENT_ENCODING), values(CONTENT_TYPE))
    }

    fn of_kept(fields: &[Field]) -> Result<Self, Unreadable> {
        let values = |name: HeaderName| {
            let of = fields
                .iter()
                .filter(move |field| *field.name == *name.as_str());
            of.map(|field| &*field.value)
        };
        Self::read(values(CONTENT_ENCODING), values(CONTENT_TYPE))
    }

    fn read<'v>(
        mut codings: impl Iterator<Item = &'v [u8]>,
        types: impl Iterator<Item = &'v [u8]>,
    ) -> Result<Self, Unreadable> {
        if codings.any(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
            return Err(Unreadable::Coding);
        }
        let Found::One(text) = one(types) else {
            return Err(Unreadable::Media);
        };
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        for parameter in parts {
            let (name, value) = parameter.split_once('=').ok_or(Unreadable::Media)?;
            let value = value.trim_matches('"');
            // RFC 8259 has no charset, and a form has one by its own account: both are UTF-8 or nothing.
            if name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
                return Err(Unreadable::Charset);
            }
        }
        match &*essence {
            "application/x-www-form-urlencoded" => Ok(Media::Form),
            "application/json" => Ok(Media::Json),
            other => {
                let (kind, name) = other.split_once('/').ok_or(Unreadable::Media)?;
                // RFC 6839 section 3.1.
                let json = !kind.is_empty() && name.len() > 5 && name.ends_with("+json");
                json.then_some(Media::Json).ok_or(Unreadable::Media)
            }
        }
    }

    fn content(self, bytes: &[u8]) -> Result<Content<'_>, Unreadable> {
        match self {
            Media::Json => Ok(Content::Json(Value::read(bytes)?)),
            Media::Form => {
                let text = std::str::from_utf8(bytes)
                    .ok()
                    .filter(|text| text.is_ascii());
                text.map(Content::Form).ok_or(Unreadable::Form)
            }
        }
    }
}
