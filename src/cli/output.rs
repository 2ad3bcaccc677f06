//! Results on standard output: text, JSON, tables. What came over the network is made harmless before a terminal sees it.

use super::Failure;
use crate::serve::visible::{Lines, visible};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Prints to standard output. A reader that left (`| head`) is not an error.
///
/// # Errors
/// [`Failure::Ours`] if standard output can't be written for another reason.
pub fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(|_| ())
}

/// [`print`], for who has more to print: `false` if the reader left.
///
/// # Errors
/// As [`print`].
pub fn print_on(text: &str) -> Result<bool, Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Ours(format!("standard output: {error}"))),
    }
}

/// [`print`] and a line's end.
///
/// # Errors
/// As [`print`].
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints JSON, indented.
///
/// # Errors
/// As [`print`].
pub fn json(value: &Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// A table without lines, as wide as the terminal. Empty: only `none`, which says what there is none of.
pub fn table(header: &[&str], rows: Vec<Vec<String>>, none: &str) -> String {
    if rows.is_empty() {
        return format!("{none}\n");
    }
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.to_vec())
        .add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// An object of the admin API as `name: value` lines, with a table for each list of objects in it.
pub fn object(value: &Value) -> String {
    let mut text = String::new();
    let Value::Object(members) = value else {
        return plain(value) + "\n";
    };
    let width = members.keys().map(String::len).max().unwrap_or(0) + 1;
    let mut flat: Vec<_> = members
        .iter()
        .filter(|(_, member)| !is_table(member))
        .collect();
    // What it is comes before what it is like.
    flat.sort_by_key(|(name, _)| *name != "id");
    for (name, member) in flat {
        if !member.is_null() {
            let name = harmless(name) + ":";
            let _ = writeln!(text, "{name:width$} {}", plain(member));
        }
    }
    for (name, member) in members.iter().filter(|(_, member)| is_table(member)) {
        let _ = write!(text, "\n{}\n{}", harmless(name), objects(member));
    }
    text
}

fn is_table(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object))
}

/// A list of objects: a column for every member that any of them has.
fn objects(list: &Value) -> String {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    let mut names: Vec<&str> = Vec::new();
    for name in items
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|o| o.keys())
    {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| *name != "id");
    let rows = items
        .iter()
        .map(|item| names.iter().map(|name| plain(&item[name])).collect())
        .collect();
    let header: Vec<String> = names.iter().map(|name| heading(name)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(&header, rows, "none")
}

fn heading(name: &str) -> String {
    harmless(name).replace('_', " ").to_uppercase()
}

/// A JSON value in one line: texts bare, objects as `name=value`.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => harmless(text),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{}={}", harmless(name), plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// Intents, attributes and backends' words come from agents: an escape sequence in them must not reach the terminal of
/// the operator who reads them, nor may text that reorders a line or hides in it. For text within a line.
pub fn harmless(text: &str) -> String {
    visible(text, Lines::One)
}

/// [`harmless`], line by line.
pub fn harmless_lines(text: &str) -> String {
    text.lines().map(harmless).collect::<Vec<_>>().join("\n")
}

/// Puts a colour on the marks in a text that was made harmless; nothing else in it looks like one.
pub fn coloured(text: &str) -> String {
    let style = anstyle::AnsiColor::Yellow.on_default().invert();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("[U+") {
        let end = rest[at..]
            .find(']')
            .map_or(rest.len(), |length| at + length + 1);
        out.push_str(&rest[..at]);
        let _ = write!(out, "{style}{}{style:#}", &rest[at..end]);
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_escape_sequence_from_an_agent_is_shown_not_obeyed() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{202e}"), "a[U+001B][2Jb[U+202E]");
        assert!(coloured("a[U+001B]b").contains("m[U+001B]\u{1b}["));
        assert_eq!(harmless("Größe 7"), "Größe 7");
    }

    #[test]
    fn an_object_prints_its_members_and_a_table_for_each_list_of_objects() {
        let text = object(&json!({
            "id": "ses_1", "parent": null, "attributes": {"customer_id": "7"},
            "grants": [{"id": "grt_1", "uses_left": 1}, {"id": "grt_2", "resource": "user:7"}],
        }));
        assert!(
            text.starts_with("id:         ses_1\nattributes: customer_id=7\n"),
            "{text}"
        );
        assert!(!text.contains("parent"), "{text}");
        assert!(
            text.contains("\ngrants\nID     USES LEFT  RESOURCE\n"),
            "{text}"
        );
        assert!(text.contains("grt_2  -          user:7"), "{text}");
    }

    #[test]
    fn an_empty_table_says_so_in_words() {
        assert_eq!(table(&["ID"], Vec::new(), "no sessions"), "no sessions\n");
    }
}
