//! What is asked of the ledger, in words: one name and one meaning for the command line, the admin API and the console.
//!
//! It refuses what can't be meant (a kind that is no kind, a time that is none) and says which parameter it was.

use crate::ledger::timestamp;
use crate::policy::name::ProjectName;
use crate::policy::time::{Timestamp, duration};
use std::time::Duration;

/// Which records are wanted: those that meet everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of any of these projects. What belongs to no project is then left out.
    pub projects: Option<Vec<ProjectName>>,
    /// Of any of these kinds.
    pub kinds: Option<Vec<String>>,
    /// The kind of agent.
    pub agent: Option<String>,
    /// The run, `ses_...`.
    pub session: Option<String>,
    /// The orchestrator's own name for it.
    pub run: Option<String>,
    /// The backend.
    pub tool: Option<String>,
    /// The rule.
    pub route: Option<String>,
    /// The permission.
    pub scope: Option<String>,
    /// What was acted on, `type:id`, by itself or among others.
    pub resource: Option<String>,
    /// `allow`, `deny`, `hold`.
    pub decision: Option<String>,
    /// What passed because its route is in shadow: `deny` or `hold` as it would have been, or `any`.
    pub shadow: Option<String>,
    /// The code, or an operator's words; of what passed in shadow the code of what it would have been.
    pub reason: Option<String>,
    /// The call, `req_...`.
    pub request: Option<String>,
    /// `apr_...`
    pub approval: Option<String>,
    /// Who changed something.
    pub principal: Option<String>,
    /// Not earlier than this.
    pub since: Option<Timestamp>,
    /// Earlier than this.
    pub until: Option<Timestamp>,
    /// Stands in one of the record's texts, in capitals or not.
    pub text: Option<String>,
    /// What becomes of the outcomes of calls.
    pub outcomes: Outcomes,
}

/// An outcome says which call it is of, and of what session; what was wanted, only the decision says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcomes {
    /// Where the filter asks what an outcome can say of itself, it is a record like others; where it asks for more, it comes
    /// with its decision.
    #[default]
    AsFits,
    /// Each comes with its decision, whatever is asked: for who shows calls.
    WithDecisions,
}

/// A parameter that can't be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No such parameter.
    #[error("`{0}` is none of the filters: {names}", names = NAMES.join(", "))]
    Unknown(String),
    /// Its value is not one.
    #[error("`{name}` is {expected}, not {value:?}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it takes.
        expected: String,
        /// What was given.
        value: String,
    },
    /// It stands there twice.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
}

/// The names of the filters.
pub const NAMES: [&str; 18] = [
    "project",
    "kind",
    "agent",
    "session",
    "run",
    "tool",
    "route",
    "scope",
    "resource",
    "decision",
    "shadow",
    "reason",
    "request",
    "approval",
    "principal",
    "since",
    "until",
    "text",
];

/// The kinds of records.
pub const KINDS: [&str; 10] = [
    "decision",
    "outcome",
    "session",
    "grant",
    "approval",
    "quarantine",
    "pin",
    "policy",
    "principal",
    "gate",
];

impl Filter {
    /// Sets the filter of this name as it is written by a person: `kind` and `project` take several, with commas between;
    /// `since` and `until` a length of time before `now`, a day or a moment. A day given as `until` counts whole.
    ///
    /// # Errors
    /// [`FilterError`] names it.
    pub fn set(&mut self, name: &str, value: &str, now: Timestamp) -> Result<(), FilterError> {
        let name = *NAMES
            .iter()
            .find(|known| **known == name)
            .ok_or_else(|| FilterError::Unknown(name.to_owned()))?;
        let wrong = |expected: &str| FilterError::Value {
            name,
            expected: expected.to_owned(),
            value: value.to_owned(),
        };
        if value.is_empty() || value.len() > VALUE_BYTES_MAX {
            return Err(wrong("a text of 1 to 1024 bytes"));
        }
        let place = match name {
            "project" => {
                let names = value.split(',').map(ProjectName::parse);
                let names = names.collect::<Result<Vec<_>, _>>();
                return once(
                    name,
                    &mut self.projects,
                    names.map_err(|_| wrong("the name of a project"))?,
                );
            }
            "kind" => {
                let kinds: Vec<String> = value.split(',').map(str::to_owned).collect();
                if !kinds.iter().all(|kind| KINDS.contains(&&**kind)) {
                    return Err(wrong(&format!("one of {}", KINDS.join(", "))));
                }
                return once(name, &mut self.kinds, kinds);
            }
            "since" => {
                let since = moment(value, now, Edge::Start).ok_or_else(|| wrong(MOMENT))?;
                return once(name, &mut self.since, since);
            }
            "until" => {
                let until = moment(value, now, Edge::End).ok_or_else(|| wrong(MOMENT))?;
                return once(name, &mut self.until, until);
            }
            "decision" => {
                if !["allow", "deny", "hold"].contains(&value) {
                    return Err(wrong("one of allow, deny, hold"));
                }
                &mut self.decision
            }
            "shadow" => {
                if !["deny", "hold", "any"].contains(&value) {
                    return Err(wrong("one of deny, hold, any"));
                }
                &mut self.shadow
            }
            "session" => id(value, "ses_")
                .then_some(&mut self.session)
                .ok_or_else(|| wrong("`ses_` and 32 hex digits"))?,
            "request" => id(value, "req_")
                .then_some(&mut self.request)
                .ok_or_else(|| wrong("`req_` and 32 hex digits"))?,
            "approval" => id(value, "apr_")
                .then_some(&mut self.approval)
                .ok_or_else(|| wrong("`apr_` and 32 hex digits"))?,
            "agent" => &mut self.agent,
            "run" => &mut self.run,
            "tool" => &mut self.tool,
            "route" => &mut self.route,
            "scope" => &mut self.scope,
            "resource" => &mut self.resource,
            "reason" => &mut self.reason,
            "principal" => &mut self.principal,
            _ => &mut self.text,
        };
        once(name, place, value.to_owned())
    }

    /// The fields that must be exactly so.
    pub(super) fn exact(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("session", &self.session),
            ("request", &self.request),
            ("approval", &self.approval),
            ("resource", &self.resource),
            ("run", &self.run),
            ("principal", &self.principal),
            ("reason", &self.reason),
            ("route", &self.route),
            ("scope", &self.scope),
            ("tool", &self.tool),
            ("agent", &self.agent),
            ("decision", &self.decision),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// Whether outcomes come with their decisions, not by themselves.
    pub fn joins(&self) -> bool {
        let wanted = self
            .kinds
            .as_ref()
            .is_none_or(|kinds| kinds.iter().any(|kind| kind == "outcome"));
        let more = self.text.is_some()
            || self.shadow.is_some()
            || self
                .exact()
                .any(|(name, _)| !matches!(name, "session" | "request" | "principal"));
        wanted && (more || self.outcomes == Outcomes::WithDecisions)
    }
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), FilterError> {
    if place.replace(value).is_some() {
        return Err(FilterError::Twice(name));
    }
    Ok(())
}

fn id(text: &str, prefix: &str) -> bool {
    let hex = text.strip_prefix(prefix).unwrap_or_default();
    hex.len() == 32
        && hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Which end of a day is meant.
#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

fn moment(text: &str, now: Timestamp, edge: Edge) -> Option<Timestamp> {
    if let Some(span) = duration(text) {
        let micros = i64::try_from(span.as_micros()).ok()?;
        return Some(Timestamp::from_micros(now.micros().saturating_sub(micros)));
    }
    let at = |time: jiff::Timestamp| Timestamp::from_micros(time.as_microsecond());
    if text.len() == 10
        && let Ok(day) = text.parse::<jiff::civil::Date>()
    {
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        return Some(match edge {
            Edge::Start => at(start),
            Edge::End => at(start).plus(Duration::from_secs(24 * 3600)),
        });
    }
    timestamp(text)
}

const MOMENT: &str = "a length of time before now (`90m`, `24h`, `7d`), a day (`2026-11-17`, UTC) or a moment \
                      (`2026-11-17T08:00:00Z`)";
/// Longest value that is looked for.
const VALUE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_763_366_400_000_000);

    fn with(name: &str, value: &str) -> Result<Filter, FilterError> {
        let mut filter = Filter::default();
        filter.set(name, value, NOW)?;
        Ok(filter)
    }

    #[test]
    fn times_are_a_span_a_day_or_a_moment_and_a_day_counts_whole() {
        let hour = 3_600_000_000;
        assert_eq!(
            with("since", "1h").unwrap().since,
            Some(Timestamp::from_micros(NOW.micros() - hour))
        );
        let day = with("since", "2025-11-17").unwrap().since.unwrap();
        assert_eq!(day.micros(), 1_763_337_600_000_000);
        let end = with("until", "2025-11-17").unwrap().until.unwrap();
        assert_eq!(end.micros() - day.micros(), 24 * hour);
        let moment = with("until", "2025-11-17T01:00:00+01:00").unwrap().until;
        assert_eq!(moment, Some(day));
        for wrong in ["yesterday", "2025-13-01", "1", "1w", "-1h", ""] {
            assert!(with("since", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        let text = |name, value| with(name, value).unwrap_err().to_string();
        assert!(text("color", "red").starts_with("`color` is none of the filters: project, kind,"));
        assert!(text("kind", "decision,outcom").starts_with("`kind` is one of decision,"));
        assert!(
            text("decision", "allowed").starts_with("`decision` is one of allow, deny, hold, not")
        );
        assert!(text("session", "ses_1").starts_with("`session` is `ses_` and 32 hex digits"));
        assert!(text("text", &"x".repeat(1025)).starts_with("`text` is a text of 1 to 1024"));
        let mut filter = with("agent", "a").unwrap();
        assert_eq!(
            filter.set("agent", "b", NOW),
            Err(FilterError::Twice("agent"))
        );
    }

    #[test]
    fn outcomes_come_with_their_decisions_where_only_these_can_say_what_is_asked() {
        assert!(
            !with("session", "ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5")
                .unwrap()
                .joins()
        );
        assert!(!with("kind", "outcome").unwrap().joins());
        assert!(with("agent", "bot").unwrap().joins());
        assert!(with("text", "customer 7").unwrap().joins());
        let mut only = with("agent", "bot").unwrap();
        only.set("kind", "decision,approval", NOW).unwrap();
        assert!(!only.joins());
    }
}
