//! Conditions: what a route asks of a call beyond method and path. A closed set of tests, so that judging always ends and
//! what is written can be reasoned about before the first call.
//!
//! Judging is total and fails closed. A subject that is absent, there more than once, of another type, or that readers may
//! take differently, makes the whole [`Where`] [unevaluable](Unevaluable): the call is refused, it never falls through to
//! a laxer arm. So every subject of a `where` is read, also behind one that does not hold.

mod proof;
mod read;
mod words;

use super::call::OnPath;
use super::decimal::Decimal;
use super::json::Value;
use super::sql;
use core::net::IpAddr;
use regex::Regex;
use std::borrow::Cow;
use std::fmt;

pub use read::{Why, named};
pub(super) use read::{field, place};

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A parameter of the route's match, percent-decoded once.
    Path(Box<str>),
    /// A parameter of the query, decoded once; `+` is a space.
    Query(Box<str>),
    /// A header field, named in lower case.
    Header(Box<str>),
    /// A place in the body.
    Body(Pointer),
    /// A place in the arguments of a tool or function.
    Args(Pointer),
    /// The id of what a function is asked about.
    Id,
    /// A place in the properties of what a function is asked about.
    Property(Pointer),
    /// An attribute of the session.
    Session(Box<str>),
    /// The agent's name.
    Agent,
    /// The client's address.
    Client,
    /// The hour of the day there, 0 to 23.
    Hour(jiff::tz::TimeZone),
    /// The day of the week there, 1 (Monday) to 7.
    Weekday(jiff::tz::TimeZone),
}

/// A JSON pointer (RFC 6901), its tokens unescaped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer(Box<[Box<str>]>);

/// A value as a policy writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// Text.
    Text(Box<str>),
    /// A number.
    Number(Decimal),
    /// `true` or `false`.
    Bool(bool),
}

/// What is asked of a subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It is one of these; `equals` has one.
    OneOf(Box<[Literal]>),
    /// It is none of these.
    NotOneOf(Box<[Literal]>),
    /// The text begins so.
    Prefix(Box<str>),
    /// The whole text is of this form.
    Matches(Pattern),
    /// The number is no larger.
    AtMost(Decimal),
    /// The number is no smaller.
    AtLeast(Decimal),
    /// It is there, whatever it is; or it is not.
    Exists(bool),
    /// The text has no more characters, or the list no more items.
    LengthAtMost(usize),
    /// The address lies in one of these networks.
    In(Box<[Network]>),
    /// The text is SQL that does no more than this.
    Sql(Box<sql::Rule>),
}

/// A regular expression that a whole text must match; evaluated in linear time.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// One subject and all that is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// All must hold; at least one.
    pub tests: Box<[Test]>,
}

/// All conditions of one route, each subject once. All must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Where(pub Box<[Condition]>);

/// A subject can't be judged: the call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unevaluable {
    /// Which condition.
    pub condition: usize,
    /// Why.
    pub why: Why,
}

/// What was found under a name that may stand more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'f> {
    /// Nothing.
    Absent,
    /// This.
    One(Cow<'f, str>),
    /// It stands there more than once.
    Many,
    /// Something that is not text.
    Unreadable,
}

/// What a body says.
#[derive(Clone, Debug)]
pub enum Content<'b> {
    /// JSON.
    Json(Value<'b>),
    /// `application/x-www-form-urlencoded`, as it came.
    Form(&'b str),
}

impl Where {
    /// Whether all hold: `None` if so, else the first condition that does not.
    ///
    /// # Errors
    /// [`Unevaluable`], whatever the others say.
    pub fn unmet(&self, facts: &OnPath<'_>) -> Result<Option<usize>, Unevaluable> {
        let mut unmet = None;
        for (at, condition) in self.0.iter().enumerate() {
            let held = condition.holds(facts);
            let held = held.map_err(|why| Unevaluable { condition: at, why })?;
            if !held && unmet.is_none() {
                unmet = Some(at);
            }
        }
        Ok(unmet)
    }

    /// Whether a body has to be read for it.
    pub fn reads_body(&self) -> bool {
        self.0.iter().any(Condition::reads_body)
    }
}

impl Condition {
    /// Whether a body has to be read for it.
    pub fn reads_body(&self) -> bool {
        matches!(
            self.subject,
            Subject::Body(_) | Subject::Args(_) | Subject::Id | Subject::Property(_)
        )
    }
}

impl Pointer {
    /// Reads `/a/b/0`; empty: the whole document. `None`: not a pointer.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Pointer(Box::default()));
        }
        let token = |token: &str| -> Option<Box<str>> {
            let mut parts = token.split('~');
            let mut out = parts.next()?.to_owned();
            for part in parts {
                let (char, rest) = match part.split_at_checked(1)? {
                    ("0", rest) => ('~', rest),
                    ("1", rest) => ('/', rest),
                    _ => return None,
                };
                out.push(char);
                out.push_str(rest);
            }
            Some(out.into())
        };
        let tokens = text.strip_prefix('/')?.split('/').map(token);
        tokens.collect::<Option<_>>().map(Pointer)
    }

    /// Unescaped tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|token| &**token)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for token in self.tokens() {
            write!(f, "/{}", token.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Subject {
    /// As the YAML writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Path(name) => write!(f, "path.{name}"),
            Subject::Query(name) => write!(f, "query.{name}"),
            Subject::Header(name) => write!(f, "header.{name}"),
            Subject::Body(pointer) => write!(f, "body.{pointer}"),
            Subject::Args(pointer) => write!(f, "args.{pointer}"),
            Subject::Id => f.write_str("resource.id"),
            Subject::Property(pointer) => write!(f, "resource.properties.{pointer}"),
            Subject::Session(name) => write!(f, "session.{name}"),
            Subject::Agent => f.write_str("agent"),
            Subject::Client => f.write_str("client"),
            Subject::Hour(_) => f.write_str("time.hour"),
            Subject::Weekday(_) => f.write_str("time.weekday"),
        }
    }
}

impl Pattern {
    /// Compiles an expression; what it must match is the whole text.
    ///
    /// # Errors
    /// What is wrong with it, or that it is too large.
    pub fn new(text: &str) -> Result<Self, String> {
        let whole = format!("^(?:{text})$");
        let built = regex::RegexBuilder::new(&whole)
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        // Alone first, so that `)(` closes nothing of ours.
        regex::RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .and(built)
            .map(Pattern)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                other => other.to_string(),
            })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Network {
    /// The addresses whose first `bits` are those of `address`. `None`: there are not so many, or others of it are set.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let network = Network { address, bits };
        let (value, width) = number(address);
        let fits = u32::from(bits) <= width && value & !mask(bits, width) == 0;
        fits.then_some(network)
    }

    /// Whether an address lies in it; one of IPv4 in the clothes of IPv6 is one of IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        let (value, width) = number(address.to_canonical());
        let (own, own_width) = number(self.address);
        width == own_width && value & mask(self.bits, width) == own
    }

    /// Whether all of another lies in it.
    fn covers(&self, other: &Network) -> bool {
        self.bits <= other.bits && self.holds(other.address)
    }
}

fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
        IpAddr::V6(six) => (u128::from(six), 128),
    }
}

/// The first `bits` of `width`.
fn mask(bits: u8, width: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    let rest = u128::MAX
        .checked_shr(128 - width + u32::from(bits))
        .unwrap_or(0);
    all & !rest
}

/// What a compiled expression may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
