//! How often an address may fail to authenticate: so many times at once, and so many a minute from then on. Who is over it
//! is refused before a credential is looked at, let alone looked up.
//!
//! Many agents may share an address with one that fails. So a connection on which a good credential has been shown is
//! not held to what others of its address do ([`Familiar`]), and a failure on it counts all the same.

use crate::policy::time::Tick;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whether a good credential has been shown on a connection.
#[derive(Clone, Debug, Default)]
pub struct Familiar(Arc<AtomicBool>);

impl Familiar {
    /// One has.
    pub(in crate::gate) fn greet(&self) {
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Whether one has.
    pub(in crate::gate) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Failures by address.
#[derive(Debug)]
pub(in crate::gate) struct Tries {
    /// What one failure takes.
    each: Duration,
    /// Whether anybody has failed yet: where nobody has, calls share no lock.
    any: AtomicBool,
    networks: Mutex<Networks>,
}

#[derive(Debug, Default)]
struct Networks {
    /// When what each has spent is paid back.
    paid: HashMap<IpAddr, Tick>,
    /// The same of all that the table has no room for, together.
    rest: Option<Tick>,
    /// When those who have paid were last looked for: at most once a second, or a full table would make failing dear for
    /// everybody.
    tidied: Option<Tick>,
}

/// What may be spent at once, in time.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses told apart at once.
const NETWORKS_MAX: usize = 10_000;

impl Tries {
    /// So many a minute.
    pub fn new(per_minute: u32) -> Self {
        Self {
            each: WINDOW / per_minute.max(1),
            any: AtomicBool::new(false),
            networks: Mutex::default(),
        }
    }

    /// Whether what `client` sends is looked at.
    pub fn admit(&self, client: IpAddr, now: Tick) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return true;
        }
        let networks = self.networks();
        let paid = networks.paid.get(&network(client)).copied();
        // A table that is full of others says nothing of who is not in it.
        let paid = paid.or_else(|| networks.is_full().then_some(networks.rest).flatten());
        paid.is_none_or(|paid| paid.since(now) < WINDOW)
    }

    /// `client` has failed.
    pub fn fail(&self, client: IpAddr, now: Tick) {
        let client = network(client);
        self.any.store(true, Ordering::Relaxed);
        let mut networks = self.networks();
        if networks.is_full() && !networks.paid.contains_key(&client) {
            networks.tidy(now);
        }
        let networks = &mut *networks;
        let paid = if networks.is_full() && !networks.paid.contains_key(&client) {
            networks.rest.get_or_insert(now)
        } else {
            networks.paid.entry(client).or_insert(now)
        };
        *paid = (*paid).max(now).plus(self.each);
    }

    fn networks(&self) -> MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Networks {
    fn tidy(&mut self, now: Tick) {
        let long_ago = |tidied: Tick| now.since(tidied) >= Duration::from_secs(1);
        if self.tidied.is_none_or(long_ago) {
            self.paid.retain(|_, paid| *paid > now);
            self.tidied = Some(now);
        }
    }

    fn is_full(&self) -> bool {
        self.paid.len() >= NETWORKS_MAX
    }
}

/// Who has one address of IPv6 has the other 2^64 beside it, too.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const START: Tick = Tick::from_nanos(0);

    fn after(seconds: u64) -> Tick {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let tries = Tries::new(60);
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        for _ in 0..60 {
            assert!(tries.admit(one, START));
            tries.fail(one, START);
        }
        assert!(!tries.admit(one, START));
        assert!(tries.admit(other, START));
        // A second pays for one.
        assert!(tries.admit(one, after(1)));
        tries.fail(one, after(1));
        assert!(!tries.admit(one, after(1)));
        assert!(tries.admit(one, after(120)));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_full_table_makes_room() {
        let tries = Tries::new(1);
        tries.fail("2001:db8::1".parse().unwrap(), START);
        assert!(!tries.admit("2001:db8::ffff:1".parse().unwrap(), START));
        assert!(tries.admit("2001:db8:0:1::1".parse().unwrap(), START));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        tries.fail(mapped, START);
        assert!(!tries.admit([192, 0, 2, 1].into(), START));
        for address in 0..20_000 {
            tries.fail(Ipv4Addr::from_bits(0x0a00_0000 + address).into(), START);
        }
        assert!(tries.networks().paid.len() <= NETWORKS_MAX);
        // Those who are not told apart are held to what they did together.
        assert!(!tries.admit([198, 51, 100, 1].into(), START));
        tries.fail([198, 51, 100, 2].into(), after(90));
        assert_eq!(tries.networks().paid.len(), 1);
        assert!(tries.admit([198, 51, 100, 1].into(), after(90)));
    }
}
