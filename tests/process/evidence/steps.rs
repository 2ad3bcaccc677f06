//! kill -9 at each single step of the ledger on its way to the disk, under strace: whatever it was doing, the log goes on.
//!
//! A ledger in a process of its own tells one story, in which hours pass from record to record: segments are begun,
//! checkpoints signed. strace says which calls it makes to which of its files; then the story is told again for each of them,
//! and ends with a kill in that very call. A call is not made any more when it is killed in it. The start that goes on behind
//! is killed, too; the one behind that must find everything that was acknowledged, and nothing in it may be wrong.

use super::auditor;
use crate::wait::run;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use toolgate::config::LedgerSettings;
use toolgate::ledger::record::Event;
use toolgate::ledger::{Ledger, Level};
use toolgate::policy::time::Timestamp;

/// Everything that changes a file or makes a change durable.
const CALLS: &str = "write,pwrite64,fdatasync,fsync,ftruncate,openat,rename,renameat,renameat2,unlink,unlinkat,link,linkat";
/// What a start does before it promises anything.
const OF_A_START: &str = "write,fdatasync,fsync,ftruncate,rename,unlink";
/// Kills in calls of one kind to one kind of file, spread over the story.
const OF_A_KIND: usize = 4;
const LANES: usize = 3;
/// Stands for a process in a file's name.
const ANY: &str = "PROCESS";
const DIRECTORY: &str = "TOOLGATE_TEST_LEDGER";
const STORY: &str = "TOOLGATE_TEST_LEDGER_STORY";

/// What a process is to write: half an hour from one record to the next.
#[derive(Clone, Copy)]
struct Story {
    first: u64,
    records: u64,
    /// Hours.
    retain: u64,
}

impl Story {
    /// One that drops nothing, or what is older than a few records.
    fn new(drops: bool) -> Self {
        Self {
            first: 0,
            records: 60,
            retain: if drops { 3 } else { 1_000_000 },
        }
    }

    /// Behind this one, whatever became of it.
    fn next(self) -> Self {
        Self {
            first: self.first + self.records,
            records: 12,
            ..self
        }
    }
}

#[test]
#[ignore = "the kills run it, in a process of its own"]
fn a_ledger_in_a_process_of_its_own() {
    let directory = PathBuf::from(std::env::var(DIRECTORY).expect("who runs this says where"));
    let text = std::env::var(STORY).unwrap();
    let mut numbers = text.split(' ').map(|it| it.parse::<u64>().unwrap());
    let mut number = || numbers.next().unwrap();
    let (first, records, retain) = (number(), number(), number());
    let at =
        |number: u64| Timestamp::from_micros((1_700_000_000 + number * 1800) as i64 * 1_000_000);
    let settings = LedgerSettings {
        segment_age_max: Duration::from_secs(2 * 3600),
        retain: Duration::from_secs(retain * 3600),
        ..LedgerSettings::new(directory)
    };
    let now = Arc::new(AtomicU64::new(first));
    let clock = Arc::clone(&now);
    let ledger = Ledger::open(&settings, move || at(clock.load(Ordering::Relaxed))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for number in first..first + records {
        now.store(number, Ordering::Relaxed);
        let detail = format!("number {number}.");
        let event = Event::Gate {
            change: "note",
            version: "0",
            detail: &detail,
        };
        let level = [Level::Written, Level::Sync][number as usize % 2];
        runtime
            .block_on(ledger.append(&event, at(number), level))
            .unwrap();
        println!("acknowledged {number}.");
    }
    ledger.close().unwrap();
    println!("closed");
}

/// The story in this directory, under these options of strace.
fn told(directory: &Path, story: Story, strace: Option<&[String]>) -> Command {
    let mut command = under(strace, &std::env::current_exe().unwrap());
    let name = "evidence::steps::a_ledger_in_a_process_of_its_own";
    command.args([
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(DIRECTORY, directory);
    let Story {
        first,
        records,
        retain,
    } = story;
    command.env(STORY, format!("{first} {records} {retain}"));
    command
}

/// `toolgate ledger rotate`, likewise.
fn rotation(directory: &Path, strace: Option<&[String]>) -> Command {
    let mut command = under(strace, Path::new(env!("CARGO_BIN_EXE_toolgate")));
    command.args(["ledger", "rotate"]).arg(directory);
    command
}

fn under(strace: Option<&[String]>, program: &Path) -> Command {
    let Some(options) = strace else {
        return Command::new(program);
    };
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(program);
    command
}

fn strings(options: &[&str]) -> Vec<String> {
    options.iter().map(|it| (*it).to_owned()).collect()
}

/// One call: the N-th of its name to its file by its thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    call: String,
    /// Within the ledger's directory; empty for the directory itself.
    file: String,
    number: usize,
}

impl Step {
    /// What it has in common with others.
    fn kind(&self) -> String {
        let file = match &*self.file {
            "" => "the directory",
            name if name.ends_with(".jsonl") => "a segment",
            name => name,
        };
        format!("{} {file}", self.call)
    }
}

/// The calls to files of this ledger, in their order, of what is begun so.
async fn steps(directory: &Path, begun: impl FnOnce(&Path, &[String]) -> Command) -> Vec<Step> {
    let log = directory.with_extension("log");
    let options = strings(&[
        "-y",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &format!("trace={CALLS}"),
    ]);
    let output = run(begun(directory, &options)).await;
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(log).unwrap();
    let prefix = directory.to_str().unwrap();
    // Of each thread: to each file, and to any.
    let mut counts: HashMap<(String, String, String), usize> = HashMap::new();
    let mut all: HashMap<(String, String), usize> = HashMap::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.contains(" resumed>")) {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        let any = all.entry((thread.to_owned(), call.to_owned())).or_default();
        *any += 1;
        let Some(at) = arguments.find(prefix) else {
            continue;
        };
        let rest = &arguments[at + prefix.len()..];
        let end = rest.find(['>', '"']).unwrap_or(rest.len());
        let mut file = rest[..end].trim_start_matches('/').to_owned();
        let key = (thread.to_owned(), call.to_owned(), file.clone());
        let to_file = counts.entry(key).or_default();
        *to_file += 1;
        let mut number = *to_file;
        // A draft that is named by its process has another name each time.
        let (name, process) = file.rsplit_once('.').unwrap_or((&file, ""));
        if !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()) {
            (file, number) = (format!("{name}.{ANY}"), *any);
        }
        found.push(Step {
            call: call.to_owned(),
            file,
            number,
        });
    }
    found
}

/// Some of each kind, first and last among them.
fn chosen(steps: &[Step]) -> Vec<Step> {
    let mut kinds: BTreeMap<String, Vec<&Step>> = BTreeMap::new();
    for step in steps {
        kinds.entry(step.kind()).or_default().push(step);
    }
    let mut chosen = BTreeSet::new();
    for all in kinds.values() {
        let last = all.len() - 1;
        let spread = OF_A_KIND.min(all.len()).max(2) - 1;
        chosen.extend((0..=spread).map(|part| all[last * part / spread].clone()));
    }
    chosen.into_iter().collect()
}

/// What a story acknowledged before its end.
fn acknowledged(output: &Output) -> Vec<u64> {
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.split("acknowledged ").skip(1);
    let numbers = numbers.filter_map(|rest| rest.split_once('.'));
    numbers.map(|(number, _)| number.parse().unwrap()).collect()
}

fn kill(calls: &str, when: usize) -> String {
    format!("inject={calls}:signal=KILL:when={when}")
}

/// What strace is told to kill whoever takes this step.
fn in_this_step(step: &Step, directory: &Path) -> Vec<String> {
    let calls = format!("trace={}", step.call);
    let kills = kill(&step.call, step.number);
    let mut options = strings(&["-o", "/dev/null", "-e", &calls, "-e", &kills]);
    if !step.file.ends_with(ANY) {
        let path = match &*step.file {
            "" => directory.to_owned(),
            name => directory.join(name),
        };
        options.extend(strings(&["-P", path.to_str().unwrap()]));
    }
    options
}

/// Told until it is killed in this step, gone on with until that is killed, and gone on with in peace. Whether the first kill
/// came, and the second.
async fn killed(step: Step, story: Story, number: usize) -> (String, bool, bool) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let options = in_this_step(&step, &directory);
    let first = run(told(&directory, story, Some(&options))).await;
    let when = 1 + number % 9;
    let options = strings(&[
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={OF_A_START}"),
        "-e",
        &kill(OF_A_START, when),
    ]);
    let again = story.next();
    let second = run(told(&directory, again, Some(&options))).await;
    let third = run(told(&directory, again.next(), None)).await;
    let end = format!("killed in {step:?}, then in the {when}. call of a start");
    assert!(
        third.status.success(),
        "{end}: the log is refused: {}",
        String::from_utf8_lossy(&third.stderr)
    );
    judge(&directory, &[&first, &second, &third], &end);
    let died = |output: &Output| !String::from_utf8_lossy(&output.stdout).contains("closed");
    (step.kind(), died(&first), died(&second))
}

/// All that was acknowledged is there, in its order, but for what was dropped with its segment; and all of it is proven.
fn judge(directory: &Path, stories: &[&Output], end: &str) {
    println!("{end}");
    auditor::sealed(directory);
    let mut numbers = Vec::new();
    for line in crate::ledger::lines(directory) {
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        let detail = record["detail"].as_str().unwrap_or_default();
        let number = detail
            .strip_prefix("number ")
            .and_then(|it| it.strip_suffix('.'));
        numbers.extend(number.map(|it| it.parse::<u64>().unwrap()));
    }
    assert!(numbers.is_sorted(), "{end}: {numbers:?}");
    let kept = numbers.first().copied().unwrap_or(0);
    let there: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(there.len(), numbers.len(), "{end}: one is there twice");
    for number in stories.iter().flat_map(|output| acknowledged(output)) {
        let known = number < kept || there.contains(&number);
        assert!(known, "{end}: {number} was acknowledged, and is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_to_the_disk_and_again_in_the_start_behind_it_the_log_goes_on_and_verifies()
 {
    let room = Arc::new(Semaphore::new(LANES));
    let mut runs = JoinSet::new();
    let (keeps, drops) = (Story::new(false), Story::new(true));
    let folder = tempfile::tempdir().unwrap();
    let of = async |name: &str, story| {
        let begun = |directory: &Path, strace: &[String]| told(directory, story, Some(strace));
        steps(&folder.path().join(name), begun).await
    };
    let steps = [of("keeps", keeps).await, of("drops", drops).await];
    let mut chosen = [chosen(&steps[0]), chosen(&steps[1])];
    // What is dropped can't be looked for: stories that drop are told for the steps that the others do not have.
    let known: BTreeSet<String> = chosen[0].iter().map(Step::kind).collect();
    chosen[1].retain(|step| !known.contains(&step.kind()));
    let [kept, dropped] = chosen;
    let kept = kept.into_iter().map(|step| (step, keeps));
    let dropped = dropped.into_iter().map(|step| (step, drops));
    for (number, (step, story)) in kept.chain(dropped).enumerate() {
        let room = Arc::clone(&room);
        runs.spawn(async move {
            let _place = room.acquire().await.unwrap();
            killed(step, story, number).await
        });
    }
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut again = 0;
    while let Some(ended) = runs.join_next().await {
        let (kind, died, second) = ended.unwrap();
        let count = kinds.entry(kind).or_default();
        count.0 += 1;
        count.1 += usize::from(died);
        again += usize::from(second);
    }
    println!(
        "of {} steps; killed twice: {again}; kills tried and made: {kinds:#?}",
        steps.concat().len()
    );
    for kind in [
        "write a segment",
        "fdatasync a segment",
        "openat a segment",
        "write checkpoints",
        "fdatasync checkpoints",
        "write roots",
        "write key.PROCESS",
        "unlink a segment",
        "rename checkpoints.new",
        "fsync the directory",
    ] {
        let killed = kinds.get(kind).is_some_and(|count| count.1 > 0);
        assert!(killed, "{kind}: {kinds:#?}");
    }
}

/// A copy of a ledger, as it lies there.
fn copied(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Rotated until that is killed in this step, and gone on with; then rotated in peace. Whether it was killed.
async fn rotated(step: Step, before: PathBuf, story: Story) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    copied(&before, &directory);
    let options = in_this_step(&step, &directory);
    let killed = run(rotation(&directory, Some(&options))).await;
    let second = run(told(&directory, story.next(), None)).await;
    let peace = run(rotation(&directory, None)).await;
    let third = run(told(&directory, story.next().next(), None)).await;
    let end = format!("a rotation killed in {step:?}");
    for output in [&second, &peace, &third] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{end}: {said}");
    }
    judge(&directory, &[&second, &third], &end);
    // These records are years old, and a rotation drops none.
    let first = crate::ledger::lines(&directory);
    assert!(first[0].contains("number 0."), "{end}: {}", first[0]);
    !killed.status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_of_a_rotation_the_log_goes_on_with_the_key_that_its_checkpoints_name()
{
    let story = Story {
        records: 10,
        ..Story::new(false)
    };
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("before");
    let made = run(told(&before, story, None)).await;
    assert!(made.status.success(), "{made:?}");
    let tried = folder.path().join("tried");
    copied(&before, &tried);
    let begun = |directory: &Path, strace: &[String]| rotation(directory, Some(strace));
    let steps = steps(&tried, begun).await;
    let room = Arc::new(Semaphore::new(LANES));
    let mut runs = JoinSet::new();
    for step in chosen(&steps) {
        let (room, before) = (Arc::clone(&room), before.clone());
        runs.spawn(async move {
            let _place = room.acquire().await.unwrap();
            (step.clone(), rotated(step, before, story).await)
        });
    }
    let mut killed = BTreeSet::new();
    while let Some(ended) = runs.join_next().await {
        let (step, died) = ended.unwrap();
        if died {
            killed.insert(step.kind());
        }
    }
    println!("of {} steps; killed in: {killed:#?}", steps.len());
    for kind in [
        "write checkpoints",
        "fdatasync checkpoints",
        "rename key.next",
    ] {
        assert!(killed.contains(kind), "{kind}: {killed:#?}");
    }
}
