//! The matrix: every side of the agents by every side of the backends by every kind of call.
//!
//! It is generated from the three lists and nothing is picked by hand. Each call is made directly to the backend and
//! through the gate; what either end tells must be the same but for what the gate says itself.

use super::door::Door;
use super::exchange::{Difference, Exchange, Kind, compare, perform, perform_on};
use super::reference::Reference;
use super::scene::{Listening, Papers, setup};
use super::side::Side;
use crate::gate::Setup;
use crate::ledger;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// One call to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Cell {
    agents: Side,
    backend: Side,
    kind: Kind,
}

impl Cell {
    fn name(self) -> String {
        let Cell {
            agents,
            backend,
            kind,
        } = self;
        format!("{} x {} x {}", agents.name(), backend.name(), kind.name())
    }
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for agents in Side::ALL {
        for backend in Side::ALL {
            cells.extend(Kind::ALL.map(|kind| Cell {
                agents,
                backend,
                kind,
            }));
        }
    }
    cells
}

/// What went wrong in a cell.
enum Finding {
    Failed(String),
    Differs(Vec<Difference>),
}

#[test]
fn the_matrix_has_all_of_its_250_cells() {
    let distinct: HashSet<Cell> = cells().into_iter().collect();
    assert_eq!(distinct.len(), 5 * 5 * 10);
    let served: Vec<Side> = Listening::ALL
        .iter()
        .flat_map(|it| it.serves())
        .copied()
        .collect();
    assert_eq!(served.len(), Side::ALL.len(), "each side has one gate");
    assert!(Side::ALL.iter().all(|side| served.contains(side)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_the_same_through_the_gate_as_without_it() {
    let papers = Papers::new();
    let mut backends = Vec::new();
    for side in Side::ALL {
        backends.push(papers.backend(side).await);
    }
    let direct = all_direct(&papers, &backends).await;
    // Kept until the end: a gate ends when it is dropped.
    let mut gates = Vec::new();
    let mut doors: HashMap<(Side, Side), Door> = HashMap::new();
    for listening in Listening::ALL {
        let setup = setup(&papers, listening, &backends);
        let gate = setup.start().await;
        for backend in &backends {
            let token = gate.mint(backend.side.name(), "bot").await.token;
            for side in listening.serves() {
                doors.insert((*side, backend.side), papers.agent(*side, &gate, &token));
            }
        }
        gates.push((gate, setup));
    }

    let room = Room::new();
    let mut running = JoinSet::new();
    for cell in cells() {
        let door = doors[&(cell.agents, cell.backend)].clone();
        let backend = backends.iter().find(|it| it.side == cell.backend).unwrap();
        let (room, calls) = (room.clone(), backend.calls.clone());
        running.spawn(async move {
            let _place = room.enter(cell.kind).await;
            (cell, perform(cell.kind, &door, &calls, &cell.name()).await)
        });
    }
    judge(&direct, running, cells().len()).await;
    for (gate, setup) in gates {
        let peak = gate.memory_kib("VmHWM");
        assert!(peak < PEAK_KIB_MAX, "uploads lay in memory: {peak} KiB");
        gate.kill();
        recorded_without_fault(&setup);
    }
}

/// Every call is on record, and none as failed but those whose agent left its upload unfinished.
fn recorded_without_fault(setup: &Setup) {
    let records = ledger::verified(&setup.ledger());
    let targets: HashMap<&str, &str> = ledger::of_kind(&records, "decision")
        .into_iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap();
            (text("request"), text("target"))
        })
        .collect();
    let outcomes = ledger::of_kind(&records, "outcome");
    assert!(!targets.is_empty() && outcomes.len() == targets.len());
    for outcome in outcomes {
        let target = targets[outcome["request"].as_str().unwrap()];
        let faulty = outcome.get("fault").is_some();
        assert!(!faulty || target == "/cells/refuse", "{target}: {outcome}");
    }
}

/// A gate's own memory and what is on its way: less than one upload.
const PEAK_KIB_MAX: u64 = 64 * 1024;

/// Compares each call with its like that went without the gate; all that are expected must be there.
async fn judge(
    direct: &HashMap<(Side, Kind), Exchange>,
    mut running: JoinSet<(Cell, Result<Exchange, String>)>,
    expected: usize,
) {
    let mut compared = 0;
    let mut findings = Vec::new();
    while let Some(told) = running.join_next().await {
        let (cell, told) = told.unwrap();
        compared += 1;
        match told {
            Err(fault) => findings.push((cell, Finding::Failed(fault))),
            Ok(gated) => {
                let direct = &direct[&(cell.backend, cell.kind)];
                let found = compare(cell.kind, cell.agents, cell.backend, direct, &gated);
                if !found.is_empty() {
                    findings.push((cell, Finding::Differs(found)));
                }
            }
        }
    }
    assert!(findings.is_empty(), "{}", table(&mut findings, compared));
    assert_eq!(compared, expected, "no cell is left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_kinds_of_calls_at_once_on_one_connection_do_not_hinder_each_other() {
    let papers = Papers::new();
    let mut backends = Vec::new();
    for side in Side::ALL {
        backends.push(papers.backend(side).await);
    }
    let direct = all_direct(&papers, &backends).await;
    let setup = setup(&papers, Listening::Plain, &backends);
    let gate = setup.start().await;
    let door = papers.agent(Side::H2c, &gate, "");
    let talk = door.open().await.unwrap();
    let mut running = JoinSet::new();
    for backend in &backends {
        let token = gate.mint(backend.side.name(), "bot").await.token;
        for kind in Kind::ALL {
            let (mut talk, calls) = (talk.beside(), backend.calls.clone());
            talk.speak_for(&token);
            let cell = Cell {
                agents: Side::H2c,
                backend: backend.side,
                kind,
            };
            running
                .spawn(async move { (cell, perform_on(kind, talk, &calls, &cell.name()).await) });
        }
    }
    judge(&direct, running, Side::ALL.len() * Kind::ALL.len()).await;
}

/// The same calls without the gate, once for each backend.
async fn all_direct(papers: &Papers, backends: &[Reference]) -> HashMap<(Side, Kind), Exchange> {
    let room = Room::new();
    let mut running = JoinSet::new();
    for backend in backends {
        for kind in Kind::ALL {
            let (door, backend, room) = (papers.direct(backend), backend.clone(), room.clone());
            running.spawn(async move {
                let _place = room.enter(kind).await;
                let name = format!("direct {}", kind.name());
                let told = perform(kind, &door, &backend.calls, &name).await;
                let told =
                    told.unwrap_or_else(|fault| panic!("{}, {name}: {fault}", backend.side.name()));
                ((backend.side, kind), told)
            });
        }
    }
    running.join_all().await.into_iter().collect()
}

/// How many calls run at once: many, but few that move much.
#[derive(Clone)]
struct Room {
    large: Arc<Semaphore>,
    small: Arc<Semaphore>,
}

impl Room {
    fn new() -> Self {
        Self {
            large: Arc::new(Semaphore::new(2)),
            small: Arc::new(Semaphore::new(16)),
        }
    }

    async fn enter(&self, kind: Kind) -> tokio::sync::OwnedSemaphorePermit {
        let room = match kind {
            Kind::Upload => &self.large,
            _ => &self.small,
        };
        Arc::clone(room).acquire_owned().await.unwrap()
    }
}

/// Every difference on a line of its own, with what either way told.
fn table(findings: &mut [(Cell, Finding)], compared: usize) -> String {
    findings.sort_by_key(|(cell, _)| (cell.agents, cell.backend, cell.kind.name()));
    let mut text = format!("{} of {compared} cells differ\n", findings.len());
    writeln!(
        text,
        "{:<42} | {:<28} | {:<40} | through the gate",
        "agents x backend x call", "what", "directly"
    )
    .unwrap();
    for (cell, finding) in findings {
        match finding {
            Finding::Failed(fault) => writeln!(text, "{:<42} | {fault}", cell.name()).unwrap(),
            Finding::Differs(found) => {
                for Difference {
                    what,
                    direct,
                    gated,
                } in found
                {
                    writeln!(
                        text,
                        "{:<42} | {what:<28} | {direct:<40} | {gated}",
                        cell.name()
                    )
                    .unwrap();
                }
            }
        }
    }
    text
}
