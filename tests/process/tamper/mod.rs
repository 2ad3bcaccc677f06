//! Fourteen kinds of tampering, a thousand times each, and a thousand clean logs: what the verifier says of them, and that
//! one written in another language by the documents alone says the same.

mod forge;
mod genuine;
mod kinds;

use forge::{Chance, Forge, Log, key};
use kinds::{KINDS, Must};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use tempfile::TempDir;
use toolgate::ledger::verify::{self, Given, Report, Unprovable};

/// What an auditor brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    Nothing,
    Key,
    Checkpoint,
}

const KNOWS: [Knows; 3] = [Knows::Nothing, Knows::Key, Knows::Checkpoint];

/// The other verifier.
struct Python {
    child: Child,
    give: Option<ChildStdin>,
    take: BufReader<ChildStdout>,
}

impl Python {
    fn start() -> Self {
        let mut child = crate::program::python("verify_many.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Python clients are there; ./test installs them");
        Python {
            give: child.stdin.take(),
            take: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn ask(&mut self, case: &Case) {
        let key = if case.knows == Knows::Nothing {
            String::new()
        } else {
            first_key()
        };
        let held = case
            .held
            .as_ref()
            .map_or(String::new(), |path| path.display().to_string());
        let line = format!("{}\t{key}\t{held}\n", case.directory.display());
        self.give
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.take.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.give.take());
        let _ = self.child.wait();
    }
}

fn first_key() -> String {
    key(1).verifier().to_string()
}

/// A directory to be judged.
struct Case {
    directory: PathBuf,
    knows: Knows,
    held: Option<PathBuf>,
}

impl Case {
    fn new(folder: &Path, number: usize, log: &Log, origin: &Log, knows: Knows) -> Self {
        let directory = folder.join(number.to_string());
        log.write(&directory);
        let held = (knows == Knows::Checkpoint).then(|| {
            let path = directory.join("held");
            let note = origin.notes().pop().unwrap();
            std::fs::write(&path, &note[..note.len() - 1]).unwrap();
            path
        });
        Case {
            directory,
            knows,
            held,
        }
    }

    fn judge(&self) -> Report {
        let known = self.knows != Knows::Nothing;
        let given = Given {
            checkpoint: self.held.as_ref().map(|path| std::fs::read(path).unwrap()),
            key: known.then(|| key(1).verifier().clone()),
        };
        verify::directory(&self.directory, &given, &mut |_, _| {}).unwrap()
    }
}

/// What the other one would say.
fn said(report: &Report) -> String {
    let Some(fault) = report.faults.first() else {
        let proven = report
            .proven
            .as_ref()
            .map_or(report.first, |proven| proven.to);
        return format!("ok {} {proven} {}", report.first, report.next);
    };
    match &fault.place {
        Some((path, line)) if *line > 0 => {
            format!(
                "fault {}:{line}",
                path.file_name().unwrap().to_str().unwrap()
            )
        }
        _ => "fault all".to_owned(),
    }
}

fn same(report: &Report, answer: &str) -> bool {
    let answer: Vec<&str> = answer.split(' ').collect();
    let words = if answer[0] == "ok" { 4 } else { 2 };
    said(report) == answer[..words.min(answer.len())].join(" ")
}

fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::tempdir_in(place).unwrap()
}

/// That no record is called proven that is not what it was.
fn nothing_false_is_proven(report: &Report, log: &Log, origin: &Log) -> bool {
    let Some(proven) = &report.proven else {
        return true;
    };
    let by_seq = |log: &Log| {
        let first = log.segments.keys().next().copied().unwrap_or(0);
        let lines = log.lines().0.into_iter().enumerate();
        lines
            .map(move |(at, (_, line))| (first + at as u64, line))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (now, before) = (by_seq(log), by_seq(origin));
    (proven.from..proven.to).all(|seq| now.contains_key(&seq) && now.get(&seq) == before.get(&seq))
}

fn doubted(report: &Report) -> bool {
    let told = |it: &Unprovable| matches!(it, Unprovable::CutOff { .. } | Unprovable::Unsigned);
    report.unprovable.iter().any(told)
}

#[test]
fn every_tampering_is_found_or_called_unprovable_and_two_verifiers_agree() {
    let mut python = Python::start();
    let place = folder();
    let own = (0..60).map(|seed| genuine::any(seed, place.path()));
    let bases: Vec<Forge> = own
        .chain((0..140).map(|seed| Forge::any(1000 + seed)))
        .collect();
    let mut chance = Chance(7);
    let mut table = String::from(
        "kind: found of 1,000 alone / with the key / with a checkpoint kept elsewhere\n",
    );
    for (name, tamper) in KINDS {
        let (mut found, mut asked) = ([0_u32; 3], [0_u32; 3]);
        let mut count = 0;
        while count < PER_KIND {
            let folder = folder();
            let mut batch = Vec::new();
            while batch.len() < BATCH {
                let base = &bases[chance.below(bases.len())];
                let Some(tampered) =
                    tamper(base, &mut chance).filter(|it| it.log.differs(&base.log))
                else {
                    continue;
                };
                let number = batch.len();
                let knows = KNOWS[(count + number) % 3];
                let case = Case::new(folder.path(), number, &tampered.log, &base.log, knows);
                python.ask(&case);
                batch.push((case, tampered, base));
            }
            for (case, tampered, base) in &batch {
                let report = case.judge();
                let answer = python.answer();
                let must = match case.knows {
                    Knows::Nothing => tampered.alone,
                    Knows::Key => tampered.with_key,
                    Knows::Checkpoint => tampered.with_checkpoint,
                };
                let fault = !report.faults.is_empty();
                let right = match must {
                    Must::BeFound => fault,
                    Must::NotBeProven => {
                        fault
                            || (doubted(&report)
                                && nothing_false_is_proven(&report, &tampered.log, &base.log))
                    }
                    Must::BeDoubted => !fault && doubted(&report),
                };
                if !right || !same(&report, &answer) {
                    let kept = std::env::temp_dir().join("toolgate-tampered");
                    let _ = std::fs::remove_dir_all(&kept);
                    tampered.log.write(&kept);
                    base.log.write(&kept.join("before"));
                    panic!(
                        "{name}, {must:?}, knowing {:?}: {report:#?}\n{} <> {answer}",
                        case.knows,
                        said(&report)
                    );
                }
                let knows = KNOWS.iter().position(|it| *it == case.knows).unwrap();
                found[knows] += u32::from(fault);
                asked[knows] += 1;
            }
            count += batch.len();
        }
        let shares: Vec<String> = (0..3)
            .map(|at| format!("{}/{}", found[at], asked[at]))
            .collect();
        table += &format!("{name}: {}\n", shares.join(", "));
    }
    println!("{table}");
}

#[test]
fn a_thousand_clean_logs_raise_no_alarm_with_either_verifier() {
    let mut python = Python::start();
    let place = folder();
    for round in 0..CLEAN / BATCH {
        let folder = folder();
        let mut batch = Vec::new();
        for number in 0..BATCH {
            let seed = (round * BATCH + number) as u64;
            let forge = match number % 4 {
                0 => genuine::any(1_000_000 + seed, place.path()),
                _ => Forge::any(1_000_000 + seed),
            };
            let knows = KNOWS[number % 3];
            let case = Case::new(folder.path(), number, &forge.log, &forge.log, knows);
            python.ask(&case);
            batch.push((case, seed));
        }
        for (case, seed) in &batch {
            let report = case.judge();
            let answer = python.answer();
            assert!(report.faults.is_empty(), "seed {seed}: {report:#?}");
            assert!(
                same(&report, &answer),
                "seed {seed}: {} <> {answer}",
                said(&report)
            );
        }
    }
}

const PER_KIND: usize = 1_000;
const CLEAN: usize = 1_000;
const BATCH: usize = 100;
