//! The table of reasons: status, problem type, title, challenge, first thing to do, and the words of the problem page.
//!
//! One `match` without a catch-all: a reason that is not described here does not compile.

use crate::policy::decision::Reason;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// What a reason means, to a client, to a reader of the problem page and to a language model.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    /// Unless the refusal says otherwise (408, 414, 415 and kin).
    pub status: StatusCode,
    /// `type`: the gate's own page, or the registered problem where IANA has one.
    pub kind: Kind,
    /// `title`.
    pub title: &'static str,
    /// For the page: when it is given.
    pub meaning: &'static str,
    /// For the page: what to do about it.
    pub cure: &'static str,
    /// `next.action`, unless the refusal knows better.
    pub action: Action,
    /// `WWW-Authenticate`.
    pub challenge: Challenge,
}

/// Which challenge stands in the answer (RFC 6750, section 3): an error code only where a credential was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// None.
    None,
    /// The realm alone.
    Bare,
    /// `error="invalid_token"`.
    InvalidToken,
    /// `error="insufficient_scope"` and the scope.
    InsufficientScope,
}

/// Which document describes a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/.toolgate/problems/REASON`.
    Own,
    /// `https://iana.org/assignments/http-problem-types#quota-exceeded`.
    QuotaExceeded,
    /// `https://iana.org/assignments/http-problem-types#abnormal-usage-detected`.
    AbnormalUsage,
}

/// What the caller should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The orchestrator mints another session.
    AskOrchestrator,
    /// An operator looks at the session.
    AskOperator,
    /// The person the agent works for decides how to go on.
    AskUser,
    /// The request, as written, can never pass.
    FixRequest,
    /// Ask for a grant.
    RequestGrant,
    /// The same request may pass later.
    Wait,
    /// Another call, within what `GET /.toolgate/session` shows.
    DoSomethingElse,
    /// Say what the call is for.
    StateIntent,
}

/// The one table: a new reason does not compile until it is described here.
pub const fn problem(reason: Reason) -> Problem {
    use Action as A;
    use StatusCode as S;
    macro_rules! own {
        ($status:expr, $title:literal, $action:expr, $meaning:literal, $cure:literal) => {
            described($status, Kind::Own, $title, $action, $meaning, $cure)
        };
    }
    match reason {
        Reason::CredentialMissing => own!(
            S::UNAUTHORIZED,
            "No session token",
            A::AskOrchestrator,
            "The request carries no session token.",
            "Send the token as `Authorization: Bearer tgs_...`. Whoever started this run mints one for it."
        )
        .challenging(Challenge::Bare),
        Reason::CredentialInvalid => own!(
            S::UNAUTHORIZED,
            "Session token not valid",
            A::AskOrchestrator,
            "The session token is unknown, malformed, expired or revoked. The gate does not say which.",
            "Stop calling tools with this token and ask whoever started this run for a new session."
        )
        .challenging(Challenge::InvalidToken),
        Reason::Quarantined => described(
            S::FORBIDDEN,
            Kind::AbnormalUsage,
            "Session in quarantine",
            A::AskOperator,
            "The session did something that looks like a runaway or was stopped by an operator. Nothing of it passes.",
            "Stop. Retrying does not help; an operator has to look at the session and release it.",
        ),
        Reason::TargetAmbiguous => own!(
            S::BAD_REQUEST,
            "Ambiguous target",
            A::FixRequest,
            "Two readers could disagree on which resource the target names. The gate refuses such targets and never repairs them.",
            "Send a plain path: no `.`, `..` or empty segments, no encoded slashes or control characters, no `;`, no fragment."
        ),
        Reason::NoRoute => own!(
            S::FORBIDDEN,
            "No route for this call",
            A::DoSomethingElse,
            "The policy has no route for this method and path. The answer is the same whether the path or only the method is unknown.",
            "Check method and path against the tool's description; `GET /.toolgate/session` shows which scopes this session may hold."
        ),
        Reason::ScopeOutsideCeiling => own!(
            S::FORBIDDEN,
            "Scope outside the ceiling",
            A::AskUser,
            "The call needs a scope that this session may never be granted.",
            "Do something else, or tell the user that this run is not allowed to do it. Asking for a grant will not help."
        )
        .challenging(Challenge::InsufficientScope),
        Reason::ResourceOutsideCeiling => own!(
            S::FORBIDDEN,
            "Resource outside the ceiling",
            A::AskUser,
            "The session may hold the scope, but not on this resource.",
            "Check that the id is the one you were asked to work on; `GET /.toolgate/session` shows which resources are open."
        ),
        Reason::GrantMissing => own!(
            S::FORBIDDEN,
            "Grant missing",
            A::RequestGrant,
            "The session may be granted this, and holds no live grant for it.",
            "Ask with `POST /.toolgate/grants`, then repeat the call."
        )
        .challenging(Challenge::InsufficientScope),
        Reason::LimitExceeded => described(
            S::TOO_MANY_REQUESTS,
            Kind::QuotaExceeded,
            "Limit exceeded",
            A::Wait,
            "A limit on rate, number or cost of calls is exhausted.",
            "Wait as long as `Retry-After` says, then repeat the call. Fewer, larger calls stay within limits longer.",
        ),
        Reason::PendingApproval => own!(
            S::ACCEPTED,
            "Waiting for a person",
            A::Wait,
            "A person has to agree before this call is made. Nothing was sent to the tool yet.",
            "Repeat exactly the same call after `Retry-After`, or look with `GET /.toolgate/approvals/ID`. The repeated call gets the answer; the tool is called once, however often it is repeated."
        ),
        Reason::ApprovalDenied => own!(
            S::FORBIDDEN,
            "A person said no",
            A::AskUser,
            "A person looked at this very call and did not agree to it. The tool was not called.",
            "Don't repeat it: it is denied again without anybody being asked. Read the note, if there is one, and do something else or tell the user."
        ),
        Reason::ApprovalExpired => own!(
            S::FORBIDDEN,
            "Nobody answered in time",
            A::AskUser,
            "Nobody who may agree to this call did so in time, or it was agreed to and not called for in time. The tool was not called.",
            "Tell the user. The same call, repeated, asks anew."
        ),
        Reason::OutcomeUnknown => own!(
            S::CONFLICT,
            "Outcome unknown",
            A::AskOperator,
            "An approved call was begun and the gate does not know how it ended: the tool broke off or was too slow, or the gate was stopped. It may have taken effect. It is never made again by itself.",
            "Find out with another call whether it took effect. An operator can say what happened; until then the same call is answered like this."
        ),
        Reason::Unevaluable => own!(
            S::BAD_REQUEST,
            "Call can't be judged",
            A::FixRequest,
            "The policy decides this call by something in it that is missing, is there more than once, is of another type, or is read differently by different readers.",
            "Send what the detail names once, and in its plain form."
        ),
        Reason::ConditionUnmet => own!(
            S::FORBIDDEN,
            "Condition not met",
            A::DoSomethingElse,
            "The policy has a route for this method and path, and asks more of the call than this one says.",
            "The detail names what was asked about. Do something else, or tell the user that this run is not allowed to do it."
        ),
        Reason::ToolChanged => own!(
            S::FORBIDDEN,
            "Tool not as accepted",
            A::AskOperator,
            "What the tool's server says of the tool (its description, its schema, or anything else of its definition) is not what was accepted, or the gate has not seen it in a list yet. The tool was not called.",
            "If you have not listed the tools yet, do (`tools/list`), then call again. Otherwise don't repeat it: tell the user that this tool has changed and that an operator must look at the change and accept it first."
        ),
        Reason::BodyTooLarge => own!(
            S::PAYLOAD_TOO_LARGE,
            "Body too large",
            A::FixRequest,
            "The gate has to read this request's body, and it is longer than the bound.",
            "Send less in one request."
        ),
        Reason::BodyUnreadable => own!(
            S::BAD_REQUEST,
            "Body not readable",
            A::FixRequest,
            "The gate has to read this request's body and can't: wrong media type, coding or charset (415), or malformed (400).",
            "Send JSON in UTF-8 with `Content-Type: application/json`."
        ),
        Reason::RequestMalformed => own!(
            S::BAD_REQUEST,
            "Malformed request",
            A::FixRequest,
            "Framing, head, method or `Host` of the request is wrong or not supported.",
            "Send one well-formed HTTP request with exactly one `Host`."
        ),
        Reason::FieldForbidden => own!(
            S::BAD_REQUEST,
            "Forbidden field",
            A::FixRequest,
            "The request has a header field that may not be sent here: a method override, a second credential, a session token in the wrong place, or a protected field named in `Connection`.",
            "Leave the field out."
        ),
        Reason::InvalidInput => own!(
            S::BAD_REQUEST,
            "Invalid input",
            A::FixRequest,
            "The JSON or field sent to the gate itself is not what it expects. Unknown and repeated keys are refused.",
            "Send what the detail asks for."
        ),
        Reason::NotFound => own!(
            S::NOT_FOUND,
            "Not found",
            A::FixRequest,
            "Nothing under `/.toolgate/` has this name, or the id is not one of this session's.",
            "`GET /.toolgate/session` lists what the session holds."
        ),
        Reason::TooManyPending => own!(
            S::TOO_MANY_REQUESTS,
            "Too many approvals pending",
            A::Wait,
            "As many calls of this session wait for a person as may at once, in all or for this route.",
            "Wait until some of them were decided; `GET /.toolgate/session` lists them, `DELETE /.toolgate/approvals/ID` takes one back."
        ),
        Reason::ApprovalVoid => own!(
            S::FORBIDDEN,
            "Approval no longer valid",
            A::Wait,
            "The approval of this call was taken back, or what was agreed to is not what the present policy would let run. The tool was not called.",
            "If the call is still needed, repeat it: it is judged anew, and a person asked anew where one must agree."
        ),
        Reason::OutcomeNotKept => own!(
            S::CONFLICT,
            "Answer not kept",
            A::DoSomethingElse,
            "The approved call ran, once, and its answer reached nobody and was too long to be kept, or broke off. It is not made again.",
            "The detail says with which status the tool answered. Read with another call what you need to know."
        ),
        Reason::RoleMissing => own!(
            S::FORBIDDEN,
            "Role missing",
            A::AskOperator,
            "The principal's roles do not permit this call of the admin API.",
            "Use a principal that has the role."
        ),
        Reason::Conflict => own!(
            S::CONFLICT,
            "Conflict",
            A::FixRequest,
            "The request does not fit the present state: something was changed, decided or given before it.",
            "Read the present state, then decide whether anything is left to do."
        ),
        Reason::IntentMissing => own!(
            S::BAD_REQUEST,
            "Intent missing",
            A::StateIntent,
            "The route demands that the agent says what it is doing.",
            "Send `Toolgate-Intent` with the call, or set the session's intent with `PUT /.toolgate/intent`."
        ),
        Reason::UpstreamFailed => own!(
            S::BAD_GATEWAY,
            "Tool failed",
            A::Wait,
            "The tool's backend could not be reached, broke the connection or answered nonsense.",
            "If the call changes something, find out first whether it did; the gate does not repeat it."
        ),
        Reason::UpstreamTimeout => own!(
            S::GATEWAY_TIMEOUT,
            "Tool too slow",
            A::Wait,
            "The tool's backend did not answer in time.",
            "If the call changes something, find out first whether it did; the gate does not repeat it."
        ),
        Reason::LedgerUnavailable => own!(
            S::SERVICE_UNAVAILABLE,
            "Ledger unavailable",
            A::Wait,
            "The call can't be recorded at present, and nothing is forwarded unrecorded.",
            "Repeat the call after `Retry-After`."
        ),
        Reason::StoreUnavailable => own!(
            S::SERVICE_UNAVAILABLE,
            "Store unavailable",
            A::Wait,
            "The change can't be made durable at present. A use of a stored grant that was begun is spent.",
            "Repeat the call after `Retry-After`."
        ),
        Reason::Overloaded => own!(
            S::SERVICE_UNAVAILABLE,
            "Overloaded",
            A::Wait,
            "A bound of the gate itself is met.",
            "Repeat the call after `Retry-After`."
        ),
        Reason::Internal => own!(
            S::INTERNAL_SERVER_ERROR,
            "Fault of the gate",
            A::AskOperator,
            "The gate itself failed on this call.",
            "Tell the operator the request id. If the call changes something, find out first whether it did."
        ),
    }
}

const fn described(
    status: StatusCode,
    kind: Kind,
    title: &'static str,
    action: Action,
    meaning: &'static str,
    cure: &'static str,
) -> Problem {
    Problem {
        status,
        kind,
        title,
        meaning,
        cure,
        action,
        challenge: Challenge::None,
    }
}

impl Problem {
    const fn challenging(mut self, challenge: Challenge) -> Self {
        self.challenge = challenge;
        self
    }
}

/// The `type` of a reason's problem document.
pub fn problem_type(reason: Reason) -> String {
    match problem(reason).kind {
        Kind::Own => format!("/.toolgate/problems/{}", reason.as_str()),
        Kind::QuotaExceeded => {
            "https://iana.org/assignments/http-problem-types#quota-exceeded".into()
        }
        Kind::AbnormalUsage => {
            "https://iana.org/assignments/http-problem-types#abnormal-usage-detected".into()
        }
    }
}

impl Challenge {
    /// The value of `WWW-Authenticate`; scopes are names, and the metadata's address was judged when it was loaded, so
    /// nothing in them needs quoting.
    pub(super) fn field(self, scope: Option<&str>, metadata: Option<&str>) -> Option<HeaderValue> {
        let error = match (self, scope) {
            (Challenge::None, _) | (Challenge::InsufficientScope, None) => return None,
            (Challenge::Bare, _) => String::new(),
            (Challenge::InvalidToken, _) => ", error=\"invalid_token\"".to_owned(),
            (Challenge::InsufficientScope, Some(scope)) => {
                format!(", error=\"insufficient_scope\", scope=\"{scope}\"")
            }
        };
        let metadata =
            metadata.map_or_else(String::new, |url| format!(", resource_metadata=\"{url}\""));
        HeaderValue::from_str(&format!("Bearer realm=\"toolgate\"{error}{metadata}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_status_a_title_and_words() {
        for reason in Reason::ALL {
            let described = problem(*reason);
            // Who waits for a person has met no error.
            assert!(
                described.status.is_client_error()
                    || described.status.is_server_error()
                    || *reason == Reason::PendingApproval,
                "{reason:?}"
            );
            assert!(!described.title.is_empty() && !described.cure.is_empty());
            assert!(described.meaning.ends_with('.') && described.cure.ends_with('.'));
        }
    }
}
