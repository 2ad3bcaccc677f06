//! Identifiers that the gate gives out. All are UUIDv7 (RFC 9562), so they sort by time; the prefix says what they name.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// A text that is not an identifier of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of this kind")]
pub struct IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID made by the caller (`io::clock` has the entropy).
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID within.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = Uuid::encode_buffer();
                f.write_str($prefix)?;
                f.write_str(self.0.simple().encode_lower(&mut text))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let hex = text.strip_prefix($prefix).filter(|hex| hex.len() == 32).ok_or(IdError)?;
                if !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    return Err(IdError);
                }
                Uuid::try_parse(hex).map(Self).map_err(|_| IdError)
            }
        }
    };
}

id!(/// One run of an agent: `ses_` and 32 hex digits.
    SessionId, "ses_");
id!(/// One stored grant: `grt_` and 32 hex digits.
    GrantId, "grt_");
id!(/// One call: `req_` and 32 hex digits.
    RequestId, "req_");
id!(/// One approval: `apr_` and 32 hex digits.
    ApprovalId, "apr_");
id!(/// One message to the targets of `notify`: `msg_` and 32 hex digits.
    MessageId, "msg_");
