//! Where a backend listens, and how a connection to it is opened.

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};

/// Where a backend listens.
///
/// Each distinct `host:port` has one number for the life of the process, by which every thread's pool finds its
/// connections; the configuration bounds how many there are.
#[derive(Clone, Debug)]
pub struct Place {
    number: u32,
    address: Address,
}

#[derive(Clone, Debug)]
enum Address {
    /// Written as an IP address: nothing is looked up.
    Literal(SocketAddr),
    /// Looked up for new connections, at most once in [`FOUND_FOR`], so that a backend that moves is followed.
    Name(Arc<str>, u16),
}

/// A text that is not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a backend's place is written `host:port`")]
pub struct PlaceError;

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

impl Place {
    /// From `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn parse(authority: &str) -> Result<Self, PlaceError> {
        let address = match authority.parse() {
            Ok(address) => Address::Literal(address),
            Err(_) => {
                let (host, port) = authority.rsplit_once(':').ok_or(PlaceError)?;
                let port = port.parse().map_err(|_| PlaceError)?;
                if host.is_empty() || host.contains(['[', ']', ':', '/', '@']) {
                    return Err(PlaceError);
                }
                Address::Name(host.into(), port)
            }
        };
        Ok(Self {
            number: number(authority),
            address,
        })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

fn number(authority: &str) -> u32 {
    static NUMBERS: LazyLock<Mutex<HashMap<Box<str>, u32>>> = LazyLock::new(Mutex::default);
    let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let next = u32::try_from(numbers.len()).expect("places in the configuration fit 32 bits");
    *numbers
        .entry(authority.to_ascii_lowercase().into())
        .or_insert(next)
}

/// A connected socket without Nagle's delay.
pub(super) async fn connect(place: &Place, timeout: Duration) -> Result<TcpStream, DialFault> {
    match tokio::time::timeout(timeout, open(place, timeout)).await {
        Ok(opened) => opened,
        Err(_) => Err(DialFault::Timeout),
    }
}

async fn open(place: &Place, timeout: Duration) -> Result<TcpStream, DialFault> {
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

    #[test]
    fn one_place_has_one_number_however_often_and_in_whichever_case_it_is_written() {
        let a = Place::parse("crm.example:80").unwrap();
        assert_eq!(a.number(), Place::parse("CRM.example:80").unwrap().number());
        assert_ne!(a.number(), Place::parse("crm.example:81").unwrap().number());
        assert!(Place::parse("[::1]:80").is_ok());
        for wrong in [
            "",
            "crm",
            ":80",
            "crm:",
            "crm:99999",
            "::1:80",
            "u@h:1",
            "a/b:1",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
