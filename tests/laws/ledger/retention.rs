//! What is old is dropped as a whole, with a record of it, and everything later can still be proven.

use super::seals::verified;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn small(directory: &Path) -> LedgerSettings {
    LedgerSettings {
        segment_bytes_max: 600,
        retain: HOUR,
        ..settings(directory)
    }
}

/// Opened at `now`, given this many records of that time, and closed.
fn at(now: Timestamp, settings: &LedgerSettings, count: usize) {
    let ledger = Ledger::open(settings, move || now).unwrap();
    let event = Event::Strangers {
        client: None,
        count: 1,
    };
    for _ in 0..count {
        wait(ledger.append(&event, now, Level::Written)).unwrap();
    }
    ledger.close().unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    segments(directory).iter().map(name).collect()
}

#[test]
fn old_segments_go_with_a_record_of_each_and_what_is_left_is_proven_from_roots() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    at(NOW, &small(&directory), 12);
    let before = names(&directory);
    assert!(before.len() > 3, "{before:?}");
    // Not yet: the records are exactly as old as they are kept.
    at(NOW.plus(HOUR), &small(&directory), 0);
    assert_eq!(names(&directory), before);
    let later = NOW.plus(HOUR + Duration::from_secs(1));
    at(later, &small(&directory), 1);
    let after = names(&directory);
    // All but the last of the old ones, whose successor is new.
    assert_eq!(after[0], *before.last().unwrap());
    let said: Vec<_> = lines(&directory)
        .into_iter()
        .filter(|line| line["change"] == "dropped")
        .collect();
    let dropped: Vec<_> = said
        .iter()
        .map(|line| line["segment"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(dropped, before[..before.len() - 1]);
    let last = said.last().unwrap();
    let first = last["first"].as_u64().unwrap();
    assert_eq!(format!("{first:016}.jsonl"), after[0]);
    let report = verified(&directory);
    assert_eq!(report.first, first);
    let proven = report.proven.unwrap();
    assert_eq!((proven.from, proven.to), (report.first, report.next));
    assert_eq!(
        verify::chain(&directory).unwrap().records,
        report.next - report.first
    );
    // And the log goes on from there.
    at(later, &small(&directory), 2);
    assert_eq!(verified(&directory).next, report.next + 2);
    // A segment that is missing without a record of it was taken away.
    let second = segments(&directory).remove(0);
    std::fs::remove_file(second).unwrap();
    let given = verify::Given::default();
    let report = verify::directory(&directory, &given, &mut |_, _| {}).unwrap();
    assert!(!report.faults.is_empty());
}

#[test]
fn checkpoints_of_what_was_dropped_go_too_but_for_those_that_name_a_key_and_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    for _ in 0..12 {
        at(NOW, &small(&directory), 1);
    }
    let count = || {
        let file = std::fs::read(directory.join("checkpoints")).unwrap();
        checkpoint::notes(&file).count()
    };
    let before = count();
    let later = NOW.plus(2 * HOUR);
    at(later, &small(&directory), 1);
    let after = count();
    assert!(before >= 13 && after <= before / 2, "{before} {after}");
    let report = verified(&directory);
    assert!(report.first > 0);
    // It is gone on with, and verifies as before.
    at(later, &small(&directory), 3);
    assert_eq!(count(), after + 1);
    verified(&directory);
    let first = std::fs::read_to_string(directory.join("checkpoints")).unwrap();
    assert!(
        first.split("\n\n").next().unwrap().contains("\nkey "),
        "{first}"
    );
}

#[test]
fn an_open_segment_is_never_dropped_however_old_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    at(NOW, &settings(&directory), 3);
    let much_later = NOW.plus(Duration::from_secs(3600 * 24 * 365));
    at(
        much_later,
        &LedgerSettings {
            retain: HOUR,
            ..settings(&directory)
        },
        0,
    );
    assert_eq!(names(&directory).len(), 1);
    assert_eq!(verified(&directory).next, 3);
}
