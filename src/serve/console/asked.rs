//! What a person is asked, in the form that lists and pages share.

use super::text::{Deadline, Text, Time};
use crate::policy::approval::Stage;
use crate::policy::time::Now;
use crate::serve::admin::approvals::view::ApprovalView;
use crate::store::live::approvals::LiveApproval;

/// An approval, shortly.
#[derive(Debug)]
pub(super) struct Asked {
    pub id: String,
    /// In plain text, for a window's title.
    pub title: String,
    pub call: Option<CallLine>,
    pub scope: String,
    /// Each of them; none: the route names none.
    pub resources: Vec<Text>,
    pub risks: Vec<Risk>,
    pub intent: Option<Text>,
    pub agent: String,
    pub project: String,
    pub session: String,
    pub run: Option<Text>,
    pub minted_by: String,
    pub client: String,
    pub chain: String,
    pub created: Time,
    pub expires: Time,
    pub deadline: Deadline,
    /// Whether it waits for people.
    pub waits: bool,
    pub state: &'static str,
    pub tone: &'static str,
    pub quorum: u32,
    pub agreeing: usize,
    /// Why the visitor can't decide it.
    pub not_you: Option<String>,
}

/// Method and target.
#[derive(Debug)]
pub(super) struct CallLine {
    pub method: Text,
    pub target: Text,
}

/// Why it is asked at all, as far as it can be told; and what that is based on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Risk {
    pub tone: &'static str,
    pub text: String,
}

impl Asked {
    pub(super) fn new(approval: &LiveApproval, view: &ApprovalView, now: Now) -> Self {
        let facts = &approval.facts;
        let stage = Stage::parse(view.state).unwrap_or(Stage::Pending);
        let call = view.call.as_ref().map(|call| CallLine {
            method: Text::line(&call.method),
            target: Text::line(&call.target),
        });
        let title = match &view.call {
            Some(call) => format!("{} {}", call.method, call.target),
            None => format!("Grant of {}", view.scope),
        };
        Self {
            id: view.id.clone(),
            title: short(&title),
            call,
            scope: view.scope.clone(),
            resources: each(view.resource.as_deref()),
            risks: risks(view),
            intent: view.intent.as_ref().map(|claim| Text::lines(&claim.text)),
            agent: view.agent.clone(),
            project: view.project.clone(),
            session: view.session.clone(),
            run: view.run.as_deref().map(Text::line),
            minted_by: view.minted_by.clone(),
            client: view.client.clone(),
            chain: view.chain.clone(),
            created: Time::new(facts.created_at, now.wall),
            expires: Time::new(facts.expires_at, now.wall),
            deadline: Deadline::new(facts.ends, now),
            waits: stage == Stage::Pending,
            state: stage.as_str(),
            tone: tone(stage),
            quorum: view.quorum,
            agreeing: view.agreeing,
            not_you: view.you.because.clone(),
        }
    }
}

/// Of several resources in one text each.
pub(super) fn each(resources: Option<&str>) -> Vec<Text> {
    let each = resources.into_iter().flat_map(|text| text.split(' '));
    each.map(Text::line).collect()
}

fn tone(stage: Stage) -> &'static str {
    match stage {
        Stage::Pending | Stage::Unknown => "warn",
        Stage::Approved | Stage::Executing | Stage::Executed => "good",
        Stage::Denied => "bad",
        Stage::Expired | Stage::Withdrawn => "",
    }
}

fn risks(view: &ApprovalView) -> Vec<Risk> {
    let mut risks = Vec::new();
    let mut risk = |tone, text: String| risks.push(Risk { tone, text });
    let deletes = view
        .call
        .as_ref()
        .is_some_and(|call| call.method == "DELETE");
    match view.irreversible {
        Some(true) if deletes => risk("bad", "can’t be undone: its method is DELETE".to_owned()),
        Some(true) => risk("bad", "can’t be undone: the policy says so".to_owned()),
        None if deletes => risk("bad", "its method is DELETE".to_owned()),
        Some(false) | None => {}
    }
    if let Some(grant) = &view.grant {
        let calls = if grant.uses == 1 { "call" } else { "calls" };
        risk(
            "warn",
            format!("a grant: {} {calls} that nobody is asked about", grant.uses),
        );
    }
    if view.quorum > 1 {
        risk(
            "warn",
            format!("its chain wants {} people to agree", view.quorum),
        );
    }
    risks
}

/// For a window's title: without what hides, and not longer than one can read there.
fn short(text: &str) -> String {
    let shown = crate::serve::visible::visible(text, crate::serve::visible::Lines::One);
    match shown.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}
