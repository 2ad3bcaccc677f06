//! The templates of one tool as readers see them who are not exact: who ignore case, a slash at the end, what stands behind
//! a name (spaces, dots, a parameter, a format), or make other characters of those it has.
//!
//! Beside the exact look-up, and only for paths that not all readers read alike: a path that such a reader takes for
//! another template's (`/users/ME`, `/users/me.json` beside `/users/me`) must not be judged by a wider one (`/users/{id}`).
//! It never finds a route; it says that there is none.

use super::super::target::alike;
use super::super::template::{Affixes, Segment};
use super::index::Index;
use super::tree::Tree;

/// The second look-up of one tool. One of a tool with one template refuses nothing but what is cut short.
#[derive(Clone, Debug, Default)]
pub(super) struct Loose {
    index: Index,
    /// Of each shape: the first one that loose readers can't tell from it.
    firsts: Box<[usize]>,
    /// Of each shape, as they see it.
    templates: Box<[Box<[Segment]>]>,
}

impl Loose {
    /// Of templates in the order of their shapes.
    pub(super) fn of<'s>(shapes: impl Iterator<Item = &'s [Segment]>) -> Self {
        let templates: Box<[Box<[Segment]>]> = shapes.map(seen).collect();
        let mut tree = Tree::default();
        let inserted = templates.iter().enumerate();
        let firsts = inserted.map(|(shape, segments)| tree.insert(segments, shape));
        Self {
            firsts: firsts.collect(),
            index: Index::of(&tree),
            templates,
        }
    }

    /// Whether no loose reader takes a path that matched `shape` for one of another that says more. A path that is cut
    /// short (`/users/7%3F/keys`) must be of the same one even then: what is left of it may be allowed to nobody. A rest goes
    /// as far as it is cut.
    pub(super) fn agrees(&self, shape: usize, path: &str) -> bool {
        let reading = alike::loosely(path);
        let same = |text: &str| match self.index.find(text) {
            None => !reading.is_cut || self.is_rest(shape, text),
            Some((other, _)) if other == self.firsts[shape] => true,
            Some((other, _)) => !reading.is_cut && !self.is_narrower(other, shape),
        };
        same(&reading.text) && alike::without_format(&reading.text).all(same)
    }

    /// Whether a shape says more of some segment than another does: then calls that the other one takes may be its own. Where
    /// both say all (`/openapi` beside `/openapi.json`) somebody wrote down both.
    fn is_narrower(&self, shape: usize, than: usize) -> bool {
        let mut both = self.templates[shape].iter().zip(&self.templates[than]);
        both.any(|(one, other)| said(one) > said(other))
    }

    /// Whether a shape is one with a rest that begins right behind `path`.
    fn is_rest(&self, shape: usize, path: &str) -> bool {
        let below = self.index.find(&format!("{path}/_"));
        self.templates[shape].ends_with(&[Segment::Rest])
            && below.is_some_and(|(other, _)| other == self.firsts[shape])
    }
}

/// How much a segment of a template says of those it matches.
fn said(segment: &Segment) -> usize {
    match segment {
        Segment::Literal(_) => usize::MAX,
        Segment::Parameter(Affixes { prefix, suffix }) => 1 + prefix.len() + suffix.len(),
        Segment::Rest => 0,
    }
}

/// A template in the spelling of [`alike::loosely`].
fn seen(segments: &[Segment]) -> Box<[Segment]> {
    let one = |segment: &Segment| match segment {
        Segment::Literal(text) => Segment::Literal(alike::name(text).into()),
        Segment::Parameter(affixes) => Segment::Parameter(Affixes {
            prefix: affixes.prefix.to_ascii_lowercase().into(),
            suffix: affixes.suffix.to_ascii_lowercase().into(),
        }),
        Segment::Rest => Segment::Rest,
    };
    let behind = match segments {
        [before @ .., Segment::Literal(last)] if last.is_empty() => before,
        all => all,
    };
    behind.iter().map(one).collect()
}
