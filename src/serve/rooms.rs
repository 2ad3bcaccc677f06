//! Room for calls in progress. A call's future is large, a connection between calls should not be: futures live in rooms
//! that a thread's connections share, so an idle connection holds none and a busy thread goes on using the same few,
//! which are warm.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// Empty rooms kept for the next calls; more in use at once are given back to the allocator afterwards.
const SPARE_MAX: usize = 64;

/// The rooms of one thread (agents) or one listener (control).
pub struct Rooms<F>(Mutex<Vec<Room<F>>>);

type Room<F> = Pin<Box<Option<F>>>;

/// A future in its room. Resolves to `None` if it panicked: nothing else goes down with it.
pub struct Lodged<F> {
    /// Taken only when dropped.
    room: Option<Room<F>>,
    rooms: Arc<Rooms<F>>,
}

impl<F> Rooms<F> {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Gives a future room.
    pub fn lodge(self: &Arc<Self>, future: F) -> Lodged<F> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let room = match spare {
            Some(mut room) => {
                room.set(Some(future));
                room
            }
            None => Box::pin(Some(future)),
        };
        Lodged {
            room: Some(room),
            rooms: Arc::clone(self),
        }
    }
}

impl<F: Future> Future for Lodged<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self
            .room
            .as_mut()
            .and_then(|room| room.as_mut().as_pin_mut())
        else {
            return Poll::Ready(None);
        };
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    }
}

impl<F> Drop for Lodged<F> {
    fn drop(&mut self) {
        let Some(mut room) = self.room.take() else {
            return;
        };
        room.set(None);
        let mut spare = self.rooms.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(room);
        }
    }
}

impl<F> fmt::Debug for Rooms<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rooms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Counted<'a>(&'a AtomicU32);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_room_is_cleared_and_used_again() {
        let dropped = AtomicU32::new(0);
        let rooms = Rooms::new();
        let call = |number: u32| {
            let counted = Counted(&dropped);
            async move {
                tokio::task::yield_now().await;
                drop(counted);
                number
            }
        };
        for number in 0..3 {
            assert_eq!(rooms.lodge(call(number)).await, Some(number));
        }
        drop(rooms.lodge(call(4)));
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
        assert_eq!(rooms.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_that_is_missing() {
        let rooms = Rooms::new();
        let call = |number: u32| async move {
            assert!(number > 0, "a fault of this test's call");
            number
        };
        assert_eq!(rooms.lodge(call(0)).await, None);
        assert_eq!(rooms.lodge(call(1)).await, Some(1));
    }
}
