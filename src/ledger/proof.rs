//! Proofs about a log that are checked without the log (RFC 6962 section 2.1, RFC 9162 section 2.1): that a record is in the
//! tree of a checkpoint, and that one checkpoint's tree goes on from another's.
//!
//! A proof of inclusion is written as C2SP tlog-proof: the record's line as its extra data, its index, hashes, and the signed
//! checkpoint. Whoever has the log's verifier key can check it with any tool for that format; nothing else is needed. The log
//! is streamed once to make one, and of segments that were dropped `roots` has what is left of them.

use super::LedgerError;
use super::checkpoint::Checkpoint;
use super::note::{Note, NoteError, VerifierKey};
use super::tree::{Hash, Tree, leaf, node};
use super::verify::{self, Leaves};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ops::Range;
use std::path::Path;

/// That a record is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The record's line, without its newline.
    pub line: Vec<u8>,
    /// Its `seq`.
    pub index: u64,
    /// From the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Not of the format.
    #[error("it is not a proof (c2sp.org/tlog-proof@v1, with the record as its extra data)")]
    Form,
    /// Of what it holds, the checkpoint is not what it should be.
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    /// The record was changed, or is another's.
    #[error("its record is not the one that the checkpoint covers at this place: it was changed")]
    Record,
}

/// Why no proof can be made.
#[derive(Debug, thiserror::Error)]
pub enum NoProof {
    /// Files can't be read.
    #[error(transparent)]
    Io(#[from] LedgerError),
    /// It was dropped.
    #[error("record {seq} was dropped: the oldest there is is {first}")]
    Dropped {
        /// The one asked for.
        seq: u64,
        /// The oldest.
        first: u64,
    },
    /// No checkpoint covers it.
    #[error(
        "record {seq} is not covered by the checkpoint, which covers {size} records: take a newer one, or wait a second"
    )]
    Uncovered {
        /// The one asked for.
        seq: u64,
        /// Of the checkpoint.
        size: u64,
    },
    /// There is none.
    #[error("there is no checkpoint here, or not a good one: `toolgate ledger verify` says more")]
    NoCheckpoint,
    /// The log and the checkpoint disagree.
    #[error(
        "the records here are not those that the checkpoint covers: `toolgate ledger verify` says which was changed"
    )]
    Differs,
}

impl Proof {
    /// Proves that record `seq` is under a checkpoint: the one given as a signed note, or the directory's newest.
    ///
    /// # Errors
    /// [`NoProof`].
    pub fn make(directory: &Path, seq: u64, given: Option<&[u8]>) -> Result<Self, NoProof> {
        let note = match given {
            Some(note) => note.to_vec(),
            None => verify::newest_note(directory)?.ok_or(NoProof::NoCheckpoint)?,
        };
        let read = Note::parse(&note).map_err(|_| NoProof::NoCheckpoint)?;
        let checkpoint = Checkpoint::of(&read).ok_or(NoProof::NoCheckpoint)?;
        let size = checkpoint.size;
        if seq >= size {
            return Err(NoProof::Uncovered { seq, size });
        }
        let leaves = verify::leaves(directory)?;
        let first = leaves.start.size();
        if seq < first {
            return Err(NoProof::Dropped { seq, first });
        }
        let mut line = Vec::new();
        let hashes = hashes(leaves, inclusion(seq, size), size, |at, text| {
            if at == seq {
                line = text.to_vec();
            }
        })?;
        let proof = Proof {
            line,
            index: seq,
            hashes,
            note: String::from_utf8(note).map_err(|_| NoProof::NoCheckpoint)?,
        };
        match proof.root(size) == Some(checkpoint.root) {
            true => Ok(proof),
            false => Err(NoProof::Differs),
        }
    }

    fn root(&self, size: u64) -> Option<Hash> {
        root_of_inclusion(leaf(&self.line), self.index, size, &self.hashes)
    }

    /// As C2SP tlog-proof has it.
    pub fn to_text(&self) -> String {
        let extra = STANDARD.encode(&self.line);
        let mut text = format!("{HEAD}\nextra {extra}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text += &STANDARD.encode(hash);
            text.push('\n');
        }
        text + "\n" + &self.note
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Unproven::Form`].
    pub fn parse(text: &str) -> Result<Self, Unproven> {
        let read = || {
            let (head, note) = text.split_once("\n\n")?;
            let mut lines = head.split('\n');
            let known = lines.next()? == HEAD;
            let line = STANDARD
                .decode(lines.next()?.strip_prefix("extra ")?)
                .ok()?;
            let digits = lines.next()?.strip_prefix("index ")?;
            let index: u64 = digits.parse().ok()?;
            let hash = |line: &str| STANDARD.decode(line).ok()?.try_into().ok();
            let hashes = lines.map(hash).collect::<Option<Vec<Hash>>>()?;
            let note = note.to_owned();
            let proof = Proof {
                line,
                index,
                hashes,
                note,
            };
            (known && index.to_string() == digits).then_some(proof)
        };
        read().ok_or(Unproven::Form)
    }

    /// What the checkpoint says, if a key signed it and the record is in its tree.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn check(&self, key: &VerifierKey) -> Result<Checkpoint, Unproven> {
        let note = Note::parse(self.note.as_bytes())?;
        note.by(std::slice::from_ref(key))?;
        let checkpoint = Checkpoint::of(&note).ok_or(NoteError::Form)?;
        let numbered = verify::record(&self.line).is_some_and(|it| it.seq == self.index);
        match numbered && self.root(checkpoint.size) == Some(checkpoint.root) {
            true => Ok(checkpoint),
            false => Err(Unproven::Record),
        }
    }
}

/// The roots of these ranges of leaves, in their order.
fn hashes(
    leaves: Leaves,
    ranges: Vec<Range<u64>>,
    size: u64,
    mut see: impl FnMut(u64, &[u8]),
) -> Result<Vec<Hash>, NoProof> {
    let mut trees: Vec<Tree> = ranges
        .iter()
        .map(|range| part(&leaves.start, range))
        .collect();
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|at| ranges[*at].start);
    let (mut next, mut here) = (leaves.start.size(), 0);
    leaves.each(|text, leaf| {
        while order.get(here).is_some_and(|at| ranges[*at].end <= next) {
            here += 1;
        }
        if let Some(at) = order.get(here).filter(|at| ranges[**at].contains(&next)) {
            trees[*at].push(*leaf);
        }
        see(next, text);
        next += 1;
        next < size
    })?;
    let whole = |(tree, range): (&Tree, &Range<u64>)| tree.size() == range.end - range.start;
    match trees.iter().zip(&ranges).all(whole) {
        true => Ok(trees.iter().map(Tree::root).collect()),
        false => Err(NoProof::Differs),
    }
}

/// What a frontier has of a range: all of it that lies before its end, for what is asked about lies behind that.
fn part(start: &Tree, range: &Range<u64>) -> Tree {
    let (mut at, mut nodes, mut size) = (0, Vec::new(), 0);
    let widths = (0..u64::BITS)
        .rev()
        .map(|bit| 1 << bit)
        .filter(|width| start.size() & width > 0);
    for (width, hash) in widths.zip(start.frontier()) {
        if range.start <= at && at + width <= range.end {
            nodes.push(*hash);
            size += width;
        }
        at += width;
    }
    Tree::of(size, nodes).unwrap_or_default()
}

/// Which subtrees' roots lead from leaf `index` to the root (RFC 6962 section 2.1.1), the leaf's sibling first.
pub fn inclusion(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    let (mut low, mut high) = (0, size);
    while high - low > 1 && (low..high).contains(&index) {
        let middle = low + split(high - low);
        if index < middle {
            path.push(middle..high);
            high = middle;
        } else {
            path.push(low..middle);
            low = middle;
        }
    }
    path.reverse();
    path
}

/// Which subtrees' roots show that `new` goes on from `old` (RFC 6962 section 2.1.2).
pub fn consistency(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    let (mut low, mut high) = (0, new);
    if old == 0 || old >= new {
        return path;
    }
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            path.push(middle..high);
            high = middle;
        } else {
            path.push(low..middle);
            low = middle;
        }
    }
    // The old tree itself, whole, needs no telling.
    if low > 0 {
        path.push(low..high);
    }
    path.reverse();
    path
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The root that a leaf and these hashes make (RFC 9162 section 2.1.3.2). `None`: they are too few or too many.
pub fn root_of_inclusion(leaf: Hash, index: u64, size: u64, hashes: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let path = inclusion(index, size);
    if path.len() != hashes.len() {
        return None;
    }
    let grow = |hash, (range, other): (&Range<u64>, &Hash)| match range.start > index {
        true => node(&hash, other),
        false => node(other, &hash),
    };
    Some(path.iter().zip(hashes).fold(leaf, grow))
}

/// Whether these hashes show that the tree of the `new` root goes on from the `old` one (RFC 9162 section 2.1.4.2).
pub fn is_consistent(old: (u64, Hash), new: (u64, Hash), hashes: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size >= new_size {
        let same = old_size < new_size || (old_size == new_size && old_root == new_root);
        return same && hashes.is_empty();
    }
    let path = consistency(old_size, new_size);
    if path.len() != hashes.len() {
        return false;
    }
    let mut steps = path.iter().zip(hashes);
    // Both roots grow from the largest subtree that ends where the old tree ends.
    let (mut before, mut after) = match old_size.is_power_of_two() {
        true => (old_root, old_root),
        false => match steps.next() {
            Some((_, hash)) => (*hash, *hash),
            None => return false,
        },
    };
    for (range, hash) in steps {
        if range.start >= old_size {
            after = node(&after, hash);
        } else {
            (before, after) = (node(hash, &before), node(hash, &after));
        }
    }
    before == old_root && after == new_root
}

/// First line of every proof.
const HEAD: &str = "c2sp.org/tlog-proof@v1";

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves of RFC 6962's own test data, and of any.
    fn lines(count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|at| at.to_be_bytes().to_vec()).collect()
    }

    fn root(lines: &[Vec<u8>]) -> Hash {
        let mut tree = Tree::default();
        lines.iter().for_each(|line| tree.push(leaf(line)));
        tree.root()
    }

    fn roots(lines: &[Vec<u8>], ranges: &[Range<u64>]) -> Vec<Hash> {
        let of = |range: &Range<u64>| root(&lines[range.start as usize..range.end as usize]);
        ranges.iter().map(of).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proven_and_no_other() {
        for size in 1..40 {
            let lines = lines(size);
            let top = root(&lines);
            for index in 0..size {
                let mut hashes = roots(&lines, &inclusion(index, size));
                let of = |index, hashes: &[Hash]| {
                    root_of_inclusion(leaf(&lines[index as usize]), index, size, hashes)
                };
                assert_eq!(of(index, &hashes), Some(top), "{index} of {size}");
                let other = (index + 1) % size;
                assert!(
                    size == 1 || of(other, &hashes) != Some(top),
                    "{index} of {size}"
                );
                hashes.push([0; 32]);
                assert_eq!(of(index, &hashes), None);
            }
        }
    }

    #[test]
    fn every_small_tree_goes_on_from_every_smaller_one_and_from_no_other() {
        for new in 1..40 {
            let lines = lines(new);
            for old in 1..=new {
                let (from, to) = ((old, root(&lines[..old as usize])), (new, root(&lines)));
                let hashes = roots(&lines, &consistency(old, new));
                assert!(is_consistent(from, to, &hashes), "{old} of {new}");
                assert!(
                    !is_consistent((old, [1; 32]), to, &hashes),
                    "{old} of {new}"
                );
                assert!(
                    !is_consistent(from, (new, [1; 32]), &hashes),
                    "{old} of {new}"
                );
            }
        }
    }

    /// RFC 6962 section 2.1.3: the example of seven leaves.
    #[test]
    fn the_standards_own_example_has_the_paths_that_it_says() {
        assert_eq!(inclusion(0, 7), [1..2, 2..4, 4..7]);
        assert_eq!(inclusion(3, 7), [2..3, 0..2, 4..7]);
        assert_eq!(inclusion(4, 7), [5..6, 6..7, 0..4]);
        assert_eq!(inclusion(6, 7), [4..6, 0..4]);
        assert_eq!(consistency(3, 7), [2..3, 3..4, 0..2, 4..7]);
        assert_eq!(consistency(4, 7), vec![4..7]);
        assert_eq!(consistency(6, 7), [4..6, 6..7, 0..4]);
    }

    /// Published vectors, where they are: the folder that TOOLGATE_CORPORA names.
    #[test]
    fn published_roots_and_proofs_are_ours() {
        let Ok(folder) = std::env::var("TOOLGATE_CORPORA") else {
            println!("skipped: TOOLGATE_CORPORA is not set");
            return;
        };
        let file = Path::new(&folder).join("tlog_vectors.json");
        let corpus: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let vectors = &corpus["rfc6962"];
        let bytes = |text: &serde_json::Value| -> Vec<u8> {
            let text = text.as_str().unwrap();
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(byte).collect()
        };
        let list = |value: &serde_json::Value| -> Vec<Vec<u8>> {
            value.as_array().unwrap().iter().map(bytes).collect()
        };
        let lines = list(&vectors["leaves_hex"]);
        for (size, said) in list(&vectors["roots_by_size"]).iter().enumerate() {
            assert_eq!(root(&lines[..size]).to_vec(), *said);
        }
        let mut count = 0;
        for said in vectors["inclusion"].as_array().unwrap() {
            let (index, size) = (
                said["index"].as_u64().unwrap(),
                said["size"].as_u64().unwrap(),
            );
            let ours = roots(&lines, &inclusion(index, size));
            let ours: Vec<Vec<u8>> = ours.iter().map(|hash| hash.to_vec()).collect();
            assert_eq!(ours, list(&said["proof"]), "{index} of {size}");
            count += 1;
        }
        for said in vectors["consistency"].as_array().unwrap() {
            let (old, new) = (said["old"].as_u64().unwrap(), said["new"].as_u64().unwrap());
            let ours = roots(&lines, &consistency(old, new));
            let ours: Vec<Vec<u8>> = ours.iter().map(|hash| hash.to_vec()).collect();
            assert_eq!(ours, list(&said["proof"]), "{old} of {new}");
            count += 1;
        }
        assert!(count > 60);
        let note = &corpus["signed_note"];
        let key = [VerifierKey::parse(note["vkey"].as_str().unwrap()).unwrap()];
        let judge = |text: &serde_json::Value| {
            let note = Note::parse(text.as_str().unwrap().as_bytes());
            note.and_then(|note| note.by(&key).map(|_| ()))
        };
        assert_eq!(judge(&note["note"]), Ok(()));
        for bad in corpus["signed_note_negative"].as_array().unwrap() {
            assert!(judge(&bad["note"]).is_err(), "{}", bad["why"]);
        }
    }
}
