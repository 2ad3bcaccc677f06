//! A tool's backend, as the policy says: where it is, how it is spoken to and trusted, what is shown to it.

use crate::policy::certificate::{Certificates, Identity};
use aws_lc_rs::digest;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a backend is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `host:port` to connect to; IPv6 in brackets.
    pub authority: Box<str>,
    /// The `Host` sent: the URL's authority as written.
    pub host: Box<str>,
    /// Put in front of what is forwarded: empty, or `/base` without a trailing slash.
    pub base_path: Box<str>,
    /// From request sent to first byte of the answer's head.
    pub timeout: Duration,
    /// For the connection: looking its name up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// What the gate adds in the agent's stead.
    pub credential: Option<Credential>,
    /// How its connections are protected; `None`: plain TCP.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Which versions of HTTP are spoken to it.
    pub http2: Http2,
}

impl Upstream {
    /// SHA-256 over the URL it was written as: what an approver agreed to be sent to. Two upstreams that differ in anything
    /// else (time limits, credential, certificates) are the same backend.
    pub fn identity(&self) -> [u8; 32] {
        let scheme: &[u8] = if self.tls.is_some() {
            b"https"
        } else {
            b"http"
        };
        let mut context = digest::Context::new(&digest::SHA256);
        // None of them has a line break.
        for part in [scheme, self.host.as_bytes(), self.base_path.as_bytes()] {
            context.update(part);
            context.update(b"\n");
        }
        let mut identity = [0; 32];
        identity.copy_from_slice(context.finish().as_ref());
        identity
    }
}

/// Which versions of HTTP are spoken to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Over TLS what the backend chooses, HTTP/1.1 without.
    #[default]
    Auto,
    /// HTTP/1.1.
    Off,
    /// HTTP/2 and nothing else.
    PriorKnowledge,
}

/// What connections to a backend are protected with: the contents of files, as the configuration read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name or IP address that the backend's certificate must be valid for.
    pub server_name: Box<str>,
    /// Who may have issued it; `None`: whom the system trusts.
    pub authorities: Option<Certificates>,
    /// What the gate shows of itself where the backend asks.
    pub identity: Option<Identity>,
    /// Whether the backend's certificate is looked at.
    pub verify: Verify,
}

/// Whether a backend's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Issuer, time and name.
    Full,
    /// Not at all: whoever answers is believed. For tests; each load of the configuration warns of it.
    SkipForTests,
}

/// A backend's credential. The agent never sees it; it prints as nothing.
#[derive(Clone)]
pub struct Credential {
    /// Header name, lower case.
    pub header: Box<str>,
    /// The value sent. Secret.
    pub value: secrecy::SecretString,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.header)
    }
}
