//! Signatures of Standard Webhooks: what tells a receiver that a message comes from this gate, whole and just now.
//!
//! `webhook-signature: v1,BASE64` is HMAC-SHA256 over `ID.TIMESTAMP.PAYLOAD`. While a secret is rotated there is one for
//! each, separated by spaces, so that a receiver that knows either believes. Nothing here prints a secret.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The value of `webhook-signature`: one signature for each of `secrets`, in their order.
pub(super) fn signatures<'a>(
    id: &str,
    seconds: i64,
    payload: &str,
    secrets: impl IntoIterator<Item = &'a [u8]>,
) -> String {
    let signed = format!("{id}.{seconds}.{payload}");
    let one = |secret: &[u8]| {
        let tag = hmac::sign(&Key::new(HMAC_SHA256, secret), signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    };
    let all: Vec<String> = secrets.into_iter().map(one).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the reference libraries of Standard Webhooks test themselves with.
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const PAYLOAD: &str = "{\"test\": 2432232314}";

    #[test]
    fn a_signature_is_the_one_of_the_reference_libraries() {
        let secret = STANDARD.decode(SECRET).unwrap();
        assert_eq!(
            signatures(ID, 1_614_265_330, PAYLOAD, [secret.as_slice()]),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_byte_less_or_more_anywhere_is_another_signature() {
        let of =
            |id: &str, seconds, payload: &str| signatures(id, seconds, payload, [&b"secret"[..]]);
        let one = of("msg_1", 7, "{}");
        for other in [
            of("msg_2", 7, "{}"),
            of("msg_1", 8, "{}"),
            of("msg_1", 7, "{} "),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn during_a_rotation_each_secret_signs() {
        let of = |secrets: &[&'static [u8]]| signatures(ID, 7, PAYLOAD, secrets.iter().copied());
        assert_eq!(
            of(&[b"new", b"old"]),
            format!("{} {}", of(&[b"new"]), of(&[b"old"]))
        );
    }
}
