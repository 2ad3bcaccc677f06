//! Names and addresses of what is outside: variables, headers, hosts, networks, digests.

use super::scalar;
use crate::config::Cidr;
use crate::config::error::Reports;
use crate::config::read::{Read, clipped, text, unexpected};
use crate::config::tree::Node;
use crate::config::units;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// The name of an environment variable.
#[derive(Clone, Debug)]
pub(in crate::config) struct Variable(pub String);

impl Read for Variable {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "the name of an environment variable";
        let written = text(node, what, reports)?;
        if is_variable(written) {
            return Some(Self(written.to_owned()));
        }
        // What stands here by mistake may be the secret itself.
        reports.hide(node.place);
        let help = "write its name alone, without `$`: letters, digits and `_`";
        unexpected(node, what, help, reports)
    }
}

/// Letters, digits and `_`, not beginning with a digit.
pub(in crate::config) fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The name of a header field, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::config) struct HeaderName(pub Box<str>);

impl std::fmt::Display for HeaderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Read for HeaderName {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "the name of a header field";
        let written = text(node, what, reports)?;
        match http::HeaderName::from_bytes(written.as_bytes()) {
            Ok(name) => Some(Self(name.as_str().into())),
            Err(_) => unexpected(
                node,
                what,
                "write it without the colon: `x-api-key`",
                reports,
            ),
        }
    }
}

/// The name of an attribute, as OpenTelemetry has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::config) struct AttributeName(pub Box<str>);

impl Read for AttributeName {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "the name of an attribute";
        let written = text(node, what, reports)?;
        let within = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let begins = written.starts_with(|c: char| c.is_ascii_lowercase());
        if begins && written.len() <= 100 && written.bytes().all(within) {
            return Some(Self(written.into()));
        }
        unexpected(
            node,
            what,
            "write lower-case words with dots between them: `deployment.environment.name`",
            reports,
        )
    }
}

/// A host name or address, lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct HostName(pub Box<str>);

impl Read for HostName {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "a host name";
        let written = text(node, what, reports)?;
        if is_host(written) {
            return Some(Self(written.into()));
        }
        let lower = written.to_ascii_lowercase();
        let help = if is_host(&lower) {
            format!("write it in lower case: `{}`", clipped(&lower))
        } else {
            "write it without scheme, port and path: `crm.tools.example`".into()
        };
        unexpected(node, what, help, reports)
    }
}

/// Lower-case labels with single dots, or an address (IPv6 in brackets).
pub(in crate::config) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => text.len() <= 253 && text.split('.').all(label),
    }
}

/// `127.0.0.1:8080`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Address(pub SocketAddr);

impl Read for Address {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "an IP address and a port";
        let written = text(node, what, reports)?;
        match written.parse() {
            Ok(address) => Some(Self(address)),
            Err(_) => unexpected(
                node,
                what,
                "write `127.0.0.1:8080`, or `0.0.0.0:8080` for every interface",
                reports,
            ),
        }
    }
}

/// `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Network(pub Cidr);

impl Read for Network {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "a range of addresses";
        let written = text(node, what, reports)?;
        let Some(cidr) = network(written) else {
            return unexpected(node, what, "write `10.0.0.0/8`, or one address", reports);
        };
        let masked = masked(cidr);
        if masked != cidr.network {
            let help = format!("did you mean `{masked}/{}`?", cidr.prefix_bits);
            return unexpected(node, what, help, reports);
        }
        Some(Self(cidr))
    }
}

fn network(text: &str) -> Option<Cidr> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(units::whole(prefix)?)),
        None => (text, None),
    };
    let network: IpAddr = address.parse().ok()?;
    let bits_max = if network.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(bits_max);
    let prefix_bits = u8::try_from(prefix).ok().filter(|_| prefix <= bits_max)?;
    Some(Cidr {
        network,
        prefix_bits,
    })
}

fn masked(cidr: Cidr) -> IpAddr {
    let bits = u32::from(cidr.prefix_bits);
    match cidr.network {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// SHA-256 in 64 lower-case hex digits.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Sha256(pub [u8; 32]);

impl Read for Sha256 {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let written = scalar(node).unwrap_or_default();
        let digit = |at: usize| u8::from_str_radix(written.get(at..at + 2)?, 16).ok();
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let mut bytes = [0; 32];
        if written.len() == 64 && written.bytes().all(lower_hex) {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = digit(2 * at)?;
            }
            return Some(Self(bytes));
        }
        // What stands here by mistake may be the key itself.
        reports.hide(node.place);
        unexpected(
            node,
            "a SHA-256 in 64 lower-case hex digits",
            "`toolgate key new NAME` prints the key and the line to paste here",
            reports,
        )
    }
}

leaf_schema! {
    Variable => { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" };
    HeaderName => { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" };
    AttributeName => { "type": "string", "maxLength": 100, "pattern": "^[a-z][a-z0-9._-]*$" };
    HostName => { "type": "string", "minLength": 1 };
    Address => { "type": "string", "pattern": "^.+:[0-9]+$" };
    Network => { "type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]+)?$" };
    Sha256 => { "type": "string", "pattern": "^[0-9a-f]{64}$" };
}
