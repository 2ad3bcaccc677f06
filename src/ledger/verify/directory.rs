//! Verification of a whole directory, line by line and checkpoint by checkpoint, in one pass.
//!
//! The order in which files are opened matters while a gate writes to them: checkpoints first, and no further than they
//! went then, for what they cover was on the disk before them.
//!
//! It is long because the pass is one: what each line, checkpoint and root means depends on all that came before it.

use super::canonical;
use super::lines::{Chunk, Line, Lines, Part};
use super::report::{Fault, Proven, Report, Trust, Unprovable, Wrong};
use super::roots::Roots;
use super::signed::{Signatures, Signed};
use super::{Chain, LINE_BYTES_MAX, LineFault};
use crate::ledger::LedgerError;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::line::{sha256, time_of};
use crate::ledger::note::{Note, VerifierKey};
use crate::ledger::roots::ROOTS;
use crate::ledger::storage::{first_seq, segments};
use crate::ledger::tree::{Hash, Tree};
use crate::policy::time::Timestamp;
use memchr::memmem;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// What an auditor brings along.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// A checkpoint that was kept elsewhere, as it was handed out.
    pub checkpoint: Option<Vec<u8>>,
    /// A key that signs for the log: its first or a later one.
    pub key: Option<VerifierKey>,
}

/// Verifies all that is in a directory. `progress` hears of bytes done and of all that there are.
///
/// # Errors
/// A file that can't be read: nothing is said about the log then.
pub fn directory(
    directory: &Path,
    given: &Given,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LedgerError> {
    let io = |error: io::Error| LedgerError::io(directory, &error);
    let signatures = Signatures::open(directory).map_err(io)?;
    let roots = Roots::read(directory).map_err(io)?;
    let names = segments(directory).map_err(io)?;
    let mut audit = Audit::new(directory, names, roots, signatures);
    if let Some(bytes) = &given.checkpoint {
        audit.hold(bytes);
    }
    if audit.begin() {
        audit.settle(None).map_err(io)?;
        audit.read(progress)?;
    }
    audit.end(given).map_err(io)
}

/// How far it has come.
struct Audit<'d> {
    directory: &'d Path,
    names: Vec<String>,
    roots: Roots,
    signatures: Signatures,
    /// The next checkpoint, which covers more than was read.
    pending: Option<Signed>,
    held: Option<Held>,
    held_form: Option<Fault>,
    chain: Chain,
    tree: Tree,
    /// Size at which something is to be compared next.
    due: u64,
    /// Good lines of the segment that is being read.
    lines: u64,
    first_line: Option<Vec<u8>>,
    /// The newest checkpoint that fits, and the last line it covers.
    fits: Option<(Signed, Option<Vec<u8>>)>,
    /// The newest record of a segment that was dropped: the segment behind it, and the record's `seq`.
    dropped: Option<(u64, u64)>,
    /// Whether reading ended at a line that is not as it was written.
    broken: bool,
    report: Report,
}

/// The checkpoint that was given.
struct Held {
    note: Note,
    /// Of its text: what the next checkpoint calls it.
    digest: Hash,
    checkpoint: Checkpoint,
    /// Whether the records have its root; `None`: there were never as many.
    fits: Option<bool>,
    /// Whether it is one of the file's.
    among: bool,
}

impl<'d> Audit<'d> {
    fn new(
        directory: &'d Path,
        names: Vec<String>,
        roots: Roots,
        mut signatures: Signatures,
    ) -> Self {
        let first = names.first().and_then(|name| first_seq(name)).unwrap_or(0);
        signatures.dropped_before(first);
        let chain = Chain {
            next: first,
            head: [0; 32],
        };
        let report = Report {
            segments: names.len(),
            first,
            ..Report::default()
        };
        Audit {
            directory,
            names,
            roots,
            signatures,
            pending: None,
            held: None,
            held_form: None,
            chain,
            tree: Tree::default(),
            due: 0,
            lines: 0,
            first_line: None,
            fits: None,
            dropped: None,
            broken: false,
            report,
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        let read = Note::parse(bytes).ok();
        let read = read.and_then(|note| Some((Checkpoint::of(&note)?, note)));
        match read {
            Some((checkpoint, note)) => {
                let (fits, among) = (None, false);
                self.held = Some(Held {
                    digest: sha256(note.text().as_bytes()),
                    note,
                    checkpoint,
                    fits,
                    among,
                });
            }
            None => self.held_form = Some(Fault::given(Wrong::HeldForm)),
        }
    }

    /// The tree before the first segment there is. False: nothing can be compared.
    fn begin(&mut self) -> bool {
        let first = self.report.first;
        if first == 0 {
            return true;
        }
        let name = &self.names[0];
        let Some(root) = self.roots.of(name) else {
            self.fault(self.segment(0), 1, Wrong::RootMissing);
            return false;
        };
        let Some(start) = root.start(first) else {
            let (line, wrong) = (root.line, Wrong::RootContradicts(name.clone()));
            self.fault(self.directory.join(ROOTS), line, wrong);
            return false;
        };
        (self.tree, self.chain.head) = start;
        true
    }

    fn segment(&self, part: usize) -> PathBuf {
        self.directory.join(&self.names[part])
    }

    /// Reading ends here.
    fn fault(&mut self, path: PathBuf, line: u64, wrong: Wrong) {
        self.broken = true;
        self.report.faults.push(Fault::at(path, line, wrong));
    }

    fn read(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), LedgerError> {
        let (parts, all) = parts(self.directory, &self.names)?;
        std::thread::scope(|scope| {
            let mut lines = Lines::new(parts, all, scope);
            let mut done = 0;
            while !self.broken {
                let next = lines
                    .next()
                    .map_err(|(path, error)| LedgerError::io(&path, &error))?;
                let Some(chunk) = next else {
                    break;
                };
                self.take(&chunk)
                    .map_err(|error| LedgerError::io(self.directory, &error))?;
                done += chunk.bytes();
                progress(done, all);
                lines.recycle(chunk);
            }
            Ok(())
        })
    }

    fn take(&mut self, chunk: &Chunk) -> io::Result<()> {
        if chunk.from == 0 {
            self.lines = 0;
        }
        for (index, line) in chunk.lines.iter().enumerate() {
            if let Err(wrong) = self.chain.next_is(line.essence.seq, &line.essence.prev) {
                return self.stop(chunk, index, wrong);
            }
            if self.lines == 0 && !self.begins_well(chunk.part) {
                return Ok(());
            }
            self.push(line, chunk.text(line))?;
            if self.broken {
                return Ok(());
            }
        }
        if let Some(wrong) = &chunk.bad {
            return self.stop(chunk, chunk.lines.len(), wrong.clone());
        }
        match chunk.torn {
            0 => Ok(()),
            _ => self.stop(chunk, chunk.lines.len(), LineFault::Torn),
        }
    }

    fn push(&mut self, line: &Line, text: &[u8]) -> io::Result<()> {
        if line.essence.gate {
            self.hear(line.essence.seq, text);
        }
        if self.first_line.is_none() {
            self.first_line = Some(text.to_vec());
        }
        self.chain = Chain {
            next: self.chain.next + 1,
            head: line.digest,
        };
        self.tree.push(line.leaf);
        self.lines += 1;
        if self.tree.size() >= self.due {
            self.settle(Some(text))?;
        }
        Ok(())
    }

    /// What the gate says about its own log.
    fn hear(&mut self, seq: u64, text: &[u8]) {
        // In canonical JSON a member stands in one way only: what has it not need not be read.
        if memmem::find(text, br#""change":"dropped""#).is_none() {
            return;
        }
        let Some(record) = canonical::value(text) else {
            return;
        };
        if record["change"] == "dropped"
            && let Some(next) = record["first"].as_u64()
        {
            self.dropped = Some((next, seq));
        }
    }

    /// Whether a segment begins where its name says, and where `roots` says, if it says so.
    fn begins_well(&mut self, part: usize) -> bool {
        let name = &self.names[part];
        if first_seq(name) != Some(self.chain.next) {
            self.fault(self.segment(part), 1, Wrong::Name);
            return false;
        }
        let root = self.roots.of(name);
        let Some(root) = root.filter(|root| !root.is(&self.tree, &self.chain.head)) else {
            return true;
        };
        let (line, wrong) = (root.line, Wrong::RootContradicts(name.clone()));
        self.fault(self.directory.join(ROOTS), line, wrong);
        false
    }

    /// Ends at a line that is not as it was written. At the log's end it may be one that is still being written, or, after
    /// power loss, a hole, which recovery cuts off: no record has a NUL in it.
    fn stop(&mut self, chunk: &Chunk, index: usize, wrong: LineFault) -> io::Result<()> {
        let path = self.segment(chunk.part);
        if chunk.part + 1 == self.names.len() {
            let from = chunk.offset(index);
            let (bytes, hole) = rest(&path, from)?;
            if wrong == LineFault::Torn || hole {
                self.report
                    .unprovable
                    .push(Unprovable::TornLine { path, bytes });
                return Ok(());
            }
        }
        self.fault(path, self.lines + 1, wrong.into());
        Ok(())
    }

    /// Compares with every checkpoint over as many records as were read.
    fn settle(&mut self, last: Option<&[u8]>) -> io::Result<()> {
        let size = self.tree.size();
        if let Some(held) = self
            .held
            .as_mut()
            .filter(|held| held.checkpoint.size == size)
        {
            held.fits = Some(held.checkpoint.root == self.tree.root());
        }
        loop {
            if self.pending.is_none() {
                self.pending = self.next_signed()?;
            }
            let Some(signed) = self
                .pending
                .take_if(|signed| signed.checkpoint.size <= size)
            else {
                break;
            };
            if signed.checkpoint.size < size {
                // Over dropped records alone: they never shrink, so no other can come late.
                continue;
            }
            if signed.checkpoint.root != self.tree.root() {
                self.differs(&signed);
                return Ok(());
            }
            self.fits = Some((signed, last.map(<[u8]>::to_vec)));
        }
        let held = self.held.as_ref().map(|held| held.checkpoint.size);
        let pending = self.pending.as_ref().map(|signed| signed.checkpoint.size);
        let later = [held, pending]
            .into_iter()
            .flatten()
            .filter(|due| *due > size);
        self.due = later.min().unwrap_or(u64::MAX);
        Ok(())
    }

    /// The next checkpoint of the file; the one that was given may be it.
    fn next_signed(&mut self) -> io::Result<Option<Signed>> {
        let signed = self.signatures.next()?;
        if let (Some(signed), Some(held)) = (&signed, &mut self.held) {
            held.among |= held.digest == signed.digest;
        }
        Ok(signed)
    }

    fn differs(&mut self, signed: &Signed) {
        let size = signed.checkpoint.size;
        let from = self
            .fits
            .as_ref()
            .map_or(self.report.first, |(fits, _)| fits.checkpoint.size);
        let bound = self.report.first == 0 || self.fits.is_some();
        let wrong = match size.checked_sub(1) {
            Some(last) if bound => Wrong::Root { from, last },
            Some(last) => Wrong::RootUnbound { from, last },
            None => Wrong::RootEmpty,
        };
        self.fault(self.signatures.path().to_owned(), signed.line, wrong);
    }

    fn end(mut self, given: &Given) -> io::Result<Report> {
        let cut = self.pending.take().filter(|_| !self.broken);
        if let Some(signed) = cut {
            let (covered, found) = (signed.checkpoint.size, self.chain.next);
            let wrong = Wrong::CutOff { covered, found };
            self.fault(self.signatures.path().to_owned(), signed.line, wrong);
        }
        // The rest is read for its signatures alone.
        while self.next_signed()?.is_some() {}
        let whole = !self.broken;
        if let Some(fault) = self.signatures.fault.take() {
            self.report.faults.insert(0, fault);
        }
        if self.report.first > 0 && whole {
            self.say_dropped();
        }
        if self.signatures.count == 0 {
            self.nothing_signed();
        }
        let keys = &self.signatures.keys;
        if let Some(key) = given.key.as_ref().filter(|key| !keys.contains(key)) {
            self.report
                .faults
                .push(Fault::given(Wrong::Foreign(key.clone())));
        }
        self.report.faults.extend(self.held_form.take());
        let held = self.judge_held(given, whole);
        (self.report.next, self.report.head) = (self.chain.next, self.chain.head);
        self.prove(given, held);
        Ok(self.report)
    }

    fn nothing_signed(&mut self) {
        let wrong = if self.names.is_empty() && self.signatures.is_absent() {
            Wrong::Nothing
        } else if !self.roots.is_empty() && self.chain.next > 0 {
            Wrong::NoCheckpoints
        } else {
            self.report.unprovable.push(Unprovable::Unsigned);
            return;
        };
        let place = if wrong == Wrong::Nothing {
            self.directory
        } else {
            self.signatures.path()
        };
        self.report
            .faults
            .push(Fault::at(place.to_owned(), 0, wrong));
    }

    fn say_dropped(&mut self) {
        let before = self.report.first;
        // A kill between the record and the removal leaves more than the record says.
        match self.dropped.filter(|(next, _)| *next >= before) {
            Some((_, said)) => {
                let signed = self
                    .fits
                    .as_ref()
                    .is_some_and(|(it, _)| it.checkpoint.size > said);
                let trimmed = self.signatures.trimmed;
                self.report.unprovable.push(Unprovable::Dropped {
                    before,
                    said,
                    signed,
                    trimmed,
                });
            }
            None => {
                let fault = Fault::at(self.segment(0), 1, Wrong::NotDropped);
                self.report.faults.push(fault);
            }
        }
    }

    /// The size and time of the checkpoint that was given, if it is one of this log's.
    fn judge_held(&mut self, given: &Given, whole: bool) -> Option<(u64, Option<Timestamp>)> {
        let held = self.held.take()?;
        let Checkpoint {
            size, time, origin, ..
        } = held.checkpoint;
        let mut keys = self.signatures.keys.clone();
        keys.extend(given.key.clone());
        let own = self.signatures.last().map(|last| &last.checkpoint.origin);
        let wrong = if held.note.by(&keys).is_err() {
            Wrong::HeldSigner
        } else if own.is_some_and(|own| *own != origin) {
            Wrong::HeldOrigin(origin)
        } else if held.fits == Some(false) {
            Wrong::HeldRoot(size)
        } else if size > self.chain.next && whole {
            let found = self.chain.next;
            Wrong::HeldBeyond {
                covered: size,
                found,
            }
        } else if !held.among && size < self.report.first {
            self.report.unprovable.push(Unprovable::HeldDropped(size));
            return None;
        } else if !held.among && whole && self.report.faults.is_empty() {
            Wrong::HeldNotAmong
        } else {
            return held.fits.is_some().then_some((size, time));
        };
        self.report.faults.push(Fault::given(wrong));
        None
    }

    fn prove(&mut self, given: &Given, held: Option<(u64, Option<Timestamp>)>) {
        let report = &mut self.report;
        report.checkpoints = self.signatures.count;
        report.origin = self
            .signatures
            .last()
            .map(|last| last.checkpoint.origin.clone());
        let keys = &self.signatures.keys;
        let trust = |_: &VerifierKey| Trust::Given;
        let trust = given.key.as_ref().map_or(Trust::Directory, trust);
        let fits = self.fits.take();
        // Where the only checkpoints left cover dropped records, nothing that there is is signed.
        let to = fits
            .as_ref()
            .map_or(report.first, |(it, _)| it.checkpoint.size);
        let newest = fits.as_ref().map(|(it, _)| it).or(self.signatures.last());
        let newest = newest.map(|it| it.checkpoint.time);
        if let (Some((signed, last)), Some(key)) = (fits, keys.last()) {
            report.proven = Some(Proven {
                from: report.first,
                to,
                since: self.first_line.as_deref().and_then(time_of),
                until: last.as_deref().and_then(time_of),
                signed: signed.checkpoint.time,
                key: key.clone(),
                keys: keys.len(),
                trust,
                held,
            });
        }
        let unprovable = &mut report.unprovable;
        if let (Some(signed), Some(key)) = (newest, keys.last()) {
            if to < report.next {
                let (from, to) = (to, report.next);
                unprovable.insert(0, Unprovable::Tail { from, to });
            }
            let held = held.map(|(_, time)| time);
            unprovable.push(Unprovable::CutOff { signed, held });
            if trust == Trust::Directory {
                unprovable.push(Unprovable::Key(key.clone()));
            }
        }
        if self.signatures.torn {
            unprovable.push(Unprovable::TornCheckpoint);
        }
        if self.roots.unusable > 0 {
            unprovable.push(Unprovable::Roots(self.roots.unusable));
        }
        let went_back = self.signatures.clock_went_back;
        unprovable.extend([Unprovable::Clocks { went_back }, Unprovable::Elsewhere]);
    }
}

/// The segments as far as they count, and how many bytes that is.
pub fn parts(directory: &Path, names: &[String]) -> Result<(Vec<Part>, u64), LedgerError> {
    let mut parts = Vec::new();
    let mut all = 0;
    for (position, name) in names.iter().enumerate() {
        let path = directory.join(name);
        let next = names.get(position + 1);
        let kept = next.and_then(|next| kept_of(&directory.join(next), name));
        let limit = kept.unwrap_or(u64::MAX);
        let bytes = std::fs::metadata(&path).map_err(|error| LedgerError::io(&path, &error))?;
        all += bytes.len().min(limit);
        parts.push(Part { path, limit });
    }
    Ok((parts, all))
}

/// How many bytes of segment `name` count, if the first record of `next` says so.
fn kept_of(next: &Path, name: &str) -> Option<u64> {
    let mut line = Vec::new();
    let reader = BufReader::new(File::open(next).ok()?);
    reader
        .take(LINE_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut line)
        .ok()?;
    let record = canonical::value(line.strip_suffix(b"\n")?)?;
    let fault = record["kind"] == "gate" && record["change"] == "fault";
    (fault && record["segment"] == name).then(|| record["kept_bytes"].as_u64())?
}

/// Bytes of a file from a place on, and whether there is a NUL in the line that begins there.
fn rest(path: &Path, from: u64) -> io::Result<(u64, bool)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut bytes, mut hole, mut ended) = (0, false, false);
    loop {
        let text = reader.fill_buf()?;
        if text.is_empty() {
            return Ok((bytes, hole));
        }
        let end = text.iter().position(|&byte| byte == b'\n');
        hole |= !ended && text[..end.unwrap_or(text.len())].contains(&0);
        ended |= end.is_some();
        let count = text.len();
        bytes += count as u64;
        reader.consume(count);
    }
}
