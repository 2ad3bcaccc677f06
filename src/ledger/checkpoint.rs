//! Checkpoints: how many records there were and what their tree's root was, at a time, signed (C2SP tlog-checkpoint).
//!
//! The text is the origin (the log's instance), the size in decimal, the root in base64, and extension lines of ours, each at
//! most once, in this order:
//! - `time` and when it was made (RFC 3339, UTC, microseconds): so that a log that stands still can show that it does.
//! - `prev` and the base64 SHA-256 of the text of the checkpoint before: so that none in between can be taken out. Absent in
//!   the first.
//! - `key` and a verifier key: the one that signs every checkpoint after this. In the first it is the log's own first key; in
//!   another one it is a rotation, signed by the key before and by the new one.
//!
//! The file `checkpoints` is one of these notes behind the other, an empty line behind each.

use super::line::{rfc3339, sha256, timestamp};
use super::note::{Note, SigningKey, VerifierKey};
use super::tree::Hash;
use crate::policy::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: its instance.
    pub origin: Box<str>,
    /// Records it covers: `seq` 0 to `size - 1`.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Hash,
    /// When it was made, as the gate's clock had it; `None` of another maker's that does not say.
    pub time: Option<Timestamp>,
    /// [`Checkpoint::digest`] of the one before.
    pub prev: Option<Hash>,
    /// Who signs from here on, where that changes.
    pub key: Option<VerifierKey>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let Checkpoint { origin, size, .. } = self;
        let root = STANDARD.encode(self.root);
        let mut text = format!("{origin}\n{size}\n{root}\n");
        let mut line = |name: &str, value: String| text.push_str(&format!("{name}{value}\n"));
        if let Some(time) = self.time {
            line(TIME, rfc3339(time));
        }
        if let Some(prev) = self.prev {
            line(PREV, STANDARD.encode(prev));
        }
        if let Some(key) = &self.key {
            line(KEY, key.to_string());
        }
        text
    }

    /// The checkpoint of a signed note, whoever signed it. `None`: it is no note, or a note of something else.
    pub fn read(note: &[u8]) -> Option<Self> {
        Self::of(&Note::parse(note).ok()?)
    }

    /// The signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.to_text())
    }

    /// SHA-256 of the text: what the next one has as its `prev`.
    pub fn digest(&self) -> Hash {
        sha256(self.to_text().as_bytes())
    }

    /// Reads what a note says, whoever signed it. `None`: it is not a checkpoint.
    pub fn of(note: &Note) -> Option<Self> {
        let mut lines = note.text().strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let canonical = size == "0" || !size.starts_with('0');
        let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        if origin.is_empty() || !canonical || !digits {
            return None;
        }
        let mut checkpoint = Checkpoint {
            origin: origin.into(),
            size: size.parse().ok()?,
            root: hash(root)?,
            time: None,
            prev: None,
            key: None,
        };
        for line in lines {
            if line.is_empty() {
                return None;
            }
            if let Some(text) = line.strip_prefix(TIME) {
                once(&mut checkpoint.time, timestamp(text)?)?;
            } else if let Some(text) = line.strip_prefix(PREV) {
                once(&mut checkpoint.prev, hash(text)?)?;
            } else if let Some(text) = line.strip_prefix(KEY) {
                once(&mut checkpoint.key, VerifierKey::parse(text).ok()?)?;
            }
        }
        Some(checkpoint)
    }
}

/// The notes in the text of a `checkpoints` file, each as it was signed; what stands behind the last whole one is left out.
/// With each, where it ends in the file, its empty line included.
pub fn notes(file: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let text = find(file, from)?;
        let end = find(file, text + 2)?;
        let note = &file[from..end + 1];
        from = end + 2;
        Some((note, from))
    })
}

/// Where the next empty line begins: the newline before it.
fn find(file: &[u8], from: usize) -> Option<usize> {
    let rest = file.get(from..)?;
    let at = rest.windows(2).position(|pair| pair == b"\n\n")?;
    Some(from + at)
}

fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

const TIME: &str = "time ";
const PREV: &str = "prev ";
const KEY: &str = "key ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_says_what_was_signed() {
        let key = SigningKey::new("gate-1", [7; 32]).unwrap();
        let checkpoint = Checkpoint {
            origin: "gate-1".into(),
            size: 10,
            root: [5; 32],
            time: Some(Timestamp::from_micros(1_500_000)),
            prev: Some([6; 32]),
            key: Some(key.verifier().clone()),
        };
        let note = Note::parse(checkpoint.sign(&key).as_bytes()).unwrap();
        assert_eq!(Checkpoint::of(&note), Some(checkpoint));
        assert!(
            note.text()
                .contains("\ntime 1970-01-01T00:00:01.500000Z\nprev ")
        );
    }

    #[test]
    fn notes_are_read_one_behind_the_other_and_a_torn_one_is_left_out() {
        let key = SigningKey::new("gate-1", [7; 32]).unwrap();
        let (one, two) = (key.sign("a\n"), key.sign("b\nc\n"));
        let file = format!("{one}\n{two}\n");
        let whole: Vec<_> = notes(file.as_bytes()).collect();
        let (first, all) = (one.len() + 1, file.len());
        assert_eq!(whole, [(one.as_bytes(), first), (two.as_bytes(), all)]);
        for cut in 0..file.len() {
            let read = notes(&file.as_bytes()[..cut]).count();
            assert_eq!(read, usize::from(cut > one.len()), "cut at {cut}");
        }
    }

    #[test]
    fn sizes_and_roots_have_one_form() {
        let key = SigningKey::new("gate-1", [7; 32]).unwrap();
        let root = STANDARD.encode([5; 32]);
        let of = |text: String| {
            Checkpoint::of(&Note::parse(key.sign(&text).as_bytes()).expect("a note"))
        };
        assert!(of(format!("o\n0\n{root}\n")).is_some());
        assert!(of(format!("o\n7\n{root}\nother extension\n")).is_some());
        for text in [
            format!("o\n07\n{root}\n"),
            format!("o\n-7\n{root}\n"),
            format!("o\n+7\n{root}\n"),
            format!("o\n\n{root}\n"),
            format!("\n7\n{root}\n"),
            "o\n7\nAAAA\n".to_owned(),
            format!("o\n7\n{root}\n\nx\n"),
            format!("o\n7\n{root}\ntime yesterday\n"),
            format!("o\n7\n{root}\nprev {root}\nprev {root}\n"),
            format!("o\n7\n{root}\nkey gate-1\n"),
            "o\n7\n".to_owned(),
        ] {
            assert_eq!(of(text.clone()), None, "{text}");
        }
    }
}
