//! Listeners of the control plane (admin API, metrics): on a runtime of their own, so that nothing here can stall a
//! data-plane thread. Same caps, same sweep, same drain as the agents' listener.

use super::accept::{Acceptor, Stage};
use super::caps::Door;
use super::connection::{self, AnyThread, Protocols, Unread};
use super::rooms::Rooms;
use super::watch::{Order, Registry};
use crate::config::{Caps, Timeouts};
use crate::gate::Peer;
use crate::io::tls;
use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::watch;

/// Serves one listener until the gate has drained. Must be polled on the control runtime.
///
/// # Errors
/// When the runtime can't register the socket.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    timeouts: Timeouts,
    caps: Caps,
    tls: Option<Arc<tls::server::Server>>,
    unread: Unread,
    mut stage: watch::Receiver<Stage>,
    handle: H,
) -> io::Result<()>
where
    H: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let registry = Registry::new(&timeouts);
    let mut acceptor = Acceptor::new(
        vec![listener],
        Door::new(caps, || {}),
        Arc::clone(&registry),
    )?;
    let (handle, rooms) = (Arc::new(handle), Rooms::new());
    let protocols = Arc::new(Protocols::new(tls, unread));
    let serve_one = |link: connection::Link| {
        let (handle, rooms) = (Arc::clone(&handle), Arc::clone(&rooms));
        let protocols = Arc::clone(&protocols);
        tokio::spawn(async move {
            connection::serve::<AnyThread, _, _, _>(link, &protocols, &rooms, &*handle).await;
        });
    };
    let sweeping = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.sweeping().await }
    });
    loop {
        tokio::select! {
            biased;
            changed = stage.changed() => match (changed, *stage.borrow_and_update()) {
                (Ok(()), Stage::Serve) => {}
                (Ok(()), Stage::Announce) => registry.announce(),
                (Err(_), _) | (_, Stage::Finish | Stage::Cut) => break,
            },
            link = acceptor.next() => serve_one(link),
        }
    }
    registry.announce();
    for link in acceptor.rest().await {
        serve_one(link);
    }
    registry.finish().await;
    tokio::select! {
        () = registry.empty() => {}
        _ = stage.wait_for(|stage| *stage == Stage::Cut) => registry.tell_all(Order::Cut),
    }
    sweeping.abort();
    Ok(())
}
