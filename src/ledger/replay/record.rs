//! What of a record is read to decide again.

use memchr::memmem;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The fields of all kinds that matter; each kind has its own.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Record {
    pub kind: String,
    pub time: String,
    pub project: Option<String>,
    pub agent: Option<String>,
    pub session: Option<String>,
    pub change: Option<String>,
    pub parent: Option<String>,
    pub attributes_sha256: Option<String>,
    pub scopes: Option<BTreeMap<String, Left>>,
    pub grant: Option<String>,
    pub scope: Option<String>,
    pub resource: Option<String>,
    pub uses: Option<u32>,
    pub expires: Option<String>,
    pub request: Option<String>,
    pub policy: Option<String>,
    pub method: Option<String>,
    pub target: Option<String>,
    pub tool: Option<String>,
    pub route: Option<String>,
    pub decision: Option<String>,
    pub reason: Option<String>,
    pub shadow: Option<WouldBe>,
    pub approval: Option<String>,
    pub asked: Option<String>,
    pub intent: Option<String>,
    pub intent_sha256: Option<String>,
    pub client: Option<String>,
    pub call: Option<String>,
}

/// What would have been decided of a call that passed because its route was in shadow: that is what another policy's
/// decision is held against.
#[derive(Debug, Deserialize)]
pub(super) struct WouldBe {
    pub would: String,
    pub reason: String,
}

/// What a session was left of a scope.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Left {
    pub resources: Option<Vec<String>>,
    pub uses: Option<u32>,
}

impl Record {
    /// What was decided and why, or would have been.
    pub fn decided(&self) -> Option<(String, Option<String>)> {
        match &self.shadow {
            None => Some((self.decision.clone()?, self.reason.clone())),
            // A call that is held has no reason: it is why it waits.
            Some(would) if would.would == "hold" => Some((would.would.clone(), None)),
            Some(would) => Some((would.would.clone(), Some(would.reason.clone()))),
        }
    }

    /// `None`: of a kind that decides nothing.
    pub fn read(line: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        // Half of a ledger; a quote within a text is escaped, so this stands only where it is meant.
        if memmem::find(line, b"\"kind\":\"outcome\"").is_some() {
            return Ok(None);
        }
        serde_json::from_slice(line).map(Some)
    }
}

pub(super) use crate::ledger::timestamp as time;

/// 64 hex digits.
pub(super) fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
