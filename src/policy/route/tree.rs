//! A tree over the segments of templates: which templates share paths with one (at build), and which one a path matches
//! first, most specific branch first (at look-up, for the templates that matchit can't hold).

use super::super::template::{Affixes, Segment};
use super::hash::Table;

/// A node stands behind some segments of some templates.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    literals: Table<Box<str>, Tree>,
    /// More specific affixes first.
    parameters: Vec<(Affixes, Tree)>,
    rest: Option<usize>,
    /// The shape that ends here.
    end: Option<usize>,
}

impl Tree {
    /// The shape that has just these segments, or `new`, which is put in its place.
    pub(super) fn insert(&mut self, segments: &[Segment], new: usize) -> usize {
        match segments {
            [] => *self.end.get_or_insert(new),
            [Segment::Rest, ..] => *self.rest.get_or_insert(new),
            [Segment::Literal(text), behind @ ..] => self
                .literals
                .entry(text.clone())
                .or_default()
                .insert(behind, new),
            [Segment::Parameter(affixes), behind @ ..] => {
                self.parameter(affixes).insert(behind, new)
            }
        }
    }

    fn parameter(&mut self, affixes: &Affixes) -> &mut Tree {
        let at = match self.parameters.iter().position(|(have, _)| have == affixes) {
            Some(at) => at,
            None => {
                // In front of the first that is wider: what lies within another is longer than it.
                let bytes = |affixes: &Affixes| affixes.prefix.len() + affixes.suffix.len();
                let wider = |(have, _): &(Affixes, Tree)| bytes(have) < bytes(affixes);
                let at = self
                    .parameters
                    .iter()
                    .position(wider)
                    .unwrap_or(self.parameters.len());
                self.parameters
                    .insert(at, (affixes.clone(), Tree::default()));
                at
            }
        };
        &mut self.parameters[at].1
    }

    /// Every shape that has a path in common with `segments`.
    pub(super) fn meeting(&self, segments: &[Segment], found: &mut Vec<usize>) {
        match segments {
            [] => found.extend(self.end),
            [Segment::Rest, ..] => self.below(found),
            [first, behind @ ..] => {
                if let Segment::Literal(text) = first {
                    if let Some(next) = self.literals.get(text) {
                        next.meeting(behind, found);
                    }
                } else {
                    for (text, next) in &self.literals {
                        if first.meets_literal(text) {
                            next.meeting(behind, found);
                        }
                    }
                }
                for (affixes, next) in &self.parameters {
                    if first.meets_parameter(affixes) {
                        next.meeting(behind, found);
                    }
                }
                // A lone trailing slash is no segment to a rest.
                if !behind.is_empty() || Segment::Rest.meets(first) {
                    found.extend(self.rest);
                }
            }
        }
    }

    /// Every shape that a rest at this node has paths in common with: one segment more at least, a lone trailing slash
    /// apart.
    fn below(&self, found: &mut Vec<usize>) {
        for (text, next) in &self.literals {
            if !text.is_empty() {
                next.all(found);
            }
        }
        for (_, next) in &self.parameters {
            next.all(found);
        }
        found.extend(self.rest);
    }

    /// Every shape of this node and behind it.
    fn all(&self, found: &mut Vec<usize>) {
        found.extend(self.end);
        found.extend(self.rest);
        self.literals.values().for_each(|next| next.all(found));
        self.parameters.iter().for_each(|(_, next)| next.all(found));
    }

    /// The first shape that matches a path behind this node, trying literals, then parameters, then the rest. Shapes of
    /// one table never cross, so the first is the most specific.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        if path.is_empty() {
            return self.end;
        }
        let behind_slash = path.strip_prefix('/')?;
        let slash = behind_slash.bytes().position(|byte| byte == b'/');
        let end = slash.unwrap_or(behind_slash.len());
        let (segment, behind) = behind_slash.split_at(end);
        if let Some(next) = self.literals.get(segment)
            && let Some(shape) = next.find(behind)
        {
            return Some(shape);
        }
        for (affixes, next) in &self.parameters {
            if affixes.inner(segment).is_some()
                && let Some(shape) = next.find(behind)
            {
                return Some(shape);
            }
        }
        self.rest.filter(|_| !behind_slash.is_empty())
    }
}
