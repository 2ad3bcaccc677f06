//! PEM files that the YAML names: chains of certificates, private keys, bundles of authorities.
//!
//! They are configuration like the YAML itself: read when it is loaded, checked against each other, and handed on by
//! content, so that whoever swaps them in need not touch the disk. What is wrong with one is said at the place in the
//! YAML that names it. It refuses to judge what only a handshake can: whether a peer will trust them.

mod validity;

use super::error::Reports;
use super::leaf::Text;
use super::read::At;
use super::secrets::Vault;
use crate::policy::certificate::{Certificates, Identity, Thumbprint};
use crate::policy::time::Timestamp;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};
use std::path::Path;
use zeroize::Zeroizing;

/// Of the first certificate in a PEM file, for who is to be bound to it.
///
/// # Errors
/// Why there is none, in words that name the file.
pub fn thumbprint(path: &Path) -> Result<Thumbprint, String> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| format!("`{shown}` can't be read: {error}"))?;
    CertificateDer::from_pem_slice(&text)
        .map(|der| Thumbprint::of(&der))
        .map_err(|_| format!("there is no certificate in `{shown}`: {PEM}"))
}

/// All certificates in a PEM file.
///
/// # Errors
/// Why there is none, in words that name the file.
pub fn certificates_in(path: &Path) -> Result<Certificates, String> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| format!("`{shown}` can't be read: {error}"))?;
    let ders = CertificateDer::pem_slice_iter(&text).map(|der| Ok(Box::from(der?.as_ref())));
    ders.collect::<Result<_, rustls::pki_types::pem::Error>>()
        .ok()
        .and_then(Certificates::new)
        .ok_or_else(|| format!("there is no certificate in `{shown}`: {PEM}"))
}

/// The certificate in one PEM file and the private key in another.
///
/// # Errors
/// Why they can't be had, in words that name the file.
pub fn identity_in(certificate: &Path, private_key: &Path) -> Result<Identity, String> {
    let chain = certificates_in(certificate)?;
    let shown = private_key.display();
    let text = std::fs::read(private_key).map(Zeroizing::new);
    let text = text.map_err(|error| format!("`{shown}` can't be read: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| format!("there is no private key in `{shown}`"))?;
    let key = Zeroizing::new(key.secret_der().to_vec());
    Ok(Identity::new(chain, key))
}

/// A chain, leaf first, and the key that belongs to it. `None`: reported.
pub(super) fn identity(
    certificate: &At<Text>,
    private_key: &At<Text>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Identity> {
    let chain = chain(certificate, vault, reports);
    let key = key(private_key, vault, reports);
    let (chain, key) = (chain?, key?);
    // Loading the key here shows in time that it can be used at all.
    let owned = chain
        .ders()
        .map(|der| CertificateDer::from(der).into_owned());
    let fit = CertifiedKey::from_der(owned.collect(), key.clone_key(), &default_provider());
    match fit {
        Ok(_) => Some(Identity::new(
            chain,
            Zeroizing::new(key.secret_der().to_vec()),
        )),
        Err(Error::InconsistentKeys(_)) => {
            reports.error(
                private_key.place,
                format!(
                    "the private key in `{}` does not belong to the certificate in `{}`",
                    private_key.value.0, certificate.value.0
                ),
                "name the key that the certificate was made with; the file's first certificate must be the server's or client's own",
            );
            None
        }
        Err(_) => {
            reports.error(
                private_key.place,
                format!(
                    "the private key in `{}` is of a kind that is not supported",
                    private_key.value.0
                ),
                "use an RSA (2048 bits or more), ECDSA (P-256, P-384, P-521) or Ed25519 key",
            );
            None
        }
    }
}

/// Authorities whose certificates are trusted. `None`: reported.
pub(super) fn authorities(
    named: &At<Text>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Certificates> {
    let bundle = certificates(named, vault, reports)?;
    let mut roots = RootCertStore::empty();
    for (position, der) in bundle.ders().enumerate() {
        if roots.add(CertificateDer::from(der).into_owned()).is_err() {
            reports.error(
                named.place,
                format!(
                    "certificate {} in `{}` can't be read as that of an authority",
                    position + 1,
                    named.value.0
                ),
                "the file must hold the certificates of authorities in PEM, and no other",
            );
            return None;
        }
    }
    if let Some(last) = bundle
        .ders()
        .map(validity::not_after)
        .collect::<Option<Vec<_>>>()
        && let Some(last) = last.into_iter().max()
    {
        warn_expired(named, "every certificate", last, reports);
    }
    Some(bundle)
}

fn chain(named: &At<Text>, vault: &mut Vault<'_>, reports: &mut Reports) -> Option<Certificates> {
    let chain = certificates(named, vault, reports)?;
    let leaf = CertificateDer::from(chain.leaf());
    if ParsedCertificate::try_from(&leaf).is_err() {
        reports.error(
            named.place,
            format!("the first certificate in `{}` can't be read", named.value.0),
            "it must be an X.509 certificate of version 3; `openssl x509 -text -in FILE` shows it",
        );
        return None;
    }
    if let Some(until) = validity::not_after(chain.leaf()) {
        warn_expired(named, "the certificate", until, reports);
    }
    Some(chain)
}

/// Whether it is so depends on when somebody asks: loading knows no clock.
fn warn_expired(named: &At<Text>, what: &str, until: Timestamp, reports: &mut Reports) {
    reports.warn_from(
        until,
        named.place,
        format!(
            "{what} in `{}` expired at {}",
            named.value.0,
            validity::shown(until)
        ),
        "renew it: the gate takes the new file up as soon as it is there",
    );
}

fn certificates(
    named: &At<Text>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Certificates> {
    let text = read(named, "certificate", vault, reports)?;
    let ders: Result<Vec<Box<[u8]>>, _> = CertificateDer::pem_slice_iter(&text)
        .map(|der| der.map(|der| Box::from(der.as_ref())))
        .collect();
    let Ok(ders) = ders else {
        let message = format!("the file `{}` is not PEM that can be read", named.value.0);
        reports.error(named.place, message, PEM);
        return None;
    };
    let certificates = Certificates::new(ders);
    if certificates.is_none() {
        let message = format!("there is no certificate in `{}`", named.value.0);
        let help = if holds(&text, "PRIVATE KEY-----") {
            "it holds a private key: are the two names swapped?"
        } else {
            PEM
        };
        reports.error(named.place, message, help);
    }
    certificates
}

fn key(
    named: &At<Text>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<PrivateKeyDer<'static>> {
    let text = read(named, "private key", vault, reports)?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(&text) {
        return Some(key);
    }
    let (message, help) = if holds(&text, "BEGIN ENCRYPTED PRIVATE KEY")
        || holds(&text, "Proc-Type: 4,ENCRYPTED")
    {
        (
            format!("the private key in `{}` is encrypted", named.value.0),
            "nobody is there to type its passphrase: decrypt it with `openssl pkey -in FILE -out PLAIN`, and protect the file",
        )
    } else {
        (
            format!("there is no private key in `{}`", named.value.0),
            "it must hold one between `-----BEGIN PRIVATE KEY-----` and its END line",
        )
    };
    reports.error(named.place, message, help);
    None
}

fn read(
    named: &At<Text>,
    what: &str,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<Zeroizing<Vec<u8>>> {
    // Somebody may paste the PEM itself: the key must not be shown on the way to saying so.
    if holds(named.value.0.as_bytes(), "-----BEGIN") || named.value.0.contains('\n') {
        reports.hide(named.place);
        let message = format!("expected the name of a file with the {what}");
        reports.error(
            named.place,
            message,
            "write the PEM into a file and its name here",
        );
        return None;
    }
    vault.bytes(&named.value.0, what, named.place, reports)
}

fn holds(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|window| window == part.as_bytes())
}

const PEM: &str = "it must hold certificates between `-----BEGIN CERTIFICATE-----` and END lines";

#[cfg(test)]
mod tests;
