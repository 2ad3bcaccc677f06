//! The inbox: what waits, oldest first; and all approvals that are kept.

use super::asked::Asked;
use super::door::Visitor;
use super::page::{Frame, SEES_INBOX, Trouble, page, see_other};
use crate::config::Role;
use crate::policy::approval::Stage;
use crate::policy::id::ApprovalId;
use crate::policy::time::Now;
use crate::serve::admin::Admin;
use crate::serve::admin::approvals::shown;
use crate::serve::admin::approvals::view::Depth;
use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "console/inbox.html")]
struct InboxPage {
    frame: Frame,
    heading: &'static str,
    all: bool,
    said: Option<&'static str>,
    items: Vec<Asked>,
    unknown: Vec<Asked>,
    first: Option<&'static str>,
    next: Option<String>,
}

/// Items of one page.
const PAGE_ITEMS: usize = 50;
/// Most unknown outcomes that the inbox shows; the rest follow as they are resolved.
const UNKNOWN_MAX: usize = 50;

/// Where a page begins, and what has just been done.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    pub after: Option<String>,
    pub said: Option<String>,
}

/// `GET /`
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    Query(place): Query<Place>,
) -> Result<Response, Trouble> {
    if !visitor.has(SEES_INBOX) {
        return Ok(see_other("/sessions"));
    }
    Ok(list(&admin, &visitor, &place, false))
}

/// `GET /approvals`
pub(super) async fn all(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    Query(place): Query<Place>,
) -> Result<Response, Trouble> {
    visitor.needs(&[Role::Approver])?;
    Ok(list(&admin, &visitor, &place, true))
}

fn list(admin: &Admin, visitor: &Visitor, place: &Place, all: bool) -> Response {
    let now = admin.parts.clock.now();
    let (path, stages) = match all {
        true => ("/approvals", &[][..]),
        false => ("/", &[Stage::Pending][..]),
    };
    let after = place.after.as_deref().and_then(|id| id.parse().ok());
    // One more than a page has tells whether there is a next one.
    let mut items = match visitor.has(&[Role::Approver]) {
        true => found(admin, visitor, stages, after, PAGE_ITEMS + 1, now),
        false => Vec::new(),
    };
    let more = items.len() > PAGE_ITEMS;
    items.truncate(PAGE_ITEMS);
    let unknown = match all {
        true => Vec::new(),
        false => found(admin, visitor, &[Stage::Unknown], None, UNKNOWN_MAX, now),
    };
    let next = items.last().filter(|_| more);
    let inbox = InboxPage {
        frame: Frame::new(admin, visitor, path, now),
        heading: if all { "All approvals" } else { "Inbox" },
        all,
        said: None,
        next: next.map(|item| format!("{path}?after={}", item.id)),
        first: after.is_some().then_some(path),
        items,
        unknown,
    };
    page(StatusCode::OK, &inbox)
}

fn found(
    admin: &Admin,
    visitor: &Visitor,
    stages: &[Stage],
    after: Option<ApprovalId>,
    limit: usize,
    now: Now,
) -> Vec<Asked> {
    let caller = &visitor.caller;
    let sessions = &admin.parts.sessions;
    let found = sessions.approvals(&caller.principal.projects, stages, after, limit);
    found
        .iter()
        .map(|approval| {
            let view = shown(admin, caller, approval, Depth::Brief);
            Asked::new(approval, &view, now)
        })
        .collect()
}
