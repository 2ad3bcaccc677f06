//! HTTP/2 frame by frame, from an agent or from a backend.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals that no table keeps (RFC 7541, section 6.2.2), in the order given.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, value.as_bytes());
    }
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 127 {
        bytes.push(u8::try_from(left).unwrap());
    } else {
        bytes.push(127);
        left -= 127;
        while left >= 128 {
            bytes.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        bytes.push(u8::try_from(left).unwrap());
    }
    bytes.extend(text);
}

/// The fields of a call as they should be.
pub fn call<'a>(method: &'a str, path: &'a str, bearer: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "g"),
        ("authorization", bearer),
    ]
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status in HEADERS: the first field, from the static table (RFC 7541, appendix A) or as a literal.
    pub fn status(&self) -> u16 {
        match self.payload[0] {
            0x88 => 200,
            0x89 => 204,
            0x8b => 304,
            0x8c => 400,
            0x8d => 404,
            0x8e => 500,
            // A literal with an indexed name; three digits are shorter in Huffman's code, five bits each.
            _ => {
                let coded = &self.payload[2..];
                let bits = coded
                    .iter()
                    .take(3)
                    .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
                if self.payload[1] & 0x80 == 0 {
                    return std::str::from_utf8(&coded[..3]).unwrap().parse().unwrap();
                }
                digits(bits)
            }
        }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 0 to 2 in five bits, 3 to 9 in six.
fn digits(bits: u32) -> u16 {
    let (mut at, mut number) = (24, 0);
    for _ in 0..3 {
        let five = (bits >> (at - 5)) & 0x1f;
        let digit = if five < 3 {
            at -= 5;
            five
        } else {
            at -= 6;
            ((bits >> at) & 0x3f) - 0x19 + 3
        };
        number = number * 10 + u16::try_from(digit).unwrap();
    }
    number
}

/// One side of a connection.
pub struct Peer {
    pub stream: TcpStream,
}

impl Peer {
    /// An agent that knows beforehand that HTTP/2 is spoken.
    pub async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut peer = Self { stream };
        peer.send(PREFACE).await?;
        peer.send(&frame(SETTINGS, 0, 0, &self::settings(settings)))
            .await?;
        Ok(peer)
    }

    /// A backend whose preface has come and whose settings are out.
    pub async fn accept(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut peer = Self { stream };
        peer.stream.read_exact(&mut [0; 24]).await?;
        peer.send(&frame(SETTINGS, 0, 0, &[])).await?;
        Ok(peer)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next frame; settings and pings are answered.
    pub async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
            let back = if kind == PING { &payload[..] } else { &[] };
            // The other side may have closed, and what it said before is read all the same.
            drop(self.send(&frame(kind, ACK, 0, back)).await);
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Frame {
            kind,
            stream,
            payload,
        })
    }

    /// The next HEADERS, DATA or RST_STREAM of a stream; or the end of the connection.
    pub async fn of(&mut self, stream: u32) -> io::Result<Frame> {
        loop {
            let frame = self.read().await?;
            let ours = matches!(frame.kind, HEADERS | DATA | RST_STREAM) && frame.stream == stream;
            if ours || frame.kind == GOAWAY && frame.code() != 0 {
                return Ok(frame);
            }
        }
    }
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect()
}
