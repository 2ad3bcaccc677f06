//! What an agent wrote, made safe to look at: every character that hides, reorders or moves text becomes a mark such as
//! `[U+202E]`. One rule for terminals and for the console.
//!
//! Intents, targets, header fields and bodies come from agents. A person decides on what they see, so what they see must
//! be what is there: an escape sequence must not reach a terminal, nor a character that turns a line around, nor one that
//! takes no room. It refuses to change, drop or translate anything; text that looks like a mark is marked itself, so
//! that no two texts look the same.

use std::fmt::{self, Write as _};

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// As it is.
    Plain(&'a str),
    /// A character that must not be shown as it is.
    Marked(Mark),
}

/// A character that must not be shown as it is; `Display` writes `[U+202E]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The character.
    pub character: char,
    /// What it would do.
    pub kind: Kind,
}

/// What a character does to who looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Turns the direction of text around.
    Bidi,
    /// Takes no room, or changes what stands beside it.
    Invisible,
    /// Is an order to a terminal.
    Control,
    /// Looks like a space and is another character.
    Space,
    /// Begins a line where no line should begin.
    Line,
    /// Has no agreed look.
    Private,
    /// Would look like the beginning of a mark.
    Bracket,
}

impl Kind {
    /// A word for a style, or for a script.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Bidi => "bidi",
            Kind::Invisible => "invisible",
            Kind::Control => "control",
            Kind::Space => "space",
            Kind::Line => "line",
            Kind::Private => "private",
            Kind::Bracket => "bracket",
        }
    }

    /// What it does, for a person.
    pub const fn about(self) -> &'static str {
        match self {
            Kind::Bidi => "changes the direction of text",
            Kind::Invisible => "can't be seen",
            Kind::Control => "control character",
            Kind::Space => "unusual space",
            Kind::Line => "begins a new line",
            Kind::Private => "has no agreed look",
            Kind::Bracket => "a bracket that the text itself has",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[U+{:04X}]", u32::from(self.character))
    }
}

/// How a text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// In one line: line feeds and tabs are marked too.
    One,
    /// As lines: line feeds and tabs are what they are. A carriage return is marked.
    Many,
}

/// The pieces of a text, in order.
pub fn segments(text: &str, lines: Lines) -> Segments<'_> {
    Segments { rest: text, lines }
}

/// The text with marks in it.
pub fn visible(text: &str, lines: Lines) -> String {
    let mut out = String::with_capacity(text.len());
    for segment in segments(text, lines) {
        match segment {
            Segment::Plain(plain) => out.push_str(plain),
            Segment::Marked(mark) => {
                // Memory takes it.
                let _ = write!(out, "{mark}");
            }
        }
    }
    out
}

/// The pieces of a text.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: &'a str,
    lines: Lines,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let first = self.rest.chars().next()?;
        if let Some(kind) = self.kind(0, first) {
            self.rest = &self.rest[first.len_utf8()..];
            return Some(Segment::Marked(Mark {
                character: first,
                kind,
            }));
        }
        let marked = |(at, character): &(usize, char)| self.kind(*at, *character).is_some();
        let end = self.rest.char_indices().find(marked);
        let (plain, rest) = self
            .rest
            .split_at(end.map_or(self.rest.len(), |(at, _)| at));
        self.rest = rest;
        Some(Segment::Plain(plain))
    }
}

impl Segments<'_> {
    fn kind(&self, at: usize, character: char) -> Option<Kind> {
        // Most texts are mostly this.
        if matches!(character, ' '..='Z' | '\\'..='~') {
            return None;
        }
        match character {
            '[' => self.rest[at..].starts_with("[U+").then_some(Kind::Bracket),
            '\n' | '\t' if self.lines == Lines::Many => None,
            _ => kind(character),
        }
    }
}

/// What a character does, wherever it stands. Beside the controls of Unicode 16, all that have `Default_Ignorable_Code_Point`,
/// and the spaces and separators (categories Zs, Zl, Zp).
const fn kind(character: char) -> Option<Kind> {
    Some(match character {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Kind::Bidi
        }
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Kind::Line,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fff9}'..='\u{fffb}' => Kind::Control,
        '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{2800}'
        | '\u{3000}' => Kind::Space,
        '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => Kind::Invisible,
        '\u{e000}'..='\u{f8ff}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{fffe}'
        | '\u{ffff}'
        | '\u{f0000}'..='\u{10ffff}' => Kind::Private,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_hides_or_reorders_or_commands_becomes_a_mark() {
        for (text, shown) in [
            ("a\u{1b}[2Jb", "a[U+001B][2Jb"),
            ("a\u{9b}2Jb", "a[U+009B]2Jb"),
            ("user\u{202e}7\u{2066}", "user[U+202E]7[U+2066]"),
            ("pay\u{200b}pal\u{feff}", "pay[U+200B]pal[U+FEFF]"),
            ("a\u{a0}b\u{3000}c", "a[U+00A0]b[U+3000]c"),
            (
                "a\nb\rc\u{2028}d\te",
                "a[U+000A]b[U+000D]c[U+2028]d[U+0009]e",
            ),
            ("\u{e0041}", "[U+E0041]"),
            ("Größe 7 日本 🙂", "Größe 7 日本 🙂"),
        ] {
            assert_eq!(visible(text, Lines::One), shown);
        }
        assert_eq!(
            visible("a\n\tb\r\n\u{2029}", Lines::Many),
            "a\n\tb[U+000D]\n[U+2029]"
        );
    }

    #[test]
    fn a_text_that_looks_like_a_mark_is_told_from_one() {
        assert_eq!(visible("[U+202E] [x]", Lines::One), "[U+005B]U+202E] [x]");
        let kinds: Vec<_> = segments("[U+\u{202e}", Lines::One).collect();
        let mark = |character, kind| Segment::Marked(Mark { character, kind });
        assert_eq!(
            kinds,
            [
                mark('[', Kind::Bracket),
                Segment::Plain("U+"),
                mark('\u{202e}', Kind::Bidi)
            ]
        );
    }

    /// Back to what was there.
    fn read_back(shown: &str) -> String {
        let mut out = String::new();
        let mut rest = shown;
        while let Some(at) = rest.find("[U+") {
            out.push_str(&rest[..at]);
            let (hex, after) = rest[at + 3..].split_once(']').unwrap();
            out.push(char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap());
            rest = after;
        }
        out + rest
    }

    proptest! {
        #[test]
        fn what_is_shown_is_plain_and_says_exactly_what_was_there(
            text in proptest::collection::vec(
                prop_oneof![any::<char>(), prop::sample::select(vec!['[', 'U', '+', ']', '\n', '\u{1b}', '\u{202e}'])],
                0..40,
            )
        ) {
            let text: String = text.into_iter().collect();
            for lines in [Lines::One, Lines::Many] {
                let shown = visible(&text, lines);
                let kept = |c: char| lines == Lines::Many && matches!(c, '\n' | '\t');
                prop_assert!(shown.chars().all(|c| kept(c) || kind(c).is_none()));
                prop_assert_eq!(read_back(&shown), text.clone());
            }
        }
    }
}
