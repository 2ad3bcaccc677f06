//! The host of a target: read so that no resolver and no other reader takes it for anything else.

use super::{Ambiguity, ODD};
use core::net::{Ipv4Addr, Ipv6Addr};

/// Longest host and port accepted, in bytes.
const AUTHORITY_BYTES_MAX: usize = 261;

/// Length of the host in a `host[:port]` that only one reader can make sense of (RFC 3986, 3.2.2, without
/// percent-encoding, sub-delimiters, empty labels, or numbers that some resolvers take for an IPv4 address).
pub(super) fn host_bytes(authority: &str) -> Result<usize, Ambiguity> {
    if authority.len() > AUTHORITY_BYTES_MAX {
        return Err(Ambiguity::Authority);
    }
    if is_simple_name(authority) {
        return Ok(authority.len());
    }
    let place = |wanted| authority.bytes().position(|byte| byte == wanted);
    let (host, port) = match place(b']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(place(b':').unwrap_or(authority.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            let plain = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
            plain && !digits.starts_with('0') && digits.parse::<u16>().is_ok()
        }
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_is_good = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name_or_ipv4(host),
    };
    if port_is_good && host_is_good {
        Ok(host.len())
    } else {
        Err(Ambiguity::Authority)
    }
}

/// Whether an authority is a short name, of small letters, digits, hyphens and dots, without a port, that no resolver can
/// take for anything else: what most calls are for, at one look at each byte. False says nothing.
fn is_simple_name(authority: &str) -> bool {
    let bytes = authority.as_bytes();
    if bytes.len() > 63 {
        return false;
    }
    // No label is empty, and the last begins with a letter.
    let (mut odd, mut before, mut first_of_last) = (0, DOT, 0);
    for &byte in bytes {
        let kind = NAME[byte as usize];
        odd |= kind & (ODD | before & DOT);
        first_of_last = if before == DOT { kind } else { first_of_last };
        before = kind;
    }
    odd == 0 && before != DOT && first_of_last == LETTER
}

const DOT: u8 = 2;
const LETTER: u8 = 4;

const NAME: [u8; 256] = {
    let mut kind = [ODD; 256];
    let mut byte = 0;
    while byte < 256 {
        kind[byte] = match byte as u8 {
            b'a'..=b'z' => LETTER,
            b'0'..=b'9' | b'-' => 0,
            b'.' => DOT,
            _ => ODD,
        };
        byte += 1;
    }
    kind
};

/// Whether a host is a name, or an IPv4 address in the one spelling that all resolvers read alike.
pub(in super::super) fn is_name_or_ipv4(host: &str) -> bool {
    let mut label = 0;
    for byte in host.bytes() {
        label = match byte {
            b'.' if label == 0 => return false,
            b'.' => 0,
            b'-' | b'_' => label + 1,
            _ if byte.is_ascii_alphanumeric() => label + 1,
            _ => return false,
        };
        if label > 63 {
            return false;
        }
    }
    if label == 0 {
        return false;
    }
    // `127.1`, `0x7f.0.0.1` and `2130706433` are addresses to some resolvers and names to others.
    let last = &host[host
        .bytes()
        .rposition(|b| b == b'.')
        .map_or(0, |dot| dot + 1)..];
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    !is_number || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_one_look_takes_no_name_that_the_second_would_not(text in "[a-c0-2x.:_A-]{0,9}") {
            if is_simple_name(&text) {
                prop_assert!(is_name_or_ipv4(&text), "{text}");
                prop_assert!(text.bytes().all(|byte| byte != b':' && !byte.is_ascii_uppercase()));
            }
        }
    }
}
