//! TLS, from what the configuration read: rustls over aws-lc-rs, versions 1.2 and 1.3, never without checking the peer's
//! certificate where one is asked for.

pub mod client;
pub mod server;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use std::sync::{Arc, OnceLock};

/// HTTP/2 before HTTP/1.1.
const ALPN: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// The name of HTTP/2 among the protocols that a handshake settles on (RFC 9113, section 3.2).
pub const HTTP2: &[u8] = b"h2";

/// The one provider, given to every builder: never the process's default, which anybody could have set.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(default_provider())))
}
