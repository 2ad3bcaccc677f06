//! How many connections a listener holds, in all and from one address. Over the cap a connection is closed unanswered:
//! answering would cost what the cap is there to save.

use crate::config::Caps;
use crate::io::room;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the connections of one listener over all of its threads.
pub struct Door {
    caps: Caps,
    open: AtomicU32,
    /// Bounded by `caps.connections`: an address without a connection has no entry.
    by_address: Mutex<HashMap<IpAddr, u32>>,
    refused: AtomicU64,
    on_refusal: Box<dyn Fn() + Send + Sync>,
}

/// The right to hold one connection; given back when dropped.
#[derive(Debug)]
pub struct Admission {
    door: Arc<Door>,
    address: IpAddr,
}

impl Door {
    /// A door with nobody inside; `on_refusal` counts who is turned away.
    pub fn new(caps: Caps, on_refusal: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            caps,
            open: AtomicU32::new(0),
            by_address: Mutex::default(),
            refused: AtomicU64::new(0),
            on_refusal: Box::new(on_refusal),
        })
    }

    /// `None`: over a cap; the connection is to be closed.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admission> {
        let address = address.to_canonical();
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.caps.connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return self.refuse();
        }
        let mut by_address = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let held = by_address.entry(address).or_default();
        if *held >= self.caps.per_address {
            drop(by_address);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return self.refuse();
        }
        *held += 1;
        drop(by_address);
        room::enter();
        Some(Admission {
            door: Arc::clone(self),
            address,
        })
    }

    fn refuse(&self) -> Option<Admission> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        (self.on_refusal)();
        None
    }

    /// Connections held now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Admission {
    /// Counts that its connection is closed for asking too much, as one that was not let in.
    pub fn turn_away(&self) {
        self.door.refuse();
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door({} of {})", self.open(), self.caps.connections)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        room::leave();
        let mut by_address = self
            .door
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = by_address.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                by_address.remove(&self.address);
            }
        }
        drop(by_address);
        self.door.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn both_caps_hold_and_a_closed_connection_makes_room() {
        let door = Door::new(
            Caps {
                connections: 3,
                per_address: 2,
            },
            || {},
        );
        let first = door.admit(address(1)).unwrap();
        let _second = door.admit(address(1)).unwrap();
        assert!(
            door.admit(address(1)).is_none(),
            "two are open from this address"
        );
        let _third = door.admit(address(2)).unwrap();
        assert!(door.admit(address(3)).is_none(), "three are open in all");
        assert_eq!((door.open(), door.refused()), (3, 2));
        drop(first);
        assert!(door.admit(address(1)).is_some());
    }

    #[test]
    fn an_ipv4_peer_on_a_dual_stack_listener_is_one_address() {
        let door = Door::new(
            Caps {
                connections: 9,
                per_address: 1,
            },
            || {},
        );
        let _held = door.admit("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(door.admit(address(1)).is_none());
    }
}
