//! The live inbox as a state: what is listed, what is looked at, what is being decided. Pure: keys and answers go in, lines
//! and wishes come out.
//!
//! A word is only ever given on an approval that stands on the screen, with the digest that stood there, after a
//! confirmation.

use super::layout::{cut, wrap};
use super::shown;
use crate::cli::output::harmless;
use crate::policy::approval::{NOTE_BYTES_MAX, Word};
use crate::policy::time::Timestamp;
use serde_json::Value;

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Oldest first.
    items: Vec<Value>,
    /// Whether a list has come at all.
    listed: bool,
    selected: usize,
    open: Option<Open>,
    /// How things stand with the gate.
    pub link: String,
    notice: String,
}

/// The approval that is looked at.
#[derive(Debug)]
struct Open {
    approval: Value,
    /// Of `text`, wrapped for a width.
    lines: Vec<String>,
    width: usize,
    top: usize,
    ask: Ask,
}

#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Nothing,
    Note(Word, String),
    Confirm(Word, String),
    Sent,
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Character(char),
    /// Ctrl-C.
    Interrupt,
}

/// What the person wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Show(String),
    Decide(Decision),
}

/// A word on what was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub id: String,
    pub word: Word,
    pub digest: String,
    pub note: Option<String>,
}

/// A line of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub text: String,
    pub tone: Tone,
}

/// How a line is set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Head,
    Selected,
    Question,
}

/// Lines that are not the list's or the request's: heading above, question and help below.
const FRAME: usize = 4;

impl Inbox {
    /// What waits now.
    pub(super) fn listed(&mut self, items: Vec<Value>) {
        let before = self.items.get(self.selected).map(|item| item["id"].clone());
        self.items = items;
        self.listed = true;
        let place = before.and_then(|id| self.items.iter().position(|item| item["id"] == id));
        let last = self.items.len().saturating_sub(1);
        self.selected = place.unwrap_or(self.selected).min(last);
    }

    /// The approval that was asked for, or the one that is looked at, as it stands now.
    pub(super) fn shown(&mut self, mut approval: Value) {
        let again = self.open.take_if(|open| {
            let same = |name: &str| open.approval[name] == approval[name];
            same("id") && same("digest")
        });
        let waits = approval["state"] == "pending";
        self.open = Some(match again {
            // Where the person was; a question about what can't be decided any more is over.
            Some(mut open) => {
                // What went before is asked for once.
                if approval["history"].is_null() {
                    approval["history"] = open.approval["history"].take();
                }
                Open {
                    ask: if waits { open.ask } else { Ask::Nothing },
                    width: 0,
                    approval,
                    ..open
                }
            }
            None => Open {
                approval,
                lines: Vec::new(),
                width: 0,
                top: 0,
                ask: Ask::Nothing,
            },
        });
    }

    /// The id of what is looked at.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.as_ref()?.approval["id"].as_str()
    }

    /// A decision was taken, or not.
    pub(super) fn decided(&mut self, answer: Result<Value, String>) {
        match answer {
            Ok(approval) => {
                self.notice = shown::standing(&approval);
                self.open = None;
            }
            Err(why) => {
                self.notice = why;
                if let Some(open) = &mut self.open {
                    open.ask = Ask::Nothing;
                }
            }
        }
    }

    /// What could not be done, or what happened elsewhere.
    pub(super) fn notice(&mut self, text: String) {
        self.notice = text;
    }

    /// A key was pressed on a screen of this height.
    pub(super) fn key(&mut self, key: Key, height: usize) -> Option<Wish> {
        if key == Key::Interrupt {
            return Some(Wish::Quit);
        }
        self.notice.clear();
        match &mut self.open {
            Some(open) => match open.key(key, height.saturating_sub(FRAME)) {
                Done::Stays => None,
                Done::Back => {
                    self.open = None;
                    None
                }
                Done::Wish(wish) => Some(wish),
                Done::Notice(text) => {
                    self.notice = text;
                    None
                }
            },
            None => self.list_key(key, height.saturating_sub(FRAME)),
        }
    }

    fn list_key(&mut self, key: Key, page: usize) -> Option<Wish> {
        let last = self.items.len().saturating_sub(1);
        self.selected = match key {
            Key::Up | Key::Character('k') => self.selected.saturating_sub(1),
            Key::Down | Key::Character('j') => self.selected + 1,
            Key::PageUp => self.selected.saturating_sub(page),
            Key::PageDown => self.selected + page,
            Key::Home | Key::Character('g') => 0,
            Key::End | Key::Character('G') => last,
            _ => self.selected,
        }
        .min(last);
        match key {
            Key::Character('q') | Key::Escape => Some(Wish::Quit),
            Key::Enter | Key::Character('a' | 'd') => {
                if key != Key::Enter {
                    // Nobody decides what they have not been shown.
                    self.notice =
                        "this is what would run: look at it, then press the key again".to_owned();
                }
                let item = self.items.get(self.selected)?;
                Some(Wish::Show(item["id"].as_str()?.to_owned()))
            }
            _ => None,
        }
    }

    /// The screen, line by line; at most `height` of them.
    pub(super) fn rows(&mut self, width: usize, height: usize, now: Timestamp) -> Vec<Row> {
        let page = height.saturating_sub(FRAME).max(1);
        let count = match (self.listed, self.items.len()) {
            (false, _) => "approvals".to_owned(),
            (true, 0) => "nothing waits for a person".to_owned(),
            (true, 1) => "1 waits for a person".to_owned(),
            (true, n) => format!("{n} wait for a person"),
        };
        let mut rows = vec![
            Row::new(format!("toolgate  {count}  {}", self.link), Tone::Head),
            Row::new(String::new(), Tone::Plain),
        ];
        let help = match &mut self.open {
            Some(open) => open.rows(&mut rows, width, page, now),
            None => {
                self.list_rows(&mut rows, page, now);
                "up/down or j/k: choose   enter: look at it   q: leave".to_owned()
            }
        };
        rows.resize_with(page + 2, || Row::new(String::new(), Tone::Plain));
        let question = self.open.as_ref().and_then(Open::question);
        rows.push(match question {
            Some(question) => Row::new(question, Tone::Question),
            None => Row::new(harmless(&self.notice), Tone::Question),
        });
        rows.push(Row::new(help, Tone::Head));
        for row in &mut rows {
            row.text = cut(&row.text, width);
        }
        rows.truncate(height);
        rows
    }

    fn list_rows(&self, rows: &mut Vec<Row>, page: usize, now: Timestamp) {
        let first = (self.selected + 1).saturating_sub(page);
        let shown = self.items.iter().enumerate().skip(first).take(page);
        rows.extend(shown.map(|(at, item)| {
            let left = shown::left(item, now).unwrap_or_default();
            let undone = if item["irreversible"] == true {
                "!"
            } else {
                " "
            };
            let text = format!(
                "{left:>8}  {undone} {}  {}/{}  {}",
                shown::agreement(item),
                harmless(item["project"].as_str().unwrap_or_default()),
                harmless(item["agent"].as_str().unwrap_or_default()),
                shown::what(item)
            );
            let tone = if at == self.selected {
                Tone::Selected
            } else {
                Tone::Plain
            };
            Row::new(text, tone)
        }));
    }
}

/// What a key did.
enum Done {
    Stays,
    Back,
    Wish(Wish),
    Notice(String),
}

impl Open {
    fn key(&mut self, key: Key, page: usize) -> Done {
        match std::mem::replace(&mut self.ask, Ask::Nothing) {
            Ask::Nothing => self.looking(key, page),
            Ask::Note(word, text) => {
                self.ask = noting(key, word, text);
                Done::Stays
            }
            Ask::Confirm(word, note) => match key {
                Key::Character('y' | 'Y') => self.decided(word, note),
                Key::Character('n' | 'N') | Key::Escape => {
                    Done::Notice("nothing was said to the gate".to_owned())
                }
                // It may be scrolled while it is asked: what is asked may be longer than the screen.
                _ => {
                    self.scroll(key, page);
                    self.ask = Ask::Confirm(word, note);
                    Done::Stays
                }
            },
            Ask::Sent => {
                self.ask = Ask::Sent;
                Done::Stays
            }
        }
    }

    fn looking(&mut self, key: Key, page: usize) -> Done {
        match key {
            Key::Escape | Key::Character('q') | Key::Backspace => return Done::Back,
            Key::Character(letter @ ('a' | 'd')) => {
                if self.approval["you"]["may_decide"] != true {
                    let why = &self.approval["you"]["because"];
                    return Done::Notice(why.as_str().unwrap_or("you can't decide it").to_owned());
                }
                let word = if letter == 'a' {
                    Word::Approve
                } else {
                    Word::Deny
                };
                self.ask = Ask::Note(word, String::new());
            }
            _ => self.scroll(key, page),
        }
        Done::Stays
    }

    fn scroll(&mut self, key: Key, page: usize) {
        let last = self.lines.len().saturating_sub(page);
        self.top = match key {
            Key::Up | Key::Character('k') => self.top.saturating_sub(1),
            Key::Down | Key::Character('j') => self.top + 1,
            Key::PageUp | Key::Character('b') => self.top.saturating_sub(page),
            Key::PageDown | Key::Character(' ') => self.top + page,
            Key::Home | Key::Character('g') => 0,
            Key::End | Key::Character('G') => last,
            _ => self.top,
        }
        .min(last);
    }

    fn decided(&mut self, word: Word, note: String) -> Done {
        let text = |name: &str| self.approval[name].as_str().map(str::to_owned);
        let (Some(id), Some(digest)) = (text("id"), text("digest")) else {
            return Done::Notice("the gate showed no digest".to_owned());
        };
        self.ask = Ask::Sent;
        Done::Wish(Wish::Decide(Decision {
            id,
            word,
            digest,
            note: Some(note).filter(|note| !note.trim().is_empty()),
        }))
    }

    /// Returns the help line.
    fn rows(&mut self, rows: &mut Vec<Row>, width: usize, page: usize, now: Timestamp) -> String {
        if self.width != width {
            let text =
                shown::whole(&self.approval, now) + &shown::history(&self.approval["history"]);
            self.lines = text.lines().flat_map(|line| wrap(line, width)).collect();
            self.width = width;
        }
        self.top = self.top.min(self.lines.len().saturating_sub(page));
        let shown = self.lines.iter().skip(self.top).take(page);
        rows.extend(shown.map(|line| Row::new(line.clone(), Tone::Plain)));
        let below = self.lines.len().saturating_sub(self.top + page);
        let more = match below {
            0 => String::new(),
            n => format!("lines below: {n}   "),
        };
        let left = shown::left(&self.approval, now)
            .map_or_else(String::new, |left| format!("time left: {left}   "));
        format!("{more}{left}a: approve   d: deny   up/down, space: scroll   esc: back")
    }

    fn question(&self) -> Option<String> {
        let verb = |word: &Word| {
            if *word == Word::Approve {
                "Approve"
            } else {
                "Deny"
            }
        };
        match &self.ask {
            Ask::Nothing => None,
            Ask::Note(word, text) => Some(format!(
                "{}: a note (may be empty), then enter; esc: not now > {}_",
                verb(word),
                harmless(text)
            )),
            Ask::Confirm(word, _) => {
                let digest = self.approval["digest"].as_str().unwrap_or_default();
                let digest: String = digest.chars().take(12).collect();
                Some(format!(
                    "{} exactly this (digest {})? y/n   {}",
                    verb(word),
                    harmless(&digest),
                    shown::what(&self.approval)
                ))
            }
            Ask::Sent => Some("told the gate, waiting for its answer".to_owned()),
        }
    }
}

/// A key while a note is written.
fn noting(key: Key, word: Word, mut text: String) -> Ask {
    match key {
        Key::Escape => return Ask::Nothing,
        Key::Enter => return Ask::Confirm(word, text),
        Key::Backspace => {
            text.pop();
        }
        Key::Character(letter) if text.len() + letter.len_utf8() <= NOTE_BYTES_MAX => {
            text.push(letter)
        }
        _ => {}
    }
    Ask::Note(word, text)
}

impl Row {
    fn new(text: String, tone: Tone) -> Self {
        Self { text, tone }
    }
}

#[cfg(test)]
mod tests;
