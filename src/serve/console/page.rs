//! Pages as answers: rendered, with what every one of them says to the browser; and the pages that say why there is no
//! other.
//!
//! Nothing of the console runs, loads, frames, posts or refers beyond its own origin, whatever a text in it holds.

use super::door::Visitor;
use crate::config::Role;
use crate::policy::approval::Stage;
use crate::policy::time::Now;
use crate::serve::admin::Admin;
use crate::serve::admin::problem::Refused;
use crate::store::live::approvals::LiveApproval;
use askama::Template;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use std::collections::BTreeMap;

/// What each page of a visitor stands in.
#[derive(Debug)]
pub(super) struct Frame {
    pub name: String,
    pub csrf: String,
    pub now_ms: i64,
    /// How many approvals wait, if the visitor decides any.
    pub waiting: usize,
    pub links: Vec<Link>,
    pub banners: Vec<Banner>,
    /// Whether the page hears of news.
    pub live: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    pub href: &'static str,
    pub name: &'static str,
    pub current: bool,
}

/// What every page says on top.
#[derive(Debug)]
pub(super) struct Banner {
    /// `bad`, `warn` or `good`.
    pub tone: &'static str,
    pub text: String,
}

/// Roles that see sessions, as in the admin API.
pub(super) const SEES_SESSIONS: &[Role] = &[Role::Issuer, Role::Operator, Role::Auditor];
/// Roles that see something of approvals: operators those whose outcome nobody knows.
pub(super) const SEES_INBOX: &[Role] = &[Role::Approver, Role::Operator];
/// Roles that read the ledger.
pub(super) const SEES_LEDGER: &[Role] = &[Role::Auditor];
/// Beyond this the number of those that wait is not counted on.
const WAITING_MAX: usize = 1000;

/// Whether a visitor of the inbox sees this approval: operators find out what became of runs, the rest is the approvers'.
pub(super) fn sees_approval(visitor: &Visitor, approval: &LiveApproval) -> bool {
    visitor.has(&[Role::Approver]) || approval.stage() == Stage::Unknown
}

impl Frame {
    pub(super) fn new(admin: &Admin, visitor: &Visitor, current: &str, now: Now) -> Self {
        let all: [(&str, &str, &[Role]); 4] = [
            ("/", "Inbox", SEES_INBOX),
            ("/sessions", "Sessions", SEES_SESSIONS),
            ("/policy", "Policy", &[Role::Operator]),
            ("/ledger", "Ledger", SEES_LEDGER),
        ];
        let seen = all.into_iter().filter(|(_, _, roles)| visitor.has(roles));
        Self {
            name: visitor.caller.principal.name.to_string(),
            csrf: visitor.csrf.clone(),
            now_ms: now.wall.micros() / 1000,
            waiting: waiting(admin, visitor),
            links: seen
                .map(|(href, name, _)| Link {
                    href,
                    name,
                    current: href == current,
                })
                .collect(),
            banners: banners(admin, visitor),
            live: visitor.has(SEES_INBOX),
        }
    }
}

/// What everybody must know, and what operators must see to, wherever they are.
fn banners(admin: &Admin, visitor: &Visitor) -> Vec<Banner> {
    let mut banners = shadowed(admin, visitor);
    if visitor.has(&[Role::Operator]) {
        banners.extend(undelivered(admin, visitor));
    }
    banners
}

/// Which of the visitor's projects do not enforce what their policy says.
fn shadowed(admin: &Admin, visitor: &Visitor) -> Vec<Banner> {
    let mut names: Vec<_> = visitor.caller.principal.projects.iter().collect();
    names.sort();
    let banner = |project| {
        let ruleset = admin.parts.gate.ruleset(project)?;
        let routes = &ruleset.policy.routes;
        let in_shadow = routes.iter().filter(|route| route.shadow).count();
        let what = match (in_shadow, routes.len()) {
            (0, _) => return None,
            (some, all) if some == all => "is".to_owned(),
            (some, all) => format!("has {some} of {all} routes"),
        };
        Some(Banner {
            tone: "warn",
            text: format!(
                "Project {project} {what} in shadow: what the policy denies there is recorded and let through."
            ),
        })
    };
    names.into_iter().filter_map(banner).collect()
}

fn undelivered(admin: &Admin, visitor: &Visitor) -> Vec<Banner> {
    let own = &visitor.caller.principal.projects;
    // By target: how many, and why the first.
    let mut targets: BTreeMap<String, (usize, Box<str>)> = BTreeMap::new();
    for letter in admin.parts.notifier.dead(own) {
        let name = format!("{} of {}", letter.address.target, letter.address.project);
        targets.entry(name).or_insert((0, letter.why)).0 += 1;
    }
    let banner = |(name, (count, why)): (String, (usize, Box<str>))| {
        let messages = match count {
            1 => "One message".to_owned(),
            _ => format!("{count} messages"),
        };
        Banner {
            tone: "warn",
            text: format!(
                "{messages} to the webhook {name} could not be delivered and will not be tried again: {why}."
            ),
        }
    };
    targets.into_iter().map(banner).collect()
}

fn waiting(admin: &Admin, visitor: &Visitor) -> usize {
    if !visitor.has(&[Role::Approver]) {
        return 0;
    }
    let own = &visitor.caller.principal.projects;
    let sessions = &admin.parts.sessions;
    sessions
        .approvals(own, &[Stage::Pending], None, WAITING_MAX)
        .len()
}

/// A page.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => html(status, text),
        Err(error) => {
            tracing::error!(%error, "a page of the console could not be rendered");
            html(StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
    }
}

/// On to another page of the console, which is then asked for anew.
pub(super) fn see_other(path: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, location);
    response
}

fn html(status: StatusCode, text: String) -> Response {
    asset(status, "text/html; charset=utf-8", text)
}

/// Whatever the console answers with a body.
pub(super) fn asset(status: StatusCode, kind: &'static str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What every answer of the console says to the browser.
pub(super) async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Why there is no page, or another than was asked for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody is signed in.
    SignIn {
        to: String,
        wrong: Option<&'static str>,
    },
    /// It must be asked for again by the console's own page.
    Onward(String),
    /// Not encrypted, and from another machine.
    Plain,
    /// Asked under another name.
    Host,
    /// Not sent by the console's own page.
    Foreign,
    /// Not a form as the console's pages send it.
    Form,
    /// Too many failed attempts to sign in.
    Attempts,
    /// What the admin API would have answered.
    Refused(Box<Refused>),
    /// A fault of the gate.
    Internal,
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct SignInPage<'a> {
    to: &'a str,
    wrong: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "console/trouble.html")]
struct TroublePage<'a> {
    title: &'a str,
    text: &'a str,
    again: Option<&'a str>,
    home: bool,
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let trouble = |status, title, text: &str| {
            let page = TroublePage {
                title,
                text,
                again: None,
                home: true,
            };
            super::page::page(status, &page)
        };
        match self {
            Trouble::SignIn { to, wrong } => {
                let status = match wrong {
                    Some(_) => StatusCode::FORBIDDEN,
                    None => StatusCode::OK,
                };
                page(status, &SignInPage { to: &to, wrong })
            }
            Trouble::Onward(to) => page(
                StatusCode::OK,
                &TroublePage {
                    title: "One moment",
                    text: "You come from another site, and your browser keeps to itself who you are until you are here.",
                    again: Some(&to),
                    home: false,
                },
            ),
            Trouble::Plain => trouble(
                StatusCode::FORBIDDEN,
                "Not over an unencrypted connection",
                "Without TLS the console answers on a loopback address only: whoever listens on the way could sign in as you. Give `listeners.admin.tls` in the server file a certificate, or come through an SSH tunnel.",
            ),
            Trouble::Host => trouble(
                StatusCode::MISDIRECTED_REQUEST,
                "Not under this name",
                "This `Host` is not one that the gate answers to. Whoever keeps the server file can add it to `listeners.admin.hosts`.",
            ),
            Trouble::Foreign => trouble(
                StatusCode::FORBIDDEN,
                "Nothing was done",
                "What was sent did not come from a page of this console that is yours. If you did mean it, load the page again and repeat it there.",
            ),
            Trouble::Form => trouble(
                StatusCode::BAD_REQUEST,
                "Nothing was done",
                "What was sent is not what a form of this console sends, or is too long.",
            ),
            Trouble::Attempts => trouble(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many attempts",
                "From your address too many keys were tried that are none. Wait five minutes.",
            ),
            Trouble::Refused(refused) => {
                let title = match refused.code() {
                    StatusCode::NOT_FOUND => "There is none",
                    StatusCode::FORBIDDEN => "Not with your role",
                    _ => "Nothing was done",
                };
                trouble(refused.code(), title, refused.detail())
            }
            Trouble::Internal => trouble(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong",
                "The gate has a fault.",
            ),
        }
    }
}
