//! Which attributes a session must have had, where they are not known and what it acted on is: for whoever looks back.
//!
//! All ways are tried, so that "there are none" is certain; where there are too many to try, that is what is said.

use super::spelling::{decoded, strip_encoded};
use super::{Part, Resource, ResourcePattern};
use crate::policy::attributes::Attributes;

/// More ways than are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are too many ways in which it could have been allowed")]
pub struct Untried;

impl Resource {
    /// Attributes with which every one of them is matched by a pattern of a list: what a session may have had whose
    /// attributes are not known. `None`: there are none.
    ///
    /// # Errors
    /// [`Untried`]: it is not known whether there are.
    pub fn solve(&self, patterns: &[ResourcePattern]) -> Result<Option<Attributes>, Untried> {
        let all: Vec<&str> = self.each().collect();
        Search::among(patterns).attributes(&all)
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
        resource.solve(std::slice::from_ref(self)).ok().flatten()
    }
}

/// Values for the attributes that patterns read, as far as they are fixed.
struct Search<'p> {
    patterns: &'p [ResourcePattern],
    found: Vec<(&'p str, String)>,
    steps: usize,
}

impl<'p> Search<'p> {
    fn among(patterns: &'p [ResourcePattern]) -> Self {
        Self {
            patterns,
            found: Vec::new(),
            steps: 0,
        }
    }

    fn attributes(mut self, all: &[&str]) -> Result<Option<Attributes>, Untried> {
        let solved = self.all(all)?;
        Ok(solved.then(|| self.found.into_iter().collect()))
    }

    /// Whether each can be matched, with what is fixed already.
    fn all(&mut self, all: &[&str]) -> Result<bool, Untried> {
        let Some((one, others)) = all.split_first() else {
            return Ok(true);
        };
        for pattern in self.patterns {
            let known = self.found.len();
            if self.rest(pattern, &pattern.parts, one, others)? {
                return Ok(true);
            }
            self.found.truncate(known);
        }
        Ok(false)
    }

    /// Whether values can be had that make these parts of a pattern read `text`, and the others be matched as well.
    fn rest(
        &mut self,
        pattern: &'p ResourcePattern,
        parts: &'p [Part],
        text: &str,
        others: &[&str],
    ) -> Result<bool, Untried> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Untried);
        }
        let Some((part, behind)) = parts.split_first() else {
            return match text.is_empty() != pattern.any_id {
                true => self.all(others),
                false => Ok(false),
            };
        };
        match part {
            Part::Literal(literal) => match text.strip_prefix(&**literal) {
                Some(text) => self.rest(pattern, behind, text, others),
                None => Ok(false),
            },
            Part::Session(name) => {
                let known = self.found.iter().find(|(have, _)| *have == &**name);
                if let Some((_, value)) = known {
                    let left = strip_encoded(text.as_bytes(), value).map(<[u8]>::len);
                    return match left {
                        Some(left) => {
                            self.rest(pattern, behind, &text[text.len() - left..], others)
                        }
                        None => Ok(false),
                    };
                }
                // A value never has a `:` that is not encoded.
                let end = text.find(':').unwrap_or(text.len());
                for at in (1..=end).rev() {
                    let Some(value) = decoded(&text[..at]) else {
                        continue;
                    };
                    let known = self.found.len();
                    self.found.push((name, value.into_owned()));
                    if self.rest(pattern, behind, &text[at..], others)? {
                        return Ok(true);
                    }
                    self.found.truncate(known);
                }
                Ok(false)
            }
            // A pattern has none of those.
            _ => Ok(false),
        }
    }
}

/// More are not worth what they tell.
const STEPS_MAX: usize = 20_000;
