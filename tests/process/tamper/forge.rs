//! Ledgers made by the documented format alone, quickly and of every shape: many segments, faults of the disk, rotations,
//! dropped segments, idle checkpoints, ends that are still being written. And what a forger needs who tampers with one.

use crate::ledger::hex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use toolgate::ledger::checkpoint::Checkpoint;
use toolgate::ledger::note::SigningKey;
use toolgate::ledger::rfc3339;
use toolgate::ledger::tree::{Tree, leaf};
use toolgate::policy::time::Timestamp;

/// Chance that is the same in every run.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A directory's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub segments: BTreeMap<u64, Vec<u8>>,
    pub checkpoints: Vec<u8>,
    pub roots: Vec<u8>,
}

/// The segment that a line lies in, and the line.
pub type Line = (u64, Vec<u8>);

impl Log {
    pub fn read(directory: &Path) -> Self {
        let mut log = Log::default();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            match name.strip_suffix(".jsonl") {
                Some(seq) => {
                    let text = std::fs::read(&path).unwrap();
                    log.segments.insert(seq.parse().unwrap(), text);
                }
                None if name == "checkpoints" => log.checkpoints = std::fs::read(&path).unwrap(),
                None if name == "roots" => log.roots = std::fs::read(&path).unwrap(),
                None => {}
            }
        }
        log
    }

    pub fn write(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        for (seq, text) in &self.segments {
            std::fs::write(directory.join(name(*seq)), text).unwrap();
        }
        for (name, text) in [("checkpoints", &self.checkpoints), ("roots", &self.roots)] {
            if !text.is_empty() {
                std::fs::write(directory.join(name), text).unwrap();
            }
        }
    }

    /// Whether anything that counts is another: what stands behind a fault's last acknowledged byte does not.
    pub fn differs(&self, other: &Log) -> bool {
        let files = |log: &Log| (log.checkpoints.clone(), log.roots.clone(), log.lines().0);
        files(self) != files(other)
    }

    /// Its notes, each with the empty line behind it.
    pub fn notes(&self) -> Vec<Vec<u8>> {
        let mut from = 0;
        let notes = toolgate::ledger::checkpoint::notes(&self.checkpoints);
        notes
            .map(|(_, end)| self.checkpoints[std::mem::replace(&mut from, end)..end].to_vec())
            .collect()
    }

    /// The lines that count, each with its segment; and by segment what stands behind them.
    pub fn lines(&self) -> (Vec<Line>, BTreeMap<u64, Vec<u8>>) {
        let (mut lines, mut rests) = (Vec::new(), BTreeMap::new());
        let names: Vec<u64> = self.segments.keys().copied().collect();
        for (at, seq) in names.iter().enumerate() {
            let text = &self.segments[seq];
            let next = names.get(at + 1).map(|next| &self.segments[next]);
            let first = next.and_then(|text| text.split(|byte| *byte == b'\n').next());
            let first = first.and_then(|line| serde_json::from_slice::<Value>(line).ok());
            let fault = first.filter(|it| it["change"] == "fault" && it["segment"] == name(*seq));
            let kept = fault.and_then(|it| it["kept_bytes"].as_u64());
            let kept = kept.map_or(text.len(), |kept| text.len().min(kept as usize));
            let whole = text[..kept].iter().rposition(|byte| *byte == b'\n');
            let whole = whole.map_or(0, |at| at + 1);
            let own = text[..whole].split_inclusive(|byte| *byte == b'\n');
            lines.extend(own.map(|line| (*seq, line[..line.len() - 1].to_vec())));
            if whole < text.len() {
                rests.insert(*seq, text[whole..].to_vec());
            }
        }
        (lines, rests)
    }

    /// Puts lines in the place of those that there are; if wanted, all that needs no key is made to fit them.
    pub fn put(&mut self, lines: &[(u64, Vec<u8>)], rests: &BTreeMap<u64, Vec<u8>>, fitted: bool) {
        if fitted {
            return self.refit(lines, rests);
        }
        let mut segments: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (seq, line) in lines {
            let text = segments.entry(*seq).or_default();
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        for (seq, rest) in rests {
            if let Some(text) = segments.get_mut(seq) {
                text.extend_from_slice(rest);
            }
        }
        self.segments = segments;
    }

    /// What somebody does who changed a line and knows the format, but has no key: every `seq`, `prev`, name and line of
    /// `roots` is made to fit. Unchanged lines stay as they are.
    fn refit(&mut self, lines: &[(u64, Vec<u8>)], rests: &BTreeMap<u64, Vec<u8>>) {
        let first = *self.segments.keys().next().unwrap();
        let start = self.start(first);
        let (mut tree, mut head) = start.unwrap_or_default();
        let (mut fitted, mut moved, mut roots) = (Vec::new(), BTreeMap::new(), String::new());
        let mut segment = None;
        let mut bytes = 0;
        for (old, line) in lines {
            let old = *old;
            let mut record: Value = serde_json::from_slice(line).unwrap();
            if segment != Some(old) {
                let before = segment
                    .replace(old)
                    .and_then(|old| moved.get(&old).copied());
                moved.insert(old, tree.size());
                roots += &root_line(tree.size(), &tree, &head);
                if let Some(before) = before.filter(|_| record["change"] == "fault") {
                    (record["segment"], record["kept_bytes"]) = (name(before).into(), bytes.into());
                }
                bytes = 0;
            }
            (record["seq"], record["prev"]) = (tree.size().into(), hex(&head).into());
            let line = record.to_string().into_bytes();
            bytes += line.len() + 1;
            head = sha256(&line);
            tree.push(leaf(&line));
            fitted.push((moved[&old], line));
        }
        let rests = rests
            .iter()
            .filter_map(|(old, rest)| Some((*moved.get(old)?, rest.clone())));
        self.put(&fitted, &rests.collect(), false);
        self.roots = roots.into_bytes();
    }

    /// The tree and head before segment `first`, as `roots` has them.
    fn start(&self, first: u64) -> Option<(Tree, [u8; 32])> {
        let lines = self.roots.split(|byte| *byte == b'\n');
        let said = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let said: Vec<Value> = said.collect();
        let said = said.iter().rfind(|it| it["segment"] == name(first))?;
        let nodes = said["frontier"].as_array()?.iter();
        let frontier = nodes.map(|node| unhex(node.as_str().unwrap())).collect();
        let head = unhex(said["head"].as_str()?);
        Some((Tree::of(first, frontier)?, head))
    }

    /// Records that the newest checkpoint covers, and the `seq` behind the last record.
    pub fn sealed(&self) -> (u64, u64) {
        let sealed = self.notes().last().map_or(0, |note| read(note).size);
        let first = self.segments.keys().next().copied().unwrap_or(0);
        (sealed, first + self.lines().0.len() as u64)
    }
}

/// What a note says.
pub fn read(note: &[u8]) -> Checkpoint {
    let note = toolgate::ledger::note::Note::parse(&note[..note.len() - 1]).unwrap();
    Checkpoint::of(&note).unwrap()
}

pub fn key(number: u8) -> SigningKey {
    SigningKey::new("gate-1", [number; 32]).unwrap()
}

pub fn name(seq: u64) -> String {
    format!("{seq:016}.jsonl")
}

fn unhex(text: &str) -> [u8; 32] {
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    std::array::from_fn(byte)
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use aws_lc_rs::digest::{SHA256, digest};
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

fn root_line(seq: u64, tree: &Tree, head: &[u8; 32]) -> String {
    let frontier: Vec<String> = tree.frontier().iter().map(|node| hex(node)).collect();
    let size = tree.size();
    let line = json!({"frontier": frontier, "head": hex(head), "segment": name(seq), "size": size, "time": "-"});
    format!("{line}\n")
}

/// A gate that writes to memory.
#[derive(Clone)]
pub struct Forge {
    pub chance: Chance,
    pub log: Log,
    /// Numbers of the keys that signed; the last one signs.
    pub keys: Vec<u8>,
    tree: Tree,
    head: [u8; 32],
    time: i64,
    open: u64,
    pub last: Option<Checkpoint>,
    /// The log as it was at every checkpoint.
    pub past: Vec<Forge>,
    /// Written by the gate itself: it can't be gone on with here.
    pub genuine: bool,
}

impl Forge {
    pub fn new(seed: u64) -> Self {
        let mut forge = Forge {
            chance: Chance(seed),
            log: Log::default(),
            keys: vec![1],
            tree: Tree::default(),
            head: [0; 32],
            time: 1_700_000_000_000_000,
            open: 0,
            last: None,
            past: Vec::new(),
            genuine: false,
        };
        forge.begin();
        forge.seal(Some(1));
        forge
    }

    /// A clean log of some shape.
    pub fn any(seed: u64) -> Self {
        let mut forge = Forge::new(seed);
        let steps = 4 + forge.chance.below(24);
        forge.go_on(steps);
        forge.finish();
        forge
    }

    pub fn go_on(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.chance.below(16) {
                0 | 1 => self.roll(),
                2 => self.fail(),
                3 => self.rotate(),
                4 => self.drop_oldest(),
                5..=8 => self.seal(None),
                _ => (0..=self.chance.below(4)).for_each(|_| self.call()),
            }
        }
    }

    /// Some end: sealed or not, whole or in the middle of a line or a note.
    fn finish(&mut self) {
        match self.chance.below(4) {
            0 => self.seal(None),
            1 => {
                let text = self.log.segments.get_mut(&self.open).unwrap();
                text.extend_from_slice(b"{\"agent\":\"bo");
            }
            2 if self.past.len() > 1 => self.log.checkpoints.extend_from_slice(b"gate-1\n12\nAAA"),
            _ => {}
        }
    }

    fn begin(&mut self) {
        self.open = self.tree.size();
        let line = root_line(self.open, &self.tree, &self.head);
        self.log.roots.extend_from_slice(line.as_bytes());
        self.log.segments.insert(self.open, Vec::new());
    }

    fn append(&mut self, mut record: Value) {
        self.time += 1 + self.chance.below(5_000_000) as i64;
        (record["seq"], record["prev"]) = (self.tree.size().into(), hex(&self.head).into());
        record["instance"] = "gate-1".into();
        record["time"] = rfc3339(Timestamp::from_micros(self.time)).into();
        let line = record.to_string();
        self.head = sha256(line.as_bytes());
        self.tree.push(leaf(line.as_bytes()));
        let text = self.log.segments.get_mut(&self.open).unwrap();
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }

    fn call(&mut self) {
        let number = self.chance.below(1000);
        let intents = [
            "merge \"ü\"\n\u{1}",
            "a\\b",
            "ticket 7",
            "",
            "\u{1f600}\u{7f}",
        ];
        let intent = intents[self.chance.below(intents.len())];
        self.append(json!({
            "kind": "decision", "agent": "bot", "decision": "allow", "intent": intent, "method": "DELETE",
            "target": format!("/crm/users/{number}"), "frames": {"received": number, "sent": 2},
        }));
    }

    fn roll(&mut self) {
        if self.open < self.tree.size() {
            self.begin();
            self.call();
        }
    }

    /// The disk fails: a part of what was not acknowledged stays behind the last line that counts.
    fn fail(&mut self) {
        if self.open == self.tree.size() {
            return;
        }
        let (old, text) = (self.open, &self.log.segments[&self.open]);
        let kept = text.len();
        let mut torn = text[..self.chance.below(kept)].to_vec();
        if self.chance.one_in(2) {
            torn.clear();
        }
        self.log
            .segments
            .get_mut(&old)
            .unwrap()
            .extend_from_slice(&torn);
        self.begin();
        self.append(json!({
            "kind": "gate", "change": "fault", "detail": "input/output error", "segment": name(old), "kept_bytes": kept,
        }));
    }

    fn rotate(&mut self) {
        if self.keys.len() < 4 {
            self.append(json!({"kind": "gate", "change": "key_rotated"}));
            self.seal(Some(self.keys.len() as u8 + 1));
        }
    }

    fn drop_oldest(&mut self) {
        let names: Vec<u64> = self.log.segments.keys().copied().collect();
        // Nothing is dropped that no checkpoint covers.
        let (Some(next), true) = (names.get(1).copied(), names.len() > 2) else {
            return;
        };
        if self.last.as_ref().is_some_and(|last| last.size < next) {
            return;
        }
        self.append(
            json!({"kind": "gate", "change": "dropped", "segment": name(names[0]), "first": next}),
        );
        self.log.segments.remove(&names[0]);
        if self.chance.one_in(2) {
            self.trim(next);
        }
        // What was there before can't be gone on with.
        self.past.clear();
    }

    /// Checkpoints over nothing but dropped records go, but for those that name a key, and the newest of them.
    fn trim(&mut self, first: u64) {
        let notes = self.log.notes();
        let newest = notes.iter().rposition(|note| read(note).size <= first);
        let kept = notes.iter().enumerate().filter(|(at, note)| {
            let checkpoint = read(note);
            checkpoint.size > first || checkpoint.key.is_some() || Some(*at) == newest
        });
        let kept: Vec<u8> = kept.flat_map(|(_, note)| note.clone()).collect();
        self.log.checkpoints = kept;
    }

    /// A checkpoint of all that there is, perhaps with a new key.
    pub fn seal(&mut self, next: Option<u8>) {
        self.time += self.chance.below(60_000_000) as i64;
        let signer = key(*self.keys.last().unwrap());
        let checkpoint = Checkpoint {
            origin: "gate-1".into(),
            size: self.tree.size(),
            root: self.tree.root(),
            time: Some(Timestamp::from_micros(self.time)),
            prev: self.last.as_ref().map(Checkpoint::digest),
            key: next.map(|next| key(next).verifier().clone()),
        };
        let mut note = checkpoint.sign(&signer);
        if let Some(next) = next.filter(|next| self.keys.last() != Some(next)) {
            key(next).sign_too(&mut note, &checkpoint.to_text());
            self.keys.push(next);
        }
        self.log.checkpoints.extend_from_slice(note.as_bytes());
        self.log.checkpoints.push(b'\n');
        self.last = Some(checkpoint);
        self.remember();
    }

    /// The state as it is, without those before.
    pub fn bare(&self) -> Forge {
        Forge {
            chance: self.chance.clone(),
            log: self.log.clone(),
            keys: self.keys.clone(),
            tree: self.tree.clone(),
            last: self.last.clone(),
            past: Vec::new(),
            ..*self
        }
    }

    /// Keeps the state as it is.
    pub fn remember(&mut self) {
        let past = self.bare();
        self.past.push(past);
    }

    /// All checkpoints made again for the log as it is, at the same sizes and times, by these keys: the first signs from the
    /// beginning, and each next one where the log changed its key.
    pub fn reseal(&mut self, keys: &[u8]) {
        let first = *self.log.segments.keys().next().unwrap();
        let Some((mut tree, _)) = self
            .log
            .start(first)
            .or((first == 0).then(Default::default))
        else {
            return;
        };
        let (lines, _) = self.log.lines();
        let mut lines = lines.iter();
        let (mut signers, mut last, mut out): (_, Option<Checkpoint>, _) =
            (keys.iter(), None, Vec::new());
        let mut signer = 0;
        for note in self.log.notes() {
            let old = read(&note);
            while tree.size() < old.size {
                let Some((_, line)) = lines.next() else {
                    break;
                };
                tree.push(leaf(line));
            }
            let next = old.key.as_ref().and_then(|_| signers.next());
            signer = if last.is_none() { keys[0] } else { signer };
            let checkpoint = Checkpoint {
                size: old.size.min(tree.size()),
                root: if old.size < tree.size() {
                    old.root
                } else {
                    tree.root()
                },
                prev: last.as_ref().map(Checkpoint::digest),
                key: next.map(|next| key(*next).verifier().clone()),
                ..old
            };
            let mut note = checkpoint.sign(&key(signer));
            if let Some(next) = next.filter(|next| **next != signer) {
                key(*next).sign_too(&mut note, &checkpoint.to_text());
                signer = *next;
            }
            out.extend_from_slice(note.as_bytes());
            out.push(b'\n');
            last = Some(checkpoint);
        }
        self.log.checkpoints = out;
    }
}
