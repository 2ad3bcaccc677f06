//! Whom the policies in force name: each project's targets, and which of them a chain tells.

use super::locked;
use super::target::{Address, Target, TargetError};
use crate::policy::model::Policy;
use crate::policy::name::{ChainName, NotifyName, ProjectName};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// The targets of a set of policies, ready to be sent to. Replaced as a whole.
#[derive(Debug, Default)]
pub struct Targets {
    known: HashMap<Address, Arc<Target>>,
    /// Names of a chain's targets, and under `None` of all that a project has.
    told: HashMap<(ProjectName, Option<ChainName>), Box<[NotifyName]>>,
    /// Those that answered 410; new ones have another chance.
    gone: Mutex<HashSet<Address>>,
}

impl Targets {
    /// Those of `policies`.
    ///
    /// # Errors
    /// [`TargetError`]: the first that can't be sent to, as far as can be told without doing it.
    pub fn of(policies: &[Policy]) -> Result<Self, TargetError> {
        let mut targets = Self::default();
        for policy in policies {
            let project = &policy.project;
            for notify in &policy.notify {
                let address = Address {
                    project: project.clone(),
                    target: notify.name.clone(),
                };
                let target = Arc::new(Target::new(project, notify)?);
                targets.known.insert(address, target);
            }
            let all = policy.notify.iter().map(|notify| notify.name.clone());
            let told = &mut targets.told;
            told.insert((project.clone(), None), all.collect());
            for chain in &policy.chains {
                let key = (project.clone(), Some(chain.name.clone()));
                told.insert(key, chain.notify.clone());
            }
        }
        Ok(targets)
    }

    /// Who is told of what happens in a chain, or (`None`) in the project.
    pub(super) fn told(&self, project: &ProjectName, chain: Option<&ChainName>) -> Vec<Address> {
        let names = self.told.get(&(project.clone(), chain.cloned()));
        let names = names.map_or(&[][..], |names| &**names);
        let address = |target: &NotifyName| Address {
            project: project.clone(),
            target: target.clone(),
        };
        let mut all: Vec<_> = names.iter().map(address).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Nothing more is sent to this one.
    pub(super) fn disable(&self, address: &Address) {
        locked(&self.gone).insert(address.clone());
    }

    /// The target, or why there is none to send to.
    pub(super) fn find(&self, address: &Address) -> Result<&Arc<Target>, &'static str> {
        if locked(&self.gone).contains(address) {
            return Err(GONE);
        }
        self.known
            .get(address)
            .ok_or("the policy has no such target any more")
    }
}

/// Why nothing is sent to who answered 410.
pub(super) const GONE: &str =
    "the target answered 410 Gone; a reload or a restart lets it be tried again";
