//! A panic while one request is served becomes that request's refusal.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// The future panicked; the panic hook has said where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs `future`; a panic ends it. What it borrowed may be half changed: the caller only reads plain fields of it.
///
/// It is the caller's to pin: a future that takes another one by value has room for it twice, and what is served is most
/// of what a call that waits costs.
pub(super) fn caught<F: Future>(
    mut future: Pin<&mut F>,
) -> impl Future<Output = Result<F::Output, Panicked>> {
    poll_fn(
        move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Panicked)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test]
    async fn a_panic_after_a_wait_is_caught() {
        let broken = pin!(async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2, "as if a bug");
        });
        assert_eq!(caught(broken).await, Err(Panicked));
        assert_eq!(caught(pin!(async { 3 })).await, Ok(3));
    }
}
