//! Sessions as decisions read them, as far as records tell: who they are, what they were narrowed to, and what stored
//! grants they would hold now if the new policy had been in force.
//!
//! Where it can't be known how a use went, grants are kept twice: as few as there may be, and as many. A decision that
//! comes out the same on both is known.

use super::judge::{Judged, Old, Spent};
use super::record::{Record, digest, time};
use crate::ledger::line::sha256;
use crate::policy::attributes::Attributes;
use crate::policy::ceiling;
use crate::policy::id::{ApprovalId, GrantId, RequestId, SessionId};
use crate::policy::model::{GrantMode, Policy};
use crate::policy::name::{AgentName, PrincipalName, ScopeName};
use crate::policy::resource::{Resource, ResourcePattern};
use crate::policy::subject::{Grant, Narrowed, Narrowing, Session};
use crate::policy::time::{Tick, Timestamp};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// As few grants as there may be.
pub(super) const POOR: usize = 0;
/// As many.
pub(super) const RICH: usize = 1;

/// All that are live, and those that ended last.
pub(super) struct Runs<'p> {
    new: &'p Policy,
    all: HashMap<SessionId, Run>,
    ended: VecDeque<SessionId>,
}

/// One of them.
pub(super) struct Run {
    /// Its own attributes and those of sessions above it are left empty where they are not known.
    pub facts: Arc<Session>,
    /// Of attributes that are not known.
    pub digest: Option<[u8; 32]>,
    /// Its grants, [`POOR`] and [`RICH`].
    pub grants: [Vec<Grant>; 2],
    /// Uses that calls reserve which wait for people.
    reserved: HashMap<ApprovalId, [Option<GrantId>; 2]>,
    /// Scopes whose grants people were asked for.
    wished: HashSet<ScopeName>,
    /// How many grants of a scope it was given.
    given: HashMap<ScopeName, u32>,
}

impl<'p> Runs<'p> {
    pub fn new(new: &'p Policy) -> Self {
        Self {
            new,
            all: HashMap::new(),
            ended: VecDeque::new(),
        }
    }

    pub fn get(&self, id: SessionId) -> Option<&Run> {
        self.all.get(&id)
    }

    /// The session with what has become known since of those above it.
    pub fn current(&self, facts: &Arc<Session>) -> Arc<Session> {
        let Some(parent) = &facts.parent else {
            return Arc::clone(facts);
        };
        let known = self.get(parent.id).map_or(parent, |run| &run.facts);
        let now = self.current(known);
        if Arc::ptr_eq(&now, parent) {
            return Arc::clone(facts);
        }
        let mut session = Session::clone(facts);
        session.parent = Some(now);
        Arc::new(session)
    }

    /// Whether something about the session or one above it is not known.
    pub fn is_open(&self, session: &Session) -> bool {
        let own = |id| self.get(id).is_none_or(|run| run.digest.is_some());
        own(session.id)
            || session
                .parent
                .as_ref()
                .is_some_and(|parent| self.is_open(parent))
    }

    /// A `session` record.
    pub fn session(&mut self, record: &Record) {
        let Some(id) = record.session.as_deref().and_then(|id| id.parse().ok()) else {
            return;
        };
        match record.change.as_deref() {
            Some("minted") => {
                if let Some(run) = self.minted(id, record) {
                    self.all.insert(id, run);
                }
            }
            Some("revoked" | "expired") => {
                // Its last calls may be written down after its end.
                self.ended.push_back(id);
                if self.ended.len() > ENDED_MAX
                    && let Some(oldest) = self.ended.pop_front()
                {
                    self.all.remove(&oldest);
                }
            }
            _ => {}
        }
    }

    fn minted(&self, id: SessionId, record: &Record) -> Option<Run> {
        let agent = AgentName::parse(record.agent.as_deref()?).ok()?;
        let parent = match record.parent.as_deref() {
            None => None,
            // Of a parent that is not known nothing is known of the child either.
            Some(parent) => Some(Arc::clone(&self.get(parent.parse().ok()?)?.facts)),
        };
        let mut facts = unknown(id, agent, self.new);
        facts.parent = parent;
        facts.narrowing = narrowing(record)?;
        Some(Run {
            facts: Arc::new(facts),
            digest: match record.attributes_sha256.as_deref() {
                None => None,
                Some(text) => Some(digest(text)?),
            },
            grants: [Vec::new(), Vec::new()],
            reserved: HashMap::new(),
            wished: HashSet::new(),
            given: HashMap::new(),
        })
    }

    /// A `grant` record.
    pub fn grant(&mut self, record: &Record) {
        let new = self.new;
        let Some((run, id)) = self.of_grant(record) else {
            return;
        };
        match record.change.as_deref() {
            Some("given") => {
                let Some((grant, sure)) = given(new, run, id, record) else {
                    return;
                };
                let count = run.given.entry(grant.scope.clone()).or_default();
                *count += 1;
                let allowed = ceiling(new, &run.facts, grant.scope.as_str());
                let sure = sure && allowed.is_none_or(|ceiling| *count <= ceiling.grants());
                // Where one like it is live, another is not given.
                let now = time(&record.time).map(tick);
                let like = |one: &Grant| one.scope == grant.scope && one.resource == grant.resource;
                let live = |one: &Grant| now.is_none_or(|now| one.live_at(now));
                let poor = &mut run.grants[POOR];
                if sure && !poor.iter().any(|one| like(one) && live(one)) {
                    poor.push(grant.clone());
                }
                run.grants[RICH].push(grant);
            }
            Some("revoked" | "expired") => {
                for grants in &mut run.grants {
                    grants.retain(|grant| grant.id != id);
                }
            }
            _ => {}
        }
    }

    fn of_grant(&mut self, record: &Record) -> Option<(&mut Run, GrantId)> {
        let session = record.session.as_deref()?.parse().ok()?;
        let id = record.grant.as_deref()?.parse().ok()?;
        Some((self.all.get_mut(&session)?, id))
    }

    /// A wish for a grant that was refused: the new policy may have given it.
    pub fn refused(&mut self, record: &Record) {
        let new = self.new;
        let session = record.session.as_deref().and_then(|id| id.parse().ok());
        let Some(run) = session.and_then(|id: SessionId| self.all.get_mut(&id)) else {
            return;
        };
        let wish = || {
            let scope = ScopeName::parse(record.scope.as_deref()?).ok()?;
            let resource = match record.resource.as_deref() {
                None => None,
                Some(text) => Some(Resource::parse(text).ok()?),
            };
            let bounds = ceiling(new, &run.facts, scope.as_str())?;
            let at = time(&record.time)?;
            Some(Grant {
                id: GrantId::new(record.request.as_deref()?.parse::<RequestId>().ok()?.uuid()),
                resource,
                uses_left: bounds.uses(),
                reserved: 0,
                uses: bounds.uses(),
                expires_at: at.plus(bounds.ttl()),
                ends: tick(at.plus(bounds.ttl())),
                why: "".into(),
                scope,
            })
        };
        let wished = wish();
        run.grants[RICH].extend(wished);
    }

    /// An `approval` record: what becomes of a use that its call reserves.
    pub fn approval(&mut self, record: &Record) {
        let session = record.session.as_deref().and_then(|id| id.parse().ok());
        let Some(run) = session.and_then(|id: SessionId| self.all.get_mut(&id)) else {
            return;
        };
        if record.asked.as_deref() == Some("grant") {
            let scope = record.scope.as_deref();
            run.wished
                .extend(scope.and_then(|scope| ScopeName::parse(scope).ok()));
            return;
        }
        let id = record.approval.as_deref().and_then(|id| id.parse().ok());
        let Some(id) = id else { return };
        let step: fn(&mut Grant) = match record.change.as_deref() {
            Some("executing") => |grant| {
                grant.reserved = grant.reserved.saturating_sub(1);
                grant.uses_left = grant.uses_left.saturating_sub(1);
            },
            Some("returned") => |grant| {
                grant.reserved += 1;
                grant.uses_left += 1;
            },
            Some("denied" | "expired" | "withdrawn") => {
                |grant| grant.reserved = grant.reserved.saturating_sub(1)
            }
            _ => return,
        };
        let Some(held) = run.reserved.get(&id) else {
            return;
        };
        for (grants, held) in run.grants.iter_mut().zip(held) {
            let grant = grants.iter_mut().find(|grant| Some(grant.id) == *held);
            grant.into_iter().for_each(step);
        }
        if matches!(
            record.change.as_deref(),
            Some("denied" | "expired" | "withdrawn")
        ) {
            run.reserved.remove(&id);
        }
    }

    /// What a call takes of its session, and what it gave away of it.
    pub fn take(&mut self, old: &Old, judged: &Judged) {
        let Some(run) = self.all.get_mut(&old.session) else {
            return;
        };
        if let Some(attributes) = &judged.learned {
            let mut facts = Session::clone(&run.facts);
            facts.attributes = attributes.clone();
            (run.facts, run.digest) = (Arc::new(facts), None);
        }
        if judged.verdict.is_err() {
            // Nobody knows which was used, if any: of each there may be one use less.
            let needed = |grant: &&mut Grant| judged.scopes.contains(&grant.scope);
            for grant in run.grants[POOR].iter_mut().filter(needed) {
                grant.uses_left = grant.uses_left.saturating_sub(1);
            }
        }
        let mut held = [None, None];
        for (at, spent) in judged.spent.iter().enumerate() {
            let Some(Spent { grant, waits }) = spent else {
                continue;
            };
            if at == POOR && judged.verdict.is_err() {
                continue;
            }
            let grants = &mut run.grants[at];
            let Some(grant) = grants.iter_mut().find(|one| one.id == *grant) else {
                continue;
            };
            match (waits, old.approval) {
                (false, _) => grant.uses_left = grant.uses_left.saturating_sub(1),
                // A retry joins: the use is reserved already.
                (true, Some(approval)) if run.reserved.contains_key(&approval) => {}
                (true, Some(_)) => {
                    grant.reserved += 1;
                    held[at] = Some(grant.id);
                }
                // Nobody was asked then. What people would have said can't be known, nor whether calls would have joined.
                (true, None) if at == POOR => grant.uses_left = grant.uses_left.saturating_sub(1),
                (true, None) => {}
            }
        }
        if let (Some(approval), true) = (old.approval, held.iter().any(Option::is_some)) {
            run.reserved.insert(approval, held);
        }
    }
}

impl Run {
    /// Whether its attributes are known.
    pub fn is_known(&self) -> bool {
        self.digest.is_none()
    }

    /// Whether these are its attributes: their digest says so.
    pub fn has(&self, attributes: &Attributes) -> bool {
        let text = serde_json::to_string(attributes).unwrap_or_default();
        self.digest == Some(sha256(text.as_bytes()))
    }
}

/// A session of which no more is known than whose it is.
pub(super) fn unknown(id: SessionId, agent: AgentName, new: &Policy) -> Session {
    Session {
        ends: Tick::from_nanos(u64::MAX),
        project: new.project.clone(),
        agent,
        attributes: Attributes::default(),
        parent: None,
        narrowing: None,
        bound_to: None,
        id,
        run: None,
        minted_by: PrincipalName::parse("recorded").expect("this is a name"),
        minted_at: Timestamp::from_micros(0),
        expires_at: Timestamp::from_micros(i64::MAX),
    }
}

fn narrowing(record: &Record) -> Option<Option<Narrowing>> {
    let Some(scopes) = &record.scopes else {
        return Some(None);
    };
    let scopes = scopes.iter().map(|(scope, left)| {
        let patterns = left.resources.as_ref().map(|patterns| {
            let patterns = patterns.iter();
            patterns
                .map(|text| ResourcePattern::parse_literal(text).ok())
                .collect::<Option<Vec<_>>>()
        });
        let left = Narrowed {
            resources: match patterns {
                None => None,
                Some(patterns) => Some(patterns?.into()),
            },
            uses: left.uses,
        };
        Some((ScopeName::parse(scope).ok()?, left))
    });
    let scopes = scopes.collect::<Option<_>>()?;
    Some(Some(Narrowing { scopes }))
}

/// The grant as the new policy would have given it, and whether it surely would have.
fn given(new: &Policy, run: &Run, id: GrantId, record: &Record) -> Option<(Grant, bool)> {
    let scope = ScopeName::parse(record.scope.as_deref()?).ok()?;
    let resource = match record.resource.as_deref() {
        None => None,
        Some(text) => Some(Resource::parse(text).ok()?),
    };
    let (mut uses, expires) = (record.uses?, time(record.expires.as_deref()?)?);
    let mut ends = tick(expires);
    // Outside the new ceiling it opens nothing, whatever is said of it here.
    let ceiling = ceiling(new, &run.facts, scope.as_str());
    let mut sure = true;
    if let Some(ceiling) = ceiling {
        uses = uses.min(ceiling.uses());
        ends = ends.min(tick(time(&record.time)?.plus(ceiling.ttl())));
        let asks = matches!(ceiling.grant(), GrantMode::OnApproval(_));
        sure = !asks || run.wished.contains(&scope);
    }
    let grant = Grant {
        id,
        scope,
        resource,
        uses_left: uses,
        reserved: 0,
        uses,
        expires_at: expires,
        ends,
        why: "".into(),
    };
    Some((grant, sure))
}

/// Wall time taken for monotonic time: records have no other.
pub(super) fn tick(time: Timestamp) -> Tick {
    let micros = u64::try_from(time.micros()).unwrap_or(0);
    Tick::from_nanos(micros.saturating_mul(1000))
}

/// Sessions that ended and are still known.
const ENDED_MAX: usize = 10_000;
