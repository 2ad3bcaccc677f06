//! What a session may ever be granted: its agent's ceiling, what narrowing left of it, and the same of every parent.

use super::model::{Ceiling, GrantMode, Policy, Resources};
use super::resource::{Resource, ResourcePattern};
use super::subject::{Narrowed, Session};
use std::time::Duration;

/// The ceiling of one scope for one session, of which every parent's is a part too.
#[derive(Clone, Copy, Debug)]
pub struct Effective<'a> {
    policy: &'a Policy,
    session: &'a Session,
    scope: &'a str,
    own: &'a Ceiling,
}

/// What `session` may ever be granted of `scope`; `None`: nothing. Allocates nothing.
pub fn ceiling<'a>(
    policy: &'a Policy,
    session: &'a Session,
    scope: &'a str,
) -> Option<Effective<'a>> {
    let own = bound(policy, session, scope)?.0;
    let effective = Effective {
        policy,
        session,
        scope,
        own,
    };
    // A parent that may not hold it has nothing to pass on.
    (effective.bounds().count() == lineage(session).count()).then_some(effective)
}

/// A session and its parents, nearest first.
fn lineage(session: &Session) -> impl Iterator<Item = &Session> {
    std::iter::successors(Some(session), |session| session.parent.as_deref())
}

/// One session's own part: its agent's ceiling and its narrowing.
fn bound<'a>(
    policy: &'a Policy,
    session: &'a Session,
    scope: &str,
) -> Option<(&'a Ceiling, Option<&'a Narrowed>)> {
    let ceiling = policy
        .agents
        .get(session.agent.as_str())?
        .scopes
        .get(scope)?;
    match &session.narrowing {
        None => Some((ceiling, None)),
        Some(narrowing) => Some((ceiling, Some(narrowing.scopes.get(scope)?))),
    }
}

impl<'a> Effective<'a> {
    /// The parts that all must hold, the session's own first.
    fn bounds(&self) -> impl Iterator<Item = (&'a Session, &'a Ceiling, Option<&'a Narrowed>)> {
        let (policy, scope) = (self.policy, self.scope);
        lineage(self.session).filter_map(move |session| {
            let (ceiling, narrowed) = bound(policy, session, scope)?;
            Some((session, ceiling, narrowed))
        })
    }

    /// Whether it covers what a call acts on. A call that acts on nothing named is covered only where nothing bounds
    /// resources.
    pub fn allows(&self, resource: Option<&Resource>) -> bool {
        self.bounds().all(|(session, ceiling, narrowed)| {
            let among = |patterns: &[super::resource::ResourcePattern]| {
                resource.is_some_and(|resource| {
                    patterns
                        .iter()
                        .any(|pattern| pattern.matches(resource, &session.attributes))
                })
            };
            let by_agent = match &ceiling.resources {
                Resources::Any | Resources::AnyMeant => true,
                Resources::Patterns(patterns) => among(patterns),
            };
            by_agent
                && narrowed
                    .and_then(|left| left.resources.as_deref())
                    .is_none_or(among)
        })
    }

    /// How a grant comes about: on request as soon as any part says so.
    pub fn grant(&self) -> GrantMode {
        let asks = |(_, ceiling, _): (&Session, &Ceiling, Option<&Narrowed>)| match ceiling.grant {
            GrantMode::OnUse => false,
            GrantMode::OnRequest => true,
        };
        if self.bounds().any(asks) {
            GrantMode::OnRequest
        } else {
            GrantMode::OnUse
        }
    }

    /// Most uses of one stored grant.
    pub fn uses(&self) -> u32 {
        let of = |(_, ceiling, narrowed): (&Session, &Ceiling, Option<&Narrowed>)| {
            narrowed
                .and_then(|left| left.uses)
                .map_or(ceiling.uses, |uses| uses.min(ceiling.uses))
        };
        self.bounds().map(of).min().unwrap_or(0)
    }

    /// Longest life of one stored grant.
    pub fn ttl(&self) -> Duration {
        self.bounds()
            .map(|(_, ceiling, _)| ceiling.ttl)
            .min()
            .unwrap_or(Duration::ZERO)
    }

    /// Most stored grants of the scope in the session's life.
    pub fn grants(&self) -> u32 {
        self.own.grants
    }

    /// Every list of patterns that bounds resources, with the session whose attributes fill it. A resource must be
    /// matched in all of them.
    pub fn bounding(&self) -> impl Iterator<Item = (&'a Session, &'a [ResourcePattern])> {
        self.bounds().flat_map(|(session, ceiling, narrowed)| {
            let by_agent = match &ceiling.resources {
                Resources::Any | Resources::AnyMeant => None,
                Resources::Patterns(patterns) => Some(&**patterns),
            };
            let left = narrowed.and_then(|left| left.resources.as_deref());
            by_agent
                .into_iter()
                .chain(left)
                .map(move |patterns| (session, patterns))
        })
    }

    /// Whether anything bounds the resources.
    pub fn is_bounded(&self) -> bool {
        self.bounds().any(|(_, ceiling, narrowed)| {
            matches!(ceiling.resources, Resources::Patterns(_))
                || narrowed.is_some_and(|left| left.resources.is_some())
        })
    }
}
