//! Checkpoints: how many records there were and what their tree's root was, at a time, signed (C2SP tlog-checkpoint).
//!
//! The text is the origin (the log's instance), the size in decimal, the root in base64, and one extension line of ours,
//! `time` and when it was made (RFC 3339, UTC, microseconds): so that a log that stands still can show that it does.

use super::line::rfc3339;
use super::note::{Note, SigningKey};
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
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let Checkpoint { origin, size, .. } = self;
        let root = STANDARD.encode(self.root);
        let mut text = format!("{origin}\n{size}\n{root}\n");
        if let Some(time) = self.time {
            text.push_str(&format!("{TIME}{}\n", rfc3339(time)));
        }
        text
    }

    /// The signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.to_text())
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
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        let mut time = None;
        for line in lines {
            if line.is_empty() {
                return None;
            }
            if let Some(text) = line.strip_prefix(TIME) {
                let read: jiff::Timestamp = text.parse().ok()?;
                time = Some(Timestamp::from_micros(read.as_microsecond()));
            }
        }
        Some(Checkpoint {
            origin: origin.into(),
            size: size.parse().ok()?,
            root,
            time,
        })
    }
}

const TIME: &str = "time ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_says_what_was_signed() {
        let checkpoint = Checkpoint {
            origin: "gate-1".into(),
            size: 10,
            root: [5; 32],
            time: Some(Timestamp::from_micros(1_500_000)),
        };
        let key = SigningKey::new("gate-1", [7; 32]).unwrap();
        let note = Note::parse(checkpoint.sign(&key).as_bytes()).unwrap();
        assert_eq!(Checkpoint::of(&note), Some(checkpoint));
        assert!(
            note.text()
                .ends_with("\ntime 1970-01-01T00:00:01.500000Z\n")
        );
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
            "o\n7\n".to_owned(),
        ] {
            assert_eq!(of(text.clone()), None, "{text}");
        }
    }
}
