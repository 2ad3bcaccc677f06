//! What the ledger's writer takes: records per second, from one caller that never waits for one record before it hands in the
//! next, to lines in a file on this disk, chained, in the tree, sealed once a second.
//!
//! A record is a decision with as little in it as a decision can have: 448 bytes. The caller encodes it on its own thread, as
//! in the gate, and is timed until its last record is acknowledged. `written` and `batched` need no sync before that; `sync`
//! shows group commit: many wait for one.
//!
//! `cargo bench --bench ledger`.

#![allow(clippy::unwrap_used, reason = "a benchmark is a test")]

use divan::Bencher;
use divan::counter::ItemsCount;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tempfile::TempDir;
use toolgate::config::{LedgerLevel, LedgerSettings};
use toolgate::ledger::record::{DecisionRecord, Verdict};
use toolgate::ledger::{Ack, Ledger, Level};
use toolgate::policy::id::{RequestId, SessionId};
use toolgate::policy::model::PolicyHash;
use toolgate::policy::name::{AgentName, ProjectName};
use toolgate::policy::time::Timestamp;
use uuid::Uuid;

fn main() {
    divan::main();
}

/// Records handed in before the last is waited for: fewer than the queue holds.
const RECORDS: u64 = 20_000;
const RECORD_BYTES: u64 = 448;
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

#[divan::bench(args = [LedgerLevel::Written, LedgerLevel::Batched, LedgerLevel::Sync], sample_count = 30, sample_size = 1)]
fn records(bencher: Bencher<'_, '_>, level: LedgerLevel) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder, level);
    let names = (
        ProjectName::parse("demo").unwrap(),
        AgentName::parse("bot").unwrap(),
    );
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| hand_in(&ledger, &names));
    ledger.close().unwrap();
    let bytes = bytes(&folder) / ledger.stats().records;
    assert!(bytes.abs_diff(RECORD_BYTES) <= 4, "{bytes} bytes a record");
}

fn open(folder: &TempDir, level: LedgerLevel) -> Ledger {
    let settings = LedgerSettings {
        level,
        ..LedgerSettings::new(folder.path().join("ledger"))
    };
    Ledger::open(&settings, || NOW).unwrap()
}

fn hand_in(ledger: &Ledger, (project, agent): &(ProjectName, AgentName)) {
    let mut last: Option<Ack> = None;
    for number in 0..RECORDS {
        let record = DecisionRecord {
            request: RequestId::new(Uuid::from_u128(u128::from(number))),
            // A whole run is a second of the gate's time: flushes and checkpoints are among what is measured.
            time: NOW.plus(std::time::Duration::from_micros(50) * u32::try_from(number).unwrap()),
            trace: None,
            project,
            policy: PolicyHash([7; 32]),
            agent,
            session: SessionId::new(Uuid::from_u128(1)),
            run: None,
            intent: None,
            tool: None,
            route: None,
            method: "GET",
            target: "/",
            call: None,
            protocol: false,
            record_query: &[],
            scope: None,
            resource: None,
            decision: Verdict::Allow,
            reason: None,
            grant: None,
            shadow: None,
            approval: None,
            limit: None,
            client: "127.0.0.1".parse().unwrap(),
            body: None,
        };
        let mut slot = ledger.reserve().unwrap();
        last = Some(slot.decide(&record, Level::Written));
    }
    wait(last.unwrap()).unwrap();
}

fn bytes(folder: &TempDir) -> u64 {
    let files = std::fs::read_dir(folder.path().join("ledger")).unwrap();
    let sizes = files.map(|file| {
        let file = file.unwrap();
        let is_segment = file.file_name().to_str().unwrap().ends_with(".jsonl");
        if is_segment {
            file.metadata().unwrap().len()
        } else {
            0
        }
    });
    sizes.sum()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
