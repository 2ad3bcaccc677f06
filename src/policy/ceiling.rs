//! What a session may ever be granted: its agent's ceiling, what narrowing left of it, and the same of every parent.

use super::held::ScopeNumber;
use super::model::{Ceiling, GrantMode, Policy, Resources, Route};
use super::resource::{Resource, ResourcePattern};
use super::subject::{Narrowed, Session};
use std::time::Duration;

/// The ceiling of one scope for one session, of which every parent's is a part too.
#[derive(Clone, Copy, Debug)]
pub struct Effective<'a> {
    policy: &'a Policy,
    scope: (ScopeNumber, &'a str),
    own: Bound<'a>,
}

/// One session's own part: its agent's ceiling and its narrowing.
#[derive(Clone, Copy, Debug)]
struct Bound<'a> {
    session: &'a Session,
    ceiling: &'a Ceiling,
    narrowed: Option<&'a Narrowed>,
}

/// What `session` may ever be granted of `scope`; `None`: nothing. Allocates nothing.
pub fn ceiling<'a>(
    policy: &'a Policy,
    session: &'a Session,
    scope: &'a str,
) -> Option<Effective<'a>> {
    let scope = (policy.held.scope(scope)?, scope);
    effective(policy, session, scope)
}

/// The same for the scope that a route needs, which needs no look-up.
pub(super) fn ceiling_of_route<'a>(
    policy: &'a Policy,
    session: &'a Session,
    route: &'a Route,
) -> Option<Effective<'a>> {
    let scope = (route.scope_number, route.scope.as_str());
    effective(policy, session, scope)
}

fn effective<'a>(
    policy: &'a Policy,
    session: &'a Session,
    scope: (ScopeNumber, &'a str),
) -> Option<Effective<'a>> {
    let own = bound(policy, session, scope)?;
    // A parent that may not hold it has nothing to pass on.
    let passed_on = parents(session).all(|parent| bound(policy, parent, scope).is_some());
    passed_on.then_some(Effective { policy, scope, own })
}

/// The parents of a session, nearest first.
fn parents(session: &Session) -> impl Iterator<Item = &Session> {
    std::iter::successors(session.parent.as_deref(), |parent| parent.parent.as_deref())
}

fn bound<'a>(
    policy: &'a Policy,
    session: &'a Session,
    (number, scope): (ScopeNumber, &str),
) -> Option<Bound<'a>> {
    let ceiling = policy.held.ceiling(&session.agent, number)?;
    let narrowed = match &session.narrowing {
        None => None,
        Some(narrowing) => Some(narrowing.scopes.get(scope)?),
    };
    Some(Bound {
        session,
        ceiling,
        narrowed,
    })
}

/// A list of patterns that bounds resources.
pub(super) struct Listed<'a> {
    /// Whose attributes fill it.
    pub session: &'a Session,
    /// Whether it is what narrowing left, or else the agent's ceiling.
    pub narrowed: bool,
    pub patterns: &'a [ResourcePattern],
}

impl Bound<'_> {
    fn allows(&self, resource: Option<&Resource>) -> bool {
        let among = |patterns: &[ResourcePattern]| {
            let attributes = &self.session.attributes;
            resource.is_some_and(|resource| resource.is_within(patterns, attributes))
        };
        let by_agent = match &self.ceiling.resources {
            Resources::Any | Resources::AnyMeant => true,
            Resources::Patterns(patterns) => among(patterns),
        };
        let left = self.narrowed.and_then(|left| left.resources.as_deref());
        by_agent && left.is_none_or(among)
    }

    fn uses(&self) -> u32 {
        let left = self.narrowed.and_then(|left| left.uses);
        left.map_or(self.ceiling.uses, |uses| uses.min(self.ceiling.uses))
    }
}

impl<'a> Effective<'a> {
    /// The parts that all must hold, the session's own first.
    fn bounds(&self) -> impl Iterator<Item = Bound<'a>> {
        let (policy, scope) = (self.policy, self.scope);
        let above =
            parents(self.own.session).filter_map(move |parent| bound(policy, parent, scope));
        std::iter::once(self.own).chain(above)
    }

    /// Whether it covers what a call acts on. A call that acts on nothing named is covered only where nothing bounds
    /// resources.
    pub fn allows(&self, resource: Option<&Resource>) -> bool {
        self.bounds().all(|bound| bound.allows(resource))
    }

    /// How a grant comes about: the strictest that any part says; by the chain of the nearest that wants a person.
    pub fn grant(&self) -> GrantMode {
        let mut strictest = GrantMode::OnUse;
        for bound in self.bounds() {
            match bound.ceiling.grant {
                GrantMode::OnUse => {}
                GrantMode::OnRequest => strictest = GrantMode::OnRequest,
                GrantMode::OnApproval(chain) => return GrantMode::OnApproval(chain),
            }
        }
        strictest
    }

    /// Most uses of one stored grant.
    pub fn uses(&self) -> u32 {
        let uses = self.bounds().map(|bound| bound.uses());
        uses.min().unwrap_or(0)
    }

    /// Longest life of one stored grant.
    pub fn ttl(&self) -> Duration {
        let ttl = self.bounds().map(|bound| bound.ceiling.ttl);
        ttl.min().unwrap_or(Duration::ZERO)
    }

    /// Most stored grants of the scope in the session's life.
    pub fn grants(&self) -> u32 {
        let grants = self.bounds().map(|bound| bound.ceiling.grants);
        grants.min().unwrap_or(0)
    }

    /// Every list of patterns that bounds resources, with the session whose attributes fill it. A resource must be
    /// matched in all of them.
    pub fn bounding(&self) -> impl Iterator<Item = (&'a Session, &'a [ResourcePattern])> {
        self.listed().map(|list| (list.session, list.patterns))
    }

    /// The same, and which of the two lists of a session each is.
    pub(super) fn listed(&self) -> impl Iterator<Item = Listed<'a>> {
        self.bounds().flat_map(|bound| {
            let by_agent = match &bound.ceiling.resources {
                Resources::Any | Resources::AnyMeant => None,
                Resources::Patterns(patterns) => Some((false, &**patterns)),
            };
            let left = bound.narrowed.and_then(|left| left.resources.as_deref());
            let left = left.map(|patterns| (true, patterns));
            let lists = by_agent.into_iter().chain(left);
            lists.map(move |(narrowed, patterns)| Listed {
                session: bound.session,
                narrowed,
                patterns,
            })
        })
    }

    /// Whether anything bounds the resources.
    pub fn is_bounded(&self) -> bool {
        self.bounds().any(|bound| {
            matches!(bound.ceiling.resources, Resources::Patterns(_))
                || bound.narrowed.is_some_and(|left| left.resources.is_some())
        })
    }
}
