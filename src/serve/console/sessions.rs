//! Sessions: which there are, what one of them holds and has left, and for operators the way to stop it and to let it go on.

use super::door::{Posted, Visitor};
use super::inbox::Place;
use super::page::{Frame, SEES_LEDGER, SEES_SESSIONS, Trouble, page, see_other};
use super::text::{Deadline, Text, Time, short};
use crate::config::Role;
use crate::policy::id::SessionId;
use crate::policy::time::Now;
use crate::serve::admin::Admin;
use crate::serve::admin::sessions::{Step, step_in};
use crate::serve::admin::view::SessionView;
use crate::store::live::LiveSession;
use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "console/sessions.html")]
struct SessionsPage {
    frame: Frame,
    items: Vec<Item>,
    first: Option<&'static str>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "console/session.html")]
struct SessionPage {
    frame: Frame,
    wrong: Option<String>,
    said: Option<&'static str>,
    item: Item,
    run: Option<Text>,
    parent: Option<String>,
    minted: Time,
    minted_by: String,
    expires: Time,
    attributes: Vec<Attribute>,
    grants: Vec<Grant>,
    limits: Vec<Limit>,
    may_step_in: bool,
    reason: String,
    /// Where the ledger tells its story, for who may read that.
    story: Option<String>,
}

/// A session, shortly.
#[derive(Debug)]
struct Item {
    id: String,
    short: String,
    agent: String,
    project: String,
    state: &'static str,
    tone: &'static str,
    is_quarantined: bool,
    intent: Option<Text>,
    deadline: Deadline,
    quarantine: Option<Text>,
    quarantined: Option<Time>,
}

#[derive(Debug)]
struct Attribute {
    name: String,
    value: Text,
}

#[derive(Debug)]
struct Grant {
    scope: String,
    resource: Option<Text>,
    state: &'static str,
    uses: u32,
    uses_left: u32,
    reason: Text,
}

#[derive(Debug)]
struct Limit {
    id: String,
    kind: &'static str,
    quota: String,
    remaining: String,
    window: String,
}

/// Items of one page.
const PAGE_ITEMS: usize = 100;

/// `GET /sessions`
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    Query(place): Query<Place>,
) -> Result<Response, Trouble> {
    visitor.needs(SEES_SESSIONS)?;
    let now = admin.parts.clock.now();
    let after: Option<SessionId> = place.after.as_deref().and_then(|id| id.parse().ok());
    let projects = &visitor.caller.principal.projects;
    // One more than a page has tells whether there is a next one.
    let mut found = admin.parts.sessions.list(projects, after, PAGE_ITEMS + 1);
    let more = found.len() > PAGE_ITEMS;
    found.truncate(PAGE_ITEMS);
    let next = found.last().filter(|_| more);
    let sessions = SessionsPage {
        frame: Frame::new(&admin, &visitor, "/sessions", now),
        next: next.map(|session| format!("/sessions?after={}", session.facts.id)),
        first: after.is_some().then_some("/sessions"),
        items: found
            .iter()
            .map(|session| Item::new(session, &SessionView::brief(session, now), now))
            .collect(),
    };
    Ok(page(StatusCode::OK, &sessions))
}

/// `GET /sessions/{id}`
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> Result<Response, Trouble> {
    let mut shown = build(&admin, &visitor, &id)?;
    shown.said = place.said.as_deref().and_then(|said| match said {
        "quarantine" => Some("It is in quarantine: nothing of it passes."),
        "release" => Some("It is released."),
        _ => None,
    });
    Ok(page(StatusCode::OK, &shown))
}

/// `POST /sessions/{id}/quarantine`
pub(super) async fn quarantine(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Trouble> {
    step(&admin, &id, &posted, Step::Quarantine).await
}

/// `POST /sessions/{id}/release`
pub(super) async fn release(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Trouble> {
    step(&admin, &id, &posted, Step::Release).await
}

async fn step(admin: &Admin, id: &str, posted: &Posted, step: Step) -> Result<Response, Trouble> {
    let reason = posted.fields.text("reason").to_owned();
    let visitor = &posted.visitor;
    match step_in(admin, &visitor.caller, id, step, reason.clone()).await {
        Ok(_) => Ok(see_other(&format!("/sessions/{id}?said={}", step.as_str()))),
        Err(refused) => {
            // Who may not see it, or may not do it, is told so on a page of its own.
            let Ok(mut shown) = build(admin, visitor, id) else {
                return Err(refused.into());
            };
            shown.wrong = Some(format!("Nothing was done: {}.", refused.detail()));
            shown.reason = reason;
            Ok(page(refused.code(), &shown))
        }
    }
}

fn build(admin: &Admin, visitor: &Visitor, id: &str) -> Result<SessionPage, Trouble> {
    visitor.needs(SEES_SESSIONS)?;
    let session = visitor.caller.session(admin, id)?;
    let now = admin.parts.clock.now();
    let facts = &session.facts;
    let ruleset = admin.parts.gate.ruleset(&facts.project);
    let policy = ruleset.as_deref().map(|ruleset| &ruleset.policy);
    let view = SessionView::full(&session, &[], policy, now);
    let attribute = |(name, value): (&String, &String)| Attribute {
        name: name.clone(),
        value: Text::line(value),
    };
    Ok(SessionPage {
        frame: Frame::new(admin, visitor, "/sessions", now),
        wrong: None,
        said: None,
        item: Item::new(&session, &view, now),
        run: view.run.as_deref().map(Text::line),
        parent: view.parent.clone(),
        minted: Time::new(facts.minted_at, now.wall),
        minted_by: view.minted_by.clone(),
        expires: Time::new(facts.expires_at, now.wall),
        attributes: view.attributes.iter().map(attribute).collect(),
        grants: grants(&view),
        limits: limits(&view),
        may_step_in: visitor.has(&[Role::Operator]) && view.state != "ended",
        reason: String::new(),
        story: story(visitor, id),
    })
}

/// Where the ledger tells a session's story, for who may read that.
pub(super) fn story(visitor: &Visitor, id: &str) -> Option<String> {
    visitor
        .has(SEES_LEDGER)
        .then(|| format!("/ledger/sessions/{id}"))
}

impl Item {
    fn new(session: &LiveSession, view: &SessionView, now: Now) -> Self {
        Self {
            id: view.id.clone(),
            short: short(&view.id),
            agent: view.agent.clone(),
            project: view.project.clone(),
            state: view.state,
            tone: match view.state {
                "live" => "good",
                "quarantined" => "warn",
                _ => "",
            },
            is_quarantined: view.state == "quarantined",
            intent: view.intent.as_deref().map(Text::lines),
            deadline: Deadline::new(session.facts.ends, now),
            quarantine: view.quarantine_reason.as_deref().map(Text::line),
            quarantined: session
                .quarantined_since()
                .map(|since| Time::new(since, now.wall)),
        }
    }
}

fn grants(view: &SessionView) -> Vec<Grant> {
    let grants = view.grants.iter().flatten();
    grants
        .map(|grant| Grant {
            scope: grant.scope.clone(),
            resource: grant.resource.as_deref().map(Text::line),
            state: grant.state,
            uses: grant.uses,
            uses_left: grant.uses_left,
            reason: Text::line(&grant.reason),
        })
        .collect()
}

fn limits(view: &SessionView) -> Vec<Limit> {
    let limits = view.limits.iter().flatten();
    limits
        .map(|limit| Limit {
            id: limit.id.clone(),
            kind: limit.kind,
            quota: limit.quota.to_string(),
            remaining: limit.remaining.to_string(),
            window: super::text::length(std::time::Duration::from_secs(limit.window_seconds)),
        })
        .collect()
}
