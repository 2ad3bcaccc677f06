//! How one side of a call is spoken: the five ways, at both ends of the gate.

use http::Version;

/// One way to speak HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// HTTP/1.1 in clear.
    H1,
    /// HTTP/1.1 over TLS.
    H1Tls,
    /// HTTP/2 in clear, by prior knowledge.
    H2c,
    /// HTTP/2 over TLS, by ALPN.
    H2Tls,
    /// TLS with certificates of both ends; HTTP/2 on the agents' side and HTTP/1.1 on the backend's, so that both are met.
    Mtls,
}

/// Whose end of the gate is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Agents,
    Backend,
}

impl Side {
    pub const ALL: [Side; 5] = [Side::H1, Side::H1Tls, Side::H2c, Side::H2Tls, Side::Mtls];

    pub fn name(self) -> &'static str {
        match self {
            Side::H1 => "h1",
            Side::H1Tls => "h1-tls",
            Side::H2c => "h2c",
            Side::H2Tls => "h2-tls",
            Side::Mtls => "mtls",
        }
    }

    pub fn version(self, end: End) -> Version {
        match (self, end) {
            (Side::H1 | Side::H1Tls, _) | (Side::Mtls, End::Backend) => Version::HTTP_11,
            (Side::H2c | Side::H2Tls, _) | (Side::Mtls, End::Agents) => Version::HTTP_2,
        }
    }

    pub fn is_encrypted(self) -> bool {
        matches!(self, Side::H1Tls | Side::H2Tls | Side::Mtls)
    }

    pub fn scheme(self) -> &'static str {
        if self.is_encrypted() { "https" } else { "http" }
    }

    /// What its TLS offers in ALPN, as a client and as a server of one version.
    pub fn alpn(self, end: End) -> Vec<Vec<u8>> {
        let name: &[u8] = match self.version(end) {
            Version::HTTP_2 => b"h2",
            _ => b"http/1.1",
        };
        vec![name.to_vec()]
    }
}
