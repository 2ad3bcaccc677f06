//! What a list changes of what is held to: worked out before anything is done, from the book and the list alone.

use super::super::super::pin::{Latest, PinRow};
use super::{
    DEFINITION_BYTES_MAX, NAME_BYTES_MAX, NAMES_MAX, Pin, SERVER_BYTES_MAX, Sight, TURNS_MAX,
};
use crate::policy::name::{PrincipalName, ProjectName, ToolName};
use crate::policy::pin::{Definition, PinDigest};
use crate::policy::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a list changes.
#[derive(Debug, Default)]
pub(super) struct Plan<'l> {
    /// In order of names.
    pub steps: Vec<Step>,
    /// One of those that can't be kept, and why.
    pub unkept: Option<(&'l Definition, &'static str)>,
}

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// As records have it.
    pub change: &'static str,
    /// Whether it makes less pass.
    pub takes: bool,
    /// Of the definition that it is about.
    pub digest: PinDigest,
    /// Of the one that is or was held to, where it is another.
    pub other: Option<PinDigest>,
    /// Whose word it is.
    pub by: Option<PrincipalName>,
    /// As it stands then.
    pub row: PinRow,
    /// As it stood.
    pub before: Option<PinRow>,
}

impl Step {
    /// Whether the tool was as accepted until now.
    pub fn is_first_change(&self) -> bool {
        self.change == "changed"
            && self
                .before
                .as_ref()
                .is_none_or(|before| before.latest.is_none())
    }
}

impl<'l> Plan<'l> {
    /// Of a list, all of one message.
    pub fn of(
        book: &BTreeMap<Arc<str>, Pin>,
        (project, tool): (&ProjectName, &ToolName),
        list: &'l [Definition],
        sight: Sight,
        now: Timestamp,
    ) -> Self {
        let mut plan = Plan::default();
        let mut room = Room {
            names: NAMES_MAX.saturating_sub(book.len()),
            bytes: SERVER_BYTES_MAX
                .saturating_sub(book.values().map(|pin| pin.row.bytes()).sum::<usize>()),
        };
        // One tool can stand in a list more than once, and is then what is worst of it.
        let mut by_name: BTreeMap<&str, Vec<&'l Definition>> = BTreeMap::new();
        for definition in list {
            by_name
                .entry(&definition.name)
                .or_default()
                .push(definition);
        }
        for (name, said) in by_name {
            match book.get(name) {
                Some(pin) => plan.steps.extend(known(pin, &said, sight, &mut room, now)),
                // Neither shown nor kept.
                None if sight != Sight::Fresh => {}
                None => match first((project, tool), &said, &mut room, now) {
                    Ok(step) => plan.steps.push(step),
                    Err(why) => plan.unkept = plan.unkept.or(Some((said[0], why))),
                },
            }
        }
        plan
    }
}

/// What may still be kept.
struct Room {
    names: usize,
    bytes: usize,
}

impl Room {
    /// Room for this text, if there is any.
    fn keep(&mut self, text: &str) -> Option<Arc<str>> {
        let fits = text.len() <= DEFINITION_BYTES_MAX && text.len() <= self.bytes;
        fits.then(|| {
            self.bytes -= text.len();
            text.into()
        })
    }
}

/// A tool that no list has named before: what is said of it first is accepted, and changed at once where more is said.
fn first(
    (project, tool): (&ProjectName, &ToolName),
    said: &[&Definition],
    room: &mut Room,
    now: Timestamp,
) -> Result<Step, &'static str> {
    let [definition, rest @ ..] = said else {
        return Err("it says nothing");
    };
    if definition.name.len() > NAME_BYTES_MAX {
        return Err("a tool's name is longer than 256 bytes");
    }
    if definition.text.len() > DEFINITION_BYTES_MAX {
        return Err("a tool's definition is longer than 64 KiB");
    }
    if rest.iter().any(|other| other.digest != definition.digest) {
        return Err("a tool is defined in two ways in one list");
    }
    if room.names == 0 {
        return Err("the server has more than 1,024 tools");
    }
    let Some(text) = room.keep(&definition.text) else {
        return Err("the definitions of the server's tools are longer than 8 MiB");
    };
    room.names -= 1;
    Ok(Step {
        change: "pinned",
        takes: false,
        digest: definition.digest,
        other: None,
        by: None,
        before: None,
        row: PinRow {
            project: project.clone(),
            tool: tool.clone(),
            name: (&*definition.name).into(),
            accepted: definition.digest,
            definition: text,
            first_seen: now,
            accepted_at: now,
            accepted_by: None,
            latest: None,
            turns: 0,
        },
    })
}

/// A tool that is held to something.
fn known(
    pin: &Pin,
    said: &[&Definition],
    sight: Sight,
    room: &mut Room,
    now: Timestamp,
) -> Option<Step> {
    let row = &pin.row;
    let frozen = row.turns >= TURNS_MAX;
    let other = said.iter().find(|it| it.digest != row.accepted);
    let step = |change, takes, digest, other, row: PinRow| Step {
        change,
        takes,
        digest,
        other,
        by: None,
        row,
        before: Some(pin.row.clone()),
    };
    match (other, &row.latest) {
        (Some(other), latest)
            if !frozen && latest.as_ref().is_none_or(|it| it.digest != other.digest) =>
        {
            room.bytes += latest
                .as_ref()
                .and_then(|it| it.definition.as_ref())
                .map_or(0, |text| text.len());
            let changed = PinRow {
                latest: Some(Latest {
                    digest: other.digest,
                    definition: room.keep(&other.text),
                    at: now,
                }),
                turns: row.turns + 1,
                ..row.clone()
            };
            let accepted = Some(row.accepted);
            Some(step("changed", true, other.digest, accepted, changed))
        }
        (None, Some(_)) if !frozen && sight == Sight::Fresh => {
            let restored = PinRow {
                latest: None,
                ..row.clone()
            };
            Some(step("restored", false, row.accepted, None, restored))
        }
        // Nothing new, but what was found before is not on the disk, or nobody knows of it.
        (_, Some(latest)) if pin.owed => {
            let (digest, accepted) = (latest.digest, Some(row.accepted));
            let mut again = step("changed", true, digest, accepted, row.clone());
            again.before = None;
            Some(again)
        }
        _ => None,
    }
}
