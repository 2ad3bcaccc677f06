//! Approvals: shown to approvers of their projects, decided by them, resolved by operators.
//!
//! [`decide`] is the one door for a person's word: the API, the console and, through the API, the command line come by it.
//! A word counts for exactly what was shown (its digest), from a member of the chain's groups who did not mint the
//! session. It refuses to run anything: what was approved waits for the agent's retry.

pub(in crate::serve) mod history;
pub(in crate::serve) mod view;

use super::Admin;
use super::caller::{Caller, Id};
use super::input;
use super::problem::{ProblemDocument, Refused, json};
use super::view::List;
use crate::config::Role;
use crate::ledger::without_tokens;
use crate::policy::approval::{
    Approvers, Chain, Facts, NOTE_BYTES_MAX, RequestDigest, Stage, Word,
};
use crate::policy::decision::Reason;
use crate::policy::id::ApprovalId;
use crate::policy::name::{PrincipalName, ProjectName};
use crate::store::live::LiveSession;
use crate::store::live::approvals::{Ballot, LiveApproval, VoteError};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use utoipa::ToSchema;
use view::{ApprovalView, Depth, YouView};

/// A person's word on an approval.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::serve) struct DecisionInput {
    pub decision: DecisionWord,
    /// The approval's `digest` as it was shown: 64 lower-case hex digits.
    pub digest: String,
    /// Why; the agent hears it and it stays in the ledger.
    pub note: Option<String>,
}

/// May it run?
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::serve) enum DecisionWord {
    Approve,
    Deny,
}

/// What an operator found out about a run whose outcome is unknown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::serve) struct ResolveInput {
    /// Whether it ran. If not, it is approved again and may run, once.
    pub ran: bool,
    /// How you know; stays in the ledger.
    pub note: String,
}

/// Which approvals of which projects are asked for, by what parts.
#[derive(Debug)]
pub(in crate::serve) struct Wanted {
    /// Empty: at any.
    pub stages: Vec<Stage>,
    /// `None`: of all of the caller's.
    pub project: Option<ProjectName>,
    pub after: Option<ApprovalId>,
    pub limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWanted {
    state: Option<String>,
    project: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

/// List approvals of your projects, oldest first, without header fields and bodies. Needs the role approver.
#[utoipa::path(get, path = "/v1/approvals", params(
    ("state" = Option<String>, Query, description = "Only those that are `pending`, `approved`, ...; several are separated by commas."),
    ("project" = Option<String>, Query, description = "Only those of this project."),
    ("limit" = Option<usize>, Query, description = "Most items, 1 to 1000; 100 unless given."),
    ("after" = Option<String>, Query, description = "`next` of the page before."),
), responses((status = 200, body = List<ApprovalView>), (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Approver])?;
    let wanted = wanted(request.uri())?;
    Ok(json(StatusCode::OK, &inbox(&admin, &caller, &wanted)))
}

/// Show what a person is asked, whole: everything that would run. Needs the role approver.
#[utoipa::path(get, path = "/v1/approvals/{id}", params(("id" = String, Path)),
    responses((status = 200, body = ApprovalView), (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, Refused> {
    let approval = find(&admin, &caller, &id)?;
    let view = shown(&admin, &caller, &approval, Depth::Whole);
    Ok(json(StatusCode::OK, &view))
}

/// Approve or deny exactly what was shown. One deny ends it; the same word twice is one. Needs the role approver, in one
/// of the chain's groups; who minted the session can't.
#[utoipa::path(post, path = "/v1/approvals/{id}/decision", params(("id" = String, Path)), request_body = DecisionInput, responses(
    (status = 200, description = "The word is taken.", body = ApprovalView),
    (status = 403, description = "Your word does not count here.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json"),
    (status = 409, description = "Late, or another digest than what is asked.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn decision(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
    request: Request,
) -> Result<Response, Refused> {
    // Before the body is read: a stranger's is not looked at.
    find(&admin, &caller, &id)?;
    let input: DecisionInput = input::read(request).await?;
    let approval = decide(&admin, &caller, &id, input).await?;
    let view = shown(&admin, &caller, &approval, Depth::Whole);
    Ok(json(StatusCode::OK, &view))
}

/// Say how a run ended whose outcome is unknown. Needs the role operator.
#[utoipa::path(post, path = "/v1/approvals/{id}/resolve", params(("id" = String, Path)), request_body = ResolveInput, responses(
    (status = 200, description = "Resolved; header fields and body are left out.", body = ApprovalView),
    (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json"),
    (status = 409, description = "Its outcome is not unknown.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn resolve(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Operator])?;
    find_in_projects(&admin, &caller, &id)?;
    let input: ResolveInput = input::read(request).await?;
    let approval = resolve_unknown(&admin, &caller, &id, input).await?;
    let view = shown(&admin, &caller, &approval, Depth::Brief);
    Ok(json(StatusCode::OK, &view))
}

/// A page of approvals of the caller's projects, oldest first.
pub(in crate::serve) fn inbox(
    admin: &Admin,
    caller: &Caller,
    wanted: &Wanted,
) -> List<ApprovalView> {
    let own = &caller.principal.projects;
    let projects: Vec<ProjectName> = match &wanted.project {
        // Another's has no approvals, as far as the caller can tell.
        Some(project) if caller.sees(project) => vec![project.clone()],
        Some(_) => Vec::new(),
        None => own.clone(),
    };
    // One more than asked for tells whether there is a next page.
    let mut found =
        admin
            .parts
            .sessions
            .approvals(&projects, &wanted.stages, wanted.after, wanted.limit + 1);
    let more = found.len() > wanted.limit;
    found.truncate(wanted.limit);
    let next = found.last().filter(|_| more);
    List {
        next: next.map(|approval| approval.facts.id.to_string()),
        items: found
            .iter()
            .map(|approval| shown(admin, caller, approval, Depth::Brief))
            .collect(),
    }
}

/// What of this session people were asked, oldest first.
pub(in crate::serve) fn of_session(admin: &Admin, session: &LiveSession) -> Vec<Arc<LiveApproval>> {
    let project = std::slice::from_ref(&session.facts.project);
    let mut found = admin
        .parts
        .sessions
        .approvals(project, &[], None, usize::MAX);
    found.retain(|approval| approval.facts.session == session.facts.id);
    found
}

/// The approval of this id, for an approver of its project. Another project's answers as an unknown one does.
pub(in crate::serve) fn find(
    admin: &Admin,
    caller: &Caller,
    id: &str,
) -> Result<Arc<LiveApproval>, Refused> {
    caller.needs(&[Role::Approver])?;
    find_in_projects(admin, caller, id)
}

/// The approval of this id in one of the caller's projects, whatever its roles.
pub(in crate::serve) fn find_in_projects(
    admin: &Admin,
    caller: &Caller,
    id: &str,
) -> Result<Arc<LiveApproval>, Refused> {
    let unknown = || {
        Refused::not_found(
            "no approval of your projects has this id, or it ended a while ago; GET /v1/approvals lists them",
        )
    };
    let id: ApprovalId = id.parse().map_err(|_| unknown())?;
    let approval = admin.parts.sessions.approval(id).ok_or_else(unknown)?;
    if caller.sees(&approval.facts.project) {
        Ok(approval)
    } else {
        Err(unknown())
    }
}

/// As the caller is shown it.
pub(in crate::serve) fn shown(
    admin: &Admin,
    caller: &Caller,
    approval: &LiveApproval,
    depth: Depth,
) -> ApprovalView {
    let ruleset = admin.parts.gate.ruleset(&approval.facts.project);
    let policy = ruleset.as_deref().map(|ruleset| &ruleset.policy);
    let chain = policy.and_then(|policy| policy.chain_named(&approval.facts.chain));
    let approvers = admin.parts.gate.approvers();
    let agreeing = chain.map_or(0, |chain| {
        approvers.agreeing(&approval.votes(), &approval.facts, chain)
    });
    let against = against(&caller.principal.name, approval, chain, &approvers);
    let you = YouView {
        may_decide: against.is_none(),
        because: against,
    };
    ApprovalView::new(approval, policy, agreeing, you, depth)
}

/// What stands against this principal's deciding it now, in words to them.
fn against(
    principal: &PrincipalName,
    approval: &LiveApproval,
    chain: Option<&Chain>,
    approvers: &Approvers,
) -> Option<String> {
    let facts = &approval.facts;
    let stage = approval.stage();
    if stage != Stage::Pending {
        return Some(late(approval, stage));
    }
    let Some(chain) = chain else {
        return Some(chain_gone(facts));
    };
    if *principal == facts.minted_by {
        return Some(minter());
    }
    if !approvers.may(principal, &facts.project, chain) {
        return Some(not_approver(chain));
    }
    let votes = approval.votes();
    let said = votes.iter().find(|vote| vote.principal == *principal);
    said.map(|vote| format!("you have said {} already", vote.word.as_str()))
}

/// Takes a person's word on exactly what was shown to them. The same word of the same person twice is one.
///
/// # Errors
/// [`Refused`]: the word changed nothing. 404 outside the caller's projects, 403 where their word does not count, 409
/// where it comes late or what was shown is not what is asked.
pub(in crate::serve) async fn decide(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    input: DecisionInput,
) -> Result<Arc<LiveApproval>, Refused> {
    let approval = find(admin, caller, id)?;
    let facts = &approval.facts;
    // Whatever else it is, it is not what was shown.
    let digest = RequestDigest::parse(&input.digest).ok_or_else(|| Refused::conflict(CHANGED))?;
    let note = note(input.note.as_deref())?;
    let word = match input.decision {
        DecisionWord::Approve => Word::Approve,
        DecisionWord::Deny => Word::Deny,
    };
    let ruleset = admin.parts.gate.ruleset(&facts.project);
    let chain = ruleset
        .as_deref()
        .and_then(|ruleset| ruleset.policy.chain_named(&facts.chain))
        .ok_or_else(|| Refused::conflict(chain_gone(facts)))?;
    let principal = &caller.principal.name;
    let ballot = Ballot {
        principal,
        word,
        digest,
        note: note.as_deref(),
    };
    let now = admin.parts.clock.now();
    let approvers = admin.parts.gate.approvers();
    let taken = admin
        .parts
        .sessions
        .vote(&approval, ballot, chain, &approvers, now)
        .await;
    let stage = taken.map_err(|why| not_taken(&why, &approval, chain))?;
    // Beside the record of the word itself: what was called, from where.
    let call = format!("POST /v1/approvals/{id}/decision: {}", word.as_str());
    admin.record_call(caller, &call).await;
    tracing::info!(approval = %facts.id, %principal, word = word.as_str(), stage = stage.as_str(), "a word on an approval");
    // A grant is given at once, so that the agent's next call has it. Should that fail, whoever asks again tries again.
    admin.parts.gate.fulfil(&approval).await;
    Ok(approval)
}

/// Ends an unknown run by what an operator found out.
///
/// # Errors
/// [`Refused`]: nothing changed.
pub(in crate::serve) async fn resolve_unknown(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    input: ResolveInput,
) -> Result<Arc<LiveApproval>, Refused> {
    caller.needs(&[Role::Operator])?;
    let approval = find_in_projects(admin, caller, id)?;
    let note = note(Some(&input.note))?.ok_or_else(|| {
        Refused::invalid("`note`: say how you know whether it ran; it stays in the ledger")
    })?;
    let now = admin.parts.clock.now();
    let principal = &caller.principal.name;
    let done = admin
        .parts
        .sessions
        .resolve(&approval, input.ran, &note, principal, now)
        .await;
    done.map_err(|why| match why {
        VoteError::Late(stage) => Refused::conflict(format!(
            "its outcome is not unknown: it is {}",
            stage.as_str()
        )),
        VoteError::Store(_) => Refused::store_unavailable(),
        VoteError::Ledger(_) => Refused::ledger_unavailable(),
        other => Refused::conflict(other.to_string()),
    })?;
    let ran = input.ran;
    let call = format!("POST /v1/approvals/{id}/resolve: ran {ran}");
    admin.record_call(caller, &call).await;
    Ok(approval)
}

/// A note that says something, within its bound, without a token that was pasted into it: others read it.
fn note(text: Option<&str>) -> Result<Option<Cow<'_, str>>, Refused> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.len() > NOTE_BYTES_MAX) {
        return Err(Refused::invalid(format!(
            "`note`: at most {NOTE_BYTES_MAX} bytes"
        )));
    }
    Ok(text.map(without_tokens))
}

fn not_taken(why: &VoteError, approval: &LiveApproval, chain: &Chain) -> Refused {
    match why {
        VoteError::Late(stage) => Refused::conflict(late(approval, *stage)),
        VoteError::Changed => Refused::conflict(CHANGED),
        VoteError::OtherWord => Refused::conflict(
            "you have said the opposite of it already; a word can't be taken back",
        ),
        VoteError::Note => Refused::invalid(why.to_string()),
        VoteError::NotApprover => Refused::new(Reason::RoleMissing, not_approver(chain)),
        VoteError::Minter => Refused::new(Reason::RoleMissing, minter()),
        VoteError::Store(_) => Refused::store_unavailable(),
        VoteError::Ledger(_) => Refused::ledger_unavailable(),
    }
}

fn late(approval: &LiveApproval, stage: Stage) -> String {
    let mut text = format!("it is {} already", stage.as_str());
    if let Some(ending) = approval.ending() {
        if let Some(by) = &ending.by {
            text.push_str(&format!(", by {by}"));
        }
        text.push_str(&format!(", since {}", super::view::time(ending.at)));
    }
    text
}

fn chain_gone(facts: &Facts) -> String {
    format!(
        "the policy in force has no chain `{}` any more: it can't be approved and can't run, and ends by itself",
        facts.chain
    )
}

fn minter() -> String {
    "you minted the session, and who minted a session can't decide for it; another approver must"
        .to_owned()
}

fn not_approver(chain: &Chain) -> String {
    let groups: Vec<&str> = chain.approvers.iter().map(|group| group.as_str()).collect();
    format!(
        "chain `{}` is decided by members of {}, and you are in none of them; see `principals` of the server file",
        chain.name,
        groups.join(" or ")
    )
}

fn wanted(target: &http::Uri) -> Result<Wanted, Refused> {
    let Query(raw) = Query::<RawWanted>::try_from_uri(target).map_err(|error| {
        Refused::invalid(format!(
            "approvals are listed by `state`, `project`, `limit` and `after`: {error}"
        ))
    })?;
    let stage = |name: &str| {
        Stage::parse(name).ok_or_else(|| {
            let all: Vec<&str> = Stage::ALL.into_iter().map(Stage::as_str).collect();
            Refused::invalid(format!("`state` is one of {}", all.join(", ")))
        })
    };
    let stages = raw.state.as_deref().map_or(Ok(Vec::new()), |names| {
        names.split(',').map(stage).collect::<Result<Vec<_>, _>>()
    })?;
    let project = raw.project.as_deref().map(ProjectName::parse).transpose();
    let after = raw.after.as_deref().map(str::parse).transpose();
    Ok(Wanted {
        stages,
        project: project.map_err(|why| Refused::invalid(format!("`project`: {why}")))?,
        after: after.map_err(|_| Refused::invalid("`after` is the `next` of the page before"))?,
        limit: input::limit(raw.limit)?,
    })
}

const CHANGED: &str = "`digest` is not that of what is asked, 64 lower-case hex digits as it was shown: what you were shown is something else; look at it again";
