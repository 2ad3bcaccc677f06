//! CloudEvents 1.0, structured JSON: `id` is the record's number, `source` the instance, `type` the kind (and change), `data`
//! the record whole. `source` and `id` together name a record among all gates.

use serde_json::{Value, json};

/// A record as an event.
pub(super) fn event(record: &Value) -> Value {
    let text = |name: &str| record[name].as_str();
    let kind = text("kind").unwrap_or("record");
    let kind = match text("change") {
        Some(change) => format!("toolgate.{kind}.{change}"),
        None => format!("toolgate.{kind}"),
    };
    let mut event = json!({
        "specversion": "1.0",
        "id": record["seq"].to_string(),
        "source": format!("/toolgate/{}", text("instance").unwrap_or_default()),
        "type": kind,
        "time": record["time"],
        "datacontenttype": "application/json",
        "data": record,
    });
    let about = ["approval", "grant", "request", "session"];
    // Of a decision or an outcome the call, whatever it goes on.
    let about = if text("change").is_none() {
        &about[2..]
    } else {
        &about[..]
    };
    if let Some(subject) = about.iter().find_map(|name| text(name)) {
        event["subject"] = subject.into();
    }
    event
}
