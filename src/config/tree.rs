//! YAML text -> a tree in which every key and every value knows its place.
//!
//! The tree is built from the event stream of the YAML reader, so that one file's errors are found together: nothing
//! stops at the first wrong key, as a derived deserialiser would. What would make a value depend on anything but the
//! line it stands on is refused: anchors and aliases, merge keys, tags, further documents, directives; and what
//! readers of YAML disagree on: duplicate keys.

use super::error::{Place, Reports};
use super::read::hide_secrets;
use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Span};
use std::borrow::Cow;
use std::collections::HashMap;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node<'s> {
    pub place: Place,
    pub value: Value<'s>,
}

#[derive(Debug)]
pub(super) enum Value<'s> {
    Scalar(Scalar<'s>),
    List(Vec<Node<'s>>),
    Map(Vec<Entry<'s>>),
}

/// A scalar's text. Whether it may be read as something other than a string depends on its being plain.
#[derive(Debug)]
pub(super) struct Scalar<'s> {
    pub text: Cow<'s, str>,
    pub plain: bool,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry<'s> {
    pub key: Cow<'s, str>,
    pub key_place: Place,
    pub node: Node<'s>,
}

impl Node<'_> {
    /// `key:` with nothing behind it, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.plain && matches!(&*scalar.text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Where to point when something is missing in it: its first key, else itself.
    pub fn opening(&self) -> Place {
        match &self.value {
            Value::Map(entries) => entries.first().map_or(self.place, |entry| entry.key_place),
            Value::List(_) | Value::Scalar(_) => self.place,
        }
    }

    /// The text of a scalar directly under it.
    pub fn child_text(&self, key: &str) -> Option<&str> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        match &entry.node.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Reads one document. `None`: the syntax is broken, and why is in `reports`.
pub(super) fn parse<'s>(text: &'s str, reports: &mut Reports) -> Option<Node<'s>> {
    let mut options = granit_parser::options! {
        strict_indentation: true,
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => {
                let place = place_of(&span);
                if let Err(stop) = builder.take(event, place, reports) {
                    reports.error(place, stop.message, stop.help);
                    return None;
                }
            }
            Err(error) => {
                report_syntax(&error, text, reports);
                return None;
            }
        }
    }
    if builder.root.is_none() {
        reports.error(
            Place::default(),
            "this file is empty",
            "it begins with `version: 1`; `toolgate schema server` and `toolgate schema project` describe what follows",
        );
    }
    builder.root
}

/// What ends the reading of a file at once.
struct Stop {
    message: &'static str,
    help: &'static str,
}

#[derive(Default)]
struct Builder<'s> {
    open: Vec<Open<'s>>,
    root: Option<Node<'s>>,
    documents: usize,
    nodes: usize,
}

/// A collection that is being filled.
struct Open<'s> {
    place: Place,
    items: Items<'s>,
}

enum Items<'s> {
    List(Vec<Node<'s>>),
    Map {
        entries: Vec<Entry<'s>>,
        key: Option<(Cow<'s, str>, Place)>,
    },
}

impl<'s> Builder<'s> {
    fn take(&mut self, event: Event<'s>, place: Place, reports: &mut Reports) -> Result<(), Stop> {
        if let Some(tag) = event.tag() {
            let message = format!("the tag `{}` is not read here", tag.original());
            reports.error(place, message, "remove it; a value means what it says");
        }
        if event.anchor_id().is_some_and(|id| id != 0) {
            reports.error(
                place,
                "anchors are not read here",
                "remove the `&name` and write the value out where it is used",
            );
        }
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                self.put(place, Value::Scalar(Scalar { text, plain }), reports)
            }
            Event::SequenceStart(..) => self.begin(place, Items::List(Vec::new()), reports),
            Event::MappingStart(..) => {
                let (entries, key) = (Vec::new(), None);
                self.begin(place, Items::Map { entries, key }, reports)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(place, reports),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                reports.error(
                    place,
                    "aliases are not read here",
                    "write the value out: each line of a policy says all it means",
                );
                let (text, plain) = (Cow::Borrowed("alias"), false);
                self.put(place, Value::Scalar(Scalar { text, plain }), reports)
            }
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Stop {
                        message: "a second document begins here",
                        help: "one file holds one document: move what follows `---` to a file of its own",
                    });
                }
                Ok(())
            }
            // Comments and anchor metadata are switched off; the rest opens and closes the stream.
            _ => Ok(()),
        }
    }

    fn begin(&mut self, place: Place, items: Items<'s>, reports: &mut Reports) -> Result<(), Stop> {
        if let Some(Open {
            items: Items::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            reports.error(
                place,
                "a key must be a plain word",
                "lists and mappings can't be keys; is a quotation mark missing around `{...}`?",
            );
        }
        self.open.push(Open { place, items });
        Ok(())
    }

    fn end(&mut self, end: Place, reports: &mut Reports) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let place = Place {
            start: open.place.start,
            end: end.end.max(open.place.end),
        };
        let value = match open.items {
            Items::List(items) => Value::List(items),
            Items::Map { entries, .. } => Value::Map(without_duplicates(entries, reports)),
        };
        self.put(place, value, reports)
    }

    fn put(&mut self, place: Place, value: Value<'s>, reports: &mut Reports) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Stop {
                message: "this file has more values than can be read",
                help: "split it into several projects",
            });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(Node { place, value });
            return Ok(());
        };
        match &mut open.items {
            Items::List(items) => items.push(Node { place, value }),
            Items::Map { entries, key } => match (key.take(), value) {
                (None, Value::Scalar(scalar)) => {
                    if scalar.plain && scalar.text == "<<" {
                        reports.error(
                            place,
                            "merge keys are not read here",
                            "write the keys out where they apply",
                        );
                    }
                    *key = Some((scalar.text, place));
                }
                // Reported by `begin`.
                (None, Value::List(_) | Value::Map(_)) => *key = Some((Cow::Borrowed(""), place)),
                (Some((key, key_place)), value) => entries.push(Entry {
                    key,
                    key_place,
                    node: Node { place, value },
                }),
            },
        }
        Ok(())
    }
}

/// Each later one of equal keys is reported and dropped, so that it is not judged twice.
fn without_duplicates<'s>(entries: Vec<Entry<'s>>, reports: &mut Reports) -> Vec<Entry<'s>> {
    let mut first: HashMap<Cow<'s, str>, Place> = HashMap::with_capacity(entries.len());
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(place) = first.get(&entry.key) else {
            first.insert(entry.key.clone(), entry.key_place);
            kept.push(entry);
            continue;
        };
        let line = reports.line_of(*place);
        hide_secrets(&entry, false, reports);
        reports.error(
            entry.key_place,
            format!(
                "duplicate key `{}`: it is already on line {line}",
                entry.key
            ),
            "keep one of the two",
        );
    }
    kept
}

fn report_syntax(error: &ScanError, text: &str, reports: &mut Reports) {
    let start = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let place = Place::new(start..(start + 1).min(text.len()));
    let line = text[..floor(text, start)]
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let indent = text[line..]
        .find(|c| c != ' ')
        .map_or(text.len(), |at| line + at);
    let shown = text[line..].lines().next().unwrap_or_default();
    let braces = shown.match_indices('{').any(|(at, _)| {
        shown[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | ':' | '_'))
    });
    let help = if text[indent..].starts_with('\t') {
        "indent with spaces: YAML does not take tabs"
    } else if braces {
        "within `[...]` and `{...}`, put text with braces in quotes: `[\"GET /users/{user_id}\"]`"
    } else {
        "check quotes, brackets and indentation on this line and the one above"
    };
    hide_values(text, reports);
    reports.error(place, format!("this is not YAML: {}", error.info()), help);
}

/// Where the syntax is broken no place is known to hold a secret; so whatever stands behind `value:` and `key:` is hidden.
fn hide_values(text: &str, reports: &mut Reports) {
    for name in ["value:", "key:"] {
        for (at, _) in text.match_indices(name) {
            let start = at + name.len();
            let end = text[start..]
                .find('\n')
                .map_or(text.len(), |end| start + end);
            reports.hide(Place::new(start..end));
        }
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn place_of(span: &Span) -> Place {
    Place::new(span.byte_range().unwrap_or(0..0))
}

/// Deepest nesting; the schema needs 9.
const DEPTH_MAX: usize = 32;
/// Most values in one file: a route takes about 12, so this is well past 100,000 of them.
const NODES_MAX: usize = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn errors(text: &str) -> Vec<String> {
        let mut reports = Reports::new(Path::new("t.yaml"), text.into());
        parse(text, &mut reports);
        let (errors, _) = reports.into_reports();
        errors
            .iter()
            .map(|e| format!("{}:{}: {}", e.line, e.column, e.message))
            .collect()
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "a: 1\nlist:\n  - x: \"é\"\n    y: [1, 'two']\n";
        let mut reports = Reports::new(Path::new("t.yaml"), text.into());
        let root = parse(text, &mut reports).unwrap();
        let Value::Map(entries) = &root.value else {
            panic!("a map")
        };
        let list = &entries[1];
        assert_eq!(
            &text[list.key_place.start as usize..list.key_place.end as usize],
            "list"
        );
        let Value::List(items) = &list.node.value else {
            panic!("a list")
        };
        let Value::Map(inner) = &items[0].value else {
            panic!("a map")
        };
        let of = |place: Place| &text[place.start as usize..place.end as usize];
        assert_eq!(of(inner[0].node.place), "\"é\"");
        assert_eq!(of(inner[1].node.place), "[1, 'two']");
    }

    #[test]
    fn several_faults_of_form_are_reported_together() {
        assert_eq!(
            errors("a: &x 1\nb: *x\na: 2\nc: !!str 3\n<<: 4\n"),
            [
                "1:7: anchors are not read here",
                "2:4: aliases are not read here",
                "3:1: duplicate key `a`: it is already on line 1",
                "4:10: the tag `!!str` is not read here",
                "5:1: merge keys are not read here",
            ]
        );
    }

    #[test]
    fn a_second_document_an_empty_file_and_broken_syntax_are_refused() {
        assert_eq!(
            errors("a: 1\n---\nb: 2\n"),
            ["2:1: a second document begins here"]
        );
        assert_eq!(errors("# nothing\n"), ["1:1: this file is empty"]);
        assert_eq!(errors("a: [1, 2\nb: 3\n").len(), 1);
        assert_eq!(errors("a:\n\tb: 1\n").len(), 1);
    }
}
