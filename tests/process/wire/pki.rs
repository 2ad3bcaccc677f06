//! Certificates of a test: an authority, servers on the loopback address, one agent's; and what rustls makes of them.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An authority that only this test believes in.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    serials: AtomicU64,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Leaf {
    pub serial: u64,
    pub certificate: String,
    pub key: String,
    pub der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "the test's authority");
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            serials: AtomicU64::new(1000),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's, for `localhost` and the loopback address. Each has a serial number of its own.
    pub fn server(&self) -> Leaf {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.leaf(&names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's.
    pub fn client(&self) -> Leaf {
        self.leaf(
            &["agent.example".to_owned()],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    fn leaf(&self, names: &[String], purpose: ExtendedKeyUsagePurpose) -> Leaf {
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()[6..]));
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            serial,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A client that believes this authority alone, and shows `own` where it is asked.
    pub fn trusting(&self, own: Option<&Leaf>, alpn: Vec<Vec<u8>>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match own {
            Some(leaf) => builder
                .with_client_auth_cert(vec![leaf.der.clone()], leaf.private_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn;
        config
    }

    /// A server with `own`; where `mutual`, it accepts nobody without a certificate of this authority.
    pub fn serving(&self, own: &Leaf, mutual: bool, alpn: Vec<Vec<u8>>) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if mutual {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(vec![own.der.clone()], own.private_key())
            .unwrap();
        config.alpn_protocols = alpn;
        config
    }
}

impl Leaf {
    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }

    /// Puts it into `folder` as `NAME.pem` and `NAME.key`, each whole by renaming.
    pub fn write(&self, folder: &Path, name: &str) {
        put(&folder.join(format!("{name}.key")), &self.key);
        put(&folder.join(format!("{name}.pem")), &self.certificate);
    }
}

/// Replaces a file whole.
pub fn put(path: &Path, text: &str) {
    let beside = path.with_extension("next");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
