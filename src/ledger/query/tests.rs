//! Reading real files: what a gate's ledger looks like, with everything that can have happened to it.

use super::*;
use std::fmt::Write as _;
use std::path::PathBuf;
use tempfile::TempDir;

/// A ledger's directory, written by hand.
struct Log {
    folder: TempDir,
    seq: u64,
    micros: i64,
}

impl Log {
    fn new() -> Self {
        Log {
            folder: tempfile::tempdir().unwrap(),
            seq: 0,
            micros: 1_763_337_600_000_000,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn line(&mut self, before: &str, between: &str) -> String {
        let time = super::super::rfc3339(Timestamp::from_micros(self.micros));
        let line = format!(
            "{{{before},\"seq\":{},{between}\"time\":\"{time}\"}}\n",
            self.seq
        );
        self.seq += 1;
        self.micros += 1_000_000;
        line
    }

    fn decision(&mut self, agent: &str, request: &str) -> String {
        let before = format!(
            "\"agent\":\"{agent}\",\"decision\":\"allow\",\"kind\":\"decision\",\"project\":\"shop\",\"request\":\"{request}\""
        );
        self.line(&before, "\"session\":\"ses_1\",")
    }

    fn outcome(&mut self, request: &str) -> String {
        let before = format!("\"kind\":\"outcome\",\"project\":\"shop\",\"request\":\"{request}\"");
        self.line(&before, "\"session\":\"ses_1\",\"status\":200,")
    }

    fn gate(&mut self, rest: &str) -> String {
        self.line(
            &format!("\"change\":\"started\",\"kind\":\"gate\"{rest}"),
            "",
        )
    }

    fn segment(&self, first: u64, text: &str) {
        std::fs::write(self.folder.path().join(format!("{first:016}.jsonl")), text).unwrap();
    }
}

use crate::policy::time::Timestamp;

fn seqs(records: &[Value]) -> Vec<u64> {
    records
        .iter()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect()
}

fn of(name: &str, value: &str) -> Filter {
    let mut filter = Filter::default();
    filter.set(name, value, Timestamp::from_micros(0)).unwrap();
    filter
}

/// Every page from one end to the other.
fn all(log: &Log, filter: &Filter, order: Order, limit: usize, bytes_max: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = page(&log.path(), filter, order, after, limit, bytes_max).unwrap();
        found.extend(seqs(&page.records));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

/// Three segments of 400 calls each by two agents, 1000 bytes and more a call; each outcome stands three calls behind.
fn three_segments() -> Log {
    let mut log = Log::new();
    let pad = "x".repeat(900);
    let mut texts = vec![(0, String::new())];
    for call in 0..1200_u64 {
        if call > 0 && call % 400 == 0 {
            texts.push((log.seq, String::new()));
        }
        let agent = if call % 3 == 0 { "third" } else { "other" };
        let mut text = log.decision(agent, &format!("req_{call}"));
        text.insert_str(1, &format!("\"a\":\"{pad}\","));
        if call >= 3 {
            text += &log.outcome(&format!("req_{}", call - 3));
        }
        texts.last_mut().unwrap().1 += &text;
    }
    for (first, text) in &texts {
        log.segment(*first, text);
    }
    log
}

#[test]
fn pages_of_any_size_have_every_record_once_in_either_order() {
    let log = three_segments();
    let everything: Vec<u64> = (0..log.seq).collect();
    let backwards: Vec<u64> = everything.iter().rev().copied().collect();
    let none = Filter::default();
    for (limit, bytes_max) in [(7, 1 << 30), (1000, 1), (usize::MAX, 1 << 30)] {
        assert_eq!(
            all(&log, &none, Order::Oldest, limit, bytes_max),
            everything
        );
        assert_eq!(all(&log, &none, Order::Newest, limit, bytes_max), backwards);
    }
    let lines: Vec<Vec<u8>> = Records::open(&log.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let seqs: Vec<u64> = lines.iter().map(|line| scan::seq(line).unwrap()).collect();
    assert_eq!(seqs, everything);
    let parsed: Value = serde_json::from_slice(&lines[5]).unwrap();
    assert_eq!(
        parsed.to_string().as_bytes(),
        lines[5],
        "a record prints as the line it was"
    );
}

#[test]
fn what_only_a_decision_says_brings_its_outcome_too_on_whatever_page() {
    let log = three_segments();
    let filter = of("agent", "third");
    // The last call by this agent, number 1197, has no outcome yet.
    for (order, limit) in [
        (Order::Oldest, 1000),
        (Order::Newest, 1000),
        (Order::Oldest, 1),
        (Order::Newest, 7),
    ] {
        let mut found = all(&log, &filter, order, limit, 1 << 30);
        found.sort_unstable();
        assert_eq!(found.len(), 400 + 399, "{order:?} {limit}");
        found.dedup();
        assert_eq!(found.len(), 799);
    }
    let mut outcomes = filter.clone();
    outcomes.kinds = Some(vec!["outcome".to_owned()]);
    assert_eq!(all(&log, &outcomes, Order::Oldest, 10, 1 << 30).len(), 399);
    let mut follow = Follow::new(&log.path(), &filter, None);
    let mut streamed = Vec::new();
    loop {
        let found = follow.read(1).unwrap();
        streamed.extend(seqs(&found.records));
        if found.end {
            break;
        }
    }
    assert!(streamed.is_sorted());
    assert_eq!(streamed.len(), 799);
}

#[test]
fn an_outcome_that_was_not_looked_for_to_the_end_is_told_apart_from_one_that_is_not_there() {
    let mut log = Log::new();
    let mut text = log.decision("bot", "req_far") + &log.decision("bot", "req_none");
    let pad = "y".repeat(500_000);
    while (text.len() as u64) < JOIN_BYTES + 1_000_000 {
        text += &log.gate(&format!(",\"pad\":\"{pad}\""));
    }
    text += &log.outcome("req_far");
    log.segment(0, &text);
    let filter = of("agent", "bot");
    let page = page(&log.path(), &filter, Order::Newest, None, 10, 1 << 30).unwrap();
    let mut unresolved = page.unresolved;
    unresolved.sort();
    assert_eq!(
        (seqs(&page.records), unresolved),
        (vec![1, 0], vec!["req_far".into(), "req_none".into()])
    );
    log.segment(0, &text.replace(&pad, ""));
    let page = super::page(&log.path(), &filter, Order::Newest, None, 10, 1 << 30).unwrap();
    assert_eq!((page.records.len(), page.unresolved.len()), (3, 0));
}

#[test]
fn since_and_until_skip_what_is_outside_and_mind_a_clock_that_ran_back() {
    let mut log = Log::new();
    let start = log.micros;
    let mut texts = Vec::new();
    // Twenty segments of an hour each; in the middle of each the clock runs back by 30 minutes for one record.
    for _ in 0..20 {
        let (first, mut text) = (log.seq, String::new());
        for minute in 0..60 {
            let back = if minute == 30 { 1_800_000_000 } else { 0 };
            log.micros -= back;
            let pad = "z".repeat(2000);
            text += &log.gate(&format!(",\"pad\":\"{pad}\""));
            log.micros += 59_000_000 + back;
        }
        log.segment(first, &text);
        texts.push((first, text));
    }
    let at = |minutes: i64| Timestamp::from_micros(start + minutes * 60_000_000);
    for (since, until) in [
        (0, 1200),
        (90, 100),
        (600, 601),
        (601, 660),
        (1199, 5000),
        (-5, 0),
        (2000, 3000),
    ] {
        let filter = Filter {
            since: Some(at(since)),
            until: Some(at(until)),
            ..Filter::default()
        };
        let edges = [at(since), at(until)].map(super::super::rfc3339);
        let expected: Vec<u64> = texts
            .iter()
            .flat_map(|(_, text)| text.lines())
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|record| {
                (edges[0].as_str()..edges[1].as_str()).contains(&record["time"].as_str().unwrap())
            })
            .map(|record| record["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(
            all(&log, &filter, Order::Oldest, 50, 1 << 30),
            expected,
            "{since} {until}"
        );
        let mut backwards = all(&log, &filter, Order::Newest, 50, 1 << 30);
        backwards.reverse();
        assert_eq!(backwards, expected);
        let read = page(&log.path(), &filter, Order::Newest, None, 5000, 1 << 30)
            .unwrap()
            .bytes;
        let whole = bytes_total(&log.path()).unwrap();
        assert!(
            until - since > 500 || read < whole / 4,
            "{read} of {whole} bytes for {since} to {until}"
        );
    }
}

#[test]
fn what_a_fault_left_behind_and_what_is_being_written_is_no_record() {
    let mut log = Log::new();
    let mut first = String::new();
    for _ in 0..6 {
        first += &log.gate("");
    }
    let kept = first.len();
    // Two lines and a half were never acknowledged; the next segment has their numbers.
    let lost = log.gate(",\"lost\":1") + &log.gate(",\"lost\":2") + "{\"kind\":";
    log.seq = 6;
    let second = log.line(
        &format!("\"change\":\"fault\",\"kept_bytes\":{kept},\"kind\":\"gate\",\"segment\":\"0000000000000000.jsonl\""),
        "",
    ) + &log.gate("");
    log.segment(0, &(first + &lost));
    let check = |second: &str, expected: &[u64]| {
        log.segment(6, second);
        for order in [Order::Oldest, Order::Newest] {
            let mut found = all(&log, &Filter::default(), order, 3, 1 << 30);
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    };
    check(
        &(second.clone() + "{\"kind\":\"gate\",\"seq\":8"),
        &[0, 1, 2, 3, 4, 5, 6, 7],
    );
    // The record that says so is on its way.
    check("", &[0, 1, 2, 3, 4, 5]);
    check(&second[..40], &[0, 1, 2, 3, 4, 5]);
    // The first segment was dropped.
    check(&second, &[0, 1, 2, 3, 4, 5, 6, 7]);
    std::fs::remove_file(log.path().join("0000000000000000.jsonl")).unwrap();
    check(&second, &[6, 7]);
    let page = page(
        &log.path(),
        &Filter::default(),
        Order::Oldest,
        Some(2),
        3,
        1 << 30,
    )
    .unwrap();
    assert_eq!(seqs(&page.records), [6, 7]);
}

#[test]
fn a_follower_hears_what_is_written_and_the_outcome_of_a_call_it_told() {
    let mut log = Log::new();
    let mut text = log.decision("bot", "req_1") + &log.decision("other", "req_2");
    log.segment(0, &text);
    let mut follow = Follow::new(&log.path(), &of("agent", "bot"), None);
    let mut heard = |log: &Log, first: u64, text: &str| {
        log.segment(first, text);
        let found = follow.read(1 << 20).unwrap();
        assert!(found.end);
        seqs(&found.records)
    };
    assert_eq!(heard(&log, 0, &text), [0]);
    text += &log.outcome("req_2");
    let rest = log.outcome("req_1");
    text += &rest[..20];
    assert!(heard(&log, 0, &text).is_empty());
    text += &rest[20..];
    assert_eq!(heard(&log, 0, &text), [3]);
    let next = log.decision("bot", "req_3");
    assert_eq!(heard(&log, 4, &next), [4]);
    assert!(heard(&log, 4, &next).is_empty());
}

#[test]
fn a_resource_is_found_by_itself_and_among_others() {
    let mut log = Log::new();
    let mut text = String::new();
    for resource in [
        "user:8",
        "org:1 user:8 user:9",
        "user:88 org:user:8",
        "user:9",
    ] {
        let before = format!(r#""kind":"grant","project":"shop","resource":"{resource}""#);
        let _ = write!(text, "{}", log.line(&before, ""));
    }
    log.segment(0, &text);
    for (resource, expected) in [
        ("user:8", &[0, 1][..]),
        ("user:9", &[1, 3]),
        ("org:1 user:8 user:9", &[1]),
        ("user:8 user:9", &[]),
        ("user:", &[]),
    ] {
        let filter = of("resource", resource);
        let page = page(&log.path(), &filter, Order::Oldest, None, 10, 1 << 20).unwrap();
        assert_eq!(seqs(&page.records), expected, "{resource}");
    }
}

#[test]
fn fields_texts_kinds_and_projects_select_what_they_say() {
    let mut log = Log::new();
    let mut text = String::new();
    let mut add = |log: &mut Log, before: &str| {
        let _ = write!(text, "{}", log.line(before, ""));
    };
    add(
        &mut log,
        r#""change":"minted","intent":"Delete CUSTOMER 7 \"now\"","kind":"session","project":"shop""#,
    );
    add(
        &mut log,
        r#""kind":"grant","project":"shop","resource":"user:7","scope":"users.delete""#,
    );
    add(
        &mut log,
        r#""kind":"grant","project":"bank","resource":"user:77","scope":"users.delete""#,
    );
    add(
        &mut log,
        r#""detail":"\"resource\":\"user:7\"","kind":"gate""#,
    );
    add(&mut log, r#""hashes":{"project":"shop"},"kind":"policy""#);
    let broken = "{\"kind\":\"grant\",\"resource\":\"user:7\"\n";
    text += broken;
    log.segment(0, &text);
    for (name, value, expected) in [
        ("text", "customer 7 \"NOW\"", &[0][..]),
        ("resource", "user:7", &[1]),
        ("scope", "users.delete", &[1, 2]),
        ("kind", "grant,policy", &[1, 2, 4]),
        ("project", "shop", &[0, 1]),
        ("project", "bank,shop", &[0, 1, 2]),
        ("agent", "nobody", &[]),
    ] {
        let page = page(
            &log.path(),
            &of(name, value),
            Order::Oldest,
            None,
            10,
            1 << 20,
        )
        .unwrap();
        assert_eq!(seqs(&page.records), expected, "{name} {value}");
        // Of one value the lines without its text are passed over unread; with several all are read.
        let several = name != "text" && value.contains(',');
        assert_eq!(
            page.damaged,
            u64::from(value == "user:7" || several),
            "{name} {value}"
        );
    }
}
