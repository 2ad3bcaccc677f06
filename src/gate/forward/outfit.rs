//! What of a tool's forwarding can be made ready when its policy is loaded.

use super::super::fields::Rules;
use super::location::Places;
use crate::io::upstream::{Place, PlaceError};
use crate::ledger::record::TlsFault;
use crate::policy::model::{Protocol, Tool, Upstream};
use crate::policy::time::Tick;
use http::header::{HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use http::uri::{Authority, InvalidUri, Scheme, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// A tool, ready to be sent to. Made once per policy and tool, shared by all threads.
///
/// Nothing in it counts references: threads that share a counter pay for it on every call.
#[derive(Debug)]
pub struct Outfit {
    pub(super) place: Place,
    /// The `Host` sent over HTTP/1.1; `None`: the agent's own (`preserve_host`).
    pub(super) host: Option<HeaderValue>,
    /// The same as HTTP/2 has it.
    authority: Option<Authority>,
    scheme: Scheme,
    /// Host and port, for the log.
    name: Box<str>,
    /// When the log was last told of a check that failed.
    told: Mutex<Option<Tick>>,
    pub(super) base_path: Box<str>,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) rules: Rules,
    /// Whether its answers are read on the way: then they must not be compressed.
    pub(super) plain: bool,
    pub(super) places: Places,
    secret: Option<SecretString>,
}

/// A tool that can't be sent to. The configuration refuses each of these with its place.
#[derive(Debug, thiserror::Error)]
pub enum OutfitError {
    /// The upstream's authority, or its TLS.
    #[error("upstream: {0}")]
    Place(#[from] PlaceError),
    /// The upstream's authority as `:authority`.
    #[error("upstream: the authority is no host and port")]
    Authority(#[source] InvalidUri),
    /// The upstream's authority as `Host`.
    #[error("upstream: the authority is no value for Host")]
    Host(#[source] InvalidHeaderValue),
    /// The credential's name.
    #[error("credential: the header's name is not one")]
    CredentialName(#[source] InvalidHeaderName),
    /// The credential's value; not shown.
    #[error("credential: the value has characters that no header can carry")]
    CredentialValue,
}

impl Outfit {
    /// The outfit of `tool`, which is there.
    ///
    /// # Errors
    /// [`OutfitError`].
    pub fn new(tool: &Tool, upstream: &Upstream) -> Result<Self, OutfitError> {
        let (host, authority) = if tool.preserve_host {
            (None, None)
        } else {
            HeaderValue::from_str(&upstream.host).map_err(OutfitError::Host)?;
            upstream
                .host
                .parse::<Authority>()
                .map_err(OutfitError::Authority)?;
            let lasting = lasting(&upstream.host);
            (
                Some(HeaderValue::from_static(lasting)),
                Some(Authority::from_static(lasting)),
            )
        };
        let (name, secret) = match &upstream.credential {
            None => (None, None),
            Some(credential) => {
                let name = HeaderName::from_bytes(credential.header.as_bytes())
                    .map_err(OutfitError::CredentialName)?;
                let name = HeaderName::from_static(lasting(name.as_str()));
                HeaderValue::from_str(credential.value.expose_secret())
                    .map_err(|_| OutfitError::CredentialValue)?;
                (Some(name), Some(credential.value.clone()))
            }
        };
        Ok(Self {
            place: Place::new(upstream)?,
            host,
            authority,
            scheme: match upstream.tls {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            },
            name: upstream.authority.clone(),
            told: Mutex::default(),
            base_path: upstream.base_path.clone(),
            timeout: upstream.timeout,
            connect_timeout: upstream.connect_timeout,
            rules: Rules::new(tool, name),
            plain: tool.protocol == Protocol::Mcp,
            places: Places::new(tool, upstream),
            secret,
        })
    }

    /// How long its answers are waited for.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What the fields of requests to this tool are judged by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Says in the log which check kept TLS from being spoken; the agent hears only that the tool can't be reached. Once in
    /// a while, however often it is called meanwhile.
    pub(super) fn tell(&self, check: TlsFault, now: Tick) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.since(told) >= TOLD_AGAIN) {
            *told = Some(now);
            tracing::error!(upstream = &*self.name, code = check.as_str(), %check, "TLS with a backend failed");
        }
    }

    /// `target` with scheme and authority before it, as HTTP/2 wants it; `agents` is the authority that the agent sent.
    pub(super) fn absolute(&self, target: Uri, agents: &HeaderValue) -> Option<Uri> {
        let mut parts = target.into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(match &self.authority {
            Some(authority) => authority.clone(),
            None => Authority::try_from(agents.as_bytes()).ok()?,
        });
        Uri::from_parts(parts).ok()
    }

    /// The credential to inject.
    pub(super) fn credential(&self) -> Option<HeaderValue> {
        self.secret.as_ref().map(|secret| {
            let mut value = HeaderValue::from_str(secret.expose_secret())
                .expect("the value was checked when the outfit was made");
            value.set_sensitive(true);
            value
        })
    }
}

/// How long the log hears nothing more of a tool whose TLS fails.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// A host or a field's name for the life of the process. The configuration bounds how many there are.
fn lasting(text: &str) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = texts.get(text) {
        return known;
    }
    let kept: &'static str = Box::leak(text.into());
    texts.insert(kept);
    kept
}
