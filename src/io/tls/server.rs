//! TLS towards those who connect: agents and principals.
//!
//! One [`Server`] a listener. What new handshakes use is swapped as one value, so that no handshake sees the certificate of
//! one version and the authorities of another; connections that are open keep what they were made with. Tickets are sealed
//! with a key of each version's own: what was resumed was checked under the version in force.
//!
//! It refuses early data, which could be replayed, and to tell a peer more than an alert.

use super::{ALPN, provider};
use crate::config::{Clients, ListenerTls};
use crate::policy::certificate::{Certificates, Thumbprint};
use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, ServerConnection, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{Accept, TlsAcceptor};

/// What handshakes of one listener use.
pub struct Server(ArcSwap<ServerConfig>);

/// One version of it, built and not yet in force.
pub struct Version(Arc<ServerConfig>);

/// Why a listener can't speak TLS with what was configured.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsFault {
    /// Certificate, key, or an authority's certificate.
    #[error("a certificate or its private key can't be used: {0}")]
    Identity(rustls::Error),
    /// The clients' authorities.
    #[error("the clients' authorities can't be used: {0}")]
    Authorities(VerifierBuilderError),
    /// The random generator, or what stands on it.
    #[error("no key for session tickets could be made: {0}")]
    Tickets(rustls::Error),
}

impl Version {
    /// From what the configuration says.
    ///
    /// # Errors
    /// [`TlsFault`]: nothing of it is to be put in force.
    pub fn new(tls: &ListenerTls) -> Result<Self, TlsFault> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(TlsFault::Identity)?;
        let builder = match &tls.clients {
            Clients::Unasked => builder.with_no_client_auth(),
            Clients::Optional(authorities) => {
                let verifier = verifier(authorities)?.allow_unauthenticated().build();
                builder.with_client_cert_verifier(verifier.map_err(TlsFault::Authorities)?)
            }
            Clients::Required(authorities) => {
                let verifier = verifier(authorities)?.build();
                builder.with_client_cert_verifier(verifier.map_err(TlsFault::Authorities)?)
            }
        };
        let chain = tls.identity.chain.ders();
        let chain = chain.map(|der| CertificateDer::from(der).into_owned());
        let key = PrivateKeyDer::try_from(tls.identity.reveal_key())
            .map_err(|why| TlsFault::Identity(rustls::Error::General(why.to_owned())))?;
        let mut config = builder
            .with_single_cert(chain.collect(), key.clone_key())
            .map_err(TlsFault::Identity)?;
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        // Tickets keep sessions with the clients: no table here grows with them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(TlsFault::Tickets)?;
        Ok(Self(Arc::new(config)))
    }
}

fn verifier(authorities: &Certificates) -> Result<ClientCertVerifierBuilder, TlsFault> {
    let mut roots = RootCertStore::empty();
    for der in authorities.ders() {
        let added = roots.add(CertificateDer::from(der).into_owned());
        added.map_err(TlsFault::Identity)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider(),
    ))
}

impl Server {
    /// With its first version.
    pub fn new(version: Version) -> Self {
        Self(ArcSwap::new(version.0))
    }

    /// New handshakes use this from now on.
    pub fn put_in_force(&self, version: Version) {
        self.0.store(version.0);
    }

    /// A handshake with who has just connected.
    pub fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Accept<S> {
        TlsAcceptor::from(self.0.load_full()).accept(stream)
    }
}

/// Of the certificate that a client has shown, and that was checked.
pub fn thumbprint(connection: &ServerConnection) -> Option<Thumbprint> {
    let leaf = connection.peer_certificates()?.first()?;
    Some(Thumbprint::of(leaf))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Version")
    }
}
