//! The message: `{"type", "timestamp", "data"}`, as Standard Webhooks recommend.
//!
//! `data` says who wants what and where a person decides it. What agents send (bodies, targets, header fields) stays in
//! the console; `intent` is the agent's own words all the same, and the documents say so.

use crate::ledger::rfc3339;
use crate::store::outbox::NoticeRow;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The message that a notice becomes; `console` is where the console is found: `https://host[:port]`.
pub(super) fn payload(notice: &NoticeRow, console: &str) -> Arc<str> {
    let mut data: Map<String, Value> = serde_json::from_str(&notice.data).unwrap_or_default();
    let named = |name: &str| data.get(name).and_then(Value::as_str);
    let page = match (named("approval"), named("session"), named("tool")) {
        (Some(approval), ..) => format!("/approvals/{approval}"),
        (None, Some(session), _) => format!("/sessions/{session}"),
        // What its server says of it.
        (None, None, Some(_)) => "/policy".to_owned(),
        (None, None, None) => "/".to_owned(),
    };
    data.insert("url".to_owned(), format!("{console}{page}").into());
    json!({"type": notice.kind, "timestamp": rfc3339(notice.at), "data": data})
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::name::ProjectName;
    use crate::policy::time::Timestamp;

    fn read(data: &str) -> Value {
        let notice = NoticeRow {
            id: "ses_1.quarantined".into(),
            project: ProjectName::parse("demo").unwrap(),
            chain: None,
            kind: "session.quarantined".into(),
            at: Timestamp::from_micros(1_700_000_000_500_000),
            data: data.into(),
        };
        serde_json::from_str(&payload(&notice, "https://gate.example")).unwrap()
    }

    #[test]
    fn a_message_says_what_when_and_where_a_person_looks_at_it() {
        let said = read(r#"{"project":"demo","session":"ses_1","reason":"\"}{"}"#);
        let expected = json!({
            "type": "session.quarantined",
            "timestamp": "2023-11-14T22:13:20.500000Z",
            "data": {
                "project": "demo", "session": "ses_1", "reason": "\"}{",
                "url": "https://gate.example/sessions/ses_1",
            },
        });
        assert_eq!(said, expected);
    }

    #[test]
    fn a_message_of_a_changed_tool_leads_to_the_page_that_lists_it() {
        let said = read(r#"{"project":"demo","tool":"till","names":["pay"],"changed":1}"#);
        assert_eq!(said["data"]["url"], "https://gate.example/policy");
    }

    #[test]
    fn a_message_of_an_approval_leads_to_its_page() {
        let said = read(r#"{"approval":"apr_1","session":"ses_1"}"#);
        assert_eq!(said["data"]["url"], "https://gate.example/approvals/apr_1");
    }
}
