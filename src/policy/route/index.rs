//! The templates of one tool, laid out for look-ups: a [`Tree`] flattened into a few arrays, so that a call touches a
//! handful of cache lines however many routes there are.
//!
//! Literals of all nodes lie in one hash table, keyed by node and text. What parameters capture is noted on the way, so
//! that the template itself is not looked at again.

use super::super::template::{Spans, inner};
use super::hash::Multiply;
use super::tree::Tree;
use std::collections::HashMap;
use std::hash::Hasher as _;

/// The look-up of one tool's templates.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The first is the root.
    nodes: Box<[Node]>,
    /// Open addressing; as many as a power of two, at most half of them taken.
    literals: Box<[Literal]>,
    /// Of each node those in front, more specific ones first.
    parameters: Box<[Parameter]>,
    /// Every text once.
    text: Box<str>,
}

/// Stands behind some segments of some templates.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The shape that ends here, or [`NOTHING`].
    end: u32,
    /// The shape whose rest begins here, or [`NOTHING`].
    rest: u32,
    /// Where its parameters begin, and how many there are.
    parameters: u32,
    parameter_count: u16,
    has_literals: bool,
}

/// A step from one node to another over a literal segment. To the root: none, the place is free.
#[derive(Clone, Copy, Debug, Default)]
struct Literal {
    from: u32,
    to: u32,
    text: Text,
}

/// A step over a parameter.
#[derive(Clone, Copy, Debug)]
struct Parameter {
    to: u32,
    prefix: Text,
    suffix: Text,
}

/// A part of [`Index::text`].
#[derive(Clone, Copy, Debug, Default)]
struct Text {
    start: u32,
    length: u32,
}

const ROOT: u32 = 0;
const NOTHING: u32 = u32::MAX;

impl Index {
    /// What `tree` finds.
    pub(super) fn of(tree: &Tree) -> Self {
        let mut layout = Layout::default();
        layout.node(tree);
        let mut literals =
            vec![Literal::default(); (layout.literals.len() * 2).next_power_of_two()];
        for (literal, text) in layout.literals {
            let mut at = slot(literal.from, &text, literals.len());
            while literals[at].to != ROOT {
                at = (at + 1) % literals.len();
            }
            literals[at] = literal;
        }
        Self {
            nodes: layout.nodes.into(),
            literals: literals.into(),
            parameters: layout.parameters.into(),
            text: layout.text.into(),
        }
    }

    /// The first shape that matches a path, trying literals, then parameters, then the rest; and what its parameters
    /// capture. Shapes of one table never cross, so the first is the most specific.
    pub(super) fn find(&self, path: &str) -> Option<(usize, Spans)> {
        let mut spans = Spans::default();
        let shape = self.behind(ROOT, path, 0, &mut spans)?;
        Some((shape as usize, spans))
    }

    /// The first shape behind a node that matches `path` from `at` on.
    fn behind(&self, node: u32, path: &str, at: usize, spans: &mut Spans) -> Option<u32> {
        let node_at = self.nodes.get(node as usize)?;
        if at == path.len() {
            return (node_at.end != NOTHING).then_some(node_at.end);
        }
        let start = at + 1;
        let rest = path.get(at..)?.strip_prefix('/')?;
        let slash = rest.bytes().position(|byte| byte == b'/');
        let segment = &rest[..slash.unwrap_or(rest.len())];
        let end = start + segment.len();
        if node_at.has_literals
            && let Some(next) = self.literal(node, segment)
            && let Some(shape) = self.behind(next, path, end, spans)
        {
            return Some(shape);
        }
        let first = node_at.parameters as usize;
        for parameter in &self.parameters[first..first + usize::from(node_at.parameter_count)] {
            let taken = spans.taken();
            if let Some((before, after)) = self.around(parameter, segment)
                && spans.push(start + before, end - after).is_some()
            {
                if let Some(shape) = self.behind(parameter.to, path, end, spans) {
                    return Some(shape);
                }
                spans.back_to(taken);
            }
        }
        let is_rest = node_at.rest != NOTHING && !rest.is_empty();
        (is_rest && spans.push(start, path.len()).is_some()).then_some(node_at.rest)
    }

    fn literal(&self, from: u32, segment: &str) -> Option<u32> {
        let mut at = slot(from, segment, self.literals.len());
        loop {
            let literal = &self.literals[at];
            if literal.to == ROOT {
                return None;
            }
            if literal.from == from && self.text(literal.text) == segment {
                return Some(literal.to);
            }
            at = (at + 1) % self.literals.len();
        }
    }

    /// How much of a segment is the fixed text before and after what a parameter captures.
    fn around(&self, parameter: &Parameter, segment: &str) -> Option<(usize, usize)> {
        let (prefix, suffix) = (self.text(parameter.prefix), self.text(parameter.suffix));
        inner(segment, prefix, suffix)?;
        Some((prefix.len(), suffix.len()))
    }

    fn text(&self, text: Text) -> &str {
        let start = text.start as usize;
        &self.text[start..start + text.length as usize]
    }
}

fn slot(from: u32, segment: &str, slots: usize) -> usize {
    let mut hash = Multiply::default();
    hash.write_u32(from);
    hash.write(segment.as_bytes());
    usize::try_from(hash.finish() >> 32).unwrap_or(0) & (slots - 1)
}

/// An index in the making.
#[derive(Default)]
struct Layout {
    nodes: Vec<Node>,
    literals: Vec<(Literal, Box<str>)>,
    parameters: Vec<Parameter>,
    text: String,
    texts: HashMap<Box<str>, Text>,
}

impl Layout {
    fn node(&mut self, tree: &Tree) -> u32 {
        let number = count(self.nodes.len());
        let shape = |shape: Option<usize>| shape.map_or(NOTHING, count);
        self.nodes.push(Node {
            end: shape(tree.end),
            rest: shape(tree.rest),
            parameters: count(self.parameters.len()),
            parameter_count: u16::try_from(tree.parameters.len())
                .expect("a bounded file has fewer templates"),
            has_literals: !tree.literals.is_empty(),
        });
        // Those of one node lie together, whatever their own nodes add.
        let first = self.parameters.len();
        for (affixes, _) in &tree.parameters {
            let (prefix, suffix) = (self.text(&affixes.prefix), self.text(&affixes.suffix));
            self.parameters.push(Parameter {
                to: ROOT,
                prefix,
                suffix,
            });
        }
        for (at, (_, next)) in tree.parameters.iter().enumerate() {
            self.parameters[first + at].to = self.node(next);
        }
        for (literal, next) in &tree.literals {
            let (text, to) = (self.text(literal), self.node(next));
            let from = number;
            self.literals
                .push((Literal { from, to, text }, literal.clone()));
        }
        number
    }

    fn text(&mut self, text: &str) -> Text {
        if let Some(have) = self.texts.get(text) {
            return *have;
        }
        let place = Text {
            start: count(self.text.len()),
            length: count(text.len()),
        };
        self.text.push_str(text);
        self.texts.insert(text.into(), place);
        place
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a bounded file has fewer than 2^32 of anything")
}
