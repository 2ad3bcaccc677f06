//! HTTP/2: how it is set up, and how its calls run. Each is a task of its own, watched on its own: one whose answer is not
//! taken is reset (`RST_STREAM`), and the connection goes on.

use super::call::{Answering, Reply};
use crate::serve::watch::{Order, Watched};
use bytes::Bytes;
use http_body::Body;
use hyper::rt::Executor;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

/// Calls in progress on one connection.
const STREAMS_MAX: u32 = 100;
/// What a peer may send of one body, and of all, before somebody reads it.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What waits of one answer for a peer that does not take it.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Streams that the peer opened and reset at once and that nobody has looked at yet (CVE-2023-44487).
const RESETS_PENDING_MAX: usize = 20;
/// Streams that the gate reset for errors of the peer, over the life of a connection.
const RESETS_OWN_MAX: usize = 100;

/// How hyper is set up. No timer: the watch bounds idling without one.
pub(super) fn protocol<P>(plane: P, head_bytes_max: usize) -> http2::Builder<P> {
    let mut http = http2::Builder::new(plane);
    http.max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_OWN_MAX)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX));
    http
}

/// Where the tasks of HTTP/2 calls run.
pub trait Plane<F, B: Body>: From<Next> + Http2ServerConnExec<Answering<F>, Reply<B>>
where
    B: Body<Data = Bytes> + Unpin,
{
}

impl<P, F, B> Plane<F, B> for P
where
    P: From<Next> + Http2ServerConnExec<Answering<F>, Reply<B>>,
    B: Body<Data = Bytes> + Unpin,
{
}

/// On the thread that accepted the connection.
#[derive(Clone, Debug)]
pub struct OwnThread(Next);

/// On any thread of the runtime.
#[derive(Clone, Debug)]
pub struct AnyThread(Next);

/// The watch of the stream that hyper spawns next: it does so right after it has called the service.
#[derive(Clone, Debug, Default)]
pub struct Next(Arc<Mutex<Option<Watched>>>);

impl Next {
    pub(super) fn set(&self, watched: Watched) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(watched);
    }

    fn take(&self) -> Option<Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl From<Next> for OwnThread {
    fn from(next: Next) -> Self {
        Self(next)
    }
}

impl From<Next> for AnyThread {
    fn from(next: Next) -> Self {
        Self(next)
    }
}

impl<T: Future<Output = ()> + 'static> Executor<T> for OwnThread {
    fn execute(&self, task: T) {
        tokio::task::spawn_local(until_cut(self.0.take(), task));
    }
}

impl<T: Future<Output = ()> + Send + 'static> Executor<T> for AnyThread {
    fn execute(&self, task: T) {
        tokio::spawn(until_cut(self.0.take(), task));
    }
}

/// Dropped, a call's task resets its stream.
async fn until_cut(watched: Option<Watched>, task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    poll_fn(|context| {
        if let Some(watched) = &watched {
            watched.attend(context);
            if watched.order() == Order::Cut {
                return Poll::Ready(());
            }
        }
        task.as_mut().poll(context)
    })
    .await;
}
