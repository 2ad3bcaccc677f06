//! Reads a ledger as an auditor would: lines, order and chain, with no code of the gate.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use std::path::Path;

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower-case hex of SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Every record of a ledger, after verifying that nothing is missing between them: `seq` counts up by one, and `prev`
/// is the SHA-256 of the line before, across segments too.
pub fn verified(directory: &Path) -> Vec<Value> {
    let records = lines(directory);
    let mut before: Option<&String> = None;
    let mut parsed: Vec<Value> = Vec::new();
    for line in &records {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault}: {line}"));
        if let (Some(before), Some(last)) = (before, parsed.last()) {
            assert_eq!(
                record["seq"].as_u64(),
                last["seq"].as_u64().map(|seq| seq + 1),
                "{line}"
            );
            assert_eq!(
                record["prev"].as_str(),
                Some(sha256(before.as_bytes()).as_str()),
                "{line}"
            );
        }
        before = Some(line);
        parsed.push(record);
    }
    parsed
}

/// The lines of all segments, oldest first.
pub fn lines(directory: &Path) -> Vec<String> {
    let mut segments: Vec<_> = std::fs::read_dir(directory)
        .unwrap_or_else(|fault| panic!("{}: {fault}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "jsonl"))
        .collect();
    segments.sort();
    segments
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.split_terminator('\n')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The records of one kind.
pub fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records
        .iter()
        .filter(|record| record["kind"] == kind)
        .collect()
}
