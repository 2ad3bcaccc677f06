//! kill -9, two hundred times, under load: what a backend saw or a caller was told is on record, and the record goes on.

use super::auditor::{self, Auditor};
use super::scene::setup;
use crate::backend::Backend;
use crate::client::{Connection, try_call};
use crate::crash::Dice;
use crate::gate::{Gate, Minted, Setup, minted};
use crate::ledger;
use crate::wait::{PATIENCE, within};
use http::Method;
use serde_json::json;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Directories that gates are killed over, at the same time.
const LANES: u64 = 2;
const KILLS: u64 = 100;
const WORKERS: u64 = 4;

/// What callers were told before the gate was killed, in an [`Auditor`]'s words.
#[derive(Default)]
struct Told {
    decisions: Vec<String>,
    changes: Vec<String>,
}

impl Told {
    fn answers(&self) -> usize {
        self.decisions.len() + self.changes.len()
    }
}

/// One agent and its orchestrator, until the gate is gone.
struct Worker {
    agents: SocketAddr,
    admin: SocketAddr,
    root: String,
    /// Differs from that of any other, of this round and of those before.
    name: String,
    told: Arc<watch::Sender<Told>>,
}

impl Worker {
    async fn work(self) {
        for life in 0.. {
            if self.live(life).await.is_none() {
                return;
            }
        }
    }

    /// A session with calls of every level.
    async fn live(&self, life: u64) -> Option<()> {
        let session = self.mint().await?;
        let mut connection = Connection::open(self.agents, &session.token).await.ok()?;
        for number in 0..4 {
            let key = format!("{}-{life}-{number}", self.name);
            for (method, path, decision) in [
                (Method::GET, format!("/t/read/{key}"), "allow"),
                // No route has such a path: it is refused, and that is on record, too.
                (Method::GET, format!("/t/read/{key}/more"), "deny"),
                (Method::GET, format!("/t/nowhere/{key}"), "deny"),
                (Method::DELETE, format!("/t/items/{key}"), "allow"),
            ] {
                self.call(&mut connection, method, &path, decision).await?;
            }
            self.grant(&session, &key).await?;
            let once = format!("/t/once/{key}");
            self.call(&mut connection, Method::POST, &once, "allow")
                .await?;
        }
        Some(())
    }

    async fn mint(&self) -> Option<Minted> {
        let order = json!({ "project": "demo", "agent": "bot" });
        let answer = try_call(self.admin, &self.root, Method::POST, "/v1/sessions", &order);
        let session = minted(&answer.await.ok()?.expect(201));
        let change = format!("session minted {}", session.id);
        self.told.send_modify(|told| told.changes.push(change));
        Some(session)
    }

    async fn grant(&self, session: &Minted, key: &str) -> Option<()> {
        let order = json!({ "scope": "once", "resource": format!("key:{key}"), "reason": "to use it once" });
        let path = format!("/v1/sessions/{}/grants", session.id);
        let answer = try_call(self.admin, &self.root, Method::POST, &path, &order);
        let grant = answer.await.ok()?.expect(201).json();
        let change = format!("grant given {}", grant["id"].as_str().unwrap());
        self.told.send_modify(|told| told.changes.push(change));
        Some(())
    }

    async fn call(
        &self,
        connection: &mut Connection,
        method: Method,
        path: &str,
        decision: &str,
    ) -> Option<()> {
        let answer = connection.call(method, path, ()).await.ok()?;
        let status = if decision == "allow" { 200 } else { 403 };
        let answer = answer.expect(status);
        let request = answer.header("toolgate-request-id").unwrap();
        let line = format!("{request} {decision}");
        self.told.send_modify(|told| told.decisions.push(line));
        Some(())
    }
}

/// One directory, and all that is known of it.
struct Lane {
    number: u64,
    backend: Backend,
    setup: Setup,
    auditor: Auditor,
    dice: Dice,
    calls: u64,
}

impl Lane {
    async fn new(number: u64) -> Self {
        let backend = Backend::start("t").await;
        let setup = setup(&backend);
        let auditor = Auditor::new(&setup.ledger());
        Self {
            number,
            backend,
            setup,
            auditor,
            dice: Dice(0x7001_6a7e + number),
            calls: 0,
        }
    }

    /// A gate under load, killed.
    async fn round(&mut self, round: u64) {
        let gate = self.setup.start().await;
        let told = Arc::new(watch::Sender::new(Told::default()));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| tokio::spawn(self.worker(&gate, round, worker, &told).work()))
            .collect();
        let enough = usize::try_from(1 + self.dice.roll(60)).unwrap();
        let mut watched = told.subscribe();
        let lively = watched.wait_for(|told| told.answers() >= enough);
        drop(
            within(PATIENCE, "the round is lively", lively)
                .await
                .unwrap(),
        );
        // Chance chooses the moment within what is under way: this is not a wait for anything.
        tokio::time::sleep(Duration::from_micros(self.dice.roll(5_000))).await;
        gate.kill();
        for worker in workers {
            within(PATIENCE, "a worker sees the gate die", worker)
                .await
                .unwrap();
        }
        let told = told.send_replace(Told::default());
        self.audit(&told, round);
    }

    fn worker(
        &self,
        gate: &Gate,
        round: u64,
        worker: u64,
        told: &Arc<watch::Sender<Told>>,
    ) -> Worker {
        Worker {
            agents: gate.agents,
            admin: gate.admin,
            root: self.setup.key("root").to_owned(),
            name: format!("{}-{round}-{worker}", self.number),
            told: Arc::clone(told),
        }
    }

    /// What was promised before the kill is in the files as the kill left them; the next start must leave it there.
    fn audit(&mut self, told: &Told, round: u64) {
        self.auditor.read_on();
        for line in &told.decisions {
            let known = self.auditor.decisions.contains(line);
            assert!(known, "round {round}: answered, not on record: {line}");
        }
        for change in &told.changes {
            let known = self.auditor.changes.contains(change);
            assert!(known, "round {round}: answered, not on record: {change}");
        }
        for (line, times) in self.backend.all_seen() {
            let (_, target) = line.split_once(' ').unwrap();
            let known = self.auditor.allowed.contains(&format!("/t{target}"));
            assert!(known, "round {round}: forwarded, not on record: {line}");
            assert_eq!(times, 1, "{line}");
            self.calls += times;
        }
        self.backend.forget();
        // As the kill left it, the log may end within a line. That is all that may be wrong with it.
        if round.is_multiple_of(10) {
            auditor::proven(&self.setup.ledger());
        }
    }

    /// A gate that is killed before it says that it is there.
    async fn stillborn(&mut self) {
        let mut command = self.setup.serve(&[]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut gate = command.spawn().unwrap();
        tokio::time::sleep(Duration::from_micros(self.dice.roll(80_000))).await;
        gate.kill().unwrap();
        gate.wait().unwrap();
        self.audit(&Told::default(), 0);
    }
}

async fn lane(number: u64) -> Lane {
    let mut lane = Lane::new(number).await;
    for round in 0..KILLS {
        match round % 5 {
            4 => lane.stillborn().await,
            _ => lane.round(round).await,
        }
    }
    // However it was left: one more start goes on with it, and ends it in order.
    let mut gate = lane.setup.start().await;
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    lane.auditor.read_on();
    lane
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_times_killed_under_load_the_ledger_has_all_that_was_answered_or_forwarded() {
    let lanes: Vec<_> = (0..LANES)
        .map(|number| tokio::spawn(lane(number)))
        .collect();
    for lane in lanes {
        let lane = lane.await.unwrap();
        let directory = lane.setup.ledger();
        let report = auditor::sealed(&directory);
        assert_eq!(report.next, lane.auditor.records());
        assert_eq!(ledger::verified(&directory).len() as u64, report.next);
        println!(
            "{} records in {} segments, {} calls forwarded, gate: {:?}",
            report.next, report.segments, lane.calls, lane.auditor.gate
        );
        assert!(report.segments > 5, "segments were begun under load");
        assert!(lane.calls > 500, "the rounds were lively");
    }
}
