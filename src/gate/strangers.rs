//! Failed authentication, in summary: one record per client address and second, the rest one count, so that strangers
//! can't fill the disk. And how often an address may fail at the agents' listener before it is not listened to for a while
//! ([`Tries`]).
//!
//! Counting is the hot half and takes one short lock; writing is [`Strangers::flush`]'s, once a second. The agents'
//! listener and the admin API keep one each.

mod tries;

pub use tries::Familiar;
pub(super) use tries::Tries;

use crate::ledger::record::Event;
use crate::ledger::{Ledger, Level};
use crate::policy::time::Timestamp;
use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who failed since the last flush.
#[derive(Debug)]
pub(crate) struct Strangers {
    counts: Mutex<Counts>,
    event: fn(Option<IpAddr>, u64) -> Event<'static>,
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, u64>,
    /// Of all addresses beyond [`ADDRESSES_MAX`].
    rest: u64,
}

impl Strangers {
    /// Failures at a listener, written down as `event` makes them of a client (`None`: all the rest) and a count.
    pub(crate) fn new(event: fn(Option<IpAddr>, u64) -> Event<'static>) -> Self {
        Self {
            counts: Mutex::default(),
            event,
        }
    }

    /// One failure from `client`.
    pub(crate) fn note(&self, client: IpAddr) {
        let mut counts = self.counts();
        if counts.by_address.len() < ADDRESSES_MAX || counts.by_address.contains_key(&client) {
            *counts.by_address.entry(client).or_default() += 1;
        } else {
            counts.rest += 1;
        }
    }

    /// Writes what was counted. What the ledger does not take is counted on, without addresses.
    pub(crate) async fn flush(&self, ledger: &Ledger, time: Timestamp) {
        let counts = mem::take(&mut *self.counts());
        let mut lost = 0;
        let known = counts
            .by_address
            .into_iter()
            .map(|(client, count)| (Some(client), count));
        let rest = (counts.rest > 0).then_some((None, counts.rest));
        for (client, count) in known.chain(rest) {
            let event = (self.event)(client, count);
            if ledger.append(&event, time, Level::Written).await.is_err() {
                lost += count;
            }
        }
        if lost > 0 {
            self.counts().rest += lost;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most addresses told apart between two flushes.
const ADDRESSES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LedgerSettings;
    use crate::ledger::query::{self, Filter, Order};
    use std::net::Ipv4Addr;

    #[test]
    fn beyond_a_hundred_addresses_a_second_only_a_count_is_kept() {
        let strangers = Strangers::new(|client, count| Event::Strangers { client, count });
        for last in 0..=255 {
            strangers.note(Ipv4Addr::new(192, 0, 2, last).into());
            strangers.note(Ipv4Addr::new(192, 0, 2, 0).into());
        }
        let counts = strangers.counts();
        assert_eq!(counts.by_address.len(), ADDRESSES_MAX);
        assert_eq!(counts.by_address[&IpAddr::from([192, 0, 2, 0])], 257);
        assert_eq!(counts.rest, 156);
    }

    #[tokio::test]
    async fn a_second_writes_a_hundred_records_and_one_count_of_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let ledger = Ledger::open(&LedgerSettings::new(folder.path().join("l")), move || now);
        let ledger = ledger.unwrap();
        let strangers = Strangers::new(|client, count| Event::Strangers { client, count });
        for address in 0..5000_u32 {
            strangers.note(Ipv4Addr::from(address).into());
        }
        strangers.flush(&ledger, now).await;
        strangers.flush(&ledger, now).await;
        let mut filter = Filter::default();
        filter.set("kind", "principal", now).unwrap();
        let recent = query::page(
            ledger.directory(),
            &filter,
            Order::Oldest,
            None,
            500,
            1 << 20,
        );
        let recent = recent.unwrap();
        let of_known = recent.records.iter().filter(|it| it["client"].is_string());
        assert_eq!(of_known.count(), ADDRESSES_MAX);
        let rest = &recent.records[ADDRESSES_MAX..];
        assert_eq!((rest.len(), &rest[0]["count"]), (1, &4900.into()));
        // Nothing is written of a second without failures, and what the ledger does not take is not forgotten.
        ledger.close().unwrap();
        strangers.note(Ipv4Addr::LOCALHOST.into());
        strangers.flush(&ledger, now).await;
        assert_eq!(strangers.counts().rest, 1);
    }
}
