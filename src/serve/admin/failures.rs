//! Failed admin authentication, in summary: one record per client address and second, the rest one count, so that
//! strangers can't fill the disk.

use crate::ledger::record::Event;
use crate::ledger::{Ledger, Level};
use crate::policy::time::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Most addresses told apart between two flushes.
const ADDRESSES_MAX: usize = 100;

/// Counts since the last flush.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, u64>,
    rest: u64,
}

impl Failures {
    /// One failure of `client`.
    pub(super) fn note(&self, client: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_address.len() < ADDRESSES_MAX || counts.by_address.contains_key(&client) {
            *counts.by_address.entry(client).or_default() += 1;
        } else {
            counts.rest += 1;
        }
    }

    /// Writes what was counted; what the ledger does not take is counted on, without addresses.
    pub(super) async fn flush(&self, ledger: &Ledger, time: Timestamp) {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let known = counts
            .by_address
            .into_iter()
            .map(|(client, count)| (Some(client), count));
        let rest = (counts.rest > 0).then_some((None, counts.rest));
        for (client, count) in known.chain(rest) {
            let event = Event::Principal {
                change: "failed",
                principal: None,
                client,
                count,
                detail: "authentication at the admin API",
            };
            if ledger.append(&event, time, Level::Written).await.is_err() {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).rest += count;
            }
        }
    }
}
