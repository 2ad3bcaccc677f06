//! What a request asks: one evaluation, or several with defaults and a semantic. Read whole before anything is decided.

use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::policy::function::{Flaw, Question};
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

/// When the answering ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Semantic {
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

impl Semantic {
    /// Whether nothing is answered behind this.
    pub fn ends_with(self, yes: bool) -> bool {
        match self {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !yes,
            Semantic::PermitOnFirstPermit => yes,
        }
    }

    fn read(value: &Value<'_>) -> Result<Self, Refusal> {
        let options = member(value, "options")?;
        let written = match options {
            None => return Ok(Semantic::ExecuteAll),
            Some(options @ Value::Object(_)) => member(options, "evaluations_semantic")?,
            Some(_) => return Err(Refusal::invalid_input("`options` is not an object")),
        };
        match written {
            None => Ok(Semantic::ExecuteAll),
            Some(Value::Text(text)) if text == "execute_all" => Ok(Semantic::ExecuteAll),
            Some(Value::Text(text)) if text == "deny_on_first_deny" => {
                Ok(Semantic::DenyOnFirstDeny)
            }
            Some(Value::Text(text)) if text == "permit_on_first_permit" => {
                Ok(Semantic::PermitOnFirstPermit)
            }
            Some(_) => Err(Refusal::invalid_input(
                "`options.evaluations_semantic` is `execute_all`, `deny_on_first_deny` or `permit_on_first_permit`",
            )),
        }
    }
}

impl<'v> Asks<'v> {
    /// # Errors
    /// It asks nothing.
    pub fn read(kind: Kind, value: &'v Value<'v>, caller: &Caller) -> Result<Self, Refusal> {
        let several = match kind {
            Kind::Evaluation => None,
            Kind::Evaluations => member(value, "evaluations")?,
        };
        let list = match several {
            // Then it is an evaluation like any other, the standard says.
            None => &[][..],
            Some(Value::List(list)) => list,
            Some(_) => return Err(Refusal::invalid_input("`evaluations` is not a list")),
        };
        if list.is_empty() {
            return question(value, None, caller).map(Asks::One);
        }
        if list.len() > EVALUATIONS_MAX {
            return Err(Refusal::invalid_input(format!(
                "ask at most {EVALUATIONS_MAX} evaluations at once"
            )));
        }
        let semantic = Semantic::read(value)?;
        let questions = list.iter().map(|one| match one {
            Value::Object(_) => question(one, Some(value), caller),
            _ => Err(Refusal::invalid_input("an evaluation is not an object")),
        });
        Ok(Asks::Several(Several {
            questions: questions.collect(),
            semantic,
        }))
    }
}

/// One question, which is about the caller's own session.
fn question<'v>(
    value: &'v Value<'v>,
    defaults: Option<&'v Value<'v>>,
    caller: &Caller,
) -> Result<Question<'v>, Refusal> {
    let subject = Question::subject(value, defaults).map_err(flawed)?;
    let own = caller.session.facts.id.to_string();
    if subject.kind != "session" || !(subject.id.is_empty() || subject.id == own) {
        return Err(Refusal::invalid_input(
            "`subject` is always this session: send {\"type\": \"session\"}; whose call it is, the session token says",
        ));
    }
    Question::read(value, defaults).map_err(flawed)
}

/// What is wrong with a question, in the words of a refusal.
pub(in crate::gate) fn flawed(flaw: Flaw) -> Refusal {
    Refusal::invalid_input(format!(
        "{flaw}; AuthZEN asks for `subject`, `action.name`, `resource.type` and `resource.id`"
    ))
}

fn member<'v>(value: &'v Value<'v>, name: &str) -> Result<Option<&'v Value<'v>>, Refusal> {
    let twice = |_| Refusal::invalid_input(format!("`{name}` stands there in two spellings"));
    value.at([name]).map_err(twice)
}

/// Most evaluations of one request.
const EVALUATIONS_MAX: usize = 64;
