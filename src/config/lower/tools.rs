//! Tools: where agents find them, where their backends are, and what the gate adds in the agent's stead.

use super::or;
use crate::config::error::{Place, Reports};
use crate::config::leaf::{HeaderName, is_host};
use crate::config::raw;
use crate::config::read::{At, listed};
use crate::config::secrets::Vault;
use crate::policy::model::{Credential, Http2, Mount, SessionHeader, Tool, Upstream};
use crate::policy::name::ToolName;
use crate::policy::target::Target;
use secrecy::ExposeSecret;
use std::time::Duration;

/// What can't be read is reported and stands in as something harmless, so that the tool's routes are judged all the same.
pub fn tool(
    name: &At<ToolName>,
    raw: &raw::Tool,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Tool {
    let mount = mount(raw, reports);
    let upstream = raw.upstream.as_ref().map(|at| &at.value);
    let upstream = self::upstream(upstream, vault, reports);
    let session_header = session_header(raw.session_header.as_ref(), reports);
    refuse_two_authorizations(session_header, raw, reports);
    let overrides = raw.allow_method_override.as_ref().map(|at| &*at.value.0);
    refuse_other_headers(overrides.unwrap_or_default(), reports);
    Tool {
        name: name.value.clone(),
        mount: mount.unwrap_or_else(|| {
            Mount::Host(format!("{}.invalid", name.value).to_lowercase().into())
        }),
        upstream,
        preserve_host: or(raw.preserve_host.as_ref(), |flag| flag.0, false),
        session_header,
        allow_method_override: headers(overrides),
        record_query: raw.record_query.as_ref().map_or_else(Box::default, |at| {
            at.value
                .0
                .iter()
                .map(|name| name.value.0.as_str().into())
                .collect()
        }),
        body_limit: or(raw.body_limit.as_ref(), |size| size.0, BODY_LIMIT),
    }
}

fn refuse_other_headers(overrides: &[At<HeaderName>], reports: &mut Reports) {
    for at in overrides {
        if !METHOD_OVERRIDES.contains(&&*at.value.0) {
            let known: Vec<String> = METHOD_OVERRIDES
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            reports.error(
                at.place,
                format!("`{}` is not a method-override header", at.value.0),
                format!(
                    "those that are refused unless they are named here are {}",
                    listed(&known)
                ),
            );
        }
    }
}

fn headers(raw: Option<&[At<HeaderName>]>) -> Box<[Box<str>]> {
    let raw = raw.unwrap_or_default();
    raw.iter().map(|name| name.value.0.clone()).collect()
}

fn mount(raw: &raw::Tool, reports: &mut Reports) -> Option<Mount> {
    match (&raw.mount, &raw.host) {
        (Some(mount), None) => path(mount.place, &mount.value.0, reports).map(Mount::Path),
        (None, Some(host)) => Some(Mount::Host(host.value.0.clone())),
        // Reported when the keys were read.
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// A mount in its one spelling.
fn path(place: Place, written: &str, reports: &mut Reports) -> Option<Box<str>> {
    let reserved = |own: &str| {
        written
            .strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if reserved("/.toolgate") || reserved("/.well-known") {
        let message = format!("the gate keeps `{written}` for itself");
        reports.error(place, message, "mount the tool elsewhere");
        return None;
    }
    if written.len() > 1 && written.ends_with('/') {
        let help = format!("write `mount: {}`", written.trim_end_matches('/'));
        reports.error(place, "a mount does not end with a slash", help);
        return None;
    }
    canonical(written, "a mount", place, reports)
}

/// A path as a target has it, without query; else what would make it one.
fn canonical(written: &str, what: &str, place: Place, reports: &mut Reports) -> Option<Box<str>> {
    let help = "write a path such as `/crm`, with letters, digits, `-`, `.`, `_` and `~`";
    if written.contains(['?', '{', '}']) {
        reports.error(
            place,
            format!("{what} is a path without parameters and query"),
            help,
        );
        return None;
    }
    match Target::parse(written, "localhost") {
        Ok(target) if target.path() == written => Some(written.into()),
        Ok(target) => {
            let help = format!("write `{}`", target.path());
            reports.error(
                place,
                format!("{what} is written in its canonical form"),
                help,
            );
            None
        }
        Err(ambiguity) => {
            reports.error(
                place,
                format!("{what} could never be called: {ambiguity}"),
                help,
            );
            None
        }
    }
}

fn session_header(raw: Option<&At<HeaderName>>, reports: &mut Reports) -> SessionHeader {
    match raw.map(|at| &*at.value.0) {
        None | Some("authorization") => SessionHeader::Authorization,
        Some("toolgate-session") => SessionHeader::ToolgateSession,
        Some(other) => {
            let message = format!("`{other}` can't carry the session's token");
            let help = "write `authorization` or `toolgate-session`";
            reports.error(raw.map(|at| at.place).unwrap_or_default(), message, help);
            SessionHeader::Authorization
        }
    }
}

/// With `session_header: toolgate-session` the agent's own `Authorization` is forwarded; a credential would be a second.
fn refuse_two_authorizations(session: SessionHeader, raw: &raw::Tool, reports: &mut Reports) {
    let credential = raw
        .upstream
        .as_ref()
        .and_then(|at| at.value.credential.as_ref());
    let header = credential.and_then(|at| at.value.header.as_ref());
    if let (SessionHeader::ToolgateSession, Some(header)) = (session, header)
        && &*header.value.0 == "authorization"
    {
        reports.error(
            header.place,
            "the agent's own `authorization` is forwarded to this tool, and a credential would be a second",
            "send the credential in another header, or remove `session_header: toolgate-session`",
        );
    }
}

fn upstream(raw: Option<&raw::Upstream>, vault: &mut Vault<'_>, reports: &mut Reports) -> Upstream {
    let url = raw.and_then(|raw| raw.url.as_ref());
    let location = url.and_then(|url| {
        let text = vault.interpolate(&url.value.0, url.place, reports)?;
        location(text.expose_secret(), url.place, reports)
    });
    // What could not be read was reported, as an error or, where secrets are optional, as a warning. Nothing is served
    // either way, and no such host can exist (RFC 6761).
    let location = location.unwrap_or_else(|| Location {
        authority: "unset.invalid:80".into(),
        host: "unset.invalid".into(),
        base_path: "".into(),
    });
    let credential = raw.and_then(|raw| raw.credential.as_ref());
    Upstream {
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
        tls: None,
        http2: Http2::Auto,
    }
}

struct Location {
    authority: Box<str>,
    host: Box<str>,
    base_path: Box<str>,
}

/// Messages never quote the URL: part of it may come from the environment.
fn location(url: &str, place: Place, reports: &mut Reports) -> Option<Location> {
    const FORM: &str = "write `http://host:port`, or `http://host:port/base`";
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    if lower.starts_with("https://") {
        let message = "an upstream over `https://` is not available yet";
        reports.error(
            place,
            message,
            "until then, write `http://` and let something beside the gate speak TLS",
        );
        return None;
    }
    if !lower.starts_with("http://") {
        reports.error(place, "the URL does not begin with `http://`", FORM);
        return None;
    }
    let rest = &url[7..];
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
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        Some(_) | None => (host, None),
    };
    let port = port.map_or(Some(80), |port| {
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
        authority: format!("{}:{port}", name.to_ascii_lowercase()).into(),
        host: host.into(),
        base_path,
    })
}

fn credential(
    raw: &raw::Credential,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Credential> {
    let header = raw.header.as_ref().filter(|at| may_be_set(at, reports));
    let value = raw.value.as_ref()?;
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
            "the credential can't be sent in a header",
            "it has a line break, a space at an end or another character beyond ASCII: look at where it comes from",
        );
    }
    Some(Credential {
        header: header?.value.0.clone(),
        value: secret,
    })
}

fn may_be_set(header: &At<HeaderName>, reports: &mut Reports) -> bool {
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
/// Headers by which a request says that it means another method or path.
const METHOD_OVERRIDES: [&str; 8] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-override-url",
];
/// Bytes of a body read where one is needed.
const BODY_LIMIT: u64 = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
