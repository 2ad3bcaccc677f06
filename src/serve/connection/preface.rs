//! Which version of HTTP a plain connection speaks: HTTP/2 by prior knowledge begins with a preface that is no HTTP/1.1
//! (RFC 9113, section 3.4). It may come in pieces; HTTP/1 is recognised at its first byte that differs.

use super::socket::Socket;
use std::io;
use tokio::io::{AsyncReadExt as _, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The versions told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Bytes that were read to find out, and are still to be read by who serves.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    bytes: [u8; PREFACE.len()],
    from: u8,
    to: u8,
}

impl Ahead {
    /// Hands out what is left. False: nothing is.
    pub fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let left = &self.bytes[usize::from(self.from)..usize::from(self.to)];
        let given = left.len().min(buffer.remaining());
        if given == 0 {
            return false;
        }
        buffer.put_slice(&left[..given]);
        // No more than the array's length.
        self.from += given as u8;
        true
    }
}

/// Reads as little as tells the versions apart. A peer that leaves meanwhile is HTTP/1's to find out.
pub(super) async fn sniff(socket: &mut Socket) -> io::Result<Version> {
    let mut ahead = Ahead::default();
    let version = loop {
        let have = usize::from(ahead.to);
        if ahead.bytes[..have] != PREFACE[..have] {
            break Version::One;
        }
        if have == PREFACE.len() {
            break Version::Two;
        }
        match socket.read(&mut ahead.bytes[have..]).await? {
            0 => break Version::One,
            read => ahead.to += read as u8,
        }
    };
    socket.ahead = ahead;
    Ok(version)
}
