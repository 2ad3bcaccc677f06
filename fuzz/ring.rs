//! The ring of fuzz targets: each takes its corpus, and then what a few seconds of changing that bring about. Without
//! coverage, for it must build and run anywhere in a minute; `fuzz/run` is the real hunt.
//!
//! `FUZZ_SECONDS=60 cargo nextest run --test fuzz target` looks longer at one. What was tried last is written beside the
//! panic, as a text that Rust reads, to be kept as a file of the corpus.
#![allow(clippy::unwrap_used, reason = "every function here serves a test")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

mod targets;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Tells what was tried, if that is what ends the test.
struct Trying<'d>(&'d [u8]);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- tried: b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// Numbers that are the same in each run (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }
}

/// Longest text that is tried.
const BYTES_MAX: usize = 4096;

/// One of the corpus, changed in a few places: bytes of its own, of another, or at random.
fn changed(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = corpus[chance.below(corpus.len())].clone();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        let other = &corpus[chance.below(corpus.len())];
        let from = chance.below(other.len() + 1);
        let part = &other[from..other.len().min(from + 1 + chance.below(24))];
        match chance.below(6) {
            0 => drop(bytes.splice(at..at, part.iter().copied())),
            1 => {
                let end = bytes.len().min(at + part.len());
                drop(bytes.splice(at..end, part.iter().copied()));
            }
            2 => {
                let end = bytes.len().min(at + 1 + chance.below(16));
                drop(bytes.drain(at..end));
            }
            3 => bytes.insert(at, u8::try_from(chance.below(256)).unwrap()),
            4 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            _ => {
                let end = bytes.len().min(at + 1 + chance.below(24));
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn check(name: &str) {
    let target = targets::named(name);
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has a corpus");
    let attempt = |bytes: &[u8]| {
        let trying = Trying(bytes);
        target(bytes);
        drop(trying);
    };
    corpus.iter().for_each(|bytes| attempt(bytes));
    let seconds = std::env::var("FUZZ_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    // Another beginning with each name, the same in each run.
    let mut chance = Chance(name.bytes().fold(0x9E37_79B9_7F4A_7C15, |sum, byte| {
        sum.rotate_left(9) ^ u64::from(byte)
    }));
    let (start, mut tries) = (Instant::now(), 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        attempt(&changed(&corpus, &mut chance));
        tries += 1;
    }
    println!("{name}: {} of the corpus, {tries} changed", corpus.len());
}

#[test]
fn every_target_is_run_here_and_has_a_corpus() {
    let text = include_str!("ring.rs");
    for (name, _) in targets::TARGETS {
        assert!(text.contains(&format!("check(\"{name}\")")), "{name}");
        assert!(!corpus(name).is_empty(), "{name}");
    }
}

#[test]
fn what_is_forwarded_is_read_by_nobody_as_anything_but_what_was_decided() {
    check("target");
}

#[test]
fn what_conditions_let_through_another_reading_says_they_may() {
    check("conditions");
}

#[test]
fn every_policy_file_is_answered_and_each_time_alike() {
    check("policy");
}

#[test]
fn a_token_is_what_was_minted_and_nothing_else() {
    check("token");
}

#[test]
fn a_body_of_json_is_what_another_reader_finds_in_it() {
    check("json");
}

#[test]
fn sql_that_is_allowed_is_not_once_more_is_done() {
    check("sql");
}

#[test]
fn a_message_of_mcp_is_what_another_reader_takes_it_for() {
    check("mcp");
}

#[test]
fn a_ledger_that_was_meddled_with_is_refused_or_goes_on_as_one_chain() {
    check("ledger");
}

#[test]
fn what_comes_is_judged_alike_however_it_is_cut() {
    check("heads");
}

#[test]
fn bytes_without_a_token_reach_no_backend_and_break_nothing() {
    check("wire");
}
