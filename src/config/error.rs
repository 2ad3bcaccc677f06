//! What is wrong with a configuration, where, and what cures it.
//!
//! Every step of loading hands its findings to the [`Reports`] of the file it reads and goes on, so that one run shows
//! all of them. Nothing here decides what is an error; it only places, words and draws. A secret that stands in the
//! YAML by mistake is hidden from every excerpt.

use crate::policy::time::Timestamp;
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// All errors of all files of one configuration; `Display` is the whole report, without colours.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    reports: Vec<Report>,
    files: Vec<PathBuf>,
    broken: usize,
}

/// One error.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong, in one line.
    pub message: String,
    /// With place, excerpt and help.
    pub rendered: String,
    /// As `rendered`, with terminal colours.
    pub coloured: String,
}

impl ConfigErrors {
    pub(super) fn new(mut reports: Vec<Report>, files: Vec<PathBuf>, broken: usize) -> Self {
        let more = reports.len().saturating_sub(REPORTS_MAX);
        reports.truncate(REPORTS_MAX);
        if more > 0
            && let Some(last) = reports.last_mut()
        {
            let note = format!("\n\n... and {more} more errors");
            last.rendered.push_str(&note);
            last.coloured.push_str(&note);
        }
        Self {
            reports,
            files,
            broken,
        }
    }

    /// How many tests failed: then nothing else is wrong.
    pub fn broken(&self) -> usize {
        self.broken
    }

    /// Each error: files in the order they were read, top to bottom within one.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Every file that was read, for watching: a cure may come through any of them.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The whole report with terminal colours.
    pub fn coloured(&self) -> String {
        self.joined(|report| &report.coloured)
    }

    fn joined(&self, text: impl Fn(&Report) -> &str) -> String {
        let texts: Vec<&str> = self.reports.iter().map(text).collect();
        texts.join("\n\n")
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(|report| &report.rendered))
    }
}

impl std::error::Error for ConfigErrors {}

/// A range of bytes of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub start: u32,
    pub end: u32,
}

impl Place {
    pub fn new(range: Range<usize>) -> Self {
        let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: clip(range.start),
            end: clip(range.end.max(range.start)),
        }
    }
}

/// One file's text and what was found in it.
#[derive(Debug)]
pub(super) struct Reports {
    path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    found: Vec<Found>,
    /// Warnings that hold from a time on.
    dated: Vec<(Timestamp, Found)>,
    hidden: Vec<Place>,
    subjects: Vec<String>,
    errors: usize,
}

#[derive(Debug)]
struct Found {
    place: Place,
    error: bool,
    message: String,
    help: String,
}

impl Reports {
    pub fn new(path: &Path, text: String) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        Self {
            path: path.to_owned(),
            text,
            line_starts,
            found: Vec::new(),
            dated: Vec::new(),
            hidden: Vec::new(),
            subjects: Vec::new(),
            errors: 0,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What can't be loaded. `help` is the cure.
    pub fn error(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.errors += 1;
        self.add(place, true, message.into(), help.into());
    }

    /// What loads and is probably not meant.
    pub fn warn(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.add(place, false, message.into(), help.into());
    }

    /// What loads, and from this time on is probably not meant.
    pub fn warn_from(
        &mut self,
        from: Timestamp,
        place: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let found = self.found(place, false, message.into(), help.into());
        self.dated.push((from, found));
    }

    fn add(&mut self, place: Place, error: bool, message: String, help: String) {
        let found = self.found(place, error, message, help);
        self.found.push(found);
    }

    fn found(&self, place: Place, error: bool, message: String, help: String) -> Found {
        let message = match self.subjects.last() {
            Some(subject) => format!("{subject}: {message}"),
            None => message,
        };
        Found {
            place,
            error,
            message,
            help,
        }
    }

    /// What the messages until the matching [`Self::leave`] are about: "route `users.read`".
    pub fn enter(&mut self, subject: String) {
        self.subjects.push(subject);
    }

    pub fn leave(&mut self) {
        self.subjects.pop();
    }

    /// Text that no excerpt may show.
    pub fn hide(&mut self, place: Place) {
        self.hidden.push(place);
    }

    pub fn is_hidden(&self, place: Place) -> bool {
        self.hidden
            .iter()
            .any(|hidden| hidden.start <= place.start && place.end <= hidden.end)
    }

    pub fn failed(&self) -> bool {
        self.errors > 0
    }

    pub fn errors(&self) -> usize {
        self.errors
    }

    /// So much is wrong that guesses at what was meant would cost more than they help.
    pub fn crowded(&self) -> bool {
        self.errors > GUESSES_MAX
    }

    /// Line, from 1, for messages that name a second place.
    pub fn line_of(&self, place: Place) -> usize {
        self.line_starts
            .partition_point(|&start| start <= place.start as usize)
    }

    /// Warnings that hold from a time on.
    pub fn take_dated(&mut self) -> Vec<(Timestamp, Report)> {
        let dated = std::mem::take(&mut self.dated);
        let draw = |(from, found): (Timestamp, Found)| (from, self.draw(&found, true));
        dated.into_iter().map(draw).collect()
    }

    /// Errors and warnings, each top to bottom.
    pub fn into_reports(mut self) -> (Vec<Report>, Vec<Report>) {
        let mut found = std::mem::take(&mut self.found);
        // By message too: what was found in hash order must not make two reports of one file differ.
        found.sort_by(|a, b| (a.place, &a.message).cmp(&(b.place, &b.message)));
        found.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.error);
        let draw = |all: Vec<Found>| {
            all.iter()
                .enumerate()
                .map(|(at, found)| self.draw(found, at < REPORTS_MAX))
                .collect()
        };
        (draw(errors), draw(warnings))
    }

    fn draw(&self, found: &Found, drawn: bool) -> Report {
        let line = self.line_of(found.place);
        let line_start = self.line_starts[line - 1];
        let excerpt = self.excerpt(line);
        let clip = |at: u32| floor((at as usize).saturating_sub(line_start), &excerpt);
        let range = clip(found.place.start)..clip(found.place.end);
        let column = 1 + excerpt[..range.start].chars().count();
        let mut report = Report {
            file: self.path.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: found.message.clone(),
            rendered: String::new(),
            coloured: String::new(),
        };
        let path = self.path.display().to_string();
        if !drawn {
            report.rendered = format!("{}\n --> {path}:{line}:{column}", found.message);
            report.coloured.clone_from(&report.rendered);
            return report;
        }
        let level = if found.error {
            Level::ERROR
        } else {
            Level::WARNING
        };
        let mut group = level
            .primary_title(found.message.as_str())
            .elements(None::<Snippet<'_, annotate_snippets::Annotation<'_>>>);
        group = if excerpt.len() > EXCERPT_BYTES_MAX || self.text.is_empty() {
            group.element(Origin::path(path).line(line).char_column(column))
        } else {
            group.element(
                Snippet::source(excerpt)
                    .line_start(line)
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(range)),
            )
        };
        if !found.help.is_empty() {
            group = group.element(Level::HELP.message(found.help.as_str()));
        }
        let groups = [group];
        report.rendered = Renderer::plain()
            .decor_style(DecorStyle::Ascii)
            .render(&groups);
        report.coloured = Renderer::styled()
            .decor_style(DecorStyle::Ascii)
            .render(&groups);
        report
    }

    /// One line of the file, with what is hidden overwritten character by character, so that columns stay true.
    fn excerpt(&self, line: usize) -> String {
        let start = self.line_starts[line - 1];
        let end = self
            .line_starts
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        let text = self.text[start..end.max(start)].trim_end_matches('\r');
        // Most files hide little, and a line less.
        let hidden: Vec<Place> = self
            .hidden
            .iter()
            .copied()
            .filter(|place| (place.start as usize) < end && start < place.end as usize)
            .collect();
        let mut shown = String::with_capacity(text.len());
        let mut reference_until = 0;
        for (at, character) in text.char_indices() {
            if text[at..].starts_with("${") {
                reference_until = text[at..].find('}').map_or(0, |close| at + close + 1);
            }
            let hidden = at >= reference_until
                && hidden.iter().any(|place| {
                    (place.start as usize..place.end as usize).contains(&(start + at))
                });
            match character {
                '"' | '\'' => shown.push(character),
                // One byte for each byte: places are byte offsets.
                _ if hidden => shown.extend(std::iter::repeat_n('*', character.len_utf8())),
                _ => shown.push(character),
            }
        }
        hide_tokens(shown)
    }
}

/// Tokens and keys have a known shape: they are never shown, wherever they stand.
pub(super) fn hide_tokens(mut text: String) -> String {
    for (prefix, more) in [("tgs_", ""), ("tgk_", ""), ("PRIVATE+KEY+", "+/=.")] {
        let mut from = 0;
        while let Some(at) = text[from..].find(prefix).map(|at| from + at) {
            let secret = at + prefix.len();
            let bytes = text[secret..]
                .bytes()
                .take_while(|b| {
                    b.is_ascii_alphanumeric()
                        || matches!(b, b'-' | b'_')
                        || more.as_bytes().contains(b)
                })
                .count();
            text.replace_range(secret..secret + bytes, &"*".repeat(bytes));
            from = secret + bytes;
        }
    }
    text
}

/// The nearest character boundary at or before `at`.
fn floor(at: usize, text: &str) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The candidate that a typing error most likely meant.
pub(super) fn did_you_mean<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let near = |text: &str| (text.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= near(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other; past [`NAME_COMPARED_MAX`], infinite.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (lower(a), lower(b));
    if a.len().max(b.len()) > NAME_COMPARED_MAX || a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

fn lower(text: &str) -> Vec<char> {
    text.chars()
        .map(|c| {
            if c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Most errors shown in one report; more would bury the first.
const REPORTS_MAX: usize = 500;
/// Errors for which a guess is made at what was meant: each looks at every name.
const GUESSES_MAX: usize = 100;
/// Longest line shown in an excerpt.
const EXCERPT_BYTES_MAX: usize = 2000;
/// Longest name compared for "did you mean".
const NAME_COMPARED_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_place_excerpt_and_help() {
        let text = "version: 1\nprojct: demo\n";
        let mut reports = Reports::new(Path::new("demo.yaml"), text.into());
        reports.error(
            Place::new(11..17),
            "unknown key `projct`",
            "did you mean `project`?",
        );
        let (errors, warnings) = reports.into_reports();
        assert!(warnings.is_empty());
        assert_eq!((errors[0].line, errors[0].column), (2, 1));
        assert_eq!(
            errors[0].rendered,
            "error: unknown key `projct`\n --> demo.yaml:2:1\n  |\n2 | projct: demo\n  | ^^^^^^\n  |\n  = help: did you mean `project`?"
        );
    }

    #[test]
    fn what_is_hidden_is_overwritten_and_columns_stay_true() {
        let text = "value: \"Bearer sécret ${NAME}\" x\nkey: tgk_abc-def\n";
        let mut reports = Reports::new(Path::new("demo.yaml"), text.into());
        reports.hide(Place::new(7..text.find('x').unwrap() - 1));
        reports.error(
            Place::new(text.find('x').unwrap()..text.find('x').unwrap() + 1),
            "m",
            "h",
        );
        reports.error(
            Place::new(text.find("key").unwrap()..text.len() - 1),
            "m",
            "h",
        );
        let (errors, _) = reports.into_reports();
        assert!(
            !errors[0].rendered.contains("cret"),
            "{}",
            errors[0].rendered
        );
        assert!(
            errors[0].rendered.contains("${NAME}"),
            "{}",
            errors[0].rendered
        );
        assert!(
            !errors[1].rendered.contains("abc"),
            "{}",
            errors[1].rendered
        );
    }

    #[test]
    fn a_typing_error_finds_what_was_meant() {
        let keys = ["timeout", "connect_timeout", "url"];
        assert_eq!(did_you_mean("tiemout", keys), Some("timeout"));
        assert_eq!(
            did_you_mean("connect-timeout", keys),
            Some("connect_timeout")
        );
        assert_eq!(did_you_mean("banana", keys), None);
    }
}
