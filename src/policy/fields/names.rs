//! What a field's name says it is, and which other spellings of it some backends read as the same.

/// What a request's field is to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Well known, carried over.
    Plain,
    /// Well known, carried over, and read by the gate.
    Checked,
    /// Between the agent and the gate only.
    Hop,
    /// The gate frames, addresses and paces the request itself.
    Framing,
    /// `TE`: only `trailers` is passed on.
    Te,
    /// `Trailer`: what may not be a field may not be a trailer.
    Trailer,
    Via,
    Authorization,
    /// `Toolgate-*`.
    Gate,
    /// Says where a request comes from.
    Origin,
    /// Has some backends act on another method or path.
    Override,
    /// Carried over unless it is an alias of a protected name.
    Unknown,
}

impl Class {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "accept"
            | "accept-encoding"
            | "accept-language"
            | "user-agent"
            | "cookie"
            | "cache-control"
            | "date"
            | "origin"
            | "pragma"
            | "range"
            | "referer"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "tracestate"
            | "x-request-id" => Class::Plain,
            "content-type" | "content-encoding" | "idempotency-key" | "prefer" | "traceparent" => {
                Class::Checked
            }
            "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings" => Class::Hop,
            "content-length" | "host" | "expect" => Class::Framing,
            "te" => Class::Te,
            "trailer" => Class::Trailer,
            "via" => Class::Via,
            "authorization" => Class::Authorization,
            "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip" | "cf-connecting-ip" => {
                Class::Origin
            }
            "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-method"
            | "x-original-url"
            | "x-original-uri"
            | "x-rewrite-url"
            | "x-override-url" => Class::Override,
            _ if name.starts_with("toolgate-") => Class::Gate,
            _ if name.starts_with("x-forwarded-") || name == "x-forwarded" => Class::Origin,
            _ => Class::Unknown,
        }
    }
}

/// Protected names without case and punctuation, sorted.
pub(super) const PROTECTED_FOLDED: [&[u8]; 29] = [
    b"authorization",
    b"cfconnectingip",
    b"connection",
    b"contentencoding",
    b"contentlength",
    b"contenttype",
    b"expect",
    b"forwarded",
    b"host",
    b"idempotencykey",
    b"keepalive",
    b"proxyauthorization",
    b"proxyconnection",
    b"te",
    b"trailer",
    b"transferencoding",
    b"trueclientip",
    b"upgrade",
    b"via",
    b"xclientip",
    b"xhttpmethod",
    b"xhttpmethodoverride",
    b"xmethodoverride",
    b"xoriginalmethod",
    b"xoriginaluri",
    b"xoriginalurl",
    b"xoverrideurl",
    b"xrealip",
    b"xrewriteurl",
];

/// No protected name is longer; a longer credential name is compared by its family only, see [`Rules::is_alias`].
pub(super) const FOLDED_BYTES_MAX: usize = 64;

pub(super) fn is_of_family(folded: &[u8]) -> bool {
    folded.starts_with(b"toolgate") || folded.starts_with(b"xforwarded")
}

#[cfg(test)]
mod tests {
    #[test]
    fn protected_folded_names_are_sorted_for_the_search() {
        assert!(super::PROTECTED_FOLDED.is_sorted());
    }
}
