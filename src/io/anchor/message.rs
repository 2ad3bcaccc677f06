//! What the webhook is told: `ledger.checkpoint`, as Standard Webhooks have it. The note is all that counts: who believes
//! it checks its signature, whoever brought it.

use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::rfc3339;
use crate::policy::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

/// The message's id and text. The id is the note's: however often one is sent, by whichever process, its receiver knows it.
pub(super) fn of(note: &str, now: Timestamp) -> Option<(String, String)> {
    let checkpoint = Checkpoint::read(note.as_bytes())?;
    let digest = digest(&SHA256, note.as_bytes());
    let hex: String = digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let data = json!({"note": note, "origin": checkpoint.origin, "size": checkpoint.size});
    let at = checkpoint.time.unwrap_or(now);
    let message = json!({"type": "ledger.checkpoint", "timestamp": rfc3339(at), "data": data});
    Some((format!("chk_{hex}"), message.to_string()))
}
