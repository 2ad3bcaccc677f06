//! The request as it is held: its fields, its body, and the digest that binds what people agree to.
//!
//! The digest is over an unambiguous text: each part is preceded by its length, each list by its count. Two requests of one
//! session have one digest only if nothing that is forwarded differs, but for what clients change with every attempt
//! ([`fields::held`]).

use super::Arrival;
use crate::gate::body::{Prefix, RequestBody};
use crate::gate::fields::{self, HeldField, Rules, Tells};
use crate::gate::mcp;
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::ledger::record::BodyDigest;
use crate::policy::approval::{Field, RequestDigest};
use crate::policy::decision::Reason;
use crate::policy::id::SessionId;
use crate::policy::model::{Protocol, Route, Tool, ToolIndex};
use crate::policy::route::NoRoute;
use crate::policy::target::Target;
use aws_lc_rs::digest::{Context, SHA256};
use http::request::Parts;
use std::sync::Arc;

/// A request, whole.
#[derive(Debug)]
pub(super) struct Request {
    pub digest: RequestDigest,
    /// Those that will be forwarded.
    pub fields: Vec<Field>,
    pub body: Arc<[u8]>,
}

impl Request {
    /// Reads a request that is to be held.
    ///
    /// # Errors
    /// Its body is longer than the route's bound or failed, or there are trailers behind it.
    pub async fn read(
        caller: &Caller,
        route: &Route,
        arrival: Arrival<'_>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Self, Refusal> {
        let place = Place::of(caller, route);
        match Self::within(place, caller, arrival.head, arrival.target, body, entry).await? {
            Some(request) => Ok(request),
            None => Err(Refusal::new(
                Reason::BodyTooLarge,
                format!(
                    "a person has to see the whole body of this call, and it is longer than {} bytes; send less in one request",
                    route.body_limit
                ),
            )),
        }
    }

    /// Reads a request that may be a retry; `None`: it can't be one, and what is wrong with it is said further down.
    ///
    /// # Errors
    /// Its body failed: there is nothing to go on with.
    pub async fn again(
        caller: &Caller,
        head: &Parts,
        target: &Target,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Option<Self>, Refusal> {
        let policy = &caller.ruleset.policy;
        // Which route it was judged by is not known yet: the widest of those that could be bounds what is read.
        let place = match policy.table.find(head.method.as_str(), target) {
            Ok(matched) => {
                let mut place = Place::of(caller, policy.route(matched.route));
                for arm in policy.table.arms(matched) {
                    place.bytes_max = place.bytes_max.max(policy.route(arm.route).body_limit);
                }
                place
            }
            Err(NoRoute::Called(tool)) => Place::of_endpoint(caller, tool),
            Err(NoRoute::Route(_) | NoRoute::Tool) => return Ok(None),
        };
        if fields::check_request(&head.headers, target.as_str(), place.rules).is_err() {
            return Ok(None);
        }
        Self::within(place, caller, head, target, body, entry).await
    }

    async fn within(
        place: Place<'_>,
        caller: &Caller,
        head: &Parts,
        target: &Target,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Option<Self>, Refusal> {
        let bytes = match body {
            None => bytes::Bytes::new(),
            Some(body) => match body.read_prefix(place.bytes_max).await {
                Err(fault) => return Err(Refusal::body(fault)),
                Ok(Prefix::Longer(_)) => return Ok(None),
                // They would be forwarded, and nobody has seen them.
                Ok(Prefix::Whole(_)) if body.has_trailers() => {
                    return Err(Refusal::field_forbidden(
                        "a call that waits for a person can't have trailers; send them as header fields",
                    ));
                }
                Ok(Prefix::Whole(bytes)) => bytes,
            },
        };
        if !bytes.is_empty() {
            entry.body = Some(BodyDigest::of(&bytes));
        }
        let held = fields::held(&head.headers, place.rules, &place.tool.volatile_headers);
        let identity = match place.tool.protocol {
            Protocol::Mcp => mcp::identity(&bytes),
            Protocol::Http | Protocol::Function => None,
        };
        let bound = Bound {
            session: caller.session.facts.id,
            method: head.method.as_str(),
            authority: target.authority(),
            target: target.as_str(),
            body: identity.as_deref().map_or(&*bytes, str::as_bytes),
        };
        Ok(Some(Self {
            digest: bound.digest(&held),
            fields: held.into_iter().map(|held| held.field).collect(),
            body: Arc::from(&*bytes),
        }))
    }
}

/// What a request is read by.
struct Place<'a> {
    tool: &'a Tool,
    rules: &'a Rules,
    bytes_max: u64,
}

impl<'a> Place<'a> {
    /// Of a tool whose calls are named by what is sent there.
    fn of_endpoint(caller: &'a Caller, tool: ToolIndex) -> Self {
        Self {
            tool: caller.ruleset.policy.tool(tool),
            rules: caller.ruleset.outfit(tool).rules(),
            bytes_max: caller.ruleset.body_limit(tool),
        }
    }

    fn of(caller: &'a Caller, route: &'a Route) -> Self {
        Self {
            tool: caller.ruleset.policy.tool(route.tool),
            rules: caller.ruleset.outfit(route.tool).rules(),
            bytes_max: route.body_limit,
        }
    }
}

/// What makes two requests the same, fields apart.
struct Bound<'a> {
    session: SessionId,
    method: &'a str,
    authority: &'a str,
    target: &'a str,
    body: &'a [u8],
}

impl Bound<'_> {
    /// SHA-256 over the version of this text, then session, method, authority, canonical target and body, then how many
    /// fields there are and of each its name and value: in order of the names, values of one name as they were received.
    fn digest(&self, held: &[HeldField]) -> RequestDigest {
        let mut fields: Vec<&Field> = held
            .iter()
            .filter(|held| held.tells == Tells::Apart)
            .map(|held| &held.field)
            .collect();
        // Stable: the order of values is told by some readers.
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let mut text = Parted(Context::new(&SHA256));
        text.part(b"toolgate request 1");
        text.part(self.session.to_string().as_bytes());
        text.part(self.method.as_bytes());
        text.part(self.authority.as_bytes());
        text.part(self.target.as_bytes());
        text.part(self.body);
        text.number(fields.len());
        for field in fields {
            text.part(field.name.as_bytes());
            text.part(&field.value);
        }
        text.finish()
    }
}

/// A text of parts that can't run into one another.
pub(super) struct Parted(pub Context);

impl Parted {
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_be_bytes());
    }

    pub fn part(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    pub fn finish(self) -> RequestDigest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        RequestDigest(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str, tells: Tells) -> HeldField {
        HeldField {
            field: Field {
                name: name.into(),
                value: value.as_bytes().into(),
            },
            tells,
        }
    }

    fn bound<'a>(session: u128, parts: [&'a str; 3], body: &'a [u8]) -> Bound<'a> {
        Bound {
            session: SessionId::new(uuid::Uuid::from_u128(session)),
            method: parts[0],
            authority: parts[1],
            target: parts[2],
            body,
        }
    }

    #[test]
    fn a_change_of_any_byte_that_is_bound_makes_another_request() {
        let fields = [
            field("content-type", "text/plain", Tells::Apart),
            field("x-a", "1", Tells::Apart),
            field("x-a", "2", Tells::Apart),
        ];
        let parts = ["POST", "gate.test", "/crm/users/7?a=1"];
        let body = b"amount=5";
        let own = bound(1, parts, body).digest(&fields);
        assert_ne!(own, bound(2, parts, body).digest(&fields));
        for part in 0..3 {
            for at in 0..parts[part].len() {
                let mut changed = parts[part].as_bytes().to_vec();
                changed[at] ^= 1;
                let changed = String::from_utf8(changed).unwrap();
                let mut other = parts;
                other[part] = &changed;
                assert_ne!(own, bound(1, other, body).digest(&fields));
            }
        }
        for at in 0..body.len() {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            assert_ne!(own, bound(1, parts, &changed).digest(&fields));
        }
        for at in 0..fields.len() {
            for byte in 0..fields[at].field.value.len() {
                let mut changed = fields.clone();
                changed[at].field.value[byte] ^= 1;
                assert_ne!(own, bound(1, parts, body).digest(&changed));
            }
            let mut fewer = fields.to_vec();
            fewer.remove(at);
            assert_ne!(own, bound(1, parts, body).digest(&fewer));
        }
    }

    #[test]
    fn the_order_of_names_tells_nothing_and_the_order_of_values_does() {
        let (a1, a2, b) = (
            field("a", "1", Tells::Apart),
            field("a", "2", Tells::Apart),
            field("b", "x", Tells::Apart),
        );
        let request = bound(1, ["GET", "h", "/"], b"");
        let one = request.digest(&[a1.clone(), a2.clone(), b.clone()]);
        assert_eq!(one, request.digest(&[b.clone(), a1.clone(), a2.clone()]));
        assert_ne!(one, request.digest(&[a2, a1, b]));
    }

    #[test]
    fn parts_do_not_run_into_one_another_and_what_is_volatile_tells_nothing() {
        let one = bound(1, ["GET", "h", "/ab"], b"c").digest(&[]);
        assert_ne!(one, bound(1, ["GET", "h", "/a"], b"bc").digest(&[]));
        let (ab, a) = (field("a", "b", Tells::Apart), field("ab", "", Tells::Apart));
        let request = bound(1, ["GET", "h", "/"], b"");
        assert_ne!(request.digest(&[ab]), request.digest(&[a]));
        let volatile = field("date", "now", Tells::Nothing);
        assert_eq!(request.digest(&[]), request.digest(&[volatile]));
    }
}
