//! The one spelling of a resource: which bytes stand in it as they are, and how all others are written.
//!
//! What writes that spelling and what reads it back stand in this one file, because they must never differ.

use super::ResourceError;
use std::borrow::Cow;

/// A type is written out: it can't come from a call, so no call chooses which patterns look at it.
pub(super) fn check_type(kind: &str) -> Result<(), ResourceError> {
    if kind.contains('{') {
        return Err(ResourceError::Shape);
    }
    if kind.contains('*') {
        return Err(ResourceError::Wildcard);
    }
    match kind
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        Some(wrong) => Err(ResourceError::Character(wrong)),
        None if kind.is_empty() => Err(ResourceError::Shape),
        None => Ok(()),
    }
}

pub(super) fn check_literal(literal: &str) -> Result<(), ResourceError> {
    let bytes = literal.as_bytes();
    let mut characters = literal.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => {}
            '*' => return Err(ResourceError::Wildcard),
            '%' => {
                let byte = upper_hex_pair(bytes, at).ok_or(ResourceError::Percent)?;
                if is_plain(byte) {
                    return Err(ResourceError::Percent);
                }
                characters.nth(1);
            }
            _ if u8::try_from(character).is_ok_and(is_plain) => {}
            _ => return Err(ResourceError::Character(character)),
        }
    }
    Ok(())
}

fn upper_hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| match *bytes.get(at + offset)? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    Some(digit(1)? << 4 | digit(2)?)
}

/// Bytes of a value that stand in a resource as they are.
pub(super) const fn is_plain(byte: u8) -> bool {
    PLAIN[byte as usize]
}

const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = may_stand(byte as u8);
        byte += 1;
    }
    plain
};

const fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'+'
                | b','
                | b'='
                | b'@'
        )
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// What stands in a resource for a byte that is not plain.
const fn encoded(byte: u8) -> [u8; 3] {
    [b'%', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]
}

pub(super) fn push_byte(text: &mut String, byte: u8) {
    if is_plain(byte) {
        text.push(char::from(byte));
    } else {
        encoded(byte)
            .iter()
            .for_each(|&part| text.push(char::from(part)));
    }
}

/// What is behind `value`, encoded, at the start of `text`.
pub(super) fn strip_encoded<'r>(text: &'r [u8], value: &str) -> Option<&'r [u8]> {
    value.bytes().try_fold(text, |rest, byte| {
        if is_plain(byte) {
            rest.strip_prefix(&[byte])
        } else {
            rest.strip_prefix(&encoded(byte))
        }
    })
}

/// What canonical text stands for, a capture or a part of a resource. `None`: it is cut within an encoded byte, or is not
/// UTF-8.
pub(in crate::policy) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let bytes = text.as_bytes();
    let (mut value, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            value.push(upper_hex_pair(bytes, at)?);
            at += 3;
        } else {
            value.push(byte);
            at += 1;
        }
    }
    String::from_utf8(value).ok().map(Cow::Owned)
}
