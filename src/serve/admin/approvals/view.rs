//! An approval as a person is shown it: who, what and why, whole and unmasked. What only the agent says is said to be so.
//!
//! Nothing is made nicer here: bytes that are not text are hex, and whoever shows a text makes it safe to look at
//! ([`crate::serve::visible`]). Only values of the tool's `mask_headers` are left out, for their length and SHA-256.

use super::super::view::time;
use crate::policy::approval::{Asked, AskedGrant, Field, HeldCall, Stage, Vote};
use crate::policy::decision::GrantUse;
use crate::policy::model::{Policy, Tool};
use crate::store::live::approvals::LiveApproval;
use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use std::fmt::Write as _;
use utoipa::ToSchema;

/// What a person is asked, and where it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct ApprovalView {
    /// `apr_...`
    pub id: String,
    /// `pending`, `approved`, `denied`, `expired`, `withdrawn`, `executing`, `executed` or `unknown`.
    pub state: &'static str,
    /// `call`: may this call run, once? `grant`: may the session have this grant?
    pub asked: &'static str,
    pub project: String,
    pub agent: String,
    pub session: String,
    /// The orchestrator's own name for the run.
    pub run: Option<String>,
    /// Why, in the agent's own words.
    pub intent: Option<ClaimView>,
    /// The principal who minted the session, and so can't decide for it.
    pub minted_by: String,
    /// Where the request came from.
    pub client: String,
    /// The call that was held first.
    pub request: String,
    /// The permission it needs.
    pub scope: String,
    /// What it acts on.
    pub resource: Option<String>,
    /// Whether the policy in force says that it can't be undone; null: it has no such route any more.
    pub irreversible: Option<bool>,
    /// What would run.
    pub call: Option<CallView>,
    /// What would be given.
    pub grant: Option<AskedGrantView>,
    /// SHA-256 that all of it is bound to; a decision names it.
    pub digest: String,
    /// Who decides.
    pub chain: String,
    /// The chain's groups; null: the policy in force has no such chain any more.
    pub approvers: Option<Vec<String>>,
    /// How many must agree.
    pub quorum: u32,
    /// How many agree whose word counts now.
    pub agreeing: usize,
    pub votes: Vec<VoteView>,
    /// Whether you may decide it.
    pub you: YouView,
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: String,
    /// How it was decided or ended.
    pub ending: Option<EndingView>,
    /// How its run ended.
    pub outcome: Option<OutcomeView>,
}

/// What somebody says, and nobody has checked.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct ClaimView {
    /// `agent`
    pub claimed_by: &'static str,
    pub text: String,
}

/// A call as it would run.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct CallView {
    pub tool: String,
    pub route: String,
    pub method: String,
    /// Host and port as the agent sent them.
    pub authority: String,
    /// The agent's, mount and query included.
    pub target: String,
    /// Header fields that will be forwarded, in order; in lists left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<FieldView>>,
    /// In lists left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyView>,
    /// What it goes on: `on_use`, or a stored grant's id, of which one use is reserved.
    pub grant: String,
}

/// One header field: `value`, `value_hex` or `masked`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct FieldView {
    pub name: String,
    #[serde(flatten)]
    pub value: ValueView,
}

/// A header field's value.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::serve) enum ValueView {
    /// It is UTF-8.
    Value(String),
    /// It is not.
    ValueHex(String),
    /// The tool's `mask_headers` has its name.
    Masked(DigestView),
}

/// What is told of bytes that are not shown.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct DigestView {
    pub bytes: usize,
    pub sha256: String,
}

/// A body, whole: `text` or `hex`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct BodyView {
    /// Of `Content-Type`, as sent.
    pub content_type: Option<String>,
    pub bytes: usize,
    pub sha256: String,
    #[serde(flatten)]
    pub content: ContentView,
}

/// A body's bytes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::serve) enum ContentView {
    /// They are UTF-8, and this is exactly they.
    Text(String),
    /// They are not.
    Hex(String),
}

/// A wish for a grant.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct AskedGrantView {
    /// Calls it is good for.
    pub uses: u32,
    /// How long it lives from when it is given.
    pub ttl_seconds: u64,
    /// Why, in the asker's words.
    pub reason: String,
}

/// A person's word.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct VoteView {
    pub principal: String,
    /// `approve` or `deny`.
    pub decision: &'static str,
    pub note: Option<String>,
    pub at: String,
}

/// What you may do about it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct YouView {
    pub may_decide: bool,
    /// Why not.
    pub because: Option<String>,
}

/// How it was decided or ended.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct EndingView {
    pub at: String,
    /// The principal who did it, if one did.
    pub by: Option<String>,
    /// The approver's note, or the gate's words.
    pub note: Option<String>,
}

/// How a run ended.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct OutcomeView {
    /// The backend's; null: it never answered, or a grant was given.
    pub status: Option<u16>,
    /// The grant that was given.
    pub grant: Option<String>,
    /// Whether its answer is kept until the agent has it.
    pub kept: bool,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Depth {
    /// Without header fields and body.
    Brief,
    /// All of it.
    Whole,
}

impl ApprovalView {
    /// Under the project's policy in force, if there is one. `agreeing` and `you` are who asks and who counts now.
    pub(super) fn new(
        approval: &LiveApproval,
        policy: Option<&Policy>,
        agreeing: usize,
        you: YouView,
        depth: Depth,
    ) -> Self {
        let facts = &approval.facts;
        let chain = policy.and_then(|policy| policy.chain_named(&facts.chain));
        let (asked, call, grant) = match &facts.asked {
            Asked::Call(call) => ("call", Some(CallView::new(call, policy, depth)), None),
            Asked::Grant(grant) => ("grant", None, Some(AskedGrantView::new(grant))),
        };
        Self {
            id: facts.id.to_string(),
            state: approval.stage().as_str(),
            asked,
            project: facts.project.to_string(),
            agent: facts.agent.to_string(),
            session: facts.session.to_string(),
            run: facts.run.as_deref().map(str::to_owned),
            intent: facts.intent.as_deref().map(|text| ClaimView {
                claimed_by: "agent",
                text: text.to_owned(),
            }),
            minted_by: facts.minted_by.to_string(),
            client: facts.client.to_string(),
            request: facts.request.to_string(),
            scope: facts.scope.to_string(),
            resource: facts.resource.as_ref().map(ToString::to_string),
            irreversible: policy.and_then(|policy| irreversible(policy, &facts.asked)),
            call,
            grant,
            digest: facts.digest.to_string(),
            chain: facts.chain.to_string(),
            approvers: chain.map(|chain| chain.approvers.iter().map(ToString::to_string).collect()),
            quorum: facts.quorum,
            agreeing,
            votes: approval.votes().iter().map(VoteView::new).collect(),
            you,
            created_at: time(facts.created_at),
            expires_at: time(facts.expires_at),
            ending: ending(approval),
            outcome: outcome(approval),
        }
    }
}

impl CallView {
    fn new(call: &HeldCall, policy: Option<&Policy>, depth: Depth) -> Self {
        let tool =
            policy.and_then(|policy| policy.tools.iter().find(|tool| tool.name == call.tool));
        Self {
            tool: call.tool.to_string(),
            route: call.route.to_string(),
            method: call.method.to_string(),
            authority: call.authority.to_string(),
            target: call.target.to_string(),
            fields: (depth == Depth::Whole).then(|| {
                let view = |field| FieldView::new(field, tool);
                call.fields.iter().map(view).collect()
            }),
            body: (depth == Depth::Whole).then(|| BodyView::new(call)),
            grant: match call.grant {
                GrantUse::OnUse => "on_use".to_owned(),
                GrantUse::Stored(id) => id.to_string(),
            },
        }
    }
}

impl FieldView {
    fn new(field: &Field, tool: Option<&Tool>) -> Self {
        // Of a tool that is not in the policy any more nobody can say what was to be masked.
        let masked = tool.is_none_or(|tool| tool.mask_headers.contains(&field.name));
        Self {
            name: field.name.to_string(),
            value: match std::str::from_utf8(&field.value) {
                _ if masked => ValueView::Masked(DigestView::new(&field.value)),
                Ok(text) => ValueView::Value(text.to_owned()),
                Err(_) => ValueView::ValueHex(hex(&field.value)),
            },
        }
    }
}

impl DigestView {
    fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len(),
            sha256: sha256(bytes),
        }
    }
}

impl BodyView {
    fn new(call: &HeldCall) -> Self {
        let content_type = call
            .fields
            .iter()
            .find(|field| &*field.name == "content-type")
            .map(|field| String::from_utf8_lossy(&field.value).into_owned());
        Self {
            content_type,
            bytes: call.body.len(),
            sha256: sha256(&call.body),
            content: match std::str::from_utf8(&call.body) {
                Ok(text) => ContentView::Text(text.to_owned()),
                Err(_) => ContentView::Hex(hex(&call.body)),
            },
        }
    }
}

impl AskedGrantView {
    fn new(grant: &AskedGrant) -> Self {
        Self {
            uses: grant.uses,
            ttl_seconds: grant.ttl.as_secs(),
            reason: grant.why.to_string(),
        }
    }
}

impl VoteView {
    fn new(vote: &Vote) -> Self {
        Self {
            principal: vote.principal.to_string(),
            decision: vote.word.as_str(),
            note: vote.note.as_deref().map(str::to_owned),
            at: time(vote.at),
        }
    }
}

fn irreversible(policy: &Policy, asked: &Asked) -> Option<bool> {
    let Asked::Call(call) = asked else {
        return None;
    };
    let route = policy.routes.iter().find(|route| route.id == call.route);
    route.map(|route| route.irreversible)
}

fn ending(approval: &LiveApproval) -> Option<EndingView> {
    approval.ending().map(|ending| EndingView {
        at: time(ending.at),
        by: ending.by.map(|by| by.to_string()),
        note: ending.note.map(String::from),
    })
}

fn outcome(approval: &LiveApproval) -> Option<OutcomeView> {
    let known = matches!(approval.stage(), Stage::Executed);
    let outcome = approval.outcome().filter(|_| known)?;
    Some(OutcomeView {
        status: outcome.status,
        grant: outcome.grant.map(|grant| grant.to_string()),
        kept: outcome.body.is_some(),
    })
}

/// SHA-256 in lower-case hex digits.
pub(in crate::serve) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Lower-case hex digits.
pub(in crate::serve) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Memory takes it.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
