//! Step 4: within bounds? Session-wide limits as soon as the session is known, so that refused calls count too; those of
//! scope, tool, route and repeats after matching; cost and what other sessions share last, so that one session's
//! refusals can't starve the others.
//!
//! The arithmetic is `policy::limit`'s. Here is only which counters a call touches, in which order, and how the result is
//! said. It refuses to forget: nothing that was counted is given back, save a cost whose call was then refused. It is long
//! because all that a call is counted by stands here, and the order of it is the rule.

mod cost;

use crate::gate::Inner;
use crate::gate::body::{Prefix, RequestBody};
use crate::gate::describe::Described;
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::ledger::record::{BodyDigest, Cause};
use crate::policy::function::METHOD;
use crate::policy::limit::{Bound, Call, CallDigest, Cells, Exceedance, Exceeded, Only, Standing};
use crate::policy::model::{LimitIndex, Policy, Route, ToolIndex};
use crate::policy::target::Target;
use crate::policy::time::{Now, Tick, seconds_up};
use crate::store::live::approvals::LiveApproval;
use aws_lc_rs::digest;
pub(super) use cost::fixed_cost;
use cost::{Reported, reported_cost};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::fmt::Write;
use std::sync::Arc;

impl Caller {
    /// Rates, counts and repeats of this session alone.
    fn take(
        &self,
        limits: &[LimitIndex],
        now: Tick,
        digest: Option<&CallDigest>,
    ) -> Result<(), Exceedance> {
        self.cells.take(limits, Call { now, digest })
    }

    /// The same, the rates alone or all but the rates.
    fn take_only(
        &self,
        which: Only,
        limits: &[LimitIndex],
        now: Tick,
        digest: Option<&CallDigest>,
    ) -> Result<(), Exceedance> {
        self.cells.take_only(which, limits, Call { now, digest })
    }

    /// Takes a cost from all who bear it, or from none.
    fn spend(&self, route: &Route, now: Tick, micros: u64) -> Result<(), Exceedance> {
        let cost = &route.cost_limits;
        let (agents, projects) = (self.agent_cells(), self.ruleset.project_cells());
        let bearers = || {
            [Some(&self.cells), agents, Some(projects)]
                .into_iter()
                .flatten()
        };
        for (paid, cells) in bearers().enumerate() {
            cells.spend(cost, now, micros).inspect_err(|_| {
                bearers()
                    .take(paid)
                    .for_each(|cells| cells.refund(cost, now, micros));
            })?;
        }
        Ok(())
    }

    /// Gives back what [`Caller::spend`] took at the same moment.
    fn refund(&self, route: &Route, now: Tick, micros: u64) {
        let (agents, projects) = (self.agent_cells(), self.ruleset.project_cells());
        [Some(&self.cells), agents, Some(projects)]
            .into_iter()
            .flatten()
            .for_each(|cells| cells.refund(&route.cost_limits, now, micros));
    }

    /// Cost that is known before the call, then rates and counts shared with others; each counter picks its own among the
    /// limits. Cost whose sum comes with the answer is only asked whether any is left.
    fn take_shared(&self, route: &Route, now: Tick, micros: u64) -> Result<(), Exceedance> {
        let cost = &route.cost_limits;
        self.cells.spend(cost, now, micros)?;
        // Others' use refused the call: the session must not pay for it.
        self.take_from_others(route, now, micros)
            .inspect_err(|_| self.cells.refund(cost, now, micros))
    }

    fn take_from_others(&self, route: &Route, now: Tick, micros: u64) -> Result<(), Exceedance> {
        let (cost, shared) = (&route.cost_limits, &route.shared_limits);
        if cost.is_empty() && shared.is_empty() {
            return Ok(());
        }
        let call = Call { now, digest: None };
        let holders = [self.agent_cells(), Some(self.ruleset.project_cells())];
        let holders = holders.iter().flatten();
        // Money first: it can be given back if a rate then refuses, a counted call can't.
        let (mut taken, mut paid) = (Ok(()), 0);
        for cells in holders.clone() {
            taken = cells.spend(cost, now, micros);
            if taken.is_err() {
                break;
            }
            paid += 1;
        }
        // All are asked before one counts: what the project refuses must not use up what is the agent's.
        let taken = taken
            .and_then(|()| holders.clone().try_for_each(|cells| cells.ask(shared, now)))
            .and_then(|()| {
                holders
                    .clone()
                    .try_for_each(|cells| cells.take(shared, call))
            });
        taken.inspect_err(|_| {
            holders
                .take(paid)
                .for_each(|cells| cells.refund(cost, now, micros))
        })
    }

    fn agent_cells(&self) -> Option<&Arc<Cells>> {
        self.ruleset.agent_cells(&self.session.facts.agent)
    }

    /// Cost that the answer reported: always added. The first limit that must quarantine the session for it.
    pub(super) fn charge(&self, cost: &[LimitIndex], now: Tick, micros: u64) -> Option<Exceedance> {
        [
            Some(&self.cells),
            self.agent_cells(),
            Some(self.ruleset.project_cells()),
        ]
        .into_iter()
        .flatten()
        .filter_map(|cells| cells.charge(cost, now, micros))
        // All of them are charged, whichever trips.
        .fold(None, |first, over| {
            first.or((over.exceeded == Exceeded::Quarantine).then_some(over))
        })
    }

    /// What is left of limits of the session's own.
    pub(super) fn standings(&self, limits: &[LimitIndex], now: Tick) -> Vec<Standing> {
        self.cells.standings(limits, now).collect()
    }

    /// `RateLimit`: what is left of the limits that `RateLimit-Policy` names.
    pub(super) fn ratelimit(&self, shown: &[LimitIndex], now: Tick) -> Option<HeaderValue> {
        let mut text = String::with_capacity(shown.len() * 32);
        for standing in self.cells.standings(shown, now) {
            separate(&mut text);
            let id = &self.ruleset.policy.limits[standing.limit.0 as usize].id;
            let resets = seconds_up(standing.resets_in);
            let _ = write!(text, "\"{id}\";r={};t={resets}", standing.remaining);
        }
        named(&text)
    }
}

impl Inner {
    /// Says the limit that was exceeded; where the policy says so, puts the session in quarantine first.
    async fn bounded(&self, taken: Result<(), Exceedance>, caller: &Caller) -> Result<(), Refusal> {
        let Err(over) = taken else {
            return Ok(());
        };
        let policy = &caller.ruleset.policy;
        let limit = &policy.limits[over.limit.0 as usize];
        self.metrics.limit_exceeded(&policy.project, &limit.id);
        match over.exceeded {
            Exceeded::Throttle => Err(Refusal::limit_exceeded(&limit.id, over.retry_after)),
            Exceeded::Quarantine => {
                self.quarantine(caller, over.limit).await;
                // The call that trips it is itself refused as such.
                Err(Refusal::quarantined(Some(&limit.id)))
            }
        }
    }

    /// Nothing of the session passes from here on, in memory at once, then durably and on record.
    async fn quarantine(&self, caller: &Caller, limit: LimitIndex) {
        let policy = &caller.ruleset.policy;
        let limit = &policy.limits[limit.0 as usize].id;
        let reason = format!("exceeded the limit {limit}");
        let done = self
            .sessions
            .quarantine(
                &caller.session,
                &reason,
                Cause::Limit(limit),
                self.clock.now(),
            )
            .await;
        // Many calls may trip at once, and one of them puts it there.
        if !matches!(done, Ok(false)) {
            self.metrics.quarantined(&policy.project, Some(limit));
        }
        match done {
            Ok(_) => {
                tracing::warn!(session = %caller.session.facts.id, %limit, "session quarantined")
            }
            // It holds in memory; a restart before the store is back would forget it.
            Err(fault) => {
                tracing::error!(session = %caller.session.facts.id, %limit, %fault, "session quarantined in memory only")
            }
        }
    }

    /// The same, for a cost that an answer reported: after that call, beside whatever comes next.
    pub(super) fn quarantine_after(gate: &Arc<Self>, caller: Arc<Caller>, over: Exceedance) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Only while the gate stops. The sum stands: the session's next call trips over it.
            return;
        };
        let gate = Arc::clone(gate);
        runtime.spawn(async move {
            let _ = gate.bounded(Err(over), &caller).await;
        });
    }

    /// As soon as the session is known. Gives the approval that the call asks for again, if it does: then it counts by rates
    /// alone, here and further down.
    pub(super) async fn take_session_wide(
        &self,
        caller: &Arc<Caller>,
        head: &Parts,
        target: &Result<Target, Refusal>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Option<Arc<LiveApproval>>, Refusal> {
        let now = entry.opened.tick;
        let limits = &caller.ruleset.policy.session_wide;
        if !caller.session.holds_approvals() {
            let taken = caller.take(limits, now, None);
            self.bounded(taken, caller).await?;
            return Ok(None);
        }
        let taken = caller.take_only(Only::Rates, limits, now, None);
        self.bounded(taken, caller).await?;
        let standing = Box::pin(self.standing(caller, head, target, body, entry)).await;
        if let Ok(Some(_)) = standing {
            return standing;
        }
        let taken = caller.take_only(Only::Others, limits, now, None);
        self.bounded(taken, caller).await?;
        standing
    }

    /// Limits of scope, tool and route, and repeats where any are watched; of a call that asks for a standing approval again
    /// the rates alone.
    pub(super) async fn take_of_route(
        &self,
        caller: &Caller,
        call: &Described<'_>,
        arrival: (&Parts, &Target),
        body: &mut Option<RequestBody>,
        standing: Option<&Arc<LiveApproval>>,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let (head, target) = arrival;
        if standing.is_some() {
            let limits = &call.route.session_limits;
            let taken = caller.take_only(Only::Rates, limits, entry.opened.tick, None);
            return self.bounded(taken, caller).await;
        }
        let digest = if caller.ruleset.limits(Some(call.route.index)).repeats {
            digest_of(
                head,
                target,
                Some(call.route.tool),
                body,
                call.route.body_limit,
                entry,
            )
            .await?
        } else {
            None
        };
        let limits = &call.route.session_limits;
        let taken = caller.take(limits, entry.opened.tick, digest.as_ref());
        self.bounded(taken, caller).await
    }

    /// The limits of the whole session, for one call of those that a request is about; all of them, or only these.
    pub(super) async fn take_of_session(
        &self,
        caller: &Caller,
        only: Option<Only>,
        now: Tick,
    ) -> Result<(), Refusal> {
        let limits = &caller.ruleset.policy.session_wide;
        let taken = match only {
            Some(only) => caller.take_only(only, limits, now, None),
            None => caller.take(limits, now, None),
        };
        self.bounded(taken, caller).await
    }

    /// The limits of a function's scope, tool and route, and its repeats; of one without a route its repeats alone.
    pub(super) async fn take_of_function(
        &self,
        caller: &Caller,
        route: Option<&Route>,
        asked: (&str, &BodyDigest),
        again: bool,
        now: Tick,
    ) -> Result<(), Refusal> {
        let limits = match route {
            Some(route) => &route.session_limits,
            None => &caller.ruleset.unrouted_repeats,
        };
        let taken = match again {
            true => caller.take_only(Only::Rates, limits, now, None),
            false => {
                let (path, body) = asked;
                let tool = route.map(|route| route.tool);
                let digest = digest_of_parts(METHOD, tool, path, body);
                caller.take(limits, now, Some(&digest))
            }
        };
        self.bounded(taken, caller).await
    }

    /// Repeats of a call that has no route, where a limit watches all calls.
    pub(super) async fn take_unrouted(
        &self,
        caller: &Caller,
        head: &Parts,
        target: &Target,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let limits = &caller.ruleset.unrouted_repeats;
        if limits.is_empty() {
            return Ok(());
        }
        let digest = digest_of(head, target, None, body, UNROUTED_BODY_BYTES_MAX, entry).await?;
        let taken = caller.take(limits, entry.opened.tick, digest.as_ref());
        self.bounded(taken, caller).await
    }

    /// Cost that is known before the call, and what the session shares with others.
    pub(super) async fn take_shared(
        &self,
        caller: &Caller,
        route: &Route,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let micros = fixed_cost(route);
        let taken = caller.take_shared(route, entry.opened.tick, micros.unwrap_or(0));
        self.bounded(taken, caller).await?;
        if let Some(micros) = micros {
            entry.cost(micros, None);
            self.note_cost(caller, route, micros);
        }
        Ok(())
    }

    /// What the session shares with others, for a call that is held. Whether its cost would fit is asked; it is spent when it
    /// runs.
    pub(super) async fn take_shared_to_hold(
        &self,
        caller: &Caller,
        route: &Route,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        let (now, micros) = (entry.opened.tick, fixed_cost(route).unwrap_or(0));
        let taken = caller.take_shared(route, now, micros);
        if taken.is_ok() {
            caller.refund(route, now, micros);
        }
        self.bounded(taken, caller).await
    }

    /// Spends what a held call costs, as far as that is known before it runs.
    pub(super) async fn pay(
        &self,
        caller: &Caller,
        route: &Route,
        now: Now,
    ) -> Result<Paid, Refusal> {
        let micros = fixed_cost(route);
        let paid = Paid {
            at: now.tick,
            micros,
        };
        let taken = caller.spend(route, now.tick, micros.unwrap_or(0));
        self.bounded(taken, caller).await?;
        if let Some(micros) = micros {
            self.note_cost(caller, route, micros);
        }
        Ok(paid)
    }

    /// Charges what the answer of a held call reported, and what exceeds a limit for it quarantines. Gives what is charged.
    pub(super) fn charge_reported(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        route: &Route,
        answer: &HeaderMap,
    ) -> Option<u64> {
        let Reported::Micros(micros) = reported_cost(route, answer) else {
            return None;
        };
        let trip = caller.charge(&route.cost_limits, self.clock.tick(), micros);
        self.note_cost(caller, route, micros);
        if let Some(trip) = trip {
            Self::quarantine_after(self, Arc::clone(caller), trip);
        }
        Some(micros)
    }

    /// Cost counters that changed are on their way to the store.
    pub(super) fn note_cost(&self, caller: &Caller, route: &Route, micros: u64) {
        if micros > 0 {
            self.costs
                .mark(&caller.ruleset, &caller.session, &route.cost_limits);
        }
    }

    /// Charges what an answer reported.
    pub(super) fn charge(
        &self,
        caller: &Caller,
        route: &Route,
        answer: &HeaderMap,
        entry: &mut Entry,
    ) {
        match reported_cost(route, answer) {
            Reported::Nothing => {}
            Reported::Unreadable => entry.cost_unreadable(),
            Reported::Micros(micros) if entry.shadowed() => {
                self.charge_despite(caller, route, micros, entry);
            }
            Reported::Micros(micros) => {
                let trip = caller.charge(&route.cost_limits, self.clock.tick(), micros);
                self.note_cost(caller, route, micros);
                entry.cost(micros, trip);
            }
        }
    }
}

/// What a held call has paid.
pub(super) struct Paid {
    at: Tick,
    pub micros: Option<u64>,
}

impl Paid {
    /// It was not made.
    pub(super) fn back(&self, caller: &Caller, route: &Route) {
        if let Some(micros) = self.micros {
            caller.refund(route, self.at, micros);
        }
    }
}

/// What `repeats` counts a call as; `None` where its body is longer than the bound. The body is read ahead for it, and
/// what was read whole is on record.
async fn digest_of(
    head: &Parts,
    target: &Target,
    tool: Option<ToolIndex>,
    body: &mut Option<RequestBody>,
    bytes_max: u64,
    entry: &mut Entry,
) -> Result<Option<CallDigest>, Refusal> {
    let Some(body) = body else {
        return Ok(None);
    };
    match body.read_prefix(bytes_max).await.map_err(Refusal::body)? {
        Prefix::Longer(_) => Ok(None),
        Prefix::Whole(read) => {
            let digest = BodyDigest::of(&read);
            // A call without a body has none on record.
            entry.body = (digest.bytes > 0).then_some(digest);
            // A message is the same whatever number it has.
            let identity = entry.asked.as_ref().and_then(|asked| asked.identity);
            let digest = BodyDigest {
                sha256: identity.unwrap_or(digest.sha256),
                ..digest
            };
            Ok(Some(call_digest(&head.method, tool, target, &digest)))
        }
    }
}

/// What makes two calls one for `repeats`: method, tool, canonical target and body. The `Host` that was sent is no part of
/// it: where it does not select the tool, an agent could send another with each turn of its loop.
fn call_digest(
    method: &Method,
    tool: Option<ToolIndex>,
    target: &Target,
    body: &BodyDigest,
) -> CallDigest {
    digest_of_parts(method.as_str(), tool, target.as_str(), body)
}

fn digest_of_parts(
    method: &str,
    tool: Option<ToolIndex>,
    target: &str,
    body: &BodyDigest,
) -> CallDigest {
    let tool = tool.map_or([0xff; 4], |tool| tool.0.to_be_bytes());
    // Neither method nor target can hold a NUL: no two different calls run into one another.
    let [method, text] = [method, target].map(str::as_bytes);
    sha256(&[&tool, method, b"\0", text, b"\0", &body.sha256])
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// `RateLimit-Policy`: quota and window of each limit shown.
pub(super) fn policy_field(policy: &Policy, shown: &[LimitIndex]) -> Option<HeaderValue> {
    let mut text = String::new();
    for index in shown {
        let limit = &policy.limits[index.0 as usize];
        let (Bound::Rate { count, window, .. } | Bound::Count { count, window }) = limit.bound
        else {
            continue;
        };
        separate(&mut text);
        let window = seconds_up(window);
        let _ = write!(text, "\"{}\";q={count};w={window}", limit.id);
    }
    named(&text)
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push_str(", ");
    }
}

fn named(list: &str) -> Option<HeaderValue> {
    if list.is_empty() {
        return None;
    }
    // Names are letters, digits, `.`, `_` and `-`; the rest is written above.
    HeaderValue::from_str(list).ok()
}

/// Of a call that matched no route and whose repeats are watched, this much body is read.
const UNROUTED_BODY_BYTES_MAX: u64 = 1024 * 1024;
/// What each limit shown allows.
pub(super) const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it.
pub(super) const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
