//! Protected-resource metadata (RFC 9728): what is told to strangers must be true, and the same whichever project a
//! token would have chosen.

use super::Draft;
use crate::config::error::{Place, Reports};
use crate::config::leaf::Text;
use crate::config::raw;
use crate::config::read::At;
use crate::policy::model::{Mount, OAuth, Protocol};
use std::collections::HashMap;
use std::net::IpAddr;

/// `None`: nothing is written, or it was reported. `mount`: where the tool is found, unless that was reported.
pub fn oauth(
    raw: Option<&At<raw::OAuth>>,
    protocol: Protocol,
    mount: Option<&Mount>,
    reports: &mut Reports,
) -> Option<OAuth> {
    let At { place, value: raw } = raw?;
    if protocol != Protocol::Mcp {
        let message = "`oauth` is for tools that MCP clients find by themselves";
        reports.error(*place, message, "remove it, or write `protocol: mcp`");
        return None;
    }
    let resource = raw.resource.as_ref()?;
    let servers = &raw.authorization_servers.as_ref()?.value.0;
    let scopes = raw.scopes.as_ref().map_or(&[][..], |at| &*at.value.0);
    let mut is_fit = is_where_it_is(resource, mount, reports);
    for server in servers {
        is_fit &= address(server, "an issuer", reports).is_some();
    }
    for scope in scopes {
        is_fit &= is_scope(scope, reports);
    }
    is_fit.then(|| OAuth {
        resource: resource.value.0.as_str().into(),
        authorization_servers: texts(servers),
        scopes: texts(scopes),
    })
}

/// Clients compare `resource` with the address they call, and believe metadata only where the two are one.
fn is_where_it_is(written: &At<Text>, mount: Option<&Mount>, reports: &mut Reports) -> bool {
    let Some(uri) = address(written, "the tool's address", reports) else {
        return false;
    };
    // What is written of the mount was reported.
    let Some(mount) = mount else {
        return false;
    };
    let (host, path) = (uri.host().unwrap_or_default(), uri.path());
    let (is_there, cure) = match mount {
        Mount::Path(mount) => {
            let is_there = path == &**mount;
            (is_there, format!("let its path be the mount, `{mount}`"))
        }
        Mount::Host(name) => {
            let is_there = host == &**name && path == "/";
            (is_there, format!("write `https://{name}`"))
        }
        // A function, which was refused above.
        Mount::None => return false,
    };
    if !is_there {
        let message = "this is not where agents find the tool, so clients would not believe it";
        reports.error(written.place, message, cure);
    }
    is_there
}

/// An address that may stand in metadata and, between quotes, in a challenge: `https://`, or `http://` on this host; no
/// user, query or fragment (RFC 9728, section 1.2; RFC 8414, section 2).
fn address(written: &At<Text>, what: &str, reports: &mut Reports) -> Option<http::Uri> {
    let text = written.value.0.as_str();
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"\"\\#?@<>{}|^`".contains(&b));
    let uri = text.parse::<http::Uri>().ok().filter(|uri| {
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_matches(['[', ']']);
        let near = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let lower = uri.authority().is_some_and(|authority| {
            let authority = authority.as_str();
            authority == authority.to_ascii_lowercase()
        });
        let scheme = match uri.scheme_str() {
            Some("https") => text.starts_with("https://"),
            Some("http") => near && text.starts_with("http://"),
            _ => false,
        };
        plain && lower && scheme && !host.is_empty()
    });
    if uri.is_none() {
        let message = format!("{what} is a URL with `https://`, and no user, query or fragment");
        let help = "write `https://host/path`, the host in lower case; `http://` only on this host";
        reports.error(written.place, message, help);
    }
    uri
}

/// RFC 6749, section 3.3.
fn is_scope(written: &At<Text>, reports: &mut Reports) -> bool {
    let text = &written.value.0;
    let is_one = text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b));
    if !is_one {
        let message = "this can't be a scope of OAuth";
        let help = "write visible ASCII without spaces, quotes and backslashes: `tools:call`";
        reports.error(written.place, message, help);
    }
    is_one
}

fn texts(written: &[At<Text>]) -> Box<[Box<str>]> {
    written
        .iter()
        .map(|at| at.value.0.as_str().into())
        .collect()
}

/// A stranger has no project: what is told of a place must be the same for all who have a tool there.
pub fn refuse_different(drafts: &mut [(Reports, Draft)]) {
    let mut first: HashMap<Mount, (OAuth, String)> = HashMap::new();
    for (reports, draft) in drafts {
        let Some((policy, places)) = &draft.policy else {
            continue;
        };
        let mut found: Vec<(Place, String)> = Vec::new();
        for (tool, place) in policy.tools.iter().zip(&places.tools) {
            let Some(told) = &tool.oauth else {
                continue;
            };
            match first.get(&tool.mount) {
                Some((other, project)) if other != told => found.push((*place, project.clone())),
                Some(_) => {}
                None => {
                    let told = (told.clone(), policy.project.to_string());
                    first.insert(tool.mount.clone(), told);
                }
            }
        }
        for (place, project) in found {
            let message = format!(
                "the project `{project}` has another `oauth` for a tool found here: who has no token yet has no project, and is told one"
            );
            let help = "write the same in both, or give one of the tools a `host` of its own";
            reports.error(place, message, help);
        }
    }
}
