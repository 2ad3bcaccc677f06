//! The start: where the log stands, and what a kill or a power loss left behind its last whole line.
//!
//! The last segment is verified from its first line, and older ones as far back as the newest checkpoint goes. What is torn is
//! cut off: a line without its end, or (after power loss) a tail with holes, which no record has, for a NUL byte is always
//! escaped. Anything else that does not fit the chain, or what was signed of it, was changed by someone: the gate refuses to
//! start rather than cut away evidence. Everything is read first and nothing is changed before all of it agrees.

use super::LedgerError;
use super::judge::{Seals, Witness, anchored};
use super::line::time_of;
use super::note::{SigningKey, VerifierKey};
use super::roots::{End, ROOTS, Roots, Starts};
use super::storage::{Segment, Storage, first_seq, segment_name};
use super::tree::{Tree, leaf};
use super::verify::{BadLine, LINE_BYTES_MAX, LineFault, kept_in, walk};
use crate::policy::time::Timestamp;
use aws_lc_rs::digest;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// A log that can be gone on with.
pub(super) struct Recovered {
    pub end: End,
    pub name: String,
    /// Absent before the first segment is begun.
    pub file: Option<Box<dyn Segment>>,
    /// Length of the segment.
    pub bytes: u64,
    /// Time of its first record.
    pub since: Option<Timestamp>,
    /// What was cut off, in order.
    pub cuts: Vec<Cut>,
    pub roots: Roots,
    /// Where segments begin of which `roots` does not say so yet.
    pub begins: Vec<(String, End)>,
    pub seals: Seals,
    pub key: SigningKey,
}

/// A torn tail.
#[derive(Debug)]
pub(super) struct Cut {
    /// The segment.
    pub name: String,
    /// What is left of it.
    pub kept: u64,
    /// What was not.
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// Finds the end of the log, if that is where it should be. `key` is asked for the key that signs, told who did so far.
pub(super) fn recover(
    storage: &mut dyn Storage,
    key: impl FnOnce(Option<&VerifierKey>) -> Result<SigningKey, LedgerError>,
    anchor_file: Option<&Path>,
) -> Result<Recovered, LedgerError> {
    let survey = survey(storage, anchor_file)?;
    let key = key(survey.seals.signer.as_ref())?;
    // Nothing was changed so far.
    for name in &survey.empty {
        storage
            .remove(name)
            .map_err(|error| fault(storage, name, &error))?;
    }
    let roots = Roots::open(storage, survey.starts.bytes);
    let roots = roots.map_err(|error| fault(storage, ROOTS, &error))?;
    let Some(last) = survey.last else {
        return Ok(Recovered {
            end: End::default(),
            name: segment_name(0),
            file: None,
            bytes: 0,
            since: None,
            cuts: survey.cuts,
            roots,
            begins: Vec::new(),
            seals: survey.seals,
            key,
        });
    };
    for cut in survey.cuts.iter().filter(|cut| cut.name == last.name) {
        storage
            .cut(&cut.name, cut.kept)
            .map_err(|error| fault(storage, &cut.name, &error))?;
    }
    let file = storage
        .append(&last.name, last.bytes)
        .map_err(|error| fault(storage, &last.name, &error))?;
    Ok(Recovered {
        end: last.end,
        name: last.name,
        file: Some(file),
        bytes: last.bytes,
        since: last.since,
        cuts: survey.cuts,
        roots,
        begins: last.begins,
        seals: survey.seals,
        key,
    })
}

/// What is there.
struct Survey {
    starts: Starts,
    seals: Seals,
    /// Segments without a whole line behind the last one.
    empty: Vec<String>,
    cuts: Vec<Cut>,
    last: Option<Last>,
}

/// The last segment.
struct Last {
    name: String,
    bytes: u64,
    since: Option<Timestamp>,
    /// Where it begins, and others before it, if `roots` does not say so.
    begins: Vec<(String, End)>,
    end: End,
}

fn survey(storage: &dyn Storage, anchor_file: Option<&Path>) -> Result<Survey, LedgerError> {
    let mut names = storage
        .names()
        .map_err(|error| fault(storage, "", &error))?;
    let oldest = names.first().and_then(|name| first_seq(name)).unwrap_or(0);
    let starts = Starts::read(storage).map_err(|error| fault(storage, ROOTS, &error))?;
    let seals = Seals::read(storage, oldest)?;
    if starts.bytes > 0 && seals.last.is_none() {
        // The first checkpoint is made before the first line of `roots`.
        let why = "there is no checkpoint any more, but segments were begun behind one".to_owned();
        let path = storage.place(super::seal::CHECKPOINTS);
        return Err(LedgerError::Checkpoints { path, why });
    }
    let mut witnesses: Vec<Witness> = seals.witness(storage).into_iter().collect();
    if let Some(path) = anchor_file
        && let Some(seen) = anchored(path, storage.instance())?
    {
        if witnesses.iter().all(|own| own.size < seen.size) {
            return Err(LedgerError::Cut {
                witness: seen.path,
                size: seen.size,
                records: witnesses.first().map_or(0, |own| own.size),
            });
        }
        witnesses.push(seen);
    }
    let (mut empty, mut cuts) = (Vec::new(), Vec::new());
    // Killed between making a file and its first record: the segment before is the last one.
    while let Some(name) = names.last() {
        let first = first_line(storage, name)?;
        if first.is_some() || names.len() == 1 {
            break;
        }
        let there = bytes(storage, name)?;
        if there > 0 {
            cuts.push(torn(storage, name, 0, there)?);
        }
        empty.extend(names.pop());
    }
    let last = match names.is_empty() {
        true => {
            judge(storage, &End::default(), &witnesses, &mut Vec::new())?;
            None
        }
        false => Some(far_enough(storage, &names, &starts, &witnesses, &mut cuts)?),
    };
    Ok(Survey {
        starts,
        seals,
        empty,
        cuts,
        last,
    })
}

/// Reads the segments from the last one at which all witnesses can be asked.
fn far_enough(
    storage: &dyn Storage,
    names: &[String],
    starts: &Starts,
    witnesses: &[Witness],
    cuts: &mut Vec<Cut>,
) -> Result<Last, LedgerError> {
    let oldest = names.first().and_then(|name| first_seq(name)).unwrap_or(0);
    // What an anchor saw of segments that were dropped since can't be asked.
    let asked: Vec<_> = witnesses
        .iter()
        .filter(|one| one.size >= oldest)
        .cloned()
        .collect();
    let first = asked.iter().map(|one| one.size).min();
    let mut refused = None;
    for (from, name) in names.iter().enumerate().rev() {
        let Some(start) = starts.of_segment(name) else {
            continue;
        };
        if first.is_some_and(|size| start.size() > size) || !follows(storage, names, from, &start)?
        {
            continue;
        }
        match read_from(storage, names, from, start, &asked) {
            Ok((mut last, cut)) => {
                last.begins
                    .retain(|(name, begins)| !starts.says(name, begins));
                cuts.extend(cut);
                return Ok(last);
            }
            // A line of `roots` that is wrong shows as a root that is; one further back decides.
            Err(error @ LedgerError::Edited { .. }) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| LedgerError::Roots {
        path: storage.place(ROOTS),
        segment: names.first().cloned().unwrap_or_default(),
    }))
}

/// Whether the segment before ends with the line that this start has as its last.
fn follows(
    storage: &dyn Storage,
    names: &[String],
    at: usize,
    start: &End,
) -> Result<bool, LedgerError> {
    let Some(before) = at.checked_sub(1).map(|before| &names[before]) else {
        return Ok(true);
    };
    let first = first_line(storage, &names[at])?.unwrap_or_default();
    let head = last_of(storage, before, kept_in(&first, before))?;
    Ok(head == start.chain.head)
}

/// Walks from one segment to the end of the last, and asks the witnesses. With it, what is torn at its end.
fn read_from(
    storage: &dyn Storage,
    names: &[String],
    from: usize,
    start: End,
    witnesses: &[Witness],
) -> Result<(Last, Option<Cut>), LedgerError> {
    let mut end = start;
    let mut roots = Vec::new();
    let mut see = |tree: &Tree| {
        if witnesses.iter().any(|one| one.size == tree.size()) {
            roots.push((tree.size(), tree.root()));
        }
    };
    see(&end.tree);
    let (mut whole, mut begins) = (None, Vec::new());
    for (at, name) in names.iter().enumerate().skip(from) {
        let next = names.get(at + 1);
        let expected = end.chain.next;
        if let Some(found) = first_seq(name).filter(|found| *found != expected) {
            return Err(broken(storage, name, 1, LineFault::Seq { expected, found }));
        }
        let limit = match next {
            Some(next) => first_line(storage, next)?.and_then(|line| kept_in(&line, name)),
            None => None,
        };
        begins.push((name.clone(), end.clone()));
        let source = read(storage, name, 0)?;
        let End { chain, tree } = &mut end;
        let walked = walk(source, limit.unwrap_or(u64::MAX), chain, |line| {
            tree.push(leaf(line));
            see(tree);
        });
        let is_last = next.is_none();
        if let Some(found) = walked.fault {
            let there = bytes(storage, name)?;
            let torn = found == LineFault::Torn || scan(storage, name, walked.bytes, there)?.1;
            if !is_last || !torn {
                return Err(broken(storage, name, walked.lines + 1, found));
            }
        }
        whole = Some((name, walked.bytes, walked.first));
    }
    judge(storage, &end, witnesses, &mut roots)?;
    let (name, kept, first) = whole.expect("there is a segment to walk");
    let there = bytes(storage, name)?;
    let cut = match kept < there {
        true => Some(torn(storage, name, kept, there)?),
        false => None,
    };
    let last = Last {
        name: name.clone(),
        bytes: kept,
        since: first.as_deref().and_then(time_of),
        begins,
        end,
    };
    Ok((last, cut))
}

/// Whether the log is what every witness saw.
fn judge(
    storage: &dyn Storage,
    end: &End,
    witnesses: &[Witness],
    roots: &mut Vec<(u64, [u8; 32])>,
) -> Result<(), LedgerError> {
    if end.size() == 0 {
        roots.push((0, end.tree.root()));
    }
    for Witness { path, size, root } in witnesses {
        let (witness, size) = (path.clone(), *size);
        if size > end.size() {
            let records = end.size();
            return Err(LedgerError::Cut {
                witness,
                size,
                records,
            });
        }
        if !roots.contains(&(size, *root)) {
            return Err(LedgerError::Edited {
                directory: storage.place(""),
                witness,
                size,
            });
        }
    }
    Ok(())
}

/// A segment's first line, newline included, if it has a whole one.
fn first_line(storage: &dyn Storage, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
    let mut line = Vec::new();
    BufReader::new(read(storage, name, 0)?.take(LINE_BYTES_MAX as u64))
        .read_until(b'\n', &mut line)
        .map_err(|error| fault(storage, name, &error))?;
    Ok((line.last() == Some(&b'\n')).then_some(line))
}

/// The digest of the last line among the first `kept` bytes of a segment.
fn last_of(storage: &dyn Storage, name: &str, kept: Option<u64>) -> Result<[u8; 32], LedgerError> {
    let there = bytes(storage, name)?;
    let end = kept.unwrap_or(there).min(there);
    let from = end.saturating_sub(LINE_BYTES_MAX as u64 + 1);
    let mut text = Vec::new();
    read(storage, name, from)?
        .take(end - from)
        .read_to_end(&mut text)
        .map_err(|error| fault(storage, name, &error))?;
    let Some((b'\n', lines)) = text.split_last() else {
        return Err(broken(storage, name, 0, LineFault::Torn));
    };
    let start = lines
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    Ok(super::line::sha256(&lines[start..]))
}

fn torn(storage: &dyn Storage, name: &str, kept: u64, end: u64) -> Result<Cut, LedgerError> {
    let (sha256, _) = scan(storage, name, kept, end)?;
    Ok(Cut {
        name: name.to_owned(),
        kept,
        bytes: end - kept,
        sha256,
    })
}

/// The digest of a segment's bytes, and whether a NUL is among them.
fn scan(
    storage: &dyn Storage,
    name: &str,
    from: u64,
    end: u64,
) -> Result<([u8; 32], bool), LedgerError> {
    let mut source = read(storage, name, from)?.take(end - from);
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    let mut holes = false;
    loop {
        let count = source
            .read(&mut buffer)
            .map_err(|error| fault(storage, name, &error))?;
        if count == 0 {
            break;
        }
        context.update(&buffer[..count]);
        holes |= buffer[..count].contains(&0);
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Ok((sha256, holes))
}

fn read(storage: &dyn Storage, name: &str, from: u64) -> Result<Box<dyn Read + Send>, LedgerError> {
    storage
        .read(name, from)
        .map_err(|error| fault(storage, name, &error))
}

fn bytes(storage: &dyn Storage, name: &str) -> Result<u64, LedgerError> {
    storage
        .bytes(name)
        .map_err(|error| fault(storage, name, &error))
}

fn fault(storage: &dyn Storage, name: &str, error: &io::Error) -> LedgerError {
    LedgerError::io(&storage.place(name), error)
}

fn broken(storage: &dyn Storage, name: &str, line: u64, fault: LineFault) -> LedgerError {
    LedgerError::Broken(BadLine {
        path: storage.place(name),
        line,
        fault,
    })
}
