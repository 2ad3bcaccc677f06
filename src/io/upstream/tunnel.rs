//! Bytes of another protocol, both ways, over what a backend was asked on.

use super::http2;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection, or a stream of one, that speaks another protocol now. The [`Lease`](super::Lease) that it came of must
/// outlive it.
pub struct Tunnel(Kind);

enum Kind {
    Http1(TokioIo<Upgraded>),
    Http2(http2::Tunnel),
}

impl Tunnel {
    pub(super) fn http1(upgraded: Upgraded) -> Self {
        Self(Kind::Http1(TokioIo::new(upgraded)))
    }

    pub(super) fn http2(tunnel: http2::Tunnel) -> Self {
        Self(Kind::Http2(tunnel))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Http1(tunnel) => Pin::new(tunnel).poll_read(cx, buf),
            Kind::Http2(tunnel) => Pin::new(tunnel).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Http1(tunnel) => Pin::new(tunnel).poll_write(cx, buf),
            Kind::Http2(tunnel) => Pin::new(tunnel).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Http1(tunnel) => Pin::new(tunnel).poll_flush(cx),
            Kind::Http2(tunnel) => Pin::new(tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Http1(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
            Kind::Http2(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
        }
    }
}
