//! Tools: where agents find them, and what of their requests is let through.

use super::approvals::refuse_twice;
use super::or;
use crate::config::error::{Place, Reports};
use crate::config::leaf::HeaderName;
use crate::config::raw;
use crate::config::read::{At, listed};
use crate::config::secrets::Vault;
use crate::policy::model::{Mount, Protocol, SessionHeader, Tool};
use crate::policy::name::ToolName;
use crate::policy::target::Target;

/// What can't be read is reported and stands in as something harmless, so that the tool's routes are judged all the same.
pub fn tool(
    name: &At<ToolName>,
    at: &At<raw::Tool>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Tool {
    let raw = &at.value;
    let protocol = or(raw.protocol.as_ref(), protocol, Protocol::Http);
    let nowhere = Mount::Host(format!("{}.invalid", name.value).to_lowercase().into());
    let (mount, upstream) = if protocol == Protocol::Function {
        refuse_wire(raw, reports);
        (Some(Mount::None), None)
    } else {
        let upstream = raw.upstream.as_ref().map(|at| &at.value);
        let upstream = super::upstream::upstream(upstream, vault, reports);
        (mount(raw, reports), Some(upstream))
    };
    let oauth = super::oauth::oauth(raw.oauth.as_ref(), protocol, mount.as_ref(), reports);
    let session_header = session_header(raw.session_header.as_ref(), reports);
    refuse_two_authorizations(session_header, raw, reports);
    let overrides = raw.allow_method_override.as_ref().map(|at| &*at.value.0);
    refuse_other_headers(overrides.unwrap_or_default(), reports);
    let volatile = raw.volatile_headers.as_ref().map(|at| &*at.value.0);
    let masked = raw.mask_headers.as_ref().map(|at| &*at.value.0);
    refuse_telling(volatile.unwrap_or_default(), reports);
    refuse_twice(volatile.unwrap_or_default(), reports);
    refuse_twice(masked.unwrap_or_default(), reports);
    Tool {
        name: name.value.clone(),
        protocol,
        mount: mount.unwrap_or(nowhere),
        upstream,
        oauth,
        preserve_host: or(raw.preserve_host.as_ref(), |flag| flag.0, false),
        session_header,
        allow_method_override: headers(overrides),
        volatile_headers: headers(volatile),
        mask_headers: headers(masked),
        record_query: raw.record_query.as_ref().map_or_else(Box::default, |at| {
            at.value
                .0
                .iter()
                .map(|name| name.value.0.as_str().into())
                .collect()
        }),
        body_limit: or(raw.body_limit.as_ref(), |size| size.0, BODY_LIMIT),
        pin: pin(raw, protocol, reports),
    }
}

/// Only a server of MCP says of its tools what they are.
fn pin(raw: &raw::Tool, protocol: Protocol, reports: &mut Reports) -> bool {
    let Some(at) = &raw.pin else {
        return false;
    };
    if protocol != Protocol::Mcp {
        let message =
            "`pin` has no effect here: only a server of MCP says of its tools what they are";
        let help = "remove it, or write `protocol: mcp` for a tool that is such a server";
        reports.error(at.place, message, help);
    }
    at.value.0
}

fn protocol(written: raw::Protocol) -> Protocol {
    match written {
        raw::Protocol::Http => Protocol::Http,
        raw::Protocol::Mcp => Protocol::Mcp,
        raw::Protocol::Function => Protocol::Function,
    }
}

/// A function is code in the agent's own process: what says how something is found, sent or read would have no effect.
fn refuse_wire(raw: &raw::Tool, reports: &mut Reports) {
    let written = [
        ("mount", raw.mount.as_ref().map(|at| at.place)),
        ("host", raw.host.as_ref().map(|at| at.place)),
        ("upstream", raw.upstream.as_ref().map(|at| at.place)),
        (
            "preserve_host",
            raw.preserve_host.as_ref().map(|at| at.place),
        ),
        (
            "session_header",
            raw.session_header.as_ref().map(|at| at.place),
        ),
        (
            "allow_method_override",
            raw.allow_method_override.as_ref().map(|at| at.place),
        ),
        ("record_query", raw.record_query.as_ref().map(|at| at.place)),
        ("body_limit", raw.body_limit.as_ref().map(|at| at.place)),
        (
            "volatile_headers",
            raw.volatile_headers.as_ref().map(|at| at.place),
        ),
        ("mask_headers", raw.mask_headers.as_ref().map(|at| at.place)),
    ];
    for (key, place) in written {
        if let Some(place) = place {
            let message = format!("`{key}` has no effect on a function: nothing is sent anywhere");
            let help =
                "remove it, or write `protocol: http` for a tool that is called through the gate";
            reports.error(place, message, help);
        }
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

/// Of two requests that differ in one of these an approver must see both.
fn refuse_telling(volatile: &[At<HeaderName>], reports: &mut Reports) {
    for at in volatile {
        if TELLING.contains(&&*at.value.0) {
            let message = format!(
                "two requests that differ in `{}` are not the same request",
                at.value.0
            );
            let help = "remove it: only fields that mean nothing to the backend are volatile";
            reports.error(at.place, message, help);
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
pub(super) fn canonical(
    written: &str,
    what: &str,
    place: Place,
    reports: &mut Reports,
) -> Option<Box<str>> {
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
/// Fields that say what a request means.
const TELLING: [&str; 4] = [
    "host",
    "content-type",
    "content-encoding",
    "idempotency-key",
];
/// Bytes of a body read where one is needed.
const BODY_LIMIT: u64 = 1 << 20;
