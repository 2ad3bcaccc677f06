//! Which of the routes of one match judges a call: the arms of a match are asked in the order of the file, and the first
//! whose conditions hold is the one.
//!
//! An arm that can't be judged ends the search: nothing falls through to a laxer one. The body is asked for only when an
//! arm is reached that reads it, so that calls which no condition on a body concerns are never held up by theirs.

use super::call::{Body, Call, OnPath};
use super::condition::{Condition, Why};
use super::model::{Policy, Route, RouteIndex};
use super::resource::{Resource, Unfilled};
use super::route::Matched;
use super::template::Captures;

/// Why no arm judges a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The conditions of this route read the body, which is unread.
    Unread(RouteIndex),
    /// A subject of this route can't be judged.
    Unevaluable {
        /// Whose.
        route: RouteIndex,
        /// Which of its conditions.
        condition: usize,
        /// Why.
        why: Why,
    },
    /// No arm's conditions hold; of the last one, this does not.
    Unmet {
        /// The last in the file.
        route: RouteIndex,
        /// Which of its conditions.
        condition: usize,
    },
}

impl Unfit {
    /// Whose conditions.
    pub fn route(self) -> RouteIndex {
        match self {
            Unfit::Unread(route)
            | Unfit::Unevaluable { route, .. }
            | Unfit::Unmet { route, .. } => route,
        }
    }

    /// Which of them it is.
    pub fn condition(self, policy: &Policy) -> Option<&Condition> {
        let condition = match self {
            Unfit::Unread(_) => return None,
            Unfit::Unevaluable { condition, .. } | Unfit::Unmet { condition, .. } => condition,
        };
        policy
            .route(self.route())
            .conditions
            .as_deref()?
            .0
            .get(condition)
    }
}

/// The arm that judges a call, from the first of its match on.
///
/// # Errors
/// [`Unfit`].
pub fn choose<'t>(
    policy: &'t Policy,
    first: Matched<'t>,
    call: &dyn Call,
) -> Result<Matched<'t>, Unfit> {
    let mut arm = first;
    loop {
        let route = policy.route(arm.route);
        let Some(conditions) = &route.conditions else {
            return Ok(arm);
        };
        if conditions.reads_body() && matches!(call.body(), Body::Unread) {
            return Err(Unfit::Unread(arm.route));
        }
        let captures = &arm.captures;
        let facts = OnPath { captures, call };
        let unmet = conditions.unmet(&facts).map_err(|it| Unfit::Unevaluable {
            route: arm.route,
            condition: it.condition,
            why: it.why,
        })?;
        let Some(condition) = unmet else {
            return Ok(arm);
        };
        arm = policy.table.behind(&arm).ok_or(Unfit::Unmet {
            route: arm.route,
            condition,
        })?;
    }
}

/// What is wrong with the SQL of a call that no arm judges, in words for the agent that wrote it. `None`: that is not it.
pub fn sql_told(
    policy: &Policy,
    first: Matched<'_>,
    call: &dyn Call,
    unfit: Unfit,
) -> Option<String> {
    let condition = unfit.condition(policy)?;
    let mut arms = policy.table.arms(first);
    let arm = arms.find(|arm| arm.route == unfit.route())?;
    let facts = OnPath {
        captures: &arm.captures,
        call,
    };
    condition.objection(&facts)
}

/// Why it can't be said what a call acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vague {
    /// It stands in the body, which is unread.
    Unread,
    /// This of what it is read from can't be used.
    Unfilled(Unfilled),
}

/// What a call acts on, by the route that judges it.
///
/// # Errors
/// [`Vague`]. That is not "no resource": nothing that bounds resources allows such a call.
pub fn acts_on(
    route: &Route,
    captures: &Captures<'_>,
    call: &dyn Call,
) -> Result<Option<Resource>, Vague> {
    let Some(template) = &route.resource else {
        return Ok(None);
    };
    if template.reads_body() && matches!(call.body(), Body::Unread) {
        return Err(Vague::Unread);
    }
    let filled = template.fill(&OnPath { captures, call });
    filled.map(Some).map_err(Vague::Unfilled)
}
