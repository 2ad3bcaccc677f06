//! Tools that are functions: code in the agent's own process asks, before it acts, whether it may. OpenID AuthZEN
//! Authorization API 1.0 at `/.toolgate/access/v1/evaluation` and `/evaluations`; the caller's session is the subject.
//!
//! One evaluation is one call, and its journey is that of any other: the session's limits, one look-up by name, the arms of
//! its match, limits, intent, resource, decision, people, grant, ledger. Only forwarding is missing: the answer is the word
//! itself, and it is a yes only where the call would have been forwarded. It refuses to speak for anybody but the caller.

mod batch;
mod rule;
mod said;

use super::body::RequestBody;
use super::hold::{Applied, Arrival, Patience, Preferred, Question as HeldQuestion, Word};
use super::own::input;
use super::record::{Caller, Content, Entry};
use super::refusal::Refusal;
use super::{Gate, Sequel, authenticate, level_of, shadow};
use crate::policy::decision::{Evidence, Reason};
use crate::policy::function::{self, Asked, Question};
use crate::policy::json::Value;
use crate::policy::model::{GrantMode, Route};
use crate::policy::resource::Resource;
use crate::store::live::Ask;
use crate::store::live::approvals::LiveApproval;
use batch::{Asks, Several};
use http::Response;
use rule::{Counted, Ruled, Wants, arm, is_again};
use std::sync::Arc;

pub(super) use batch::{Kind, flawed, own_subject};
pub(super) use said::{base, identify};

/// What an evaluation comes to, a refusal apart.
enum Answer {
    /// Nobody had to be asked, or this is what people agreed to.
    Yes(Option<Arc<LiveApproval>>),
    Pending(Arc<LiveApproval>, Applied),
}

/// What is said of one evaluation, and which preference made it be said when it was.
struct Said {
    value: serde_json::Value,
    applied: Applied,
}

impl From<serde_json::Value> for Said {
    fn from(value: serde_json::Value) -> Self {
        let applied = Applied::Neither;
        Self { value, applied }
    }
}

/// What is the same for all evaluations of one request.
struct Asking<'a> {
    caller: &'a Arc<Caller>,
    /// What the agent says it is doing, unless an evaluation says it for itself.
    stated: Option<Arc<str>>,
    patience: Patience,
    /// Scheme and authority by which the agent found the gate.
    base: String,
}

impl Gate {
    /// Answers an evaluation, or several.
    pub(super) async fn evaluate(
        &self,
        kind: Kind,
        arrival: Arrival<'_>,
        stated: Result<Option<Arc<str>>, Refusal>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let (gate, caller, headers) = (&*self.0, arrival.caller, &arrival.head.headers);
        let read = match input::one_credential(headers) {
            Ok(()) => input::bytes(headers, body, QUESTION_BYTES_MAX).await,
            Err(refusal) => Err(refusal),
        };
        let (text, stated) = match read.and_then(|text| Ok((text, stated?))) {
            Ok(read) => read,
            Err(refusal) => return Err(gate.counted(caller, refusal, entry).await),
        };
        let value = Value::read(&text).map_err(|why| {
            Refusal::invalid_input(format!("the body is not JSON that can be judged: {why}"))
        });
        let asks = value
            .as_ref()
            .map_err(|_| None)
            .and_then(|value| Asks::read(kind, value, caller).map_err(Some));
        let asks = match asks {
            Ok(asks) => asks,
            Err(refusal) => {
                let refusal = refusal.or(value.err()).unwrap_or_else(Refusal::internal);
                return Err(gate.counted(caller, refusal, entry).await);
            }
        };
        let preferred = Preferred::read(headers);
        let mut asking = Asking {
            caller,
            stated,
            patience: Patience::Preferred(preferred),
            base: base(arrival),
        };
        match asks {
            Asks::One(question) => {
                let said = self.say(&asking, &question, entry).await?;
                let mut response = said::answer(&said.value);
                preferred.applied(said.applied, response.headers_mut());
                Ok(response.map(|own| Sequel::Body(Content::Own(own))))
            }
            Asks::Several(several) => {
                // Others wait behind each of them.
                asking.patience = Patience::None;
                let said = self.say_all(&asking, several, entry).await;
                entry.own(Ok(said::answers(said)))
            }
        }
    }

    /// One evaluation, on record when this returns.
    ///
    /// # Errors
    /// It could not be decided: that is no decision.
    async fn say(
        &self,
        asking: &Asking<'_>,
        question: &Question<'_>,
        entry: &mut Entry,
    ) -> Result<Said, Refusal> {
        let again = question.approval.is_some();
        match self.answer(asking, question, entry).await {
            Ok(Answer::Yes(approval)) => Ok(said::yes(approval.as_deref()).into()),
            Ok(Answer::Pending(approval, applied)) => Ok(Said {
                value: said::pending(&approval, entry, &asking.base, again),
                applied,
            }),
            Err(refusal) => {
                let refusal = entry.deny(refusal).await;
                if !is_decision(refusal.reason()) {
                    return Err(refusal);
                }
                let lacking = refusal.reason() == Reason::GrantMissing;
                let wish = entry.route.filter(|_| lacking).and_then(|route| {
                    let route = asking.caller.ruleset.policy.route(route);
                    may_wish(asking.caller, route, entry.resource.clone())
                });
                let mut value = said::no(refusal, entry, again);
                if wish.is_some() {
                    said::requestable(&mut value, asking, question, entry.opened);
                }
                Ok(value.into())
            }
        }
    }

    /// Several, in their order, as far as their semantic goes. What could not be decided is a no.
    async fn say_all(
        &self,
        asking: &Asking<'_>,
        several: Several<'_>,
        entry: &Entry,
    ) -> Vec<serde_json::Value> {
        let mut all = Vec::with_capacity(several.questions.len());
        for question in several.questions {
            let mut entry = entry.beside();
            let said = match question {
                Ok(question) => {
                    let said = self.say(asking, &question, &mut entry).await;
                    said.map(|said| said.value)
                }
                Err(refusal) => {
                    let refusal = self.0.counted(asking.caller, refusal, &entry).await;
                    Err(entry.deny(refusal).await)
                }
            };
            let said = said.unwrap_or_else(|refusal| said::no(refusal, &entry, false));
            entry.over();
            let yes = said::is_yes(&said);
            all.push(said);
            if several.semantic.ends_with(yes) {
                break;
            }
        }
        all
    }

    /// Everything that is done to a question.
    async fn answer(
        &self,
        asking: &Asking<'_>,
        question: &Question<'_>,
        entry: &mut Entry,
    ) -> Result<Answer, Refusal> {
        let (gate, caller, now) = (&*self.0, asking.caller, entry.opened);
        let policy = &caller.ruleset.policy;
        // Also one that an evaluation before this one has put there.
        authenticate::not_quarantined(caller, now)?;
        let path = function::path(question.name());
        let path = path.as_deref().unwrap_or(TOO_LONG);
        entry.asks(path);
        let first = policy.table.find_function(path);
        let counted = gate.count_function(caller, question, (path, first), entry);
        let Counted {
            text,
            digest,
            held,
            standing,
            mut noted,
        } = counted.await?;
        let held = HeldQuestion {
            path,
            text: &text,
            digest: held,
        };
        let again = standing.as_ref().filter(|it| is_again(it));
        let unrouted = gate.take_of_function(caller, None, (path, &digest), false, now.tick);
        let Some(first) = first else {
            // A loop on a function that does not exist is a loop.
            unrouted.await?;
            return Err(Refusal::no_function());
        };
        let mut wants = Wants {
            caller,
            asked: Asked {
                question,
                session: &caller.session.facts,
                client: Some(entry.client),
                now: now.wall,
            },
            place: (path, digest),
            standing: standing.as_ref(),
            again,
            matched: first,
        };
        if noted.is_none() {
            let (matched, refusal) = arm(policy, &wants, first, entry);
            wants.matched = matched;
            if let Some(refusal) = refusal {
                let refusal = unrouted.await.err().unwrap_or(refusal);
                noted = Some(shadow::unjudged(refusal, caller, &first)?);
            }
        }
        let route = policy.route(wants.matched.route);
        (entry.tool, entry.route) = (Some(route.tool), Some(route.index));
        let ruled = match noted {
            None => gate.rule_function(asking, &wants, entry).await,
            Some(shadow::Noted(refusal)) => Err(refusal),
        };
        let denied = match ruled {
            Ok(Ruled::Again(approval)) => return self.stand_by(approval, asking, entry).await,
            Ok(Ruled::Allow(permit)) => Ok(permit),
            Ok(Ruled::Hold(hold)) if !route.shadow => {
                let approval = self.hold_function(hold, caller, held, entry).await?;
                return self.stand_by(approval, asking, entry).await;
            }
            Ok(Ruled::Hold(hold)) => Err(gate.unheld(hold, caller, entry).await),
            Err(refusal) => Err(refusal),
        };
        let evidence = match denied {
            Ok(permit) => Evidence::Permit(permit),
            // On a route in shadow it passes, on nothing.
            Err(refusal) => Evidence::Shadowed(gate.despite_of_function(
                refusal,
                route,
                caller,
                wants.standing,
                entry,
            )?),
        };
        // In the ledger before the yes leaves.
        let level = level_of(evidence.grant(), route.irreversible);
        entry.allow(&evidence, level).await?;
        gate.still_live(caller)?;
        Ok(Answer::Yes(None))
    }

    /// What people say of it, as far as it is waited for.
    async fn stand_by(
        &self,
        approval: Arc<LiveApproval>,
        asking: &Asking<'_>,
        entry: &mut Entry,
    ) -> Result<Answer, Refusal> {
        let word = self.word(&approval, asking.caller, asking.patience, entry);
        match Box::pin(word).await? {
            Word::Yes => Ok(Answer::Yes(Some(approval))),
            Word::Pending(applied) => Ok(Answer::Pending(approval, applied)),
        }
    }
}

/// The wish for a grant of a route's scope that a person may give, for whoever lacks just that.
pub(super) fn may_wish(caller: &Caller, route: &Route, resource: Option<Resource>) -> Option<Ask> {
    // A grant is for one.
    if resource
        .as_ref()
        .is_some_and(|all| all.each().nth(1).is_some())
    {
        return None;
    }
    let ask = Ask {
        scope: route.scope.clone(),
        resource,
        uses: None,
        ttl: None,
        why: String::new(),
    };
    let mode = ask.mode(&caller.ruleset.policy, &caller.session.facts)?;
    matches!(mode, GrantMode::OnApproval(_)).then_some(ask)
}

/// Whether a refusal is what was decided, and not that nothing could be.
const fn is_decision(reason: Reason) -> bool {
    match reason {
        Reason::Quarantined
        | Reason::NoRoute
        | Reason::ScopeOutsideCeiling
        | Reason::ResourceOutsideCeiling
        | Reason::GrantMissing
        | Reason::LimitExceeded
        | Reason::PendingApproval
        | Reason::ApprovalDenied
        | Reason::ApprovalExpired
        | Reason::OutcomeUnknown
        | Reason::Unevaluable
        | Reason::ConditionUnmet
        | Reason::ToolChanged
        | Reason::TooManyPending
        | Reason::ApprovalVoid
        | Reason::OutcomeNotKept
        | Reason::IntentMissing => true,
        Reason::CredentialMissing
        | Reason::CredentialInvalid
        | Reason::TargetAmbiguous
        | Reason::BodyTooLarge
        | Reason::BodyUnreadable
        | Reason::RequestMalformed
        | Reason::FieldForbidden
        | Reason::InvalidInput
        | Reason::NotFound
        | Reason::RoleMissing
        | Reason::Conflict
        | Reason::UpstreamFailed
        | Reason::UpstreamTimeout
        | Reason::LedgerUnavailable
        | Reason::StoreUnavailable
        | Reason::Overloaded
        | Reason::Internal => false,
    }
}

/// Longest question, or all questions of one request, that are read.
const QUESTION_BYTES_MAX: u64 = 256 * 1024;
/// Stands for a name that no route can have.
const TOO_LONG: &str = "/(longer than any name)";
