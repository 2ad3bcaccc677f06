//! Several evaluations in one request: each for itself, what it leaves out from the top, in order, up to where the caller
//! wants to know no more.

use super::Flaw;
use super::question::{flaw, member};
use crate::policy::json::Value;

/// Several evaluations.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'v> {
    /// As they came; none is empty, and each may be anything.
    pub evaluations: &'v [Value<'v>],
    /// How far they are answered.
    pub semantic: Semantic,
}

/// When the answering ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Semantic {
    /// With the last.
    ExecuteAll,
    /// With the first no.
    DenyOnFirstDeny,
    /// With the first yes.
    PermitOnFirstPermit,
}

impl<'v> Batch<'v> {
    /// `None`: there are no `evaluations`, and then it is a single one, the standard says.
    ///
    /// # Errors
    /// [`Flaw`]: too many, or options that are not known.
    pub fn read(value: &'v Value<'v>) -> Result<Option<Self>, Flaw> {
        let evaluations = match member(value, "evaluations", "evaluations")? {
            None => return Ok(None),
            Some(Value::List(list)) if list.is_empty() => return Ok(None),
            Some(Value::List(list)) => list,
            Some(_) => return flaw("evaluations", "is not a list"),
        };
        if evaluations.len() > EVALUATIONS_MAX {
            return flaw(
                "evaluations",
                "has more than 64 members; ask for less at once",
            );
        }
        Ok(Some(Self {
            evaluations,
            semantic: Semantic::read(value)?,
        }))
    }
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

    fn read(value: &Value<'_>) -> Result<Self, Flaw> {
        const NAME: &str = "options.evaluations_semantic";
        let written = match member(value, "options", "options")? {
            None => None,
            Some(options @ Value::Object(_)) => member(options, "evaluations_semantic", NAME)?,
            Some(_) => return flaw("options", "is not an object"),
        };
        match written {
            None => Ok(Semantic::ExecuteAll),
            Some(Value::Text(text)) => match &**text {
                "execute_all" => Ok(Semantic::ExecuteAll),
                "deny_on_first_deny" => Ok(Semantic::DenyOnFirstDeny),
                "permit_on_first_permit" => Ok(Semantic::PermitOnFirstPermit),
                _ => flaw(NAME, UNKNOWN),
            },
            Some(_) => flaw(NAME, UNKNOWN),
        }
    }
}

const UNKNOWN: &str = "is not `execute_all`, `deny_on_first_deny` or `permit_on_first_permit`";
/// Most evaluations of one request.
const EVALUATIONS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(usize, Semantic)>, Flaw> {
        let value = Value::read(text.as_bytes()).unwrap();
        let batch = Batch::read(&value)?;
        Ok(batch.map(|batch| (batch.evaluations.len(), batch.semantic)))
    }

    #[test]
    fn a_request_without_evaluations_is_a_single_one_and_too_many_are_refused() {
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"evaluations":[]}"#), Ok(None));
        assert_eq!(
            read(r#"{"evaluations":[1]}"#),
            Ok(Some((1, Semantic::ExecuteAll)))
        );
        assert!(read(r#"{"evaluations":{}}"#).is_err());
        let many = vec!["{}"; EVALUATIONS_MAX + 1].join(",");
        assert!(read(&format!(r#"{{"evaluations":[{many}]}}"#)).is_err());
    }

    #[test]
    fn a_semantic_is_one_of_three_or_refused() {
        let of = |options: &str| read(&format!(r#"{{"evaluations":[1],"options":{options}}}"#));
        let semantic = |name: &str| of(&format!(r#"{{"evaluations_semantic":"{name}"}}"#));
        assert_eq!(of("{}"), Ok(Some((1, Semantic::ExecuteAll))));
        assert_eq!(
            semantic("deny_on_first_deny"),
            Ok(Some((1, Semantic::DenyOnFirstDeny)))
        );
        assert_eq!(
            semantic("permit_on_first_permit"),
            Ok(Some((1, Semantic::PermitOnFirstPermit)))
        );
        assert!(semantic("permit_all").is_err());
        assert!(of(r#"{"evaluations_semantic":1}"#).is_err() && of("1").is_err());
    }
}
