//! Certificates and keys as values: what the configuration read from PEM files, and what a session may be bound to.
//!
//! Bytes and their digests, nothing more: this module refuses to know what TLS is. Whether they fit each other was found
//! out when they were loaded; what speaks with them is built elsewhere. Cloning shares.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// SHA-256 of a certificate's DER (RFC 8705, `x5t#S256`). Shown in base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// Of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256([der]))
    }

    /// From its 43 characters of base64url. `None`: not of this form.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().map(Self).ok()
    }

    /// From what [`Thumbprint::bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

/// Certificates in the order of their file: a chain, leaf first, or a bundle of authorities. Not empty.
/// Equal if their bytes are.
#[derive(Clone)]
pub struct Certificates(Arc<Listed>);

struct Listed {
    ders: Box<[Box<[u8]>]>,
    digest: [u8; 32],
}

impl Certificates {
    /// From DER. `None`: there is none.
    pub fn new(ders: Vec<Box<[u8]>>) -> Option<Self> {
        let digest = sha256(ders.iter().map(|der| &**der));
        (!ders.is_empty()).then(|| {
            Self(Arc::new(Listed {
                ders: ders.into(),
                digest,
            }))
        })
    }

    /// Each in DER.
    pub fn ders(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.ders.iter().map(|der| &**der)
    }

    /// The first of a chain: whose key speaks.
    pub fn leaf(&self) -> &[u8] {
        &self.0.ders[0]
    }

    /// SHA-256 over all of them.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }
}

impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Certificates {}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf = Thumbprint::of(self.leaf());
        write!(f, "Certificates({leaf}, {} in all)", self.ders().len())
    }
}

/// A certificate's chain and the private key that belongs to it. It prints without the key.
#[derive(Clone)]
pub struct Identity {
    /// Leaf first.
    pub chain: Certificates,
    key: Arc<Zeroizing<Vec<u8>>>,
    digest: [u8; 32],
}

impl Identity {
    /// `key` is DER: PKCS #8, PKCS #1 or SEC 1. That the two belong together is the caller's to have checked.
    pub fn new(chain: Certificates, key: Zeroizing<Vec<u8>>) -> Self {
        let digest = sha256([&chain.digest()[..], &key]);
        Self {
            chain,
            key: Arc::new(key),
            digest,
        }
    }

    /// The private key in DER. Secret.
    pub fn reveal_key(&self) -> &[u8] {
        &self.key
    }

    /// SHA-256 over chain and key.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.chain)
    }
}

/// Each part with its length before it, so that no two lists share a digest. A single part is digested as it is.
fn sha256<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; 32] {
    let mut parts = parts.into_iter().peekable();
    let mut context = digest::Context::new(&digest::SHA256);
    while let Some(part) = parts.next() {
        if parts.peek().is_some() {
            context.update(&(part.len() as u64).to_be_bytes());
        }
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_read_back_from_its_43_characters_alone() {
        let thumbprint = Thumbprint::of(b"certificate");
        let text = thumbprint.to_string();
        assert_eq!(text.len(), 43);
        assert_eq!(Thumbprint::parse(&text), Some(thumbprint));
        for wrong in ["", "abc", &text[1..], &format!("{text}="), &"=".repeat(43)] {
            assert_eq!(Thumbprint::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn equal_bytes_are_equal_and_a_key_is_never_printed() {
        let chain = |ders: &[&[u8]]| {
            Certificates::new(ders.iter().map(|der| Box::from(*der)).collect()).unwrap()
        };
        assert_eq!(chain(&[b"a", b"b"]), chain(&[b"a", b"b"]));
        assert_ne!(chain(&[b"a", b"b"]), chain(&[b"ab"]));
        assert!(Certificates::new(Vec::new()).is_none());
        let identity = |key: &[u8]| Identity::new(chain(&[b"a"]), Zeroizing::new(key.to_vec()));
        assert_eq!(identity(b"secret"), identity(b"secret"));
        assert_ne!(identity(b"secret"), identity(b"other"));
        assert!(!format!("{:?}", identity(b"secret")).contains("secret"));
    }
}
