//! The templates of one tool, by shape: templates that differ only in the names of their parameters share one.
//!
//! matchit finds plain shapes (literals, bare parameters, a rest). What it can't hold (text around a parameter, a
//! parameter beside a rest, the bare mount) lies in a [`Tree`]; where both find one, the more specific wins.

use super::super::model::RouteIndex;
use super::super::template::{Relation, Segment, Template, relation};
use super::tree::Tree;
use super::{RouteMatch, TableError};

/// The look-up of one tool.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    plain: matchit::Router<usize>,
    other: Option<Tree>,
    arms: Box<[Arms]>,
}

/// The routes of one shape, told apart by method.
#[derive(Debug)]
pub(super) struct Arms(Vec<Arm>);

#[derive(Debug)]
struct Arm {
    method: Box<str>,
    route: RouteIndex,
    template: Template,
}

impl Arms {
    /// The position of the arm for a method; HEAD is answered by GET's unless it has one of its own.
    pub(super) fn answering(&self, method: &str) -> Option<usize> {
        let of = |method: &str| self.0.iter().position(|arm| *arm.method == *method);
        of(method).or_else(|| if method == "HEAD" { of("GET") } else { None })
    }

    pub(super) fn template(&self, position: usize) -> &Template {
        &self.0[position].template
    }

    pub(super) fn route(&self, position: usize) -> RouteIndex {
        self.0[position].route
    }

    fn segments(&self) -> &[Segment] {
        self.0[0].template.segments()
    }

    fn add(&mut self, entry: &RouteMatch, faults: &mut Vec<TableError>) {
        for method in &entry.methods {
            if let Some(position) = self.0.iter().position(|arm| arm.method == *method) {
                faults.push(TableError::Duplicate {
                    first: self.0[position].route,
                    second: entry.route,
                    method: method.clone(),
                });
            } else {
                self.0.push(Arm {
                    method: method.clone(),
                    route: entry.route,
                    template: entry.template.clone(),
                });
            }
        }
    }
}

impl Shapes {
    pub(super) fn build(entries: Vec<RouteMatch>, faults: &mut Vec<TableError>) -> Self {
        let mut all = Tree::default();
        let mut arms: Vec<Arms> = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.methods.is_empty()) {
            let segments = entry.template.segments();
            let shape = all.insert(segments, arms.len());
            if shape == arms.len() {
                report_crossings(&all, segments, entry.route, &arms, faults);
                arms.push(Arms(Vec::new()));
            }
            arms[shape].add(entry, faults);
        }
        let mut plain = matchit::Router::new();
        let mut other = None;
        for (shape, arm) in arms.iter().enumerate() {
            let held = plain_pattern(arm.segments())
                .is_some_and(|pattern| plain.insert(pattern, shape).is_ok());
            if !held {
                other
                    .get_or_insert_with(Tree::default)
                    .insert(arm.segments(), shape);
            }
        }
        Self {
            plain,
            other,
            arms: arms.into(),
        }
    }

    /// The most specific shape that matches all of a canonical path behind the mount.
    pub(super) fn most_specific(&self, path: &str) -> Option<&Arms> {
        let plain = self.plain.at(path).ok().map(|found| *found.value);
        let other = self.other.as_ref().and_then(|tree| tree.find(path));
        let shape = match (plain, other) {
            (Some(a), Some(b)) => {
                match relation(self.arms[a].segments(), self.arms[b].segments()) {
                    Relation::Around => b,
                    // Shapes of one table are never the same, never crossing, and these two share this path.
                    Relation::Within | Relation::Same | Relation::Apart | Relation::Crossing => a,
                }
            }
            (Some(shape), None) | (None, Some(shape)) => shape,
            (None, None) => return None,
        };
        Some(&self.arms[shape])
    }
}

/// Templates that cross: some paths match both, and neither is the more specific.
fn report_crossings(
    all: &Tree,
    segments: &[Segment],
    second: RouteIndex,
    arms: &[Arms],
    faults: &mut Vec<TableError>,
) {
    let mut meeting = Vec::new();
    all.meeting(segments, &mut meeting);
    for shape in meeting {
        // The new shape meets itself, and has no arms yet.
        if let Some(have) = arms.get(shape)
            && relation(have.segments(), segments) == Relation::Crossing
        {
            faults.push(TableError::Overlap {
                first: have.route(0),
                second,
            });
        }
    }
}

/// The shape as matchit writes it, parameters named by position so that equal prefixes are equal; `None` where it has
/// text around a parameter, or no segment.
fn plain_pattern(segments: &[Segment]) -> Option<String> {
    if segments.is_empty() {
        return None;
    }
    let mut pattern = String::new();
    for (position, segment) in segments.iter().enumerate() {
        pattern.push('/');
        match segment {
            // A canonical literal has no braces.
            Segment::Literal(text) => pattern.push_str(text),
            Segment::Parameter(affixes) if affixes.is_bare() => {
                pattern.push_str(&format!("{{p{position}}}"));
            }
            Segment::Parameter(_) => return None,
            Segment::Rest => pattern.push_str(&format!("{{*p{position}}}")),
        }
    }
    Some(pattern)
}
