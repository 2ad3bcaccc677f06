//! What a path looks like to readers who make other characters of those it has: who fit letters of all alphabets to
//! ASCII (best fit, NFKC), drop what is not seen, or take names as Windows does.
//!
//! Looked at to refuse, never sent: such text is ordinary in a name, and none in what separates names.

use super::Ambiguity;
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
            '\u{ff0e}' | '\u{fe52}' | '\u{2024}' => seen.push('.'),
            // Two and three dots in one.
            '\u{2025}' | '\u{2026}' | '\u{fe19}' | '\u{fe30}' => seen.push_str(".."),
            '\u{ff1b}' | '\u{fe54}' | '\u{37e}' => seen.push(';'),
            '\u{ff1f}' | '\u{fe56}' => seen.push('?'),
            '\u{ff03}' | '\u{fe5f}' => seen.push('#'),
            '\u{ff1a}' | '\u{fe55}' => seen.push(':'),
            '\u{ff05}' | '\u{fe6a}' => seen.push('%'),
            '\u{ff0b}' | '\u{fe62}' => seen.push('+'),
            _ if character.is_whitespace() => seen.push(' '),
            _ if is_unseen(character) => {}
            other => seen.push(other),
        }
    }
    Ok(Cow::Owned(seen))
}

/// Characters that have no width, or only say how others are shown (Unicode's default ignorables).
const fn is_unseen(character: char) -> bool {
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
    let starts = bytes
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| matches!(*pair, b"%u" | b"%U"));
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
