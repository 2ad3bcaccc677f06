//! The policy enforcement point: the journey of one request, in order.
//!
//! [`Gate::handle`] gives a request its id, its entry in the ledger and, whatever happens, an answer.
//! It is long because nothing of the journey is told elsewhere.
//! [`Gate::enforce`] is the one screen: order is the security argument, so order is line order, the reason stands
//! beside the line, and `?` is the exit.

pub mod ruleset;

mod authenticate;
mod caught;
mod client;
mod describe;
mod intent;
mod judge;
mod mcp;
mod metadata;
mod own;

pub mod fields;

mod limit;

pub mod body;

mod record;

mod permit;
mod shadow;

mod hold;

mod function;

pub mod forward;
mod line;

mod costs;
mod refusal;
pub mod respond;
pub(crate) mod strangers;
pub mod unread;

pub use hold::{Wish, WishError, Wisher};
pub use line::Line;
pub use mcp::path_of;
pub use record::ReplyBody;
pub use ruleset::Ruleset;
pub use strangers::Familiar;
pub use unread::Flaw;

use crate::config::Cidr;
use crate::io::clock::Clock;
use crate::io::metrics::Metrics;
use crate::io::telemetry::Telemetry;
use crate::ledger::record::Event;
use crate::ledger::{Ledger, Level};
use crate::policy::approval::Approvers;
use crate::policy::certificate::Thumbprint;
use crate::policy::decision::{Evidence, GrantUse};
use crate::policy::model::Policy;
use crate::policy::name::{ProjectName, ToolName};
use crate::store::CostRow;
use crate::store::live::Sessions;
use crate::store::live::approvals::LiveApproval;
use arc_swap::ArcSwap;
use body::{RequestBody, Tempo};
use caught::{Panicked, caught};
use describe::{Described, Place};
use forward::Passage;
use forward::upgrade::{Bounds, Handshake, Tunnel};
use forward::{Outfit, OutfitError};
use hold::Arrival;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use permit::Ruling;
use record::{Content, Entry};
use refusal::Refusal;
use shadow::Noted;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The gate. One for all threads and listeners.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

/// What the gate is made of.
pub struct GateParts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who is live, and what they hold.
    pub sessions: Sessions,
    /// Where calls are written down.
    pub ledger: Ledger,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// What the server file says of the journey.
    pub settings: Settings,
}

/// What the server file says of the journey.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// How long an agent's body, or what a side of a tunnel should take, may stand still.
    pub body_idle: Duration,
    /// Bytes a second that an agent's body comes at least with; see [`Tempo`].
    pub body_rate: u32,
    /// How long both sides of a tunnel may be silent.
    pub idle: Duration,
    /// Failed authentications of one client address in a minute.
    pub failed_tries: u32,
    /// Costs of agents and projects that outlived the last run; used when the first policies are installed.
    pub costs: Vec<CostRow>,
    /// Where approved calls run, which outlive the connection that waits for them; `None`: on its own runtime.
    pub runtime: Option<tokio::runtime::Handle>,
    /// Makes spans of calls; `None`: there are none.
    pub telemetry: Option<Telemetry>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            body_idle: Duration::from_secs(30),
            body_rate: 500,
            idle: Duration::from_secs(75),
            failed_tries: u32::MAX,
            costs: Vec::new(),
            runtime: None,
            telemetry: None,
        }
    }
}

/// A tool that can't be sent to.
#[derive(Debug, thiserror::Error)]
#[error("project `{project}`, tool `{tool}`: {error}")]
pub struct Unsendable {
    project: ProjectName,
    tool: ToolName,
    error: OutfitError,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// As accepted.
    pub address: SocketAddr,
    /// What is between the two ends.
    pub channel: Channel,
    /// Where what comes before an answer is said; `None`: it can't be, and is passed over.
    pub line: Option<Arc<Line>>,
    /// Whether a good credential has been shown on it.
    pub familiar: Familiar,
}

/// What a connection is to who listens on the wire, and what it proves of its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Plain text.
    Plain,
    /// TLS.
    Tls {
        /// Of the certificate that the peer has shown. Checked against the listener's authorities.
        certificate: Option<Thumbprint>,
    },
}

impl Channel {
    /// Of the certificate that the peer has shown, if any.
    pub fn certificate(self) -> Option<Thumbprint> {
        match self {
            Channel::Plain => None,
            Channel::Tls { certificate } => certificate,
        }
    }
}

pub(crate) struct Inner {
    clock: Arc<dyn Clock>,
    sessions: Sessions,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    settings: Settings,
    rulesets: ArcSwap<HashMap<ProjectName, Arc<Ruleset>>>,
    /// What is told to those who have no token.
    metadata: ArcSwap<metadata::Directory>,
    strangers: strangers::Strangers,
    tries: strangers::Tries,
    costs: costs::Costs,
    /// Whose word counts, as the server file says now.
    approvers: ArcSwap<Approvers>,
    /// Whether tunnels are to be closed.
    stopping: watch::Sender<bool>,
    /// Whether nobody waits for people any longer.
    holding_ends: watch::Sender<bool>,
    /// Approved calls under way.
    errands: hold::Errands,
}

/// What follows an answer's head.
enum Sequel {
    Body(Content),
    /// The agent's connection is switched once the head is sent.
    Tunnel(Box<Tunnel>),
}

impl Gate {
    /// A gate without a policy: it knows nobody until [`Gate::install`].
    pub fn new(parts: GateParts) -> Self {
        parts
            .metrics
            .attach(parts.sessions.clone(), parts.ledger.clone());
        let errands = hold::Errands::new(parts.settings.runtime.clone());
        let tries = strangers::Tries::new(parts.settings.failed_tries);
        Self(Arc::new(Inner {
            clock: parts.clock,
            sessions: parts.sessions,
            ledger: parts.ledger,
            metrics: parts.metrics,
            settings: parts.settings,
            rulesets: ArcSwap::default(),
            metadata: ArcSwap::default(),
            strangers: strangers::Strangers::new(|client, count| Event::Strangers {
                client,
                count,
            }),
            tries,
            costs: costs::Costs::default(),
            approvers: ArcSwap::default(),
            stopping: watch::Sender::new(false),
            holding_ends: watch::Sender::new(false),
            errands,
        }))
    }

    /// Whether every tool can be sent to: the last part of validating policies, which what they are installed for relies on.
    /// Certificates were judged when they were loaded; whether TLS can be spoken with them turns out here.
    ///
    /// # Errors
    /// The first that can't.
    pub fn check(policies: &[Policy]) -> Result<(), Unsendable> {
        for policy in policies {
            for tool in &policy.tools {
                let Some(upstream) = &tool.upstream else {
                    continue;
                };
                Outfit::new(tool, upstream).map_err(|error| Unsendable {
                    project: policy.project.clone(),
                    tool: tool.name.clone(),
                    error,
                })?;
            }
        }
        Ok(())
    }

    /// From now on the word of these principals counts, and no others', for approvals that were given before too.
    pub fn appoint(&self, approvers: Approvers) {
        self.0.approvers.store(Arc::new(approvers));
    }

    /// Whose word counts now.
    pub fn approvers(&self) -> Arc<Approvers> {
        self.0.approvers.load_full()
    }

    /// Puts these policies, which were [checked](Gate::check), and no others in force. Requests in flight finish under those that admitted them; counters
    /// that sessions share are carried over by limit id.
    pub fn install(&self, policies: Vec<Policy>) {
        let gate = &self.0;
        let before = gate.rulesets.load();
        let now = gate.clock.now();
        let metadata = metadata::Directory::new(&policies);
        gate.metadata.store(Arc::new(metadata));
        let mut rulesets = HashMap::with_capacity(policies.len());
        for policy in policies {
            let project = policy.project.clone();
            let predecessor = before.get(&project).map(|ruleset| &**ruleset);
            let ruleset = Ruleset::new(policy, predecessor, &gate.metrics, &gate.sessions);
            if predecessor.is_none() {
                costs::restore(&ruleset, &gate.settings.costs, now);
            }
            rulesets.insert(project, Arc::new(ruleset));
        }
        let hashes: Vec<_> = rulesets
            .values()
            .map(|ruleset| {
                let policy = &ruleset.policy;
                let shadow = policy.routes.iter().filter(|route| route.shadow).count();
                (policy.project.clone(), policy.hash, shadow)
            })
            .collect();
        gate.rulesets.store(Arc::new(rulesets));
        gate.metrics.policies(&hashes);
    }

    /// Copies of all policies in force, in order of project: for a gate that is to take up where this one ends.
    pub fn policies(&self) -> Vec<Policy> {
        let rulesets = self.0.rulesets.load();
        let mut policies: Vec<Policy> = rulesets.values().map(|each| each.policy.clone()).collect();
        policies.sort_by(|a, b| a.project.cmp(&b.project));
        policies
    }

    /// The ruleset in force for a project.
    pub fn ruleset(&self, project: &ProjectName) -> Option<Arc<Ruleset>> {
        self.0.rulesets.load().get(project).cloned()
    }

    /// Whether this holds of every project that has a policy in force.
    pub fn all_projects(&self, holds: impl Fn(&ProjectName) -> bool) -> bool {
        self.0.rulesets.load().keys().all(holds)
    }

    /// Writes down who failed to authenticate since the last time. Once a second, and when the gate stops.
    pub async fn flush_strangers(&self) {
        let now = self.0.clock.now();
        self.0.strangers.flush(&self.0.ledger, now.wall).await;
    }

    /// Saves the costs charged since the last time. Once a second, and when the gate stops.
    pub async fn flush_costs(&self) {
        let now = self.0.clock.now();
        if let Err(fault) = self.0.costs.flush(&self.0.sessions, now).await {
            tracing::error!(%fault, "costs could not be saved; they are kept in memory and tried again");
        }
    }

    /// Says goodbye on every tunnel, and on those that open from now on: the gate stops.
    pub fn close_tunnels(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Tells all who wait for people, and those who come from now on, to come again: the gate stops.
    pub fn stop_holding(&self) {
        self.0.holding_ends.send_replace(true);
    }

    /// Resolves when no approved call is under way.
    pub async fn errands_over(&self) {
        self.0.errands.over().await;
    }

    /// One request, whatever comes of it. Must run within a tokio runtime.
    pub async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<ReplyBody> {
        let gate = &self.0;
        let (mut head, body) = request.into_parts();
        forward::upgrade::read_as_get(&mut head);
        let client = client::address(peer.address, &head.headers, &gate.settings.trusted_proxies);
        let mut entry = Entry::open(Arc::clone(gate), &head, client, peer.channel);
        let tempo = Tempo {
            idle: gate.settings.body_idle,
            bytes_per_second_min: gate.settings.body_rate,
        };
        let meter = Arc::clone(&entry.meter);
        let mut body = RequestBody::new(body, &head.headers, meter, tempo, &gate.clock);
        body.listen(peer.line.as_ref());
        let mut body = Some(body);

        // One request's panic must not take the enforcement point down, nor go unrecorded.
        let outcome = {
            let enforced = pin!(self.enforce(&head, &peer, &mut body, &mut entry));
            caught(enforced).await
        };
        let mut response = match outcome.unwrap_or_else(|Panicked| Err(Refusal::internal())) {
            Ok(response) => response,
            Err(refusal) => {
                // What it was about, where that stands in a body that was not read yet.
                let reason = refusal.reason();
                gate.overhear(&head, &mut body, &mut entry, reason).await;
                // Written down before it is said.
                let refusal = entry.deny(refusal).await;
                let reason = refusal.reason();
                let mut own = respond::refused(refusal, &entry);
                if let Some(asked) = &entry.asked {
                    own = mcp::told(asked, reason, own);
                }
                own.map(|own| Sequel::Body(Content::Own(own)))
            }
        };
        entry.answer(&mut response);
        function::identify(&head, response.headers_mut());
        response.map(|sequel| match sequel {
            Sequel::Body(content) => ReplyBody::new(content, entry),
            Sequel::Tunnel(tunnel) => {
                gate.open(tunnel, entry);
                ReplyBody::none()
            }
        })
    }

    /// Everything that is done to a request.
    async fn enforce(
        &self,
        head: &Parts,
        peer: &Peer,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let (gate, now) = (&*self.0, entry.opened);
        // Read once, here. What was read is judged further down, so that strangers learn nothing from it.
        let mut target = describe::target(head);
        // The pages that explain refusals are the same for everybody.
        if let Some(page) = own::public(&head.method, &target) {
            return entry.own(page);
        }
        // So is what tells how to get a token, where the configuration publishes that.
        if let Some(document) = gate.metadata.load().page(head, &target) {
            return entry.own(document);
        }

        // Nothing about routes is revealed to strangers. One snapshot of the policy decides from here to the end.
        gate.admit_try(entry.client, peer, now.tick)?;
        let caller = &authenticate::authenticate(&head.headers, &gate.sessions, peer, now.tick)
            .and_then(|session| gate.caller(session))
            .map_err(|refusal| {
                authenticate::stranger(&mut target, refusal, &gate.metadata.load())
            })?;
        let intent = entry.identify(caller, head, &target);
        // Whatever else is wrong with its calls, a session in quarantine hears only this.
        authenticate::not_quarantined(caller, now)?;
        // What a function asks is a call by itself, or several: each is counted where it is judged.
        if let Ok(target) = &target
            && head.method == Method::POST
            && let Some(kind) = function::Kind::of(target.path())
        {
            let arrival = Arrival::new(caller, head, target, peer);
            return Box::pin(self.evaluate(kind, arrival, intent, body, entry)).await;
        }
        // Before head and target are judged, so that refused calls count too. Who asks again for what people are asked
        // already is no new call, and counts by rates alone.
        let taken = gate
            .take_session_wide(caller, head, &target, body, entry)
            .await;
        // What denies a call for a route in shadow is noted, and passes; whatever else refuses, refuses there too.
        let (standing, noted) = match taken {
            Ok(standing) => (standing, None),
            Err(refusal) => (None, Some(gate.put_off(refusal, caller, head, &target)?)),
        };
        // Canonical from here on; nothing rereads the raw target.
        let target = &target?;
        if own::is_own(target.path()) {
            let arrival = Arrival::new(caller, head, target, peer);
            return entry.own(own::serve(self, arrival, entry, body).await);
        }

        // One match. What is matched here is what is forwarded.
        let asking = Asking {
            arrival: Arrival::new(caller, head, target, peer),
            standing,
            noted,
            intent,
        };
        let first = match describe::matched(caller, head, target, entry) {
            Place::Route(first) => first,
            // What is called there stands in the body.
            Place::Endpoint(tool) => {
                return Box::pin(self.converse(tool, asking, body, entry)).await;
            }
            Place::Nowhere => {
                // A loop on a path that does not exist is a loop: it is watched like any other.
                gate.take_unrouted(caller, head, target, body, entry)
                    .await?;
                return Err(Refusal::no_route());
            }
        };
        // After matching, because the tool says which fields it allows.
        fields::check_request(&head.headers, target.as_str(), first.outfit.rules())
            .map_err(Refusal::field)?;
        self.call(first, asking, body, entry).await
    }

    /// Everything that is done to a call once it is known which routes answer to it.
    async fn call<'a>(
        &self,
        first: Described<'a>,
        asking: Asking<'a>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let gate = &*self.0;
        let Asking {
            arrival,
            standing,
            mut noted,
            intent,
        } = asking;
        let Arrival {
            caller,
            head,
            target,
            ..
        } = arrival;
        // Of the routes of one match, the first whose conditions hold. What can't be judged falls through to none.
        let chosen = match (&standing, &noted) {
            (_, Some(_)) => Ok(first),
            (Some(approval), None) => Ok(judge::asked(caller, first, approval, entry)),
            (None, None) => judge::chosen(caller, (head, target), &first, body, entry)
                .await
                .map_err(|refusal| (refusal, first)),
        };
        let mut call = match chosen {
            Ok(call) => call,
            Err((refusal, first)) => {
                let over = gate.take_unrouted(caller, head, target, body, entry).await;
                let refusal = over.err().unwrap_or(refusal);
                noted = Some(shadow::unjudged(refusal, caller, &first.matched)?);
                judge::arm(caller, first, entry.route)
            }
        };
        // Two readers must not differ on whether this is still HTTP.
        let handshake = call.handshake(head, body.as_ref())?;
        // Whoever comes back for what people were asked gets what came of it.
        if let Some(approval) = standing {
            gate.admit(&call, arrival, Some(&approval), intent, body, entry)
                .await?;
            entry.resource.clone_from(&approval.facts.resource);
            drop(body.take());
            return Box::pin(self.stand(approval, arrival, entry)).await;
        }
        // Limits, and the pure decision: scope and resource within the ceiling, and a grant to go on, whose use is taken.
        let ruled = match noted {
            None => gate.rule(&mut call, arrival, intent, body, entry).await,
            Some(Noted(refusal)) => Err(refusal),
        };
        let denied = match ruled {
            Ok(Ruling::Allow(permit)) => Ok(permit),
            // Once people agree, what they saw is judged anew, recorded and sent.
            Ok(Ruling::Hold(hold)) if !call.route.shadow => {
                call.can_be_held(handshake.as_ref())?;
                return Box::pin(self.hold(hold, &call, arrival, body, entry)).await;
            }
            Ok(Ruling::Hold(hold)) => Err(gate.unheld(hold, caller, entry).await),
            Err(refusal) => Err(refusal),
        };
        let evidence = match denied {
            Ok(permit) => Evidence::Permit(permit),
            // On a route in shadow it passes, on nothing.
            Err(refusal) => {
                let despite = gate.despite(refusal, &call, arrival, body, entry);
                Evidence::Shadowed(despite.await?)
            }
        };
        let level = level(&evidence, &head.method);
        let place = (call.outfit, call.path);
        let sent = self.send((evidence, level), place, arrival, handshake, body, entry);
        let answer = sent.await?;
        // What the answer says it cost counts from now on; a quarantine for it waits for the answer's end.
        gate.charge(caller, call.route, answer.headers(), entry);
        Ok(answer.map(Sequel::from))
    }

    /// The one way out: recorded, and then sent.
    async fn send<'a>(
        &'a self,
        (evidence, level): (Evidence<'_>, Level),
        place: (&'a Outfit, &'a str),
        Arrival {
            caller,
            head,
            target,
            peer,
        }: Arrival<'a>,
        handshake: Option<Handshake>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Passage>, Refusal> {
        let gate = &*self.0;
        // In the ledger before a byte leaves.
        entry.allow(&evidence, level).await?;
        // Storing and recording took time: a kill that fell into it counts.
        gate.still_live(caller)?;

        let body = body
            .take()
            .expect("the body is handed on once, and only here");
        entry.sent();
        let answer = forward::send(
            evidence,
            gate.outbound(caller, place, (head, target), peer, entry.context()),
            body,
            handshake,
        )
        .await;
        entry.answered();
        answer.map_err(|fault| gate.unanswered(caller, fault))
    }
}

/// A call of a session that may go on, with what was found before its target was matched.
struct Asking<'a> {
    arrival: Arrival<'a>,
    /// What people are asked about this very call already.
    standing: Option<Arc<LiveApproval>>,
    /// What denies it, unless its route is in shadow.
    noted: Option<Noted>,
    /// What the agent says it is for.
    intent: Result<Option<Arc<str>>, Refusal>,
}

impl Asking<'_> {
    /// What was noted refuses: it turned out that no route in shadow answers to the call.
    fn refused(&mut self) -> Result<(), Refusal> {
        match self.noted.take() {
            Some(Noted(refusal)) => Err(refusal),
            None => Ok(()),
        }
    }
}

impl From<Passage> for Sequel {
    fn from(passage: Passage) -> Self {
        match passage {
            Passage::Body(body) => Sequel::Body(Content::Upstream(body)),
            Passage::Tunnel(tunnel) => Sequel::Tunnel(tunnel),
        }
    }
}

impl Inner {
    /// Drives a tunnel for as long as it lasts; its end is the end of the record.
    fn open(&self, tunnel: Box<Tunnel>, mut entry: Box<Entry>) {
        let bounds = Bounds {
            idle: self.settings.idle,
            stall: self.settings.body_idle,
        };
        let stopping = self.stopping.subscribe();
        tokio::spawn(tunnel.run(bounds, stopping, move |ended| entry.closed(ended)));
    }
}

/// How far the decision must have got before the call may leave.
fn level(evidence: &Evidence<'_>, method: &Method) -> Level {
    let irreversible = evidence.route().is_some_and(|route| route.irreversible);
    level_of(evidence.grant(), irreversible || *method == Method::DELETE)
}

fn level_of(grant: Option<GrantUse>, irreversible: bool) -> Level {
    match grant {
        Some(GrantUse::Stored(_)) => Level::Sync,
        Some(GrantUse::OnUse) | None if irreversible => Level::Sync,
        Some(GrantUse::OnUse) | None => Level::Written,
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({} projects)", self.0.rulesets.load().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compile-time promise: listeners may serve connections on a work-stealing runtime too.
    #[allow(dead_code)]
    fn handling_can_move_between_threads(gate: &Gate, request: Request<Incoming>, peer: Peer) {
        fn send(_: impl Send) {}
        send(gate.handle(request, peer));
    }
}
