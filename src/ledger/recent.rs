//! The newest records, read back from the segments' end: what somebody who must decide now wants to see.
//!
//! Bounded in bytes, and blocking: whoever calls it stands beside the data plane. It proves nothing (that is
//! [`super::verify`]'s), asks the writer nothing, and says when the bound kept it from reading all there is.

use super::storage::{first_seq, segments};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// What was found.
#[derive(Debug, Default)]
pub struct Recent {
    /// Oldest first.
    pub records: Vec<Value>,
    /// Whether every record there is was looked at.
    pub complete: bool,
}

/// Records among the last `bytes_max` bytes whose line has `needle` in it.
pub(super) fn containing(directory: &Path, needle: &str, bytes_max: u64) -> io::Result<Recent> {
    let names = segments(directory)?;
    let mut left = bytes_max;
    let mut parts = Vec::new();
    // What a segment has from its successor's first record on was never acknowledged, and stands in that successor.
    let mut end = u64::MAX;
    for name in names.iter().rev() {
        if left == 0 {
            break;
        }
        let mut file = File::open(directory.join(name))?;
        let bytes = file.metadata()?.len();
        let from = bytes.saturating_sub(left);
        left -= bytes - from;
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        // The segment grows meanwhile: no more of it than there was.
        file.take(bytes - from).read_to_end(&mut text)?;
        parts.push((text, from > 0, end));
        end = first_seq(name).unwrap_or(0);
    }
    let complete = parts.len() == names.len() && parts.last().is_none_or(|(_, cut, _)| !cut);
    let mut records = Vec::new();
    for (text, cut, end) in parts.into_iter().rev() {
        let whole = if cut { behind_newline(&text) } else { &text };
        // A last line without its end is being written.
        let lines = whole.split_inclusive(|byte| *byte == b'\n');
        let wanted = lines.filter(|line| line.ends_with(b"\n") && has(line, needle.as_bytes()));
        let parsed = wanted.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        records.extend(parsed.filter(|record| record["seq"].as_u64().is_some_and(|seq| seq < end)));
    }
    Ok(Recent { records, complete })
}

/// From the first whole line on.
fn behind_newline(text: &[u8]) -> &[u8] {
    let newline = text.iter().position(|byte| *byte == b'\n');
    newline.map_or(&[], |at| &text[at + 1..])
}

fn has(line: &[u8], needle: &[u8]) -> bool {
    // Lines are JSON in UTF-8, whatever stands in them.
    match (std::str::from_utf8(line), std::str::from_utf8(needle)) {
        (Ok(line), Ok(needle)) => line.contains(needle),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(recent: &Recent) -> Vec<u64> {
        let seq = |record: &Value| record["seq"].as_u64().unwrap();
        recent.records.iter().map(seq).collect()
    }

    #[test]
    fn the_newest_records_are_found_across_segments_and_a_bound_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let line = |seq: u64, who: &str| format!("{{\"seq\":{seq},\"session\":\"{who}\"}}\n");
        let write =
            |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        let of = |seqs: std::ops::Range<u64>| -> String {
            let who = |seq| if seq % 2 == 0 { "even" } else { "odd" };
            seqs.map(|seq| line(seq, who(seq))).collect()
        };
        // Record 6 of the first segment was never acknowledged; the second begins with its successor.
        write("0000000000000000.jsonl", of(0..7));
        write(
            "0000000000000006.jsonl",
            of(6..9) + "{\"seq\":9,\"session\":\"even",
        );
        let all = containing(folder.path(), "\"even\"", 1 << 20).unwrap();
        assert_eq!((seqs(&all), all.complete), (vec![0, 2, 4, 6, 8], true));
        let bytes = line(0, "even").len() as u64;
        let some = containing(folder.path(), "\"even\"", 6 * bytes).unwrap();
        assert_eq!((seqs(&some), some.complete), (vec![6, 8], false));
        let none = containing(folder.path(), "\"even\"", 3).unwrap();
        assert_eq!((seqs(&none), none.complete), (vec![], false));
    }
}
