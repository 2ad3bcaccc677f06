//! Approvals at rest: the rows of the store, and the one change that moves an approval.

use super::outbox::NoticeRow;
use crate::policy::approval::{Facts, Field, Stage, Vote};
use crate::policy::id::{ApprovalId, GrantId};
use crate::policy::name::PrincipalName;
use crate::policy::time::Timestamp;
use std::sync::Arc;

/// How the run of an approved call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The backend's; `None`: it never answered, or a grant was given.
    pub status: Option<u16>,
    /// The backend's header fields, as the agent would see them; empty where nothing is kept.
    pub fields: Vec<Field>,
    /// The answer's body, kept until it is delivered; `None`: longer than is kept, streamed, delivered, or found out by a
    /// person.
    pub body: Option<Arc<[u8]>>,
    /// What it was asked for, where that is a grant.
    pub grant: Option<GrantId>,
}

/// How an approval ended or was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// When.
    pub at: Timestamp,
    /// Who, where a principal did it.
    pub by: Option<PrincipalName>,
    /// Why: the approver's note, or the gate's words.
    pub note: Option<Box<str>>,
}

/// An approval at rest.
#[derive(Clone, Debug)]
pub struct ApprovalRow {
    /// What never changes; `ends` is nothing at rest and is counted anew from `expires_at`.
    pub facts: Facts,
    /// Where it stands.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// What people said, in order.
    pub votes: Vec<Vote>,
    /// How it was decided or ended.
    pub ending: Option<Ending>,
    /// How its run ended, where that is known.
    pub outcome: Option<Outcome>,
    /// Whether the agent has the answer.
    pub delivered: bool,
}

/// An approval comes to another stage; refused where the store has it at none of `from`. With the stage, in one
/// transaction: the use of the grant it goes on (taken by the step to `executing`, which is refused where none is left;
/// given back by the step to `approved`), the word that moved it, and the notice of it.
#[derive(Clone, Debug)]
pub struct Move {
    /// Which.
    pub approval: ApprovalId,
    /// Where the store may have it.
    pub from: &'static [Stage],
    /// Where it goes.
    pub to: Stage,
    /// When.
    pub at: Timestamp,
    /// How it was decided or ended.
    pub ending: Option<Ending>,
    /// How its run ended, where that is known.
    pub outcome: Option<Outcome>,
    /// The word that moves it.
    pub vote: Option<Vote>,
    /// Who is to be told.
    pub notice: Option<NoticeRow>,
}
