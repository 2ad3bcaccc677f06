//! OCSF 1.7.0 events. A call is API Activity (6003), twice: as it was decided and as it ended. Sessions begin and end as
//! Authentication (3002), grants are User Access Management (3005), approvals, quarantines, pins, intents and policies Entity
//! Management (3004), the gate's own life Application Lifecycle (6002), admin calls API Activity again.
//!
//! `raw_data` has the ledger's line as it is, so nothing is lost, and it can be found and proven in the ledger:
//! `metadata.sequence` is its number, `metadata.log_name` the instance.

use super::micros;
use crate::ledger::timestamp;
use serde_json::{Value, json};

/// A record as an event; `decision` is that of an outcome's call, where it is known.
pub(super) fn event(record: &Value, decision: Option<&Value>) -> Value {
    let change = text(record, "change").unwrap_or_default();
    let mut event = match text(record, "kind") {
        Some("decision") => call(record),
        Some("outcome") => ended(record, decision),
        Some("session") if change != "intent" => session(record, change),
        Some("grant") => grant(record, change),
        Some("principal") if change == "called" => admin_call(record),
        Some("principal") => failed(record),
        Some("gate") => life(record, change),
        _ => entity(record, change),
    };
    let (class, activity) = (
        event["class_uid"].as_u64().unwrap_or(0),
        event["activity_id"].as_u64().unwrap_or(0),
    );
    event["category_uid"] = (class / 1000).into();
    event["type_uid"] = (class * 100 + activity).into();
    event["time"] = (micros(record) / 1000).into();
    event["metadata"] = metadata(record);
    event["raw_data"] = record.to_string().into();
    if let Some(trace) = text(record, "trace") {
        event["trace"] = json!({ "uid": trace });
        event["metadata"]["profiles"] = json!(["trace"]);
    }
    if event["severity_id"].is_null() {
        event["severity_id"] = INFORMATIONAL.into();
    }
    without_nulls(event)
}

fn metadata(record: &Value) -> Value {
    json!({
        "version": VERSION,
        "product": { "name": "Toolgate", "vendor_name": "Toolgate", "version": env!("CARGO_PKG_VERSION"), "uid": record["instance"] },
        "log_name": record["instance"],
        "log_provider": "toolgate ledger",
        "uid": format!("{}:{}", text(record, "instance").unwrap_or_default(), record["seq"]),
        "sequence": record["seq"],
        "original_time": record["time"],
        "event_code": match (text(record, "kind"), text(record, "change")) {
            (Some(kind), Some(change)) => format!("{kind}.{change}"),
            (kind, _) => kind.unwrap_or_default().to_owned(),
        },
        "correlation_uid": text(record, "request").or_else(|| text(record, "session")),
        "tenant_uid": record["project"],
    })
}

fn call(record: &Value) -> Value {
    let (activity, name) = activity(text(record, "method").unwrap_or_default());
    let (status, word) = match text(record, "decision") {
        Some("allow") => (SUCCESS, "Success"),
        Some("deny") => (FAILURE, "Failure"),
        _ => (OTHER, "Held"),
    };
    // What passed in shadow passed; what is noteworthy of it is why it would not have.
    let would = &record["shadow"];
    let detail = match (text(would, "would"), text(would, "reason")) {
        (Some(would), Some(reason)) => format!("shadow: {would}: {reason}").into(),
        _ => record["reason"].clone(),
    };
    json!({
        "class_uid": 6003, "activity_id": activity, "activity_name": name,
        "severity_id": if status == FAILURE || would.is_object() { LOW } else { INFORMATIONAL },
        "status_id": status, "status": word,
        "status_code": record["decision"], "status_detail": detail,
        "actor": actor(record, Some(record)),
        "api": api(record),
        "src_endpoint": source(record),
        "http_request": {
            "uid": record["request"], "http_method": method(record), "url": url(record), "body_length": record["body_bytes"],
        },
        "resources": resources(record),
    })
}

fn ended(record: &Value, decision: Option<&Value>) -> Value {
    let wanted = decision.unwrap_or(record);
    let (activity, name) = decision.map_or((0, "Unknown"), |decision| {
        activity(text(decision, "method").unwrap_or_default())
    });
    let (status, word) = match (record["status"].as_u64(), text(record, "fault")) {
        (None, _) => (0, "Unknown"),
        (Some(code), None) if code < 400 => (SUCCESS, "Success"),
        _ => (FAILURE, "Failure"),
    };
    let mut api = api(wanted);
    api["response"] = json!({ "code": record["status"], "error": record["fault"] });
    json!({
        "class_uid": 6003, "activity_id": activity, "activity_name": name,
        "status_id": status, "status": word,
        "status_code": record["status"].as_u64().map(|code| code.to_string()), "status_detail": record["fault"],
        "duration": record["total_micros"].as_u64().map(|micros| micros / 1000),
        "actor": actor(wanted, decision),
        "api": api,
        "src_endpoint": source(wanted),
        "http_request": decision.map(|decision| json!({
            "uid": record["request"], "http_method": method(decision), "url": url(decision), "body_length": record["bytes_in"],
        })),
        "http_response": record["status"].as_u64().map(|code| json!({ "code": code, "body_length": record["bytes_out"] })),
        "resources": resources(wanted),
    })
}

fn session(record: &Value, change: &str) -> Value {
    let (activity, name) = if change == "minted" {
        (1, "Logon")
    } else {
        (2, "Logoff")
    };
    json!({
        "class_uid": 3002, "activity_id": activity, "activity_name": name, "status_id": SUCCESS, "status": "Success",
        "user": agent(record), "actor": causer(record),
        "session": { "uid": record["session"], "expiration_time": expires(record) },
        "service": { "name": "toolgate", "uid": record["instance"] },
        "status_detail": change,
    })
}

fn grant(record: &Value, change: &str) -> Value {
    let (activity, name) = if change == "given" {
        (1, "Assign Privileges")
    } else {
        (2, "Revoke Privileges")
    };
    json!({
        "class_uid": 3005, "activity_id": activity, "activity_name": name, "status_id": SUCCESS, "status": "Success",
        "user": agent(record), "actor": causer(record), "privileges": [record["scope"]],
        "resources": resources(record),
        "message": record["why"], "status_detail": change,
    })
}

fn admin_call(record: &Value) -> Value {
    let detail = text(record, "detail").unwrap_or_default();
    let (activity, name) = activity(detail.split(' ').next().unwrap_or_default());
    json!({
        "class_uid": 6003, "activity_id": activity, "activity_name": name, "status_id": SUCCESS, "status": "Success",
        "actor": causer(record), "api": { "operation": detail, "service": { "name": "toolgate admin" } },
        "src_endpoint": source(record), "message": record["detail"],
    })
}

/// Who could not say who they are; summed up by the second.
fn failed(record: &Value) -> Value {
    json!({
        "class_uid": 3002, "activity_id": 1, "activity_name": "Logon", "severity_id": MEDIUM,
        "status_id": FAILURE, "status": "Failure", "count": record["count"],
        "user": { "name": text(record, "principal").unwrap_or("unknown") },
        "service": { "name": "toolgate", "uid": record["instance"] },
        "src_endpoint": source(record), "message": record["detail"], "status_detail": record["change"],
    })
}

fn life(record: &Value, change: &str) -> Value {
    let (activity, name) = match change {
        "started" => (3, "Start"),
        "stopped" => (4, "Stop"),
        _ => (99, change),
    };
    let fault = change == "fault";
    json!({
        "class_uid": 6002, "activity_id": activity, "activity_name": name,
        "severity_id": if fault { HIGH } else { INFORMATIONAL },
        "status_id": if fault { FAILURE } else { SUCCESS }, "status": if fault { "Failure" } else { "Success" },
        "app": { "name": "Toolgate", "vendor_name": "Toolgate", "version": text(record, "version"), "uid": record["instance"] },
        "message": record["detail"],
    })
}

fn entity(record: &Value, change: &str) -> Value {
    let kind = text(record, "kind").unwrap_or_default();
    let (activity, name) = match (kind, change) {
        ("approval", "requested") | ("policy", "loaded") => (1, "Create"),
        ("pin", "pinned") => (1, "Create"),
        ("pin", "forgotten") => (4, "Delete"),
        ("pin", "changed") => (12, "Suspend"),
        ("pin", "restored" | "accepted") => (13, "Resume"),
        ("quarantine", "quarantined") => (12, "Suspend"),
        ("quarantine", "released") => (13, "Resume"),
        _ => (3, "Update"),
    };
    let stopped = matches!(
        (kind, change),
        ("quarantine", "quarantined") | ("pin", "changed")
    );
    let failed = change == "rejected";
    json!({
        "class_uid": 3004, "activity_id": activity, "activity_name": name,
        "severity_id": if stopped { HIGH } else if failed { MEDIUM } else { INFORMATIONAL },
        "status_id": if failed { FAILURE } else { SUCCESS }, "status": if failed { "Failure" } else { "Success" },
        "actor": causer(record),
        "entity": {
            "name": kind, "type": kind,
            "uid": first(record, &["approval", "digest", "session"]),
            "data": record,
        },
        "message": first(record, &["note", "reason", "detail", "intent", "why"]),
        "status_detail": text(record, "word").unwrap_or(change),
    })
}

/// The run that calls, and what it was allowed by.
fn actor(record: &Value, decision: Option<&Value>) -> Value {
    json!({
        "session": { "uid": record["session"] },
        "user": agent(record),
        "authorizations": decision.map(|decision| json!([{
            "decision": decision["decision"],
            "policy": { "name": decision["project"], "uid": decision["policy"] },
        }])),
    })
}

/// The run as a user: it has a name of its own only where the record says so.
fn agent(record: &Value) -> Value {
    json!({ "name": record["agent"], "uid": record["session"], "type": "Agent", "type_id": OTHER })
}

/// Whoever changed something.
fn causer(record: &Value) -> Value {
    match (text(record, "principal"), text(record, "cause")) {
        (Some(name), _) => json!({ "user": { "name": name } }),
        (None, Some("agent")) => {
            json!({ "user": agent(record), "session": { "uid": record["session"] } })
        }
        _ => json!({ "app_name": "toolgate" }),
    }
}

fn api(record: &Value) -> Value {
    json!({
        "operation": text(record, "route").or_else(|| text(record, "method")).unwrap_or("unknown"),
        "service": text(record, "tool").map(|tool| json!({ "name": tool })),
        "request": { "uid": record["request"] },
    })
}

/// Where it came from; the run, where no address is on record.
fn source(record: &Value) -> Value {
    match text(record, "client") {
        Some(address) => json!({ "ip": address }),
        None => json!({ "uid": text(record, "session").unwrap_or("unknown") }),
    }
}

/// Other methods than these have no place in an event but its `raw_data`.
fn method(record: &Value) -> Option<&str> {
    text(record, "method").filter(|method| METHODS.contains(method))
}

fn url(record: &Value) -> Value {
    let target = text(record, "target").unwrap_or_default();
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    json!({ "path": path, "query_string": query })
}

fn resources(record: &Value) -> Option<Value> {
    let resource = text(record, "resource")?;
    let one = |resource: &str| {
        let kind = resource.split_once(':').map(|(kind, _)| kind);
        json!({ "uid": resource, "type": kind })
    };
    Some(resource.split(' ').map(one).collect())
}

fn expires(record: &Value) -> Option<i64> {
    let time = timestamp(text(record, "expires")?)?;
    Some(time.micros().div_euclid(1000))
}

fn activity(method: &str) -> (u64, &str) {
    match method {
        "POST" => (1, "Create"),
        "GET" | "HEAD" | "OPTIONS" => (2, "Read"),
        "PUT" | "PATCH" => (3, "Update"),
        "DELETE" => (4, "Delete"),
        other => (99, other),
    }
}

fn text<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    record[name].as_str()
}

/// The first of these fields that is there.
fn first<'a>(record: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| text(record, name))
}

/// What is not there is left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let there = members.into_iter().filter(|(_, member)| !member.is_null());
            Value::Object(
                there
                    .map(|(name, member)| (name, without_nulls(member)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

const VERSION: &str = "1.7.0";
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];
const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;
const OTHER: u64 = 99;
const INFORMATIONAL: u64 = 1;
const LOW: u64 = 2;
const MEDIUM: u64 = 3;
const HIGH: u64 = 4;
