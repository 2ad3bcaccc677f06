//! Where a backend listens, and as whom it is met.

use crate::io::tls::client::{Connector, ConnectorError};
use crate::policy::model::{Http2, Upstream};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Where a backend listens, how connections to it are protected, and which versions of HTTP they speak.
///
/// Each distinct one has one number for the life of the process, by which every thread's pool finds its connections: two
/// places that differ in a certificate never share one. The configuration bounds how many there are at a time; each
/// rotation of a certificate adds one.
#[derive(Clone, Debug)]
pub struct Place {
    number: u32,
    pub(super) address: Address,
    pub(super) versions: Versions,
    pub(super) tls: Option<Arc<Connector>>,
}

#[derive(Clone, Debug)]
pub(super) enum Address {
    /// Written as an IP address: nothing is looked up.
    Literal(SocketAddr),
    /// Looked up for new connections, at most once in a while, so that a backend that moves is followed.
    Name(Arc<str>, u16),
}

/// What a connection to a place may turn out to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// HTTP/1.1, for certain.
    Http1,
    /// HTTP/2, for certain.
    Http2,
    /// What the backend chooses.
    Either,
}

/// A backend that could never be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A text that is not `host:port`.
    #[error("a backend's place is written `host:port`")]
    Authority,
    /// TLS.
    #[error("{0}")]
    Tls(#[from] ConnectorError),
}

impl Place {
    /// Of a tool's backend.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn new(upstream: &Upstream) -> Result<Self, PlaceError> {
        let tls = match &upstream.tls {
            Some(tls) => Some(Connector::new(tls, upstream.http2)?),
            None => None,
        };
        Self::assemble(&upstream.authority, tls, upstream.http2)
    }

    /// Plain HTTP/1.1 at `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn parse(authority: &str) -> Result<Self, PlaceError> {
        Self::assemble(authority, None, Http2::Auto)
    }

    fn assemble(
        authority: &str,
        tls: Option<Arc<Connector>>,
        http2: Http2,
    ) -> Result<Self, PlaceError> {
        let address = match authority.parse() {
            Ok(address) => Address::Literal(address),
            Err(_) => {
                let (host, port) = authority.rsplit_once(':').ok_or(PlaceError::Authority)?;
                let port = port.parse().map_err(|_| PlaceError::Authority)?;
                if host.is_empty() || host.contains(['[', ']', ':', '/', '@']) {
                    return Err(PlaceError::Authority);
                }
                Address::Name(host.into(), port)
            }
        };
        let versions = match (http2, &tls) {
            (Http2::PriorKnowledge, _) => Versions::Http2,
            (Http2::Auto, Some(_)) => Versions::Either,
            // Without TLS nothing is negotiated.
            (Http2::Auto, None) | (Http2::Off, _) => Versions::Http1,
        };
        let digest = tls.as_ref().map(|connector| *connector.digest());
        Ok(Self {
            number: number(authority, versions, digest),
            address,
            versions,
            tls,
        })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

/// What two places must have in common to be one.
type Key = (Box<str>, bool, Option<[u8; 32]>);

fn number(authority: &str, versions: Versions, tls: Option<[u8; 32]>) -> u32 {
    static NUMBERS: LazyLock<Mutex<HashMap<Key, u32>>> = LazyLock::new(Mutex::default);
    let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let next = u32::try_from(numbers.len()).expect("places in the configuration fit 32 bits");
    // Over TLS the digest says which versions.
    let key = (
        authority.to_ascii_lowercase().into(),
        versions == Versions::Http2,
        tls,
    );
    *numbers.entry(key).or_insert(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_number_however_often_and_in_whichever_case_it_is_written() {
        let a = Place::parse("crm.example:80").unwrap();
        assert_eq!(a.number(), Place::parse("CRM.example:80").unwrap().number());
        assert_ne!(a.number(), Place::parse("crm.example:81").unwrap().number());
        let h2c = Place::assemble("crm.example:80", None, Http2::PriorKnowledge).unwrap();
        assert_ne!(a.number(), h2c.number());
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
