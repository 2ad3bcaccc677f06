//! Where each message of an HTTP/1.1 connection begins and ends, and whether its head can be read in one way only
//! (RFC 9112, strictly). Pure: bytes in, verdict out.
//!
//! It stands before hyper, which sees no byte of a head that was not judged whole, and finds exactly the boundaries that
//! hyper will find: what both agree on is forwarded in a framing of the gate's own. What a handler can be shown is left to
//! the gate, which judges it later and knows who asks; here is judged what hyper would swallow, mend or answer by itself.
//! It refuses to repair anything.

mod chunks;
mod head;

pub use head::{FIELDS_MAX, HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};

use crate::gate::Flaw;
use chunks::Chunks;
use head::{Framing, Head, Section};

/// Follows the messages of one connection.
#[derive(Debug, Default)]
pub struct Wire(At);

#[derive(Debug)]
enum At {
    Head(Head),
    /// Bytes of a body with a length that are still to come.
    Sized(u64, Next),
    Chunks(Chunks, Next),
    Trailers(Section, Next),
    /// Behind a message that asked for another protocol: what follows may be that.
    Perhaps,
}

/// What stands behind a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Head,
    Perhaps,
}

/// What was found in what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// So many bytes may be read. The others are to be judged again together with what comes next.
    pub passed: usize,
    /// What is to be done then.
    pub then: Then,
}

/// What is to be done when the bytes that passed are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Go on with what comes.
    Go,
    /// Wait for the answer, which says whether HTTP goes on: [`Wire::resume`] if it does.
    Wait,
    /// A head that is not read: say so, and close.
    Refuse(Flaw),
    /// A body that has no end: its call can't be completed.
    Break(Torn),
}

/// A body whose framing is malformed (RFC 9112, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Torn {
    /// A chunk's size, its extensions or the end of its line.
    #[error("a chunk's size is malformed")]
    Size,
    /// No CRLF behind a chunk.
    #[error("a chunk is longer than its size")]
    Chunk,
    /// A trailer that is no field, says where the message ends, or one too many.
    #[error("the trailers are malformed")]
    Trailers,
}

impl Default for At {
    fn default() -> Self {
        At::Head(Head::default())
    }
}

impl From<Next> for At {
    fn from(next: Next) -> Self {
        match next {
            Next::Head => At::default(),
            Next::Perhaps => At::Perhaps,
        }
    }
}

impl Wire {
    /// Judges `bytes`, which begin where those end that passed before.
    pub fn judge(&mut self, bytes: &[u8]) -> Judged {
        let mut passed = 0;
        let then = loop {
            let rest = &bytes[passed..];
            if let At::Perhaps = self.0 {
                break Then::Wait;
            }
            if rest.is_empty() {
                break Then::Go;
            }
            match self.step(rest) {
                // Not whole yet: seen again with what comes.
                Ok(0) => break Then::Go,
                Ok(read) => passed += read,
                Err(then) => break then,
            }
        };
        Judged { passed, then }
    }

    /// HTTP goes on behind a message that asked for another protocol.
    pub fn resume(&mut self) {
        if let At::Perhaps = self.0 {
            self.0 = At::default();
        }
    }

    /// One part of a message, as far as it is there.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Then> {
        match &mut self.0 {
            At::Head(head) => {
                let Some((read, framing, next)) = head.read(rest).map_err(Then::Refuse)? else {
                    return Ok(0);
                };
                self.0 = match framing {
                    Framing::Sized(0) => next.into(),
                    Framing::Sized(length) => At::Sized(length, next),
                    Framing::Chunked => At::Chunks(Chunks::default(), next),
                };
                Ok(read)
            }
            At::Sized(left, next) => {
                let read = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                *left -= read as u64;
                if *left == 0 {
                    self.0 = (*next).into();
                }
                Ok(read)
            }
            At::Chunks(chunks, next) => {
                let (read, over) = chunks.read(rest).map_err(Then::Break)?;
                if over {
                    self.0 = At::Trailers(Section::trailers(), *next);
                }
                Ok(read)
            }
            At::Trailers(section, next) => {
                let read = section.trailers_end(rest);
                let Some(read) = read.map_err(|_| Then::Break(Torn::Trailers))? else {
                    return Ok(0);
                };
                self.0 = (*next).into();
                Ok(read)
            }
            At::Perhaps => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests;
