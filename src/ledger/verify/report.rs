//! What a verification found: what is proven, what nobody can prove from these files, and what is wrong with them.

use super::LineFault;
use crate::ledger::line::rfc3339;
use crate::ledger::note::VerifierKey;
use crate::ledger::tree::Hash;
use crate::policy::time::Timestamp;
use std::fmt;
use std::path::PathBuf;

/// All that was found. Good if there are no faults.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The log's name, as its checkpoints have it.
    pub origin: Option<Box<str>>,
    /// Segments there are.
    pub segments: usize,
    /// `seq` of the first record there is.
    pub first: u64,
    /// `seq` behind the last record that follows from those before it.
    pub next: u64,
    /// Digest of that record's line.
    pub head: Hash,
    /// Good checkpoints.
    pub checkpoints: u64,
    /// What is signed and as it was signed.
    pub proven: Option<Proven>,
    /// What can't be proven, each in words.
    pub unprovable: Vec<Unprovable>,
    /// What is wrong, each once.
    pub faults: Vec<Fault>,
}

/// Records that are, each of them, in this order and without a gap, what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The first.
    pub from: u64,
    /// Behind the last.
    pub to: u64,
    /// When the first was made, as the gate's clock had it.
    pub since: Option<Timestamp>,
    /// And the last.
    pub until: Option<Timestamp>,
    /// When the checkpoint was made that covers them all; none of these records is newer.
    pub signed: Option<Timestamp>,
    /// Who signed it.
    pub key: VerifierKey,
    /// Keys there were in turn, each but the first brought in by the one before.
    pub keys: usize,
    /// Whose word it is that this is the key.
    pub trust: Trust,
    /// Size and time of the checkpoint that came from outside and is one of this log's.
    pub held: Option<(u64, Option<Timestamp>)>,
}

/// Whose word it is that a key is the log's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The directory's own.
    Directory,
    /// It was given.
    Given,
}

/// What can't be proven from the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unprovable {
    /// Records behind the last checkpoint.
    Tail {
        /// The first.
        from: u64,
        /// Behind the last.
        to: u64,
    },
    /// That nothing was cut off.
    CutOff {
        /// When the newest checkpoint was made.
        signed: Option<Timestamp>,
        /// When the one that came from outside was, where there is one.
        held: Option<Option<Timestamp>>,
    },
    /// Whose key it is.
    Key(VerifierKey),
    /// Nothing is signed.
    Unsigned,
    /// Records that were dropped.
    Dropped {
        /// `seq` behind the last of them.
        before: u64,
        /// `seq` of the record that says so.
        said: u64,
        /// Whether a checkpoint covers that record.
        signed: bool,
        /// Whether checkpoints over them are gone too.
        trimmed: bool,
    },
    /// The checkpoint that came from outside covers only dropped records.
    HeldDropped(u64),
    /// The newest line is being written.
    TornLine {
        /// The segment.
        path: PathBuf,
        /// Of it.
        bytes: u64,
    },
    /// The newest checkpoint is being written.
    TornCheckpoint,
    /// Lines of `roots` that say nothing, and are not needed.
    Roots(u64),
    /// Clocks.
    Clocks {
        /// Checkpoints that are older than the one before.
        went_back: u64,
    },
    /// What never reached the gate.
    Elsewhere,
}

/// One thing that is wrong, and where it shows first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File and line; `None` where it is in what was given to compare with.
    pub place: Option<(PathBuf, u64)>,
    /// What.
    pub wrong: Wrong,
}

impl Fault {
    /// At a line of a file.
    pub fn at(path: PathBuf, line: u64, wrong: Wrong) -> Self {
        let place = Some((path, line));
        Fault { place, wrong }
    }

    /// In what was given.
    pub fn given(wrong: Wrong) -> Self {
        Fault { place: None, wrong }
    }
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A line of a segment.
    #[error(transparent)]
    Line(#[from] LineFault),
    /// A segment bears another's name.
    #[error(
        "the segment's name is not the seq of its first record: segments were renamed or exchanged"
    )]
    Name,
    /// Records are not what was signed, though they follow from one another.
    #[error(
        "the checkpoint here was signed over other records: one of seq {from} to {last} was changed, and what follows it \
         up to {last}, if anything does, was fitted to it"
    )]
    Root {
        /// The first that may have been changed.
        from: u64,
        /// The last.
        last: u64,
    },
    /// The same, where nothing says yet that the tree before the first segment is the right one.
    #[error(
        "the checkpoint here was signed over other records: one of seq {from} to {last} was changed, or the line of `roots` \
         for the first segment there is"
    )]
    RootUnbound {
        /// The first that may have been changed.
        from: u64,
        /// The last.
        last: u64,
    },
    /// Of no records there is one root.
    #[error("the checkpoint here covers no record and has another root than that of nothing")]
    RootEmpty,
    /// The log is shorter than what was signed.
    #[error(
        "the checkpoint here covers {covered} records, and the log ends after {found}: records were cut off"
    )]
    CutOff {
        /// By the checkpoint.
        covered: u64,
        /// In the log.
        found: u64,
    },
    /// Segments are missing before the first, and no record says why.
    #[error("the segments before this one are missing, and no record says that they were dropped")]
    NotDropped,
    /// Where the first segment begins in the tree is not known.
    #[error(
        "earlier segments were dropped, and `roots` has no line for this one: no root of what is left can be computed"
    )]
    RootMissing,
    /// A line of `roots` says otherwise than the records.
    #[error("this line was changed: the records before segment {0} have another root")]
    RootContradicts(String),
    /// Not a signed note, or not of a checkpoint.
    #[error("it is not a signed checkpoint")]
    NotACheckpoint,
    /// The file does not begin with the log's first.
    #[error("the log's first checkpoint, which names its key, is missing")]
    FirstMissing,
    /// An earlier key signed behind a rotation.
    #[error("it is signed by a key that was replaced before")]
    OldKey,
    /// Another key signed.
    #[error("it is not signed by the key that signs here, {0}")]
    OtherKey(VerifierKey),
    /// The signature does not fit.
    #[error(
        "its signature does not fit: it was changed, or signed by somebody else under the key's name"
    )]
    Signature,
    /// Of another log.
    #[error("it is of another log")]
    Origin,
    /// One is missing, or moved.
    #[error("it does not follow from the checkpoint before: one was removed, inserted or moved")]
    Unchained,
    /// It takes records back.
    #[error("it covers fewer records than the {0} of the one before")]
    Shrinks(u64),
    /// There are signs of checkpoints and no checkpoints.
    #[error("there are no checkpoints, and there were: they were removed")]
    NoCheckpoints,
    /// Neither segments nor checkpoints.
    #[error("there is no ledger: neither a segment nor a checkpoint")]
    Nothing,
    /// The key that was given is not one of the log's.
    #[error(
        "no checkpoint here is signed by the key that was given, {0}: another log, or one that was made again"
    )]
    Foreign(VerifierKey),
    /// What was given is not a checkpoint.
    #[error("the checkpoint that was given is not a signed checkpoint")]
    HeldForm,
    /// It is signed by none of the log's keys.
    #[error("the checkpoint that was given is not signed by a key of this log")]
    HeldSigner,
    /// It is of another log.
    #[error("the checkpoint that was given is of another log, {0}")]
    HeldOrigin(Box<str>),
    /// Other records were signed.
    #[error(
        "the checkpoint that was given covers {0} records that are not the {0} here: this is another history of the log"
    )]
    HeldRoot(u64),
    /// There were more records.
    #[error(
        "the checkpoint that was given covers {covered} records, and the log ends after {found}: records were cut off, or an older copy was put back"
    )]
    HeldBeyond {
        /// By the checkpoint.
        covered: u64,
        /// In the log.
        found: u64,
    },
    /// The records are the same, the checkpoints are not.
    #[error(
        "the checkpoint that was given is not among the checkpoints here: they were removed or made again"
    )]
    HeldNotAmong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((path, 0)) => write!(f, "{}: {}", path.display(), self.wrong),
            Some((path, line)) => write!(f, "{}:{line}: {}", path.display(), self.wrong),
            None => self.wrong.fmt(f),
        }
    }
}

impl fmt::Display for Unprovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unprovable::Tail { from, to } => write!(
                f,
                "records {from} to {}, behind the last checkpoint: they follow from one another, and nothing signs them yet",
                to - 1
            ),
            Unprovable::CutOff { signed, held } => cut_off(f, *signed, *held),
            Unprovable::Key(key) => write!(
                f,
                "that {key} is the gate's key: it stands in this directory; compare it, or give the one you know with --key"
            ),
            Unprovable::Unsigned => f.write_str(
                "anything against somebody who can write here: there are no checkpoints, so a whole new chain would pass",
            ),
            Unprovable::Dropped { before, said, signed, trimmed } => {
                write!(f, "what records 0 to {} were: they were dropped, record {said} says so", before - 1)?;
                if *trimmed {
                    f.write_str(", and checkpoints over them with them")?;
                }
                let unsigned = if *signed { "" } else { " (no checkpoint covers that record yet)" };
                f.write_str(unsigned)
            }
            Unprovable::HeldDropped(size) => write!(
                f,
                "that the checkpoint that was given is of this log: the {size} records that it covers were dropped"
            ),
            Unprovable::TornLine { path, bytes } => write!(
                f,
                "the last {bytes} bytes of {}: a line that is still being written, or was torn by a stop",
                path.display()
            ),
            Unprovable::TornCheckpoint => {
                f.write_str("the newest checkpoint: it is still being written, or was torn by a stop")
            }
            Unprovable::Roots(count) => {
                write!(f, "what {count} unreadable lines of `roots` said: nothing here needs them")
            }
            Unprovable::Clocks { went_back: 0 } => {
                f.write_str("that the gate's clock was right: all times are its own")
            }
            Unprovable::Clocks { went_back } => write!(
                f,
                "that the gate's clock was right: all times are its own, and it went back {went_back} times"
            ),
            Unprovable::Elsewhere => f.write_str("what never went through the gate"),
        }
    }
}

fn cut_off(
    f: &mut fmt::Formatter<'_>,
    signed: Option<Timestamp>,
    held: Option<Option<Timestamp>>,
) -> fmt::Result {
    let at = |time: Option<Timestamp>| time.map_or_else(|| "no known time".to_owned(), rfc3339);
    match held {
        Some(time) => write!(
            f,
            "that nothing was cut off behind the checkpoint that you hold, of {}",
            at(time)
        ),
        None => write!(
            f,
            "that nothing was cut off behind the last checkpoint here, of {}, and that this is the log's only history: \
             compare with a checkpoint that was kept elsewhere (--checkpoint)",
            at(signed)
        ),
    }
}
