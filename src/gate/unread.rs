//! Messages of HTTP/1.1 that can't be read as one: what is wrong with them, what is said of it, and what is left of them
//! on record.
//!
//! Beside the journey: such a message has no call, no session and no target that anybody could rely on. Who sent it is
//! counted as a stranger, and hears it in the form of every other refusal, as the last word on its connection.
//! It refuses to repeat anything of what was sent.

use super::Gate;
use crate::gate::record::Entry;
use crate::gate::refusal::Refusal;
use crate::gate::respond;
use crate::policy::decision::Reason;
use bytes::Bytes;
use http::{Response, StatusCode, Version};
use std::net::IpAddr;
use std::sync::Arc;

/// Why a head is not read (RFC 9112). Each is the end of its connection: where the next message begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A line that does not end in CRLF (section 2.2).
    #[error("each line of the head must end in CRLF")]
    LineEnd,
    /// NUL, a bare CR or another control character (RFC 9110, section 5.5).
    #[error("the head has a control character")]
    Control,
    /// Blanks before a field: `obs-fold`, or before the first one (sections 5.2 and 2.2).
    #[error("no line of the head may begin with a blank; write each field on one line")]
    Fold,
    /// More than one empty line before the request line (section 2.2).
    #[error("there are empty lines before the request line")]
    Blank,
    /// Not a method, a space, a target, a space and a version (section 3).
    #[error(
        "the request line must be a method, a target and `HTTP/1.1` with one space between them"
    )]
    RequestLine,
    /// Another version of HTTP (section 2.3).
    #[error("this listener reads HTTP/1.1 and HTTP/1.0 here; send `HTTP/1.1`")]
    Version,
    /// A target with a fragment, or with what no target has (section 3.2).
    #[error(
        "the target has a fragment or a character that must be percent-encoded; send a plain path"
    )]
    Target,
    /// A field without a name, with one that is no token, or with a blank before its colon (section 5.1).
    #[error("a field's name must be a token with a colon right behind it")]
    Name,
    /// `Content-Length` that stands there twice or is no plain number (section 6.3).
    #[error("`Content-Length` must stand there once, as a plain decimal number")]
    Length,
    /// Both ways of saying where the body ends (section 6.1).
    #[error("send `Content-Length` or `Transfer-Encoding`, not both")]
    Both,
    /// `Transfer-Encoding` of anything but `chunked`, once (section 6.1).
    #[error("the only transfer coding is `chunked`, once and without parameters")]
    Coding,
    /// A coding before `chunked` that is not known here (section 6.1).
    #[error("no transfer coding but `chunked` is known here; send the body without it")]
    UnknownCoding,
    /// `Transfer-Encoding` to HTTP/1.0, which has none (section 6.1).
    #[error("HTTP/1.0 has no `Transfer-Encoding`; send `Content-Length` or HTTP/1.1")]
    OldCoding,
    /// The request line passes its bound.
    #[error("the request line is too long")]
    LongTarget,
    /// The head, one of its lines or the number of its fields passes its bound.
    #[error("the head is too long or has too many fields")]
    LongHead,
    /// It did not come in time.
    #[error("the request's head did not arrive in time; send it again")]
    Late,
}

impl Flaw {
    /// How it is answered.
    pub fn status(self) -> StatusCode {
        match self {
            Flaw::LineEnd
            | Flaw::Control
            | Flaw::Fold
            | Flaw::Blank
            | Flaw::RequestLine
            | Flaw::Target
            | Flaw::Name
            | Flaw::Length
            | Flaw::Both
            | Flaw::Coding
            | Flaw::OldCoding => StatusCode::BAD_REQUEST,
            Flaw::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Flaw::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Flaw::LongTarget => StatusCode::URI_TOO_LONG,
            Flaw::LongHead => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Flaw::Late => StatusCode::REQUEST_TIMEOUT,
        }
    }

    fn reason(self) -> Reason {
        match self {
            Flaw::Target => Reason::TargetAmbiguous,
            Flaw::LineEnd
            | Flaw::Control
            | Flaw::Fold
            | Flaw::Blank
            | Flaw::RequestLine
            | Flaw::Version
            | Flaw::Name
            | Flaw::Length
            | Flaw::Both
            | Flaw::Coding
            | Flaw::UnknownCoding
            | Flaw::OldCoding
            | Flaw::LongTarget
            | Flaw::LongHead
            | Flaw::Late => Reason::RequestMalformed,
        }
    }

    fn refusal(self) -> Refusal {
        Refusal::new(self.reason(), self.to_string()).status(self.status())
    }
}

impl Gate {
    /// A message that could not be read came from `client`: counted, and answered. The whole answer, as HTTP/1.1 has it.
    pub fn unread(&self, client: IpAddr, flaw: Flaw) -> Bytes {
        let gate = &self.0;
        // Whoever connects and says nothing is no stranger that anybody must hear of: balancers do that to see who is alive.
        if flaw != Flaw::Late {
            gate.strangers.note(client);
        }
        let mut entry = Entry::unread(Arc::clone(gate), client);
        let response = entry.refuse_unread(flaw.refusal());
        written(&response)
    }
}

/// The same where there is no gate to count it: a document without the number of a request.
pub fn plain(flaw: Flaw) -> Bytes {
    written(&respond::anonymous(flaw.refusal()))
}

/// An answer as it goes over the wire, the last of its connection.
fn written(response: &Response<Bytes>) -> Bytes {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut text = format!("{:?} {} {reason}\r\n", Version::HTTP_11, status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let length = response.body().len();
    text.extend_from_slice(
        format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(),
    );
    text.extend_from_slice(response.body());
    text.into()
}
