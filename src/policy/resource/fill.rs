//! From a template and what a call says to what the call acts on.
//!
//! A value is one literal, whatever characters it has. One place of a template may be a list: then the call acts on as
//! many resources, and each must be allowed. It refuses to choose: a place that is absent, there twice, of another type
//! or that readers may take differently leaves no resource at all, and never a smaller list.

use super::homograph;
use super::spelling::{is_plain, push_byte};
use super::{
    Part, RESOURCE_BYTES_MAX, RESOURCES_BYTES_MAX, RESOURCES_MAX, Resource, ResourceTemplate,
};
use crate::policy::call::OnPath;
use crate::policy::condition::{Content, Found, Why, field, place};
use crate::policy::decision::Reason;
use crate::policy::json::Value;
use smol_str::{SmolStr, SmolStrBuilder};
use std::borrow::Cow;

/// Why it can't be said what a call acts on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` {why}")]
pub struct Unfilled {
    /// The piece of the template.
    pub part: Part,
    /// What is wrong with it.
    pub why: Why,
}

impl Unfilled {
    /// What the call is refused for. What the path or the session lacks lies outside every ceiling.
    pub const fn reason(&self) -> Reason {
        match self.part {
            Part::Literal(_) | Part::Path(_) | Part::Session(_) => Reason::ResourceOutsideCeiling,
            Part::Query(_)
            | Part::Header(_)
            | Part::Body(_)
            | Part::Args(_)
            | Part::Id
            | Part::Property(_) => Reason::Unevaluable,
        }
    }
}

impl ResourceTemplate {
    /// What a call acts on: one resource, or several where a place it reads is a list.
    ///
    /// # Errors
    /// [`Unfilled`]: then there is no resource, and nothing that bounds resources allows the call.
    pub fn fill(&self, facts: &OnPath<'_>) -> Result<Resource, Unfilled> {
        let mut text = Text::default();
        // What stands before the list, and the list.
        let mut listed = None;
        for part in &*self.parts {
            let fault = |why| Unfilled {
                part: part.clone(),
                why,
            };
            match said(part, facts).map_err(fault)? {
                Said::One(value) if matches!(part, Part::Literal(_)) => {
                    text.push(&value).map_err(fault)?;
                }
                Said::One(value) => text.push_encoded(&value).map_err(fault)?,
                Said::Several(_) if listed.is_some() => return Err(fault(Why::Lists)),
                Said::Several(list) => {
                    listed = Some((std::mem::take(&mut text).finish(), list, part));
                }
            }
        }
        match listed {
            None => Ok(Resource(text.finish())),
            Some((before, list, part)) => {
                let filled = each(&before, list, &text.finish());
                filled.map_err(|why| Unfilled {
                    part: part.clone(),
                    why,
                })
            }
        }
    }
}

/// One resource for each of a list, each once.
fn each(before: &str, list: &[Value<'_>], behind: &str) -> Result<Resource, Why> {
    if list.is_empty() {
        return Err(Why::Empty);
    }
    if list.len() > RESOURCES_MAX {
        return Err(Why::Count);
    }
    let mut all: Vec<SmolStr> = Vec::with_capacity(list.len());
    for value in list {
        let mut text = Text::default();
        text.push(before)?;
        text.push_encoded(&literal(value)?)?;
        text.push(behind)?;
        let one = text.finish();
        if !all.contains(&one) {
            all.push(one);
        }
    }
    let bytes = all.iter().map(|one| one.len() + 1).sum::<usize>() - 1;
    match bytes <= RESOURCES_BYTES_MAX {
        true => Ok(Resource(SmolStr::new(all.join(" ")))),
        false => Err(Why::Long),
    }
}

/// What stands at a place.
enum Said<'f> {
    One(Cow<'f, str>),
    Several(&'f [Value<'f>]),
}

fn said<'f>(part: &'f Part, facts: &'f OnPath<'f>) -> Result<Said<'f>, Why> {
    let value = match part {
        Part::Literal(literal) => return Ok(Said::One((&**literal).into())),
        Part::Path(name) => return plain(facts.path(name)),
        Part::Session(name) => {
            let value = facts.call.session(name).ok_or(Why::Absent)?;
            return full(value.into()).map(Said::One);
        }
        Part::Query(name) => return plain(facts.call.query(name)),
        Part::Header(name) => return plain(facts.call.header(name)),
        Part::Id => return plain(facts.call.resource_id()),
        Part::Body(pointer) => match facts.body() {
            None => return Err(Why::Unreadable),
            Some(Content::Form(form)) => return plain(field(facts, form, pointer)?),
            Some(Content::Json(value)) => place(value, pointer)?,
        },
        Part::Args(pointer) => place(facts.call.args().ok_or(Why::Unreadable)?, pointer)?,
        Part::Property(pointer) => place(facts.call.properties().ok_or(Why::Absent)?, pointer)?,
    };
    match value {
        Value::List(list) => Ok(Said::Several(list)),
        one => literal(one).map(Said::One),
    }
}

/// A value of JSON that names one thing: text, or a whole number that every reader takes for the same.
fn literal<'f>(value: &'f Value<'f>) -> Result<Cow<'f, str>, Why> {
    match value {
        Value::Text(text) => full((&**text).into()).and_then(clean),
        Value::Number(digits) => whole(digits).map(|()| (*digits).into()),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Object(_) => Err(Why::Kind),
    }
}

/// Whether a number is one in plain digits, and small enough that readers who compute with it keep it (RFC 7493).
fn whole(number: &str) -> Result<(), Why> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || number == "-0" {
        return Err(Why::Digits);
    }
    let size: u64 = digits.parse().map_err(|_| Why::Number)?;
    (size <= EXACT_MAX).then_some(()).ok_or(Why::Number)
}

/// Larger numbers are not the same to all readers of JSON.
const EXACT_MAX: u64 = (1 << 53) - 1;

fn plain(found: Found<'_>) -> Result<Said<'_>, Why> {
    once(found).and_then(clean).map(Said::One)
}

fn once(found: Found<'_>) -> Result<Cow<'_, str>, Why> {
    match found {
        Found::Absent => Err(Why::Absent),
        Found::Many => Err(Why::Many),
        Found::Unreadable => Err(Why::Unreadable),
        Found::One(value) => full(value),
    }
}

fn full(value: Cow<'_, str>) -> Result<Cow<'_, str>, Why> {
    match value.is_empty() {
        true => Err(Why::Empty),
        false => Ok(value),
    }
}

fn clean(value: Cow<'_, str>) -> Result<Cow<'_, str>, Why> {
    homograph::check(&value)?;
    Ok(value)
}

/// A resource in the making; an error from its methods: it would be too long.
#[derive(Default)]
struct Text {
    text: SmolStrBuilder,
    bytes: usize,
}

impl Text {
    fn push(&mut self, part: &str) -> Result<(), Why> {
        self.bytes += part.len();
        if self.bytes > RESOURCE_BYTES_MAX {
            return Err(Why::Long);
        }
        self.text.push_str(part);
        Ok(())
    }

    /// Appends a value as a literal.
    fn push_encoded(&mut self, value: &str) -> Result<(), Why> {
        if value.bytes().all(is_plain) {
            return self.push(value);
        }
        if value.len() > RESOURCE_BYTES_MAX {
            return Err(Why::Long);
        }
        let mut encoded = String::with_capacity(value.len() * 3);
        value.bytes().for_each(|byte| push_byte(&mut encoded, byte));
        self.push(&encoded)
    }

    fn finish(self) -> SmolStr {
        self.text.finish()
    }
}
