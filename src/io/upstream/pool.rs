//! One thread's connections.
//!
//! Those of HTTP/1.1 are kept while nobody uses them, last used first, so that a burst's surplus ages and goes; each for the
//! session whose call it carried, and for no other: a backend may send more than one answer to a request, and nothing on the
//! wire tells the second from the answer to the next one. Those of HTTP/2 are shared by the calls in progress. Ages are counted by a task that runs only while something is kept: no clock
//! is read and no timer armed per call.
//!
//! Where a place may speak HTTP/2, one call at a time opens a connection and the others wait to share it: a burst of calls
//! to a place that nobody has spoken to must not become a burst of handshakes.

use super::dial::DialFault;
use super::{Owner, http1, http2};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, Semaphore};

/// Most connections kept to one place by one thread.
const KEPT_MAX: usize = 1024;

/// Most HTTP/2 connections to one place of one thread.
const SHARED_MAX: usize = 16;

/// How often connections are looked at.
const PASS: Duration = Duration::from_secs(1);

/// Age, in passes, at which a kept connection goes: after 3 to 4 s, for Node and others close at 5 s.
const AGE_MAX: u32 = 4;

pub(super) struct Pool {
    shelves: Mutex<Vec<Shelf>>,
    /// Whether the task that ages connections lives; it goes with its runtime.
    ageing: AtomicBool,
}

/// Connections to one place.
#[derive(Default)]
struct Shelf {
    /// HTTP/1.1, each owner's oldest first.
    kept: HashMap<Owner, Vec<Kept>>,
    /// How many those are.
    kept_count: usize,
    /// HTTP/2.
    shared: Vec<Arc<http2::Connection>>,
    /// The connection that is being opened for all who wait.
    dial: Option<Arc<Dial>>,
    /// The last one turned out to speak HTTP/1.1: there is nothing to share and nobody to wait for.
    unshared: bool,
    /// Roused when a call on a shared connection leaves.
    room: Arc<Notify>,
}

struct Kept {
    connection: http1::Connection,
    age: u32,
}

/// What a call to a place that may speak HTTP/2 does.
pub(super) enum Approach {
    /// A place on a connection that is open.
    Join(http2::Seat),
    /// It opens one, for all who wait if there is a turn to take.
    Dial(Option<Turn>),
    /// Another call is opening one.
    Wait(Arc<Dial>),
    /// All that may be open are open and full: until one of their calls leaves.
    Full(OwnedNotified),
}

/// A connection that is being opened, for those who wait for it.
pub(super) struct Dial {
    /// Closed when it is over.
    over: Semaphore,
    fault: OnceLock<DialFault>,
}

/// The duty to open a connection. Dropping it, done or not, wakes those who wait.
pub(super) struct Turn {
    pool: Arc<Pool>,
    place: u32,
    dial: Arc<Dial>,
}

/// This thread's pool.
pub(super) fn here() -> Arc<Pool> {
    thread_local! {
        static HERE: RefCell<Option<Arc<Pool>>> = const { RefCell::new(None) };
    }
    HERE.with_borrow_mut(|here| {
        here.get_or_insert_with(|| {
            Arc::new(Pool {
                shelves: Mutex::default(),
                ageing: AtomicBool::new(false),
            })
        })
        .clone()
    })
}

impl Pool {
    /// The connection to `place` that `owner` used last and that is fit for use. What of its is not fit goes.
    pub(super) fn take(&self, place: u32, owner: Owner) -> Option<http1::Connection> {
        let mut shelves = self.shelves();
        let shelf = shelves.get_mut(place as usize)?;
        let own = shelf.kept.get_mut(&owner)?;
        while let Some(kept) = own.pop() {
            shelf.kept_count -= 1;
            if kept.connection.is_fit() {
                return Some(kept.connection);
            }
            kept.connection.close();
        }
        None
    }

    /// Keeps `connection` for `owner`, or returns it if it is not fit or there are too many. Must be called within a tokio runtime.
    pub(super) fn put(
        self: &Arc<Self>,
        connection: http1::Connection,
        owner: Owner,
    ) -> Option<http1::Connection> {
        if !connection.is_fit() {
            return Some(connection);
        }
        let mut shelves = self.shelves();
        let shelf = shelf(&mut shelves, connection.place());
        if shelf.kept_count >= KEPT_MAX {
            return Some(connection);
        }
        shelf.kept_count += 1;
        let own = shelf.kept.entry(owner).or_default();
        own.push(Kept { connection, age: 0 });
        drop(shelves);
        self.keep_ageing();
        None
    }

    /// A place on an open HTTP/2 connection.
    pub(super) fn join(&self, place: u32) -> Option<http2::Seat> {
        let shelves = self.shelves();
        shelves.get(place as usize)?.join()
    }

    /// How to come by a connection that may be shared.
    pub(super) fn approach(self: &Arc<Self>, place: u32) -> Approach {
        let mut shelves = self.shelves();
        let shelf = shelf(&mut shelves, place);
        if let Some(seat) = shelf.join() {
            return Approach::Join(seat);
        }
        if shelf.unshared {
            return Approach::Dial(None);
        }
        if let Some(dial) = &shelf.dial {
            return Approach::Wait(Arc::clone(dial));
        }
        if shelf.is_full() {
            return Approach::Full(Arc::clone(&shelf.room).notified_owned());
        }
        let dial = Arc::new(Dial {
            over: Semaphore::new(0),
            fault: OnceLock::new(),
        });
        shelf.dial = Some(Arc::clone(&dial));
        Approach::Dial(Some(Turn {
            pool: Arc::clone(self),
            place,
            dial,
        }))
    }

    /// A place on a new HTTP/2 connection, which others may share from now on. `None`: there are enough of them.
    pub(super) fn share(
        self: &Arc<Self>,
        connection: Arc<http2::Connection>,
    ) -> Option<http2::Seat> {
        let mut shelves = self.shelves();
        let shelf = shelf(&mut shelves, connection.place());
        shelf.unshared = false;
        if shelf.is_full() {
            return None;
        }
        let seat = connection.seat(&shelf.room)?;
        shelf.shared.push(connection);
        drop(shelves);
        self.keep_ageing();
        Some(seat)
    }

    /// The last connection to `place` turned out to speak HTTP/1.1.
    pub(super) fn learn_unshared(&self, place: u32) {
        shelf(&mut self.shelves(), place).unshared = true;
    }

    fn keep_ageing(self: &Arc<Self>) {
        if self.ageing.swap(true, Ordering::Relaxed) {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(age(Ageing(self.clone())));
            }
            // Dropped outside of a runtime: its connections are dead as well.
            Err(_) => self.ageing.store(false, Ordering::Relaxed),
        }
    }

    /// One pass. False if nothing is kept any longer.
    fn pass(&self) -> bool {
        let (mut aged, mut parted) = (Vec::new(), Vec::new());
        let mut shelves = self.shelves();
        let mut any = false;
        for shelf in shelves.iter_mut() {
            shelf.age(&mut aged);
            parted.extend(
                shelf
                    .shared
                    .extract_if(.., |connection| connection.check() == http2::Verdict::Close),
            );
            any |= shelf.kept_count > 0 || !shelf.shared.is_empty();
        }
        drop(shelves);
        for kept in aged {
            kept.connection.close();
        }
        for connection in parted {
            connection.close();
        }
        any
    }

    fn shelves(&self) -> MutexGuard<'_, Vec<Shelf>> {
        // A panic elsewhere can't leave a shelf half changed.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shelf(shelves: &mut Vec<Shelf>, place: u32) -> &mut Shelf {
    let place = place as usize;
    if shelves.len() <= place {
        shelves.resize_with(place + 1, Shelf::default);
    }
    &mut shelves[place]
}

impl Shelf {
    /// The first with room: few connections that are used rather than many that are not.
    fn join(&self) -> Option<http2::Seat> {
        self.shared
            .iter()
            .find_map(|connection| connection.seat(&self.room))
    }

    /// One pass over those that are kept: what is too old goes to `aged`, and so do owners that have none left.
    fn age(&mut self, aged: &mut Vec<Kept>) {
        let before = aged.len();
        self.kept.retain(|_, own| {
            for kept in &mut *own {
                kept.age += 1;
            }
            // The last used are at the end.
            let old = own.partition_point(|kept| kept.age >= AGE_MAX);
            aged.extend(own.drain(..old));
            !own.is_empty()
        });
        self.kept_count -= aged.len() - before;
    }

    /// Connections on their way out take no room.
    fn is_full(&self) -> bool {
        let fit = self.shared.iter().filter(|connection| connection.is_fit());
        fit.count() >= SHARED_MAX
    }
}

impl Dial {
    /// Waits until it is over.
    ///
    /// # Errors
    /// How it failed: for all who waited, lest each try in vain for as long.
    pub(super) async fn wait(&self) -> Result<(), DialFault> {
        // It never has a permit: it only closes.
        let _ = self.over.acquire().await;
        self.fault.get().copied().map_or(Ok(()), Err)
    }
}

impl Turn {
    /// Tells those who wait how it failed.
    pub(super) fn fail(self, fault: DialFault) {
        let _ = self.dial.fault.set(fault);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        shelf(&mut self.pool.shelves(), self.place).dial = None;
        self.dial.over.close();
    }
}

/// Says, by being dropped, that nobody ages the pool any longer.
struct Ageing(Arc<Pool>);

impl Drop for Ageing {
    fn drop(&mut self) {
        self.0.ageing.store(false, Ordering::Relaxed);
    }
}

async fn age(pool: Ageing) {
    loop {
        tokio::time::sleep(PASS).await;
        if !pool.0.pass() {
            return;
        }
    }
}
