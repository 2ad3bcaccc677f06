//! The start: where the chain stands, and what a kill or a power loss left behind its last whole line.
//!
//! The last segment is verified from its first line. What is torn is cut off: a line without its end, or (after power
//! loss) a tail with holes, which no record has, for a NUL byte is always escaped. Anything else that does not fit the
//! chain was changed by someone: the gate refuses to start rather than cut away evidence.

use super::LedgerError;
use super::storage::{Segment, Storage, first_seq, segment_name};
use super::verify::{BadLine, Chain, LINE_BYTES_MAX, LineFault, kept_in, walk};
use crate::policy::time::Timestamp;
use aws_lc_rs::digest;
use std::io::{self, BufRead, BufReader, Read};

/// A log that can be gone on with.
pub(super) struct Recovered {
    pub chain: Chain,
    pub name: String,
    pub file: Box<dyn Segment>,
    /// Length of the segment.
    pub bytes: u64,
    /// Time of its first record.
    pub since: Option<Timestamp>,
    /// What was cut off, in order.
    pub cuts: Vec<Cut>,
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

/// Finds the end of the chain.
pub(super) fn recover(storage: &mut dyn Storage) -> Result<Recovered, LedgerError> {
    let mut cuts = Vec::new();
    loop {
        let names = storage
            .names()
            .map_err(|error| fault(storage, "", &error))?;
        let Some(name) = names.last() else {
            return open(storage, segment_name(0), Chain::default(), 0, None, cuts);
        };
        let before = names.len().checked_sub(2).map(|position| &*names[position]);
        let (first, walked, chain) = tail(storage, name, before)?;
        let bytes = storage
            .bytes(name)
            .map_err(|error| fault(storage, name, &error))?;
        if walked < bytes {
            cuts.push(torn(storage, name, walked, bytes)?);
            storage
                .cut(name, walked)
                .map_err(|error| fault(storage, name, &error))?;
        }
        if walked == 0 && before.is_some() {
            // Killed between making the file and its first record: the segment before is the last one.
            storage
                .remove(name)
                .map_err(|error| fault(storage, name, &error))?;
            continue;
        }
        let since = first.as_deref().and_then(time_of);
        return open(storage, name.clone(), chain, walked, since, cuts);
    }
}

/// The last segment's first line, whole bytes and chain; an error if something but a torn tail stands in it.
fn tail(
    storage: &dyn Storage,
    name: &str,
    before: Option<&str>,
) -> Result<(Option<Vec<u8>>, u64, Chain), LedgerError> {
    let read = |from| {
        storage
            .read(name, from)
            .map_err(|error| fault(storage, name, &error))
    };
    let mut chain = Chain {
        next: first_seq(name).unwrap_or(0),
        head: [0; 32],
    };
    let mut first = Vec::new();
    BufReader::new(read(0)?.take(LINE_BYTES_MAX as u64))
        .read_until(b'\n', &mut first)
        .map_err(|error| fault(storage, name, &error))?;
    if first.last() != Some(&b'\n') {
        return Ok((None, 0, chain));
    }
    if let Some(before) = before {
        chain.head = last_of(storage, before, kept_in(&first, before))?;
    } else if chain.next > 0 {
        return Err(broken(
            storage,
            name,
            1,
            LineFault::Seq {
                expected: 0,
                found: chain.next,
            },
        ));
    }
    let walked = walk(read(0)?, u64::MAX, &mut chain);
    match walked.fault {
        None | Some(LineFault::Torn) => {}
        Some(fault) => {
            let end = storage
                .bytes(name)
                .map_err(|error| self::fault(storage, name, &error))?;
            let (_, holes) = scan(storage, name, walked.bytes, end)?;
            if !holes {
                return Err(broken(storage, name, walked.lines + 1, fault));
            }
        }
    }
    Ok((walked.first, walked.bytes, chain))
}

/// The digest of the last line among the first `kept` bytes of a segment.
fn last_of(storage: &dyn Storage, name: &str, kept: Option<u64>) -> Result<[u8; 32], LedgerError> {
    let there = storage
        .bytes(name)
        .map_err(|error| fault(storage, name, &error))?;
    let end = kept.unwrap_or(there).min(there);
    let from = end.saturating_sub(LINE_BYTES_MAX as u64 + 1);
    let mut text = Vec::new();
    storage
        .read(name, from)
        .and_then(|source| source.take(end - from).read_to_end(&mut text))
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
    let fault = |error: io::Error| fault(storage, name, &error);
    let mut source = storage.read(name, from).map_err(fault)?.take(end - from);
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    let mut holes = false;
    loop {
        let count = source.read(&mut buffer).map_err(fault)?;
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

fn open(
    storage: &mut dyn Storage,
    name: String,
    chain: Chain,
    bytes: u64,
    since: Option<Timestamp>,
    cuts: Vec<Cut>,
) -> Result<Recovered, LedgerError> {
    let file = storage
        .append(&name, bytes)
        .map_err(|error| fault(storage, &name, &error))?;
    Ok(Recovered {
        chain,
        name,
        file,
        bytes,
        since,
        cuts,
    })
}

/// The `time` of a line.
fn time_of(line: &[u8]) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Dated<'a> {
        time: &'a str,
    }
    let dated: Dated<'_> = serde_json::from_slice(line).ok()?;
    let time: jiff::Timestamp = dated.time.parse().ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
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
