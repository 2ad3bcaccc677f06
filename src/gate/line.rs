//! What an agent hears before its answer: 1xx answers (RFC 9110 section 15.2), 103 Early Hints above all.
//!
//! hyper's server can't send them, so they go beside it: the call [says](Line::say) them, and the connection sends them
//! while hyper has nothing of its own under way and the call's answer has not begun; until they are out, the answer
//! waits. There is one line for each HTTP/1.1 connection. Over HTTP/2 hyper has no way to send them, and they are passed
//! over.

use crate::gate::fields::{self, Length};
use bytes::Bytes;
use http::header::HeaderMap;
use http::{StatusCode, Version};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

/// Beside one HTTP/1.1 connection.
#[derive(Default)]
pub struct Line {
    /// Whether anything was said that is not out yet. Read on every flush, so that connections on which nothing is said
    /// take no lock.
    unsent: AtomicBool,
    /// Whether a call is under way whose answer has not begun. Ends under the lock, so that nothing is said after it.
    open: AtomicBool,
    /// Whether the call's request was read to its end.
    whole: AtomicBool,
    /// Whether another protocol takes the connection over.
    switched: AtomicBool,
    said: Mutex<Vec<u8>>,
    /// Whether somebody wants to know when the answer was taken. Read on every flush.
    awaited: AtomicBool,
    taken: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Of the task that drives the connection: one task, so one waker for life.
    waker: OnceLock<Waker>,
}

/// Bytes that wait for an agent that does not take them; what does not fit is not sent.
const WAITING_BYTES_MAX: usize = 64 * 1024;

impl Line {
    /// A call begins, whose request is `whole` or is still to be read.
    pub fn open(&self, whole: bool) {
        self.whole.store(whole, Ordering::Relaxed);
        self.open.store(true, Ordering::Release);
    }

    /// Its request was read to its end: an agent that sends no more has said all, and may wait for its answer.
    pub fn whole(&self) {
        self.whole.store(true, Ordering::Relaxed);
        // The connection looks for the end of input from here on.
        self.wake();
    }

    /// Whether it was.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    /// Its answer switches the connection to another protocol.
    pub fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// Whether it did.
    pub fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// Its answer begins: nothing is said any longer.
    pub fn close(&self) {
        let _said = self.said();
        self.open.store(false, Ordering::Release);
    }

    /// Says that `status` came, with `fields` as the backend sent them.
    pub fn say(&self, status: StatusCode, fields: &HeaderMap) {
        // What the gate says by itself, where it reads a body that the agent holds back.
        if status == StatusCode::CONTINUE {
            return;
        }
        let head = head(status, fields);
        let mut said = self.said();
        if self.open.load(Ordering::Acquire) && said.len() + head.len() <= WAITING_BYTES_MAX {
            said.extend_from_slice(&head);
            self.unsent.store(true, Ordering::Release);
            drop(said);
            self.wake();
        }
    }

    /// Notes who drives the connection.
    pub fn attend(&self, context: &Context<'_>) {
        if self.waker.get().is_none() {
            let _ = self.waker.set(context.waker().clone());
        }
    }

    /// Whether something was said that is not out yet: the answer waits for it.
    pub fn is_unsent(&self) -> bool {
        self.unsent.load(Ordering::Acquire)
    }

    /// What is to be sent now.
    pub fn heads(&self) -> Bytes {
        std::mem::take(&mut *self.said()).into()
    }

    /// All that [`Line::heads`] gave is out. False if more was said meanwhile.
    pub fn sent(&self) -> bool {
        let said = self.said();
        let all = said.is_empty();
        self.unsent.store(!all, Ordering::Release);
        all
    }

    /// Has `done` called once the answer, which was handed over to its end, was written to its last byte to a connection that
    /// the agent had not closed; never, if it was not.
    pub fn once_taken(&self, done: Box<dyn FnOnce() + Send>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = Some(done);
        self.awaited.store(true, Ordering::Release);
        drop(taken);
        self.wake();
    }

    /// Whether somebody wants to know.
    pub fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Acquire)
    }

    /// All that was handed over is written, to a connection that is open or not.
    pub fn written(&self, open: bool) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.awaited.store(false, Ordering::Release);
        let done = taken.take();
        drop(taken);
        if let Some(done) = done.filter(|_| open) {
            done();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    fn said(&self) -> MutexGuard<'_, Vec<u8>> {
        // A panic elsewhere can't leave half a head here.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

/// The head as HTTP/1.1 writes it, less what belongs to the backend's connection.
fn head(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let mut fields = fields.clone();
    // It has no body, whatever it says.
    fields::clean_response(&mut fields, Length::OfBody);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("{:?} {} {reason}\r\n", Version::HTTP_11, status.as_str()).into_bytes();
    for (name, value) in &fields {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn hints() -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.append("link", HeaderValue::from_static("</a.css>; rel=preload"));
        fields.append("connection", HeaderValue::from_static("x-hop"));
        fields.append("x-hop", HeaderValue::from_static("1"));
        fields.append("toolgate-replayed", HeaderValue::from_static("true"));
        fields.append("content-length", HeaderValue::from_static("7"));
        fields
    }

    #[test]
    fn what_is_said_is_an_interim_head_and_nothing_of_the_backends_connection() {
        let line = Line::default();
        line.open(true);
        line.say(StatusCode::CONTINUE, &HeaderMap::new());
        assert!(!line.is_unsent());
        line.say(StatusCode::EARLY_HINTS, &hints());
        line.say(StatusCode::PROCESSING, &HeaderMap::new());
        assert!(line.is_unsent());
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nvia: 1.1 toolgate\r\n\r\n\
                        HTTP/1.1 102 Processing\r\nvia: 1.1 toolgate\r\n\r\n";
        assert_eq!(line.heads(), expected);
        assert!(line.sent() && !line.is_unsent());
    }

    #[test]
    fn nothing_is_said_outside_of_a_call_or_beyond_the_bound() {
        let line = Line::default();
        line.say(StatusCode::EARLY_HINTS, &hints());
        assert!(!line.is_unsent());
        line.open(true);
        for _ in 0..10_000 {
            line.say(StatusCode::EARLY_HINTS, &hints());
        }
        assert!(line.heads().len() <= WAITING_BYTES_MAX);
        line.close();
        line.say(StatusCode::EARLY_HINTS, &hints());
        assert!(line.sent());
    }
}
