//! Where a tool's backend is, how it is spoken to and trusted, and what the gate adds in the agent's stead.

use super::or;
use super::tools::canonical;
use crate::config::error::{Place, Reports};
use crate::config::leaf::{HeaderName, is_host};
use crate::config::read::At;
use crate::config::secrets::Vault;
use crate::config::{pem, raw};
use crate::policy::certificate::Identity;
use crate::policy::model::{Credential, Http2, Upstream, UpstreamTls, Verify};
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;

pub fn upstream(
    raw: Option<&raw::Upstream>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Upstream {
    let url = raw.and_then(|raw| raw.url.as_ref());
    let location = url.and_then(|url| {
        let text = vault.interpolate(&url.value.0, url.place, reports)?;
        location(text.expose_secret(), url.place, reports)
    });
    let scheme = location.as_ref().map(|location| location.scheme);
    // What could not be read was reported, as an error or, where secrets are optional, as a warning. Nothing is served
    // either way, and no such host can exist (RFC 6761).
    let location = location.unwrap_or_else(|| Location {
        scheme: Scheme::Http,
        authority: "unset.invalid:80".into(),
        host: "unset.invalid".into(),
        base_path: "".into(),
    });
    let credential = raw.and_then(|raw| raw.credential.as_ref());
    let tls = raw.and_then(|raw| raw.tls.as_ref());
    let tls = match scheme {
        Some(Scheme::Https) => {
            let place = url.map(|url| url.place).unwrap_or_default();
            Some(self::tls(tls, &location.host, place, vault, reports))
        }
        Some(Scheme::Http) => {
            refuse_tls(tls, reports);
            None
        }
        // Whether it is `https://` is not known.
        None => None,
    };
    Upstream {
        tls: tls.map(Arc::new),
        http2: or(raw.and_then(|raw| raw.http2.as_ref()), http2, Http2::Auto),
        authority: location.authority,
        host: location.host,
        base_path: location.base_path,
        timeout: or(
            raw.and_then(|raw| raw.timeout.as_ref()),
            |span| span.0,
            TIMEOUT,
        ),
        connect_timeout: or(
            raw.and_then(|raw| raw.connect_timeout.as_ref()),
            |span| span.0,
            CONNECT_TIMEOUT,
        ),
        credential: credential.and_then(|at| self::credential(&at.value, vault, reports)),
    }
}

fn http2(written: raw::Http2) -> Http2 {
    match written {
        raw::Http2::Auto => Http2::Auto,
        raw::Http2::Off => Http2::Off,
        raw::Http2::PriorKnowledge => Http2::PriorKnowledge,
    }
}

/// `host` is the URL's authority, and `place` the URL's.
pub(super) fn tls(
    raw: Option<&At<raw::UpstreamTls>>,
    host: &str,
    place: Place,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> UpstreamTls {
    let raw = raw.map(|at| &at.value);
    let named = raw.and_then(|raw| raw.server_name.as_ref());
    let (name, place) = match named {
        Some(named) => (named.value.0.clone(), named.place),
        None => (split(host).0.to_ascii_lowercase().into(), place),
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if ServerName::try_from(bare).is_err() {
        let message = "no certificate could be valid for this host";
        reports.error(
            place,
            message,
            "use a DNS name or an IP address, or say under which name it is certified: `tls: { server_name: NAME }`",
        );
    }
    let authorities = raw.and_then(|raw| raw.ca.as_ref());
    // A file that can't be read was reported, and what was loaded without it is not served.
    UpstreamTls {
        server_name: name,
        authorities: authorities.and_then(|ca| pem::authorities(ca, vault, reports)),
        identity: raw.and_then(|raw| identity(raw, vault, reports)),
        verify: verify(raw, reports),
    }
}

fn identity(
    raw: &raw::UpstreamTls,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Identity> {
    match (&raw.certificate, &raw.private_key) {
        (Some(certificate), Some(key)) => pem::identity(certificate, key, vault, reports),
        (Some(alone), None) => {
            let message = "`certificate` stands without its `private_key`";
            reports.error(alone.place, message, "add `private_key: FILE` beside it");
            None
        }
        (None, Some(alone)) => {
            let message = "`private_key` stands without its `certificate`";
            reports.error(alone.place, message, "add `certificate: FILE` beside it");
            None
        }
        (None, None) => None,
    }
}

fn verify(raw: Option<&raw::UpstreamTls>, reports: &mut Reports) -> Verify {
    let key = raw.and_then(|raw| raw.insecure_skip_verify_for_tests.as_ref());
    match key {
        Some(key) if key.value.0 => {
            reports.warn(
                key.place,
                "the backend's certificate is NOT checked: whoever answers in its place gets what agents send and the credential, and is believed",
                "remove `insecure_skip_verify_for_tests`; for a certificate of your own making name its authority: `ca: FILE`",
            );
            Verify::SkipForTests
        }
        Some(_) | None => Verify::Full,
    }
}

pub(super) fn refuse_tls(tls: Option<&At<raw::UpstreamTls>>, reports: &mut Reports) {
    if let Some(tls) = tls {
        reports.error(
            tls.place,
            "`tls` stands beside a URL that begins with `http://`, and would protect nothing",
            "write `url: https://...`, or remove `tls`",
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

pub(super) struct Location {
    pub scheme: Scheme,
    pub authority: Box<str>,
    pub host: Box<str>,
    pub base_path: Box<str>,
}

/// Messages never quote the URL: part of it may come from the environment.
pub(super) fn location(url: &str, place: Place, reports: &mut Reports) -> Option<Location> {
    const FORM: &str =
        "write `http://host:port` or `https://host`, with `/base` behind it if need be";
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let (scheme, port, rest) = if lower.starts_with("https://") {
        (Scheme::Https, 443, &url[8..])
    } else if lower.starts_with("http://") {
        (Scheme::Http, 80, &url[7..])
    } else {
        let message = "the URL does not begin with `http://` or `https://`";
        reports.error(place, message, FORM);
        return None;
    };
    if rest.contains(['?', '#']) {
        reports.error(place, "the URL has a query or a fragment", FORM);
        return None;
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if host.contains('@') {
        reports.hide(place);
        reports.error(
            place,
            "the URL has a user or password in it",
            "send them as `credential: { header: authorization, value: \"Basic ${NAME}\" }`",
        );
        return None;
    }
    let (name, written) = split(host);
    let port = written.map_or(Some(port), |port| {
        port.parse::<u16>().ok().filter(|port| *port > 0)
    });
    let (Some(port), true) = (port, is_host(&name.to_ascii_lowercase())) else {
        reports.error(place, "the URL has no valid host and port", FORM);
        return None;
    };
    let base_path = match path.trim_end_matches('/') {
        "" => "".into(),
        base => canonical(base, "the URL's path", place, reports)?,
    };
    Some(Location {
        scheme,
        authority: format!("{}:{port}", name.to_ascii_lowercase()).into(),
        host: host.into(),
        base_path,
    })
}

/// Host and, where it is written, port.
fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        Some(_) | None => (authority, None),
    }
}

fn credential(
    raw: &raw::Credential,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Credential> {
    let header = raw.header.as_ref().filter(|at| may_be_set(at, reports));
    let value = raw.value.as_ref()?;
    let secret = secret("the credential", value, vault, reports)?;
    Some(Credential {
        header: header?.value.0.clone(),
        value: secret,
    })
}

/// A secret that is sent in a header. `None`: reported, as an error or, where secrets are optional, as a warning.
pub(super) fn secret(
    what: &str,
    value: &At<raw::SecretText>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<SecretString> {
    let secret = match &value.value {
        raw::SecretText::Interpolated(text) => vault.interpolate(&text.0, value.place, reports),
        raw::SecretText::Kept(kept) => {
            let file = kept.file.as_ref()?;
            vault.file(&file.value.0, file.place, reports)
        }
    };
    let secret = secret?;
    let sendable =
        |text: &str| text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text;
    if !sendable(secret.expose_secret()) {
        reports.error(
            value.place,
            format!("{what} can't be sent in a header"),
            "it has a line break, a space at an end or another character beyond ASCII: look at where it comes from",
        );
    }
    Some(secret)
}

pub(super) fn may_be_set(header: &At<HeaderName>, reports: &mut Reports) -> bool {
    let name = &*header.value.0;
    let own =
        OWN_HEADERS.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if own {
        let message = format!("a credential can't be sent in `{name}`");
        let help =
            "the gate or the connection sets it: use `authorization`, `x-api-key` or the like";
        reports.error(header.place, message, help);
    }
    !own
}

/// Fields that frame the message, belong to the connection, or are the gate's own to set.
const OWN_HEADERS: [&str; 22] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "via",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "content-type",
    "content-encoding",
    "http2-settings",
    "date",
];
const OWN_PREFIXES: [&str; 2] = ["toolgate-", "x-forwarded-"];
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
