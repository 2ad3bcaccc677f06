//! Memory that all connections share, as it is the process's.
//!
//! What of agents' bodies lies in it because it must be read before it is judged is counted and bounded. Each body has its
//! own bound besides; this one is for all who send at once. And where many connections are held, each gets less: who is
//! served slowly in a crowd is served all the same.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of bodies read ahead, of all calls together: as many as the longest body may have that a route can ask for.
pub const BUFFERED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Connections from which on there is a crowd.
const CROWD: u32 = 1024;

static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
static BUFFERED: AtomicU64 = AtomicU64::new(0);

/// Bytes of bodies read ahead now.
pub fn buffered() -> u64 {
    BUFFERED.load(Ordering::Relaxed)
}

/// Whether so many connections are held that each is to make do with small buffers.
pub fn is_crowded() -> bool {
    CONNECTIONS.load(Ordering::Relaxed) >= CROWD
}

/// A connection is held.
pub fn enter() {
    CONNECTIONS.fetch_add(1, Ordering::Relaxed);
}

/// It is not any longer.
pub fn leave() {
    CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
}

/// What one body has taken. Given back when it is dropped.
#[derive(Debug, Default)]
pub struct Room(u64);

impl Room {
    /// Takes more. False: there is no more.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let taken = BUFFERED.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0 += bytes;
        // Who does not fit gives back by being dropped.
        taken <= BUFFERED_BYTES_MAX
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.0 > 0 {
            BUFFERED.fetch_sub(self.0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_bodies_take_together_is_bounded_and_given_back() {
        let (mut one, mut other) = (Room::default(), Room::default());
        assert!(one.grow(BUFFERED_BYTES_MAX - 1) && other.grow(1));
        assert!(!other.grow(1), "not a byte more");
        drop(one);
        assert!(other.grow(1));
        drop(other);
        assert_eq!(buffered(), 0);
    }
}
