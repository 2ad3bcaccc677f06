//! The admin API's events, as a client hears them: Server-Sent Events, one connection at a time, bounded.
//!
//! It notes how far it has heard, so that the next connection goes on there. It refuses to wait for ever: a stream that
//! does not even show that it lives is lost.

use super::Failure;
use super::client::{Client, judge};
use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::timeout;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `approval`, `quarantine`, `policy`, `reset`.
    pub name: String,
    /// What is told of it.
    pub data: Value,
}

/// An open stream.
pub struct Events {
    body: Incoming,
    connection: Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>,
    parser: Parser,
}

/// Until the answer's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence: heartbeats come every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Longest line and longest refusal read.
const BYTES_MAX: usize = 64 * 1024;

impl Client {
    /// Opens the stream behind the event of this id; `None`: from now on.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn events(&self, last_id: Option<&str>) -> Result<Events, Failure> {
        let mut request = self.request(Method::GET, "/v1/events", None)?;
        let accept = HeaderValue::from_static("text/event-stream, application/problem+json");
        request.headers_mut().insert(ACCEPT, accept);
        if let Some(id) = last_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.headers_mut().insert("last-event-id", id);
        }
        let stream = TokioIo::new(self.dial().await?);
        let lost = |error: &dyn std::fmt::Display| self.unreachable(error);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(|error| lost(&error))?;
        let mut connection = Box::pin(connection);
        let answering = timeout(HEAD_TIMEOUT, sender.send_request(request));
        let answer = tokio::select! {
            answer = answering => answer,
            end = &mut connection => {
                return Err(match end {
                    Ok(()) => lost(&"the connection was closed"),
                    Err(error) => lost(&error),
                });
            }
        };
        let answer = answer
            .map_err(|_| lost(&"the answer timed out"))?
            .map_err(|error| lost(&error))?;
        let (head, body) = answer.into_parts();
        let mut events = Events {
            body,
            connection,
            parser: Parser::default(),
        };
        if head.status == StatusCode::OK {
            return Ok(events);
        }
        let body = events.refusal().await;
        Err(match judge(head.status, &body) {
            Err(failure) => failure,
            Ok(_) => Failure::Ours(
                "the answer is no stream of events: does --admin name the gate's admin listener?"
                    .to_owned(),
            ),
        })
    }
}

impl Events {
    /// The next event; `None`: the stream has ended, or shows no sign of life.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parser.event() {
                return Some(event);
            }
            let chunk = timeout(SILENCE_MAX, self.chunk()).await.ok().flatten()?;
            if !self.parser.feed(&chunk) {
                return None;
            }
        }
    }

    /// How far it was heard: where the next stream is to go on.
    pub fn last_id(&self) -> Option<&str> {
        self.parser.last_id.as_deref()
    }

    async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            // The connection is driven here, beside the body that comes by it.
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame?.ok()?,
                end = &mut self.connection => match end {
                    // What came before is in the body still.
                    Ok(()) => self.body.frame().await?.ok()?,
                    Err(_) => return None,
                },
            };
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }

    async fn refusal(&mut self) -> Bytes {
        let reading = Limited::new(&mut self.body, BYTES_MAX).collect();
        let read = tokio::select! {
            read = timeout(HEAD_TIMEOUT, reading) => read.ok().and_then(Result::ok),
            _ = &mut self.connection => None,
        };
        read.map(http_body_util::Collected::to_bytes)
            .unwrap_or_default()
    }
}

/// Lines to events (section 9.2.6 of the HTML standard).
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed behind it belongs to it.
    after_return: bool,
    name: String,
    data: String,
    has_data: bool,
    id: Option<String>,
    last_id: Option<String>,
    ready: std::collections::VecDeque<Event>,
}

impl Parser {
    fn event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// False: this is no stream of events.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            let follows_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.take(&String::from_utf8_lossy(&line));
                }
                _ => self.line.push(*byte),
            }
            if self.line.len() > BYTES_MAX || self.data.len() > BYTES_MAX {
                return false;
            }
        }
        true
    }

    fn take(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // A comment, or what later versions may say.
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        if let Some(id) = self.id.take() {
            self.last_id = Some(id);
        }
        let (name, data) = (
            std::mem::take(&mut self.name),
            std::mem::take(&mut self.data),
        );
        if std::mem::take(&mut self.has_data) {
            let data = serde_json::from_str(&data).unwrap_or(Value::Null);
            self.ready.push_back(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn heard(text: &str, at_once: usize) -> (Vec<Event>, Option<String>) {
        let mut parser = Parser::default();
        for chunk in text.as_bytes().chunks(at_once) {
            assert!(parser.feed(chunk));
        }
        (parser.ready.into(), parser.last_id)
    }

    #[test]
    fn events_are_read_however_the_stream_is_cut_and_whatever_ends_a_line() {
        let text = "id: a\nretry: 2000\n\n: alive\n\nevent: approval\ndata: {\"id\":\n data: x\ndata:7}\nid: b\n\nevent: half\n";
        let text = text.replace(" data: x\n", "");
        let expected = (
            vec![Event {
                name: "approval".to_owned(),
                data: json!({"id": 7}),
            }],
            Some("b".to_owned()),
        );
        for text in [
            text.clone(),
            text.replace('\n', "\r\n"),
            text.replace('\n', "\r"),
        ] {
            for at_once in [1, 3, 1000] {
                assert_eq!(heard(&text, at_once), expected);
            }
        }
    }

    #[test]
    fn a_line_without_end_is_no_stream_of_events() {
        let mut parser = Parser::default();
        assert!(!parser.feed(&vec![b'x'; BYTES_MAX + 1]));
    }
}
