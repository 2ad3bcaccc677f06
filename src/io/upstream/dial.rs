//! How a connection to a backend is opened: its name looked up, TCP, TLS, and which HTTP it speaks.

use super::Owner;
use super::http1;
use super::http2;
use super::place::{Address, Place, Versions};
use super::sockets::Ticket;
use super::wire::Socket;
use crate::io::tls::client::{self, Offer};
use crate::ledger::record::TlsFault;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFault {
    /// The name has no address.
    #[error("the backend's name could not be resolved")]
    NoAddress,
    /// Refused, or no way there.
    #[error("the backend could not be reached")]
    Unreachable,
    /// Not open within the connect timeout.
    #[error("connecting to the backend took too long")]
    Timeout,
    /// TLS could not be set up.
    #[error("{0}")]
    Tls(TlsFault),
    /// HTTP/2 was all that may be spoken, and something else came.
    #[error("the backend does not speak HTTP/2")]
    NotHttp2,
    /// HTTP/2 was all that may be spoken, and it carries no other protocol there.
    #[error("the backend does not take other protocols over HTTP/2 (extended CONNECT)")]
    NoUpgrade,
    /// The session holds as many sockets as are left for all others. Nothing was tried.
    #[error("the session holds as many connections to backends as the gate has left")]
    Crowded,
    /// Every connection that may be opened is open, and the backend takes no more calls on them.
    #[error("the backend takes no more calls at once")]
    Full,
}

/// An open connection.
pub(super) enum Opened {
    Http1(http1::Connection),
    Http2(Arc<http2::Connection>),
}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// How long what a name was resolved to is used: a burst of new connections asks the resolver, which blocks a thread,
/// once and not for each.
const FOUND_FOR: Duration = Duration::from_secs(1);
/// Names whose addresses are kept; another look-up is all that forgetting one costs.
const FOUND_MAX: u64 = 1024;

/// Host and port, as written.
type Name = (Arc<str>, u16);

static FOUND: LazyLock<Cache<Name, Arc<[SocketAddr]>>> = LazyLock::new(|| {
    Cache::builder()
        .max_capacity(FOUND_MAX)
        // The default policy may refuse to keep what is new.
        .eviction_policy(EvictionPolicy::lru())
        .time_to_live(FOUND_FOR)
        .build()
});

/// Opens a connection to `place` for `owner` within `timeout`, all of it included.
pub(super) async fn open(
    place: &Place,
    owner: Owner,
    offer: Offer,
    timeout: Duration,
) -> Result<Opened, DialFault> {
    let ticket = Ticket::take(owner).ok_or(DialFault::Crowded)?;
    match tokio::time::timeout(timeout, negotiate(place, ticket, offer, timeout)).await {
        Ok(opened) => opened,
        Err(_) => Err(DialFault::Timeout),
    }
}

async fn negotiate(
    place: &Place,
    ticket: Ticket,
    offer: Offer,
    timeout: Duration,
) -> Result<Opened, DialFault> {
    let stream = connect(place, timeout).await?;
    let (socket, http2) = match &place.tls {
        None => (
            Socket::Plain(stream),
            place.versions == Versions::Http2 && offer == Offer::Configured,
        ),
        Some(connector) => {
            let stream = connector.connect(stream, offer).await;
            let stream = stream.map_err(DialFault::Tls)?;
            let chosen = client::chose_http2(&stream);
            if place.versions == Versions::Http2 && offer == Offer::Configured && !chosen {
                return Err(DialFault::Tls(TlsFault::NoHttp2));
            }
            (Socket::Tls(Box::new(stream)), chosen)
        }
    };
    if http2 {
        let connection = http2::Connection::open(place.number(), socket, ticket).await?;
        Ok(Opened::Http2(connection))
    } else {
        let connection = http1::Connection::open(place.number(), socket, ticket).await?;
        Ok(Opened::Http1(connection))
    }
}

/// A connected socket without Nagle's delay.
async fn connect(place: &Place, timeout: Duration) -> Result<TcpStream, DialFault> {
    let stream = match &place.address {
        Address::Literal(address) => TcpStream::connect(address)
            .await
            .map_err(|_| DialFault::Unreachable)?,
        Address::Name(host, port) => {
            let name = (Arc::clone(host), *port);
            let addresses = resolve(&name).await?;
            let opened = first(&addresses, timeout).await;
            if opened.is_err() {
                // It may have moved: the next call asks again.
                FOUND.invalidate(&name);
            }
            opened?
        }
    };
    stream
        .set_nodelay(true)
        .map_err(|_| DialFault::Unreachable)?;
    Ok(stream)
}

/// The addresses of a name, in the resolver's order.
async fn resolve(name: &Name) -> Result<Arc<[SocketAddr]>, DialFault> {
    if let Some(addresses) = FOUND.get(name) {
        return Ok(addresses);
    }
    let found = lookup_host((&*name.0, name.1))
        .await
        .map_err(|_| DialFault::NoAddress)?;
    let addresses: Arc<[SocketAddr]> = found.take(ADDRESSES_MAX).collect();
    FOUND.insert(name.clone(), Arc::clone(&addresses));
    Ok(addresses)
}

/// The first address that answers, in the resolver's order. Each has its share of the time, so that one that swallows
/// packets does not keep the others from being tried.
async fn first(addresses: &[SocketAddr], timeout: Duration) -> Result<TcpStream, DialFault> {
    let mut fault = DialFault::NoAddress;
    let share = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => fault = DialFault::Unreachable,
            Err(_) => fault = DialFault::Timeout,
        }
    }
    Err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_kept_while_it_leads_somewhere_and_asked_anew_when_it_does_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let place = Place::parse(&format!("localhost:{port}")).unwrap();
        let name = (Arc::from("localhost"), port);
        let patience = Duration::from_secs(5);
        assert!(connect(&place, patience).await.is_ok());
        assert!(FOUND.get(&name).is_some());
        drop(listener);
        assert_eq!(
            connect(&place, patience).await.unwrap_err(),
            DialFault::Unreachable
        );
        assert!(FOUND.get(&name).is_none());
    }
}
