//! A target as the policy in force has it: where messages go, over what, and what they are signed with.
//!
//! Targets come from the operators' YAML and from nowhere else: nothing that an agent says chooses where the gate connects
//! to. URL and secrets are secret alike, and printed nowhere.

use super::sign;
use crate::io::tls::client::{Connector, ConnectorError};
use crate::policy::id::MessageId;
use crate::policy::model::{Http2, Notify, UpstreamTls, Verify};
use crate::policy::name::{NotifyName, ProjectName};
use crate::store::outbox::DeliveryKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::{Scheme, Uri};
use http::{HeaderValue, uri::PathAndQuery};
use secrecy::{ExposeSecret as _, SecretString};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Whom a message is for: a target of a project's policy, by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The ruleset.
    pub project: ProjectName,
    /// Its name in the YAML.
    pub target: NotifyName,
}

impl Address {
    /// What the store calls a delivery of `message` to it.
    pub(super) fn key(&self, message: MessageId) -> DeliveryKey {
        DeliveryKey {
            project: self.project.clone(),
            target: self.target.clone(),
            message,
        }
    }
}

/// A target that can't be sent to.
#[derive(Debug, thiserror::Error)]
#[error("{of}: {why}")]
pub struct TargetError {
    /// `notify target NAME of project NAME`.
    of: Box<str>,
    why: Unusable,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the URL is not one; it looks like https://host/path")]
    Url,
    #[error("a secret is `whsec_` and base64")]
    Secret,
    #[error("{0}")]
    Tls(#[from] ConnectorError),
}

/// One target, ready to be sent to.
pub(in crate::io) struct Target {
    /// `host:port` to connect to; IPv6 in brackets.
    pub authority: Box<str>,
    pub host: HeaderValue,
    /// Path and query.
    pub place: Uri,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<Connector>>,
    secrets: Box<[Zeroizing<Vec<u8>>]>,
}

impl Target {
    /// The target that the policy describes.
    ///
    /// # Errors
    /// [`TargetError`]; it shows neither URL nor secrets.
    pub fn new(project: &ProjectName, notify: &Notify) -> Result<Self, TargetError> {
        Self::read(&notify.url, &notify.secrets).map_err(|why| TargetError {
            of: format!("notify target `{}` of project `{project}`", notify.name).into(),
            why,
        })
    }

    /// The one that keeps the ledger's checkpoints.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn of_anchor(url: &SecretString, secrets: &[SecretString]) -> Result<Self, TargetError> {
        Self::read(url, secrets).map_err(|why| TargetError {
            of: "the ledger's anchor".into(),
            why,
        })
    }

    fn read(url: &SecretString, secrets: &[SecretString]) -> Result<Self, Unusable> {
        let url: Uri = url.expose_secret().parse().map_err(|_| Unusable::Url)?;
        let authority = url.authority().ok_or(Unusable::Url)?;
        let (port, encrypted) = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => (443, true),
            Some(scheme) if *scheme == Scheme::HTTP => (80, false),
            _ => return Err(Unusable::Url),
        };
        let port = authority.port_u16().unwrap_or(port);
        let tls = encrypted.then(|| connector(authority.host())).transpose()?;
        let place = url.path_and_query().map_or("/", PathAndQuery::as_str);
        Ok(Self {
            authority: format!("{}:{port}", authority.host()).into(),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| Unusable::Url)?,
            place: place.parse().map_err(|_| Unusable::Url)?,
            tls,
            secrets: decoded(secrets)?,
        })
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, seconds: i64, payload: &str) -> String {
        sign::signatures(
            id,
            seconds,
            payload,
            self.secrets.iter().map(|it| it.as_slice()),
        )
    }
}

fn decoded(secrets: &[SecretString]) -> Result<Box<[Zeroizing<Vec<u8>>]>, Unusable> {
    let decoded = secrets.iter().map(|secret| {
        let text = secret.expose_secret().strip_prefix("whsec_");
        let bytes = text.and_then(|text| STANDARD.decode(text).ok());
        bytes.map(Zeroizing::new).ok_or(Unusable::Secret)
    });
    decoded.collect()
}

/// Whom the system trusts is believed, and nobody else: there is no key that turns the check off.
fn connector(host: &str) -> Result<Arc<Connector>, ConnectorError> {
    let tls = UpstreamTls {
        server_name: host.into(),
        authorities: None,
        identity: None,
        verify: Verify::Full,
    };
    Connector::new(&tls, Http2::Off)
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(url: &str, secrets: &[&str]) -> Notify {
        Notify {
            name: NotifyName::parse("ops").unwrap(),
            url: SecretString::from(url),
            secrets: secrets.iter().copied().map(SecretString::from).collect(),
        }
    }

    fn target(url: &str) -> Result<Target, TargetError> {
        Target::new(
            &ProjectName::parse("demo").unwrap(),
            &notify(url, &["whsec_c2VjcmV0"]),
        )
    }

    #[test]
    fn a_url_becomes_an_address_a_host_and_a_place() {
        for (url, authority, host, place, tls) in [
            (
                "http://hooks.example/a/b?c=d",
                "hooks.example:80",
                "hooks.example",
                "/a/b?c=d",
                false,
            ),
            ("http://[::1]:8000", "[::1]:8000", "[::1]:8000", "/", false),
            (
                "https://hooks.example:8443/",
                "hooks.example:8443",
                "hooks.example:8443",
                "/",
                true,
            ),
        ] {
            let target = target(url).unwrap();
            assert_eq!(
                (&*target.authority, target.host.to_str().unwrap()),
                (authority, host)
            );
            assert_eq!(
                (target.place.to_string().as_str(), target.tls.is_some()),
                (place, tls)
            );
        }
    }

    #[test]
    fn neither_url_nor_secret_is_ever_shown() {
        let bad = target("ftp://hooks.example/T0KEN").unwrap_err();
        assert_eq!(
            bad.to_string(),
            "notify target `ops` of project `demo`: the URL is not one; it looks like https://host/path"
        );
        let project = ProjectName::parse("demo").unwrap();
        let bad = Target::new(&project, &notify("http://hooks.example", &["hunter2"])).unwrap_err();
        let good = target("http://hooks.example/T0KEN").unwrap();
        for shown in [format!("{bad:?} {bad}"), format!("{good:?}")] {
            assert!(
                !shown.contains("hunter2") && !shown.contains("T0KEN"),
                "{shown}"
            );
        }
    }
}
