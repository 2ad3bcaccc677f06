//! The backend: one thread, every request read whole and answered with 200 bytes of JSON; streams of events on `/v1/tools/events`.
//!
//! `GET /count` says how many requests were answered before, `POST /publish` sends its body to all streams as one event. Proxies are not
//! routed there.

use crate::http::{self, Body};
use crate::{Options, Outcome};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// A head, or a chunked body, that has not come whole.
    kept: Vec<u8>,
    /// Of a body, the bytes still to come.
    rest: usize,
    /// What could not be sent yet.
    unsent: Vec<u8>,
    /// Takes part in what is published.
    listens: bool,
    /// The poll says when more can be sent.
    waits: bool,
}

/// What a request asks for.
enum Asked {
    Answer,
    Events,
    Count,
    Publish(Vec<u8>),
}

pub fn serve(options: &Options) -> Outcome {
    let listener = TcpListener::bind(options.text("listen")?)?;
    // The backlog of the standard library is short of what a rush of connections needs.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    println!("{{\"port\":{}}}", listener.local_addr()?.port());
    let body = format!(
        r#"{{"id":"call_0123456789","tool":"search","ok":true,"result":"{}"}}"#,
        "x".repeat(138)
    );
    let plain = said(&body);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut bytes = vec![0; 256 * 1024];
    let mut count = 0_u64;
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let (token, flags) = (event.data.u64(), event.flags);
            if token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let place = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    epoll::add(
                        &poll,
                        &stream,
                        EventData::new_u64(place as u64),
                        EventFlags::IN,
                    )?;
                    connections[place] = Some(Connection {
                        stream,
                        kept: Vec::new(),
                        rest: 0,
                        unsent: Vec::new(),
                        listens: false,
                        waits: false,
                    });
                }
                continue;
            }
            let place = usize::try_from(token)?;
            let Some(connection) = connections.get_mut(place).and_then(Option::as_mut) else {
                continue;
            };
            let mut asked = Vec::new();
            let mut open = connection.flush(&poll, place);
            if open && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                open = match connection.stream.read(&mut bytes) {
                    Ok(0) => false,
                    Ok(read) => {
                        connection.eat(&bytes[..read], &mut asked);
                        true
                    }
                    Err(fault) => fault.kind() == ErrorKind::WouldBlock,
                };
            }
            let mut news = Vec::new();
            for one in asked {
                match one {
                    Asked::Answer => {
                        count += 1;
                        connection.unsent.extend_from_slice(plain.as_bytes());
                    }
                    Asked::Count => {
                        let text = said(&format!("{{\"count\":{count}}}"));
                        connection.unsent.extend_from_slice(text.as_bytes());
                    }
                    Asked::Events => {
                        count += 1;
                        connection.listens = true;
                        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";
                        connection.unsent.extend_from_slice(head.as_bytes());
                    }
                    Asked::Publish(text) => {
                        news.push(text);
                        connection.unsent.extend_from_slice(said("{}").as_bytes());
                    }
                }
            }
            open = open && connection.flush(&poll, place);
            if !open {
                // Closing takes it out of the poll.
                connections[place] = None;
                free.push(place);
            }
            for text in news {
                let event = [b"data: ", text.as_slice(), b"\n\n"].concat();
                let chunk = [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat();
                for (place, slot) in connections.iter_mut().enumerate() {
                    let Some(listener) = slot.as_mut().filter(|it| it.listens) else {
                        continue;
                    };
                    listener.unsent.extend_from_slice(&chunk);
                    if !listener.flush(&poll, place) {
                        *slot = None;
                        free.push(place);
                    }
                }
            }
        }
    }
}

fn said(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Connection {
    /// Takes what came; says what whole requests it ends.
    fn eat(&mut self, came: &[u8], asked: &mut Vec<Asked>) {
        let mut kept = std::mem::take(&mut self.kept);
        let mut text = if kept.is_empty() {
            came
        } else {
            kept.extend_from_slice(came);
            &kept
        };
        loop {
            if self.rest > 0 {
                let taken = self.rest.min(text.len());
                self.rest -= taken;
                text = &text[taken..];
                if self.rest > 0 {
                    return;
                }
                asked.push(Asked::Answer);
            }
            let Some((head, body)) = http::head(text) else {
                break;
            };
            let behind = &text[head.len()..];
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
            match body {
                Body::Length(length) if line.starts_with(b"POST /publish") => {
                    if behind.len() < length {
                        break;
                    }
                    asked.push(Asked::Publish(behind[..length].to_vec()));
                    text = &behind[length..];
                }
                Body::Length(0) => {
                    asked.push(if line.starts_with(b"GET /count") {
                        Asked::Count
                    } else if line.starts_with(b"GET /v1/tools/events") {
                        Asked::Events
                    } else {
                        Asked::Answer
                    });
                    text = behind;
                }
                Body::Length(length) => {
                    self.rest = length;
                    text = behind;
                }
                Body::Chunked => {
                    let end = if behind.starts_with(b"0\r\n\r\n") {
                        Some(5)
                    } else {
                        http::find(behind, b"\r\n0\r\n\r\n").map(|at| at + 7)
                    };
                    let Some(end) = end else {
                        break;
                    };
                    asked.push(Asked::Answer);
                    text = &behind[end..];
                }
            }
        }
        self.kept = text.to_vec();
    }

    /// Sends what is unsent, as far as it goes; false where the other side is gone.
    fn flush(&mut self, poll: &rustix::fd::OwnedFd, place: usize) -> bool {
        if self.unsent.is_empty() {
            return true;
        }
        let open = match self.stream.write(&self.unsent) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                true
            }
            Err(fault) => fault.kind() == ErrorKind::WouldBlock,
        };
        let waits = !self.unsent.is_empty();
        if waits != self.waits {
            self.waits = waits;
            let wanted = if waits {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            let _ = epoll::modify(
                poll,
                &self.stream,
                EventData::new_u64(place as u64),
                wanted,
            );
        }
        open
    }
}
