//! Failed authentication, in summary: one record per client address and second, the rest one count, so that strangers
//! can't fill the disk.
//!
//! Counting is the hot half and takes one short lock; writing is [`Strangers::flush`]'s, once a second.

use crate::ledger::record::Event;
use crate::ledger::{Ledger, Level};
use crate::policy::time::Timestamp;
use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Counts since the last flush.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, u64>,
    /// Of all addresses beyond [`ADDRESSES_MAX`].
    rest: u64,
}

impl Strangers {
    /// One failure from `client`.
    pub(super) fn note(&self, client: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_address.len() < ADDRESSES_MAX || counts.by_address.contains_key(&client) {
            *counts.by_address.entry(client).or_default() += 1;
        } else {
            counts.rest += 1;
        }
    }

    /// Writes what was counted. What the ledger does not take is counted on, without addresses.
    pub(super) async fn flush(&self, ledger: &Ledger, time: Timestamp) {
        let counts = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lost = 0;
        let known = counts
            .by_address
            .into_iter()
            .map(|(client, count)| (Some(client), count));
        let rest = (counts.rest > 0).then_some((None, counts.rest));
        for (client, count) in known.chain(rest) {
            let event = Event::Strangers { client, count };
            if ledger.append(&event, time, Level::Written).await.is_err() {
                lost += count;
            }
        }
        if lost > 0 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).rest += lost;
        }
    }
}

/// Most addresses told apart between two flushes.
const ADDRESSES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn beyond_a_hundred_addresses_a_second_only_a_count_is_kept() {
        let strangers = Strangers::default();
        for last in 0..=255 {
            strangers.note(Ipv4Addr::new(192, 0, 2, last).into());
            strangers.note(Ipv4Addr::new(192, 0, 2, 0).into());
        }
        let counts = strangers.0.lock().unwrap();
        assert_eq!(counts.by_address.len(), ADDRESSES_MAX);
        assert_eq!(counts.by_address[&IpAddr::from([192, 0, 2, 0])], 257);
        assert_eq!(counts.rest, 156);
    }
}
