//! The templates of one tool, by shape: templates that differ only in the names of their parameters share one.
//!
//! A path finds its shape through the [`Index`]; the method then finds the route. matchit, which finds the tool, can't
//! hold every template (a parameter beside a rest, the bare mount), and a second look-up beside it would cost every call.

use super::super::model::RouteIndex;
use super::super::template::{Captures, Relation, Segment, Spans, Template, relation};
use super::index::Index;
use super::loose::Loose;
use super::tree::Tree;
use super::{RouteMatch, TableError};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

/// The look-up of one tool.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    index: Index,
    /// The same for readers who are not exact.
    loose: Loose,
    /// Those of one shape lie together.
    arms: Box<[Arm]>,
    /// Of each shape.
    ranges: Box<[Range<u32>]>,
    /// Names of templates' parameters, each list once.
    names: Box<[Arc<[Box<str>]>]>,
    /// Methods that [`Method`] does not name.
    methods: Box<[Box<str>]>,
}

/// A route of one shape, told from the others by method, and by conditions from those of the same. Small, because there are
/// as many as routes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arm {
    route: RouteIndex,
    /// The next of the same method in [`Shapes::arms`]: never the first there is.
    next: Option<NonZeroU32>,
    /// Position in [`Shapes::names`].
    names: u32,
    method: Method,
}

impl Arm {
    pub(super) fn route(&self) -> RouteIndex {
        self.route
    }

    pub(super) fn next(&self) -> Option<NonZeroU32> {
        self.next
    }
}

/// The routes of one shape, in the making.
struct Arms {
    template: Template,
    /// With whether they ask more of a call.
    arms: Vec<(Arm, bool)>,
}

/// A method; the common ones need no look at their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    /// Position in [`Shapes::methods`].
    Other(u32),
}

/// What a path was found to match, before the method is looked at.
pub(super) struct Found {
    shape: usize,
    spans: Spans,
}

impl Found {
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

/// What arms point into.
#[derive(Default)]
struct Lists {
    names: Vec<Arc<[Box<str>]>>,
    methods: Vec<Box<str>>,
}

fn position_in<T: PartialEq>(list: &mut Vec<T>, one: T) -> u32 {
    let at = list.iter().position(|have| *have == one);
    let at = at.unwrap_or_else(|| {
        list.push(one);
        list.len() - 1
    });
    u32::try_from(at).expect("a bounded file has fewer routes")
}

impl Arms {
    fn segments(&self) -> &[Segment] {
        self.template.segments()
    }

    fn add(&mut self, entry: &RouteMatch, lists: &mut Lists, faults: &mut Vec<TableError>) {
        for text in &entry.methods {
            let method = Method::of(text)
                .unwrap_or_else(|| Method::Other(position_in(&mut lists.methods, text.clone())));
            // The first of its method that takes every call, or is the same route.
            let first = self.arms.iter().find(|(arm, conditional)| {
                arm.method == method && (!conditional || arm.route == entry.route)
            });
            if let Some((first, _)) = first {
                faults.push(TableError::Duplicate {
                    first: first.route,
                    second: entry.route,
                    method: text.clone(),
                });
            } else {
                let arm = Arm {
                    method,
                    route: entry.route,
                    next: None,
                    names: position_in(&mut lists.names, entry.template.shared_names()),
                };
                self.arms.push((arm, entry.conditional));
            }
        }
    }

    /// As they are laid out from `start` on, each with the next of its method.
    fn linked(self, start: u32) -> impl Iterator<Item = Arm> {
        let mut arms: Vec<Arm> = self.arms.into_iter().map(|(arm, _)| arm).collect();
        for at in 0..arms.len() {
            let same = |arm: &Arm| arm.method == arms[at].method;
            let next = arms[at + 1..].iter().position(same);
            let next = next.and_then(|behind| u32::try_from(at + 1 + behind).ok());
            arms[at].next = next.and_then(|next| NonZeroU32::new(start + next));
        }
        arms.into_iter()
    }
}

impl Shapes {
    pub(super) fn build(entries: Vec<RouteMatch>, faults: &mut Vec<TableError>) -> Self {
        let mut tree = Tree::default();
        let mut shapes: Vec<Arms> = Vec::new();
        let mut lists = Lists::default();
        for entry in entries.iter().filter(|entry| !entry.methods.is_empty()) {
            let segments = entry.template.segments();
            let shape = tree.insert(segments, shapes.len());
            if shape == shapes.len() {
                report_crossings(&tree, segments, entry.route, &shapes, faults);
                shapes.push(Arms {
                    template: entry.template.clone(),
                    arms: Vec::new(),
                });
            }
            shapes[shape].add(entry, &mut lists, faults);
        }
        let mut end = 0;
        let mut range = |shape: &Arms| {
            let start = end;
            end += u32::try_from(shape.arms.len()).expect("a bounded file has fewer routes");
            start..end
        };
        let ranges: Box<[Range<u32>]> = shapes.iter().map(&mut range).collect();
        let loose = Loose::of(shapes.iter().map(Arms::segments));
        let linked = shapes.into_iter().zip(&ranges);
        Self {
            loose,
            index: Index::of(&tree),
            arms: linked
                .flat_map(|(shape, range)| shape.linked(range.start))
                .collect(),
            ranges,
            names: lists.names.into(),
            methods: lists.methods.into(),
        }
    }

    /// The most specific shape that matches all of a canonical path behind the mount.
    pub(super) fn most_specific(&self, path: &str) -> Option<Found> {
        let (shape, spans) = self.index.find(path)?;
        Some(Found { shape, spans })
    }

    /// Whether readers who are not exact take a path for the same shape as was found for it.
    pub(super) fn is_same_to_all(&self, found: &Found, path: &str) -> bool {
        self.loose.agrees(found.shape, path)
    }

    /// Arms of one method and the same names: each with each behind it.
    pub(super) fn successions(&self) -> impl Iterator<Item = (RouteIndex, RouteIndex)> {
        self.arms.iter().flat_map(move |first| {
            let next = |arm: &Arm| Some(*self.at(arm.next?)?.0);
            let behind = std::iter::successors(next(first), move |arm| next(arm));
            let same = behind.filter(|arm| arm.names == first.names);
            same.map(|arm| (first.route, arm.route))
        })
    }

    /// The arm at a place, and the names of its parameters.
    pub(super) fn at(&self, place: NonZeroU32) -> Option<(&Arm, &[Box<str>])> {
        let arm = self.arms.get(place.get() as usize)?;
        Some((arm, &self.names[arm.names as usize]))
    }

    /// The first arm for a method of what was found for a path, and what its template captures there.
    pub(super) fn answering<'t>(
        &'t self,
        found: &Found,
        method: &str,
        path: &'t str,
    ) -> Option<(&'t Arm, Captures<'t>)> {
        let arm = self.arm(found.shape, method)?;
        let names = &self.names[arm.names as usize];
        Some((arm, Captures::new(names, path, found.spans)?))
    }

    /// The arm for a method; HEAD is answered by GET's unless it has one of its own.
    fn arm(&self, shape: usize, text: &str) -> Option<&Arm> {
        let range = self.ranges.get(shape)?;
        let arms = &self.arms[range.start as usize..range.end as usize];
        let of = |wanted: &Method| arms.iter().find(|arm| arm.method == *wanted);
        match Method::of(text) {
            Some(Method::Head) => of(&Method::Head).or_else(|| of(&Method::Get)),
            Some(method) => of(&method),
            None => {
                let other = self.methods.iter().position(|method| **method == *text)?;
                of(&Method::Other(u32::try_from(other).ok()?))
            }
        }
    }
}

/// Templates that cross: some paths match both, and neither is the more specific.
fn report_crossings(
    all: &Tree,
    segments: &[Segment],
    second: RouteIndex,
    shapes: &[Arms],
    faults: &mut Vec<TableError>,
) {
    let mut meeting = Vec::new();
    all.meeting(segments, &mut meeting);
    for shape in meeting {
        // The new shape meets itself, and has no arms yet.
        if let Some(have) = shapes.get(shape)
            && relation(have.segments(), segments) == Relation::Crossing
        {
            faults.push(TableError::Overlap {
                first: have.arms[0].0.route,
                second,
            });
        }
    }
}
