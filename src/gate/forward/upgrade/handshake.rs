//! The opening handshake (RFC 6455 section 4, over HTTP/2 RFC 8441 section 5), judged on both sides.
//!
//! An agent's is judged before anything is decided, a backend's before anything of it is believed. Subprotocols and
//! extensions are the two sides' own affair and pass as they are.

use super::super::super::fields;
use super::super::UpstreamFault;
use crate::io::clock;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

/// A WebSocket that an agent asks for, properly.
pub struct Handshake {
    /// How the agent is answered.
    version: Version,
    /// As the agent sent it; over HTTP/2, where there is none, one of the gate's own for a backend that needs one.
    key: HeaderValue,
    /// The agent's connection or stream, once it was told of the switch.
    pub(super) agent: OnUpgrade,
}

/// A WebSocket that was not asked for properly: 400 `request_malformed`; [`HandshakeFault::Version`] is 426,
/// [`HandshakeFault::Unserved`] 501.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    /// `Upgrade` names more than the one protocol.
    #[error("a WebSocket is asked for with one `Upgrade: websocket` and nothing beside it")]
    Upgrade,
    /// RFC 6455 has no body in a handshake; what looks like one could be read as frames.
    #[error("a request for a WebSocket has no body")]
    Body,
    /// Absent, repeated, or not 16 bytes in base64.
    #[error("a WebSocket is asked for with one `Sec-WebSocket-Key` of 16 bytes in base64")]
    Key,
    /// Asked for by extended CONNECT on a route that serves none: any answer but a refusal would be read as a tunnel.
    #[error("this route serves no WebSocket; send an ordinary request")]
    Unserved,
    /// Not 13.
    #[error("of WebSocket only version 13 is served; send `Sec-WebSocket-Version: 13`")]
    Version,
}

/// Whether reserved bits of frames may be set: they are an extension's, and there is none unless both sides agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extensions {
    None,
    Agreed,
}

/// What the two sides' proof is made of (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const VERSION: &[u8] = b"13";

/// Reads a WebSocket asked for by extended CONNECT (RFC 8441) as the GET that it stands for, so that there is one
/// method to match, decide and record. Any other CONNECT stays one, and is refused as such.
pub fn read_as_get(head: &mut Parts) {
    if head.method == Method::CONNECT && is_extended(head) {
        head.method = Method::GET;
    }
}

/// Whether `head` is an extended CONNECT for a WebSocket: what an answer of 2xx means then is that it is one.
pub fn is_extended(head: &Parts) -> bool {
    let protocol = head.extensions.get::<Protocol>();
    head.version == Version::HTTP_2 && protocol.is_some_and(|asked| asked.as_str() == "websocket")
}

impl Handshake {
    /// What `head` asks for. `None`: no WebSocket; whatever else it wants to upgrade to is ignored, as RFC 9110
    /// section 7.8 lets a server do, and is not passed on.
    ///
    /// # Errors
    /// [`HandshakeFault`]: it wants a WebSocket, and two readers could differ on whether it asked for one.
    pub fn asked(head: &Parts, bodyless: bool) -> Result<Option<Self>, HandshakeFault> {
        let headers = &head.headers;
        let extended = is_extended(head);
        if !extended && !asks_to_switch(head) {
            return Ok(None);
        }
        if !extended && fields::listed(headers, &UPGRADE).count() != 1 {
            return Err(HandshakeFault::Upgrade);
        }
        if !bodyless || headers.contains_key(TRANSFER_ENCODING) || has_length(headers) {
            return Err(HandshakeFault::Body);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(VERSION) {
            return Err(HandshakeFault::Version);
        }
        let key = if extended {
            own_key()
        } else {
            let key = only(headers, &SEC_WEBSOCKET_KEY).ok_or(HandshakeFault::Key)?;
            if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
                return Err(HandshakeFault::Key);
            }
            key.clone()
        };
        // Absent only if the listener can't hand its connections over.
        let agent = head.extensions.get::<OnUpgrade>().cloned();
        Ok(agent.map(|agent| Self {
            version: head.version,
            key,
            agent,
        }))
    }

    /// Asks the backend in the agent's stead, in the form of `version`, whatever was left of the agent's own words.
    pub(super) fn ask(&self, headers: &mut HeaderMap, version: Version) {
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if version == Version::HTTP_2 {
            headers.remove(SEC_WEBSOCKET_KEY);
        } else {
            headers.insert(SEC_WEBSOCKET_KEY, self.key.clone());
        }
    }

    /// Whether the head that came with a switch, over `version`, is the answer to this handshake.
    ///
    /// # Errors
    /// [`UpstreamFault::Upgrade`]: it switches to something that nobody asked for.
    pub(super) fn judge(
        &self,
        headers: &HeaderMap,
        version: Version,
    ) -> Result<Extensions, UpstreamFault> {
        let proof = only(headers, &SEC_WEBSOCKET_ACCEPT);
        // Over HTTP/2 the stream's own answer is the proof.
        let proven = version == Version::HTTP_2
            || names(headers, &CONNECTION, b"upgrade")
                && names(headers, &UPGRADE, b"websocket")
                && fields::listed(headers, &UPGRADE).count() == 1
                && proof.is_some_and(|proof| proof.as_bytes() == accept(&self.key).as_bytes());
        if !proven || headers.contains_key(TRANSFER_ENCODING) || has_length(headers) {
            return Err(UpstreamFault::Upgrade);
        }
        Ok(Extensions::of(headers))
    }

    /// Tells the agent, in the form of its version, that its connection or stream is switched.
    pub(super) fn confirm(&self, head: &mut http::response::Parts) {
        if self.version == Version::HTTP_2 {
            head.status = StatusCode::OK;
            head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        } else {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            switch(&mut head.headers);
            head.headers.insert(SEC_WEBSOCKET_ACCEPT, accept(&self.key));
        }
        head.version = Version::HTTP_11;
    }

    /// Whether the agent would take this answer, which is no switch, for one.
    pub(super) fn is_misread(&self, status: StatusCode) -> bool {
        self.version == Version::HTTP_2 && status.is_success()
    }
}

/// Over HTTP/1.1.
fn asks_to_switch(head: &Parts) -> bool {
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && names(&head.headers, &CONNECTION, b"upgrade")
        && names(&head.headers, &UPGRADE, b"websocket")
}

fn own_key() -> HeaderValue {
    let key = STANDARD.encode(clock::random::<16>());
    HeaderValue::from_str(&key).expect("base64 is a field value")
}

impl Extensions {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            Extensions::Agreed
        } else {
            Extensions::None
        }
    }
}

/// The proof that a handshake with `key` was understood.
fn accept(key: &HeaderValue) -> HeaderValue {
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::from_str(&STANDARD.encode(proof)).expect("base64 is a field value")
}

/// The spelling of browsers: some backends compare case by case.
fn switch(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn names(headers: &HeaderMap, list: &HeaderName, wanted: &[u8]) -> bool {
    fields::listed(headers, list).any(|option| option.eq_ignore_ascii_case(wanted))
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn has_length(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .any(|length| length.as_bytes() != b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_rfcs_example() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
