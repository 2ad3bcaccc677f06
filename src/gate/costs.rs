//! Costs on their way to the store: of all counters only these outlive a restart.
//!
//! A call marks the counters it charged; once a second [`Costs::flush`] saves their recent buckets. What was charged in
//! the second before the gate is killed may be forgotten; nothing is ever charged twice, because buckets are saved as
//! absolute sums.

use crate::gate::ruleset::Ruleset;
use crate::policy::limit::{Bound, Per};
use crate::policy::model::LimitIndex;
use crate::policy::name::{AgentName, LimitId, ProjectName};
use crate::policy::time::{Now, Timestamp};
use crate::store::live::{LiveSession, Sessions};
use crate::store::{CostRow, StoreFault};
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Counters charged since the last flush. Bounded by cost limits times live sessions.
#[derive(Default)]
pub(super) struct Costs(Mutex<Marked>);

#[derive(Default)]
struct Marked {
    charged: HashMap<Key, Charged>,
    flushed: Option<Timestamp>,
}

/// Project, limit, and the holder's name as rows have it.
type Key = (ProjectName, LimitId, String);

struct Charged {
    ruleset: Arc<Ruleset>,
    limit: LimitIndex,
    session: Arc<LiveSession>,
}

impl Costs {
    /// A call of `session` charged these limits.
    pub(super) fn mark(
        &self,
        ruleset: &Arc<Ruleset>,
        session: &Arc<LiveSession>,
        limits: &[LimitIndex],
    ) {
        let mut marked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for limit in limits {
            let described = ruleset.policy.limit(*limit);
            let key = (
                session.facts.project.clone(),
                described.id.clone(),
                holder(described.per, session),
            );
            marked.charged.insert(
                key,
                Charged {
                    ruleset: Arc::clone(ruleset),
                    limit: *limit,
                    session: Arc::clone(session),
                },
            );
        }
    }

    /// Saves what was charged. What the store does not take stays marked.
    ///
    /// # Errors
    /// The first fault of the store.
    pub(super) async fn flush(&self, sessions: &Sessions, now: Now) -> Result<(), StoreFault> {
        let (charged, since) = {
            let mut marked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (mem::take(&mut marked.charged), marked.flushed)
        };
        let mut fault = None;
        for (key, one) in charged {
            for row in rows(&key, &one, since, now) {
                if let Err(why) = sessions.save_cost(row).await {
                    fault.get_or_insert(why);
                }
            }
            if fault.is_some() {
                let mut marked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                marked.charged.entry(key).or_insert(one);
            }
        }
        match fault {
            Some(why) => Err(why),
            None => {
                let mut marked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                marked.flushed = Some(now.wall);
                Ok(())
            }
        }
    }
}

/// The buckets that can have changed since the last flush.
fn rows(key: &Key, one: &Charged, since: Option<Timestamp>, now: Now) -> Vec<CostRow> {
    let limit = one.ruleset.policy.limit(one.limit);
    let Bound::Cost { window, .. } = limit.bound else {
        return Vec::new();
    };
    let cells = match limit.per {
        Per::Session => Some(one.session.cells(&one.ruleset.policy)),
        Per::Agent => one.ruleset.agent_cells(&one.session.facts.agent).cloned(),
        Per::Project => Some(Arc::clone(one.ruleset.project_cells())),
    };
    let buckets = cells.map_or_else(Vec::new, |cells| cells.cost_buckets(one.limit, now));
    // Two parts of slack cover the rounding below.
    let open = |start: Timestamp| since.is_none_or(|since| start.plus(window / 20) >= since);
    let (project, limit, holder) = key;
    buckets
        .into_iter()
        .filter(|(start, _)| open(*start))
        .map(|(start, micros)| CostRow {
            project: project.clone(),
            limit: limit.clone(),
            holder: holder.clone(),
            bucket: middle(start, window),
            micros,
        })
        .collect()
}

/// The middle of the part of the window that begins at about `start`. Wall and monotonic clock are read one after the
/// other, so the same part never begins at quite the same time twice; its row must have one name all the same, in the
/// next run too, or its cost would count twice. (`io::clock` lets both clocks agree at the start.)
fn middle(start: Timestamp, window: Duration) -> Timestamp {
    let part = i64::try_from(window.as_micros() / 60)
        .unwrap_or(i64::MAX)
        .max(1);
    let number = start.micros().saturating_add(part / 2).div_euclid(part);
    Timestamp::from_micros(number.saturating_mul(part).saturating_add(part / 2))
}

/// Puts saved costs of agents and of the project back into a ruleset's shared counters.
pub(super) fn restore(ruleset: &Ruleset, rows: &[CostRow], now: Now) {
    for row in rows
        .iter()
        .filter(|row| row.project == ruleset.policy.project)
    {
        let mut limits = ruleset.policy.limits.iter().zip(0..);
        let Some((limit, index)) = limits.find(|(limit, _)| limit.id == row.limit) else {
            continue;
        };
        let cells = match limit.per {
            // A session's own come back with the session.
            Per::Session => None,
            Per::Agent => AgentName::parse(&row.holder)
                .ok()
                .and_then(|agent| ruleset.agent_cells(&agent)),
            Per::Project => Some(ruleset.project_cells()),
        };
        if let Some(cells) = cells {
            cells.restore_cost(LimitIndex(index), row.bucket, row.micros, now);
        }
    }
}

fn holder(per: Per, session: &LiveSession) -> String {
    match per {
        Per::Session => session.facts.id.to_string(),
        Per::Agent => session.facts.agent.to_string(),
        Per::Project => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_window_has_one_name_however_the_clocks_jitter() {
        let window = Duration::from_secs(3600);
        let begins = 1_767_225_600_000_000;
        for jitter in [-2, -1, 0, 1, 2] {
            let name = middle(Timestamp::from_micros(begins + jitter), window);
            assert_eq!(name.micros(), begins + 30_000_000);
        }
        let next = middle(Timestamp::from_micros(begins + 60_000_000), window);
        assert_eq!(next.micros(), begins + 90_000_000);
    }
}
