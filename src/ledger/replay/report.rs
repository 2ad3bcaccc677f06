//! What a replay found, counted: bounded by what the policies name, whatever the ledger holds.

use super::judge::{Beside, Old};
use crate::policy::model::PolicyHash;
use crate::policy::time::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// A decision in the words of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Words {
    /// The rule that answered.
    pub route: Option<String>,
    /// `allow`, `deny`, `hold`.
    pub decision: String,
    /// Why it was denied.
    pub reason: Option<String>,
    /// The permission that was needed.
    pub scope: Option<String>,
    /// What it acted on.
    pub resource: Option<String>,
}

/// What came out of a replay.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Calls of the policy's that were decided again.
    pub decided: u64,
    /// What is decided otherwise, most calls first.
    pub changes: Vec<Change>,
    /// Calls that can't be decided again, by what is not recorded.
    pub unrecorded: BTreeMap<String, Unrecorded>,
    /// Calls that the policy did not decide, by the reason that stands for them.
    pub beside: BTreeMap<String, u64>,
    /// Calls for the gate's own paths.
    pub own: u64,
    /// What people's word made of calls that were held; those are counted where they were held.
    pub answered: u64,
    /// Calls of other projects.
    pub elsewhere: u64,
    /// Lines that are no records.
    pub damaged: u64,
    /// Calls decided by policies that are not at hand, by hash.
    pub unknown_policies: BTreeMap<String, u64>,
    /// When the first and the last call that is counted was made.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Where each change stands in `changes`.
    places: HashMap<Key, usize>,
}

/// What makes two changes one: agent, then, now, and whether no more than the resource differs.
type Key = (String, Words, Words);

/// Calls of one agent that come to something else.
#[derive(Clone, Debug)]
pub struct Change {
    /// The kind of agent.
    pub agent: String,
    /// As recorded; without the resource.
    pub old: Words,
    /// As it would be; without the resource.
    pub new: Words,
    /// How many calls.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// One of them, `req_...`, with what it acted on then and would now.
    pub example: String,
    /// What that one acted on.
    pub resource: (Option<String>, Option<String>),
}

/// Calls that can't be decided again.
#[derive(Clone, Debug)]
pub struct Unrecorded {
    /// How many.
    pub count: u64,
    /// One of them, `req_...`.
    pub example: String,
}

impl Report {
    /// Whether anything is decided otherwise.
    pub fn differs(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Calls that are decided otherwise.
    pub fn changed(&self) -> u64 {
        self.changes.iter().map(|change| change.count).sum()
    }

    pub(super) fn sorted(mut self) -> Self {
        let key = |change: &Change| (std::cmp::Reverse(change.count), change.first);
        self.changes.sort_by_key(key);
        self
    }

    pub(super) fn decided(&mut self, old: &Old, new: &Words) {
        self.spans(old.time);
        self.decided += 1;
        if old.words == *new {
            return;
        }
        let bare = |words: &Words| Words {
            resource: None,
            ..words.clone()
        };
        let key = (old.agent.to_string(), bare(&old.words), bare(new));
        let at = *self
            .places
            .entry(key)
            .or_insert_with_key(|(agent, then, now)| {
                self.changes.push(Change {
                    agent: agent.clone(),
                    old: then.clone(),
                    new: now.clone(),
                    count: 0,
                    first: old.time,
                    last: old.time,
                    example: old.request.clone(),
                    resource: (old.words.resource.clone(), new.resource.clone()),
                });
                self.changes.len() - 1
            });
        let change = &mut self.changes[at];
        change.count += 1;
        change.first = change.first.min(old.time);
        change.last = change.last.max(old.time);
    }

    pub(super) fn unrecorded(&mut self, subject: &str, old: &Old) {
        self.spans(old.time);
        let entry = self.unrecorded.entry(subject.to_owned());
        let entry = entry.or_insert_with(|| Unrecorded {
            count: 0,
            example: old.request.clone(),
        });
        entry.count += 1;
    }

    pub(super) fn beside(&mut self, beside: &Beside, old: &Old) {
        self.spans(old.time);
        match beside {
            Beside::Gate(reason) => *self.beside.entry(reason.clone()).or_default() += 1,
            Beside::People => self.answered += 1,
            Beside::Own => self.own += 1,
        }
    }

    pub(super) fn unknown_policy(&mut self, hash: PolicyHash) {
        *self.unknown_policies.entry(hash.to_string()).or_default() += 1;
    }

    fn spans(&mut self, time: Timestamp) {
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }
}
