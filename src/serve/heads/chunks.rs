//! The chunks of a body, up to the last one (RFC 9112, section 7.1). Extensions mean nothing to anybody and are bounded;
//! the gate writes chunks of its own.

use super::Torn;

/// Digits of a size, leading noughts among them.
const DIGITS_MAX: u8 = 16;
/// Extensions of one body.
const EXTENSION_BYTES_MAX: u16 = 4096;

/// A place among the chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: Place,
    /// Of the chunk whose size is being read, or what is left of the one that comes.
    size: u64,
    digits: u8,
    extension_bytes: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    /// Blanks, which only an extension may follow.
    Blank,
    Extension,
    SizeLf,
    Bytes,
    Cr,
    Lf,
}

impl Chunks {
    /// How much of `bytes` was read, and whether the last chunk's size was the end of it.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(usize, bool), Torn> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.at == Place::Bytes {
                let left = bytes.len() - at;
                let read = usize::try_from(self.size).map_or(left, |size| size.min(left));
                self.size -= read as u64;
                at += read;
                if self.size == 0 {
                    self.at = Place::Cr;
                }
                continue;
            }
            self.at = self.after(byte)?;
            at += 1;
            if self.at == Place::Bytes && self.size == 0 {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// The place behind a byte that is not the chunk's own.
    fn after(&mut self, byte: u8) -> Result<Place, Torn> {
        match (self.at, byte) {
            (Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.digits += 1;
                self.size = self.size << 4 | u64::from(digit);
                Ok(Place::Size)
            }
            (Place::Size, b'\r' | b';' | b' ' | b'\t') if self.digits > 0 => self.behind_size(byte),
            (Place::Blank, b';' | b' ' | b'\t') | (Place::Extension, b'\r') => {
                self.behind_size(byte)
            }
            (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.behind_size(b';'),
            (Place::SizeLf, b'\n') => {
                self.digits = 0;
                // What hyper counts with has one bit less.
                if self.size > i64::MAX as u64 {
                    return Err(Torn::Size);
                }
                Ok(Place::Bytes)
            }
            (Place::Cr, b'\r') => Ok(Place::Lf),
            (Place::Lf, b'\n') => Ok(Place::Size),
            (Place::Cr | Place::Lf, _) => Err(Torn::Chunk),
            _ => Err(Torn::Size),
        }
    }

    fn behind_size(&mut self, byte: u8) -> Result<Place, Torn> {
        if byte == b'\r' {
            return Ok(Place::SizeLf);
        }
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Torn::Size);
        }
        Ok(if byte == b';' {
            Place::Extension
        } else {
            Place::Blank
        })
    }
}
