//! The control runtime: threads of their own for the admin API, metrics and chores, so that they can't stall a call.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Threads of the control runtime.
const THREADS: usize = 2;

/// The control runtime and what runs on it.
#[derive(Debug)]
pub(super) struct Control {
    /// Taken only when dropped.
    runtime: Option<Runtime>,
    listeners: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    chores: Mutex<Vec<JoinHandle<()>>>,
}

impl Control {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("control")
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            listeners: Mutex::default(),
            chores: Mutex::default(),
        })
    }

    /// Blocks until `future` is done, from whatever thread: also one that drives another runtime.
    pub(super) fn wait<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| self.runtime().block_on(future));
            match waiting.join() {
                Ok(output) => output,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// For what other parts run here.
    pub(super) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime().handle().clone()
    }

    /// Runs a listener, to be waited for when the gate stops.
    pub(super) fn listen(&self, serving: impl Future<Output = io::Result<()>> + Send + 'static) {
        let listener = self.runtime().spawn(serving);
        lock(&self.listeners).push(listener);
    }

    /// Runs a chore, to be dropped when the gate stops.
    pub(super) fn chore(&self, chore: impl Future<Output = ()> + Send + 'static) {
        let chore = self.runtime().spawn(chore);
        lock(&self.chores).push(chore);
    }

    /// Ends the chores, and waits for the listeners to finish, at most `bound`.
    pub(super) async fn rest(&self, bound: Duration) {
        lock(&self.chores).drain(..).for_each(|chore| chore.abort());
        let listeners = std::mem::take(&mut *lock(&self.listeners));
        let all = async {
            for listener in listeners {
                match listener.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "a listener failed"),
                    Err(error) => tracing::error!(%error, "a listener panicked"),
                }
            }
        };
        if tokio::time::timeout(bound, all).await.is_err() {
            tracing::debug!("connections of the control plane were cut");
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime is there until this is dropped")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads is not allowed within another runtime, and there is nothing left to wait for.
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
