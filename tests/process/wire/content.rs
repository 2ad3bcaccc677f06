//! Bodies of both ends: nothing, whole bytes, megabytes that are never held in memory, or whatever a channel brings.

use aws_lc_rs::digest::{Context as Digest, SHA256};
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A body to send.
pub enum Content {
    Empty,
    Whole(Option<Bytes>),
    /// This many bytes of [`pattern`], in chunks, of a length that is not told beforehand.
    Pattern {
        left: usize,
        at: usize,
    },
    /// As frames come; with a length where one is declared.
    Fed {
        frames: mpsc::Receiver<Frame<Bytes>>,
        declared: Option<u64>,
    },
}

impl Content {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// A body and its far end, through which one frame at a time goes.
    pub fn fed(declared: Option<u64>) -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, frames) = mpsc::channel(1);
        (sender, Self::Fed { frames, declared })
    }
}

/// `length` bytes that differ by place, so that none can be lost, doubled or exchanged unnoticed.
pub fn pattern(at: usize, length: usize) -> Bytes {
    // Chunks begin at ever other places of the noise.
    NOISE.slice(at % 4093..at % 4093 + length)
}

static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_u32;
    let noise = (0..CHUNK + 4096).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    noise.collect()
});

const CHUNK: usize = 64 * 1024;

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Content::Empty | Content::Pattern { left: 0, .. } => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Pattern { left, at } => {
                let length = CHUNK.min(*left);
                let chunk = pattern(*at, length);
                *left -= length;
                *at += 1;
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Content::Fed { frames, .. } => frames.poll_recv(context).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Empty | Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Empty | Content::Whole(None) => SizeHint::with_exact(0),
            Content::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pattern { .. } | Content::Fed { declared: None, .. } => SizeHint::default(),
            Content::Fed {
                declared: Some(length),
                ..
            } => SizeHint::with_exact(*length),
        }
    }
}

/// What is kept of a body that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub bytes: u64,
    pub sha256: String,
    pub trailers: Vec<(String, String)>,
    /// How it begins, for whoever reads about a failure.
    pub beginning: String,
}

/// A body on its way in: counted and digested, not kept.
pub struct Intake {
    digest: Digest,
    bytes: u64,
    trailers: HeaderMap,
    beginning: Vec<u8>,
}

/// Of a body, in bytes.
const BEGINNING: usize = 400;

impl Intake {
    pub fn new() -> Self {
        Self {
            digest: Digest::new(&SHA256),
            bytes: 0,
            trailers: HeaderMap::new(),
            beginning: Vec::new(),
        }
    }

    /// Takes a frame in, and gives its bytes back.
    pub fn take(&mut self, frame: Frame<Bytes>) -> Bytes {
        match frame.into_data() {
            Ok(data) => {
                self.digest.update(&data);
                self.bytes += data.len() as u64;
                let room = BEGINNING - self.beginning.len();
                self.beginning.extend(data.iter().take(room));
                data
            }
            Err(frame) => {
                self.trailers = frame.into_trailers().unwrap();
                Bytes::new()
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn end(self) -> Received {
        let digest = self.digest.finish();
        Received {
            bytes: self.bytes,
            sha256: digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            trailers: fields(&self.trailers),
            beginning: self.beginning.escape_ascii().to_string(),
        }
    }
}

/// Fields by name, the lines of one name joined as RFC 9110 section 5.3 joins them (all but Set-Cookie).
pub fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.as_bytes().escape_ascii().to_string();
    let mut fields = Vec::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(text);
        if name == http::header::SET_COOKIE {
            fields.extend(values.map(|value| (name.to_string(), value)));
        } else {
            fields.push((name.to_string(), values.collect::<Vec<_>>().join(", ")));
        }
    }
    // Stable: cookies stay in their order.
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}
