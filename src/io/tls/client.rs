//! TLS towards backends: whom the gate believes, and what it shows of itself.
//!
//! A [`Connector`] is built from what the configuration read, once for equal contents, and kept by whatever connects with
//! it: a reload that changes nothing keeps its sessions to resume. Its [digest](Connector::digest) is the identity under
//! which connections are pooled, so that none is ever shared between two.
//!
//! It refuses to touch files (the system's roots apart, once), and to talk itself into an unchecked name: the only way
//! around the check is the key for tests that the configuration warns of.

use super::{ALPN, HTTP2, provider};
use crate::ledger::record::TlsFault;
use crate::policy::certificate::{Certificates, Identity};
use crate::policy::model::{Http2, UpstreamTls, Verify};
use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes TLS connections to one backend.
pub struct Connector {
    /// Offers the versions of HTTP that the tool is configured for.
    config: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone, for what HTTP/2 can't carry there.
    http1: Arc<ClientConfig>,
    name: ServerName<'static>,
    digest: [u8; 32],
}

/// Which versions of HTTP a handshake offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Those that the tool is configured for.
    Configured,
    /// HTTP/1.1 alone.
    Http1,
}

/// Why no connection could ever be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectorError {
    /// The system trusts nobody, and the tool names nobody.
    #[error(
        "no trusted certificates were found on this system; install them (the package is usually called `ca-certificates`), or name the backend's authority in `upstream.tls.ca`"
    )]
    NoRoots,
    /// The backend's name.
    #[error("`{0}` is no name or address that a certificate could be valid for")]
    Name(Box<str>),
    /// Certificates that can't be used.
    #[error("the certificates in `upstream.tls` can't be used: {0}")]
    Certificates(Box<str>),
}

impl Connector {
    /// The connector for `tls`; the very same for equal contents, while one lives.
    ///
    /// # Errors
    /// [`ConnectorError`].
    pub fn new(tls: &UpstreamTls, http2: Http2) -> Result<Arc<Self>, ConnectorError> {
        static KNOWN: LazyLock<Mutex<HashMap<[u8; 32], Weak<Connector>>>> =
            LazyLock::new(Mutex::default);
        let digest = digest(tls, http2);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = known.get(&digest).and_then(Weak::upgrade) {
            return Ok(connector);
        }
        let connector = Arc::new(Self::build(tls, http2, digest)?);
        known.retain(|_, connector| connector.strong_count() > 0);
        known.insert(digest, Arc::downgrade(&connector));
        Ok(connector)
    }

    fn build(tls: &UpstreamTls, http2: Http2, digest: [u8; 32]) -> Result<Self, ConnectorError> {
        let name = server_name(&tls.server_name)?;
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match tls.verify {
            Verify::Full => {
                let roots = roots(tls.authorities.as_ref())?;
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| ConnectorError::Certificates(error.to_string().into()))?;
                builder.with_webpki_verifier(verifier)
            }
            Verify::SkipForTests => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Credulous(provider))),
        };
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = own(identity)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(unusable)?
            }
        };
        config.alpn_protocols = match http2 {
            Http2::Auto => ALPN.map(<[u8]>::to_vec).into(),
            Http2::Off => vec![HTTP1.to_vec()],
            Http2::PriorKnowledge => vec![HTTP2.to_vec()],
        };
        config.resumption = Resumption::in_memory_sessions(NAMES_MAX);
        // A clone shares the sessions to resume.
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![HTTP1.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            http1: Arc::new(http1),
            name,
            digest,
        })
    }

    /// SHA-256 over everything that makes one connection other than another: names, certificates, key, versions.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The handshake over `stream`. Its deadline is the caller's.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub async fn connect(
        &self,
        stream: TcpStream,
        offer: Offer,
    ) -> Result<TlsStream<TcpStream>, TlsFault> {
        let config = match offer {
            Offer::Configured => &self.config,
            Offer::Http1 => &self.http1,
        };
        TlsConnector::from(Arc::clone(config))
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| fault_in(&error).unwrap_or(TlsFault::NotTls))
    }
}

/// Whether the backend chose HTTP/2.
pub fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

/// What of TLS is at the root of `error`, if anything is.
pub fn fault_in(error: &(dyn StdError + 'static)) -> Option<TlsFault> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(fault(tls));
        }
        // An io::Error's source is that of what it holds, not what it holds.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn fault(error: &rustls::Error) -> TlsFault {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::NoApplicationProtocol => TlsFault::NoHttp2,
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerSentOversizedRecord
        | rustls::Error::DecryptError => TlsFault::NotTls,
        rustls::Error::NoCertificatesPresented => TlsFault::BadCertificate,
        _ => TlsFault::NoAgreement,
    }
}

fn of_certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFault::NotYetValid
        }
        // The name of somebody trusted, and not their key: an authority of the same name issued it.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        CertificateError::Revoked => TlsFault::Revoked,
        _ => TlsFault::BadCertificate,
    }
}

fn of_alert(alert: AlertDescription) -> TlsFault {
    match alert {
        AlertDescription::CertificateRequired => TlsFault::CertificateDemanded,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => TlsFault::CertificateRefused,
        AlertDescription::NoApplicationProtocol => TlsFault::NoHttp2,
        _ => TlsFault::NoAgreement,
    }
}

fn unusable(error: rustls::Error) -> ConnectorError {
    ConnectorError::Certificates(error.to_string().into())
}

/// A name or an address; IPv6 may stand in brackets, as it does in a URL.
fn server_name(written: &str) -> Result<ServerName<'static>, ConnectorError> {
    let bare = written
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(written);
    ServerName::try_from(bare.to_owned()).map_err(|_| ConnectorError::Name(written.into()))
}

/// Whom to believe: the tool's own authorities instead of the system's, not beside them.
fn roots(own: Option<&Certificates>) -> Result<Arc<RootCertStore>, ConnectorError> {
    let Some(own) = own else {
        return system_roots();
    };
    let mut roots = RootCertStore::empty();
    for der in own.ders() {
        roots.add(CertificateDer::from(der)).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}

/// The system's, read once: they change with its packages, and a restart follows.
fn system_roots() -> Result<Arc<RootCertStore>, ConnectorError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's trusted certificates can't be read");
    }
    let mut roots = RootCertStore::empty();
    // Old systems carry a few that nobody can parse; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        // Not remembered: they may be installed before the next reload.
        return Err(ConnectorError::NoRoots);
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own(identity: &Identity) -> Result<Own, ConnectorError> {
    let chain = identity
        .chain
        .ders()
        .map(|der| CertificateDer::from(der).into_owned());
    let key = PrivateKeyDer::try_from(identity.reveal_key())
        .map_err(|error| ConnectorError::Certificates(error.into()))?;
    Ok((chain.collect(), key.clone_key()))
}

fn digest(tls: &UpstreamTls, http2: Http2) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&[http2 as u8, tls.verify as u8]);
    context.update(&(tls.server_name.len() as u64).to_be_bytes());
    context.update(tls.server_name.to_ascii_lowercase().as_bytes());
    let none = [0; 32];
    let authorities = tls.authorities.as_ref().map(Certificates::digest);
    let identity = tls.identity.as_ref().map(Identity::digest);
    for part in [authorities, identity] {
        context.update(&[u8::from(part.is_some())]);
        context.update(part.unwrap_or(&none));
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// Believes whoever answers. Signatures are checked all the same, so that tests meet the TLS that they would meet.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Names whose sessions are kept to be resumed: a connector has one.
const NAMES_MAX: usize = 1;

const HTTP1: &[u8] = b"http/1.1";
