//! A settled call as spans: OpenTelemetry's names where it has some (HTTP and `gen_ai.*` conventions), `toolgate.*` for what
//! is this gate's own.
//!
//! Only what records hold enters, and less: no field, no body, no value of a query that the ledger masks, and nothing that
//! an agent writes freely (its intent, its `User-Agent`, its `tracestate`).

use super::context::{Context, SpanId};
use super::proto::{
    AnyValue, KeyValue, PARENT_KNOWN, PARENT_REMOTE, Span, SpanKind, Status, StatusCode, Value,
};
use crate::ledger::clean::without_tokens;
use crate::ledger::record::{Fault, FrameCounts};
use crate::policy::decision::{GrantUse, Reason};
use crate::policy::id::{ApprovalId, RequestId, SessionId};
use crate::policy::model::PolicyHash;
use crate::policy::name::{AgentName, LimitId, ProjectName, RouteId, ScopeName, ToolName};
use crate::policy::resource::Resource;
use crate::policy::shadow::WouldBe;
use crate::policy::time::Timestamp;
use http::{Method, Version};
use std::fmt::Display;
use std::net::IpAddr;

/// A call that is over, as its records have it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its place in its trace.
    pub context: Context,
    /// When its head was there.
    pub time: Timestamp,
    /// Until its last byte.
    pub total_micros: u64,
    /// Until it was decided.
    pub decision_micros: Option<u64>,
    /// Waiting for people.
    pub hold: Option<Stretch>,
    /// What was sent to a backend.
    pub exchange: Option<Exchange>,
    /// Names it.
    pub request: RequestId,
    /// As sent.
    pub method: Method,
    /// As the ledger records it: canonical, masked.
    pub target: Box<str>,
    /// How the agent's side came.
    pub arrival: Arrival,
    /// Whose rules.
    pub project: ProjectName,
    /// Which version of them.
    pub policy: PolicyHash,
    /// Who.
    pub agent: AgentName,
    /// By which session.
    pub session: SessionId,
    /// Of which run, as whoever minted the session named it.
    pub run: Option<Box<str>>,
    /// What matched.
    pub tool: Option<ToolName>,
    /// And within it.
    pub route: Option<RouteId>,
    /// The permission needed.
    pub scope: Option<ScopeName>,
    /// What it acts on.
    pub resource: Option<Resource>,
    /// `allow`, `deny`, `hold`, or `own`; `None`: the agent left before.
    pub decision: Option<&'static str>,
    /// Why not.
    pub reason: Option<Reason>,
    /// What it went on.
    pub grant: Option<GrantUse>,
    /// What would have been decided of what passed because its route is in shadow.
    pub shadow: Option<WouldBe>,
    /// Which approval it stands under.
    pub approval: Option<ApprovalId>,
    /// Which limit refused it.
    pub limit: Option<LimitId>,
    /// Where from.
    pub client: IpAddr,
    /// Of the answer.
    pub status: Option<u16>,
    /// How it ended otherwise than by its last byte.
    pub fault: Option<Fault>,
    /// Of a tunnel.
    pub frames: Option<FrameCounts>,
    /// Of the agent's body.
    pub bytes_in: u64,
    /// Of the answer's.
    pub bytes_out: u64,
}

/// How the agent's side came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Whether the agent spoke TLS to the gate.
    pub encrypted: bool,
    /// Of HTTP.
    pub version: Version,
    /// The host and port asked for, where the target could be read.
    pub authority: Option<Box<str>>,
}

/// From so long after the call's beginning, for so long; `None`: to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Microseconds after the call's beginning.
    pub from_micros: u64,
    /// Microseconds.
    pub micros: Option<u64>,
}

/// What was sent to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Microseconds after the call's beginning; it ends with the call.
    pub from_micros: u64,
    /// Until the head of the answer.
    pub upstream_micros: Option<u64>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `host:port` connected to.
    pub authority: Box<str>,
    /// Masked, behind the mount, without what the operator puts before it.
    pub target: Box<str>,
    /// Of the backend's answer; `None`: there was none.
    pub status: Option<u16>,
}

impl Call {
    /// How many spans it becomes.
    pub fn spans(&self) -> usize {
        1 + usize::from(self.hold.is_some()) + usize::from(self.exchange.is_some())
    }

    /// Puts its spans behind others.
    pub(super) fn write(&self, spans: &mut Vec<Span>) {
        spans.push(self.server());
        spans.extend(self.hold.as_ref().map(|hold| self.held(hold)));
        spans.extend(self.exchange.as_ref().map(|sent| self.client(sent)));
    }

    fn server(&self) -> Span {
        let mut span = self.span(self.context.call, 0, self.total_micros);
        if let Some(parent) = self.context.parent {
            span.parent_span_id = parent.to_vec();
            span.flags |= PARENT_REMOTE;
        } else {
            span.parent_span_id = Vec::new();
        }
        let (method, name) = self.method();
        span.name = match (&self.route, self.decision) {
            (Some(route), _) => format!("{name} {route}"),
            // One name for all of the gate's own paths.
            (None, Some("own")) => format!("{name} /.toolgate"),
            (None, _) => name.to_owned(),
        };
        span.kind = SpanKind::Server.into();
        let mut say = Attributes(&mut span.attributes);
        say.text("http.request.method", method);
        if let Some(status) = self.status {
            say.number("http.response.status_code", status);
        }
        let (path, query) = parts(&self.target);
        say.text("url.path", path);
        if let Some(query) = query {
            say.text("url.query", query);
        }
        let Arrival {
            encrypted,
            version,
            authority,
        } = &self.arrival;
        say.text("url.scheme", if *encrypted { "https" } else { "http" });
        if let Some(authority) = authority {
            say.place(authority);
        }
        say.text("client.address", self.client.to_canonical());
        say.text("network.protocol.name", "http");
        if let Some(version) = version_in_words(*version) {
            say.text("network.protocol.version", version);
        }
        self.say_of_agent(&mut say);
        self.say_of_decision(&mut say);
        let failed = self.failed(self.status.filter(|status| *status >= 500));
        fail(&mut span, failed);
        span
    }

    /// Who calls what, as those name it who trace agents.
    fn say_of_agent(&self, say: &mut Attributes<'_>) {
        say.text("gen_ai.operation.name", "execute_tool");
        say.text("gen_ai.agent.name", &self.agent);
        match &self.run {
            Some(run) => say.text("gen_ai.conversation.id", run),
            None => say.text("gen_ai.conversation.id", self.session),
        }
        match (&self.tool, &self.route) {
            (Some(tool), Some(route)) => {
                say.text("gen_ai.tool.name", format_args!("{tool}/{route}"));
            }
            (Some(tool), None) => say.text("gen_ai.tool.name", tool),
            (None, _) => {}
        }
    }

    fn say_of_decision(&self, say: &mut Attributes<'_>) {
        say.text("toolgate.request.id", self.request);
        say.text("toolgate.project", &self.project);
        say.text("toolgate.policy", self.policy);
        say.text("toolgate.session.id", self.session);
        say.some("toolgate.run", self.run.as_ref());
        say.some("toolgate.decision", self.decision);
        say.some("toolgate.reason", self.reason.map(Reason::as_str));
        say.some("toolgate.scope", self.scope.as_ref());
        say.some(
            "toolgate.resource",
            self.resource.as_ref().map(Resource::as_str),
        );
        match self.grant {
            Some(GrantUse::OnUse) => say.text("toolgate.grant", "on_use"),
            Some(GrantUse::Stored(id)) => say.text("toolgate.grant", id),
            None => {}
        }
        let would = self
            .shadow
            .map(|would| (would.decision().as_str(), would.reason().as_str()));
        say.some("toolgate.shadow.would", would.map(|(decision, _)| decision));
        say.some("toolgate.shadow.reason", would.map(|(_, reason)| reason));
        say.some("toolgate.approval.id", self.approval);
        say.some("toolgate.limit", self.limit.as_ref());
        say.some("toolgate.fault", self.fault.map(Fault::as_str));
        if let Some(micros) = self.decision_micros {
            say.number("toolgate.decision_micros", micros);
        }
        say.number("toolgate.bytes_in", self.bytes_in);
        say.number("toolgate.bytes_out", self.bytes_out);
        if let Some(frames) = self.frames {
            say.number("toolgate.frames.received", frames.received);
            say.number("toolgate.frames.sent", frames.sent);
        }
    }

    fn held(&self, hold: &Stretch) -> Span {
        let left = self.total_micros.saturating_sub(hold.from_micros);
        let took = hold.micros.unwrap_or(left);
        let mut span = self.span(self.context.hold, hold.from_micros, took);
        span.name = "hold".to_owned();
        span.kind = SpanKind::Internal.into();
        let mut say = Attributes(&mut span.attributes);
        let would = self
            .shadow
            .map(|would| (would.decision().as_str(), would.reason().as_str()));
        say.some("toolgate.shadow.would", would.map(|(decision, _)| decision));
        say.some("toolgate.shadow.reason", would.map(|(_, reason)| reason));
        say.some("toolgate.approval.id", self.approval);
        say.some("toolgate.decision", self.decision);
        say.some("toolgate.reason", self.reason.map(Reason::as_str));
        span
    }

    fn client(&self, sent: &Exchange) -> Span {
        let took = self.total_micros.saturating_sub(sent.from_micros);
        let mut span = self.span(self.context.backend, sent.from_micros, took);
        let (method, name) = self.method();
        span.name = match &self.route {
            Some(route) => format!("{name} {route}"),
            None => name.to_owned(),
        };
        span.kind = SpanKind::Client.into();
        let mut say = Attributes(&mut span.attributes);
        say.text("http.request.method", method);
        if let Some(status) = sent.status {
            say.number("http.response.status_code", status);
        }
        say.place(&sent.authority);
        let (scheme, authority, target) = (sent.scheme, &sent.authority, &sent.target);
        say.text("url.full", format_args!("{scheme}://{authority}{target}"));
        say.text("network.protocol.name", "http");
        if let Some(micros) = sent.upstream_micros {
            say.number("toolgate.upstream_micros", micros);
        }
        let failed = self.failed(sent.status.filter(|status| *status >= 400));
        fail(&mut span, failed);
        span
    }

    /// One of the call's spans, below the first of them.
    fn span(&self, id: SpanId, from_micros: u64, micros: u64) -> Span {
        let begin = u64::try_from(self.time.micros())
            .unwrap_or(0)
            .saturating_add(from_micros);
        Span {
            trace_id: self.context.trace.0.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: self.context.call.to_vec(),
            start: begin.saturating_mul(1000),
            end: begin.saturating_add(micros).saturating_mul(1000),
            // Spans are made of what is sampled alone.
            flags: PARENT_KNOWN | 1,
            ..Span::default()
        }
    }

    /// The method as attribute and in names. What is neither well known nor in a route is the agent's invention.
    fn method(&self) -> (&str, &str) {
        let known = self.route.is_some() || KNOWN_METHODS.contains(&self.method.as_str());
        match known {
            true => (self.method.as_str(), self.method.as_str()),
            false => ("_OTHER", "HTTP"),
        }
    }

    /// The kind of error that a span is given, if it is one; `status` is one that says so.
    fn failed(&self, status: Option<u16>) -> Option<String> {
        match (self.fault, status, self.reason) {
            // The call itself came to its end.
            (Some(Fault::CostUnreadable) | None, None, _) => None,
            (Some(fault), ..) if fault != Fault::CostUnreadable => Some(fault.as_str().to_owned()),
            (_, Some(_), Some(reason)) => Some(reason.as_str().to_owned()),
            (_, Some(status), None) => Some(status.to_string()),
            (Some(_), None, _) => None,
        }
    }
}

fn fail(span: &mut Span, kind: Option<String>) {
    if let Some(kind) = kind {
        Attributes(&mut span.attributes).text("error.type", kind);
        span.status = Some(Status {
            code: StatusCode::Error.into(),
        });
    }
}

/// Attributes as they are gathered.
struct Attributes<'a>(&'a mut Vec<KeyValue>);

impl Attributes<'_> {
    fn text(&mut self, key: &str, value: impl Display) {
        let text = value.to_string();
        let mut text = without_tokens(&text).into_owned();
        if text.len() > TEXT_BYTES_MAX {
            let whole = (0..=TEXT_BYTES_MAX)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(whole.unwrap_or(0));
        }
        self.put(key, Value::Text(text));
    }

    fn some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: impl Into<u64>) {
        let value = i64::try_from(value.into()).unwrap_or(i64::MAX);
        self.put(key, Value::Number(value));
    }

    /// `host:port` or `host`.
    fn place(&mut self, authority: &str) {
        let port = authority
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match port {
            Some((host, port)) => {
                self.text("server.address", host);
                self.number("server.port", port);
            }
            None => self.text("server.address", authority),
        }
    }

    fn put(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        });
    }
}

/// An attribute for all spans.
pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    let mut one = Vec::with_capacity(1);
    Attributes(&mut one).text(key, value);
    one.remove(0)
}

/// Path and query.
fn parts(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn version_in_words(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// As the conventions have it.
const KNOWN_METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];
/// Longest value: a target may be as long as a head.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
pub(super) mod tests;
