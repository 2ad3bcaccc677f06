//! From a call to a subject's value, and from there to whether a test holds.

use super::{Condition, Content, Found, Literal, Pointer, Subject, Test};
use crate::policy::call::OnPath;
use crate::policy::decimal::Decimal;
use crate::policy::json::{Value, same_but_for_case};
use crate::policy::sql;
use core::net::IpAddr;
use jiff::tz::TimeZone;
use std::borrow::Cow;

/// Why a subject can't be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is not there.
    #[error("is missing")]
    Absent,
    /// It is there more than once, or under names that some readers take for one.
    #[error("is there more than once")]
    Many,
    /// A text where a number is asked for, a list where a text is, and the like.
    #[error("is of another type")]
    Kind,
    /// More digits or a larger size than are compared.
    #[error("is a number with too many digits or too large")]
    Number,
    /// A NUL in it: some readers end there.
    #[error("has a NUL in it")]
    Nul,
    /// Nobody can say what it is.
    #[error("is not known")]
    Unknown,
    /// Another control character, in what names something.
    #[error("has a control character in it")]
    Control,
    /// Characters that are not seen or pass for others, in what names something.
    #[error("has characters that pass for others, or are not seen")]
    Homograph,
    /// Not text, or wrongly encoded.
    #[error("can't be read")]
    Unreadable,
    /// SQL that can't be parsed, or that servers read differently.
    #[error("is SQL that can't be judged")]
    Sql,
    /// No text, or no items.
    #[error("is empty")]
    Empty,
    /// A number that names something, written as `7.0`, `7e0` or `-0`.
    #[error("is a number that is not written in plain digits")]
    Digits,
    /// What a call acts on would be too long to be said.
    #[error("is too long to name what the call acts on")]
    Long,
    /// More than one call may act on.
    #[error("has too many items for one call")]
    Count,
    /// Two lists name what one call acts on.
    #[error("is a second list of what the call acts on")]
    Lists,
}

/// A subject's value.
enum Seen<'f> {
    /// Text from where everything is text: path, query, header, attribute. A number is asked of its form.
    Plain(Cow<'f, str>),
    Number(Decimal),
    Json(&'f Value<'f>),
    Address(IpAddr),
}

impl Condition {
    /// Whether all of its tests hold.
    ///
    /// # Errors
    /// Its subject can't be judged.
    pub fn holds(&self, facts: &OnPath<'_>) -> Result<bool, Why> {
        let seen = match self.see(facts) {
            Ok(seen) => seen,
            Err(Why::Absent) if self.asks_for_absence() => return Ok(true),
            Err(Why::Absent) if self.asks_for_presence_alone() => return Ok(false),
            Err(why) => return Err(why),
        };
        let mut held = true;
        for test in &self.tests {
            held &= test.holds(&seen)?;
        }
        Ok(held)
    }

    /// What the first of its tests on SQL has against the text, in words: for people, where it does not hold.
    pub fn objection(&self, facts: &OnPath<'_>) -> Option<String> {
        let seen = self.see(facts).ok()?;
        let text = text(&seen).ok()?;
        self.tests.iter().find_map(|test| match test {
            Test::Sql(rule) => match sql::read(text, rule.dialect) {
                Ok(facts) => rule.allows(&facts).err().map(|unmet| unmet.to_string()),
                Err(error) => Some(error.to_string()),
            },
            _ => None,
        })
    }

    fn asks_for_absence(&self) -> bool {
        matches!(&*self.tests, [Test::Exists(false)])
    }

    fn asks_for_presence_alone(&self) -> bool {
        matches!(&*self.tests, [Test::Exists(true)])
    }

    fn see<'f>(&self, facts: &'f OnPath<'f>) -> Result<Seen<'f>, Why> {
        match &self.subject {
            Subject::Path(name) => plain(facts.path(name)),
            Subject::Query(name) => plain(facts.call.query(name)),
            Subject::Header(name) => plain(facts.call.header(name)),
            Subject::Body(pointer) => match facts.body() {
                Some(Content::Json(value)) => place(value, pointer).map(Seen::Json),
                Some(Content::Form(form)) => plain(field(facts, form, pointer)?),
                None => Err(Why::Unreadable),
            },
            Subject::Args(pointer) => {
                place(facts.call.args().ok_or(Why::Unreadable)?, pointer).map(Seen::Json)
            }
            Subject::Id => plain(facts.call.resource_id()),
            Subject::Property(pointer) => {
                place(facts.call.properties().ok_or(Why::Absent)?, pointer).map(Seen::Json)
            }
            Subject::Session(name) => {
                let value = facts.call.session(name).ok_or(Why::Absent)?;
                Ok(Seen::Plain(value.into()))
            }
            Subject::Agent => Ok(Seen::Plain(facts.call.agent().into())),
            Subject::Client => facts.call.client().map(Seen::Address).ok_or(Why::Unknown),
            Subject::Hour(zone) => Ok(Seen::Number(whole(time(facts, zone)?.hour()))),
            Subject::Weekday(zone) => {
                let day = time(facts, zone)?.weekday().to_monday_one_offset();
                Ok(Seen::Number(whole(day)))
            }
        }
    }
}

fn plain(found: Found<'_>) -> Result<Seen<'_>, Why> {
    match found {
        Found::Absent => Err(Why::Absent),
        Found::Many => Err(Why::Many),
        Found::Unreadable => Err(Why::Unreadable),
        Found::One(text) => Ok(Seen::Plain(text)),
    }
}

/// A form is one object whose values are texts. Some readers put query and form together: a name that stands in both is there
/// more than once.
pub(in crate::policy) fn field<'f>(
    facts: &OnPath<'_>,
    form: &'f str,
    pointer: &Pointer,
) -> Result<Found<'f>, Why> {
    let mut tokens = pointer.tokens();
    match (tokens.next(), tokens.next()) {
        (Some(name), None) => match facts.call.query(name) {
            Found::Absent => Ok(named(form, name)),
            Found::One(_) | Found::Many | Found::Unreadable => Ok(Found::Many),
        },
        _ => Err(Why::Kind),
    }
}

/// What a pointer names in JSON.
pub(in crate::policy) fn place<'f>(
    value: &'f Value<'f>,
    pointer: &Pointer,
) -> Result<&'f Value<'f>, Why> {
    use crate::policy::json::Unclear;
    match value.at(pointer.tokens()) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Why::Absent),
        Err(Unclear::Case) => Err(Why::Many),
        Err(Unclear::Kind) => Err(Why::Kind),
    }
}

fn time(facts: &OnPath<'_>, zone: &TimeZone) -> Result<jiff::Zoned, Why> {
    let now = jiff::Timestamp::from_microsecond(facts.call.now().micros());
    Ok(now.map_err(|_| Why::Unreadable)?.to_zoned(zone.clone()))
}

pub(super) fn whole(number: i8) -> Decimal {
    Decimal::read(itoa::Buffer::new().format(number)).unwrap_or(Decimal::ZERO)
}

impl Test {
    fn holds(&self, seen: &Seen<'_>) -> Result<bool, Why> {
        match self {
            Test::Exists(there) => Ok(*there),
            Test::OneOf(list) => one_of(list, seen),
            Test::NotOneOf(list) => Ok(!one_of(list, seen)? && !nearly_one_of(list, seen)?),
            Test::Prefix(prefix) => Ok(text(seen)?.starts_with(&**prefix)),
            Test::Matches(pattern) => Ok(pattern.0.is_match(text(seen)?)),
            Test::AtMost(most) => Ok(decimal(seen)? <= *most),
            Test::AtLeast(least) => Ok(decimal(seen)? >= *least),
            Test::LengthAtMost(most) => match seen {
                Seen::Json(Value::List(list)) => Ok(list.len() <= *most),
                other => Ok(text(other)?.chars().nth(*most).is_none()),
            },
            Test::In(networks) => match seen {
                Seen::Address(address) => Ok(networks.iter().any(|one| one.holds(*address))),
                _ => Err(Why::Kind),
            },
            Test::Sql(rule) => {
                let facts = sql::read(text(seen)?, rule.dialect).map_err(|_| Why::Sql)?;
                Ok(rule.allows(&facts).is_ok())
            }
        }
    }

    /// Whether it holds for a value as a policy writes it; `None`: such a value can't be judged by it.
    pub(super) fn holds_for(&self, literal: &Literal) -> Option<bool> {
        match literal {
            Literal::Number(number) => self.holds(&Seen::Number(*number)).ok(),
            Literal::Text(text) => self.holds(&Seen::Plain((&**text).into())).ok(),
            Literal::Bool(is) => self.holds(&Seen::Json(&Value::Bool(*is))).ok(),
        }
    }
}

fn one_of(list: &[Literal], seen: &Seen<'_>) -> Result<bool, Why> {
    let mut is = false;
    for literal in list {
        is |= match literal {
            Literal::Text(have) => text(seen)? == &**have,
            Literal::Number(have) => decimal(seen)? == *have,
            Literal::Bool(have) => match seen {
                Seen::Json(Value::Bool(value)) => value == have,
                Seen::Plain(value) => match &**value {
                    "true" => *have,
                    "false" => !*have,
                    _ => return Err(Why::Kind),
                },
                _ => return Err(Why::Kind),
            },
        };
    }
    Ok(is)
}

/// A number that is none of these, and is one of them to readers that round it, can't be told from them.
fn nearly_one_of(list: &[Literal], seen: &Seen<'_>) -> Result<bool, Why> {
    for literal in list {
        if let Literal::Number(have) = literal
            && decimal(seen)?.nearest() == have.nearest()
        {
            return Err(Why::Number);
        }
    }
    Ok(false)
}

fn text<'s>(seen: &'s Seen<'_>) -> Result<&'s str, Why> {
    let text: &str = match seen {
        Seen::Plain(text) => text,
        Seen::Json(Value::Text(text)) => text,
        _ => return Err(Why::Kind),
    };
    match text.contains('\0') {
        true => Err(Why::Nul),
        false => Ok(text),
    }
}

fn decimal(seen: &Seen<'_>) -> Result<Decimal, Why> {
    match seen {
        Seen::Number(number) => Ok(*number),
        // Of `50000e-3` some readers take what stands before the letter.
        Seen::Plain(text) if text.contains(['e', 'E']) => Err(Why::Number),
        Seen::Plain(text) => Decimal::read(text).ok_or(Why::Number),
        Seen::Json(value @ Value::Number(_)) => value.number().ok_or(Why::Number),
        _ => Err(Why::Kind),
    }
}

/// The value of a name in a query or a form (WHATWG URL, `application/x-www-form-urlencoded`), decoded once; `+` is a space.
/// Names that are one to some readers and not to others count as more than one. Where any name can't be decoded (it is not
/// UTF-8 then, or has a `%` without two hex digits), it may be this one.
pub fn named<'t>(text: &'t str, name: &str) -> Found<'t> {
    let mut found = Found::Absent;
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let plain = !part.contains(';');
        // Some readers end a parameter at a semicolon.
        for piece in part.split(';') {
            let (have, value) = piece.split_once('=').unwrap_or((piece, ""));
            let Some(have) = decoded(have) else {
                return Found::Unreadable;
            };
            if !is_one_to_some(&have, name) {
                continue;
            }
            found = match (found, decoded(value)) {
                (Found::Absent, Some(value)) if plain && have == name => Found::One(value),
                (Found::Absent, None) => Found::Unreadable,
                _ => Found::Many,
            };
        }
    }
    found
}

/// Whether a name may reach a program as another: without regard to case, without the white space around it, with `_` for
/// dots, spaces and a bracket that nothing closes, up to a NUL; and `a[b]` is a part of `a`, wherever brackets stand.
fn is_one_to_some(have: &str, name: &str) -> bool {
    if have == name {
        return true;
    }
    let ended = |text: &str| {
        text.split('\0')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let plain = |text: &str| text.replace([' ', '.'], "_");
    // Of a bracket that nothing closes PHP makes `_`; others write `a[b]` for `a.b`.
    let flat = |text: &str| text.replace('[', "_").replace(']', "");
    let (have, name) = (plain(&ended(have)), plain(&ended(name)));
    // Brackets in front, or too many of them, are passed over by some; what is longer is a part of what is shorter.
    let nested = pieces(&have).next().is_some()
        && pieces(&have)
            .zip(pieces(&name))
            .all(|(one, other)| same_but_for_case(one, other));
    nested || same_but_for_case(&have, &name) || same_but_for_case(&flat(&have), &flat(&name))
}

/// What brackets part.
fn pieces(name: &str) -> impl Iterator<Item = &str> {
    name.split(['[', ']', '(', ')'])
        .filter(|piece| !piece.is_empty())
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}
