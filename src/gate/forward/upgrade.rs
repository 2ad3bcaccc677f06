//! A call that becomes a tunnel: WebSocket, where the route says `upgrade: websocket`.
//!
//! Part of step 8. The agent's [`Handshake`] is judged before the call is decided; the call is then decided, recorded
//! and permitted as any other, goes to the backend over a connection of its own, and only the backend's proof that it
//! understood makes it a [`Tunnel`]. Any other answer is an ordinary one.
//!
//! It refuses to switch to anything but WebSocket (`h2c` is never passed on: behind it nobody would check anything), and
//! to let a tunnel outlive its session.

mod flow;
mod frames;
mod handshake;
mod tunnel;

pub use handshake::{Handshake, HandshakeFault, is_extended, read_as_get};
pub use tunnel::{Bounds, Ended, Tunnel};

use super::super::body::Meter;
use super::super::fields::{self, Framing, Length};
use super::{Outbound, Passage, Reuse, SendFault, Slow, UpstreamBody, UpstreamFault};
use crate::io::sweep::{self, Lapse};
use crate::io::upstream::{ExchangeFault, Lease, Outgoing, Unanswered, Upgrade};
use http::Response;
use std::pin::pin;
use std::sync::Arc;
use tunnel::{Backend, Watch};

/// Asks the backend to switch, and relays what it answers.
pub(super) async fn exchange(
    call: Outbound<'_>,
    handshake: Handshake,
    meter: Arc<Meter>,
) -> Result<Response<Passage>, SendFault> {
    let watch = Watch {
        sweep: sweep::here(call.clock),
        session: Arc::clone(&call.session),
    };
    let guard = watch
        .sweep
        .guard(Some(Arc::clone(&call.session)), call.outfit.timeout);
    let outfit = call.outfit;
    // A connection of its own, which never returns to those that are kept, or a stream of its own.
    let opening = Lease::for_upgrade(&outfit.place, call.owner, outfit.connect_timeout);
    let mut lease = call.dial(Box::pin(opening), &guard).await?;
    let version = lease.version();
    let mut request = call.request(Framing::None, Outgoing::Empty, version)?;
    handshake.ask(request.headers_mut(), version);
    call.listen(&mut lease);
    guard.arm();
    guard.cut(lease.cut());
    let answered = {
        let upgrade = pin!(lease.upgrade(request, WEBSOCKET));
        guard.watch(upgrade).await
    };
    let answered = match answered {
        Ok(answered) => answered.map_err(unanswered)?,
        Err(Lapse::Deadline) => return Err(SendFault::Timeout(Slow::Answer)),
        Err(Lapse::Ended) => return Err(SendFault::SessionEnded),
    };
    guard.settle();
    match answered {
        Upgrade::Answered(response) if handshake.is_misread(response.status()) => {
            Err(SendFault::Failed(UpstreamFault::Upgrade))
        }
        Upgrade::Answered(response) => {
            let (head, incoming, _) = super::receive(response, &call)?;
            let body = UpstreamBody::new(incoming, lease, Reuse::No, guard, meter);
            Ok(Response::from_parts(head, Passage::Body(body)))
        }
        Upgrade::Switched(response, stream) => {
            let (mut head, ()) = response.into_parts();
            let extensions = handshake
                .judge(&head.headers, version)
                .map_err(SendFault::Failed)?;
            fields::clean_response(&mut head.headers, Length::OfBody);
            handshake.confirm(&mut head);
            let backend = Backend {
                stream,
                _lease: lease,
            };
            let tunnel = Tunnel::new(handshake, backend, guard, watch, meter, extensions);
            Ok(Response::from_parts(
                head,
                Passage::Tunnel(Box::new(tunnel)),
            ))
        }
    }
}

const WEBSOCKET: &str = "websocket";

/// A handshake is never sent twice: whoever asks for one asks again.
fn unanswered(unanswered: Unanswered) -> SendFault {
    SendFault::Failed(UpstreamFault::Exchange(match unanswered {
        Unanswered::Unsent(_) => ExchangeFault::Closed,
        Unanswered::Silent(fault) | Unanswered::Broken(fault) => fault,
    }))
}
