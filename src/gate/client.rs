//! Whose call it is on the network: the peer, or what a trusted proxy says about it.
//!
//! Only for records, metrics of strangers and `X-Forwarded-For`. It refuses to believe any field of a peer that the
//! configuration does not trust, and never looks further left than the first address it does not trust.

use crate::config::Cidr;
use crate::gate::fields::Trust;
use http::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// The client's address: walking from the peer leftwards through `X-Forwarded-For`, the first that is not trusted.
pub(super) fn address(peer: SocketAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let mut client = peer.ip().to_canonical();
    if trusted.is_empty() || !is_trusted(client, trusted) {
        return client;
    }
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        // A line that is not ASCII was not written by a proxy we know: nothing left of it is believed.
        let Ok(line) = line.to_str() else {
            return client;
        };
        for hop in line.rsplit(',') {
            let Some(address) = parse(hop.trim()) else {
                return client;
            };
            client = address;
            if !is_trusted(client, trusted) {
                return client;
            }
        }
    }
    client
}

/// Whether the peer may say for whom it forwards.
pub(super) fn trust(peer: SocketAddr, trusted: &[Cidr]) -> Trust {
    if is_trusted(peer.ip().to_canonical(), trusted) {
        Trust::Proxy
    } else {
        Trust::Agent
    }
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:443`.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = bare
        .unwrap_or(hop)
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

fn is_trusted(address: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|range| within(address, *range))
}

fn within(address: IpAddr, range: Cidr) -> bool {
    let (address, network, width) = match (address, range.network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let host_bits = width - u32::from(range.prefix_bits).min(width);
    // A shift by the whole width is no shift in Rust: `/0` holds every address of its family.
    address.checked_shr(host_bits) == network.checked_shr(host_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str, prefix_bits: u8) -> Cidr {
        Cidr {
            network: text.parse().unwrap(),
            prefix_bits,
        }
    }

    fn seen(peer: &str, forwarded: &[&str], trusted: &[Cidr]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        address(format!("{peer}:1").parse().unwrap(), &headers, trusted).to_string()
    }

    #[test]
    fn a_peer_that_is_not_trusted_speaks_only_for_itself() {
        assert_eq!(seen("192.0.2.9", &["198.51.100.1"], &[]), "192.0.2.9");
        let ten = [range("10.0.0.0", 8)];
        assert_eq!(seen("192.0.2.9", &["198.51.100.1"], &ten), "192.0.2.9");
    }

    #[test]
    fn behind_trusted_proxies_the_rightmost_untrusted_address_is_the_client() {
        let ten = [range("10.0.0.0", 8)];
        assert_eq!(
            seen("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.7"], &ten),
            "198.51.100.1"
        );
        assert_eq!(
            seen(
                "10.0.0.1",
                &["1.1.1.1", "198.51.100.1", "10.0.0.7:80"],
                &ten
            ),
            "198.51.100.1"
        );
        assert_eq!(
            seen("10.0.0.1", &["198.51.100.1, nonsense, 10.0.0.7"], &ten),
            "10.0.0.7"
        );
        assert_eq!(seen("10.0.0.1", &["10.0.0.3"], &ten), "10.0.0.3");
        assert_eq!(
            seen("10.0.0.1", &["[2001:db8::1]:443"], &ten),
            "2001:db8::1"
        );
        assert_eq!(seen("10.0.0.1", &[], &ten), "10.0.0.1");
    }

    #[test]
    fn a_range_of_all_addresses_holds_its_family_only() {
        assert!(within("203.0.113.1".parse().unwrap(), range("0.0.0.0", 0)));
        assert!(!within("::1".parse().unwrap(), range("0.0.0.0", 0)));
        assert!(within("::1".parse().unwrap(), range("::", 0)));
    }
}
