//! A tree over the segments of templates, as they are put in: which templates share paths with one, and the order in
//! which their branches are tried. Look-ups use the [`super::index::Index`] made of it.

use super::super::template::{Affixes, Segment};
use std::collections::BTreeMap;

/// A node stands behind some segments of some templates.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) literals: BTreeMap<Box<str>, Tree>,
    /// More specific affixes first.
    pub(super) parameters: Vec<(Affixes, Tree)>,
    /// The shape whose rest begins here.
    pub(super) rest: Option<usize>,
    /// The shape that ends here.
    pub(super) end: Option<usize>,
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
}
