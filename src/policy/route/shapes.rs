//! The templates of one tool, by shape: templates that differ only in the names of their parameters share one.
//!
//! matchit finds plain shapes (literals, bare parameters, a rest). What it can't hold (text around a parameter, a
//! parameter beside a rest, the bare mount) lies in a [`Tree`]; where both find one, the more specific wins.

use super::super::model::RouteIndex;
use super::super::template::{Captures, Relation, Segment, Template, relation};
use super::tree::Tree;
use super::{RouteMatch, TableError};

/// The look-up of one tool.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    plain: matchit::Router<usize>,
    other: Option<Tree>,
    arms: Box<[Arms]>,
}

/// The routes of one shape, told apart by method.
#[derive(Clone, Debug)]
struct Arms(Vec<Arm>);

#[derive(Clone, Debug)]
struct Arm {
    method: Method,
    route: RouteIndex,
    template: Template,
}

/// A method; the common ones need no look at their text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Other(Box<str>),
}

/// What a path was found to match, before the method is looked at.
pub(super) struct Found<'t> {
    shape: usize,
    /// What the index captured, if it was the index that found it.
    values: Option<matchit::Params<'t, 't>>,
}

impl Found<'_> {
    /// Which shape of its tool.
    pub(super) fn shape(&self) -> usize {
        self.shape
    }
}

impl Method {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => return None,
        })
    }
}

impl Arms {
    /// The arm for a method; HEAD is answered by GET's unless it has one of its own.
    fn answering(&self, text: &str) -> Option<&Arm> {
        let of = |wanted: &Method| self.0.iter().find(|arm| arm.method == *wanted);
        match Method::of(text) {
            Some(Method::Head) => of(&Method::Head).or_else(|| of(&Method::Get)),
            Some(method) => of(&method),
            None => self
                .0
                .iter()
                .find(|arm| matches!(&arm.method, Method::Other(other) if **other == *text)),
        }
    }

    fn segments(&self) -> &[Segment] {
        self.0[0].template.segments()
    }

    fn add(&mut self, entry: &RouteMatch, faults: &mut Vec<TableError>) {
        for text in &entry.methods {
            let method = Method::of(text).unwrap_or_else(|| Method::Other(text.clone()));
            if let Some(first) = self.0.iter().find(|arm| arm.method == method) {
                faults.push(TableError::Duplicate {
                    first: first.route,
                    second: entry.route,
                    method: text.clone(),
                });
            } else {
                self.0.push(Arm {
                    method,
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
    pub(super) fn most_specific<'t>(&'t self, path: &'t str) -> Option<Found<'t>> {
        let plain = self.plain.at(path).ok().map(|found| Found {
            shape: *found.value,
            values: Some(found.params),
        });
        let other = self.other.as_ref().and_then(|tree| tree.find(path));
        let other = other.map(|shape| Found {
            shape,
            values: None,
        });
        match (plain, other) {
            (Some(a), Some(b)) => {
                let segments = |found: &Found<'_>| self.arms[found.shape].segments();
                match relation(segments(&a), segments(&b)) {
                    Relation::Around => Some(b),
                    // Shapes of one table are never the same, never crossing, and these two share this path.
                    Relation::Within | Relation::Same | Relation::Apart | Relation::Crossing => {
                        Some(a)
                    }
                }
            }
            (found, other) => found.or(other),
        }
    }

    /// The route for a method of what was found for a path, and what its template captures there.
    pub(super) fn answering<'t>(
        &'t self,
        found: &Found<'t>,
        method: &str,
        path: &'t str,
    ) -> Option<(RouteIndex, Captures<'t>)> {
        let arm = self.arms[found.shape].answering(method)?;
        let captures = match &found.values {
            Some(values) => arm
                .template
                .captured(path, values.iter().map(|(_, value)| value)),
            None => arm.template.captures(path),
        };
        Some((arm.route, captures?))
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
                first: have.0[0].route,
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
