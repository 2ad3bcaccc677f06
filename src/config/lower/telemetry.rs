//! Where spans of calls go.

use super::or;
use super::upstream::{Scheme, location, refuse_tls, secret, tls};
use crate::config::error::{Place, Reports};
use crate::config::leaf::HeaderName;
use crate::config::raw;
use crate::config::read::At;
use crate::config::secrets::Vault;
use crate::config::{Otlp, Telemetry};
use secrecy::SecretString;
use std::net::IpAddr;
use std::time::Duration;

/// `None`: reported.
pub fn telemetry(
    raw: &raw::Telemetry,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Telemetry> {
    let resource = raw.resource.as_ref();
    let resource = resource.map_or(&[][..], |at| &at.value.0);
    let resource = resource.iter().filter_map(|(name, value)| {
        let value = &value.as_ref()?.value.0;
        Some((name.value.0.clone(), value.as_str().into()))
    });
    Some(Telemetry {
        otlp: otlp(&raw.otlp.as_ref()?.value, vault, reports)?,
        sample_millionths: or(raw.sample.as_ref(), |share| share.0, 1_000_000),
        resource: resource.collect(),
    })
}

fn otlp(raw: &raw::Otlp, vault: &mut Vault<'_>, reports: &mut Reports) -> Option<Otlp> {
    let endpoint = raw.endpoint.as_ref()?;
    let headers = headers(raw, vault, reports);
    let location = location(&endpoint.value.0, endpoint.place, reports)?;
    let tls = match location.scheme {
        Scheme::Https => {
            let tls = tls(
                raw.tls.as_ref(),
                &location.host,
                endpoint.place,
                vault,
                reports,
            );
            Some(tls)
        }
        Scheme::Http => {
            refuse_tls(raw.tls.as_ref(), reports);
            warn_of_plain_http(&location.authority, endpoint.place, reports);
            None
        }
    };
    Some(Otlp {
        authority: location.authority,
        host: location.host,
        base_path: location.base_path,
        headers,
        timeout: or(raw.timeout.as_ref(), |span| span.0, TIMEOUT),
        tls,
    })
}

fn headers(
    raw: &raw::Otlp,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Vec<(Box<str>, SecretString)> {
    let written = raw.headers.as_ref();
    let written = written.map_or(&[][..], |at| &at.value.0);
    let mut headers = Vec::with_capacity(written.len());
    for (name, value) in written {
        if OWN_HEADERS.contains(&&*name.value.0) {
            refuse_own(name, reports);
            continue;
        }
        let what = format!("what `{}` is to hold", name.value);
        let value = value.as_ref();
        let value = value.and_then(|value| secret(&what, value, vault, reports));
        headers.extend(value.map(|value| (name.value.0.clone(), value)));
    }
    headers
}

fn refuse_own(name: &At<HeaderName>, reports: &mut Reports) {
    reports.error(
        name.place,
        format!("spans can't be sent with a `{}` of yours", name.value),
        "the gate sets it: use `authorization`, `x-api-key` or the like",
    );
}

fn warn_of_plain_http(authority: &str, place: Place, reports: &mut Reports) {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let near = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !near {
        reports.warn(
            place,
            "spans are sent over plain HTTP to a host that is not this one",
            "whoever can listen on the network can read who calls what: write `https://`",
        );
    }
}

/// What frames a message, says what it is, or belongs to a connection.
const OWN_HEADERS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const TIMEOUT: Duration = Duration::from_secs(10);
