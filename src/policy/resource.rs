//! Resources, `type:id`: what a call acts on, and the patterns a ceiling bounds them with.
//!
//! A wildcard exists only where the YAML writes it. Substituted values are literals: every byte of theirs that is not
//! plain is percent-encoded, so no attribute and no path segment can widen a pattern. A resource has one spelling: it is
//! ASCII, `:` stands only where a template or pattern writes it, and what must be encoded is encoded in upper case. What
//! writes that spelling and what reads it back stand in one file, because they must never differ.

use super::attributes::Attributes;
use super::subject::Session;
use super::template::Captures;
use smol_str::{SmolStr, SmolStrBuilder};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// A computed `type:id`. Only [`ResourceTemplate::fill`] and [`Resource::parse`] make one.
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
}

/// Bound of a computed resource.
pub const RESOURCE_BYTES_MAX: usize = 1024;

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
    /// A resource as a grant or an answer spells it.
    ///
    /// # Errors
    /// [`ResourceError`]: it is not in the one spelling, or no single resource.
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        match &*pieces(text, |name| Err(ResourceError::Placeholder(name.into())))? {
            [Part::Literal(literal)] => Ok(Self(SmolStr::new(literal))),
            _ => Err(ResourceError::Shape),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ResourceTemplate {
    /// What a route writes: literals, `{name}` (a path parameter, percent-decoded once) and `{session.name}`.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        let parts = pieces(text, |name| match name.strip_prefix("session.") {
            Some(attribute) if is_attribute_name(attribute) => Ok(Part::Session(attribute.into())),
            None if is_attribute_name(name) && !name.contains(['.', '-']) => {
                Ok(Part::Path(name.into()))
            }
            Some(_) | None => Err(ResourceError::Placeholder(name.into())),
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

    /// Path parameters it reads.
    pub fn path_parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Path(name) => Some(&**name),
            Part::Literal(_) | Part::Session(_) => None,
        })
    }

    /// The same with what the path gives written out: what is left to know is the session's.
    pub fn with_path(&self, captures: &Captures<'_>) -> Option<ResourcePattern> {
        let parts = self.parts.iter().map(|part| match part {
            Part::Path(name) => {
                let mut text = Text::default();
                text.push_decoded(captures.get(name)?)?;
                Some(Part::Literal(text.text.finish().as_str().into()))
            }
            Part::Literal(_) | Part::Session(_) => Some(part.clone()),
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
            Part::Literal(_) | Part::Path(_) => None,
        })
    }

    /// The resource of one call. `None` where something it reads is missing, decodes to other than UTF-8, or makes it
    /// too long: then there is no resource, and nothing that bounds resources allows the call.
    pub fn fill(&self, captures: &Captures<'_>, session: &Session) -> Option<Resource> {
        let mut text = Text::default();
        for part in &*self.parts {
            match part {
                Part::Literal(literal) => text.push(literal)?,
                Part::Path(name) => text.push_decoded(captures.get(name)?)?,
                Part::Session(name) => {
                    let value = session.attributes.get(name)?;
                    (!value.is_empty()).then_some(())?;
                    text.push_encoded(value)?;
                }
            }
        }
        Some(Resource(text.text.finish()))
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

    /// Whether a resource is one of those meant, for a session with these attributes. A missing attribute matches
    /// nothing. Does not allocate: values are compared as they would be encoded.
    pub fn matches(&self, resource: &Resource, attributes: &Attributes) -> bool {
        let mut rest = resource.as_str().as_bytes();
        for part in &*self.parts {
            let behind = match part {
                Part::Literal(literal) => rest.strip_prefix(literal.as_bytes()),
                Part::Session(name) => attributes
                    .get(name)
                    .filter(|value| !value.is_empty())
                    .and_then(|value| strip_encoded(rest, value)),
                // A pattern has none.
                Part::Path(_) => None,
            };
            match behind {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        rest.is_empty() != self.any_id
    }

    /// The attributes with which it matches a resource, where there are some that make it: what a session must have had
    /// whose attributes are not known. `None` also: it matches whatever the attributes, or never.
    pub fn solve(&self, resource: &Resource) -> Option<Attributes> {
        let reads = self
            .parts
            .iter()
            .any(|part| matches!(part, Part::Session(_)));
        if !reads || self.any_id {
            return None;
        }
        let mut found = Vec::new();
        solve(&self.parts, resource.as_str(), &mut found).then(|| found.into_iter().collect())
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
                // A pattern has none.
                Part::Path(_) => return None,
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
            Part::Literal(_) | Part::Path(_) => None,
        })
    }
}

/// Whether values for the session's parts make them read `rest`; those are put into `found`.
fn solve<'p>(parts: &'p [Part], rest: &str, found: &mut Vec<(&'p str, String)>) -> bool {
    let Some((part, behind)) = parts.split_first() else {
        return rest.is_empty();
    };
    match part {
        Part::Literal(literal) => rest
            .strip_prefix(&**literal)
            .is_some_and(|rest| solve(behind, rest, found)),
        Part::Path(_) => false,
        Part::Session(name) => {
            let known = found.iter().find(|(have, _)| *have == &**name);
            if let Some((_, value)) = known {
                let left = strip_encoded(rest.as_bytes(), value).map(<[u8]>::len);
                return left.is_some_and(|left| solve(behind, &rest[rest.len() - left..], found));
            }
            // A value never has a `:` that is not encoded.
            let end = rest.find(':').unwrap_or(rest.len());
            (1..=end).rev().any(|at| {
                let Some(value) = decoded(&rest[..at]) else {
                    return false;
                };
                found.push((name, value.into_owned()));
                let solved = solve(behind, &rest[at..], found);
                if !solved {
                    found.pop();
                }
                solved
            })
        }
    }
}

/// What canonical text stands for, a capture or a part of a resource. `None`: it is cut within an encoded byte, or is not
/// UTF-8.
pub(super) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let bytes = text.as_bytes();
    let (mut value, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            value.push(upper_hex_pair(bytes, at)?);
            at += 3;
        } else {
            value.push(byte);
            at += 1;
        }
    }
    String::from_utf8(value).ok().map(Cow::Owned)
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

/// A type is written out: it can't come from a call, so no call chooses which patterns look at it.
fn check_type(kind: &str) -> Result<(), ResourceError> {
    if kind.contains('{') {
        return Err(ResourceError::Shape);
    }
    if kind.contains('*') {
        return Err(ResourceError::Wildcard);
    }
    match kind
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        Some(wrong) => Err(ResourceError::Character(wrong)),
        None if kind.is_empty() => Err(ResourceError::Shape),
        None => Ok(()),
    }
}

fn check_literal(literal: &str) -> Result<(), ResourceError> {
    let bytes = literal.as_bytes();
    let mut characters = literal.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => {}
            '*' => return Err(ResourceError::Wildcard),
            '%' => {
                let byte = upper_hex_pair(bytes, at).ok_or(ResourceError::Percent)?;
                if is_plain(byte) {
                    return Err(ResourceError::Percent);
                }
                characters.nth(1);
            }
            _ if u8::try_from(character).is_ok_and(is_plain) => {}
            _ => return Err(ResourceError::Character(character)),
        }
    }
    Ok(())
}

fn upper_hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| match *bytes.get(at + offset)? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    Some(digit(1)? << 4 | digit(2)?)
}

/// Bytes of a value that stand in a resource as they are.
const fn is_plain(byte: u8) -> bool {
    PLAIN[byte as usize]
}

const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = may_stand(byte as u8);
        byte += 1;
    }
    plain
};

const fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'+'
                | b','
                | b'='
                | b'@'
        )
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// What stands in a resource for a byte that is not plain.
const fn encoded(byte: u8) -> [u8; 3] {
    [b'%', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]
}

fn push_byte(text: &mut String, byte: u8) {
    if is_plain(byte) {
        text.push(char::from(byte));
    } else {
        encoded(byte)
            .iter()
            .for_each(|&part| text.push(char::from(part)));
    }
}

/// A resource in the making; `None` from its methods: it would be too long.
#[derive(Default)]
struct Text {
    text: SmolStrBuilder,
    bytes: usize,
}

impl Text {
    fn push(&mut self, part: &str) -> Option<()> {
        self.bytes += part.len();
        (self.bytes <= RESOURCE_BYTES_MAX).then(|| self.text.push_str(part))
    }

    fn push_encoded(&mut self, value: &str) -> Option<()> {
        if value.bytes().all(is_plain) {
            return self.push(value);
        }
        let mut encoded = String::with_capacity(value.len() * 3);
        value.bytes().for_each(|byte| push_byte(&mut encoded, byte));
        self.push(&encoded)
    }

    /// Decodes a canonical capture once and appends it as a literal. `None` also: it is empty or not UTF-8.
    fn push_decoded(&mut self, capture: &str) -> Option<()> {
        match capture.is_empty() {
            true => None,
            false => self.push_encoded(&decoded(capture)?),
        }
    }
}

/// What is behind `value`, encoded, at the start of `text`.
fn strip_encoded<'r>(text: &'r [u8], value: &str) -> Option<&'r [u8]> {
    value.bytes().try_fold(text, |rest, byte| {
        if is_plain(byte) {
            rest.strip_prefix(&[byte])
        } else {
            rest.strip_prefix(&encoded(byte))
        }
    })
}

fn is_attribute_name(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().next().is_some_and(edge)
        && name
            .bytes()
            .all(|byte| edge(byte) || matches!(byte, b'.' | b'-'))
}
