//! How fast a ledger is read back and verified: decisions of 448 bytes, the shortest there are, lines, chain, tree and signatures.
//!
//! `cargo bench --bench verify`.

#![allow(clippy::unwrap_used, reason = "a benchmark is a test")]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;
use toolgate::config::LedgerSettings;
use toolgate::ledger::record::{DecisionRecord, Verdict};
use toolgate::ledger::verify::{self, Given};
use toolgate::ledger::{Ledger, Level};
use toolgate::policy::id::{RequestId, SessionId};
use toolgate::policy::model::PolicyHash;
use toolgate::policy::name::{AgentName, ProjectName};
use toolgate::policy::time::Timestamp;
use uuid::Uuid;

fn main() {
    divan::main();
}

const RECORDS: usize = 500_000;

/// A ledger, and how many bytes its segments have.
fn ledger() -> &'static (TempDir, PathBuf, u64) {
    static LEDGER: OnceLock<(TempDir, PathBuf, u64)> = OnceLock::new();
    LEDGER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("ledger");
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let ledger = Ledger::open(&LedgerSettings::new(&directory), move || now).unwrap();
        let wait = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (project, agent) = (
            ProjectName::parse("demo").unwrap(),
            AgentName::parse("bot").unwrap(),
        );
        for number in 0..RECORDS {
            let record = DecisionRecord {
                request: RequestId::new(Uuid::from_u128(number as u128)),
                time: now,
                trace: None,
                project: &project,
                policy: PolicyHash([7; 32]),
                agent: &agent,
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
            let ack = ledger.reserve().unwrap().decide(&record, Level::Written);
            // Not each by itself: the queue takes a thousand at once.
            if number % 1000 == 999 {
                wait.block_on(ack).unwrap();
            }
        }
        ledger.close().unwrap();
        let files = std::fs::read_dir(&directory).unwrap();
        let bytes = files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        (folder, directory, bytes)
    })
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn directory(bencher: Bencher<'_, '_>) {
    let (_, directory, bytes) = ledger();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .counter(BytesCount::new(*bytes))
        .bench(|| {
            let report = verify::directory(directory, &Given::default(), &mut |_, _| {}).unwrap();
            assert!(report.faults.is_empty() && report.next as usize >= RECORDS);
            report
        });
}
