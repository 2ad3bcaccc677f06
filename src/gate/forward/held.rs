//! What people agreed to is sent: on a connection of its own, once, whatever comes of it.

use super::{
    Outbound, Reuse, SendFault, Slow, UpstreamBody, UpstreamFault, await_end, fields, framing_of,
    has_no_content, receive,
};
use crate::gate::body::Meter;
use crate::io::sweep::{self, Lapse};
use crate::io::upstream::{BoxError, ExchangeFault, Lease, Outgoing, Unanswered};
use crate::policy::decision::Permit;
use bytes::Bytes;
use fields::Framing;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Why there is no answer, and whether the backend may have acted.
#[derive(Debug)]
pub(in crate::gate) enum Unsettled {
    /// Not a byte of the request was written.
    Unsent(SendFault),
    /// Nobody can say.
    Unknown(SendFault),
}

/// Sends the call that `permit` was given for by the word of people. Its session's end is looked at until the first byte is
/// written; from then on how it ends is what matters.
///
/// # Errors
/// [`Unsettled`].
pub(in crate::gate) async fn send_held(
    permit: Permit<'_>,
    call: Outbound<'_>,
    body: Bytes,
) -> Result<Response<UpstreamBody>, Unsettled> {
    // Consumed: nothing else is ever sent on it.
    drop(permit);
    let outfit = call.outfit;
    let sweep = sweep::here(call.clock);
    let guard = sweep.guard(Some(call.session.clone()), outfit.timeout);
    let opening = Lease::fresh(&outfit.place, call.owner, outfit.connect_timeout);
    let mut lease = match call.dial(Box::pin(opening), &guard).await {
        Ok(lease) => lease,
        Err(fault) => {
            if let crate::ledger::record::Fault::UpstreamTls(check) = fault.record() {
                outfit.tell(check, call.clock.tick());
            }
            return Err(Unsettled::Unsent(fault));
        }
    };
    if !call.session.live(call.clock.tick()) {
        return Err(Unsettled::Unsent(SendFault::SessionEnded));
    }
    let framing = framing_of(call.method, call.headers, Some(body.len() as u64));
    let outgoing = match framing {
        Framing::None | Framing::Empty => Outgoing::Empty,
        Framing::Sized | Framing::Chunked => Outgoing::Stream(Box::pin(Whole(body))),
    };
    let request = call
        .request(framing, outgoing, lease.version())
        .map_err(Unsettled::Unsent)?;
    // Another guard, that knows of no session: it would cut what has begun.
    let guard = sweep.guard(None, outfit.timeout);
    guard.arm();
    let failed = |fault| SendFault::Failed(UpstreamFault::Exchange(fault));
    let answered = {
        let exchange = pin!(lease.exchange(request));
        guard.watch(exchange).await
    };
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(Unanswered::Unsent(_))) => {
            return Err(Unsettled::Unsent(failed(ExchangeFault::Closed)));
        }
        Ok(Err(Unanswered::Silent(fault) | Unanswered::Broken(fault))) => {
            return Err(Unsettled::Unknown(failed(fault)));
        }
        Err(Lapse::Deadline | Lapse::Ended) => {
            return Err(Unsettled::Unknown(SendFault::Timeout(Slow::Answer)));
        }
    };
    let (head, mut incoming, _) = receive(response, &call).map_err(Unsettled::Unknown)?;
    if has_no_content(call.method, head.status) && !incoming.is_end_stream() {
        await_end(&mut incoming, &guard)
            .await
            .map_err(Unsettled::Unknown)?;
    }
    guard.settle();
    Ok(Response::from_parts(
        head,
        // Not for another call: who carries it may be on no thread that makes calls.
        UpstreamBody::new(incoming, lease, Reuse::No, guard, Arc::<Meter>::default()),
    ))
}

/// A body that is there.
struct Whole(Bytes);

impl Body for Whole {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
