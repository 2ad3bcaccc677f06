//! Resources, `type:id`: what a call acts on, and the patterns a ceiling bounds them with.
//!
//! A wildcard exists only where the YAML writes it. Substituted values are literals: `%`, `:`, `*`, `/` and control
//! characters in them are percent-encoded, so no attribute and no path segment can widen a pattern.

use std::collections::BTreeMap;
use std::fmt;

/// A computed `type:id`. Only [`ResourceTemplate::fill`] and [`Resource::parse`] make one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(Box<str>);

/// How a route computes its resource: `user:{user_id}`, `org:{org}:repo:{repo}` is one type `org` and an id of three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTemplate {
    pub(super) parts: Box<[Part]>,
}

/// What a ceiling allows: a literal, `type:*`, or a template over session attributes (`user:{session.customer_id}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePattern {
    pub(super) parts: Box<[Part]>,
    /// Ends in `*`, written in the YAML: matches any non-empty rest of the id.
    pub(super) any_id: bool,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as written.
    Literal(Box<str>),
    /// A path parameter of the route's match.
    Path(Box<str>),
    /// An attribute of the session.
    Session(Box<str>),
}

/// Why a text is not a resource, template or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// No `type:` in front, or nothing behind it.
    #[error("a resource is written `type:id`")]
    Shape,
    /// A `*` anywhere but as the whole id.
    #[error("`*` stands only for a whole id: `type:*`")]
    Wildcard,
    /// `{...}` that is not closed, is empty, or names what can't be read here.
    #[error("`{{{0}}}` can't be read here")]
    Placeholder(Box<str>),
    /// A character that would need percent-encoding.
    #[error("character {0:?} must be percent-encoded in a resource")]
    Character(char),
    /// Longer than [`RESOURCE_BYTES_MAX`].
    #[error("a resource has at most {RESOURCE_BYTES_MAX} bytes")]
    TooLong,
}

/// Bound of a computed resource.
pub const RESOURCE_BYTES_MAX: usize = 1024;

impl Resource {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Attribute look-up for patterns.
pub type Attributes = BTreeMap<Box<str>, Box<str>>;
