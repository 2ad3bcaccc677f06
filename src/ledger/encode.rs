//! From record to line: canonical JSON (RFC 8785), done on the caller's thread.
//!
//! The caller knows everything of a line but its `seq` and `prev`, which depend on what was written before it. So a
//! record becomes a [`Template`]: the finished line with 64 places for `prev` and a gap for `seq`. The writer thread
//! copies it and fills these two; it never looks at a field.
//!
//! Absent fields are left out; there is no `null`. It is long because each kind of record is one short function here.

use super::clean::mask_query;
use super::line::{Line, Template, rfc3339, sha256};
use super::note::VerifierKey;
use super::record::{Cause, DecisionRecord, Event, OutcomeRecord, Verdict, decimal};
use crate::config::IntentRecord;
use crate::policy::approval::Asked;
use crate::policy::decision::GrantUse;
use crate::policy::time::Timestamp;
use std::net::IpAddr;

/// What every record of one ledger has in common.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    /// Names this log among others.
    pub instance: Box<str>,
    /// How intents enter.
    pub intent: IntentRecord,
}

impl Encoder {
    /// A call's decision.
    pub fn decision(&self, record: &DecisionRecord<'_>) -> Template {
        let mut line = Line::new(record.time, 512 + record.target.len());
        line.text("agent", record.agent.as_str());
        if let Some(approval) = record.approval {
            line.shown("approval", approval);
        }
        if let Some(body) = &record.body {
            line.number("body_bytes", body.bytes);
            line.hex("body_sha256", &body.sha256);
        }
        if let Some(call) = record.call {
            line.free("call", call);
        }
        line.client(record.client);
        line.text(
            "decision",
            match record.decision {
                Verdict::Allow => "allow",
                Verdict::Deny => "deny",
                Verdict::Hold => "hold",
            },
        );
        if let Some(grant) = record.grant {
            goes_on(&mut line, grant);
        } else if record.protocol {
            line.text("grant", "protocol");
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
            line.free("scope", scope.as_str());
        }
        line.seq();
        line.shown("session", record.session);
        if let Some(would) = record.shadow {
            let (decision, reason) = (would.decision().as_str(), would.reason().as_str());
            line.key("shadow");
            line.raw(format!("{{\"reason\":\"{reason}\",\"would\":\"{decision}\"}}").as_bytes());
        }
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
        if let Some(frames) = record.frames {
            line.key("frames");
            line.raw(
                format!(
                    "{{\"received\":{},\"sent\":{}}}",
                    frames.received, frames.sent
                )
                .as_bytes(),
            );
        }
        if let Some(micros) = record.hold_micros {
            line.number("hold_micros", micros);
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
            Event::Approval { .. } => self.approval(event, time),
            Event::Pin { .. } => self.pin(event, time),
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
            } => self.gate(change, version, detail, &Particulars::default(), time),
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
            narrowing,
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
            if let Some(narrowing) = narrowing {
                line.narrowing(narrowing);
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
            line.free("scope", scope.as_str());
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

    fn pin(&self, event: &Event<'_>, time: Timestamp) -> Template {
        let mut line = Line::new(time, 512);
        if let Event::Pin {
            change,
            project,
            tool,
            name,
            digest,
            accepted,
            session,
            why,
            cause,
        } = event
        {
            if let Some(accepted) = accepted {
                line.hex("accepted", &accepted.0);
            }
            line.text("cause", cause_word(cause));
            line.text("change", change);
            line.hex("digest", &digest.0);
            line.text("instance", &self.instance);
            line.text("kind", "pin");
            line.limit(cause);
            line.free("name", name);
            line.prev();
            line.who(cause);
            line.text("project", project.as_str());
            line.seq();
            if let Some(session) = session {
                line.shown("session", session);
            }
            line.time();
            line.text("tool", tool.as_str());
            if let Some(why) = why {
                line.free("why", why);
            }
        }
        line.end()
    }

    fn approval(&self, event: &Event<'_>, time: Timestamp) -> Template {
        let mut line = Line::new(time, 1024);
        if let Event::Approval {
            change,
            facts,
            stage,
            word,
            note,
            status,
            given,
            cause,
        } = event
        {
            line.text("agent", facts.agent.as_str());
            line.shown("approval", facts.id);
            line.text("asked", facts.asked.as_str());
            line.text("cause", cause_word(cause));
            line.text("chain", facts.chain.as_str());
            line.text("change", change);
            line.hex("digest", &facts.digest.0);
            line.text("expires", &rfc3339(facts.expires_at));
            match (&facts.asked, given) {
                (Asked::Call(call), _) => goes_on(&mut line, call.grant),
                (Asked::Grant(_), Some(id)) => line.shown("grant", id),
                (Asked::Grant(_), None) => {}
            }
            line.text("instance", &self.instance);
            if *change == "requested" {
                self.intent(&mut line, facts.intent.as_deref());
            }
            line.text("kind", "approval");
            line.limit(cause);
            if let Some(note) = note {
                line.free("note", note);
            }
            line.prev();
            line.who(cause);
            line.text("project", facts.project.as_str());
            line.number("quorum", u64::from(facts.quorum));
            line.shown("request", facts.request);
            if let Some(resource) = &facts.resource {
                line.free("resource", resource.as_str());
            }
            if let Asked::Call(call) = &facts.asked {
                line.text("route", call.route.as_str());
            }
            if let Some(run) = &facts.run {
                line.free("run", run);
            }
            line.free("scope", facts.scope.as_str());
            line.seq();
            line.shown("session", facts.session);
            line.text("stage", stage.as_str());
            if let Some(status) = status {
                line.number("status", u64::from(*status));
            }
            line.time();
            match &facts.asked {
                Asked::Call(call) => line.text("tool", call.tool.as_str()),
                Asked::Grant(wish) => {
                    line.number("ttl_seconds", wish.ttl.as_secs());
                    line.number("uses", u64::from(wish.uses));
                    line.free("why", &wish.why);
                }
            }
            if let Some(word) = word {
                line.text("word", word.as_str());
            }
        }
        line.end()
    }

    fn policy(&self, event: &Event<'_>, time: Timestamp) -> Template {
        let mut line = Line::new(time, 512);
        if let Event::Policy {
            change,
            server,
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
            line.hex("server_sha256", server);
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

    /// A `gate` record, also one that tells of segments or keys.
    pub fn gate(
        &self,
        change: &str,
        version: &str,
        detail: &str,
        particulars: &Particulars<'_>,
        time: Timestamp,
    ) -> Template {
        let mut line = Line::new(time, 512);
        line.text("change", change);
        if let Some((bytes, sha256)) = &particulars.cut {
            line.number("cut_bytes", *bytes);
            line.hex("cut_sha256", sha256);
        }
        line.free("detail", detail);
        if let Some((_, first, _)) = particulars.dropped {
            line.number("first", first);
        }
        line.text("instance", &self.instance);
        if let Some((_, bytes)) = particulars.kept {
            line.number("kept_bytes", bytes);
        }
        line.text("kind", "gate");
        if let Some((_, new)) = particulars.rotated {
            line.text("new_key", &new.to_string());
        }
        if let Some((old, _)) = particulars.rotated {
            line.text("old_key", &old.to_string());
        }
        line.prev();
        if let Some((_, _, root)) = &particulars.dropped {
            line.hex("root", root);
        }
        let dropped = particulars.dropped.map(|(name, ..)| name);
        if let Some(name) = particulars.kept.map(|(name, _)| name).or(dropped) {
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

/// What only some `gate` records say: of a segment that was cut or left, of a key that was changed.
#[derive(Debug, Default)]
pub(super) struct Particulars<'a> {
    /// File name, and how many of its bytes are the ledger's: what stands behind them never happened.
    pub kept: Option<(&'a str, u64)>,
    /// How much was cut off at a start, and its digest.
    pub cut: Option<(u64, [u8; 32])>,
    /// File name of a segment that was dropped, the first record behind it, and the root of the tree over all before that.
    pub dropped: Option<(&'a str, u64, [u8; 32])>,
    /// Who signed, and who does from here on.
    pub rotated: Option<(&'a VerifierKey, &'a VerifierKey)>,
}

fn goes_on(line: &mut Line, grant: GrantUse) {
    match grant {
        GrantUse::OnUse => line.text("grant", "on_use"),
        GrantUse::Stored(id) => line.shown("grant", id),
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

#[cfg(test)]
mod tests {
    use super::*;

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
