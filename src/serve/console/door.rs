//! Who stands before a page: the way in, `Host`, cookie, principal; and for what is sent, that it comes from a form of the
//! console's own in the same visit. Handlers take [`Visitor`] or [`Posted`] first, and nothing of a request reaches them
//! by another way.

use super::page::Trouble;
use super::visits::{Look, form_token, is_form_token};
use crate::config::{Principal, Role};
use crate::gate::{Channel, Peer};
use crate::serve::admin::Admin;
use crate::serve::admin::caller::{Caller, check_host};
use crate::serve::admin::input;
use axum::body::Body;
use axum::extract::{ConnectInfo, Form, FromRequest, FromRequestParts, Request};
use http::header::{COOKIE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};
use std::sync::Arc;

/// The cookie. Its prefix makes browsers refuse it from other hosts, without `Secure`, and for a part of the paths.
pub(super) const COOKIE_NAME: &str = "__Host-toolgate";
/// Sent by the script when a page asks for itself anew.
const REFRESH: HeaderName = HeaderName::from_static("toolgate-console");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A principal who is signed in.
#[derive(Debug)]
pub(super) struct Visitor {
    pub caller: Caller,
    /// What the cookie holds.
    pub secret: String,
    /// What forms carry.
    pub csrf: String,
}

/// A request by a way on which the console may answer, and to one of its names.
#[derive(Debug)]
pub(super) struct Guest {
    pub peer: Peer,
}

/// What a visitor sent by a form of the console's.
#[derive(Debug)]
pub(super) struct Posted {
    pub visitor: Visitor,
    pub fields: Fields,
}

/// What a form holds; each name once.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, String)>);

impl Guest {
    fn of(parts: &Parts, admin: &Admin) -> Result<Self, Trouble> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        let Some(ConnectInfo(peer)) = peer else {
            return Err(Trouble::Internal);
        };
        check_host(parts, &admin.parts.hosts).map_err(|_| Trouble::Host)?;
        match is_unheard(peer) {
            true => Ok(Self { peer: peer.clone() }),
            false => Err(Trouble::Plain),
        }
    }
}

/// Whether nobody on the way can listen: it is encrypted, or has not left this machine.
fn is_unheard(peer: &Peer) -> bool {
    match peer.channel {
        Channel::Plain => peer.address.ip().to_canonical().is_loopback(),
        Channel::Tls { .. } => true,
    }
}

impl FromRequestParts<Arc<Admin>> for Guest {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Trouble> {
        Self::of(parts, admin)
    }
}

impl Visitor {
    pub(super) fn new(peer: &Peer, principal: Arc<Principal>, secret: String) -> Self {
        Self {
            caller: Caller {
                principal,
                client: peer.address.ip().to_canonical(),
                certificate: peer.channel.certificate(),
            },
            csrf: form_token(&secret),
            secret,
        }
    }

    /// Whether the principal has one of these roles now.
    pub(super) fn has(&self, roles: &[Role]) -> bool {
        self.caller.needs(roles).is_ok()
    }

    /// Refuses a visitor who has none of these roles.
    pub(super) fn needs(&self, roles: &[Role]) -> Result<(), Trouble> {
        self.caller.needs(roles).map_err(Trouble::from)
    }
}

/// The visit that a request belongs to, and whose it is now.
pub(super) fn visitor(
    admin: &Admin,
    peer: &Peer,
    headers: &HeaderMap,
    look: Look,
) -> Option<Visitor> {
    let secret = cookie(headers)?;
    let now = admin.parts.clock.now();
    let key = admin.visits.find(&secret, look, now.tick)?;
    let Some(principal) = admin.parts.principals.load().find(&key) else {
        // The key was removed or changed: should it come back, this visit does not.
        admin.visits.end(&secret);
        return None;
    };
    Some(Visitor::new(peer, principal, secret))
}

impl FromRequestParts<Arc<Admin>> for Visitor {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Trouble> {
        let guest = Guest::of(parts, admin)?;
        let look = match parts.headers.contains_key(REFRESH) {
            true => Look::Watch,
            false => Look::Use,
        };
        visitor(admin, &guest.peer, &parts.headers, look).ok_or_else(|| stranger(parts))
    }
}

/// What somebody who is not signed in is answered.
fn stranger(parts: &Parts) -> Trouble {
    let path = parts.uri.path();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        // From a page that was open for too long: back to it, and no doubt left that nothing happened.
        let page = path.rsplit_once('/').map_or(path, |(page, _)| page);
        return Trouble::SignIn {
            to: own_path(page),
            wrong: Some(
                "You are not signed in any more, and nothing was done. Sign in and do it again.",
            ),
        };
    }
    let to = own_path(path);
    // By a link of another site a browser brings no cookie (`SameSite=Strict`), even to who is signed in. By a page of our
    // own that leads on it does.
    match fetch_site(&parts.headers) {
        Some("cross-site") => Trouble::Onward(to),
        _ => Trouble::SignIn { to, wrong: None },
    }
}

impl FromRequest<Arc<Admin>> for Posted {
    type Rejection = Trouble;

    async fn from_request(request: Request, admin: &Arc<Admin>) -> Result<Self, Trouble> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, admin).await?;
        let fields = Fields::read(Request::from_parts(parts, body), admin).await?;
        if !is_form_token(&visitor.secret, fields.text("csrf")) {
            return Err(Trouble::Foreign);
        }
        Ok(Self { visitor, fields })
    }
}

impl Fields {
    /// The form in a request's body, if it was sent by one of the console's own pages.
    pub(super) async fn read(request: Request, admin: &Arc<Admin>) -> Result<Self, Trouble> {
        if !is_same_origin(&request) {
            return Err(Trouble::Foreign);
        }
        // Nobody may have signed in yet: bounded in bytes and time as whatever the admin API reads.
        let (parts, body) = request.into_parts();
        let body = Body::from(input::bytes(body).await?);
        let request = Request::from_parts(parts, body);
        let Ok(Form(fields)) = Form::<Vec<(String, String)>>::from_request(request, admin).await
        else {
            return Err(Trouble::Form);
        };
        let twice = fields
            .iter()
            .enumerate()
            .any(|(at, (name, _))| fields[..at].iter().any(|(before, _)| before == name));
        if twice {
            Err(Trouble::Form)
        } else {
            Ok(Self(fields))
        }
    }

    /// A field's value; empty if it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(each, _)| each == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Whether a page of this very origin sent it. Every browser that keeps the cookie says so in `Sec-Fetch-Site`; `Origin`
/// is for those that do not, and is `null` where pages say `Referrer-Policy: no-referrer`, as the console's do.
fn is_same_origin(request: &Request) -> bool {
    if let Some(site) = fetch_site(request.headers()) {
        return site == "same-origin";
    }
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return false;
    };
    let host = match request.headers().get(HOST) {
        Some(host) => host.to_str().unwrap_or_default(),
        None => request
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str()),
    };
    let origin = origin.to_str().unwrap_or_default();
    let named = origin
        .split_once("://")
        .map_or("", |(_, authority)| authority);
    !host.is_empty() && named.eq_ignore_ascii_case(host)
}

fn fetch_site(headers: &HeaderMap) -> Option<&str> {
    headers.get(SEC_FETCH_SITE)?.to_str().ok()
}

/// What the console's cookie holds, if there is exactly one.
pub(super) fn cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter();
    let mut found = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value.to_owned());
    match (found.next(), found.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// A path of this console that a page may lead on to; whatever else is asked for becomes the first page.
pub(super) fn own_path(asked: &str) -> String {
    let path = asked.split(['?', '#']).next().unwrap_or_default();
    let pages = ["/approvals", "/sessions", "/policy", "/ledger"];
    let known = pages.iter().any(|start| {
        path.strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let plain = path
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-'));
    match known && plain && !path.contains("//") {
        true => path.to_owned(),
        false => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::HeaderValue;

    #[test]
    fn a_page_leads_on_to_the_console_and_nowhere_else() {
        for (asked, path) in [
            ("/approvals/apr_1", "/approvals/apr_1"),
            ("/sessions?after=x", "/sessions"),
            ("/policy", "/policy"),
            ("/ledger/sessions/ses_1", "/ledger/sessions/ses_1"),
            ("/ledger?resource=user:7", "/ledger"),
            ("/", "/"),
            ("//evil.example/approvals", "/"),
            ("/approvals//evil.example", "/"),
            ("/approvals/\\evil.example", "/"),
            ("/approvalsx", "/"),
            ("https://evil.example/approvals", "/"),
            ("/v1/sessions", "/"),
            ("", "/"),
        ] {
            assert_eq!(own_path(asked), path, "{asked}");
        }
    }

    fn sent(fields: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Body::empty());
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(name, value);
        }
        request
    }

    #[test]
    fn a_form_is_taken_from_its_own_origin_alone() {
        let host = ("host", "localhost:9080");
        for (fields, taken) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (
                &[
                    ("sec-fetch-site", "same-site"),
                    ("origin", "http://localhost:9080"),
                ],
                false,
            ),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "http://localhost:9080")], true),
            (&[("origin", "http://LOCALHOST:9080")], true),
            (&[("origin", "http://localhost:9081")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (
                &[
                    ("origin", "http://localhost:9080"),
                    ("origin", "http://localhost:9080"),
                ],
                false,
            ),
            (&[], false),
        ] {
            let fields: Vec<_> = fields.iter().copied().chain([host]).collect();
            assert_eq!(is_same_origin(&sent(&fields)), taken, "{fields:?}");
        }
        assert!(!is_same_origin(&sent(&[("origin", "null")])));
    }

    #[test]
    fn without_tls_nobody_beyond_this_machine_is_answered() {
        let tls = Channel::Tls { certificate: None };
        for (address, channel, answered) in [
            ("127.0.0.1:1", Channel::Plain, true),
            ("127.8.8.8:1", Channel::Plain, true),
            ("[::1]:1", Channel::Plain, true),
            ("[::ffff:127.0.0.1]:1", Channel::Plain, true),
            ("10.0.0.1:1", Channel::Plain, false),
            ("[::ffff:10.0.0.1]:1", Channel::Plain, false),
            ("[fe80::1]:1", Channel::Plain, false),
            ("10.0.0.1:1", tls, true),
        ] {
            let peer = Peer {
                address: address.parse().unwrap(),
                channel,
                line: None,
                familiar: Default::default(),
            };
            assert_eq!(is_unheard(&peer), answered, "{address}");
        }
    }

    #[test]
    fn the_cookie_is_read_if_there_is_one() {
        let read = |lines: &[&str]| {
            let fields: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            cookie(sent(&fields).headers())
        };
        assert_eq!(read(&["a=b; __Host-toolgate=x"]), Some("x".to_owned()));
        assert_eq!(read(&["a=b", "__Host-toolgate=x"]), Some("x".to_owned()));
        assert_eq!(read(&["__Host-toolgate=x; __Host-toolgate=y"]), None);
        assert_eq!(read(&["toolgate=x; __host-toolgate=x"]), None);
    }
}
