//! OpenTelemetry log records, as OTLP/JSON: one `LogsData` a line, the form that collectors read from files. Fields with a
//! name in the semantic conventions have it; all others are `toolgate.*`.

use super::micros;
use crate::cli::ledger::rows::{what, why};
use serde_json::{Map, Value, json};

/// A record as the logs of one resource.
pub(super) fn logs(record: &Value) -> Value {
    let kind = record["kind"].as_str().unwrap_or("record");
    let nanos = (i128::from(micros(record)) * 1000).max(0).to_string();
    let (number, text) = severity(record);
    let mut log = json!({
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": number,
        "severityText": text,
        "eventName": format!("toolgate.{kind}"),
        "body": { "stringValue": summary(record) },
        "attributes": attributes(record),
    });
    let trace = record["trace"].as_str();
    if let Some(trace) =
        trace.filter(|trace| trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        log["traceId"] = trace.into();
    }
    let resource = [
        attribute("service.name", json!("toolgate")),
        attribute("service.instance.id", record["instance"].clone()),
    ];
    json!({ "resourceLogs": [{
        "resource": { "attributes": resource },
        "scopeLogs": [{
            "scope": { "name": "toolgate.ledger", "version": env!("CARGO_PKG_VERSION") },
            "logRecords": [log],
        }],
    }] })
}

fn summary(record: &Value) -> String {
    let (what, why) = (what(record), why(record));
    if why.is_empty() {
        what
    } else {
        format!("{what}: {why}")
    }
}

fn severity(record: &Value) -> (u8, &'static str) {
    match (record["kind"].as_str(), record["change"].as_str()) {
        (Some("gate"), Some("fault")) => (17, "ERROR"),
        (Some("quarantine"), Some("quarantined"))
        | (Some("pin"), Some("changed" | "refused"))
        | (Some("principal"), Some("failed" | "strangers")) => (13, "WARN"),
        (Some("policy"), Some("rejected")) => (13, "WARN"),
        (Some("decision"), _) if record["decision"] == "deny" => (13, "WARN"),
        (Some("outcome"), _) if record["fault"].is_string() => (13, "WARN"),
        _ => (9, "INFO"),
    }
}

fn attributes(record: &Value) -> Vec<Value> {
    let none = Map::new();
    let fields = record.as_object().unwrap_or(&none);
    // The time and the trace have places of their own; the instance is the resource's.
    let own = fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "time" | "instance" | "trace"));
    let mut attributes: Vec<Value> = own
        .map(|(name, value)| attribute(&named(record, name), value.clone()))
        .collect();
    if record["kind"] == "decision"
        && let Some(target) = record["target"].as_str()
    {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        attributes.push(attribute("url.path", json!(path)));
        if !query.is_empty() {
            attributes.push(attribute("url.query", json!(query)));
        }
    }
    attributes
}

/// A field's name in the semantic conventions, where there is one.
fn named(record: &Value, name: &str) -> String {
    match name {
        "agent" => "gen_ai.agent.name".to_owned(),
        "method" => "http.request.method".to_owned(),
        "client" => "client.address".to_owned(),
        "status" if record["kind"] == "outcome" => "http.response.status_code".to_owned(),
        _ => format!("toolgate.{name}"),
    }
}

fn attribute(name: &str, value: Value) -> Value {
    let value = match value {
        Value::String(text) => json!({ "stringValue": text }),
        Value::Bool(is) => json!({ "boolValue": is }),
        // 64-bit integers are strings in the JSON of protobuf.
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": name, "value": value })
}
