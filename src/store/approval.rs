//! Approvals at rest, and what is to be told of them: the rows of the store, and the one change that moves an approval.

use crate::policy::approval::{Facts, Field, Stage, Vote};
use crate::policy::id::{ApprovalId, GrantId, SessionId};
use crate::policy::name::{NotifyName, PrincipalName, ProjectName};
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

/// What webhooks are to tell of: made in the transaction of the change itself, so that neither is there without the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRow {
    /// Names it; the same change has the same name.
    pub id: Box<str>,
    /// When it happened.
    pub at: Timestamp,
    /// Where.
    pub project: ProjectName,
    /// Whose.
    pub session: SessionId,
    /// What.
    pub what: Notice,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// People are asked.
    Requested(ApprovalId),
    /// It is `approved`, `denied`, `expired` or `withdrawn`.
    Decided(ApprovalId, Stage),
    /// The session is in quarantine, for this reason.
    Quarantined(Box<str>),
}

impl NoticeRow {
    /// That people are asked.
    pub fn requested(facts: &Facts) -> Self {
        Self::of(facts, facts.created_at, Notice::Requested(facts.id))
    }

    /// That it is decided; `None`: this stage is no decision.
    pub fn decided(facts: &Facts, stage: Stage, at: Timestamp) -> Option<Self> {
        match stage {
            Stage::Approved | Stage::Denied | Stage::Expired | Stage::Withdrawn => {
                Some(Self::of(facts, at, Notice::Decided(facts.id, stage)))
            }
            Stage::Pending | Stage::Executing | Stage::Executed | Stage::Unknown => None,
        }
    }

    /// That a session is in quarantine.
    pub fn quarantined(
        project: &ProjectName,
        session: SessionId,
        at: Timestamp,
        reason: &str,
    ) -> Self {
        Self {
            id: format!("{session}.quarantined.{}", at.micros()).into(),
            at,
            project: project.clone(),
            session,
            what: Notice::Quarantined(reason.into()),
        }
    }

    fn of(facts: &Facts, at: Timestamp, what: Notice) -> Self {
        let word = match &what {
            Notice::Decided(_, stage) => stage.as_str(),
            Notice::Requested(_) | Notice::Quarantined(_) => "requested",
        };
        Self {
            id: format!("{}.{word}", facts.id).into(),
            at,
            project: facts.project.clone(),
            session: facts.session,
            what,
        }
    }
}

/// One webhook to one target, until it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Names it.
    pub id: Box<str>,
    /// Where it happened.
    pub project: ProjectName,
    /// To whom.
    pub target: NotifyName,
    /// The event's type.
    pub kind: Box<str>,
    /// The body, as it is signed.
    pub payload: Arc<[u8]>,
    /// Times it was sent.
    pub attempts: u32,
    /// When it is sent next.
    pub next_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Given up: kept to be looked at.
    pub dead: bool,
}
