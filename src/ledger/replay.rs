//! Deciding again: what recorded calls would come to under another policy.
//!
//! Fed with every line of a ledger, oldest first, it keeps what decisions read of sessions (agent, parent, narrowing, stored
//! grants, attributes as far as they can be known) and asks [`decide`](crate::policy::decide) of each call that the policy
//! decided. What is not recorded is not guessed: the call is decided in every way that the missing fact could turn out, and
//! where these differ it is counted as not recorded, by subject. Bodies, arguments and header fields are never recorded: a
//! route that judges calls by them is found again only where nothing about it has changed. Stored grants are spent as the *new* policy spends them.
//!
//! It refuses to judge what was not the policy's: quarantine, limits, malformed requests, and the word of people keep
//! what was recorded. It writes nothing.

mod arms;
mod judge;
mod record;
mod report;
mod runs;

pub use report::{Change, Report, Unrecorded, Words};

use crate::policy::decision::Reason;
use crate::policy::model::{Policy, PolicyHash};
use crate::policy::name::ProjectName;
use crate::policy::time::Timestamp;
use judge::{Judged, Old, Past};
use record::Record;
use runs::Runs;

/// Which calls are counted. What happened before them is read all the same.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// Whose records; empty: those of the project that the new policy is for.
    pub projects: Vec<ProjectName>,
    /// The kind of agent.
    pub agent: Option<String>,
    /// Not earlier than this.
    pub since: Option<Timestamp>,
    /// Earlier than this.
    pub until: Option<Timestamp>,
}

/// A replay under way.
pub struct Replay<'p> {
    new: &'p Policy,
    /// Policies that may have decided then, for what they had in common with the new one.
    before: Vec<&'p Policy>,
    chosen: Chosen,
    runs: Runs<'p>,
    report: Report,
}

impl<'p> Replay<'p> {
    /// Under `new`; `before` are those at hand that may have decided then, each known by its hash.
    pub fn new(new: &'p Policy, before: Vec<&'p Policy>, chosen: Chosen) -> Self {
        Self {
            new,
            before,
            chosen,
            runs: Runs::new(new),
            report: Report::default(),
        }
    }

    /// The next line of the ledger, without its newline.
    pub fn line(&mut self, line: &[u8]) {
        match Record::read(line) {
            Ok(Some(record)) => self.record(&record),
            Ok(None) => {}
            Err(_) => self.report.damaged += 1,
        }
    }

    /// What came out.
    pub fn finish(self) -> Report {
        self.report.sorted()
    }

    fn record(&mut self, record: &Record) {
        let own = std::slice::from_ref(&self.new.project);
        let projects = match &*self.chosen.projects {
            [] => own,
            chosen => chosen,
        };
        let is_of = |project: &ProjectName| record.project.as_deref() == Some(project.as_str());
        if !projects.iter().any(is_of) {
            self.report.elsewhere += u64::from(record.kind == "decision");
            return;
        }
        match &*record.kind {
            "session" => self.runs.session(record),
            "grant" => self.runs.grant(record),
            "approval" => self.runs.approval(record),
            "decision" => self.decision(record),
            _ => {}
        }
    }

    fn decision(&mut self, record: &Record) {
        let Some(old) = Old::of(record) else {
            self.report.damaged += 1;
            return;
        };
        let counted = self.counts(record, old.time);
        if let Some(past) = old.beside_the_policy() {
            if matches!(past, judge::Beside::Own) {
                self.runs.refused(record);
            }
            if counted {
                self.report.beside(&past, &old);
            }
            return;
        }
        let judged = self.judge(&old);
        self.runs.take(&old, &judged);
        if !counted {
            return;
        }
        if self.known(old.policy).is_none() {
            self.report.unknown_policy(old.policy);
        }
        match &judged.verdict {
            Ok(verdict) => self.report.decided(&old, &verdict.words(self.new)),
            Err(subject) => self.report.unrecorded(subject, &old),
        }
    }

    fn judge(&self, old: &Old) -> Judged {
        let past = Past {
            new: self.new,
            old: self.known(old.policy),
            runs: &self.runs,
        };
        past.judge(old)
    }

    /// The policy that decided then, if it is at hand.
    fn known(&self, hash: PolicyHash) -> Option<&'p Policy> {
        let new = std::iter::once(self.new);
        let mut all = new.chain(self.before.iter().copied());
        all.find(|policy| policy.hash == hash)
    }

    fn counts(&self, record: &Record, time: Timestamp) -> bool {
        let chosen = &self.chosen;
        chosen.since.is_none_or(|since| time >= since)
            && chosen.until.is_none_or(|until| time < until)
            && (chosen.agent.is_none() || chosen.agent.as_deref() == record.agent.as_deref())
    }
}

/// Reasons of the policy itself: what it would say now can be asked again.
pub(super) const OF_THE_POLICY: [Reason; 7] = [
    Reason::NoRoute,
    Reason::ScopeOutsideCeiling,
    Reason::ResourceOutsideCeiling,
    Reason::GrantMissing,
    Reason::IntentMissing,
    Reason::Unevaluable,
    Reason::ConditionUnmet,
];
