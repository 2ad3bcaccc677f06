//! The ten kinds of calls, and what both ends tell of one.

use super::call::{CALL, Call, Calls, Seen};
use super::content::{Content, Intake, Received, fields, pattern};
use super::door::{Door, Talk};
use super::reference::{PIECE, PIECES, TASTED};
use super::side::{End, Side};
use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Get,
    Post,
    Upload,
    Events,
    Trailers,
    Head,
    Unchanged,
    Range,
    Refused,
    Slow,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Get,
        Kind::Post,
        Kind::Upload,
        Kind::Events,
        Kind::Trailers,
        Kind::Head,
        Kind::Unchanged,
        Kind::Range,
        Kind::Refused,
        Kind::Slow,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Get => "GET",
            Kind::Post => "POST 1 KiB",
            Kind::Upload => "POST 64 MiB chunked",
            Kind::Events => "SSE",
            Kind::Trailers => "trailers both ways",
            Kind::Head => "HEAD",
            Kind::Unchanged => "304",
            Kind::Range => "range 206",
            Kind::Refused => "early 413",
            Kind::Slow => "slow body",
        }
    }

    /// What the answer's status must be on either way: a comparison of two failures would prove nothing.
    pub fn status(self) -> u16 {
        match self {
            Kind::Get | Kind::Upload | Kind::Events | Kind::Trailers | Kind::Head | Kind::Slow => {
                200
            }
            Kind::Post => 201,
            Kind::Unchanged => 304,
            Kind::Range => 206,
            Kind::Refused => 413,
        }
    }
}

/// Bytes of the large upload.
pub const UPLOAD: usize = 64 * 1024 * 1024;

/// What both ends tell of one call.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// In which version the answer came.
    pub version: Version,
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Received,
    pub seen: Seen,
}

/// Makes one call of `kind` through `door`, under a name that the backend knows it by. The longest it may take is bounded.
pub async fn perform(
    kind: Kind,
    door: &Door,
    calls: &Calls,
    name: &str,
) -> Result<Exchange, String> {
    let opened = door.open().await;
    let talk = opened.map_err(|fault| format!("no connection: {fault}"))?;
    perform_on(kind, talk, calls, name).await
}

/// As [`perform`], on a connection that is open.
pub async fn perform_on(
    kind: Kind,
    talk: Talk,
    calls: &Calls,
    name: &str,
) -> Result<Exchange, String> {
    let call = calls.of(name);
    tokio::time::timeout(PATIENCE, attempt(kind, talk, &call, name))
        .await
        .unwrap_or_else(|_| Err(format!("did not end within {PATIENCE:?}")))
}

const PATIENCE: Duration = Duration::from_secs(60);

async fn attempt(
    kind: Kind,
    mut talk: Talk,
    call: &Arc<Call>,
    name: &str,
) -> Result<Exchange, String> {
    let Plan {
        method,
        target,
        mut fields,
        body,
        held,
    } = plan(kind, call);
    fields.push((CALL, name));
    fields.push(("user-agent", "reference/1"));
    let answer = talk.start(method, target, &fields, body).await;
    let answer = answer.map_err(|fault| format!("no answer: {}", told(&fault)))?;
    let (head, body) = answer.into_parts();
    let body = match kind {
        Kind::Events => read_events(body, call).await,
        _ => read(body).await,
    };
    let body = body.map_err(|fault| format!("{}, then {fault}", head.status))?;
    let Some(seen) = call.seen() else {
        let said = &body.beginning;
        return Err(format!(
            "{}, and the backend saw nothing of it: {said}",
            head.status
        ));
    };
    // Until here the upload was unfinished.
    drop(held);
    Ok(Exchange {
        version: head.version,
        status: head.status.as_u16(),
        fields: self::fields(&head.headers),
        body,
        seen,
    })
}

/// A call to make.
struct Plan {
    method: Method,
    target: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    body: Content,
    /// The far end of an upload that stays unfinished.
    held: Option<tokio::sync::mpsc::Sender<Frame<Bytes>>>,
}

fn plan(kind: Kind, call: &Arc<Call>) -> Plan {
    let bare = |method, target| Plan {
        method,
        target,
        fields: Vec::new(),
        body: Content::Empty,
        held: None,
    };
    let posted = |target, body| Plan {
        body,
        fields: vec![("content-type", "application/octet-stream")],
        ..bare(Method::POST, target)
    };
    match kind {
        Kind::Get => Plan {
            fields: vec![
                ("accept", "text/plain, */*;q=0.1"),
                ("accept-encoding", "gzip, x-noise"),
                ("cookie", "one=1; two=2"),
                ("x-list", "a"),
                ("x-list", "b"),
            ],
            ..bare(Method::GET, "/page?q=ada%20lovelace&plus=a+b&q=;&empty=")
        },
        Kind::Head => bare(Method::HEAD, "/page"),
        Kind::Unchanged => Plan {
            fields: vec![("if-none-match", "\"v1\"")],
            ..bare(Method::GET, "/page")
        },
        Kind::Range => Plan {
            fields: vec![("range", "bytes=100-299"), ("if-range", "\"v1\"")],
            ..bare(Method::GET, "/page")
        },
        Kind::Post => posted("/echo", Content::whole(pattern(1, 1024))),
        Kind::Upload => posted(
            "/sink",
            Content::Pattern {
                left: UPLOAD,
                at: 0,
            },
        ),
        Kind::Events => Plan {
            fields: vec![("accept", "text/event-stream")],
            ..bare(Method::GET, "/events")
        },
        Kind::Trailers => Plan {
            fields: vec![("te", "trailers"), ("trailer", "x-checksum, x-pieces")],
            ..posted("/trailers", trailed())
        },
        Kind::Refused => {
            let (sender, body) = Content::fed(Some(1024 * 1024));
            sender
                .try_send(Frame::data(pattern(2, TASTED)))
                .expect("there is room for one");
            Plan {
                held: Some(sender),
                ..posted("/refuse", body)
            }
        }
        Kind::Slow => posted("/sink", slow(call)),
    }
}

/// A body with trailers behind it.
fn trailed() -> Content {
    let (sender, content) = Content::fed(None);
    tokio::spawn(async move {
        for number in 0..3 {
            drop(sender.send(Frame::data(pattern(number, 500))).await);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", "abc".parse().unwrap());
        trailers.insert("x-pieces", "3".parse().unwrap());
        drop(sender.send(Frame::trailers(trailers)).await);
    });
    content
}

/// A body that comes piece by piece: after each a pause, and none before the backend has the one before it.
fn slow(call: &Arc<Call>) -> Content {
    let (sender, content) = Content::fed(None);
    let call = Arc::clone(call);
    tokio::spawn(async move {
        for number in 0..PIECES {
            if sender
                .send(Frame::data(pattern(number, PIECE)))
                .await
                .is_err()
            {
                return;
            }
            call.came.acquire().await.unwrap().forget();
            // Longer than a round of the gate's sweep: this is what is slow.
            tokio::time::sleep(PAUSE).await;
        }
    });
    content
}

const PAUSE: Duration = Duration::from_millis(150);

/// Reads an answer to its end.
pub async fn read(mut body: Incoming) -> Result<Received, String> {
    let mut intake = Intake::new();
    while let Some(frame) = body.frame().await {
        intake.take(
            frame.map_err(|fault| format!("after {} bytes: {}", intake.bytes(), told(&fault)))?,
        );
    }
    Ok(intake.end())
}

/// Lets the backend send the next event only when the one before it is here, whole.
async fn read_events(mut body: Incoming, call: &Call) -> Result<Received, String> {
    let mut intake = Intake::new();
    for number in 0..PIECES {
        call.go.add_permits(1);
        let end =
            intake.bytes() + format!("id: {number}\nevent: tick\ndata: {number}\n\n").len() as u64;
        while intake.bytes() < end {
            let frame = tokio::time::timeout(EVENT_PATIENCE, body.frame()).await;
            let frame = frame.map_err(|_| format!("event {number} did not come by itself"))?;
            let frame = frame.ok_or_else(|| format!("ended before event {number}"))?;
            intake.take(frame.map_err(|fault| told(&fault))?);
        }
    }
    while let Some(frame) = body.frame().await {
        intake.take(frame.map_err(|fault| told(&fault))?);
    }
    Ok(intake.end())
}

const EVENT_PATIENCE: Duration = Duration::from_secs(30);

/// An error with its causes.
pub fn told(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(fault) = cause {
        write!(text, ": {fault}").unwrap();
        cause = fault.source();
    }
    text
}

/// What differs between a call made directly and the same call made through the gate, one line a difference.
pub fn compare(
    kind: Kind,
    agents: Side,
    backend: Side,
    direct: &Exchange,
    gated: &Exchange,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut check = |what: &str, direct: String, gated: String| {
        if direct != gated {
            let what = what.to_owned();
            found.push(Difference {
                what,
                direct,
                gated,
            });
        }
    };
    check(
        "status",
        direct.status.to_string(),
        gated.status.to_string(),
    );
    check(
        "status expected",
        kind.status().to_string(),
        gated.status.to_string(),
    );
    let expected = agents.version(End::Agents);
    check(
        "agents' version",
        format!("{expected:?}"),
        format!("{:?}", gated.version),
    );
    let expected = backend.version(End::Backend);
    check(
        "backend's version",
        format!("{expected:?}"),
        format!("{:?}", gated.seen.version),
    );
    check(
        "bytes",
        direct.body.bytes.to_string(),
        gated.body.bytes.to_string(),
    );
    check(
        "digest",
        direct.body.sha256.clone(),
        gated.body.sha256.clone(),
    );
    check("request line", direct.seen.line(), gated.seen.line());
    check(
        "request body",
        format!("{:?}", direct.seen.body),
        format!("{:?}", gated.seen.body),
    );
    let mut of_fields =
        |what: &str, direct: &[(String, String)], gated: &[(String, String)], own: &[&str]| {
            let names = direct.iter().chain(gated).map(|(name, _)| name);
            for name in names.collect::<std::collections::BTreeSet<_>>() {
                if HOP_BY_HOP.contains(&name.as_str()) || own.contains(&name.as_str()) {
                    continue;
                }
                check(
                    &format!("{what} {name}"),
                    values(direct, name),
                    values(gated, name),
                );
            }
        };
    of_fields("answer's", &direct.fields, &gated.fields, &ADDED_TO_ANSWERS);
    of_fields(
        "answer's trailer",
        &direct.body.trailers,
        &gated.body.trailers,
        &[],
    );
    of_fields(
        "request's",
        &direct.seen.fields,
        &gated.seen.fields,
        &ADDED_TO_REQUESTS,
    );
    found
}

/// Of one connection, not of the call (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&str; 3] = ["connection", "transfer-encoding", "keep-alive"];
/// What the gate says to agents.
const ADDED_TO_ANSWERS: [&str; 4] = [
    "via",
    "toolgate-request-id",
    "ratelimit",
    "ratelimit-policy",
];
/// What the gate says to backends; and the name of the call, which is another on each way.
const ADDED_TO_REQUESTS: [&str; 5] = [
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    CALL,
];

fn values(fields: &[(String, String)], name: &str) -> String {
    let values = fields.iter().filter(|field| field.0 == *name);
    let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
    if values.is_empty() {
        return "(absent)".to_owned();
    }
    format!("{values:?}")
}

/// One thing that is not the same on both ways.
#[derive(Debug)]
pub struct Difference {
    pub what: String,
    pub direct: String,
    pub gated: String,
}

impl Seen {
    fn line(&self) -> String {
        format!("{} {} at {}", self.method, self.target, self.authority)
    }
}
