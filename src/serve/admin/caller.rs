//! Who calls the admin API: `Host`, then key, then role. What a caller may not see does not exist for it.

use super::problem::Refused;
use super::{Admin, Principal};
use crate::config::Role;
use crate::gate::Peer;
use crate::policy::certificate::Thumbprint;
use crate::policy::decision::Reason;
use crate::policy::id::SessionId;
use crate::policy::name::ProjectName;
use crate::policy::token::{self, TokenKind};
use crate::store::live::LiveSession;
use axum::extract::{ConnectInfo, FromRequestParts, Path};
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use std::net::IpAddr;
use std::sync::Arc;

/// An authenticated principal. Handlers take it first, so that nothing else of a stranger's call is looked at.
#[derive(Debug)]
pub(in crate::serve) struct Caller {
    pub principal: Arc<Principal>,
    pub client: IpAddr,
    /// Of the certificate that its connection has shown.
    pub certificate: Option<Thumbprint>,
}

impl Caller {
    /// Refuses a principal that has none of `roles`.
    pub(in crate::serve) fn needs(&self, roles: &[Role]) -> Result<(), Refused> {
        if roles.iter().any(|role| self.principal.roles.contains(role)) {
            return Ok(());
        }
        let names: Vec<&str> = roles.iter().map(|role| name(*role)).collect();
        Err(Refused::new(
            Reason::RoleMissing,
            format!(
                "this call needs the role {}; ask whoever keeps `principals` of the server file",
                names.join(" or ")
            ),
        ))
    }

    /// Whether the project is one of the caller's own.
    pub(in crate::serve) fn sees(&self, project: &ProjectName) -> bool {
        self.principal.projects.contains(project)
    }

    /// The session of this id in one of the caller's projects. Another project's answers as an unknown one does.
    pub(in crate::serve) fn session(
        &self,
        admin: &Admin,
        id: &str,
    ) -> Result<Arc<LiveSession>, Refused> {
        let unknown = || {
            Refused::not_found(
                "no live session of your projects has this id; GET /v1/sessions lists them",
            )
        };
        let id: SessionId = id.parse().map_err(|_| unknown())?;
        let session = admin.parts.sessions.by_id(id).ok_or_else(unknown)?;
        if self.sees(&session.facts.project) {
            Ok(session)
        } else {
            Err(unknown())
        }
    }
}

impl FromRequestParts<Arc<Admin>> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Refused> {
        let peer = match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(peer)) => peer.clone(),
            None => return Err(Refused::new(Reason::Internal, "the connection has no peer")),
        };
        let client = peer.address.ip().to_canonical();
        check_host(parts, &admin.parts.hosts)?;
        let found = bearer(&parts.headers).and_then(|key| {
            key.and_then(|key| token::parse(TokenKind::Principal, key))
                .and_then(|digest| admin.parts.principals.load().find(&digest))
                .ok_or_else(invalid)
        });
        match found {
            Ok(principal) => Ok(Self {
                principal,
                client,
                certificate: peer.channel.certificate(),
            }),
            Err(refused) => {
                admin.stranger(client);
                Err(refused)
            }
        }
    }
}

/// The id in a path, whatever it is. Taken after [`Caller`].
#[derive(Debug)]
pub(in crate::serve) struct Id(pub String);

impl FromRequestParts<Arc<Admin>> for Id {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Refused> {
        match Path::<String>::from_request_parts(parts, admin).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Refused::not_found("the path is not UTF-8")),
        }
    }
}

/// A web page that a browser was tricked into resolving to this address sends its own name: refused (DNS rebinding).
pub(in crate::serve) fn check_host(parts: &Parts, hosts: &[String]) -> Result<(), Refused> {
    let mut named = parts.headers.get_all(HOST).iter();
    let header = match (named.next(), named.next()) {
        (Some(value), None) => value.to_str().ok(),
        // HTTP/2 says it in `:authority` (RFC 9113, section 8.3.1).
        (None, _) if parts.version == Version::HTTP_2 => parts.uri.host(),
        _ => None,
    };
    let known = |authority: &str| {
        let name = host_name(authority);
        hosts
            .iter()
            .any(|host| host_name(host).eq_ignore_ascii_case(name))
    };
    let target = parts.uri.authority().map(http::uri::Authority::as_str);
    if header.is_some_and(known) && target.is_none_or(known) {
        return Ok(());
    }
    Err(Refused::new(
        Reason::RequestMalformed,
        "this `Host` is not one the admin API answers to; add it to `listeners.admin.hosts` of the server file",
    )
    .status(StatusCode::MISDIRECTED_REQUEST))
}

/// Without port and without the brackets of an IPv6 address.
fn host_name(authority: &str) -> &str {
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    match authority.rsplit_once(':') {
        // More than one colon: an IPv6 address without brackets, which has no port.
        Some((name, _)) if !name.contains(':') => name,
        _ => authority,
    }
}

/// The bearer value; `None` within: there is a credential, and it is not one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next().ok_or_else(|| {
        Refused::new(
            Reason::CredentialMissing,
            "send a principal's key as `Authorization: Bearer tgk_...`; `toolgate key new` makes one",
        )
    })?;
    if values.next().is_some() {
        return Err(invalid());
    }
    Ok(first
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim()))
}

fn invalid() -> Refused {
    Refused::new(
        Reason::CredentialInvalid,
        "this key is not one of a principal of the server file",
    )
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Issuer => "issuer",
        Role::Approver => "approver",
        Role::Operator => "operator",
        Role::Auditor => "auditor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_port_and_brackets() {
        for (authority, name) in [
            ("localhost:9080", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:9080", "::1"),
            ("::1", "::1"),
            ("10.0.0.1:1", "10.0.0.1"),
        ] {
            assert_eq!(host_name(authority), name);
        }
    }
}
