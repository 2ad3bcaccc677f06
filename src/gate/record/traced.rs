//! A call as OpenTelemetry is told of it: where spans are made, its context from the beginning, and all that its records
//! have once it is settled. Nobody waits for any of it.
//!
//! Strangers get no spans, as they get no records of their own: whoever can reach the listener could fill the collector.

use super::{Entry, Took, micros};
use crate::gate::Channel;
use crate::io::telemetry::{Arrival, Call, Context, Exchange, Stretch, Telemetry};
use crate::ledger::clean::mask_query;
use crate::ledger::record::Fault;
use crate::policy::model::{Mount, Tool};
use http::request::Parts;

/// What spans will need beside what records do.
pub(super) struct Traced {
    pub context: Context,
    arrival: Arrival,
}

impl Traced {
    pub fn open(telemetry: &Telemetry, head: &Parts, channel: Channel) -> Box<Self> {
        Box::new(Self {
            context: telemetry.context(&head.headers),
            arrival: Arrival {
                encrypted: channel != Channel::Plain,
                version: head.version,
                authority: None,
            },
        })
    }

    /// The host and port that the agent asked.
    pub fn asked_of(&mut self, authority: &str) {
        if self.context.sampled {
            self.arrival.authority = Some(authority.into());
        }
    }
}

impl Entry {
    /// Where it stands in its trace, if spans are made.
    pub(in crate::gate) fn context(&self) -> Option<Context> {
        self.traced.as_ref().map(|traced| traced.context)
    }

    /// Hands it over as spans, once it is settled.
    pub(super) fn trace(&self, took: &Took, fault: Option<Fault>) {
        let Some((traced, telemetry)) = self
            .traced
            .as_ref()
            .filter(|traced| traced.context.sampled)
            .zip(self.gate.settings.telemetry.as_ref())
        else {
            return;
        };
        let Some(caller) = &self.caller else {
            return;
        };
        let (policy, facts) = (&caller.ruleset.policy, &caller.session.facts);
        let route = self.route.map(|index| policy.route(index));
        let tool = self.tool.map(|index| policy.tool(index));
        let target = mask_query(&self.target, tool.map_or(&[], |tool| &tool.record_query));
        telemetry.put(Box::new(Call {
            context: traced.context,
            time: self.opened.wall,
            total_micros: took.total,
            decision_micros: took.decision,
            hold: self.held.map(|held| Stretch {
                from_micros: micros(held, self.opened.tick),
                micros: self.hold_micros,
            }),
            exchange: tool.and_then(|tool| self.exchange(tool, &target)),
            request: self.id,
            method: self.method.clone(),
            target: target.as_ref().into(),
            arrival: traced.arrival.clone(),
            project: policy.project.clone(),
            policy: policy.hash,
            agent: facts.agent.clone(),
            session: facts.id,
            run: facts.run.clone(),
            tool: tool.map(|tool| tool.name.clone()),
            route: route.map(|route| route.id.clone()),
            scope: route
                .map(|route| &route.scope)
                .or(self.scope.as_ref())
                .cloned(),
            resource: self.resource.clone(),
            decision: self.decided.map(|(decided, _)| decided.as_str()),
            reason: self.reason,
            grant: self.grant,
            shadow: self.shadow,
            approval: self.approval,
            limit: self.limit.clone(),
            client: self.client,
            status: self.status,
            fault,
            frames: self.frames,
            bytes_in: self.meter.bytes_in(),
            bytes_out: self.meter.bytes_out(),
        }));
    }

    /// What was sent to the backend.
    fn exchange(&self, tool: &Tool, target: &str) -> Option<Exchange> {
        let sent = self.sent?;
        let upstream = tool.upstream.as_ref()?;
        let behind = match &tool.mount {
            Mount::Path(mount) => target.strip_prefix(mount.trim_end_matches('/')),
            Mount::None => None,
            Mount::Host(_) => Some(target).filter(|target| target.starts_with('/')),
        };
        Some(Exchange {
            from_micros: micros(sent, self.opened.tick),
            upstream_micros: self.upstream_micros,
            scheme: if upstream.tls.is_some() {
                "https"
            } else {
                "http"
            },
            authority: upstream.authority.clone(),
            // The operator's part of the path may be a secret: it can come from the environment.
            target: match &*upstream.base_path {
                "" => behind.unwrap_or_default().into(),
                _ => format!("/REDACTED{}", behind.unwrap_or_default()).into(),
            },
            // Where the gate had to answer itself, the backend did not.
            status: self.status.filter(|_| self.reason.is_none()),
        })
    }
}
