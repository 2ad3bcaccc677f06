//! Fourteen ways to tamper with a ledger, each at a random place, and what must come of it.

use super::forge::{Chance, Forge, Log, key, name, read};
use crate::ledger::hex;
use serde_json::Value;

/// What somebody did, and what an auditor must hear of it.
pub struct Tampered {
    pub log: Log,
    /// Found by the directory alone.
    pub alone: Must,
    /// Found by somebody who knows the log's first key.
    pub with_key: Must,
    /// Found by somebody who has its newest checkpoint too.
    pub with_checkpoint: Must,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// A fault.
    BeFound,
    /// No fault perhaps, but then nothing that was changed is called proven.
    NotBeProven,
    /// The signer's own lie: it passes for proven, and the report says what would show it.
    BeDoubted,
}
use Must::{BeDoubted, BeFound, NotBeProven};

/// A way to tamper, at a place that chance chooses; `None` where this log has no such place.
type Kind = fn(&Forge, &mut Chance) -> Option<Tampered>;

pub const KINDS: [(&str, Kind); 14] = [
    ("edit", edit),
    ("delete", delete),
    ("insert", insert),
    ("reorder", reorder),
    ("truncate behind a checkpoint", truncate_signed),
    ("truncate after the last checkpoint", truncate_tail),
    ("fork", fork),
    ("foreign key", foreign_key),
    ("re-seal with a newer key", reseal),
    ("segment swap", segment_swap),
    ("root swap", root_swap),
    ("clock edit", clock_edit),
    ("prefix replay", prefix_replay),
    ("checkpoint removal", checkpoint_removal),
];

/// By somebody without a key: what was signed can't be changed, with or without more knowledge.
fn keyless(log: Log, must: Must) -> Option<Tampered> {
    Some(Tampered {
        log,
        alone: must,
        with_key: must,
        with_checkpoint: must,
    })
}

/// Whether line `at` of those there are is under a checkpoint.
fn signed(log: &Log, at: usize) -> Must {
    let first = *log.segments.keys().next().unwrap();
    match first + (at as u64) < log.sealed().0 {
        true => BeFound,
        false => NotBeProven,
    }
}

fn edit(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    let (mut lines, rests) = log.lines();
    let at = chance.below(lines.len());
    let must = signed(&log, at);
    let line = &mut lines.get_mut(at)?.1;
    if chance.one_in(2) {
        let place = chance.below(line.len());
        line[place] ^= 1 << chance.below(8);
        log.put(&lines, &rests, false);
    } else {
        let mut record: Value = serde_json::from_slice(line).unwrap();
        record["agent"] = "somebody else".into();
        *line = record.to_string().into_bytes();
        log.put(&lines, &rests, true);
    }
    keyless(log, must)
}

fn clock_edit(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    if chance.one_in(3) {
        let mut notes = log.notes();
        let at = chance.below(notes.len());
        let text = String::from_utf8(notes[at].clone()).unwrap();
        notes[at] = text.replace("\ntime 20", "\ntime 19").into_bytes();
        log.checkpoints = notes.concat();
        return keyless(log, BeFound);
    }
    let (mut lines, rests) = log.lines();
    let at = chance.below(lines.len());
    let must = signed(&log, at);
    let line = &mut lines.get_mut(at)?.1;
    let text = String::from_utf8(line.clone()).unwrap();
    *line = text.replace("\"time\":\"20", "\"time\":\"19").into_bytes();
    log.put(&lines, &rests, chance.one_in(2));
    keyless(log, must)
}

fn delete(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    let (mut lines, rests) = log.lines();
    let at = chance.below(lines.len());
    let must = signed(&log, at);
    if lines.len() < 2 {
        return None;
    }
    lines.remove(at);
    log.put(&lines, &rests, chance.one_in(2));
    keyless(log, must)
}

fn insert(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    let (mut lines, rests) = log.lines();
    let at = chance.below(lines.len());
    let (segment, line) = lines.get(at)?.clone();
    let mut forged: Value = serde_json::from_slice(&line).unwrap();
    forged["target"] = "/never/asked".into();
    // Not the first of its segment, where a fault's record would have to stand.
    let at = at + usize::from(at == 0 || lines[at - 1].0 != segment);
    let must = signed(&log, at);
    lines.insert(at, (segment, forged.to_string().into_bytes()));
    log.put(&lines, &rests, chance.one_in(2));
    keyless(log, must)
}

fn reorder(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    let (mut lines, rests) = log.lines();
    if lines.len() < 3 {
        return None;
    }
    let at = chance.below(lines.len() - 1);
    let other = if chance.one_in(2) {
        at + 1
    } else {
        at + 1 + chance.below(lines.len() - at - 1)
    };
    let must = signed(&log, at);
    let (one, two) = (lines[at].1.clone(), lines[other].1.clone());
    (lines[at].1, lines[other].1) = (two, one);
    log.put(&lines, &rests, chance.one_in(2));
    keyless(log, must)
}

fn truncate(forge: &Forge, keep: u64) -> Log {
    let mut log = forge.log.clone();
    let (mut lines, _) = log.lines();
    let first = *log.segments.keys().next().unwrap();
    lines.truncate((keep - first) as usize);
    log.put(&lines, &Default::default(), false);
    log
}

fn truncate_signed(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let (sealed, _) = forge.log.sealed();
    let first = *forge.log.segments.keys().next().unwrap();
    let many = sealed.checked_sub(first + 1).filter(|many| *many > 0)?;
    let keep = first + 1 + chance.below(many as usize) as u64;
    keyless(truncate(forge, keep), BeFound)
}

fn truncate_tail(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let (sealed, all) = forge.log.sealed();
    let first = *forge.log.segments.keys().next().unwrap();
    let from = sealed.max(first + 1);
    let many = all.checked_sub(from).filter(|many| *many > 0)?;
    let keep = from + chance.below(many as usize) as u64;
    // With the record of the drop cut off, the segments before are missing without one.
    keyless(truncate(forge, keep), NotBeProven)
}

/// An older state, gone on with by the true key: two histories from there on.
fn fork(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let states = forge.past.len().checked_sub(1).filter(|many| *many > 0)?;
    let mut other = forge.past[chance.below(states)].clone();
    if other.genuine {
        return None;
    }
    other.chance = Chance(chance.next());
    other.go_on(6);
    other.seal(None);
    // One that dropped what both have can't be compared.
    let both = forge.last.as_ref()?.size;
    if *other.log.segments.keys().next()? > both {
        return None;
    }
    Some(Tampered {
        log: other.log,
        alone: BeDoubted,
        with_key: BeDoubted,
        with_checkpoint: BeFound,
    })
}

/// An older state as it was.
fn prefix_replay(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let states = forge.past.len().checked_sub(1).filter(|many| *many > 0)?;
    Some(Tampered {
        log: forge.past[chance.below(states)].log.clone(),
        alone: NotBeProven,
        with_key: NotBeProven,
        with_checkpoint: BeFound,
    })
}

fn foreign_key(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    const STRANGER: u8 = 99;
    let mut other = forge.bare();
    if chance.one_in(2) {
        // All of it, made again by a stranger.
        let (mut lines, rests) = other.log.lines();
        let at = chance.below(lines.len());
        let mut record: Value = serde_json::from_slice(&lines.get(at)?.1).unwrap();
        record["agent"] = "somebody else".into();
        lines[at].1 = record.to_string().into_bytes();
        other.log.put(&lines, &rests, true);
        let keys: Vec<u8> = (0..4).map(|number| STRANGER + number).collect();
        other.reseal(&keys);
        return Some(Tampered {
            log: other.log,
            alone: BeDoubted,
            with_key: BeFound,
            with_checkpoint: BeFound,
        });
    }
    let mut notes = other.log.notes();
    let at = chance.below(notes.len());
    let note = read(&notes[at]).sign(&key(STRANGER));
    notes[at] = (note + "\n").into_bytes();
    other.log.checkpoints = notes.concat();
    keyless(other.log, BeFound)
}

fn reseal(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let newest = *forge.keys.last().unwrap();
    if forge.keys.len() < 2 {
        return None;
    }
    let mut other = forge.bare();
    let mut notes = other.log.notes();
    let rotated = notes
        .iter()
        .rposition(|note| read(note).key.is_some())
        .unwrap();
    match chance.below(3) {
        // One of the time before, by the key that came later.
        0 => {
            let at = chance.below(rotated);
            let note = read(&notes[at]).sign(&key(newest));
            notes[at] = (note + "\n").into_bytes();
        }
        // One of the time after, by the key before.
        1 => {
            let at = rotated + chance.below(notes.len() - rotated);
            let note = read(&notes[at]).sign(&key(forge.keys[forge.keys.len() - 2]));
            notes[at] = (note + "\n").into_bytes();
        }
        // A record changed, and everything made again as though the newest key had always signed.
        _ => {
            let (mut lines, rests) = other.log.lines();
            let at = chance.below(lines.len());
            let mut record: Value = serde_json::from_slice(&lines.get(at)?.1).unwrap();
            record["agent"] = "somebody else".into();
            lines[at].1 = record.to_string().into_bytes();
            other.log.put(&lines, &rests, true);
            other.reseal(&[newest; 4]);
            return Some(Tampered {
                log: other.log,
                alone: BeDoubted,
                with_key: BeFound,
                with_checkpoint: BeFound,
            });
        }
    }
    other.log.checkpoints = notes.concat();
    keyless(other.log, BeFound)
}

fn segment_swap(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    let full: Vec<u64> = log
        .segments
        .iter()
        .filter(|(_, text)| text.contains(&b'\n'))
        .map(|(seq, _)| *seq)
        .collect();
    if full.len() < 2 {
        // The only one, by that of another log.
        let other = Forge::any(chance.next());
        let only = *full.first()?;
        let must = if only == 0 && log.sealed().0 > 0 {
            BeFound
        } else {
            NotBeProven
        };
        let text = other.log.segments.values().next()?.clone();
        if only != 0 || *other.log.segments.keys().next()? != 0 {
            return None;
        }
        log.segments.insert(only, text);
        return keyless(log, must);
    }
    let one = chance.below(full.len() - 1);
    let two = one + 1 + chance.below(full.len() - one - 1);
    let (a, b) = (
        log.segments[&full[one]].clone(),
        log.segments[&full[two]].clone(),
    );
    log.segments.insert(full[one], b);
    log.segments.insert(full[two], a);
    keyless(log, BeFound)
}

fn root_swap(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    let mut notes = log.notes();
    let (one, two) = (chance.below(notes.len()), chance.below(notes.len()));
    let (a, b) = (read(&notes[one]), read(&notes[two]));
    if chance.one_in(2) && a.root != b.root {
        let swap = |note: &[u8], line: &str, by: &str| {
            let text = String::from_utf8(note.to_vec()).unwrap();
            text.replacen(line, by, 1).into_bytes()
        };
        let third = |note: &[u8]| {
            let text = String::from_utf8(note.to_vec()).unwrap();
            text.lines().nth(2).unwrap().to_owned()
        };
        let (x, y) = (third(&notes[one]), third(&notes[two]));
        notes[one] = swap(&notes[one], &x, &y);
        notes[two] = swap(&notes[two], &y, &x);
        log.checkpoints = notes.concat();
        return keyless(log, BeFound);
    }
    // The roots of two segments, or some other root for one.
    let full: Vec<String> = log
        .segments
        .iter()
        .filter(|(_, text)| text.contains(&b'\n'))
        .map(|(seq, _)| name(*seq))
        .collect();
    let mut lines: Vec<Value> = log
        .roots
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let there: Vec<usize> = (0..lines.len())
        .filter(|at| full.iter().any(|name| lines[*at]["segment"] == **name))
        .collect();
    let at = *there.get(chance.below(there.len()))?;
    let other = *there.get(chance.below(there.len()))?;
    if at == other {
        lines[at]["head"] = hex(&[chance.below(256) as u8; 32]).into();
    } else {
        for field in ["frontier", "head"] {
            let (x, y) = (lines[at][field].clone(), lines[other][field].clone());
            (lines[at][field], lines[other][field]) = (y, x);
        }
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    log.roots = text.into_bytes();
    keyless(log, BeFound)
}

fn checkpoint_removal(forge: &Forge, chance: &mut Chance) -> Option<Tampered> {
    let mut log = forge.log.clone();
    let mut notes = log.notes();
    let first = *log.segments.keys().next().unwrap();
    let last = notes.len() - 1;
    if chance.one_in(8) {
        log.checkpoints.clear();
        let must = if log.lines().0.is_empty() {
            NotBeProven
        } else {
            BeFound
        };
        return Some(Tampered {
            log,
            alone: must,
            with_key: BeFound,
            with_checkpoint: BeFound,
        });
    }
    let at = chance.below(notes.len());
    let key_named = read(&notes[at]).key.is_some();
    // Where segments were dropped, checkpoints over them may be missing with them.
    let gap = notes
        .get(at + 1)
        .is_some_and(|next| first > 0 && read(next).size <= first)
        && !key_named;
    notes.remove(at);
    log.checkpoints = notes.concat();
    if at < last {
        return keyless(log, if gap { NotBeProven } else { BeFound });
    }
    let must = if notes.is_empty() && !log.lines().0.is_empty() {
        BeFound
    } else {
        NotBeProven
    };
    Some(Tampered {
        log,
        alone: must,
        with_key: if notes.is_empty() {
            BeFound
        } else {
            NotBeProven
        },
        with_checkpoint: BeFound,
    })
}
