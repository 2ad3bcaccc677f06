//! The canonical request target: the one reading of host, path and query that is matched, recorded and forwarded.

/// A request target after the one normalisation. Only [`Target::parse`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Lower case, without port. Empty never.
    host: Box<str>,
    /// As received, lower case: host and port.
    authority: Box<str>,
    /// Canonical path, `?` and the query byte for byte.
    text: Box<str>,
    path_bytes: usize,
}

/// Why a target is refused. Ambiguity is never repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// `.` or `..` in any encoding.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `%2F`, `%5C`, `%00` or an encoded control character.
    #[error("the path has an encoded slash, backslash or control character")]
    EncodedDelimiter,
    /// `\`.
    #[error("the target has a backslash")]
    Backslash,
    /// `;`.
    #[error("the path has a `;` parameter")]
    PathParameter,
    /// `%` without two hex digits.
    #[error("the target has an invalid percent-encoding")]
    Percent,
    /// Decodes to bytes that are not UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
    /// `#`.
    #[error("the target has a fragment")]
    Fragment,
    /// A raw control character, space or byte beyond ASCII.
    #[error("the target has a character that must be percent-encoded")]
    Character,
    /// Longer than [`TARGET_BYTES_MAX`].
    #[error("the target is too long")]
    TooLong,
    /// Neither origin-form nor absolute-form.
    #[error("the target must begin with `/`")]
    Form,
    /// Absolute-form that disagrees with `Host`, or a `Host` that is none.
    #[error("the authority is missing, repeated, malformed or disagrees with `Host`")]
    Authority,
}

/// Longest target accepted, in bytes.
pub const TARGET_BYTES_MAX: usize = 8192;

impl Target {
    /// From the raw request-target and the one `Host` (or `:authority`) value.
    ///
    /// # Errors
    /// [`Ambiguity`]: two readers could disagree on what is meant.
    pub fn parse(_raw: &str, _host: &str) -> Result<Self, Ambiguity> {
        Err(Ambiguity::Form)
    }

    /// Host without port, lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Host and port as the agent sent them, lower case.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The canonical path; begins with `/`.
    pub fn path(&self) -> &str {
        &self.text[..self.path_bytes]
    }

    /// The query without `?`, byte for byte.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_bytes + 1..)
    }

    /// Path and query, as recorded and digested.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
