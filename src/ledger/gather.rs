//! One wake-up of the writer for all that one turn of a thread hands in.
//!
//! Waking the writer is a system call, and on a busy machine a change of threads. A thread that serves many calls therefore runs
//! [`gathering`] among its tasks: a record that finds the writer asleep leaves it so, and the task, which comes behind those that
//! are ready already, wakes it for all of them. Threads without it wake the writer at once.

use super::queue::Queue;
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Past this many records the writer begins though the turn is not over: it works beside the thread.
const GATHERED_MAX: usize = 32;

thread_local! {
    static HERE: RefCell<Here> = const { RefCell::new(Here { task: None, owed: None, gathered: 0 }) };
}

/// What this thread has handed in since it last woke a writer.
struct Here {
    /// Of the thread's [`gathering`], where it runs.
    task: Option<Waker>,
    /// Whose writer is to be woken.
    owed: Option<Arc<Queue>>,
    gathered: usize,
}

/// Wakes the writer, once a turn, for what this thread hands in; for as long as it is polled. One a thread.
pub async fn gathering() {
    let _over = Over;
    poll_fn(|context| {
        HERE.with_borrow_mut(|here| match &mut here.task {
            Some(task) => task.clone_from(context.waker()),
            None => here.task = Some(context.waker().clone()),
        });
        rouse();
        Poll::<()>::Pending
    })
    .await;
}

/// A record stands in `queue`, whose writer sleeps. False: this thread gathers nothing, and the writer is to be woken now.
pub(super) fn announce(queue: &Arc<Queue>) -> bool {
    let due = HERE.with_borrow_mut(|here| {
        let task = here.task.as_ref()?;
        match &here.owed {
            None => {
                here.owed = Some(Arc::clone(queue));
                task.wake_by_ref();
            }
            // A second ledger on one thread: it need not be quick.
            Some(owed) if !Arc::ptr_eq(owed, queue) => return None,
            Some(_) => {}
        }
        here.gathered += 1;
        Some(here.gathered >= GATHERED_MAX)
    });
    if due == Some(true) {
        rouse();
    }
    due.is_some()
}

/// Wakes the writer that is owed it.
fn rouse() {
    // Where the thread itself is at its end, what it held is gone.
    let owed = HERE.try_with(|here| {
        let mut here = here.borrow_mut();
        here.gathered = 0;
        here.owed.take()
    });
    if let Ok(Some(queue)) = owed {
        queue.rouse();
    }
}

/// The task is over, by itself or with its runtime: nothing that was handed in waits for it, and what follows does not.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        let _ = HERE.try_with(|here| here.borrow_mut().task = None);
        rouse();
    }
}
