//! What is said when a call does not pass: a reason from the closed set and a sentence a language model can act on.
//!
//! Built wherever the journey stops, rendered by [`super::respond`]. It holds only what its own caller may read. It is long
//! because everything that can be wrong with a call has its sentence here, and nothing else has.

use crate::gate::body::BodyFault;
use crate::gate::fields::FieldFault;
use crate::gate::forward::upgrade::HandshakeFault;
use crate::gate::forward::{SendFault, UpstreamFault};
use crate::gate::respond::{Action, Next};
use crate::io::upstream::DialFault;
use crate::ledger::{record::Fault, untold};
use crate::policy::choice::{Unfit, Vague};
use crate::policy::condition::Why;
use crate::policy::content::Unreadable;
use crate::policy::decision::{Denial, Reason};
use crate::policy::function::Unclear;
use crate::policy::model::{Policy, Route};
use crate::policy::name::{LimitId, ScopeName};
use crate::policy::pin::Standing;
use crate::policy::resource::Resource;
use crate::policy::target::Ambiguity;
use crate::store::live::State;
use crate::store::live::approvals::LiveApproval;
use http::StatusCode;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A call that does not pass. One pointer wide: refusals are rare, results are everywhere.
#[derive(Debug)]
pub(super) struct Refusal(Box<Parts>);

/// What a refusal says.
#[derive(Debug)]
pub(super) struct Parts {
    pub reason: Reason,
    /// Where it is not the reason's usual one.
    pub status: Option<StatusCode>,
    pub detail: Cow<'static, str>,
    pub scope: Option<ScopeName>,
    pub resource: Option<Resource>,
    pub limit: Option<LimitId>,
    pub retry_after: Option<Duration>,
    /// Where there is more to say than the reason's usual action.
    pub next: Option<Next>,
    /// Methods that would be served, for 405.
    pub allow: Option<&'static str>,
    /// How the call ended, where it had been allowed before.
    pub fault: Option<Fault>,
    /// A problem type of a standard, instead of the reason's own.
    pub kind: Option<&'static str>,
    /// Where a challenge sends those who want a token (RFC 9728, section 5.1).
    pub metadata: Option<Arc<str>>,
}

impl Refusal {
    /// `reason` with a sentence about this very call.
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            reason,
            status: None,
            detail: untold(detail.into()),
            scope: None,
            resource: None,
            limit: None,
            retry_after: None,
            next: None,
            allow: None,
            fault: None,
            kind: None,
            metadata: None,
        }))
    }

    /// Why.
    pub(super) fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The limit that was exceeded.
    pub(super) fn limit(&self) -> Option<&LimitId> {
        self.0.limit.as_ref()
    }

    /// The scope and resource it is about.
    pub(super) fn subject(&self) -> (Option<ScopeName>, Option<Resource>) {
        (self.0.scope.clone(), self.0.resource.clone())
    }

    /// How an allowed call ended.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.0.fault
    }

    /// To be rendered.
    pub(super) fn into_parts(self) -> Parts {
        *self.0
    }

    fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(&mut self.0);
        self
    }

    /// With the place that tells how to get a token, for a challenge.
    pub(super) fn challenging(self, metadata: Option<Arc<str>>) -> Self {
        self.with(|parts| parts.metadata = metadata)
    }

    /// With another status than the reason's own.
    pub(super) fn status(self, status: StatusCode) -> Self {
        self.with(|parts| parts.status = Some(status))
    }

    /// With the problem type that a standard has for it.
    pub(super) fn typed(self, kind: &'static str) -> Self {
        self.with(|parts| parts.kind = Some(kind))
    }

    /// Of a call that had been allowed.
    pub(super) fn after(self, fault: Fault) -> Self {
        self.with(|parts| parts.fault = Some(fault))
    }

    /// About a scope and, where there is one, a resource.
    pub(super) fn about(self, scope: Option<ScopeName>, resource: Option<Resource>) -> Self {
        self.with(|parts| {
            parts.scope = scope;
            parts.resource = resource;
        })
    }

    pub(super) fn credential_missing() -> Self {
        Self::new(
            Reason::CredentialMissing,
            "this request has no session token; send `Authorization: Bearer tgs_...` with the token of this run, or ask whoever started the run for one",
        )
    }

    /// One text for unknown, malformed, expired and revoked: a stranger learns nothing.
    pub(super) fn credential_invalid() -> Self {
        Self::new(
            Reason::CredentialInvalid,
            "this session token is not valid or no longer valid; stop using it and ask whoever started this run for a new session",
        )
    }

    pub(super) fn quarantined(limit: Option<&LimitId>) -> Self {
        let detail = match limit {
            Some(limit) => format!(
                "this session is in quarantine because it exceeded the limit `{limit}`; stop calling tools, retrying can't help, and tell the user that an operator must release the session"
            )
            .into(),
            None => Cow::Borrowed(
                "this session is in quarantine and nothing of it passes; stop calling tools, retrying can't help, and tell the user that an operator must release the session",
            ),
        };
        Self::new(Reason::Quarantined, detail).with(|parts| parts.limit = limit.cloned())
    }

    pub(super) fn limit_exceeded(limit: &LimitId, retry_after: Duration) -> Self {
        let seconds = super::respond::whole_seconds(retry_after);
        Self::new(
            Reason::LimitExceeded,
            format!("the limit `{limit}` is exhausted; wait {seconds} s before the next call and do not retry sooner"),
        )
        .with(|parts| {
            parts.limit = Some(limit.clone());
            parts.retry_after = Some(retry_after);
        })
    }

    /// A session that can't go on.
    pub(super) fn of_state(state: State) -> Self {
        match state {
            State::Quarantined => Self::quarantined(None),
            State::Ended | State::Live => Self::credential_invalid(),
        }
    }

    pub(super) fn target_ambiguous(why: Ambiguity) -> Self {
        if why == Ambiguity::Authority {
            return Self::malformed(StatusCode::BAD_REQUEST, why.to_string());
        }
        Self::new(
            Reason::TargetAmbiguous,
            format!("{why}; send a plain path, exactly as the tool's description has it"),
        )
    }

    pub(super) fn no_route() -> Self {
        Self::new(
            Reason::NoRoute,
            "no route of the policy fits this method and path; check both against the tool's description, and `GET /.toolgate/session` for what this session may do",
        )
        .with(|parts| parts.next = Some(look_up_session()))
    }

    /// No route judges the call; `sql` is what is wrong with its SQL, if that is it.
    pub(super) fn unfit(unfit: Unfit, policy: &Policy, sql: Option<&str>) -> Self {
        let subject = unfit.condition(policy);
        let subject = subject.map_or_else(String::new, |it| it.subject.to_string());
        match unfit {
            Unfit::Unread(_) => Self::internal(),
            Unfit::Unevaluable { why, .. } => {
                let detail = match sql {
                    Some(sql) => format!(
                        "the policy decides this call by `{subject}`, which {why}: {sql}; write one plain statement"
                    ),
                    None => format!(
                        "the policy decides this call by `{subject}`, which {why}; send it once and plainly"
                    ),
                };
                Self::new(Reason::Unevaluable, detail)
            }
            Unfit::Unmet { .. } => {
                let sql = sql.map_or_else(String::new, |sql| format!(": {sql}"));
                let detail = format!(
                    "the policy does not allow this call with such a `{subject}`{sql}; do something else, or tell the user that this run is not allowed to do it"
                );
                Self::new(Reason::ConditionUnmet, detail)
                    .with(|parts| parts.next = Some(look_up_session()))
            }
        }
    }

    /// No function of the policy has this name.
    pub(super) fn no_function() -> Self {
        Self::new(
            Reason::NoRoute,
            "no route of the policy fits this `action.name`; check it against the tool's description, and `GET /.toolgate/session` for what this session may do",
        )
        .with(|parts| parts.next = Some(look_up_session()))
    }

    /// It can't be said what a function would act on.
    pub(super) fn unclear(why: &Unclear, route: &Route) -> Self {
        match why {
            Unclear::Vague(vague) => Self::vague(vague, route),
            Unclear::Disagrees => Self::new(
                Reason::Unevaluable,
                "the policy decides this call by `resource`, which is not what the rest of the call says that it acts on; send the same in both",
            )
            .about(Some(route.scope.clone()), None),
        }
    }

    /// The one yes of this approval was given.
    pub(super) fn yes_given(approval: &LiveApproval) -> Self {
        Self::new(
            Reason::OutcomeNotKept,
            "a person agreed to this call once, and that was said to another request of this session, which is not said again; if it is to be done once more, ask again: a person is asked anew",
        )
        .of_approval(approval)
    }

    /// `context.approval` is of something else.
    pub(super) fn other_approval() -> Self {
        Self::new(
            Reason::ApprovalVoid,
            "`context.approval` is not an approval that this very call stands under now: it is of another call, over, or used; ask without it if the call is still needed, and it is judged anew",
        )
    }

    /// It can't be told what the call acts on.
    pub(super) fn vague(vague: &Vague, route: &Route) -> Self {
        let unfilled = match vague {
            Vague::Unread => return Self::internal(),
            Vague::Unfilled(unfilled) => unfilled,
        };
        if unfilled.reason() != Reason::Unevaluable {
            return Self::resource_unfilled(route);
        }
        let (part, why) = (&unfilled.part, unfilled.why);
        let cure = match why {
            Why::Count | Why::Long => "ask for less in one call",
            _ => "send it once and plainly",
        };
        let detail = format!("what this call acts on is read from `{part}`, which {why}; {cure}");
        Self::new(Reason::Unevaluable, detail).about(Some(route.scope.clone()), None)
    }

    /// A body that conditions or the resource read can't be read.
    pub(super) fn unreadable(why: Unreadable) -> Self {
        let refusal = Self::new(
            Reason::BodyUnreadable,
            format!(
                "the policy decides this call by its body, and {why}; send JSON in UTF-8 with `Content-Type: application/json`"
            ),
        );
        match why {
            Unreadable::Coding | Unreadable::Media | Unreadable::Charset => {
                refusal.status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Unreadable::Json(_) | Unreadable::Form => refusal,
        }
    }

    /// A message that is longer than is read of any.
    pub(super) fn too_large_to_read(most: u64) -> Self {
        Self::new(
            Reason::BodyTooLarge,
            format!("the message is longer than {most} bytes; send less in one request"),
        )
    }

    /// The answer is to be looked through before it goes on, and can't be read.
    pub(super) fn garbled() -> Self {
        Self::new(
            Reason::UpstreamFailed,
            "the tool answered with a list that can't be read; tell the user that the tool is out of order",
        )
        .after(Fault::UpstreamFailed)
    }

    /// Neither a message nor the stream of a session of the protocol.
    pub(super) fn method_of_endpoint() -> Self {
        Self::no_route()
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .with(|parts| parts.allow = Some("POST"))
    }

    /// A body that conditions read is over its bound.
    pub(super) fn too_large_to_judge(route: &Route) -> Self {
        let most = route.body_limit;
        Self::new(
            Reason::BodyTooLarge,
            format!(
                "the policy decides this call by its body, and it is longer than {most} bytes; send less in one request"
            ),
        )
    }

    /// The policy said no.
    pub(super) fn denied(denial: Denial) -> Self {
        let scope = denial.scope.as_ref().map_or("", |scope| scope.as_str());
        let on = denial
            .resource
            .as_ref()
            .map(|resource| format!(" on {resource}"))
            .unwrap_or_default();
        let (detail, next) = match denial.reason {
            Reason::ScopeOutsideCeiling => (
                format!(
                    "this session can never be granted `{scope}`; do something else, or tell the user that this run is not allowed to do it"
                ),
                None,
            ),
            Reason::ResourceOutsideCeiling => (
                format!(
                    "this session may not use `{scope}`{on}; check that the id is the one you were asked to work on, or tell the user that this run may not touch it"
                ),
                Some(look_up_session()),
            ),
            Reason::GrantMissing => (
                format!(
                    "this call needs a grant of `{scope}`{on}; ask with POST /.toolgate/grants and say why, then repeat the call"
                ),
                Some(request_grant(scope, denial.resource.as_ref())),
            ),
            other => (problem_words(other), None),
        };
        Self::new(denial.reason, detail)
            .about(denial.scope, denial.resource)
            .with(|parts| parts.next = next)
    }

    /// What the tool's server says of it is not what was accepted.
    pub(super) fn not_as_accepted(reason: Reason, standing: Standing) -> Self {
        let detail = match standing {
            Standing::Unseen => {
                "the gate has not seen this tool's definition yet; list the tools first (tools/list), then call again; if the tool is not in the list, tell the user that it may not be called"
            }
            Standing::Changed | Standing::Accepted => {
                "this tool's definition is not the one that was accepted, so it is not called; don't repeat the call: tell the user that the tool has changed and that an operator must accept the change first"
            }
        };
        Self::new(reason, detail)
    }

    /// The route's resource can't be computed for this session: a ceiling with nothing in it.
    pub(super) fn resource_unfilled(route: &Route) -> Self {
        Self::new(
            Reason::ResourceOutsideCeiling,
            format!(
                "the resource that `{}` acts on can't be computed for this session; tell the user that this run may not make this call",
                route.id
            ),
        )
        .about(Some(route.scope.clone()), None)
    }

    pub(super) fn intent_missing() -> Self {
        Self::new(
            Reason::IntentMissing,
            "this call must say what it is for; send a `Toolgate-Intent` header with one sentence, or set it for the session with PUT /.toolgate/intent",
        )
        .with(|parts| {
            parts.next = Some(Next {
                action: Action::StateIntent,
                method: Some("PUT"),
                href: Some("/.toolgate/intent".into()),
                body: Some(json!({"intent": "what you are doing, and for whom"})),
                seconds: None,
            });
        })
    }

    /// What is noted of a call that people would be asked about. It is never said.
    pub(super) fn would_hold() -> Self {
        Self::new(Reason::PendingApproval, "people would be asked")
    }

    /// A person said no to it.
    pub(super) fn approval_denied(approval: &LiveApproval) -> Self {
        let note = note_of(approval);
        Self::new(
            Reason::ApprovalDenied,
            format!("a person looked at this very call and said no{note}; do not repeat it, do something else or tell the user"),
        )
        .of_approval(approval)
    }

    /// Nobody said enough in time, or nobody came to run it.
    pub(super) fn approval_expired(approval: &LiveApproval) -> Self {
        Self::new(
            Reason::ApprovalExpired,
            "nobody who may agree to this call answered in time, so it was not made; tell the user, and repeat it only if it is still needed: a person is asked anew",
        )
        .of_approval(approval)
    }

    /// It was taken back.
    pub(super) fn approval_void(approval: &LiveApproval) -> Self {
        let note = note_of(approval);
        Self::new(
            Reason::ApprovalVoid,
            format!("the approval of this call was taken back{note}; the call was not made; repeat it if it is still needed"),
        )
        .of_approval(approval)
    }

    /// What people agreed to, or are asked, could not run.
    pub(super) fn void(approval: &LiveApproval, why: &str) -> Self {
        Self::new(
            Reason::ApprovalVoid,
            format!("the approval of this call is no longer valid: {why}; the call was not made; repeat it if it is still needed, and it is judged anew"),
        )
        .of_approval(approval)
    }

    /// Nobody can say how its run ended.
    pub(super) fn outcome_unknown(approval: &LiveApproval) -> Self {
        Self::new(
            Reason::OutcomeUnknown,
            "this call was approved and begun, and nobody knows how it ended: it may have taken effect; find out with another call, and do not expect it to be made again",
        )
        .of_approval(approval)
    }

    /// It ran, and its answer is not there.
    pub(super) fn outcome_not_kept(approval: &LiveApproval) -> Self {
        let status = approval.outcome().and_then(|outcome| outcome.status);
        let how = match status {
            Some(status) => format!(" and the tool answered with status {status}"),
            None => String::new(),
        };
        Self::new(
            Reason::OutcomeNotKept,
            format!("this call was approved and made, once{how}, but its answer was not kept; it is not made again, read with another call what you need to know"),
        )
        .of_approval(approval)
    }

    /// Not a byte of an approved call was sent.
    pub(super) fn not_sent(fault: SendFault, approval: &LiveApproval) -> Self {
        let reason = match fault {
            SendFault::Timeout(_) => Reason::UpstreamTimeout,
            SendFault::Failed(_) | SendFault::SessionEnded | SendFault::AgentFailed(_) => {
                Reason::UpstreamFailed
            }
        };
        Self::new(
            reason,
            "the tool could not be reached and nothing of this call was sent to it; it is approved still: repeat exactly the same call later",
        )
        .of_approval(approval)
        .after(fault.record())
    }

    pub(super) fn too_many_pending(why: &dyn std::fmt::Display) -> Self {
        Self::new(
            Reason::TooManyPending,
            format!("{why}; wait until some were decided, or take one back with DELETE /.toolgate/approvals/ID"),
        )
        .with(|parts| {
            parts.retry_after = Some(PENDING_RETRY);
            parts.next = Some(Next {
                action: Action::Wait,
                method: Some("GET"),
                href: Some("/.toolgate/session".into()),
                body: None,
                seconds: Some(PENDING_RETRY.as_secs()),
            });
        })
    }

    pub(super) fn overloaded(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Overloaded, detail)
            .with(|parts| parts.retry_after = Some(UNAVAILABLE_RETRY))
    }

    /// Points to where the approval is shown.
    fn of_approval(self, approval: &LiveApproval) -> Self {
        let facts = &approval.facts;
        let href = format!("/.toolgate/approvals/{}", facts.id);
        let reason = self.reason();
        self.about(Some(facts.scope.clone()), facts.resource.clone())
            .with(|parts| {
                parts.next = Some(Next {
                    action: super::respond::problem(reason).action,
                    method: Some("GET"),
                    href: Some(href.into()),
                    body: None,
                    seconds: None,
                });
            })
    }

    pub(super) fn malformed(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::RequestMalformed, detail).status(status)
    }

    pub(super) fn field_forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::FieldForbidden, detail)
    }

    /// A WebSocket that was not asked for properly.
    pub(super) fn handshake(fault: HandshakeFault) -> Self {
        let status = match fault {
            HandshakeFault::Version => StatusCode::UPGRADE_REQUIRED,
            HandshakeFault::Unserved => StatusCode::NOT_IMPLEMENTED,
            HandshakeFault::Upgrade | HandshakeFault::Body | HandshakeFault::Key => {
                StatusCode::BAD_REQUEST
            }
        };
        Self::malformed(status, fault.to_string())
    }

    /// A field that may not be sent.
    pub(super) fn field(fault: FieldFault) -> Self {
        match fault.reason() {
            Reason::RequestMalformed => {
                Self::malformed(StatusCode::EXPECTATION_FAILED, fault.to_string())
            }
            reason => Self::new(reason, fault.to_string()),
        }
    }

    /// The agent's body did not come to its end.
    pub(super) fn body(fault: BodyFault) -> Self {
        let status = match fault {
            BodyFault::Idle => StatusCode::REQUEST_TIMEOUT,
            BodyFault::Broken => StatusCode::BAD_REQUEST,
            BodyFault::Crowded => return Self::overloaded(format!("{fault}; wait and repeat it")),
        };
        Self::malformed(status, format!("{fault}; send the whole request again"))
    }

    /// A forwarded call that brought no answer.
    pub(super) fn unanswered(fault: SendFault, state: State) -> Self {
        let refusal = match fault {
            SendFault::Failed(UpstreamFault::Dial(DialFault::Crowded)) => Self::overloaded(
                "this session holds as many calls at once as the gate has connections left for; nothing was sent; wait and repeat it",
            ),
            SendFault::Failed(_) => Self::new(
                Reason::UpstreamFailed,
                "the tool could not be reached or broke off before it answered; if this call changes something, find out whether it did before you repeat it",
            ),
            SendFault::Timeout(_) => Self::new(
                Reason::UpstreamTimeout,
                "the tool did not answer in time; if this call changes something, find out whether it did before you repeat it",
            ),
            SendFault::SessionEnded => Self::of_state(state),
            SendFault::AgentFailed(fault) => Self::body(fault),
        };
        refusal.after(fault.record())
    }

    pub(super) fn invalid_input(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::InvalidInput, detail)
    }

    pub(super) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::NotFound, detail)
    }

    /// 405 on one of the gate's own paths.
    pub(super) fn method_not_served(methods: &'static str) -> Self {
        Self::new(
            Reason::InvalidInput,
            format!("this path of the gate serves {methods} only"),
        )
        .status(StatusCode::METHOD_NOT_ALLOWED)
        .with(|parts| parts.allow = Some(methods))
    }

    pub(super) fn ledger_unavailable() -> Self {
        Self::unavailable(
            Reason::LedgerUnavailable,
            "the gate can't record calls at present and forwards nothing unrecorded; wait and repeat the call",
        )
    }

    pub(super) fn store_unavailable() -> Self {
        Self::unavailable(
            Reason::StoreUnavailable,
            "the gate can't make this durable at present; wait and repeat the call",
        )
    }

    fn unavailable(reason: Reason, detail: &'static str) -> Self {
        Self::new(reason, detail).with(|parts| parts.retry_after = Some(UNAVAILABLE_RETRY))
    }

    pub(super) fn internal() -> Self {
        Self::new(
            Reason::Internal,
            "the gate itself failed on this call; tell the operator the request id, and find out whether the call changed something before you repeat it",
        )
        .after(Fault::Internal)
    }
}

/// What was said with it, where anything was.
fn note_of(approval: &LiveApproval) -> String {
    let note = approval.ending().and_then(|ending| ending.note);
    note.map(|note| format!(" ({note})")).unwrap_or_default()
}

fn problem_words(reason: Reason) -> String {
    let described = super::respond::problem(reason);
    format!("{} {}", described.meaning, described.cure)
}

fn look_up_session() -> Next {
    Next {
        action: Action::DoSomethingElse,
        method: Some("GET"),
        href: Some("/.toolgate/session".into()),
        body: None,
        seconds: None,
    }
}

fn request_grant(scope: &str, resource: Option<&Resource>) -> Next {
    let mut body = json!({"scope": scope, "reason": "why you need it"});
    // A grant is for one, or for all that the session may touch: a call on several goes on the latter.
    if let Some(resource) = resource.filter(|all| all.each().nth(1).is_none()) {
        body["resource"] = resource.as_str().into();
    }
    Next {
        action: Action::RequestGrant,
        method: Some("POST"),
        href: Some("/.toolgate/grants".into()),
        body: Some(body),
        seconds: None,
    }
}

/// When it is worth asking again whether a person has answered: seldom enough not to be a burden.
pub(super) const PENDING_RETRY: Duration = Duration::from_secs(5);
/// What a call asks again after when ledger or store are away: long enough not to add to the trouble.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(2);
