//! Chains: who decides, and which routes and scopes they decide for.

use super::notify::Targets;
use super::or;
use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::raw::{self, NEVER};
use crate::config::read::{At, alternatives};
use crate::config::units::show_duration;
use crate::policy::approval::{Chain, ChainIndex};
use crate::policy::name::{ChainName, NotifyName};
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

/// A project's chains, and where they stand.
pub struct Chains {
    pub all: Vec<Chain>,
    /// One for each of `all`.
    pub places: Vec<ChainPlace>,
}

/// Where one chain stands.
pub struct ChainPlace {
    pub name: Place,
    /// One for each of its groups.
    pub approvers: Vec<Place>,
}

/// Every chain that is written is known, whatever else was reported of it: what was reported is not served.
pub fn chains(
    raw: Option<&At<crate::config::collection::Map<ChainName, raw::Chain>>>,
    targets: &Targets,
    reports: &mut Reports,
) -> Chains {
    let raw = raw.map_or(&[][..], |at| &at.value.0);
    if let Some((name, _)) = raw.get(CHAINS_MAX) {
        let message = format!("a project has at most {CHAINS_MAX} chains");
        reports.error(name.place, message, "let routes share them");
    }
    let mut chains = Chains {
        all: Vec::with_capacity(raw.len()),
        places: Vec::with_capacity(raw.len()),
    };
    for (name, raw) in raw.iter().take(CHAINS_MAX) {
        reports.enter(format!("chain `{}`", name.value));
        if name.value.as_str() == NEVER {
            reports.error(
                name.place,
                "`approval: never` asks nobody, so no chain can be called so",
                "give it another name",
            );
        }
        let raw = raw.as_ref().map(|at| &at.value);
        let (chain, place) = chain(name, raw, targets, reports);
        reports.leave();
        chains.all.push(chain);
        chains.places.push(place);
    }
    chains
}

fn chain(
    name: &At<ChainName>,
    raw: Option<&raw::Chain>,
    targets: &Targets,
    reports: &mut Reports,
) -> (Chain, ChainPlace) {
    let approvers = raw.and_then(|raw| raw.approvers.as_ref());
    let approvers = approvers.map_or(&[][..], |at| &at.value.0);
    refuse_twice(approvers, reports);
    let notify = raw.and_then(|raw| raw.notify.as_ref());
    let notify = notify.map_or(&[][..], |at| &at.value.0);
    refuse_twice(notify, reports);
    for target in notify {
        targets.demand(target, reports);
    }
    let pending = raw.and_then(|raw| raw.pending.as_ref());
    let pending = pending.map(|at| &at.value);
    let hold_at = raw.and_then(|raw| raw.hold.as_ref());
    let hold = or(hold_at, |span| span.0, HOLD);
    let expires = or(
        raw.and_then(|raw| raw.expires.as_ref()),
        |span| span.0,
        EXPIRES,
    );
    if let Some(at) = hold_at.filter(|_| hold > expires) {
        let (hold, expires) = (show_duration(hold), show_duration(expires));
        reports.warn(
            at.place,
            format!("`hold` ({hold}) is longer than an approval lives: `expires` is {expires}"),
            "shorten `hold`, or give people more time with `expires`",
        );
    }
    let chain = Chain {
        name: name.value.clone(),
        approvers: values(approvers),
        quorum: or(
            raw.and_then(|raw| raw.quorum.as_ref()),
            |count| count.0,
            QUORUM,
        ),
        hold,
        expires,
        denied_for: or(
            raw.and_then(|raw| raw.denied_for.as_ref()),
            |span| span.0,
            DENIED_FOR,
        ),
        pending_per_session: or(
            pending.and_then(|raw| raw.per_session.as_ref()),
            |count| count.0,
            PENDING_PER_SESSION,
        ),
        pending_per_route: or(
            pending.and_then(|raw| raw.per_route.as_ref()),
            |count| count.0,
            PENDING_PER_ROUTE,
        ),
        notify: values::<NotifyName>(notify),
    };
    let place = ChainPlace {
        name: name.place,
        approvers: approvers.iter().map(|group| group.place).collect(),
    };
    (chain, place)
}

impl Chains {
    /// The chain that somebody named. `None`: reported.
    pub fn named(&self, name: &At<ChainName>, reports: &mut Reports) -> Option<ChainIndex> {
        let found = self.find(name.value.as_str());
        if found.is_none() {
            let known = self.all.iter().map(|chain| chain.name.as_str());
            let help = match did_you_mean(name.value.as_str(), known.clone()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if self.all.is_empty() => self.cure(name.value.as_str()),
                None => {
                    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
                    format!("the chains of this project are {}", alternatives(&known))
                }
            };
            let message = format!("there is no chain `{}`", name.value);
            reports.error(name.place, message, help);
        }
        found
    }

    /// The chain that decides where none is named.
    pub fn default(&self) -> Option<ChainIndex> {
        self.find(DEFAULT)
    }

    /// How a chain of this name is written.
    pub fn cure(&self, name: &str) -> String {
        format!("add `{name}: {{ approvers: [GROUP] }}` under `approvals`")
    }

    fn find(&self, name: &str) -> Option<ChainIndex> {
        let found = self
            .all
            .iter()
            .position(|chain| chain.name.as_str() == name);
        found.map(|at| ChainIndex(u16::try_from(at).expect("CHAINS_MAX is below 2^16")))
    }
}

fn values<T: Clone>(list: &[At<T>]) -> Box<[T]> {
    list.iter().map(|at| at.value.clone()).collect()
}

/// A name listed twice: one of the two was probably meant to be another.
pub fn refuse_twice<T: fmt::Display + Eq + Hash>(list: &[At<T>], reports: &mut Reports) {
    let mut seen = HashSet::new();
    for at in list {
        if !seen.insert(&at.value) {
            let message = format!("`{}` is listed twice", at.value);
            reports.error(at.place, message, "remove one");
        }
    }
}

/// The chain of what names none.
pub const DEFAULT: &str = "default";
/// Most chains of a project: their positions are `u16`.
const CHAINS_MAX: usize = 1000;
const QUORUM: u32 = 1;
const HOLD: Duration = Duration::from_secs(50);
const EXPIRES: Duration = Duration::from_secs(3600);
const DENIED_FOR: Duration = Duration::from_secs(600);
const PENDING_PER_SESSION: u32 = 16;
const PENDING_PER_ROUTE: u32 = 8;
