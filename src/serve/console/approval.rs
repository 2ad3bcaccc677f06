//! One approval: all that would run, who asks and what they did before, where it stands, and the form that decides it.
//!
//! The form carries the digest of what is on the page, so that a word counts for that and for nothing else. Approving
//! takes a tick beside the button, which the server asks for too. It is long because it is one page, from top to bottom.

use super::asked::Asked;
use super::body::{Body, Plus, decoded};
use super::door::{Posted, Visitor};
use super::inbox::Place;
use super::page::{Frame, SEES_INBOX, SEES_SESSIONS, Trouble, page, see_other, sees_approval};
use super::sessions::story;
use super::text::{Text, Time, length};
use crate::config::Role;
use crate::policy::approval::{Asked as Wanted, HeldCall, Stage};
use crate::policy::time::{Now, Timestamp};
use crate::serve::admin::Admin;
use crate::serve::admin::approvals::history::{HistoryView, PastCallView, history};
use crate::serve::admin::approvals::view::{
    ApprovalView, CallView, Depth, FieldView, ValueView, VoteView,
};
use crate::serve::admin::approvals::{
    DecisionInput, DecisionWord, ResolveInput, decide as take_word, find_in_projects,
    resolve_unknown, shown,
};
use crate::serve::admin::problem::Refused;
use crate::store::live::approvals::LiveApproval;
use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "console/approval.html")]
struct ApprovalPage {
    frame: Frame,
    item: Asked,
    wrong: Option<String>,
    said: Option<&'static str>,
    session_href: Option<String>,
    /// Where the ledger tells the session's story, for who may read that.
    story: Option<String>,
    request: Option<Request>,
    wish: Option<Wish>,
    history: Vec<Past>,
    history_note: Option<String>,
    standing: Standing,
    votes: Vec<Said>,
    digest: String,
    note: String,
    may_decide: bool,
    may_resolve: bool,
    because: String,
}

/// What would be sent.
#[derive(Debug)]
struct Request {
    method: Text,
    target: Text,
    /// Percent-decoded, where that is another text.
    decoded: Option<Text>,
    tool: String,
    route: String,
    authority: Text,
    grant: String,
    /// As `body`.
    fields: Option<Vec<HeaderField>>,
    /// `None`: not for this visitor's role.
    body: Option<Body>,
}

#[derive(Debug)]
struct HeaderField {
    name: String,
    note: Option<String>,
    value: Text,
}

/// A grant that would be given.
#[derive(Debug)]
struct Wish {
    uses: u32,
    ttl: String,
    reason: Text,
}

/// A call of the session's past.
#[derive(Debug)]
struct Past {
    at: Time,
    method: String,
    target: Text,
    decision: String,
    status: String,
}

/// A person's word.
#[derive(Debug)]
struct Said {
    principal: String,
    said: &'static str,
    at: Time,
    note: Option<Text>,
}

/// Where it stands, in words.
#[derive(Debug, Default)]
struct Standing {
    title: &'static str,
    text: String,
    deciders: String,
    /// Beside the box that must be ticked.
    confirm: String,
    /// On the button.
    approve: String,
}

/// What a form that was not taken held, and why it was not.
#[derive(Debug, Default)]
struct Again {
    wrong: Option<String>,
    note: String,
}

/// `GET /approvals/{id}`
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> Result<Response, Trouble> {
    let mut shown = build(&admin, &visitor, &id, Again::default()).await?;
    shown.said = place.said.as_deref().and_then(|said| match said {
        "approve" => Some("Your approval is taken."),
        "deny" => Some("Your refusal is taken."),
        "resolve" => Some("What you found out is taken."),
        _ => None,
    });
    Ok(page(StatusCode::OK, &shown))
}

/// `POST /approvals/{id}/decision`
pub(super) async fn decide(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let Posted { visitor, fields } = posted;
    let decision = match fields.text("decision") {
        "approve" => DecisionWord::Approve,
        "deny" => DecisionWord::Deny,
        _ => return Err(Trouble::Form),
    };
    let note = fields.text("note").to_owned();
    if decision == DecisionWord::Approve && fields.text("confirm") != "yes" {
        let again = Again {
            wrong: Some("To approve, tick the box that says that you have read it.".to_owned()),
            note,
        };
        let shown = build(&admin, &visitor, &id, again).await?;
        return Ok(page(StatusCode::BAD_REQUEST, &shown));
    }
    let input = DecisionInput {
        decision,
        digest: fields.text("digest").to_owned(),
        note: Some(note.clone()),
    };
    match take_word(&admin, &visitor.caller, &id, input).await {
        Ok(_) => {
            let said = fields.text("decision");
            Ok(see_other(&format!("/approvals/{id}?said={said}")))
        }
        Err(refused) => not_taken(&admin, &visitor, &id, refused, note).await,
    }
}

/// `POST /approvals/{id}/resolve`
pub(super) async fn resolve(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let Posted { visitor, fields } = posted;
    let ran = match fields.text("ran") {
        "yes" => true,
        "no" => false,
        _ => return Err(Trouble::Form),
    };
    let note = fields.text("note").to_owned();
    let input = ResolveInput {
        ran,
        note: note.clone(),
    };
    match resolve_unknown(&admin, &visitor.caller, &id, input).await {
        // Resolved, it is no longer for who only resolves.
        Ok(_) if !visitor.has(&[Role::Approver]) => Ok(see_other("/")),
        Ok(_) => Ok(see_other(&format!("/approvals/{id}?said=resolve"))),
        Err(refused) => not_taken(&admin, &visitor, &id, refused, note).await,
    }
}

/// The page again, with what was wrong; what was written into the form is still there.
async fn not_taken(
    admin: &Admin,
    visitor: &Visitor,
    id: &str,
    refused: Refused,
    note: String,
) -> Result<Response, Trouble> {
    let status = refused.code();
    if status == StatusCode::NOT_FOUND {
        return Err(refused.into());
    }
    let again = Again {
        wrong: Some(format!("Nothing was done: {}.", refused.detail())),
        note,
    };
    let shown = build(admin, visitor, id, again).await?;
    Ok(page(status, &shown))
}

async fn build(
    admin: &Admin,
    visitor: &Visitor,
    id: &str,
    again: Again,
) -> Result<ApprovalPage, Trouble> {
    visitor.needs(SEES_INBOX)?;
    let caller = &visitor.caller;
    let approval = find_in_projects(admin, caller, id)?;
    let approver = visitor.has(&[Role::Approver]);
    let unknown = approval.stage() == Stage::Unknown;
    if !sees_approval(visitor, &approval) {
        visitor.needs(&[Role::Approver])?;
    }
    let depth = if approver { Depth::Whole } else { Depth::Brief };
    let view = shown(admin, caller, &approval, depth);
    let past = match approver {
        true => Some(history(admin, approval.facts.session).await),
        false => None,
    };
    let now = admin.parts.clock.now();
    let (history, history_note) = told(past, now);
    let item = Asked::new(&approval, &view, now);
    let session_href = visitor
        .has(SEES_SESSIONS)
        .then(|| format!("/sessions/{}", view.session));
    Ok(ApprovalPage {
        frame: Frame::new(admin, visitor, "/", now),
        wrong: again.wrong,
        said: None,
        session_href,
        story: story(visitor, &view.session),
        request: request(&approval, &view, depth),
        wish: wish(&approval),
        history,
        history_note,
        standing: Standing::new(&approval, &view, now),
        votes: view.votes.iter().map(|vote| Said::new(vote, now)).collect(),
        note: again.note,
        may_decide: approver && view.you.may_decide,
        may_resolve: unknown && visitor.has(&[Role::Operator]),
        because: sentence(view.you.because.as_deref().unwrap_or_default()),
        digest: view.digest,
        item,
    })
}

fn request(approval: &LiveApproval, view: &ApprovalView, depth: Depth) -> Option<Request> {
    match (&approval.facts.asked, &view.call) {
        (Wanted::Call(call), Some(shown)) => Some(Request::new(call, shown, depth)),
        _ => None,
    }
}

impl Request {
    fn new(call: &HeldCall, view: &CallView, depth: Depth) -> Self {
        let decoded = decoded(&call.target, Plus::Plus);
        let differs = decoded != call.target.as_bytes();
        Self {
            method: Text::line(&view.method),
            target: Text::line(&view.target),
            decoded: differs.then(|| Text::bytes(&decoded)),
            tool: view.tool.clone(),
            route: view.route.clone(),
            // Every request names a host.
            authority: Text::line(match view.authority.as_str() {
                "" => "nobody: a function in the agent’s own process asks, and acts on a yes",
                host => host,
            }),
            grant: match view.grant.as_str() {
                "on_use" => "one made for this call alone".to_owned(),
                id => format!("stored grant {id}, of which one call is reserved"),
            },
            fields: view
                .fields
                .as_ref()
                .map(|fields| fields.iter().map(HeaderField::new).collect()),
            body: (depth == Depth::Whole).then(|| Body::new(call)),
        }
    }
}

impl HeaderField {
    fn new(field: &FieldView) -> Self {
        let (note, value) = match &field.value {
            ValueView::Value(text) => (None, Text::line(text)),
            ValueView::ValueHex(hex) => (Some("not text; as hex:".to_owned()), Text::line(hex)),
            ValueView::Masked(digest) => (
                Some(format!(
                    "masked by the tool’s policy: {} bytes, SHA-256 {}",
                    digest.bytes, digest.sha256
                )),
                Text::default(),
            ),
        };
        Self {
            name: field.name.clone(),
            note,
            value,
        }
    }
}

fn wish(approval: &LiveApproval) -> Option<Wish> {
    let Wanted::Grant(grant) = &approval.facts.asked else {
        return None;
    };
    Some(Wish {
        uses: grant.uses,
        ttl: length(grant.ttl),
        reason: Text::lines(&grant.why),
    })
}

fn told(past: Option<Result<HistoryView, Refused>>, now: Now) -> (Vec<Past>, Option<String>) {
    match past {
        None => (Vec::new(), Some("Not shown to your role.".to_owned())),
        Some(Err(_)) => (
            Vec::new(),
            Some("The ledger can’t be read now; load the page again.".to_owned()),
        ),
        Some(Ok(view)) => {
            let calls: Vec<Past> = view
                .items
                .iter()
                .rev()
                .map(|call| Past::new(call, now.wall))
                .collect();
            let note = match (calls.is_empty(), view.complete) {
                (true, true) => Some("Nothing: this is its first call.".to_owned()),
                (_, false) => Some(
                    "Only what stands at the ledger’s end was looked at; there may be more."
                        .to_owned(),
                ),
                (false, true) => None,
            };
            (calls, note)
        }
    }
}

impl Past {
    fn new(call: &PastCallView, now: Timestamp) -> Self {
        Self {
            at: Time::parse(&call.time, now),
            method: call.method.clone(),
            target: Text::line(&call.target),
            decision: match &call.reason {
                Some(reason) => format!("{} ({reason})", call.decision),
                None => call.decision.clone(),
            },
            status: match (call.status, &call.fault) {
                (Some(status), Some(fault)) => format!("{status}, {fault}"),
                (Some(status), None) => status.to_string(),
                (None, Some(fault)) => fault.clone(),
                (None, None) => "not known".to_owned(),
            },
        }
    }
}

impl Said {
    fn new(vote: &VoteView, now: Now) -> Self {
        Self {
            principal: vote.principal.clone(),
            said: match vote.decision {
                "approve" => "approved",
                _ => "denied",
            },
            at: Time::parse(&vote.at, now.wall),
            note: vote.note.as_deref().map(Text::lines),
        }
    }
}

impl Standing {
    fn new(approval: &LiveApproval, view: &ApprovalView, now: Now) -> Self {
        let stage = Stage::parse(view.state).unwrap_or(Stage::Pending);
        let grant = view.grant.is_some();
        let ended = ended(approval, now);
        let (title, text) = match stage {
            Stage::Pending => ("Waits for a decision", waits(view)),
            Stage::Approved if grant => ("Approved", format!("{ended}The grant is given as soon as the gate can.")),
            Stage::Approved => ("Approved", format!("{ended}The agent’s next try runs it, once.")),
            Stage::Denied => ("Denied", format!("{ended}It did not run.")),
            Stage::Expired => ("Expired", format!("{ended}It did not run.")),
            Stage::Withdrawn => ("Withdrawn", format!("{ended}It did not run.")),
            Stage::Executing => ("Runs now", "Its one run has begun; the outcome is not known yet.".to_owned()),
            Stage::Executed => ("Done", format!("{ended}{}", outcome(view))),
            Stage::Unknown => (
                "Outcome unknown",
                "Its one run began, and nobody can say how it ended. It is never run again by itself.".to_owned(),
            ),
        };
        let more = usize::try_from(view.quorum)
            .unwrap_or(usize::MAX)
            .saturating_sub(view.agreeing + 1);
        let (what, act) = match grant {
            true => (
                "I have read what is asked. The grant may be given as shown",
                "Approve the grant",
            ),
            false => (
                "I have read the whole request. It may run once, exactly as shown",
                "Approve",
            ),
        };
        let (confirm, approve) = match more {
            0 => (format!("{what}."), act.to_owned()),
            1 => (
                format!("{what}, once one more person agrees."),
                format!("{act} (1 more must agree)"),
            ),
            _ => (
                format!("{what}, once {more} more people agree."),
                format!("{act} ({more} more must agree)"),
            ),
        };
        Self {
            title,
            text,
            deciders: deciders(view),
            confirm,
            approve,
        }
    }
}

fn waits(view: &ApprovalView) -> String {
    let done = if view.grant.is_some() { "given" } else { "run" };
    match view.quorum {
        1 => format!("One approval is enough for it to be {done}; one refusal ends it."),
        many => format!("{many} people must agree before it is {done}; one refusal ends it."),
    }
}

/// Who ended it, when and why. A person's own note stands with their word.
fn ended(approval: &LiveApproval, now: Now) -> String {
    let Some(ending) = approval.ending() else {
        return String::new();
    };
    let at = Time::new(ending.at, now.wall).short;
    match (&ending.by, &ending.note) {
        (Some(by), _) => format!("By {by}, at {at}. "),
        (None, Some(note)) => format!("At {at}: {} ", sentence(note)),
        (None, None) => format!("At {at}. "),
    }
}

fn outcome(view: &ApprovalView) -> String {
    match &view.outcome {
        Some(outcome) => match (&outcome.grant, outcome.status) {
            (Some(grant), _) => format!("It was given: {grant}."),
            (None, Some(status)) => format!("It ran, once; the backend answered {status}."),
            (None, None) => "It ran, once.".to_owned(),
        },
        None => "It ran, once.".to_owned(),
    }
}

fn deciders(view: &ApprovalView) -> String {
    match &view.approvers {
        Some(groups) => format!(
            "members of {}; not {}, who minted the session",
            groups.join(" or "),
            view.minted_by
        ),
        None => "nobody any more: the policy in force has no such chain".to_owned(),
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let Some(first) = characters.next() else {
        return String::new();
    };
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), characters.as_str())
}
