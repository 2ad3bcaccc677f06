//! What is known of a call before it is decided: enough to record a decision on it after its agent has gone.

use super::Caller;
use crate::gate::Inner;
use crate::io::telemetry::Context;
use crate::ledger::record::{BodyDigest, DecisionRecord, Verdict};
use crate::ledger::{Level, Unavailable};
use crate::policy::decision::Permit;
use crate::policy::id::RequestId;
use crate::policy::model::{RouteIndex, ToolIndex};
use crate::policy::time::Timestamp;
use http::Method;
use std::net::IpAddr;
use std::sync::Arc;

/// The call by which what people agreed to runs.
pub(in crate::gate) struct Wanted {
    pub request: RequestId,
    pub time: Timestamp,
    pub trace: Option<Box<str>>,
    pub context: Option<Context>,
    pub intent: Option<Arc<str>>,
    pub method: Method,
    pub target: Box<str>,
    pub call: Option<Box<str>>,
    pub client: IpAddr,
    pub body: Option<BodyDigest>,
}

impl Wanted {
    /// It may run, by the word of people and under the policy of `caller`: on the disk when this returns.
    pub async fn allow(
        &self,
        gate: &Inner,
        caller: &Caller,
        permit: &Permit<'_>,
        (tool, route): (ToolIndex, RouteIndex),
    ) -> Result<(), Unavailable> {
        let (policy, facts) = (&caller.ruleset.policy, &caller.session.facts);
        let (tool, route) = (policy.tool(tool), policy.route(route));
        let record = DecisionRecord {
            request: self.request,
            time: self.time,
            trace: self.trace.as_deref(),
            project: &policy.project,
            policy: policy.hash,
            agent: &facts.agent,
            session: facts.id,
            run: facts.run.as_deref(),
            intent: self.intent.as_deref(),
            tool: Some(&tool.name),
            route: Some(&route.id),
            method: self.method.as_str(),
            target: &self.target,
            call: self.call.as_deref(),
            protocol: false,
            record_query: &tool.record_query,
            scope: Some(&route.scope),
            resource: permit.resource(),
            decision: Verdict::Allow,
            reason: None,
            grant: Some(permit.grant()),
            shadow: None,
            approval: permit.approval(),
            limit: None,
            client: self.client,
            body: self.body,
        };
        // A slot of its own: that of the call that waits is for its outcome.
        let mut slot = gate.ledger.reserve()?;
        slot.decide(&record, Level::Sync).await
    }
}
