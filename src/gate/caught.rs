//! A panic while one request is served becomes that request's refusal.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The future panicked; the panic hook has said where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs `future`; a panic ends it. What it borrowed may be half changed: the caller only reads plain fields of it.
pub(super) async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Panicked)),
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_after_a_wait_is_caught() {
        let outcome = caught(async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2, "as if a bug");
        });
        assert_eq!(outcome.await, Err(Panicked));
        assert_eq!(caught(async { 3 }).await, Ok(3));
    }
}
