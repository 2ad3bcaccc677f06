//! Resources, `type:id`: what a call acts on, and the patterns a ceiling bounds them with.
//!
//! A wildcard exists only where the YAML writes it. Substituted values are literals: every byte of theirs that is not
//! plain is percent-encoded, so no attribute and nothing that a call says can widen a pattern. A resource has one
//! spelling ([`spelling`]): it is ASCII, `:` stands only where a template or pattern writes it, and what must be encoded is
//! encoded in upper case. What a call acts on is found by filling the route's template ([`fill`]).

mod fill;
mod homograph;
mod solve;
mod spelling;

use super::attributes::Attributes;
use super::condition::Pointer;
use super::content::is_token;
use super::template::Captures;
use smol_str::SmolStr;
use spelling::{check_literal, check_type, push_byte, strip_encoded};
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

pub use fill::Unfilled;
pub use solve::Untried;
pub(super) use spelling::decoded;

/// What a call acts on: a computed `type:id`, or several, each once, in order of first appearance, with one space
/// between; no single one has a space in it. Only [`ResourceTemplate::fill`], [`Resource::parse`] and
/// [`Resource::parse_recorded`] make one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(SmolStr);

/// How a route computes its resource: `user:{user_id}`, `org:{org}:repo:{repo}` is one type `org` and an id of three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTemplate {
    pub(super) parts: Arc<[Part]>,
}

/// What a ceiling allows: a literal, `type:*`, or a template over session attributes (`user:{session.customer_id}`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourcePattern {
    pub(super) parts: Arc<[Part]>,
    /// Ends in `*`, written in the YAML: matches any non-empty rest of the id.
    pub(super) any_id: bool,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text as written.
    Literal(Box<str>),
    /// A path parameter of the route's match.
    Path(Box<str>),
    /// An attribute of the session.
    Session(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
    /// A header field, named in lower case.
    Header(Box<str>),
    /// A place in the body: text, a whole number, or a list of them.
    Body(Pointer),
    /// The same in the arguments of a tool or function.
    Args(Pointer),
    /// The id of what a function is asked about.
    Id,
    /// A place in the properties of what a function is asked about.
    Property(Pointer),
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
    /// `%` without two upper-case hex digits, or before those of a character that is written as it is.
    #[error(
        "`%` stands in a resource only before the two upper-case hex digits of a byte that must be encoded"
    )]
    Percent,
    /// Longer than [`RESOURCE_BYTES_MAX`].
    #[error("a resource has at most {RESOURCE_BYTES_MAX} bytes")]
    TooLong,
    /// Several where one is meant, or not each once with one space between.
    #[error("one resource is meant, or several, each once, with a single space between")]
    Several,
}

/// Bound of one computed resource.
pub const RESOURCE_BYTES_MAX: usize = 1024;
/// A call acts on no more.
pub const RESOURCES_MAX: usize = 64;
/// Bound of all that one call acts on, together.
pub const RESOURCES_BYTES_MAX: usize = 8192;

/// What is equal lies in one place: most routes and ceilings of a policy write the same few templates and patterns, and
/// those that calls read all the time stay near.
#[derive(Debug, Default)]
pub(super) struct Shared {
    templates: HashSet<Arc<[Part]>>,
    patterns: HashSet<Arc<[ResourcePattern]>>,
}

impl Shared {
    pub(super) fn template(&mut self, template: &mut ResourceTemplate) {
        share(&mut self.templates, &mut template.parts);
    }

    pub(super) fn patterns(&mut self, patterns: &mut Arc<[ResourcePattern]>) {
        share(&mut self.patterns, patterns);
    }
}

fn share<T: ?Sized + Eq + Hash>(all: &mut HashSet<Arc<T>>, one: &mut Arc<T>) {
    match all.get(one) {
        Some(have) => *one = Arc::clone(have),
        None => drop(all.insert(Arc::clone(one))),
    }
}

impl Resource {
    /// One resource, as a grant spells it.
    ///
    /// # Errors
    /// [`ResourceError`]: it is not in the one spelling, or no single resource.
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        match &*pieces(text, |name| Err(ResourceError::Placeholder(name.into())))? {
            [Part::Literal(literal)] => Ok(Self(SmolStr::new(literal))),
            _ => Err(ResourceError::Shape),
        }
    }

    /// One or several, as records, rows and approvals hold what a call acted on.
    ///
    /// # Errors
    /// [`ResourceError`]: no call acts on that.
    pub fn parse_recorded(text: &str) -> Result<Self, ResourceError> {
        if !text.contains(' ') {
            return Self::parse(text);
        }
        if text.len() > RESOURCES_BYTES_MAX {
            return Err(ResourceError::TooLong);
        }
        let mut seen = HashSet::new();
        for one in text.split(' ') {
            Self::parse(one)?;
            if !seen.insert(one) || seen.len() > RESOURCES_MAX {
                return Err(ResourceError::Several);
            }
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// The text; of several, all in one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Each by itself; most often it is one.
    pub fn each(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ')
    }

    /// Whether every one of them is matched by a pattern of a list.
    pub fn is_within(&self, patterns: &[ResourcePattern], attributes: &Attributes) -> bool {
        self.each().all(|one| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| pattern.matches_one(one, attributes))
        })
    }
}

impl ResourceTemplate {
    /// What a route writes: literals, `{name}` (a path parameter, percent-decoded once) and `{session.name}`,
    /// `{query.name}`, `{header.name}`, `{body./pointer}`, `{args./pointer}`, `{resource.id}`,
    /// `{resource.properties./pointer}`.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        let parts = pieces(text, |name| {
            placeholder(name).ok_or_else(|| ResourceError::Placeholder(name.into()))
        })?;
        Ok(Self {
            parts: parts.into(),
        })
    }

    /// What it reads.
    pub fn placeholders(&self) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter(|part| !matches!(part, Part::Literal(_)))
    }

    /// Whether a body has to be read for it.
    pub fn reads_body(&self) -> bool {
        self.parts.iter().any(Part::reads_body)
    }

    /// Path parameters it reads.
    pub fn path_parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Path(name) => Some(&**name),
            _ => None,
        })
    }

    /// The same with what the path gives written out: what is left to know is the session's. `None`: a path parameter
    /// can't be used, or it reads more than the path and the session.
    pub fn with_path(&self, captures: &Captures<'_>) -> Option<ResourcePattern> {
        let parts = self.parts.iter().map(|part| match part {
            Part::Path(name) => {
                let value = decoded(captures.get(name)?).filter(|value| !value.is_empty())?;
                let mut text = String::with_capacity(value.len());
                value.bytes().for_each(|byte| push_byte(&mut text, byte));
                Some(Part::Literal(text.into()))
            }
            Part::Literal(_) | Part::Session(_) => Some(part.clone()),
            _ => None,
        });
        Some(ResourcePattern {
            parts: parts.collect::<Option<Vec<_>>>()?.into(),
            any_id: false,
        })
    }

    /// Session attributes it reads.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Session(name) => Some(&**name),
            _ => None,
        })
    }
}

impl Part {
    /// Whether a body has to be read for it.
    pub const fn reads_body(&self) -> bool {
        match self {
            Part::Body(_) | Part::Args(_) | Part::Id | Part::Property(_) => true,
            Part::Literal(_)
            | Part::Path(_)
            | Part::Session(_)
            | Part::Query(_)
            | Part::Header(_) => false,
        }
    }
}

impl ResourcePattern {
    /// What a ceiling in the YAML writes: a literal, `type:*`, or literals and `{session.name}`.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        Self::read(text, |name| match name.strip_prefix("session.") {
            Some(attribute) if is_attribute_name(attribute) => Ok(Part::Session(attribute.into())),
            Some(_) | None => Err(ResourceError::Placeholder(name.into())),
        })
    }

    /// What narrowing at minting writes: a literal or `type:*`; nothing in it is substituted.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub fn parse_literal(text: &str) -> Result<Self, ResourceError> {
        Self::read(text, |name| Err(ResourceError::Placeholder(name.into())))
    }

    fn read(
        text: &str,
        placeholder: impl Fn(&str) -> Result<Part, ResourceError>,
    ) -> Result<Self, ResourceError> {
        if let Some(kind) = text.strip_suffix(":*") {
            check_type(kind)?;
            return Ok(Self {
                parts: [Part::Literal(text[..text.len() - 1].into())].into(),
                any_id: true,
            });
        }
        Ok(Self {
            parts: pieces(text, placeholder)?.into(),
            any_id: false,
        })
    }

    /// Whether a resource is one of those meant, and of several each, for a session with these attributes. A missing
    /// attribute matches nothing. Does not allocate: values are compared as they would be encoded.
    pub fn matches(&self, resource: &Resource, attributes: &Attributes) -> bool {
        resource.each().all(|one| self.matches_one(one, attributes))
    }

    fn matches_one(&self, resource: &str, attributes: &Attributes) -> bool {
        let mut rest = resource.as_bytes();
        for part in &*self.parts {
            let behind = match part {
                Part::Literal(literal) => rest.strip_prefix(literal.as_bytes()),
                Part::Session(name) => attributes
                    .get(name)
                    .filter(|value| !value.is_empty())
                    .and_then(|value| strip_encoded(rest, value)),
                // A pattern has none of those.
                _ => None,
            };
            match behind {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        rest.is_empty() != self.any_id
    }

    /// As it reads for a session with these attributes, for showing only: `None` where one is missing.
    pub fn filled(&self, attributes: &Attributes) -> Option<String> {
        let mut text = String::new();
        for part in &*self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Session(name) => {
                    let value = attributes.get(name).filter(|value| !value.is_empty())?;
                    value.bytes().for_each(|byte| push_byte(&mut text, byte));
                }
                // A pattern has none of those.
                _ => return None,
            }
        }
        if self.any_id {
            text.push('*');
        }
        Some(text)
    }

    /// Attributes it reads.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Session(name) => Some(&**name),
            _ => None,
        })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Literal(literal) => f.write_str(literal),
            Part::Path(name) => write!(f, "{{{name}}}"),
            Part::Session(name) => write!(f, "{{session.{name}}}"),
            Part::Query(name) => write!(f, "{{query.{name}}}"),
            Part::Header(name) => write!(f, "{{header.{name}}}"),
            Part::Body(pointer) => write!(f, "{{body.{pointer}}}"),
            Part::Args(pointer) => write!(f, "{{args.{pointer}}}"),
            Part::Id => f.write_str("{resource.id}"),
            Part::Property(pointer) => write!(f, "{{resource.properties.{pointer}}}"),
        }
    }
}

impl fmt::Display for ResourceTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| part.fmt(f))
    }
}

impl fmt::Display for ResourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| part.fmt(f))?;
        if self.any_id {
            f.write_str("*")
        } else {
            Ok(())
        }
    }
}

/// Literals and placeholders of a text that has a literal type and something behind it.
fn pieces(
    text: &str,
    placeholder: impl Fn(&str) -> Result<Part, ResourceError>,
) -> Result<Vec<Part>, ResourceError> {
    if text.len() > RESOURCE_BYTES_MAX {
        return Err(ResourceError::TooLong);
    }
    let (kind, id) = text.split_once(':').ok_or(ResourceError::Shape)?;
    check_type(kind)?;
    if id.is_empty() {
        return Err(ResourceError::Shape);
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let open = rest.find('{').unwrap_or(rest.len());
        let (literal, behind) = rest.split_at(open);
        if !literal.is_empty() {
            check_literal(literal)?;
            parts.push(Part::Literal(literal.into()));
        }
        rest = match behind.strip_prefix('{') {
            None => "",
            Some(inner) => {
                let (name, behind) = inner
                    .split_once('}')
                    .ok_or_else(|| ResourceError::Placeholder(inner.into()))?;
                parts.push(placeholder(name)?);
                behind
            }
        };
    }
    Ok(parts)
}

/// What a route's template may read.
fn placeholder(name: &str) -> Option<Part> {
    let pointer = |text: &str| Pointer::parse(text);
    match name.split_once('.') {
        None => (is_attribute_name(name) && !name.contains('-')).then(|| Part::Path(name.into())),
        Some(("session", name)) => is_attribute_name(name).then(|| Part::Session(name.into())),
        Some(("query", name)) => (!name.is_empty()).then(|| Part::Query(name.into())),
        Some(("header", name)) => {
            is_token(name.as_bytes()).then(|| Part::Header(name.to_ascii_lowercase().into()))
        }
        Some(("body", text)) => pointer(text).map(Part::Body),
        Some(("args", text)) => pointer(text).map(Part::Args),
        Some(("resource", "id")) => Some(Part::Id),
        Some(("resource", text)) => pointer(text.strip_prefix("properties.")?).map(Part::Property),
        Some(_) => None,
    }
}

fn is_attribute_name(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().next().is_some_and(edge)
        && name
            .bytes()
            .all(|byte| edge(byte) || matches!(byte, b'.' | b'-'))
}
