//! How far a record got before its caller goes on: `sync`, `written`, `batched`, as configured, and never less than was asked.

use super::seals::verified;
use super::*;
use toolgate::config::LedgerLevel;

fn at_level(level: LedgerLevel, directory: &Path, plan: &Arc<Plan>) -> Ledger {
    let settings = LedgerSettings {
        level,
        ..settings(directory)
    };
    Ledger::open_on(Faulty::open(directory, plan, NOW), key, &settings, || NOW).unwrap()
}

/// Whether the answer is there at once; it is put back where not.
fn at_once(ack: &mut toolgate::ledger::Ack) -> Option<Result<(), Unavailable>> {
    wait(futures_once(ack))
}

fn decide(ledger: &Ledger, number: u128, level: Level) -> (toolgate::ledger::Ack, Call) {
    let call = Call::new(number);
    let mut slot = ledger.reserve().unwrap();
    let ack = slot.decide(&call.decision("/a", None), level);
    (ack, call)
}

#[test]
fn at_level_sync_nothing_is_acknowledged_that_is_not_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    for (level, expected) in [
        (LedgerLevel::Written, Ok(())),
        (LedgerLevel::Sync, Err(Unavailable)),
    ] {
        let directory = folder.path().join(format!("{level:?}"));
        let plan = Arc::default();
        let ledger = at_level(level, &directory, &plan);
        // The write works, the sync that follows does not.
        plan.fail([(1, Misfortune::Broken { after_bytes: 0 })]);
        let (ack, _) = decide(&ledger, 1, Level::Written);
        assert_eq!(wait(ack), expected, "{level:?}");
        plan.fail([]);
        until_healthy(&ledger);
        ledger.close().unwrap();
        verified(&directory);
    }
}

#[test]
fn at_level_batched_decisions_do_not_wait_up_to_their_bound_and_what_cant_be_undone_always_does() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let plan: Arc<Plan> = Arc::default();
    let ledger = at_level(LedgerLevel::Batched, &directory, &plan);
    let bound = ledger.stats().batched_max;
    assert!(bound > 0 && !ledger.stats().batched_wait.is_zero());
    let held = plan.hold.lock().unwrap();
    for number in 0..bound {
        let (mut ack, _) = decide(&ledger, number.into(), Level::Written);
        assert_eq!(at_once(&mut ack), Some(Ok(())));
    }
    assert_eq!(ledger.stats().batched, bound);
    let (mut full, _) = decide(&ledger, u128::MAX, Level::Written);
    assert_eq!(at_once(&mut full), None);
    let (mut sync, _) = decide(&ledger, u128::MAX - 1, Level::Sync);
    assert_eq!(at_once(&mut sync), None);
    drop(held);
    assert_eq!(wait(full), Ok(()));
    assert_eq!(wait(sync), Ok(()));
    ledger.close().unwrap();
    assert_eq!(ledger.stats().batched, 0);
    assert_eq!(verified(&directory).next, bound + 2);
}

#[test]
fn what_went_on_without_its_record_is_on_record_once_the_disk_answers_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let plan: Arc<Plan> = Arc::default();
    let ledger = at_level(LedgerLevel::Batched, &directory, &plan);
    let mut went = Vec::new();
    plan.fail((0..7).map(|call| (call, Misfortune::Full { after_bytes: 30 })));
    for number in 0..50 {
        let call = Call::new(number);
        // While the disk fails nothing goes on.
        if let Ok(mut slot) = ledger.reserve()
            && wait(slot.decide(&call.decision("/a", None), Level::Written)).is_ok()
        {
            went.push(call.request.to_string());
        }
    }
    // The last fault may come only now.
    while note(&ledger, "the end", Level::Sync).is_err() {
        until_healthy(&ledger);
    }
    ledger.close().unwrap();
    assert!(!went.is_empty() && ledger.stats().failures > 0);
    let there: Vec<_> = lines(&directory)
        .iter()
        .filter_map(|line| line["request"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(there, went);
    verified(&directory);
    assert_eq!(ledger.stats().batched, 0);
}

#[test]
fn a_batch_is_written_soon_though_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let ledger = at_level(LedgerLevel::Batched, &directory, &Arc::default());
    let (ack, call) = decide(&ledger, 1, Level::Written);
    wait(ack).unwrap();
    while ledger.stats().batched > 0 {
        std::thread::yield_now();
    }
    let line = lines(&directory).pop().unwrap();
    assert_eq!(line["request"], call.request.to_string());
}
