//! A pin at rest: what a server said of a tool when that was accepted, and what it says since.

use crate::policy::name::{PrincipalName, ProjectName, ToolName};
use crate::policy::pin::PinDigest;
use crate::policy::time::Timestamp;
use std::sync::Arc;

/// What is held to of one tool of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRow {
    /// The ruleset it lives in.
    pub project: ProjectName,
    /// The server.
    pub tool: ToolName,
    /// What it calls the tool.
    pub name: Arc<str>,
    /// What is held to.
    pub accepted: PinDigest,
    /// The same, in full.
    pub definition: Arc<str>,
    /// When a list named it first.
    pub first_seen: Timestamp,
    /// Since when it is held to.
    pub accepted_at: Timestamp,
    /// By whose word; `None`: it was the first that was seen.
    pub accepted_by: Option<PrincipalName>,
    /// What the server says instead; `None`: what was accepted.
    pub latest: Option<Latest>,
    /// How often it has said something else since a person last had a word.
    pub turns: u32,
}

/// What a server says now of a tool whose definition is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Of it.
    pub digest: PinDigest,
    /// In full; `None`: it is longer than is kept.
    pub definition: Option<Arc<str>>,
    /// When it was seen first.
    pub at: Timestamp,
}

/// Names a pin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinKey {
    /// The ruleset it lives in.
    pub project: ProjectName,
    /// The server.
    pub tool: ToolName,
    /// What it calls the tool.
    pub name: Arc<str>,
}

impl PinRow {
    /// What names it.
    pub fn key(&self) -> PinKey {
        PinKey {
            project: self.project.clone(),
            tool: self.tool.clone(),
            name: Arc::clone(&self.name),
        }
    }

    /// Bytes of the definitions that are kept.
    pub fn bytes(&self) -> usize {
        let latest = self.latest.as_ref().and_then(|it| it.definition.as_ref());
        self.definition.len() + latest.map_or(0, |text| text.len())
    }
}
