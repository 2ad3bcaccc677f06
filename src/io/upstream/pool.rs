//! One thread's kept connections.
//!
//! Last used first, so that a burst's surplus ages and goes. Ages are counted by a task that runs only while something
//! is kept: no clock is read and no timer armed per call.

use super::Connection;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most connections kept to one place by one thread.
const KEPT_MAX: usize = 1024;

/// How often kept connections age.
const PASS: Duration = Duration::from_secs(1);

/// Age, in passes, at which a connection goes: after 3 to 4 s, for Node and others close at 5 s.
const AGE_MAX: u32 = 4;

pub(super) struct Pool {
    shelves: Mutex<Vec<Shelf>>,
    /// Whether the task that ages connections lives; it goes with its runtime.
    ageing: AtomicBool,
}

/// Kept connections to one place, oldest first.
type Shelf = Vec<Kept>;

struct Kept {
    connection: Connection,
    age: u32,
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
    /// The connection to `place` that was used last and is fit for use. What is not fit goes.
    pub(super) fn take(&self, place: u32) -> Option<Connection> {
        let mut shelves = self.shelves();
        let shelf = shelves.get_mut(place as usize)?;
        while let Some(kept) = shelf.pop() {
            if kept.connection.is_fit() {
                return Some(kept.connection);
            }
            kept.connection.task.abort();
        }
        None
    }

    /// Keeps `connection`, or returns it if it is not fit or there are too many. Must be called within a tokio runtime.
    pub(super) fn put(self: &Arc<Self>, connection: Connection) -> Option<Connection> {
        if !connection.is_fit() {
            return Some(connection);
        }
        let mut shelves = self.shelves();
        let place = connection.place as usize;
        if shelves.len() <= place {
            shelves.resize_with(place + 1, Vec::new);
        }
        let shelf = &mut shelves[place];
        if shelf.len() >= KEPT_MAX {
            return Some(connection);
        }
        shelf.push(Kept { connection, age: 0 });
        drop(shelves);
        if !self.ageing.swap(true, Ordering::Relaxed) {
            self.start_ageing();
        }
        None
    }

    fn start_ageing(self: &Arc<Self>) {
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
        let mut gone = Vec::new();
        let mut shelves = self.shelves();
        let mut any = false;
        for shelf in shelves.iter_mut() {
            for kept in shelf.iter_mut() {
                kept.age += 1;
            }
            // Oldest first: the last used are at the end.
            let old = shelf.partition_point(|kept| kept.age >= AGE_MAX);
            gone.extend(shelf.drain(..old));
            any |= !shelf.is_empty();
        }
        drop(shelves);
        for kept in gone {
            kept.connection.task.abort();
        }
        any
    }

    fn shelves(&self) -> MutexGuard<'_, Vec<Shelf>> {
        // A panic elsewhere can't leave a shelf half changed.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
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
