//! What the ledger is asked for by a page: the filters of the command line and of the admin API, by the same names, as
//! fields of a form and as the query of a link.

use crate::ledger::query::Filter;
use crate::policy::time::Timestamp;
use std::fmt::Write as _;

/// The filters, as they were asked for.
#[derive(Debug)]
pub(super) struct Form {
    /// Shown at once.
    pub fields: Vec<Field>,
    /// Shown where one of them is used, or asked for.
    pub more: Vec<Field>,
    pub uses_more: bool,
    /// `allow`, `deny`, `hold` or nothing.
    pub decision: String,
    /// What is no filter.
    unknown: Option<String>,
    after: Option<u64>,
}

/// A filter that is a text.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub value: String,
}

const FIELDS: [(&str, &str, &str); 6] = [
    ("resource", "Acted on", "user:7"),
    ("agent", "Agent", ""),
    ("session", "Session", "ses_…"),
    ("route", "Route", "users.delete"),
    ("since", "Since", "24h or 2026-11-17"),
    ("until", "Until", "1h or 2026-11-17"),
];
const MORE: [(&str, &str, &str); 11] = [
    ("project", "Project", ""),
    ("kind", "Kind", "decision,approval"),
    ("approval", "Approval", "apr_…"),
    ("request", "Call", "req_…"),
    ("run", "Run", ""),
    ("tool", "Tool", ""),
    ("scope", "Scope", ""),
    ("reason", "Reason", "grant_missing"),
    ("shadow", "Passed in shadow", "any, deny or hold"),
    ("principal", "Principal", ""),
    ("text", "Any text", ""),
];

impl Form {
    /// Of a query. A field that was left empty is none.
    pub(super) fn read(query: &str) -> Self {
        let pairs = decoded(query);
        let value = |name: &str| {
            let found = pairs.iter().find(|(each, _)| each == name);
            found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let field = |(name, label, hint)| Field {
            name,
            label,
            hint,
            value: value(name),
        };
        let more: Vec<Field> = MORE.into_iter().map(field).collect();
        let known = |name: &str| {
            let named = |(each, _, _): &(&str, _, _)| *each == name;
            FIELDS.iter().any(named)
                || MORE.iter().any(named)
                || matches!(name, "decision" | "after")
        };
        Self {
            fields: FIELDS.into_iter().map(field).collect(),
            uses_more: more.iter().any(|field| !field.value.is_empty()),
            more,
            decision: value("decision"),
            unknown: pairs
                .iter()
                .map(|(name, _)| name)
                .find(|name| !known(name))
                .cloned(),
            after: value("after").parse().ok(),
        }
    }

    /// Behind which record the page begins.
    pub(super) fn after(&self) -> Option<u64> {
        self.after
    }

    /// What is asked for.
    ///
    /// # Errors
    /// Which field can't be meant, in words.
    pub(super) fn filter(&self, now: Timestamp) -> Result<Filter, String> {
        let mut filter = Filter::default();
        let unknown = self.unknown.iter().map(|name| (name.as_str(), "x"));
        for (name, value) in unknown.chain(self.used()) {
            filter
                .set(name, value, now)
                .map_err(|why| sentence(&why.to_string()))?;
        }
        Ok(filter)
    }

    /// Whether decisions of this word are asked for.
    pub(super) fn asks(&self, decision: &str) -> bool {
        self.decision == decision
    }

    /// Whether anything is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.used().next().is_none()
    }

    /// The first page of what is asked for.
    pub(super) fn first(&self) -> String {
        link(self.used())
    }

    /// The page behind this record.
    pub(super) fn behind(&self, seq: u64) -> String {
        let seq = seq.to_string();
        link(self.used().chain([("after", seq.as_str())]))
    }

    fn used(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields.iter().chain(&self.more);
        let texts = fields.map(|field| (field.name, field.value.as_str()));
        texts
            .chain([("decision", self.decision.as_str())])
            .filter(|(_, value)| !value.is_empty())
    }
}

/// The ledger's page with these filters.
pub(super) fn link<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut path = "/ledger".to_owned();
    for (at, (name, value)) in pairs.into_iter().enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b',') {
                path.push(char::from(byte));
            } else {
                // Memory takes it.
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}

fn decoded(query: &str) -> Vec<(String, String)> {
    // As a form's body is read.
    axum::extract::Query::try_from_uri(&target(query)).map_or_else(|_| Vec::new(), |query| query.0)
}

fn target(query: &str) -> http::Uri {
    format!("/?{query}").parse().unwrap_or_default()
}

fn sentence(text: &str) -> String {
    format!("Nothing was looked for: {text}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_763_366_400_000_000);

    #[test]
    fn a_form_asks_for_what_is_filled_in_and_its_links_for_the_same() {
        let form = Form::read("resource=user%3A7&agent=&decision=deny&text=a+b%26c&after=12");
        assert_eq!(form.after(), Some(12));
        assert!(form.uses_more && !form.is_empty());
        let filter = form.filter(NOW).unwrap();
        assert_eq!(filter.resource.as_deref(), Some("user:7"));
        assert_eq!(filter.decision.as_deref(), Some("deny"));
        assert_eq!(filter.text.as_deref(), Some("a b&c"));
        assert_eq!(filter.agent, None);
        assert_eq!(
            form.first(),
            "/ledger?resource=user:7&text=a%20b%26c&decision=deny"
        );
        assert!(form.behind(7).ends_with("&decision=deny&after=7"));
        let again = Form::read(form.first().split_once('?').unwrap().1);
        assert_eq!(again.filter(NOW).unwrap(), filter);
        assert!(Form::read("").is_empty());
        assert_eq!(Form::read("agent=").first(), "/ledger");
    }

    #[test]
    fn what_can_not_be_meant_is_said_and_nothing_is_looked_for() {
        for (query, part) in [
            ("since=yesterday", "`since`"),
            ("colour=red", "`colour`"),
            ("session=7", "`session`"),
            ("decision=maybe", "`decision`"),
        ] {
            let wrong = Form::read(query).filter(NOW).unwrap_err();
            assert!(wrong.contains(part), "{wrong}");
        }
    }
}
