//! The routes of one match, asked in the order of the file as [`choose`](crate::policy::choice::choose) asks them; here for
//! calls of which not all is known, and with a word on every condition.
//!
//! What is not known decides nothing: neither that a condition holds nor that it does not, so that nothing behind it is
//! guessed at either.

use crate::policy::call::{Body, Call, OnPath, RefusedBody};
use crate::policy::condition::{Condition, Subject, Why};
use crate::policy::decision::Reason;
use crate::policy::model::{Policy, RouteIndex};
use crate::policy::route::Matched;

/// A route with conditions, asked.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Which.
    pub route: RouteIndex,
    /// One for each of its conditions, in order; none where the body was refused before any was judged.
    pub judged: Vec<Judged>,
    /// What comes of it.
    pub fit: Fit,
}

/// One condition, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it holds.
    pub verdict: Verdict,
    /// What its test on SQL has against the text.
    pub objection: Option<String>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    Fails,
    /// Its subject can't be judged.
    Unevaluable(Why),
    /// Its subject is not known.
    Unknown,
}

/// What comes of asking one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It judges the call.
    Taken,
    /// Its conditions don't hold, and the next of the same match is asked.
    Next,
    /// The call is refused here.
    Refused(Reason),
    /// The call is refused here: its body can't be judged.
    RefusedBody(RefusedBody),
    /// This is not known of the call, and decides.
    Unknown(Box<str>),
}

/// The route that judges a call; else the one where the search ended, and how.
///
/// # Errors
/// Where no route judges it, or it is not known which.
pub fn search<'t>(
    policy: &'t Policy,
    first: Matched<'t>,
    call: &dyn Call,
    tell: &mut dyn FnMut(&Matched<'t>, &Fit),
) -> Result<Matched<'t>, (RouteIndex, Fit)> {
    let mut arm = first;
    loop {
        let behind = policy.table.behind(&arm);
        let fit = fit(policy, &arm, behind.is_some(), call);
        tell(&arm, &fit);
        match (fit, behind) {
            (Fit::Taken, _) => return Ok(arm),
            (Fit::Next, Some(next)) => arm = next,
            (fit, _) => return Err((arm.route, fit)),
        }
    }
}

fn fit(policy: &Policy, arm: &Matched<'_>, more: bool, call: &dyn Call) -> Fit {
    let route = policy.route(arm.route);
    let Some(conditions) = route.conditions.as_deref() else {
        return Fit::Taken;
    };
    let of_body = || conditions.0.iter().filter(|it| it.reads_body());
    // A body is read, and refused if it must be, before anything is judged.
    if let Some(unknown) = of_body().find(|it| !call.knows(&it.subject)) {
        return Fit::Unknown(unknown.subject.to_string().into());
    }
    if of_body().next().is_some()
        && let Some(refused) = call.refused_body(route.body_limit)
    {
        return Fit::RefusedBody(refused);
    }
    if let Some(unknown) = conditions.0.iter().find(|it| is_unknown(it, call)) {
        return Fit::Unknown(unknown.subject.to_string().into());
    }
    let captures = &arm.captures;
    match conditions.unmet(&OnPath { captures, call }) {
        Ok(None) => Fit::Taken,
        Ok(Some(_)) if more => Fit::Next,
        Ok(Some(_)) => Fit::Refused(Reason::ConditionUnmet),
        Err(_) => Fit::Refused(Reason::Unevaluable),
    }
}

fn is_unknown(condition: &Condition, call: &dyn Call) -> bool {
    let unread = || matches!(call.body(), Body::Unread);
    !call.knows(&condition.subject) || matches!(condition.subject, Subject::Body(_)) && unread()
}

impl Arm {
    /// `None`: the route has no conditions.
    pub(super) fn told(
        policy: &Policy,
        arm: &Matched<'_>,
        fit: &Fit,
        call: &dyn Call,
    ) -> Option<Self> {
        let conditions = policy.route(arm.route).conditions.as_deref()?;
        let captures = &arm.captures;
        let facts = OnPath { captures, call };
        let judged = |condition: &Condition| {
            let verdict = match condition.holds(&facts) {
                _ if is_unknown(condition, call) => Verdict::Unknown,
                Ok(true) => Verdict::Holds,
                Ok(false) => Verdict::Fails,
                Err(why) => Verdict::Unevaluable(why),
            };
            let objects = matches!(verdict, Verdict::Fails | Verdict::Unevaluable(_));
            let objection = objects.then(|| condition.objection(&facts)).flatten();
            Judged { verdict, objection }
        };
        let judged = match fit {
            Fit::RefusedBody(_) => Vec::new(),
            _ => conditions.0.iter().map(judged).collect(),
        };
        Some(Arm {
            route: arm.route,
            judged,
            fit: fit.clone(),
        })
    }
}
