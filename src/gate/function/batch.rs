//! What a request asks: one evaluation, or several. Read whole before anything is decided.

use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::policy::function::{Batch, Flaw, Question, Semantic};
use crate::policy::json::Value;

/// Which endpoint was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gate) enum Kind {
    Evaluation,
    Evaluations,
}

impl Kind {
    /// By the path of a request.
    pub(in crate::gate) fn of(path: &str) -> Option<Self> {
        match path {
            "/.toolgate/access/v1/evaluation" => Some(Kind::Evaluation),
            "/.toolgate/access/v1/evaluations" => Some(Kind::Evaluations),
            _ => None,
        }
    }
}

/// What is asked.
pub(super) enum Asks<'v> {
    One(Question<'v>),
    Several(Several<'v>),
}

/// Several questions, each for itself.
pub(super) struct Several<'v> {
    /// One that can't be read is no reason not to answer the others.
    pub questions: Vec<Result<Question<'v>, Refusal>>,
    pub semantic: Semantic,
}

impl<'v> Asks<'v> {
    /// # Errors
    /// It asks nothing.
    pub fn read(kind: Kind, value: &'v Value<'v>, caller: &Caller) -> Result<Self, Refusal> {
        let batch = match kind {
            Kind::Evaluation => None,
            Kind::Evaluations => Batch::read(value).map_err(flawed)?,
        };
        let Some(batch) = batch else {
            return question(value, None, caller).map(Asks::One);
        };
        let questions = batch.evaluations.iter();
        let questions = questions.map(|one| question(one, Some(value), caller));
        Ok(Asks::Several(Several {
            questions: questions.collect(),
            semantic: batch.semantic,
        }))
    }
}

/// One question, which is about the caller's own session.
fn question<'v>(
    value: &'v Value<'v>,
    defaults: Option<&'v Value<'v>>,
    caller: &Caller,
) -> Result<Question<'v>, Refusal> {
    own_subject(value, defaults, caller)?;
    Question::read(value, defaults).map_err(flawed)
}

/// Refuses what is said to be about anybody else.
pub(in crate::gate) fn own_subject(
    value: &Value<'_>,
    defaults: Option<&Value<'_>>,
    caller: &Caller,
) -> Result<(), Refusal> {
    let subject = Question::subject(value, defaults).map_err(flawed)?;
    let own = caller.session.facts.id.to_string();
    if subject.kind == "session" && (subject.id.is_empty() || subject.id == own) {
        return Ok(());
    }
    Err(Refusal::invalid_input(
        "`subject` is always this session: send {\"type\": \"session\"}; whose call it is, the session token says",
    ))
}

/// What is wrong with a question, in the words of a refusal.
pub(in crate::gate) fn flawed(flaw: Flaw) -> Refusal {
    Refusal::invalid_input(format!(
        "{flaw}; an evaluation has `subject`, `action.name`, `resource.type` and `resource.id`, and its arguments in `context.args`"
    ))
}
