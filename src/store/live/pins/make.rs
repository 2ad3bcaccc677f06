//! How pins are changed: what takes is in force first, what gives is in force last.

use super::super::super::Change;
use super::super::super::news::What;
use super::super::super::outbox::NoticeRow;
use super::super::super::pin::PinRow;
use super::super::Table;
use super::plan::Step;
use super::{SightError, ToolPins};
use crate::ledger::record::{Cause, Event};
use crate::ledger::{Ack, Level, Unavailable};
use crate::policy::id::SessionId;
use crate::policy::name::{ProjectName, ToolName};
use crate::policy::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

impl Table {
    pub(in crate::store::live) fn pins_of(
        &self,
        project: &ProjectName,
        tool: &ToolName,
    ) -> Arc<ToolPins> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(ToolPins::new(project.clone(), tool.clone()));
        Arc::clone(
            pins.entry((project.clone(), tool.clone()))
                .or_insert_with(new),
        )
    }

    /// After a restart.
    pub(in crate::store::live) fn restore_pins(&self, rows: Vec<PinRow>) {
        let mut servers: BTreeMap<(ProjectName, ToolName), Vec<PinRow>> = BTreeMap::new();
        for row in rows {
            let key = (row.project.clone(), row.tool.clone());
            servers.entry(key).or_default().push(row);
        }
        for ((project, tool), rows) in servers {
            self.pins_of(&project, &tool).enter(&rows, false);
        }
    }

    /// In force, then durable and recorded.
    pub(super) async fn take_pins(
        &self,
        pins: &ToolPins,
        steps: &[Step],
        session: SessionId,
        now: Timestamp,
    ) -> Result<(), SightError> {
        if steps.is_empty() {
            return Ok(());
        }
        let rows: Vec<PinRow> = steps.iter().map(|step| step.row.clone()).collect();
        pins.enter(&rows, true);
        let changed: Vec<&PinRow> = steps
            .iter()
            .filter(|step| step.is_first_change())
            .map(|step| &step.row)
            .collect();
        let notice = NoticeRow::tool_changed(&changed, now).map(Box::new);
        let told = notice.is_some();
        let rows_stored = rows.clone();
        let stored = self.store.apply(Change::Pin {
            rows: rows_stored,
            notice,
        });
        stored.await?;
        self.tell_pins(steps, Some(session), now).await?;
        pins.enter(&rows, false);
        if told {
            tracing::warn!(project = %pins.project, tool = %pins.tool, tools = changed.len(), "a server says something else of its tools than was accepted; they are hidden and refused until a person accepts it (`toolgate pins`)");
            self.announce(pins, "changed", now);
        }
        Ok(())
    }

    /// Durable, then recorded, then in force.
    pub(super) async fn give_pins(
        &self,
        pins: &ToolPins,
        steps: &[Step],
        session: Option<SessionId>,
        now: Timestamp,
    ) -> Result<(), SightError> {
        let Some(first) = steps.first() else {
            return Ok(());
        };
        let rows: Vec<PinRow> = steps.iter().map(|step| step.row.clone()).collect();
        let change = Change::Pin {
            rows: rows.clone(),
            notice: None,
        };
        self.store.apply(change).await?;
        if let Err(fault) = self.tell_pins(steps, session, now).await {
            // Nothing is held to that the ledger does not know.
            let (there, fresh): (Vec<&Step>, Vec<&Step>) =
                steps.iter().partition(|step| step.before.is_some());
            let before = there.iter().filter_map(|step| step.before.clone());
            let undone = Change::Pin {
                rows: before.collect(),
                notice: None,
            };
            let gone = fresh.iter().map(|step| step.row.key()).collect();
            let undo = [
                self.store.apply(undone),
                self.store.apply(Change::Unpin(gone)),
            ];
            for undo in undo {
                // As it is on the disk, the next list says again.
                let _ = undo.await;
            }
            return Err(fault.into());
        }
        pins.enter(&rows, false);
        let what = match first.change {
            "pinned" => "restored",
            change => change,
        };
        if steps.iter().any(|step| step.change != "pinned") {
            self.announce(pins, what, now);
        }
        Ok(())
    }

    /// A few at a time, so that one list does not fill the ledger's queue.
    async fn tell_pins(
        &self,
        steps: &[Step],
        session: Option<SessionId>,
        now: Timestamp,
    ) -> Result<(), Unavailable> {
        for steps in steps.chunks(TOLD_AT_ONCE) {
            let acks: Vec<Ack> = steps
                .iter()
                .map(|step| self.tell_pin(step, session, now))
                .collect();
            for ack in acks {
                ack.await?;
            }
        }
        Ok(())
    }

    pub(super) fn tell_pin(&self, step: &Step, session: Option<SessionId>, now: Timestamp) -> Ack {
        let cause = match &step.by {
            Some(by) => Cause::Principal(by),
            None => Cause::Gate,
        };
        let event = Event::Pin {
            change: step.change,
            project: &step.row.project,
            tool: &step.row.tool,
            name: &step.row.name,
            digest: step.digest,
            accepted: step.other,
            session,
            why: None,
            cause,
        };
        self.ledger.append(&event, now, Level::Sync)
    }

    pub(super) fn announce(&self, pins: &ToolPins, change: &'static str, now: Timestamp) {
        let what = What::Pins {
            tool: pins.tool.clone(),
            change,
        };
        self.news.tell(now, Some(&pins.project), what);
    }
}

/// Records that are on their way at once.
const TOLD_AT_ONCE: usize = 64;
