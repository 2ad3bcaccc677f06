//! What a path looks like to readers who are not exact: who fit letters of all alphabets to ASCII (best fit, NFKC), drop
//! what is not seen, ignore case, or take names as Windows does.
//!
//! Looked at to refuse, never sent: such text is ordinary in a name, and none in what separates names or tells routes
//! apart.

use super::{Ambiguity, decode_once};
use std::borrow::Cow;

/// The text as such readers see it. Plain ASCII is what it is.
///
/// # Errors
/// They would see another slash or backslash.
pub(super) fn seen(text: &str) -> Result<Cow<'_, str>, Ambiguity> {
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text));
    }
    let mut seen = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // FULLWIDTH SOLIDUS, FRACTION SLASH, DIVISION SLASH, BIG SOLIDUS, and the same the other way.
            '\u{ff0f}' | '\u{2044}' | '\u{2215}' | '\u{29f8}' => {
                return Err(Ambiguity::EncodedDelimiter);
            }
            '\u{ff3c}' | '\u{fe68}' | '\u{2216}' | '\u{29f5}' | '\u{29f9}' => {
                return Err(Ambiguity::EncodedDelimiter);
            }
            _ => push_seen(&mut seen, character),
        }
    }
    Ok(Cow::Owned(seen))
}

fn push_seen(text: &mut String, character: char) {
    match character {
        '\u{fe52}' | '\u{2024}' => text.push('.'),
        // Two and three dots in one.
        '\u{2025}' | '\u{2026}' | '\u{fe19}' | '\u{fe30}' => text.push_str(".."),
        '\u{fe54}' | '\u{37e}' => text.push(';'),
        '\u{fe56}' => text.push('?'),
        '\u{fe5f}' => text.push('#'),
        '\u{fe55}' => text.push(':'),
        '\u{fe6a}' => text.push('%'),
        '\u{fe62}' => text.push('+'),
        _ if character.is_whitespace() => text.push(' '),
        _ if is_unseen(character) => {}
        _ => text.push(ascii(character).unwrap_or(character)),
    }
}

/// The ASCII character that a character is another form of: full-width, mathematical, or one that only its case makes
/// another.
pub(in crate::policy) fn ascii(character: char) -> Option<char> {
    let code = u32::from(character);
    let letter = |from: u32| char::from_u32(u32::from(b'a') + (code - from) % 26);
    match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(code - 0xff01 + 0x21),
        // In alphabets of 52, capitals first; some letters of theirs stand elsewhere.
        '\u{1d400}'..='\u{1d6a3}' => letter(0x1d400),
        '\u{1d7ce}'..='\u{1d7ff}' => char::from_u32(u32::from(b'0') + (code - 0x1d7ce) % 10),
        '\u{24b6}'..='\u{24cf}' => letter(0x24b6),
        '\u{24d0}'..='\u{24e9}' => letter(0x24d0),
        '\u{1f130}'..='\u{1f149}' => letter(0x1f130),
        '\u{212a}' => Some('k'),
        '\u{17f}' => Some('s'),
        _ => None,
    }
}

/// Characters that have no width, or only say how others are shown (Unicode's default ignorables).
pub(in crate::policy) const fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether decoded text still has what some readers decode in a way of their own: `%u002e`.
pub(super) fn is_wide(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |at: usize| {
        let digits = bytes.get(at + 2..at + 6);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let pairs = bytes.windows(2).enumerate();
    let starts = pairs.filter(|(_, pair)| matches!(*pair, b"%u" | b"%U"));
    starts.map(|(at, _)| at).any(digits)
}

/// No segment that is nothing once its parameters are cut off and spaces trimmed, as Windows trims them.
pub(super) fn check_names(path: &str) -> Result<(), Ambiguity> {
    let vanishes = |segment: &str| {
        let name = segment.split(';').next().unwrap_or_default();
        !segment.is_empty() && name.bytes().all(|byte| byte == b' ')
    };
    match path.split('/').any(vanishes) {
        true => Err(Ambiguity::EmptySegment),
        false => Ok(()),
    }
}

/// A canonical path as the least exact reader takes it.
pub(in crate::policy) struct Reading {
    pub(in crate::policy) text: String,
    /// Whether it ends early for that reader, at what it takes for a query or fragment, with segments behind.
    pub(in crate::policy) is_cut: bool,
}

/// What the least exact reader makes of a canonical path behind its mount.
pub(in crate::policy) fn loosely(path: &str) -> Reading {
    let decoded = decoded(path);
    let end = decoded.find(['?', '#']).unwrap_or(decoded.len());
    let (path, behind) = decoded.split_at(end);
    let mut text = String::with_capacity(path.len());
    // What nothing is left of is no segment to them.
    for name in path.split('/').map(trimmed).filter(|name| !name.is_empty()) {
        text.push('/');
        text.push_str(&name);
    }
    Reading {
        text,
        is_cut: behind.contains('/'),
    }
}

/// One literal of a template, likewise.
pub(in crate::policy) fn name(literal: &str) -> String {
    trimmed(&decoded(literal))
}

/// A path without what stands behind the first and behind the last dot of its last name, which some frameworks take for the
/// format that is asked for, whatever it is.
pub(in crate::policy) fn without_format(path: &str) -> impl Iterator<Item = &str> {
    let start = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = &path[start..];
    let ends = [name.find('.'), name.rfind('.')].into_iter().flatten();
    ends.filter(|end| *end > 0)
        .map(move |end| &path[..start + end])
}

/// Decoded until nothing is left to decode. A canonical path has few layers, all of them UTF-8.
fn decoded(path: &str) -> String {
    let mut bytes = path.as_bytes().to_vec();
    loop {
        let (next, _) = decode_once(&bytes);
        if next.len() == bytes.len() {
            break;
        }
        bytes = next;
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut seen = String::with_capacity(text.len());
    text.chars()
        .for_each(|character| push_seen(&mut seen, character));
    seen
}

/// A segment in small letters, without a parameter, a stream of a file, and dots, spaces and plus signs at its end.
fn trimmed(segment: &str) -> String {
    let name = segment.split(';').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    name.trim_end_matches(['.', ' ', '+']).to_lowercase()
}
