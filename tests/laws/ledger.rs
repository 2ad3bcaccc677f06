//! What is acknowledged is there, in one chain, whatever the disk does; what was changed afterwards shows.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod disk;
mod levels;
mod records;
mod retention;
mod seals;

use disk::{Faulty, Misfortune, Plan, misfortune};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use toolgate::config::LedgerSettings;
use toolgate::ledger::checkpoint;
use toolgate::ledger::note::{SigningKey, VerifierKey};
use toolgate::ledger::record::{
    Cause, DecisionRecord, Event, Fault as CallFault, FrameCounts, OutcomeRecord, Verdict,
};
use toolgate::ledger::storage::Disk;
use toolgate::ledger::verify::{self, LineFault};
use toolgate::ledger::{Ledger, LedgerError, Level, Unavailable};
use toolgate::policy::approval::{Asked, AskedGrant, Facts, HeldCall, RequestDigest, Stage, Word};
use toolgate::policy::decision::GrantUse;
use toolgate::policy::id::{ApprovalId, GrantId, RequestId, SessionId};
use toolgate::policy::model::PolicyHash;
use toolgate::policy::name::{
    AgentName, ChainName, PrincipalName, ProjectName, RouteId, ScopeName, ToolName,
};
use toolgate::policy::resource::Resource;
use toolgate::policy::time::{Tick, Timestamp};
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn settings(directory: &Path) -> LedgerSettings {
    LedgerSettings {
        segment_bytes_max: 1 << 20,
        segment_age_max: Duration::from_secs(3600),
        ..LedgerSettings::new(directory.to_owned())
    }
}

/// Whoever asks, the same key.
fn key(_signer: Option<&VerifierKey>) -> Result<SigningKey, LedgerError> {
    Ok(SigningKey::new("gate", [7; 32]).unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn note(ledger: &Ledger, detail: &str, level: Level) -> Result<(), Unavailable> {
    let event = Event::Gate {
        change: "note",
        version: "0",
        detail,
    };
    wait(ledger.append(&event, NOW, level))
}

struct Call {
    project: ProjectName,
    agent: AgentName,
    request: RequestId,
    session: SessionId,
}

impl Call {
    fn new(number: u128) -> Self {
        Call {
            project: ProjectName::parse("demo").unwrap(),
            agent: AgentName::parse("bot").unwrap(),
            request: RequestId::new(Uuid::from_u128(number)),
            session: SessionId::new(Uuid::from_u128(1)),
        }
    }

    fn decision<'a>(&'a self, target: &'a str, intent: Option<&'a str>) -> DecisionRecord<'a> {
        DecisionRecord {
            request: self.request,
            time: NOW,
            trace: None,
            project: &self.project,
            policy: PolicyHash([7; 32]),
            agent: &self.agent,
            session: self.session,
            run: None,
            intent,
            tool: None,
            route: None,
            method: "GET",
            target,
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
        }
    }

    fn outcome(&self) -> OutcomeRecord<'_> {
        OutcomeRecord {
            request: self.request,
            time: NOW,
            project: &self.project,
            session: self.session,
            status: Some(200),
            bytes_in: 1,
            bytes_out: u64::MAX,
            decision_micros: 2,
            hold_micros: None,
            upstream_micros: Some(3),
            total_micros: 4,
            cost_micros: Some(10_000),
            fault: Some(CallFault::AgentLeft),
            frames: Some(FrameCounts {
                received: 5,
                sent: 6,
            }),
        }
    }
}

/// What a person is asked about a call, or about a wish for a grant.
fn facts(asked: Asked, intent: &str) -> Facts {
    Facts {
        id: ApprovalId::new(Uuid::from_u128(3)),
        project: ProjectName::parse("demo").unwrap(),
        policy: PolicyHash([7; 32]),
        chain: ChainName::parse("leads").unwrap(),
        agent: AgentName::parse("bot").unwrap(),
        session: SessionId::new(Uuid::from_u128(1)),
        run: Some("run".into()),
        minted_by: PrincipalName::parse("orchestrator").unwrap(),
        intent: Some(intent.into()),
        client: "127.0.0.1".parse().unwrap(),
        request: RequestId::new(Uuid::from_u128(2)),
        scope: ScopeName::parse("users.delete").unwrap(),
        resource: Some(Resource::parse("user:7").unwrap()),
        asked,
        digest: RequestDigest([0xab; 32]),
        created_at: NOW,
        expires_at: NOW,
        ends: Tick::from_nanos(0),
        denied_for: Duration::ZERO,
        quorum: 2,
    }
}

fn held_call() -> Asked {
    Asked::Call(Box::new(HeldCall {
        tool: ToolName::parse("users").unwrap(),
        route: RouteId::parse("users.delete").unwrap(),
        upstream: [1; 32],
        method: "DELETE".into(),
        authority: "gate".into(),
        target: "/users/7?key=secret".into(),
        fields: Vec::new(),
        body: b"the body".as_slice().into(),
        grant: GrantUse::Stored(GrantId::new(Uuid::from_u128(4))),
    }))
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    files
}

fn lines(directory: &Path) -> Vec<serde_json::Value> {
    let text: String = segments(directory)
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// As after a kill before anything was sealed: all that is left of the checkpoints is the first, of the empty log.
fn unseal(directory: &Path) {
    let path = directory.join("checkpoints");
    let text = std::fs::read(&path).unwrap();
    let (_, first) = checkpoint::notes(&text).next().unwrap();
    std::fs::write(&path, &text[..first]).unwrap();
}

/// A closed ledger of `count` notes.
fn written(count: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let ledger = Ledger::open(&settings(&directory), || NOW).unwrap();
    for number in 0..count {
        note(&ledger, &format!("note {number}"), Level::Written).unwrap();
    }
    ledger.close().unwrap();
    (folder, directory)
}

#[test]
fn a_tail_torn_anywhere_is_cut_off_and_every_whole_line_is_kept() {
    let (_folder, directory) = written(2);
    let path = segments(&directory).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let newlines: Vec<_> = (0..whole.len()).filter(|&at| whole[at] == b'\n').collect();
    let near = |length: usize| newlines.iter().any(|at| length.abs_diff(*at) < 3);
    // All around the ends of lines, and every seventh between.
    for length in (0..=whole.len()).filter(|&length| length % 7 == 0 || near(length)) {
        std::fs::write(&path, &whole[..length]).unwrap();
        unseal(&directory);
        let kept = whole[..length]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        let end = whole[..length]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        Ledger::open(&settings(&directory), || NOW)
            .unwrap()
            .close()
            .unwrap();
        let report = verify::chain(&directory).unwrap();
        let torn = length - end;
        assert_eq!(
            report.records,
            (kept + usize::from(torn > 0)) as u64,
            "at byte {length}"
        );
        let after = std::fs::read(&path).unwrap();
        assert_eq!(after[..end], whole[..end], "at byte {length}");
        if torn > 0 {
            let last = lines(&directory).pop().unwrap();
            assert_eq!(last["change"], "recovered");
            assert_eq!(last["cut_bytes"], torn);
            assert_eq!(last["kept_bytes"], end);
        }
    }
}

#[test]
fn a_hole_left_by_power_loss_is_cut_off_and_an_edit_is_refused_by_file_and_line() {
    let (_folder, directory) = written(6);
    let path = segments(&directory).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let third = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(1)
        .unwrap()
        .0
        + 1;
    let mut edited = whole.clone();
    let note = edited[third..]
        .windows(4)
        .position(|text| text == b"note")
        .unwrap();
    edited[third + note] = b'N';
    std::fs::write(&path, &edited).unwrap();
    let refused = Ledger::open(&settings(&directory), || NOW).unwrap_err();
    let LedgerError::Broken(bad) = &refused else {
        panic!("{refused}")
    };
    // The edited line still reads well; the next one does not hold its digest.
    assert_eq!(
        (bad.path.clone(), bad.line, bad.fault.clone()),
        (path.clone(), 4, LineFault::Prev)
    );
    assert_eq!(
        std::fs::read(&path).unwrap(),
        edited,
        "evidence is not touched"
    );
    let mut holed = whole.clone();
    holed[third..third + 40].fill(0);
    std::fs::write(&path, &holed).unwrap();
    unseal(&directory);
    Ledger::open(&settings(&directory), || NOW)
        .unwrap()
        .close()
        .unwrap();
    assert_eq!(verify::chain(&directory).unwrap().records, 3);
    assert_eq!(lines(&directory)[2]["cut_bytes"], whole.len() - third);
}

#[test]
fn segments_roll_by_size_and_the_chain_runs_through_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let small = LedgerSettings {
        segment_bytes_max: 1000,
        ..settings(&directory)
    };
    let ledger = Ledger::open(&small, || NOW).unwrap();
    for number in 0..40 {
        note(&ledger, &number.to_string(), Level::Sync).unwrap();
    }
    ledger.close().unwrap();
    let before = verify::chain(&directory).unwrap();
    assert!(before.segments > 5, "{before:?}");
    assert_eq!(before.records, 40);
    // A kill right after a new segment was made: it is empty, and the one before is gone on with.
    let next = directory.join(format!("{:016}.jsonl", 40));
    std::fs::write(&next, "{\"torn").unwrap();
    let ledger = Ledger::open(&small, || NOW).unwrap();
    note(&ledger, "after", Level::Written).unwrap();
    ledger.close().unwrap();
    assert_eq!(verify::chain(&directory).unwrap().records, 42);
    // A segment that is missing shows.
    std::fs::remove_file(&segments(&directory)[2]).unwrap();
    let bad = verify::chain(&directory).unwrap_err();
    assert!(matches!(bad.fault, LineFault::Seq { .. }), "{bad}");
}

#[test]
fn segments_roll_by_age_across_a_restart() {
    let (_folder, directory) = written(2);
    let later = NOW.plus(Duration::from_secs(3601));
    let ledger = Ledger::open(&settings(&directory), move || later).unwrap();
    note(&ledger, "new", Level::Written).unwrap();
    ledger.close().unwrap();
    assert_eq!(verify::chain(&directory).unwrap().segments, 2);
}

#[test]
fn records_of_many_threads_form_one_chain_and_all_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let ledger = Ledger::open(&settings(&directory), || NOW).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u128 {
            let ledger = ledger.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                let local = tokio::task::LocalSet::new();
                for task in 0..32 {
                    let ledger = ledger.clone();
                    local.spawn_local(async move {
                        for number in 0..20 {
                            let call = Call::new(thread << 32 | task << 16 | number);
                            let mut slot = ledger.reserve().unwrap();
                            let record = call.decision("/a", None);
                            slot.decide(&record, Level::Written).await.unwrap();
                            slot.settle(&call.outcome());
                        }
                    });
                }
                runtime.block_on(local);
            });
        }
    });
    ledger.close().unwrap();
    assert_eq!(verify::chain(&directory).unwrap().records, 4 * 32 * 20 * 2);
    assert_eq!(ledger.stats().queue, 0, "every place came back");
    let decided: HashSet<_> = lines(&directory)
        .iter()
        .filter(|line| line["kind"] == "decision")
        .map(|line| line["request"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(decided.len(), 4 * 32 * 20);
}

#[test]
fn a_waiter_that_leaves_does_not_keep_its_neighbours_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&settings(&folder.path().join("ledger")), || NOW).unwrap();
    wait(async {
        for _ in 0..200 {
            let event = Event::Strangers {
                client: None,
                count: 1,
            };
            let mut left: Vec<_> = (0..8)
                .map(|_| Box::pin(ledger.append(&event, NOW, Level::Written)))
                .collect();
            let last = left.pop().unwrap();
            // Each is polled once, so that it waits; then all but one are dropped or never polled again.
            for ack in &mut left {
                let _ = futures_once(ack.as_mut()).await;
            }
            left.truncate(4);
            last.await.unwrap();
        }
    });
}

/// Polls once.
async fn futures_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn a_full_queue_refuses_calls_and_still_takes_the_outcomes_of_those_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&settings(&folder.path().join("ledger")), || NOW).unwrap();
    let mut slots = Vec::new();
    while let Ok(slot) = ledger.reserve() {
        slots.push(slot);
    }
    assert_eq!(note(&ledger, "no place", Level::Written), Err(Unavailable));
    assert!(ledger.healthy());
    let count = slots.len() as u64;
    let call = Call::new(1);
    slots
        .into_iter()
        .for_each(|slot| slot.settle(&call.outcome()));
    ledger.close().unwrap();
    assert_eq!(ledger.stats().records, count);
    assert_eq!(ledger.stats().queue, 0);
}

#[test]
fn nothing_is_accepted_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&settings(&folder.path().join("ledger")), || NOW).unwrap();
    let mut slot = ledger.reserve().unwrap();
    ledger.close().unwrap();
    let call = Call::new(1);
    assert_eq!(
        wait(slot.decide(&call.decision("/", None), Level::Written)),
        Err(Unavailable)
    );
    assert_eq!(note(&ledger, "late", Level::Written), Err(Unavailable));
}

/// Until records are taken again; yields in between.
fn until_healthy(ledger: &Ledger) {
    while !ledger.healthy() {
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The law of the writer: whatever fails and when, every acknowledged record and every accepted outcome is in the
    /// chain exactly once, and the chain is whole.
    #[test]
    fn what_is_acknowledged_is_there_once_whatever_the_disk_does(
        faults in proptest::collection::btree_map(0..60_usize, misfortune(), 1..12),
        sizes in 200..4000_u64,
        waits in proptest::collection::vec(any::<bool>(), 24),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("ledger");
        let small = LedgerSettings { segment_bytes_max: sizes, ..settings(&directory) };
        let plan = Arc::new(Plan::default());
        let disk = Disk::open(&directory, NOW).unwrap();
        let faulty = Faulty { disk, plan: Arc::clone(&plan) };
        // The start itself is not what is tested here.
        let ledger = Ledger::open_on(Box::new(faulty), key, &small, || NOW).unwrap();
        let at = plan.calls.load(Ordering::SeqCst);
        *plan.faults.lock().unwrap() = faults.into_iter().map(|(call, fault)| (at + call, fault)).collect();
        let (mut acknowledged, mut settled) = (Vec::new(), Vec::new());
        let mut open = Vec::new();
        for (number, wait_first) in waits.iter().enumerate() {
            let call = Call::new(number as u128);
            if *wait_first {
                until_healthy(&ledger);
            }
            if let Ok(mut slot) = ledger.reserve() {
                let level = if number % 3 == 0 { Level::Sync } else { Level::Written };
                if wait(slot.decide(&call.decision("/a", None), level)).is_ok() {
                    acknowledged.push(call.request.to_string());
                    open.push((slot, call));
                }
            }
            if number % 4 == 3 {
                for (slot, call) in open.drain(..) {
                    slot.settle(&call.outcome());
                    settled.push(call.request.to_string());
                }
            }
        }
        for (slot, call) in open.drain(..) {
            slot.settle(&call.outcome());
            settled.push(call.request.to_string());
        }
        plan.faults.lock().unwrap().clear();
        // An outcome is not waited for, so the last fault may come only now.
        while note(&ledger, "the end", Level::Sync).is_err() {
            until_healthy(&ledger);
        }
        prop_assert_eq!(ledger.close(), Ok(()));
        let stats = ledger.stats();
        prop_assert_eq!(stats.queue, 0);
        drop(ledger);
        let report = verify::chain(&directory).unwrap();
        prop_assert_eq!(report.records, stats.records);
        // Read as far as each segment counts: a torn tail may stand behind, where even cutting failed.
        let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
        let (mut kept, mut texts) = (BTreeMap::new(), Vec::new());
        for path in segments(&directory) {
            texts.push((path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
        }
        for (_, text) in &texts {
            let first = text.split(|&byte| byte == b'\n').next().unwrap();
            let first: serde_json::Value = serde_json::from_slice(first).unwrap();
            if first["change"] == "fault" && first["segment"].is_string() {
                kept.insert(
                    first["segment"].as_str().unwrap().to_owned(),
                    usize::try_from(first["kept_bytes"].as_u64().unwrap()).unwrap(),
                );
            }
        }
        for (name, text) in &texts {
            let text = &text[..kept.get(name).copied().unwrap_or(text.len()).min(text.len())];
            for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                let line: serde_json::Value = serde_json::from_slice(line).unwrap();
                if let Some(request) = line["request"].as_str() {
                    let kind = line["kind"].as_str().unwrap().to_owned();
                    *seen.entry((kind, request.to_owned())).or_default() += 1;
                }
            }
        }
        for request in acknowledged {
            prop_assert_eq!(seen.get(&("decision".into(), request)), Some(&1));
        }
        for request in settled {
            prop_assert_eq!(seen.get(&("outcome".into(), request)), Some(&1));
        }
        prop_assert!(seen.values().all(|&count| count == 1));
        // And a restart finds nothing torn.
        let disk = Disk::open(&directory, NOW).unwrap();
        let again = Ledger::open_on(Box::new(disk), key, &small, || NOW).unwrap();
        again.close().unwrap();
        prop_assert_eq!(verify::chain(&directory).unwrap().records, report.records);
    }

    /// The law of the chain.
    #[test]
    fn flipping_any_byte_is_detected(place in any::<prop::sample::Index>(), mask in 1..=255_u8) {
        let (_folder, directory) = written(5);
        let path = segments(&directory).remove(0);
        let before = verify::chain(&directory).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= mask;
        std::fs::write(&path, bytes).unwrap();
        match verify::chain(&directory) {
            Err(bad) => prop_assert_eq!(bad.path, path),
            // Only an edit of the last line leaves the chain whole; its head is another one then.
            Ok(report) => prop_assert_ne!(report.head, before.head),
        }
    }

    /// Every line is what RFC 8785 makes of its own content, whatever text came in.
    #[test]
    fn every_line_is_canonical_json(
        target in "\\PC{0,40}", intent in ".{0,60}", detail in any::<String>(), status in any::<u16>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("ledger");
        let ledger = Ledger::open(&settings(&directory), || NOW).unwrap();
        let call = Call::new(9);
        let mut slot = ledger.reserve().unwrap();
        wait(slot.decide(&call.decision(&target, Some(&intent)), Level::Written)).unwrap();
        slot.settle(&OutcomeRecord { status: Some(status), ..call.outcome() });
        let event = Event::Quarantine {
            change: "quarantined", project: &call.project, session: call.session, reason: &detail, cause: Cause::Agent,
        };
        wait(ledger.append(&event, NOW, Level::Written)).unwrap();
        ledger.close().unwrap();
        let text = std::fs::read_to_string(&segments(&directory)[0]).unwrap();
        let mut count = 0;
        for line in text.split_terminator('\n') {
            // serde_json keeps keys sorted, writes no white space, and escapes as RFC 8785 does.
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(value.to_string(), line);
            count += 1;
        }
        prop_assert_eq!(count, 3);
        let records = lines(&directory);
        prop_assert_eq!(records[0]["intent"].as_str(), Some(&*intent));
        prop_assert_eq!(records[2]["reason"].as_str(), Some(&*detail));
    }
}

#[test]
fn an_approval_is_on_record_with_its_digest_and_every_word_and_without_what_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let ledger = Ledger::open(&settings(&directory), || NOW).unwrap();
    let wish = Asked::Grant(AskedGrant {
        uses: 3,
        ttl: Duration::from_secs(60),
        why: "because".into(),
    });
    let given = GrantId::new(Uuid::from_u128(5));
    let lead = PrincipalName::parse("lead").unwrap();
    for asked in [held_call(), wish] {
        let facts = facts(asked, "tidy up");
        let event = |change, stage, cause| Event::Approval {
            change,
            facts: &facts,
            stage,
            word: (change == "voted").then_some(Word::Approve),
            note: (change == "voted").then_some("looks \u{202e}right"),
            status: (change == "executed").then_some(204),
            given: (change == "executed").then_some(given),
            cause,
        };
        for event in [
            event("requested", Stage::Pending, Cause::Agent),
            event("voted", Stage::Pending, Cause::Principal(&lead)),
            event("executed", Stage::Executed, Cause::Gate),
        ] {
            wait(ledger.append(&event, NOW, Level::Sync)).unwrap();
        }
    }
    let held = Call::new(6);
    let decision = DecisionRecord {
        decision: Verdict::Hold,
        shadow: None,
        approval: Some(ApprovalId::new(Uuid::from_u128(3))),
        ..held.decision("/users/7", None)
    };
    wait(ledger.reserve().unwrap().decide(&decision, Level::Sync)).unwrap();
    ledger.close().unwrap();
    let text = std::fs::read_to_string(&segments(&directory)[0]).unwrap();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value.to_string(), line);
    }
    assert!(!text.contains("secret") && !text.contains("the body"));
    let records = lines(&directory);
    let field = |at: usize, name: &str| records[at][name].as_str().unwrap_or("-").to_owned();
    assert_eq!(field(0, "intent"), "tidy up");
    assert_eq!(field(1, "intent"), "-");
    assert_eq!(field(0, "digest"), "ab".repeat(32));
    assert_eq!(
        (field(1, "principal"), field(1, "word"), field(1, "note")),
        (
            "lead".into(),
            "approve".into(),
            "looks \u{202e}right".into()
        )
    );
    assert_eq!(
        field(0, "grant"),
        GrantId::new(Uuid::from_u128(4)).to_string()
    );
    assert_eq!(
        (field(2, "stage"), records[2]["status"].as_u64()),
        ("executed".into(), Some(204))
    );
    assert_eq!(
        (field(3, "grant"), field(5, "grant")),
        ("-".into(), given.to_string())
    );
    assert_eq!(
        (field(3, "why"), records[3]["ttl_seconds"].as_u64()),
        ("because".into(), Some(60))
    );
    assert_eq!(
        (field(6, "decision"), field(6, "approval")),
        ("hold".into(), facts(held_call(), "").id.to_string())
    );
}

#[test]
fn after_a_fault_the_new_segment_begins_with_it_and_the_outcomes_that_waited() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let plan = Arc::new(Plan::default());
    let faulty = Faulty {
        disk: Disk::open(&directory, NOW).unwrap(),
        plan: Arc::clone(&plan),
    };
    let ledger = Ledger::open_on(Box::new(faulty), key, &settings(&directory), || NOW).unwrap();
    let (first, second) = (Call::new(1), Call::new(2));
    let mut slot = ledger.reserve().unwrap();
    wait(slot.decide(&first.decision("/a", None), Level::Written)).unwrap();
    let kept = std::fs::metadata(&segments(&directory)[0]).unwrap().len();
    let at = plan.calls.load(Ordering::SeqCst);
    // The write is torn, the tail can't be cut, and the disk stays away for a while.
    let fault = Misfortune::Broken { after_bytes: 100 };
    *plan.faults.lock().unwrap() = (at..at + 8).map(|call| (call, fault)).collect();
    let mut refused = ledger.reserve().unwrap();
    let decided = wait(refused.decide(&second.decision("/b", None), Level::Written));
    assert_eq!(decided, Err(Unavailable));
    slot.settle(&first.outcome());
    until_healthy(&ledger);
    ledger.close().unwrap();
    let files = segments(&directory);
    assert_eq!(files.len(), 2);
    let text = std::fs::read_to_string(&files[1]).unwrap();
    let new: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(new[0]["kind"], "gate");
    assert_eq!(new[0]["change"], "fault");
    assert_eq!(new[0]["kept_bytes"], kept);
    assert_eq!(new[1]["kind"], "outcome");
    assert_eq!(new[1]["request"], first.request.to_string());
    assert_eq!(verify::chain(&directory).unwrap().records, 3);
    assert!(ledger.stats().failures >= 1);
}

#[test]
fn a_background_sync_that_fails_stops_the_ledger_before_another_line_is_acknowledged_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let plan = Arc::new(Plan::default());
    let faulty = Faulty {
        disk: Disk::open(&directory, NOW).unwrap(),
        plan: Arc::clone(&plan),
    };
    let ledger = Ledger::open_on(Box::new(faulty), key, &settings(&directory), || NOW).unwrap();
    let event = Event::Strangers {
        client: None,
        count: 1,
    };
    let at = plan.calls.load(Ordering::SeqCst);
    // A write, a write more than a commit window later, and the sync that this begins.
    let fault = Misfortune::Broken { after_bytes: 0 };
    *plan.faults.lock().unwrap() = BTreeMap::from([(at + 2, fault)]);
    wait(ledger.append(&event, NOW, Level::Written)).unwrap();
    let later = NOW.plus(Duration::from_secs(2));
    wait(ledger.append(&event, later, Level::Written)).unwrap();
    while plan.calls.load(Ordering::SeqCst) < at + 3 {
        std::thread::yield_now();
    }
    // The answer of the sync may be a moment behind the call; it is looked for before each write.
    let mut taken = 2;
    while wait(ledger.append(&event, later, Level::Written)).is_ok() {
        taken += 1;
        // Fewer than fill the segment, whose end would find it too.
        assert!(taken < 2_000, "the failure went unnoticed");
    }
    assert_eq!(ledger.stats().failures, 1);
    until_healthy(&ledger);
    ledger.close().unwrap();
    let report = verify::chain(&directory).unwrap();
    assert_eq!((report.segments, report.records), (2, taken + 1));
    assert_eq!(lines(&directory).pop().unwrap()["change"], "fault");
}
