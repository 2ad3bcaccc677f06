//! How many approvals the gate keeps, and how much memory it gives to what they carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What all that are not over take together.
#[derive(Debug, Default)]
pub(in crate::store::live) struct Kept {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// The share of one; given back when it goes.
#[derive(Debug)]
pub(super) struct Room {
    kept: Arc<Kept>,
    bytes: usize,
}

impl Room {
    /// `None`: there is none left.
    pub fn take(kept: &Arc<Kept>, bytes: usize) -> Option<Self> {
        let room = Self::take_anyhow(kept, bytes);
        let count = kept.count.load(Ordering::Acquire);
        let all = kept.bytes.load(Ordering::Acquire);
        (count <= WAITING_MAX && all <= WAITING_BYTES_MAX).then_some(room)
    }

    /// For one that was there before a restart.
    pub fn take_anyhow(kept: &Arc<Kept>, bytes: usize) -> Self {
        kept.count.fetch_add(1, Ordering::AcqRel);
        kept.bytes.fetch_add(bytes, Ordering::AcqRel);
        Self {
            kept: Arc::clone(kept),
            bytes,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.kept.count.fetch_sub(1, Ordering::AcqRel);
        self.kept.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Most approvals that are not over, of all sessions.
pub const WAITING_MAX: usize = 10_000;
/// Most bytes of their bodies.
pub const WAITING_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Most approvals that are over and still shown; the oldest go first.
pub const OVER_MAX: usize = 10_000;
/// Most bytes of their bodies.
pub const OVER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long one that is over is shown.
pub const VIEWED_FOR: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_in_all_is_bounded_by_number_and_by_bytes_and_what_ends_makes_room() {
        let kept = Arc::new(Kept::default());
        let mut rooms: Vec<_> = (0..WAITING_MAX)
            .map(|_| Room::take(&kept, 0).expect("there is room"))
            .collect();
        assert!(Room::take(&kept, 0).is_none());
        rooms.pop();
        let large = Room::take(&kept, WAITING_BYTES_MAX).expect("one has gone");
        rooms.clear();
        assert!(Room::take(&kept, 1).is_none());
        drop(large);
        assert!(Room::take(&kept, 1).is_some());
    }
}
