//! Path templates: `/users/{user_id}`, `/models/{model}:predict`, `/files/{*path}`.
//!
//! A template is what a route matches behind its tool's mount, and what it captures there. It refuses literals that are
//! not canonical (they could never match a canonical target) and forms that readers take differently (`{id?}`, `{a}{b}`,
//! `:id`). Reading, matching and comparing stand in one file, for they must agree on every byte.

use super::route::call;
use super::target::{self, Ambiguity};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// A parsed path template. Two templates are of one shape when only the names of their parameters differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    segments: Box<[Segment]>,
    names: Arc<[Box<str>]>,
}

/// What one segment of a path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text; empty only as the last (a trailing slash).
    Literal(Box<str>),
    /// `{name}` with fixed text around it: one or more characters of one segment.
    Parameter(Affixes),
    /// `{*name}`: one or more segments to the end.
    Rest,
}

/// The fixed text around a parameter; both empty for a bare `{name}`. Holds no `%`, so it can't cut an encoded byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Affixes {
    pub(super) prefix: Box<str>,
    pub(super) suffix: Box<str>,
}

/// Why a text is not a template, and where: a byte offset into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct TemplateError {
    /// Byte offset of the offence.
    pub at: usize,
    /// What it is.
    pub fault: TemplateFault,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// Does not begin with `/`.
    #[error("a path template begins with `/`")]
    Start,
    /// Longer than [`TEMPLATE_BYTES_MAX`].
    #[error("a path template has at most {TEMPLATE_BYTES_MAX} bytes")]
    TooLong,
    /// `{` without `}`.
    #[error("`{{` is not closed in its segment")]
    Open,
    /// `}` without `{`.
    #[error("`}}` without `{{`")]
    Close,
    /// `{}`, `{id?}`, `{user-id}` and the like.
    #[error("`{0}` is not a parameter name: a letter or `_`, then letters, digits and `_`")]
    Name(Box<str>),
    /// One name twice.
    #[error("parameter `{0}` appears twice")]
    NameTwice(Box<str>),
    /// `{a}{b}`, `{a}-{b}`.
    #[error("a segment has at most one parameter")]
    Crowded,
    /// `{*rest}` that is not the last segment, or has text beside it.
    #[error("`{{*name}}` stands alone in the last segment")]
    Rest,
    /// More than [`PARAMETERS_MAX`].
    #[error("a path template has at most {PARAMETERS_MAX} parameters")]
    TooMany,
    /// `%` beside a parameter.
    #[error("percent-encoded text can't stand beside a parameter in one segment")]
    Percent,
    /// A literal that a canonical target never has.
    #[error("`{literal}` never matches: {ambiguity}")]
    Ambiguous {
        /// As written.
        literal: Box<str>,
        /// Why a target with it is refused.
        ambiguity: Ambiguity,
    },
    /// A literal that has another canonical spelling, or encodes a delimiter that may stand as it is.
    #[error("`{literal}` never matches: the canonical spelling is `{canonical}`")]
    NotCanonical {
        /// As written.
        literal: Box<str>,
        /// What to write.
        canonical: Box<str>,
    },
}

/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 2048;
/// Most parameters of one template; captures live on the stack.
pub const PARAMETERS_MAX: usize = 16;
/// Longest parameter name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a template captured of a path: byte ranges, still percent-encoded as canonical. Borrows both.
#[derive(Clone, Copy)]
pub struct Captures<'t> {
    names: &'t [Box<str>],
    path: &'t str,
    spans: Spans,
}

/// Parts of a path, in order, each within it.
#[derive(Clone, Copy, Default)]
pub(super) struct Spans {
    taken: usize,
    /// Targets are at most 8 KiB, so offsets fit.
    parts: [(u16, u16); PARAMETERS_MAX],
}

impl Spans {
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Forgets all but the first `taken`.
    pub(super) fn back_to(&mut self, taken: usize) {
        self.taken = taken;
    }

    /// `None`: there is no room for it.
    pub(super) fn push(&mut self, start: usize, end: usize) -> Option<()> {
        let part = (u16::try_from(start).ok()?, u16::try_from(end).ok()?);
        *self.parts.get_mut(self.taken)? = part;
        self.taken += 1;
        Some(())
    }
}

impl<'t> Captures<'t> {
    /// What parameters of these names captured of `path`. `None`: there are not as many.
    pub(super) fn new(names: &'t [Box<str>], path: &'t str, spans: Spans) -> Option<Self> {
        let fits = spans.taken == names.len();
        fits.then_some(Self { names, path, spans })
    }

    /// The same under the names of another template of the same shape.
    pub(super) fn renamed(&self, names: &'t [Box<str>]) -> Option<Self> {
        Self::new(names, self.path, self.spans)
    }

    /// The value of one parameter.
    pub fn get(&self, name: &str) -> Option<&'t str> {
        let position = self.names.iter().position(|have| **have == *name)?;
        Some(self.value(position))
    }

    /// Names and values in template order.
    pub fn iter(&self) -> impl Iterator<Item = (&'t str, &'t str)> + '_ {
        let named = self.names.iter().enumerate();
        named.map(|(position, name)| (&**name, self.value(position)))
    }

    fn value(&self, position: usize) -> &'t str {
        let (start, end) = self.spans.parts[position];
        &self.path[usize::from(start)..usize::from(end)]
    }
}

impl fmt::Debug for Captures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Template {
    /// The only door. The empty text is the template of a tool's bare mount (`/crm`, without a slash behind it).
    ///
    /// # Errors
    /// [`TemplateError`] with the byte offset.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let error = |at, fault| Err(TemplateError { at, fault });
        if text.len() > TEMPLATE_BYTES_MAX {
            return error(TEMPLATE_BYTES_MAX, TemplateFault::TooLong);
        }
        if !text.is_empty() && !text.starts_with('/') {
            return error(0, TemplateFault::Start);
        }
        let mut parsed = Parsed::default();
        let mut at = 1;
        let last = text.matches('/').count();
        for (position, part) in text.split('/').enumerate().skip(1) {
            parsed.push(part, at, position == last)?;
            at += part.len() + 1;
        }
        Ok(parsed.template(text))
    }

    /// Of a call that its body names: a method, and the name or URI template of what it is for. One that parses matches what
    /// [`called`](super::route::called) makes of a call.
    ///
    /// # Errors
    /// [`TemplateError`]; offsets are those into `text`.
    pub fn of_call(text: &str) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError {
                at: TEMPLATE_BYTES_MAX,
                fault: TemplateFault::TooLong,
            });
        }
        let (method, name) = match text.split_once(' ') {
            Some((method, name)) => (method, Some(name)),
            None => (text, None),
        };
        let mut parsed = Parsed::default();
        parsed
            .segments
            .push(Segment::Literal(call::segment(method).into()));
        let mut at = method.len() + 1;
        let parts: Vec<&str> = name.map_or_else(Vec::new, |name| name.split('/').collect());
        for (position, part) in parts.iter().enumerate() {
            let last = position + 1 == parts.len();
            // A literal is whatever it says; only what stands beside a parameter is bound to plain text.
            if part.contains(['{', '}']) {
                parsed.push(part, at, last)?;
            } else {
                parsed
                    .segments
                    .push(Segment::Literal(call::segment(part).into()));
            }
            at += part.len() + 1;
        }
        Ok(parsed.template(text))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names of the parameters, in order.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Shares the names with another template that has the same: what calls read all the time stays near.
    pub(super) fn share_names(&mut self, all: &mut HashSet<Arc<[Box<str>]>>) {
        match all.get(&self.names) {
            Some(have) => self.names = Arc::clone(have),
            None => drop(all.insert(Arc::clone(&self.names))),
        }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of its parameters, wherever they lie.
    pub(super) fn shared_names(&self) -> Arc<[Box<str>]> {
        Arc::clone(&self.names)
    }

    /// What it captures of a canonical path behind the mount; `None` if it does not match all of it.
    pub fn captures<'t>(&'t self, path: &'t str) -> Option<Captures<'t>> {
        let mut spans = Spans::default();
        let mut at = 0;
        for segment in &self.segments {
            let rest = path.get(at..)?.strip_prefix('/')?;
            at += 1;
            let text = &rest[..rest.bytes().position(|b| b == b'/').unwrap_or(rest.len())];
            match segment {
                Segment::Literal(literal) if **literal == *text => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(affixes) => {
                    let inner = affixes.inner(text)?;
                    let start = at + affixes.prefix.len();
                    spans.push(start, start + inner.len())?;
                }
                Segment::Rest if rest.is_empty() => return None,
                Segment::Rest => {
                    spans.push(at, path.len())?;
                    return Captures::new(&self.names, path, spans);
                }
            }
            at += text.len();
        }
        (at == path.len()).then_some(())?;
        Captures::new(&self.names, path, spans)
    }
}

/// A template in the making.
#[derive(Default)]
struct Parsed {
    segments: Vec<Segment>,
    names: Vec<Box<str>>,
}

impl Parsed {
    /// Takes one segment, which begins at `at`.
    fn push(&mut self, part: &str, at: usize, last: bool) -> Result<(), TemplateError> {
        let error = |fault| Err(TemplateError { at, fault });
        let (segment, name) = parse_segment(part, at, last)?;
        if segment == Segment::Rest && !last {
            return error(TemplateFault::Rest);
        }
        if let Some(name) = name {
            if self.names.iter().any(|have| **have == *name) {
                return error(TemplateFault::NameTwice(name.into()));
            }
            if self.names.len() == PARAMETERS_MAX {
                return error(TemplateFault::TooMany);
            }
            self.names.push(name.into());
        }
        self.segments.push(segment);
        Ok(())
    }

    fn template(self, text: &str) -> Template {
        Template {
            text: text.into(),
            segments: self.segments.into(),
            names: self.names.into(),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Affixes {
    fn inner<'s>(&self, segment: &'s str) -> Option<&'s str> {
        inner(segment, &self.prefix, &self.suffix)
    }
}

/// What a parameter with this text around it captures of `segment`: never nothing, never half an encoded byte.
pub(super) fn inner<'s>(segment: &'s str, prefix: &str, suffix: &str) -> Option<&'s str> {
    let inner = segment.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let bytes = inner.as_bytes();
    let cut = |back: usize| bytes.len().checked_sub(back).map(|at| bytes[at]) == Some(b'%');
    (!bytes.is_empty() && !cut(1) && !cut(2)).then_some(inner)
}

impl Segment {
    /// Whether some text is matched by both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match other {
            Segment::Literal(text) => self.meets_literal(text),
            Segment::Parameter(affixes) => self.meets_parameter(affixes),
            Segment::Rest => match self {
                Segment::Literal(text) => !text.is_empty(),
                Segment::Parameter(_) | Segment::Rest => true,
            },
        }
    }

    /// [`Segment::meets`] with a literal.
    pub(super) fn meets_literal(&self, text: &str) -> bool {
        match self {
            Segment::Literal(own) => **own == *text,
            Segment::Parameter(affixes) => affixes.inner(text).is_some(),
            Segment::Rest => !text.is_empty(),
        }
    }

    /// [`Segment::meets`] with a parameter.
    pub(super) fn meets_parameter(&self, affixes: &Affixes) -> bool {
        match self {
            Segment::Literal(own) => affixes.inner(own).is_some(),
            Segment::Parameter(own) => {
                let (x, y) = (&*own.prefix, &*affixes.prefix);
                let (v, w) = (&*own.suffix, &*affixes.suffix);
                (x.starts_with(y) || y.starts_with(x)) && (v.ends_with(w) || w.ends_with(v))
            }
            Segment::Rest => true,
        }
    }

    /// Whether all text matched by `self` is matched by `other`. Neither is a rest.
    fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (Segment::Parameter(a), Segment::Parameter(b)) => {
                a.prefix.starts_with(&*b.prefix) && a.suffix.ends_with(&*b.suffix)
            }
            (Segment::Literal(_), _) => self.meets(other),
            (Segment::Parameter(_) | Segment::Rest, _) => false,
        }
    }
}

/// How the paths of two templates lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// No path matches both.
    Apart,
    /// The same paths.
    Same,
    /// The first is more specific.
    Within,
    /// The second is more specific.
    Around,
    /// Some paths match both, and each has paths of its own.
    Crossing,
}

/// How the paths of `a` lie to those of `b`.
pub(super) fn relation(a: &[Segment], b: &[Segment]) -> Relation {
    if !meet(a, b) {
        return Relation::Apart;
    }
    match (within(a, b), within(b, a)) {
        (true, true) => Relation::Same,
        (true, false) => Relation::Within,
        (false, true) => Relation::Around,
        (false, false) => Relation::Crossing,
    }
}

fn meet(mut a: &[Segment], mut b: &[Segment]) -> bool {
    loop {
        match (a, b) {
            ([], []) => return true,
            // A rest swallows what is left, as long as that is not a lone trailing slash.
            ([Segment::Rest], [first, rest @ ..]) | ([first, rest @ ..], [Segment::Rest]) => {
                return !rest.is_empty() || Segment::Rest.meets(first);
            }
            ([x, next_a @ ..], [y, next_b @ ..]) if x.meets(y) => (a, b) = (next_a, next_b),
            ([], _) | (_, []) | ([_, ..], [_, ..]) => return false,
        }
    }
}

fn within(mut a: &[Segment], mut b: &[Segment]) -> bool {
    loop {
        match (a, b) {
            ([], []) => return true,
            ([first, rest @ ..], [Segment::Rest]) => {
                return !rest.is_empty() || Segment::Rest.meets(first);
            }
            ([x, next_a @ ..], [y, next_b @ ..]) if x.within(y) => (a, b) = (next_a, next_b),
            ([], _) | (_, []) | ([_, ..], [_, ..]) => return false,
        }
    }
}

/// One segment and the name of its parameter. `at` is its offset in the template.
fn parse_segment(
    part: &str,
    at: usize,
    last: bool,
) -> Result<(Segment, Option<&str>), TemplateError> {
    let error = |offset: usize, fault| {
        Err(TemplateError {
            at: at + offset,
            fault,
        })
    };
    let Some(open) = part.find('{') else {
        if let Some(close) = part.find('}') {
            return error(close, TemplateFault::Close);
        }
        check_literal(part, at, last)?;
        return Ok((Segment::Literal(part.into()), None));
    };
    let (prefix, inner) = (&part[..open], &part[open + 1..]);
    let Some(close) = inner.find('}') else {
        return error(open, TemplateFault::Open);
    };
    let (name, suffix) = (&inner[..close], &inner[close + 1..]);
    let behind = open + close + 2;
    if let Some(early) = prefix.find('}') {
        return error(early, TemplateFault::Close);
    }
    if let Some(second) = suffix.find(['{', '}']) {
        return error(behind + second, TemplateFault::Crowded);
    }
    let (name, is_rest) = match name.strip_prefix('*') {
        Some(name) => (name, true),
        None => (name, false),
    };
    if !is_parameter_name(name) {
        return error(open + 1, TemplateFault::Name(inner[..close].into()));
    }
    if is_rest {
        let alone = prefix.is_empty() && suffix.is_empty();
        return if alone {
            Ok((Segment::Rest, Some(name)))
        } else {
            error(open, TemplateFault::Rest)
        };
    }
    for (literal, offset) in [(prefix, 0), (suffix, behind)] {
        if let Some(percent) = literal.find('%') {
            return error(offset + percent, TemplateFault::Percent);
        }
        if !literal.is_empty() && !matches!(literal, "." | "..") {
            check_literal(literal, at + offset, false)?;
        }
    }
    let affixes = Affixes {
        prefix: prefix.into(),
        suffix: suffix.into(),
    };
    Ok((Segment::Parameter(affixes), Some(name)))
}

/// Whether a literal is spelt as canonical targets spell it. An empty one is a trailing slash, or `//`.
fn check_literal(literal: &str, at: usize, last: bool) -> Result<(), TemplateError> {
    let ambiguous = |ambiguity| TemplateFault::Ambiguous {
        literal: literal.into(),
        ambiguity,
    };
    if literal.is_empty() {
        let fault = ambiguous(Ambiguity::EmptySegment);
        return if last {
            Ok(())
        } else {
            Err(TemplateError { at, fault })
        };
    }
    let not_canonical = |canonical: &str| TemplateFault::NotCanonical {
        literal: literal.into(),
        canonical: canonical[1..].into(),
    };
    let path = format!("/{literal}");
    let fault = match target::canonical_path(&path) {
        Err(ambiguity) => ambiguous(ambiguity),
        Ok(canonical) if *canonical != *path => not_canonical(&canonical),
        // It would match one spelling of what backends take for the same.
        Ok(canonical) => match target::with_plain_delimiters(&canonical) {
            Some(plain) => not_canonical(&plain),
            None => return Ok(()),
        },
    };
    Err(TemplateError { at, fault })
}

fn is_parameter_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let head = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.len() <= NAME_BYTES_MAX
        && bytes.next().is_some_and(head)
        && bytes.all(|b| head(b) || b.is_ascii_digit())
}
