//! Whether a value names one thing to everybody who reads it: no control character, nothing that is not seen, and no letter
//! that passes for another.
//!
//! What a call acts on is shown to people, compared as bytes, and looked up by backends that may fold it. It judges what
//! names something, not what a text says.

use crate::policy::condition::Why;
use crate::policy::target::alike::{ascii, is_unseen};

/// Refuses what would read as another value to a person or to a backend that folds names.
///
/// # Errors
/// [`Why::Nul`], [`Why::Control`] or [`Why::Homograph`].
pub(super) fn check(value: &str) -> Result<(), Why> {
    if value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(());
    }
    let (mut before, mut word) = ('a', Word::default());
    for character in value.chars() {
        match character {
            '\0' => return Err(Why::Nul),
            _ if character.is_control() => return Err(Why::Control),
            // Joins letters of Persian and parts of emoji; between other characters it hides.
            '\u{200c}' | '\u{200d}' | '\u{fe0f}' if !before.is_ascii() => {}
            _ if is_unseen(character) || ascii(character).is_some() => return Err(Why::Homograph),
            _ if character.is_alphabetic() => word.take(character)?,
            _ => word = Word::default(),
        }
        before = character;
    }
    Ok(())
}

/// Which alphabets the letters of a word so far are of, where they have letters that look the same.
#[derive(Default)]
struct Word {
    latin: bool,
    other: bool,
}

impl Word {
    fn take(&mut self, letter: char) -> Result<(), Why> {
        self.latin |= letter.is_ascii();
        // Greek, Cyrillic, Armenian, Cherokee.
        self.other |= matches!(
            letter,
            '\u{370}'..='\u{52f}' | '\u{531}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | '\u{1c80}'..='\u{1c8f}' | '\u{ab70}'..='\u{abbf}'
        );
        match self.latin && self.other {
            true => Err(Why::Homograph),
            false => Ok(()),
        }
    }
}
