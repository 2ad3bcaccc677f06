//! Which attributes a session must have had, where they are not known and what it acted on is: for whoever looks back.

use super::spelling::{decoded, strip_encoded};
use super::{Part, Resource, ResourcePattern};
use crate::policy::attributes::Attributes;

impl Resource {
    /// Attributes with which every one of them is matched by a pattern of a list, where such can be found: what a session
    /// may have had whose attributes are not known. Each is tried with what those before it gave away, and never anew.
    pub fn solve(&self, patterns: &[ResourcePattern]) -> Attributes {
        if let Some(solved) = patterns.iter().find_map(|pattern| pattern.solve(self)) {
            return solved;
        }
        let mut found = Vec::new();
        for one in self.each() {
            let mut patterns = patterns.iter().filter(|pattern| !pattern.any_id);
            let known = found.len();
            patterns.find(|pattern| {
                found.truncate(known);
                solve(&pattern.parts, one, &mut found)
            });
        }
        found.into_iter().collect()
    }
}

impl ResourcePattern {
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
        // What matches the first of several is what all others must be matched by.
        solve(&self.parts, resource.each().next()?, &mut found).then_some(())?;
        let attributes: Attributes = found.into_iter().collect();
        self.matches(resource, &attributes).then_some(attributes)
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
        // A pattern has none of those.
        _ => false,
    }
}
