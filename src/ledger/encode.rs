//! From record to line: canonical JSON (RFC 8785), done on the caller's thread.
//!
//! The caller knows everything of a line but its `seq` and `prev`, which depend on what was written before it. So a
//! record becomes a [`Template`]: the finished line with 64 places for `prev` and a gap for `seq`. The writer thread
//! copies it and fills these two; it never looks at a field.
//!
//! Keys are written in order by hand (a debug assertion holds them to it), strings by `serde_json`, whose escapes are
//! those of RFC 8785, numbers are integers of at most 2^53 - 1. Absent fields are left out; there is no `null`.
//! What looks like a token is cut out of every free text, wherever it came from: a last line of defence.

use super::record::{Cause, DecisionRecord, Event, OutcomeRecord, Verdict};
use crate::config::IntentRecord;
use crate::policy::decision::GrantUse;
use crate::policy::time::Timestamp;
use aws_lc_rs::digest;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;

/// What every record of one ledger has in common.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    /// Names this log among others.
    pub instance: Box<str>,
    /// How intents enter.
    pub intent: IntentRecord,
}

/// A line but for `seq` and `prev`; ends with a newline.
#[derive(Debug)]
pub(super) struct Template {
    text: Vec<u8>,
    /// Where the 64 digits of `prev` stand.
    prev_at: usize,
    /// Where `seq` is to be inserted.
    seq_at: usize,
    /// When it happened, for the age of segments.
    pub time: Timestamp,
}

impl Template {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Appends the finished line, newline included.
    pub fn finish(&self, seq: u64, prev: &[u8; 32], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.text[..self.seq_at]);
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        out.extend_from_slice(&self.text[self.seq_at..]);
        // `prev` sorts before `seq`, so its place did not move.
        let place = start + self.prev_at;
        hex_into(prev, &mut out[place..place + 64]);
    }
}

impl Encoder {
    /// A call's decision.
    pub fn decision(&self, record: &DecisionRecord<'_>) -> Template {
        let mut line = Line::new(record.time, 512 + record.target.len());
        line.text("agent", record.agent.as_str());
        if let Some(body) = &record.body {
            line.number("body_bytes", body.bytes);
            line.hex("body_sha256", &body.sha256);
        }
        line.client(record.client);
        line.text(
            "decision",
            match record.decision {
                Verdict::Allow => "allow",
                Verdict::Deny => "deny",
            },
        );
        match record.grant {
            Some(GrantUse::OnUse) => line.text("grant", "on_use"),
            Some(GrantUse::Stored(id)) => line.shown("grant", id),
            None => {}
        }
        line.text("instance", &self.instance);
        self.intent(&mut line, record.intent);
        line.text("kind", "decision");
        if let Some(limit) = record.limit {
            line.text("limit", limit.as_str());
        }
        line.free("method", record.method);
        line.hex("policy", &record.policy.0);
        line.prev();
        line.text("project", record.project.as_str());
        if let Some(reason) = record.reason {
            line.text("reason", reason.as_str());
        }
        line.shown("request", record.request);
        if let Some(resource) = record.resource {
            line.free("resource", resource.as_str());
        }
        if let Some(route) = record.route {
            line.text("route", route.as_str());
        }
        if let Some(run) = record.run {
            line.free("run", run);
        }
        if let Some(scope) = record.scope {
            line.text("scope", scope.as_str());
        }
        line.seq();
        line.shown("session", record.session);
        line.free("target", &mask_query(record.target, record.record_query));
        line.time();
        if let Some(tool) = record.tool {
            line.text("tool", tool.as_str());
        }
        if let Some(trace) = record.trace {
            line.free("trace", trace);
        }
        line.end()
    }

    /// A call's end.
    pub fn outcome(&self, record: &OutcomeRecord<'_>) -> Template {
        let mut line = Line::new(record.time, 512);
        line.number("bytes_in", record.bytes_in);
        line.number("bytes_out", record.bytes_out);
        if let Some(micros) = record.cost_micros {
            line.text("cost", &decimal(micros));
        }
        line.number("decision_micros", record.decision_micros);
        if let Some(fault) = record.fault {
            line.text("fault", fault.as_str());
        }
        line.text("instance", &self.instance);
        line.text("kind", "outcome");
        line.prev();
        line.text("project", record.project.as_str());
        line.shown("request", record.request);
        line.seq();
        line.shown("session", record.session);
        if let Some(status) = record.status {
            line.number("status", u64::from(status));
        }
        line.time();
        line.number("total_micros", record.total_micros);
        if let Some(micros) = record.upstream_micros {
            line.number("upstream_micros", micros);
        }
        line.end()
    }

    /// Everything that is not a call.
    pub fn event(&self, event: &Event<'_>, time: Timestamp) -> Template {
        match event {
            Event::Session { .. } => self.session(event, time),
            Event::Grant { .. } => self.grant(event, time),
            Event::Quarantine { .. } => self.quarantine(event, time),
            Event::Policy { .. } => self.policy(event, time),
            Event::Principal {
                change,
                principal,
                client,
                count,
                detail,
            } => {
                let who = principal.map(|name| name.as_str());
                self.principal((change, detail), who, *client, *count, time)
            }
            Event::Strangers { client, count } => {
                self.principal(("strangers", ""), None, *client, *count, time)
            }
            Event::Gate {
                change,
                version,
                detail,
            } => self.gate(change, version, detail, &Damage::default(), time),
        }
    }

    fn session(&self, event: &Event<'_>, time: Timestamp) -> Template {
        let mut line = Line::new(time, 512);
        if let Event::Session {
            change,
            project,
            agent,
            session,
            run,
            parent,
            expires,
            intent,
            attributes,
            cause,
        } = event
        {
            line.text("agent", agent.as_str());
            if let Some(sha256) = attributes {
                line.hex("attributes_sha256", sha256);
            }
            line.text("cause", cause_word(cause));
            line.text("change", change);
            line.text("expires", &rfc3339(*expires));
            line.text("instance", &self.instance);
            self.intent(&mut line, *intent);
            line.text("kind", "session");
            line.limit(cause);
            if let Some(id) = parent {
                line.shown("parent", id);
            }
            line.prev();
            line.who(cause);
            line.text("project", project.as_str());
            if let Some(run) = run {
                line.free("run", run);
            }
            line.seq();
            line.shown("session", session);
        }
        line.time();
        line.end()
    }

    fn grant(&self, event: &Event<'_>, time: Timestamp) -> Template {
        let mut line = Line::new(time, 512);
        if let Event::Grant {
            change,
            project,
            session,
            grant,
            scope,
            resource,
            uses,
            expires,
            why,
            cause,
        } = event
        {
            line.text("cause", cause_word(cause));
            line.text("change", change);
            line.text("expires", &rfc3339(*expires));
            line.shown("grant", grant);
            line.text("instance", &self.instance);
            line.text("kind", "grant");
            line.limit(cause);
            line.prev();
            line.who(cause);
            line.text("project", project.as_str());
            if let Some(resource) = resource {
                line.free("resource", resource.as_str());
            }
            line.text("scope", scope.as_str());
            line.seq();
            line.shown("session", session);
            line.time();
            line.number("uses", u64::from(*uses));
            line.free("why", why);
        }
        line.end()
    }

    fn quarantine(&self, event: &Event<'_>, time: Timestamp) -> Template {
        let mut line = Line::new(time, 512);
        if let Event::Quarantine {
            change,
            project,
            session,
            reason,
            cause,
        } = event
        {
            line.text("cause", cause_word(cause));
            line.text("change", change);
            line.text("instance", &self.instance);
            line.text("kind", "quarantine");
            line.limit(cause);
            line.prev();
            line.who(cause);
            line.text("project", project.as_str());
            line.free("reason", reason);
            line.seq();
            line.shown("session", session);
        }
        line.time();
        line.end()
    }

    fn policy(&self, event: &Event<'_>, time: Timestamp) -> Template {
        let mut line = Line::new(time, 512);
        if let Event::Policy {
            change,
            hashes,
            trigger,
            detail,
        } = event
        {
            line.text("change", change);
            line.free("detail", detail);
            let mut sorted: Vec<_> = hashes.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            sorted.dedup_by(|a, b| a.0 == b.0);
            line.key("hashes");
            line.raw(b"{");
            for (position, (project, hash)) in sorted.into_iter().enumerate() {
                line.raw(if position == 0 { b"" } else { b"," });
                line.string(project.as_str());
                line.raw(b":");
                line.string(&hash.to_string());
            }
            line.raw(b"}");
            line.text("instance", &self.instance);
            line.text("kind", "policy");
            line.prev();
            line.seq();
            line.time();
            line.free("trigger", trigger);
        }
        line.end()
    }

    fn principal(
        &self,
        (change, detail): (&str, &str),
        principal: Option<&str>,
        client: Option<IpAddr>,
        count: u64,
        time: Timestamp,
    ) -> Template {
        let mut line = Line::new(time, 512);
        line.text("change", change);
        if let Some(client) = client {
            line.client(client);
        }
        line.number("count", count);
        line.free("detail", detail);
        line.text("instance", &self.instance);
        line.text("kind", "principal");
        line.prev();
        if let Some(name) = principal {
            line.text("principal", name);
        }
        line.seq();
        line.time();
        line.end()
    }

    /// A `gate` record, also one that tells of a damaged segment.
    pub fn gate(
        &self,
        change: &str,
        version: &str,
        detail: &str,
        damage: &Damage<'_>,
        time: Timestamp,
    ) -> Template {
        let mut line = Line::new(time, 512);
        line.text("change", change);
        if let Some((bytes, sha256)) = &damage.cut {
            line.number("cut_bytes", *bytes);
            line.hex("cut_sha256", sha256);
        }
        line.free("detail", detail);
        line.text("instance", &self.instance);
        if let Some((_, bytes)) = damage.kept {
            line.number("kept_bytes", bytes);
        }
        line.text("kind", "gate");
        line.prev();
        if let Some((name, _)) = damage.kept {
            line.text("segment", name);
        }
        line.seq();
        line.time();
        line.text("version", version);
        line.end()
    }

    fn intent(&self, line: &mut Line, intent: Option<&str>) {
        let Some(intent) = intent else { return };
        match self.intent {
            IntentRecord::Full => line.free("intent", intent),
            IntentRecord::Digest => line.hex("intent_sha256", &sha256(intent.as_bytes())),
            IntentRecord::Omit => {}
        }
    }
}

/// What a `gate` record says of a segment that was cut or left.
#[derive(Debug, Default)]
pub(super) struct Damage<'a> {
    /// File name, and how many of its bytes are the ledger's: what stands behind them never happened.
    pub kept: Option<(&'a str, u64)>,
    /// How much was cut off at a start, and its digest.
    pub cut: Option<(u64, [u8; 32])>,
}

/// A line as it grows.
struct Line {
    text: Vec<u8>,
    prev_at: usize,
    seq_at: usize,
    at: Timestamp,
    last: &'static str,
}

impl Line {
    fn new(at: Timestamp, bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Line {
            text,
            prev_at: 0,
            seq_at: 0,
            at,
            last: "",
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    fn string(&mut self, value: &str) {
        serde_json::to_writer(&mut self.text, value).expect("a string is JSON and memory takes it");
    }

    fn key(&mut self, key: &'static str) {
        debug_assert!(self.last < key, "{key} stands before {}", self.last);
        if !self.last.is_empty() {
            self.text.push(b',');
        }
        self.last = key;
        self.text.push(b'"');
        self.raw(key.as_bytes());
        self.raw(b"\":");
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.string(value);
    }

    /// Text that came from outside.
    fn free(&mut self, key: &'static str, value: &str) {
        self.text(key, &without_tokens(value));
    }

    /// Something whose text needs no escape.
    fn shown(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        write!(self.text, "\"{value}\"").expect("memory takes it");
    }

    fn client(&mut self, client: IpAddr) {
        self.shown("client", client.to_canonical());
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        // RFC 8785 numbers are doubles: what is beyond 2^53 - 1 could not be read back exactly.
        let value = value.min((1 << 53) - 1);
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    fn hex(&mut self, key: &'static str, bytes: &[u8; 32]) {
        let mut digits = [0; 64];
        hex_into(bytes, &mut digits);
        self.key(key);
        self.text.push(b'"');
        self.raw(&digits);
        self.text.push(b'"');
    }

    fn limit(&mut self, cause: &Cause<'_>) {
        if let Cause::Limit(limit) = cause {
            self.text("limit", limit.as_str());
        }
    }

    fn who(&mut self, cause: &Cause<'_>) {
        if let Cause::Principal(name) = cause {
            self.text("principal", name.as_str());
        }
    }

    fn prev(&mut self) {
        self.key("prev");
        self.text.push(b'"');
        self.prev_at = self.text.len();
        self.raw(&[b'0'; 64]);
        self.text.push(b'"');
    }

    fn seq(&mut self) {
        self.key("seq");
        self.seq_at = self.text.len();
    }

    fn time(&mut self) {
        self.text("time", &rfc3339(self.at));
    }

    fn end(mut self) -> Template {
        debug_assert!(self.prev_at > 0 && self.seq_at > self.prev_at);
        self.raw(b"}\n");
        Template {
            text: self.text,
            prev_at: self.prev_at,
            seq_at: self.seq_at,
            time: self.at,
        }
    }
}

fn cause_word(cause: &Cause<'_>) -> &'static str {
    match cause {
        Cause::Principal(_) => "principal",
        Cause::Agent => "agent",
        Cause::Limit(_) => "limit",
        Cause::Gate => "gate",
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn hex_into(bytes: &[u8; 32], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// RFC 3339, UTC, six digits behind the second.
pub(super) fn rfc3339(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.micros()).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.6}")
}

/// Millionths as the shortest decimal: `1500000` is `1.5`.
fn decimal(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{part:06}")
        .trim_end_matches('0')
        .to_owned()
}

/// The target with `*` for every query value whose name is not listed. A part without `=` is a value without a name.
/// Names are compared as sent: one that hides behind an escape is not listed.
fn mask_query<'t>(target: &'t str, listed: &[Box<str>]) -> Cow<'t, str> {
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let mut out = String::with_capacity(target.len());
    out.push_str(path);
    let mut mark = '?';
    for part in query.split('&') {
        out.push(mark);
        mark = '&';
        let (name, value) = part
            .split_once('=')
            .map_or((None, part), |(name, value)| (Some(name), value));
        if let Some(name) = name {
            out.push_str(name);
            out.push('=');
        }
        let shown = name
            .or(Some(value))
            .is_some_and(|name| listed.iter().any(|known| &**known == name));
        out.push_str(if shown || part.is_empty() { value } else { "*" });
    }
    Cow::Owned(out)
}

/// A text with everything that has the shape of a token cut down to its prefix.
fn without_tokens(text: &str) -> Cow<'_, str> {
    const SECRET_BYTES_MIN: usize = 32;
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(at) = text[from..].find("tg").map(|at| from + at) {
        let rest = &text.as_bytes()[at..];
        from = at + 2;
        if !(rest.starts_with(b"tgs_") || rest.starts_with(b"tgk_")) {
            continue;
        }
        let secret = rest[4..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            .count();
        if secret >= SECRET_BYTES_MIN {
            out.push_str(&text[copied..at + 4]);
            out.push('*');
            copied = at + 4 + secret;
            from = copied;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::token::{Token, TokenKind};

    fn listed(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn query_values_are_masked_unless_their_name_is_listed() {
        let check = |target: &str, expected: &str| {
            assert_eq!(mask_query(target, &listed(&["page", "q"])), expected);
        };
        check("/a", "/a");
        check("/a?", "/a?");
        check("/a?page=2&key=s3cret&q=x=y", "/a?page=2&key=*&q=x=y");
        check("/a?bare&page&%70age=2", "/a?*&page&%70age=*");
        check("/a?key=1&&key=", "/a?key=*&&key=*");
        check("/a?x=1?page=2", "/a?x=*");
    }

    #[test]
    fn a_token_never_enters_whatever_text_carries_it() {
        let token = Token::mint(TokenKind::Session, &[9; 32]);
        let text = format!("use {} or tgs_short, tg", token.reveal());
        assert_eq!(without_tokens(&text), "use tgs_* or tgs_short, tg");
        let key = Token::mint(TokenKind::Principal, &[3; 32]);
        assert_eq!(without_tokens(key.reveal()), "tgk_*");
    }

    #[test]
    fn costs_are_the_shortest_decimal() {
        for (micros, text) in [
            (0, "0"),
            (10_000, "0.01"),
            (1_500_000, "1.5"),
            (7_000_001, "7.000001"),
        ] {
            assert_eq!(decimal(micros), text);
        }
    }

    #[test]
    fn a_line_is_canonical_json_with_seq_and_prev_filled_in() {
        let encoder = Encoder {
            instance: "gate-1".into(),
            intent: IntentRecord::Full,
        };
        let event = Event::Gate {
            change: "started",
            version: "0",
            detail: "a\u{1}\"\u{7f}é\n",
        };
        let template = encoder.event(&event, Timestamp::from_micros(1_000_000));
        let mut out = b"before".to_vec();
        template.finish(1234, &[0xab; 32], &mut out);
        let prev = "ab".repeat(32);
        let expected = format!(
            "before{{\"change\":\"started\",\"detail\":\"a\\u0001\\\"\u{7f}é\\n\",\"instance\":\"gate-1\",\
             \"kind\":\"gate\",\"prev\":\"{prev}\",\"seq\":1234,\"time\":\"1970-01-01T00:00:01.000000Z\",\
             \"version\":\"0\"}}\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
