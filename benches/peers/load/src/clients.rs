//! The clients: a fixed rate, idle and held connections, sessions to be minted, many streams.

use crate::http;
use crate::{Options, Outcome};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A run that gets no answer for this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections to one address, and the poll they are in.
struct Crowd {
    poll: OwnedFd,
    streams: Vec<TcpStream>,
    came: Vec<Vec<u8>>,
    events: Vec<Event>,
    bytes: Vec<u8>,
}

impl Crowd {
    fn new() -> Outcome<Self> {
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        Ok(Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            streams: Vec::new(),
            came: Vec::new(),
            events: Vec::with_capacity(256),
            bytes: vec![0; 64 * 1024],
        })
    }

    fn connect(&mut self, address: SocketAddr) -> Outcome<usize> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let place = self.streams.len();
        epoll::add(
            &self.poll,
            &stream,
            EventData::new_u64(place as u64),
            EventFlags::IN,
        )?;
        self.streams.push(stream);
        self.came.push(Vec::new());
        Ok(place)
    }

    /// Sends all of it, waiting where the other side is slow.
    fn send(&mut self, place: usize, mut text: &[u8]) -> Outcome {
        while !text.is_empty() {
            match self.streams[place].write(text) {
                Ok(sent) => text = &text[sent..],
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => {
                    let mut polled = [rustix::event::PollFd::new(
                        &self.streams[place],
                        rustix::event::PollFlags::OUT,
                    )];
                    rustix::event::poll(&mut polled, None)?;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }

    /// Waits, and reads what came; says on which connections.
    fn wait(&mut self, most: Duration) -> Outcome<Vec<usize>> {
        self.events.clear();
        let most = Timespec {
            tv_sec: i64::try_from(most.as_secs())?,
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        epoll::wait(&self.poll, spare_capacity(&mut self.events), Some(&most))?;
        let mut places = Vec::with_capacity(self.events.len());
        for event in &self.events {
            let place = usize::try_from(event.data.u64())?;
            match self.streams[place].read(&mut self.bytes) {
                Ok(0) => return Err("a connection was closed".into()),
                Ok(read) => {
                    self.came[place].extend_from_slice(&self.bytes[..read]);
                    places.push(place);
                }
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(places)
    }

    /// Takes an answer that has come whole.
    fn answer(&mut self, place: usize) -> Option<(u16, Vec<u8>)> {
        let (status, length) = http::answer(&self.came[place])?;
        let rest = self.came[place].split_off(length);
        Some((status, std::mem::replace(&mut self.came[place], rest)))
    }
}

/// What is sent: `--method`, `--path` (with `{n}` for a number of its own), `--body` bytes; as many as there are tokens, or `least`.
fn requests(options: &Options, least: usize) -> Outcome<Vec<Vec<u8>>> {
    let method = options.number("method", "GET".to_owned())?;
    let path = options.number("path", "/v1/tools/search?q=hello".to_owned())?;
    let body: usize = options.number("body", 0)?;
    let tokens = options.tokens()?;
    let length = if body > 0 {
        format!("Content-Type: application/json\r\nContent-Length: {body}\r\n")
    } else {
        String::new()
    };
    let count = tokens.len().max(least);
    let requests = tokens.iter().cycle().take(count).enumerate();
    let requests = requests.map(|(number, token)| {
        let path = path.replace("{n}", &number.to_string());
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: tools.local\r\nUser-Agent: load\r\nAccept: application/json\r\n{length}Authorization: Bearer {token}\r\n\r\n"
        )
        .into_bytes();
        text.resize(text.len() + body, b'x');
        text
    });
    Ok(requests.collect())
}

/// `--rate` requests a second on `--connections`, for `--seconds`: latency counts from the moment at which a request was due, so a proxy
/// that falls behind is seen to. With `--count` instead as many as that, one after the other on each connection.
pub fn rate(options: &Options) -> Outcome {
    let address = options.address("address")?;
    let requests = requests(options, 1)?;
    let connections: usize = options.number("connections", 32)?;
    let count: usize = options.number("count", 0)?;
    let rate: f64 = options.number("rate", 1000.0)?;
    let seconds: f64 = options.number("seconds", 3.0)?;
    let mut crowd = Crowd::new()?;
    let mut free = VecDeque::new();
    for _ in 0..connections {
        free.push_back(crowd.connect(address)?);
    }
    // The first half second is not counted.
    let (warm, total) = if count > 0 {
        (0, count)
    } else {
        whole(rate * 0.5, rate * (seconds + 0.5))
    };
    let begun = Instant::now() + Duration::from_millis(10);
    let due = |number: usize| {
        if count > 0 {
            begun
        } else {
            begun + Duration::from_secs_f64(number as f64 / rate)
        }
    };
    let mut since = vec![begun; connections];
    let mut number = vec![0; connections];
    let mut taken = Vec::with_capacity(total);
    let (mut sent, mut done, mut bad) = (0, 0, 0);
    let mut last = Instant::now();
    while done < total {
        while sent < total && due(sent) <= Instant::now() {
            let Some(place) = free.pop_front() else { break };
            since[place] = if count > 0 { Instant::now() } else { due(sent) };
            number[place] = sent;
            crowd.send(place, &requests[sent % requests.len()])?;
            sent += 1;
        }
        let most = if sent < total && !free.is_empty() {
            due(sent).saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(100)
        };
        for place in crowd.wait(most)? {
            let Some((status, _)) = crowd.answer(place) else {
                continue;
            };
            last = Instant::now();
            bad += usize::from(status != 200);
            if number[place] >= warm {
                taken.push(since[place].elapsed());
            }
            done += 1;
            free.push_back(place);
        }
        if last.elapsed() > PATIENCE {
            return Err("no answer comes any more".into());
        }
    }
    taken.sort_unstable();
    println!("{{\"calls\":{done},\"bad\":{bad},{}}}", quantiles(&taken));
    Ok(())
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are small and positive"
)]
fn whole(one: f64, other: f64) -> (usize, usize) {
    (one as usize, other as usize)
}

/// Microseconds, of what is sorted.
fn quantiles(taken: &[Duration]) -> String {
    let at = |share: usize| {
        let place = (taken.len() * share / 1000).min(taken.len().saturating_sub(1));
        taken.get(place).map_or(0.0, |it| it.as_secs_f64() * 1e6)
    };
    format!(
        "\"p50\":{:.1},\"p90\":{:.1},\"p99\":{:.1},\"max\":{:.1}",
        at(500),
        at(900),
        at(990),
        at(1000)
    )
}

/// Opens `--count` connections, sends one call on each, and keeps them until its input ends; `--answered false` for calls that wait.
pub fn idle(options: &Options) -> Outcome {
    let address = options.address("address")?;
    let requests = requests(options, options.number("count", 1000)?)?;
    let count: usize = options.number("count", 1000)?;
    let answered: bool = options.number("answered", true)?;
    let mut crowd = Crowd::new()?;
    let mut bad = 0;
    let mut waiting = 0;
    for number in 0..count {
        let place = crowd.connect(address)?;
        crowd.send(place, &requests[number % requests.len()])?;
        waiting += 1;
        // A few at a time: nobody's backlog overflows.
        while answered && (waiting >= 32 || (number + 1 == count && waiting > 0)) {
            let came = crowd.wait(PATIENCE)?;
            if came.is_empty() {
                return Err("no answer comes any more".into());
            }
            for place in came {
                if let Some((status, _)) = crowd.answer(place) {
                    bad += usize::from(status != 200);
                    waiting -= 1;
                }
            }
        }
    }
    println!("{{\"open\":{count},\"bad\":{bad}}}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Mints `--count` sessions through the admin API at `--address`, with the principal's `--key`; their tokens go to `--out`, one a line.
pub fn mint(options: &Options) -> Outcome {
    let count: usize = options.number("count", 1000)?;
    let key = options.text("key")?;
    let body = options.text("session")?;
    let request = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut out = std::io::BufWriter::new(std::fs::File::create(options.text("out")?)?);
    let mut crowd = Crowd::new()?;
    let (mut sent, mut done) = (0, 0);
    let begun = Instant::now();
    for _ in 0..options.number("connections", 64)?.min(count) {
        let place = crowd.connect(options.address("address")?)?;
        crowd.send(place, request.as_bytes())?;
        sent += 1;
    }
    while done < count {
        let came = crowd.wait(PATIENCE)?;
        if came.is_empty() {
            return Err("no answer comes any more".into());
        }
        for place in came {
            let Some((status, text)) = crowd.answer(place) else {
                continue;
            };
            let text = String::from_utf8(text)?;
            let token = text
                .split_once("\"token\":\"")
                .and_then(|(_, rest)| rest.split_once('"'));
            let (201, Some((token, _))) = (status, token) else {
                return Err(format!("the session was not minted: {text}").into());
            };
            writeln!(out, "{token}")?;
            done += 1;
            if sent < count {
                crowd.send(place, request.as_bytes())?;
                sent += 1;
            }
        }
    }
    out.flush()?;
    println!(
        "{{\"minted\":{done},\"seconds\":{:.2}}}",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// `--count` streams of events through `--address`; the backend at `--publish` sends `--events` to all of them, `--rate` a second. Latency is
/// from the moment at which an event is handed to the backend until a stream has it.
pub fn streams(options: &Options) -> Outcome {
    let address = options.address("address")?;
    let requests = requests(options, options.number("count", 1000)?)?;
    let count: usize = options.number("count", 1000)?;
    let total: usize = options.number("events", 50)?;
    let rate: f64 = options.number("rate", 10.0)?;
    let mut crowd = Crowd::new()?;
    for number in 0..count {
        let place = crowd.connect(address)?;
        crowd.send(place, &requests[number % requests.len()])?;
    }
    let mut heads = 0;
    while heads < count {
        let came = crowd.wait(PATIENCE)?;
        if came.is_empty() {
            return Err("no head comes any more".into());
        }
        for place in came {
            let Some((head, _)) = http::head(&crowd.came[place]) else {
                continue;
            };
            if http::status(head) != Some(200) {
                return Err(String::from_utf8_lossy(head).into());
            }
            heads += 1;
            crowd.came[place].clear();
        }
    }
    // Who measures begins here: see what the proxy used from now on.
    println!("{{\"open\":{count}}}");
    let mut word = [0; 1];
    std::io::stdin().read_exact(&mut word)?;
    let mut publisher = TcpStream::connect(options.address("publish")?)?;
    publisher.set_nodelay(true)?;
    let begun = Instant::now();
    let mut since = Vec::with_capacity(total);
    let mut taken = Vec::with_capacity(total * count);
    let mut last = Instant::now();
    while taken.len() < total * count {
        let due = begun + Duration::from_secs_f64(since.len() as f64 / rate);
        if since.len() < total && due <= Instant::now() {
            // 128 bytes, of which the first eight say which event it is.
            let body = format!("#{:07}{}", since.len(), "x".repeat(120));
            since.push(Instant::now());
            publisher.write_all(
                format!(
                    "POST /publish HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            )?;
            continue;
        }
        let most = if since.len() < total {
            due.saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(100)
        };
        for place in crowd.wait(most)? {
            last = Instant::now();
            while let Some(at) = crowd.came[place].iter().position(|byte| *byte == b'#') {
                let Some(digits) = crowd.came[place].get(at + 1..at + 8) else {
                    break;
                };
                let number: usize = std::str::from_utf8(digits)?.parse()?;
                taken.push(since[number].elapsed());
                crowd.came[place].drain(..at + 8);
            }
        }
        if last.elapsed() > PATIENCE {
            return Err("no event comes any more".into());
        }
    }
    taken.sort_unstable();
    println!(
        "{{\"streams\":{count},\"events\":{},{}}}",
        taken.len(),
        quantiles(&taken)
    );
    Ok(())
}
