//! Where a backend listens, and how a connection to it is opened.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
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
    /// Looked up for every new connection, so that a backend that moves is followed.
    Name(Box<str>, u16),
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
            let addresses: Vec<SocketAddr> = lookup_host((&**host, *port))
                .await
                .map_err(|_| DialFault::NoAddress)?
                .take(ADDRESSES_MAX)
                .collect();
            first(&addresses, timeout).await?
        }
    };
    stream
        .set_nodelay(true)
        .map_err(|_| DialFault::Unreachable)?;
    Ok(stream)
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
