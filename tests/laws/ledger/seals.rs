//! Checkpoints: signed over what is on the disk and nothing else, and a log that contradicts them is not gone on with.

use super::*;
use std::sync::atomic::AtomicI64;
use toolgate::ledger::checkpoint::Checkpoint;
use toolgate::ledger::keys::KeyFault;
use toolgate::ledger::note::Note;

/// What `checkpoints` says.
fn checkpoints(directory: &Path) -> Vec<(Note, Checkpoint)> {
    let file = std::fs::read(directory.join("checkpoints")).unwrap();
    let notes = checkpoint::notes(&file).map(|(note, _)| Note::parse(note).unwrap());
    let read = notes.map(|note| {
        let checkpoint = Checkpoint::of(&note).unwrap();
        (note, checkpoint)
    });
    read.collect()
}

/// Every file and what is in it.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(directory).unwrap();
    let read = files.map(|file| {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    });
    read.filter(|(path, _)| !path.ends_with("lock")).collect()
}

fn put_back(contents: &BTreeMap<PathBuf, Vec<u8>>, only: &str) {
    for (path, bytes) in contents {
        if path.to_str().unwrap().ends_with(only) {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// Opened, appended to and closed.
fn more(settings: &LedgerSettings, count: usize) {
    let ledger = Ledger::open(settings, || NOW).unwrap();
    for number in 0..count {
        note(&ledger, &format!("more {number}"), Level::Written).unwrap();
    }
    ledger.close().unwrap();
}

/// Why it does not open; nothing is changed by that.
fn refused(settings: &LedgerSettings) -> LedgerError {
    let before = contents(&settings.directory);
    let refused = Ledger::open(settings, || NOW).unwrap_err();
    assert_eq!(before, contents(&settings.directory), "{refused}");
    refused
}

pub(super) fn verified(directory: &Path) -> verify::Report {
    let given = verify::Given::default();
    let report = verify::directory(directory, &given, &mut |_, _| {}).unwrap();
    assert_eq!(report.faults, [], "{directory:?}");
    report
}

#[test]
fn the_first_checkpoint_names_the_key_and_every_other_follows_from_the_one_before() {
    let (_folder, directory) = written(3);
    more(&settings(&directory), 2);
    let ledger = Ledger::open(&settings(&directory), || NOW).unwrap();
    let key = [ledger.verifier()];
    ledger.close().unwrap();
    let shown = ledger.checkpoint().unwrap();
    assert_eq!(
        (ledger.stats().checkpointed, ledger.directory()),
        (5, &*directory)
    );
    let all = checkpoints(&directory);
    let sizes: Vec<_> = all.iter().map(|(_, it)| it.size).collect();
    assert_eq!(sizes, [0, 3, 5, 5]);
    for (note, checkpoint) in &all {
        assert_eq!(note.by(&key), Ok(&key[0]));
        assert_eq!(checkpoint.key.is_some(), checkpoint.prev.is_none());
    }
    assert_eq!(all[0].1.key.as_ref(), Some(&key[0]));
    for pair in all.windows(2) {
        assert_eq!(pair[1].1.prev, Some(pair[0].1.digest()));
    }
    let last = Note::parse(shown.as_bytes()).unwrap();
    assert_eq!(all.last().unwrap().0, last);
    let proven = verified(&directory).proven.unwrap();
    assert_eq!((proven.from, proven.to), (0, 5));
}

#[test]
fn under_load_a_checkpoint_follows_within_a_second_and_in_silence_within_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(NOW.micros()));
    let wall = Arc::clone(&clock);
    let ledger = Ledger::open(&settings(&folder.path().join("ledger")), move || {
        Timestamp::from_micros(wall.load(Ordering::SeqCst))
    })
    .unwrap();
    let first = ledger.checkpoint().unwrap();
    let event = Event::Strangers {
        client: None,
        count: 1,
    };
    for (level, expected) in [(Level::Written, 1), (Level::Sync, 2)] {
        let now = clock.fetch_add(1_000_000, Ordering::SeqCst) + 1_000_000;
        wait(ledger.append(&event, Timestamp::from_micros(now), level)).unwrap();
        while ledger.stats().checkpointed < expected {
            std::thread::yield_now();
        }
    }
    let busy = ledger.checkpoint().unwrap();
    assert_ne!(first, busy);
    clock.fetch_add(61_000_000, Ordering::SeqCst);
    while ledger.checkpoint().unwrap() == busy {
        std::thread::yield_now();
    }
    let silent = ledger.checkpoint().unwrap();
    let read = |text: &str| Checkpoint::of(&Note::parse(text.as_bytes()).unwrap()).unwrap();
    let (busy, silent) = (read(&busy), read(&silent));
    assert_eq!((busy.size, busy.root), (silent.size, silent.root));
    let apart = silent.time.unwrap().since(busy.time.unwrap());
    assert!(apart >= Duration::from_secs(60), "{apart:?}");
}

#[test]
fn an_older_copy_of_the_segments_is_refused_and_left_as_it_is() {
    let (_folder, directory) = written(3);
    let old = contents(&directory);
    more(&settings(&directory), 2);
    put_back(&old, ".jsonl");
    let why = refused(&settings(&directory));
    let LedgerError::Cut { size, records, .. } = why else {
        panic!("{why}")
    };
    assert_eq!((size, records), (5, 3));
    // With all segments gone, too.
    segments(&directory)
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());
    let why = refused(&settings(&directory));
    assert!(
        matches!(
            why,
            LedgerError::Cut {
                size: 5,
                records: 0,
                ..
            }
        ),
        "{why}"
    );
}

#[test]
fn a_log_that_was_chained_anew_behind_an_edit_is_refused() {
    let (_folder, directory) = written(4);
    let path = segments(&directory).remove(0);
    let mut prev = [b'0'; 64].to_vec();
    let mut edited = String::new();
    for mut line in lines(&directory) {
        line["prev"] = String::from_utf8(prev).unwrap().into();
        if line["seq"] == 1 {
            line["detail"] = "another one".into();
        }
        let text = line.to_string();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        prev = hex.collect::<String>().into_bytes();
        edited += &text;
        edited.push('\n');
    }
    std::fs::write(&path, edited).unwrap();
    assert_eq!(verify::chain(&directory).unwrap().records, 4);
    let why = refused(&settings(&directory));
    assert!(matches!(why, LedgerError::Edited { size: 4, .. }), "{why}");
}

#[test]
fn checkpoints_that_were_taken_out_or_changed_are_refused() {
    let (_folder, directory) = written(2);
    for _ in 0..3 {
        more(&settings(&directory), 1);
    }
    let path = directory.join("checkpoints");
    let whole = std::fs::read(&path).unwrap();
    let ends: Vec<_> = checkpoint::notes(&whole).map(|(_, end)| end).collect();
    let without = |at: usize| [&whole[..ends[at - 1]], &whole[ends[at]..]].concat();
    let mut edited = whole.clone();
    let signature = whole.len() - 20;
    edited[signature] ^= 1;
    for file in [
        without(2),
        without(1),
        whole[ends[0]..].to_vec(),
        edited,
        Vec::new(),
    ] {
        std::fs::write(&path, &file).unwrap();
        let why = refused(&settings(&directory));
        assert!(
            matches!(&why, LedgerError::Checkpoints { path: named, .. } if *named == path),
            "{why}"
        );
    }
    std::fs::write(&path, &whole).unwrap();
    more(&settings(&directory), 1);
}

#[test]
fn what_a_kill_tore_of_checkpoints_and_roots_is_cut_off_and_replaced() {
    let (_folder, directory) = written(2);
    let before = contents(&directory);
    let last = |file: &str| {
        let text = std::fs::read(directory.join(file)).unwrap();
        match file {
            "roots" => 0,
            _ => checkpoint::notes(&text).next().unwrap().1,
        }
    };
    let whole = |file: &str| std::fs::read(directory.join(file)).unwrap();
    for file in ["checkpoints", "roots"] {
        let (from, text) = (last(file), whole(file));
        for length in (from..text.len()).step_by(19).chain([text.len() - 1]) {
            before
                .keys()
                .for_each(|path| put_back(&before, path.to_str().unwrap()));
            std::fs::write(directory.join(file), &text[..length]).unwrap();
            more(&settings(&directory), 1);
            assert_eq!(verified(&directory).next, 3, "{file} cut at {length}");
            let roots = whole("roots");
            assert!(roots.ends_with(b"\n") && roots.starts_with(b"{\"frontier\":[],"));
        }
    }
}

#[test]
fn another_key_does_not_go_on_and_a_rotation_is_signed_by_both() {
    let (_folder, directory) = written(2);
    let own = std::fs::read(directory.join("key")).unwrap();
    let other = SigningKey::new("other", [8; 32]).unwrap();
    let write = |key: &SigningKey| {
        use secrecy::ExposeSecret as _;
        std::fs::write(directory.join("key"), key.to_text().expose_secret()).unwrap();
    };
    write(&other);
    let why = refused(&settings(&directory));
    assert!(
        matches!(
            &why,
            LedgerError::Key {
                fault: KeyFault::Other { .. },
                ..
            }
        ),
        "{why}"
    );
    std::fs::write(directory.join("key"), &own).unwrap();
    let ledger = Ledger::open(&settings(&directory), || NOW).unwrap();
    let old = ledger.verifier();
    note(&ledger, "before", Level::Written).unwrap();
    ledger
        .rotate(SigningKey::new("other", [8; 32]).unwrap())
        .unwrap();
    assert_eq!(ledger.verifier(), *other.verifier());
    note(&ledger, "after", Level::Written).unwrap();
    ledger.close().unwrap();
    let record = &lines(&directory)[3];
    assert_eq!(record["change"], "key_rotated");
    assert_eq!(record["old_key"], old.to_string());
    assert_eq!(record["new_key"], other.verifier().to_string());
    let all = checkpoints(&directory);
    let (rotation, said) = all.iter().rfind(|(_, it)| it.key.is_some()).unwrap();
    assert_eq!((said.size, said.key.as_ref()), (4, Some(other.verifier())));
    for key in [&old, other.verifier()] {
        assert_eq!(rotation.by(std::slice::from_ref(key)), Ok(key));
    }
    let (last, _) = all.last().unwrap();
    assert!(last.by(&[old]).is_err());
    assert_eq!(verified(&directory).proven.unwrap().keys, 2);
    // The old key does not come back.
    refused(&settings(&directory));
    write(&other);
    more(&settings(&directory), 1);
    assert_eq!(verified(&directory).next, 6);
}

#[test]
fn what_the_anchor_file_saw_must_still_be_so() {
    let (folder, directory) = written(3);
    let anchor = folder.path().join("anchor");
    let anchored = LedgerSettings {
        anchor_file: Some(anchor.clone()),
        ..settings(&directory)
    };
    // Not there yet, there, and with a note that a kill tore.
    more(&anchored, 1);
    let old = contents(&directory);
    more(&anchored, 1);
    let mut file = std::fs::read(directory.join("checkpoints")).unwrap();
    std::fs::write(&anchor, &file).unwrap();
    more(&anchored, 0);
    file.extend_from_slice(b"gate-1\n77\nAAA");
    std::fs::write(&anchor, &file).unwrap();
    more(&anchored, 0);
    // The whole directory from before: nothing in it contradicts itself, the anchor does.
    let now = contents(&directory);
    old.keys()
        .for_each(|path| put_back(&old, path.to_str().unwrap()));
    let why = refused(&anchored);
    assert!(
        matches!(&why, LedgerError::Cut { witness, size: 5, .. } if *witness == anchor),
        "{why}"
    );
    now.keys()
        .for_each(|path| put_back(&now, path.to_str().unwrap()));
    // Another log of the same length.
    let (_other, elsewhere) = written(5);
    let foreign = LedgerSettings {
        anchor_file: Some(anchor.clone()),
        ..settings(&elsewhere)
    };
    let why = refused(&foreign);
    assert!(
        matches!(&why, LedgerError::Checkpoints { path, .. } if *path == anchor),
        "{why}"
    );
    // And one of the same name.
    let name = std::fs::read_to_string(directory.join("instance")).unwrap();
    let (_twin, twin) = (tempfile::tempdir().unwrap(), folder.path().join("twin"));
    std::fs::create_dir(&twin).unwrap();
    std::fs::write(twin.join("instance"), name).unwrap();
    more(&settings(&twin), 5);
    let foreign = LedgerSettings {
        anchor_file: Some(anchor.clone()),
        ..settings(&twin)
    };
    let why = refused(&foreign);
    assert!(
        matches!(&why, LedgerError::Edited { witness, size: 5, .. } if *witness == anchor),
        "{why}"
    );
}

#[test]
fn without_roots_the_log_is_read_from_its_beginning_and_wrong_ones_are_not_believed() {
    let (_folder, directory) = written(0);
    let small = LedgerSettings {
        segment_bytes_max: 500,
        ..settings(&directory)
    };
    more(&small, 12);
    let path = directory.join("roots");
    let roots = std::fs::read_to_string(&path).unwrap();
    assert!(roots.lines().count() > 3, "{roots}");
    std::fs::remove_file(&path).unwrap();
    more(&small, 1);
    let again = std::fs::read_to_string(&path).unwrap();
    let segments = |text: &str| {
        let read = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        read.map(|line| line["segment"].as_str().unwrap().to_owned())
            .collect::<HashSet<_>>()
    };
    assert!(
        segments(&again).len() >= segments(&roots).len() - 1,
        "{again}"
    );
    // A digit of every frontier is another one.
    let wrong = again.replace("\"frontier\":[\"", "\"frontier\":[\"0");
    let wrong: String = wrong
        .lines()
        .map(|line| match line.find("[\"0") {
            Some(at) => format!("{}{}\n", &line[..at + 66], &line[at + 67..]),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&path, wrong).unwrap();
    more(&small, 1);
    // The lines that were wrong were written again, and the last one counts.
    assert_eq!(verified(&directory).next, 14);
}

/// What a kill at this moment leaves.
pub(super) fn killed(directory: &Path, into: &Path) {
    std::fs::create_dir(into).unwrap();
    // What is sealed is there: so that is read first.
    let sealed = std::fs::read(directory.join("checkpoints")).unwrap();
    for (path, bytes) in contents(directory) {
        std::fs::write(into.join(path.file_name().unwrap()), bytes).unwrap();
    }
    std::fs::write(into.join("checkpoints"), sealed).unwrap();
    for name in ["key", "key.next"] {
        use std::os::unix::fs::PermissionsExt as _;
        if let Ok(file) = std::fs::File::open(into.join(name)) {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))
                .unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_every_acknowledged_record_and_a_log_that_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let small = LedgerSettings {
        segment_bytes_max: 700,
        ..settings(&directory)
    };
    let ledger = Ledger::open(&small, || NOW).unwrap();
    let event = Event::Strangers {
        client: None,
        count: 1,
    };
    for number in 0..24_u32 {
        let level = if number % 3 == 0 {
            Level::Sync
        } else {
            Level::Written
        };
        let time = NOW.plus(Duration::from_millis(400) * number);
        wait(ledger.append(&event, time, level)).unwrap();
        let into = folder.path().join(number.to_string());
        killed(&directory, &into);
        more(
            &LedgerSettings {
                directory: into.clone(),
                ..small.clone()
            },
            1,
        );
        assert_eq!(
            verified(&into).next,
            u64::from(number) + 2,
            "after {number}"
        );
    }
}

/// One life of a gate: what it was told is on record, in order.
fn life(ledger: &Ledger, since: Timestamp, told: &mut Vec<String>, rotate_to: Option<u8>) {
    for number in 0..7_u32 {
        let detail = format!("{}", told.len());
        let event = Event::Gate {
            change: "note",
            version: "0",
            detail: &detail,
        };
        let level = if number % 4 == 0 {
            Level::Sync
        } else {
            Level::Written
        };
        let time = since.plus(Duration::from_millis(500) * number);
        if wait(ledger.append(&event, time, level)).is_ok() {
            told.push(detail);
        }
        if number == 4
            && let Some(seed) = rotate_to
        {
            // Whether it worked shows in who signs.
            let _ = ledger.rotate(SigningKey::new("gate", [seed; 32]).unwrap());
        }
        until_healthy(ledger);
    }
}

/// The key that the checkpoints name, of those that there are.
fn whichever(signer: Option<&VerifierKey>) -> Result<SigningKey, LedgerError> {
    let keys = (7..12).map(|seed| SigningKey::new("gate", [seed; 32]).unwrap());
    let mut fits = keys.filter(|key| signer.is_none_or(|signer| key.verifier() == signer));
    Ok(fits.next().unwrap())
}

fn on_record(directory: &Path, told: &[String]) -> Result<(), String> {
    let mut said = HashSet::new();
    for line in toolgate::ledger::query::Records::open(directory).unwrap() {
        let line: serde_json::Value = serde_json::from_slice(&line.unwrap()).unwrap();
        if line["change"] == "note" && !said.insert(line["detail"].as_str().unwrap().to_owned()) {
            return Err(format!("twice: {line}"));
        }
    }
    match told.iter().find(|detail| !said.contains(*detail)) {
        Some(lost) => Err(format!("{lost} was acknowledged and is not there")),
        None => Ok(()),
    }
}

#[test]
fn whichever_call_of_the_disk_fails_nothing_acknowledged_is_lost_and_nothing_is_signed_that_is_not_there()
 {
    let mut faults = 0;
    for call in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("ledger");
        let later = NOW.plus(Duration::from_secs(3600));
        let short = LedgerSettings {
            segment_bytes_max: 900,
            retain: Duration::from_secs(600),
            ..settings(&directory)
        };
        let plan = Arc::new(Plan::default());
        let (mut told, mut kept) = (Vec::new(), 0);
        // The first life rotates the key; the second begins an hour later, when what the first wrote may go.
        plan.fail([(call, Misfortune::Broken { after_bytes: 40 })]);
        for (number, now) in [NOW, later, later].into_iter().enumerate() {
            let open = || {
                Ledger::open_on(
                    Faulty::open(&directory, &plan, NOW),
                    whichever,
                    &short,
                    move || now,
                )
            };
            let opened = open();
            faults += usize::from(opened.is_err());
            let ledger = opened.or_else(|_| open()).unwrap();
            if number == 1 {
                // What may be dropped is not looked for below.
                kept = told.len();
            }
            life(&ledger, now, &mut told, (number == 0).then_some(8));
            let _ = ledger.close();
        }
        let reached = plan.calls.load(Ordering::SeqCst);
        plan.never_ahead()
            .unwrap_or_else(|why| panic!("call {call}: {why}"));
        let report = verified(&directory);
        assert!(report.first > 0, "call {call}: nothing was dropped");
        on_record(&directory, &told[kept..]).unwrap_or_else(|why| panic!("call {call}: {why}"));
        if call > reached {
            break;
        }
    }
    assert!(faults > 2, "faults at the start were met too");
}

#[derive(Clone, Debug)]
enum Step {
    Append(Level),
    Fault(Misfortune, usize),
    Close,
    Kill,
    Later,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(|sync| Step::Append(if sync { Level::Sync } else { Level::Written })),
        2 => (misfortune(), 0..12_usize).prop_map(|(fault, call)| Step::Fault(fault, call)),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => Just(Step::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The law of the sealed log: whatever is appended, fails, is closed, is killed and is opened again, in any order.
    #[test]
    fn every_life_of_a_log_keeps_what_was_acknowledged_and_verifies(
        steps in proptest::collection::vec(step(), 4..40), bytes_max in 300..3000_u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = folder.path().join("0");
        let plan = Arc::new(Plan::default());
        let settings_in = |directory: &Path| LedgerSettings {
            segment_bytes_max: bytes_max, ..settings(directory)
        };
        let open = |directory: &Path| loop {
            let storage = Faulty::open(directory, &plan, NOW);
            match Ledger::open_on(storage, whichever, &settings_in(directory), || NOW) {
                Ok(ledger) => break ledger,
                Err(LedgerError::Io { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        let mut ledger = Some(open(&directory));
        let (mut told, mut now) = (Vec::new(), NOW);
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Append(level) => {
                    let detail = number.to_string();
                    let event = Event::Gate { change: "note", version: "0", detail: &detail };
                    if wait(ledger.as_ref().unwrap().append(&event, now, *level)).is_ok() {
                        told.push(detail);
                    }
                }
                Step::Fault(fault, call) => plan.fail([(*call, *fault)]),
                Step::Later => now = now.plus(Duration::from_millis(800)),
                Step::Close => {
                    let _ = ledger.take().unwrap().close();
                    ledger = Some(open(&directory));
                }
                Step::Kill => {
                    until_healthy(ledger.as_ref().unwrap());
                    let into = folder.path().join((number + 1).to_string());
                    killed(&directory, &into);
                    directory = into;
                    drop(ledger.take());
                    ledger = Some(open(&directory));
                }
            }
        }
        plan.fail([]);
        let ledger = ledger.unwrap();
        until_healthy(&ledger);
        prop_assert_eq!(ledger.close(), Ok(()));
        drop(ledger);
        prop_assert_eq!(plan.never_ahead(), Ok(()));
        verified(&directory);
        prop_assert_eq!(on_record(&directory, &told), Ok(()));
        open(&directory).close().unwrap();
    }
}
