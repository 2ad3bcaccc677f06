//! The CRM's tools for models, over MCP: one address, at which the message says what is called.
//!
//! It stands for somebody else's server, as [`super::backend`] does: it knows no sessions, asks nobody, and lists whatever
//! it has.

use super::backend::Crm;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers one message.
pub async fn serve(State(crm): State<Arc<Crm>>, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (method, id) = (message["method"].as_str(), &message["id"]);
    let said = match method {
        Some("initialize") => Ok(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "crm", "version": "1"},
        })),
        Some("ping") => Ok(json!({})),
        Some("tools/list") => Ok(json!({"tools": tools()})),
        Some("tools/call") => called(&crm, &message["params"]),
        Some(note) if note.starts_with("notifications/") => {
            return StatusCode::ACCEPTED.into_response();
        }
        _ => Err((-32601, "no such method")),
    };
    Json(match said {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, why)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": why}})
        }
    })
    .into_response()
}

/// All it has, for anybody.
fn tools() -> Value {
    let of_customer = json!({
        "type": "object", "properties": {"user_id": {"type": "string"}}, "required": ["user_id"],
    });
    json!([
        {"name": "find_customer", "description": "One customer.", "inputSchema": of_customer},
        {"name": "reset_crm", "description": "Forgets all customers.", "inputSchema": {"type": "object"}},
        {"name": "delete_customer", "description": "Forgets one.", "inputSchema": of_customer},
    ])
}

fn called(crm: &Crm, params: &Value) -> Result<Value, (i32, &'static str)> {
    let customer = params["arguments"]["user_id"].as_str();
    let id = || customer.and_then(|id| id.parse().ok()).unwrap_or_default();
    let text = match params["name"].as_str() {
        Some("find_customer") => crm.name_of(id()).unwrap_or("no such user"),
        Some("delete_customer") if crm.forget(id()) => "forgotten",
        Some("delete_customer") => "no such user",
        Some("reset_crm") => {
            crm.forget_all();
            "all are forgotten"
        }
        _ => return Err((-32602, "no such tool")),
    };
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": false}))
}
