//! `where`: subjects and tests, and that each test is one for its subject.

use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::leaf::Text;
use crate::config::raw::conditions as raw;
use crate::config::read::{At, alternatives, clipped};
use crate::policy::condition::{
    Condition, Literal, Network, Pattern, Pointer, Subject, Test, Where,
};
use crate::policy::model::{Protocol, Tool};
use crate::policy::sql::{Dialect, Kind, Rule, TableName};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// Conditions, and where each stands.
pub type Lowered = (Where, Vec<Place>);

/// What calls of a route can be asked about.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    /// Those that every part of its match has.
    pub parameters: &'a [&'a str],
    /// Whose they are.
    pub tool: &'a Tool,
}

/// `None`: something in it was reported.
pub fn conditions(
    raw: &At<raw::Where>,
    calls: Calls<'_>,
    reports: &mut Reports,
) -> Option<Lowered> {
    let (mut conditions, mut places) = (Vec::new(), Vec::new());
    let mut whole = true;
    for (key, tests) in &raw.value.0 {
        let one = tests
            .as_ref()
            .and_then(|tests| condition(key, tests, calls, reports));
        let Some(one) = one else {
            whole = false;
            continue;
        };
        let same = |have: &Condition| have.subject == one.subject;
        if let Some(first) = conditions.iter().position(same) {
            let line = reports.line_of(places[first]);
            let message = format!("`{}` is already asked about on line {line}", one.subject);
            reports.error(key.place, message, "write all of its tests in one place");
            whole = false;
            continue;
        }
        conditions.push(one);
        places.push(key.place);
    }
    whole.then(|| (Where(conditions.into()), places))
}

fn condition(
    key: &At<Text>,
    tests: &At<raw::Tests>,
    calls: Calls<'_>,
    reports: &mut Reports,
) -> Option<Condition> {
    let subject = subject(key, tests, calls, reports)?;
    let mut list = Vec::new();
    let mut whole = true;
    for (place, test) in written(&tests.value, reports) {
        match test.filter(|test| fits(&subject, test, place, reports)) {
            Some(test) => list.push(test),
            None => whole = false,
        }
    }
    (whole && !list.is_empty()).then(|| Condition {
        subject,
        tests: list.into(),
    })
}

/// What a key names.
fn subject(
    key: &At<Text>,
    tests: &At<raw::Tests>,
    calls: Calls<'_>,
    reports: &mut Reports,
) -> Option<Subject> {
    let (place, text) = (key.place, key.value.0.as_str());
    let is_time = matches!(text, "time.hour" | "time.weekday");
    if let Some(zone) = tests.value.zone.as_ref().filter(|_| !is_time) {
        let message = format!("`{}` has no time zone", clipped(text));
        reports.error(
            zone.place,
            message,
            "remove it: `zone` is for `time.hour` and `time.weekday`",
        );
        return None;
    }
    let (kind, name) = text.split_once('.').unwrap_or((text, ""));
    match (kind, name) {
        ("agent", "") => Some(Subject::Agent),
        ("client", "") => Some(Subject::Client),
        ("time", "hour") => Some(Subject::Hour(zone(tests, reports)?)),
        ("time", "weekday") => Some(Subject::Weekday(zone(tests, reports)?)),
        ("path", _) => path(name, place, calls.parameters, reports),
        ("query" | "header" | "body", _) if calls.tool.protocol == Protocol::Function => {
            let message = format!("a function is called without `{kind}`");
            reports.error(place, message, "ask about its arguments: `args./amount`");
            None
        }
        ("query", name) if !name.is_empty() => Some(Subject::Query(name.into())),
        ("header", name) if !name.is_empty() => forwarded(name, place, calls.tool, reports)
            .map(|name| Subject::Header(name.as_str().into())),
        ("body", name) => pointer(name, place, reports).map(Subject::Body),
        ("args", name) if calls.tool.protocol.names_calls() => {
            pointer(name, place, reports).map(Subject::Args)
        }
        ("args", _) => {
            let help =
                "on a tool that is spoken to in HTTP, arguments stand in the body: `body./amount`";
            reports.error(
                place,
                "only calls of MCP and of functions have `args`",
                help,
            );
            None
        }
        ("resource", _) if calls.tool.protocol != Protocol::Function => {
            let help = "judge what the call says of it: `path.NAME`, `body./json/pointer`";
            reports.error(place, "only functions are asked about a `resource`", help);
            None
        }
        ("resource", "id") => Some(Subject::Id),
        ("resource", name) if name.starts_with("properties.") => {
            pointer(&name["properties.".len()..], place, reports).map(Subject::Property)
        }
        ("session", name) if is_attribute(name) => Some(Subject::Session(name.into())),
        _ => {
            let help = match did_you_mean(kind, SUBJECTS) {
                Some(meant) if meant != kind => format!("did you mean `{meant}`?"),
                _ => "conditions are on `path.NAME`, `query.NAME`, `header.NAME`, `body./json/pointer`, `session.ATTRIBUTE`, `agent`, `client`, `time.hour` and `time.weekday`".into(),
            };
            reports.error(
                place,
                format!(
                    "`{}` is nothing that a condition can look at",
                    clipped(text)
                ),
                help,
            );
            None
        }
    }
}

const SUBJECTS: [&str; 10] = [
    "path", "query", "header", "body", "args", "resource", "session", "agent", "client", "time",
];

fn is_attribute(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn path(name: &str, place: Place, parameters: &[&str], reports: &mut Reports) -> Option<Subject> {
    if parameters.contains(&name) {
        return Some(Subject::Path(name.into()));
    }
    let help = match did_you_mean(name, parameters.iter().copied()) {
        Some(meant) => format!("did you mean `path.{meant}`?"),
        None => "name a parameter that every part of `match` has".into(),
    };
    reports.error(
        place,
        format!("`match` has no parameter `{}`", clipped(name)),
        help,
    );
    None
}

/// The name of a field that is forwarded as it was judged: not one that the gate takes away, sets or reads for itself.
pub fn forwarded(
    name: &str,
    place: Place,
    tool: &Tool,
    reports: &mut Reports,
) -> Option<http::HeaderName> {
    let Ok(read) = http::HeaderName::from_bytes(name.as_bytes()) else {
        let message = format!("`{}` is not the name of a header field", clipped(name));
        reports.error(
            place,
            message,
            "write it without the colon: `header.x-region`",
        );
        return None;
    };
    let name = read.as_str();
    let upstream = tool.upstream.as_ref();
    let credential = upstream.and_then(|upstream| upstream.credential.as_ref());
    let kept = NOT_FORWARDED.contains(&name)
        || ["toolgate-", "proxy-", "x-forwarded"]
            .iter()
            .any(|family| name.starts_with(family))
        || credential.is_some_and(|credential| *credential.header == *name);
    if kept {
        let message = format!("`{name}` is not forwarded as the agent sent it");
        reports.error(
            place,
            message,
            "judge a field that the backend sees as it came",
        );
        return None;
    }
    Some(read)
}

/// Fields of the connection, of framing, and those that the gate reads or makes itself.
const NOT_FORWARDED: [&str; 18] = [
    "authorization",
    "cf-connecting-ip",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "prefer",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-real-ip",
];

fn pointer(name: &str, place: Place, reports: &mut Reports) -> Option<Pointer> {
    let pointer = Pointer::parse(name);
    if pointer.is_none() {
        let message = format!("`{}` is not a JSON pointer", clipped(name));
        let help = "write `body./amount`, `body./customer/id`, `body./items/0`; `~1` is a slash in a name, `~0` a tilde (RFC 6901)";
        reports.error(place, message, help);
    }
    pointer
}

fn zone(tests: &At<raw::Tests>, reports: &mut Reports) -> Option<TimeZone> {
    let Some(zone) = &tests.value.zone else {
        let help = "add `zone: Europe/Berlin`, or `zone: UTC`";
        reports.error(
            tests.place,
            "an hour or a day of the week needs a time zone",
            help,
        );
        return None;
    };
    match TimeZone::get(&zone.value.0) {
        Ok(found) => Some(found),
        Err(_) => {
            let message = format!("there is no time zone `{}`", clipped(&zone.value.0));
            reports.error(
                zone.place,
                message,
                "write a name of the IANA's database: `Europe/Berlin`, `UTC`",
            );
            None
        }
    }
}

/// The tests that are written, each with its place; `None`: it was reported.
fn written(raw: &raw::Tests, reports: &mut Reports) -> Vec<(Place, Option<Test>)> {
    let literals = |list: &[At<crate::config::leaf::Literal>]| -> Box<[Literal]> {
        list.iter().map(|at| at.value.0.clone()).collect()
    };
    let mut tests = Vec::new();
    if let Some(at) = &raw.equals {
        tests.push((at.place, Some(Test::OneOf([at.value.0.clone()].into()))));
    }
    if let Some(at) = &raw.one_of {
        tests.push((at.place, Some(Test::OneOf(literals(&at.value.0)))));
    }
    if let Some(at) = &raw.not_one_of {
        tests.push((at.place, Some(Test::NotOneOf(literals(&at.value.0)))));
    }
    if let Some(at) = &raw.prefix {
        tests.push((at.place, Some(Test::Prefix(at.value.0.as_str().into()))));
    }
    if let Some(at) = &raw.matches {
        tests.push((at.place, pattern(at, reports)));
    }
    if let Some(at) = &raw.at_most {
        tests.push((at.place, Some(Test::AtMost(at.value.0))));
    }
    if let Some(at) = &raw.at_least {
        tests.push((at.place, Some(Test::AtLeast(at.value.0))));
    }
    if let Some(at) = &raw.exists {
        tests.push((at.place, Some(Test::Exists(at.value.0))));
    }
    if let Some(at) = &raw.length_at_most {
        let most = usize::try_from(at.value.0).unwrap_or(usize::MAX);
        tests.push((at.place, Some(Test::LengthAtMost(most))));
    }
    if let Some(at) = &raw.cidr {
        let networks = at.value.0.iter().filter_map(|one| {
            let cidr = one.value.0;
            Network::new(cidr.network, cidr.prefix_bits)
        });
        tests.push((at.place, Some(Test::In(networks.collect()))));
    }
    if let Some(at) = &raw.sql {
        tests.push((at.place, rule(&at.value).map(|rule| Test::Sql(rule.into()))));
    }
    tests
}

fn pattern(at: &At<Text>, reports: &mut Reports) -> Option<Test> {
    match Pattern::new(&at.value.0) {
        Ok(pattern) => Some(Test::Matches(pattern)),
        Err(why) => {
            // The library's message has several lines, the last of which says it.
            let why = why.lines().last().unwrap_or_default().trim();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            let message = format!("this is not a regular expression: {why}");
            reports.error(at.place, message, "it must match the whole text, has no look-around and no back-references, and `\\` in double quotes is one backslash");
            None
        }
    }
}

/// `None`: something in it was reported when it was read.
fn rule(raw: &raw::Sql) -> Option<Rule> {
    let dialect = match raw.dialect.as_ref()?.value {
        raw::Dialect::Postgres => Dialect::Postgres,
        raw::Dialect::MySql => Dialect::MySql,
        raw::Dialect::Sqlite => Dialect::Sqlite,
        raw::Dialect::Generic => Dialect::Generic,
    };
    let kind = |at: &At<raw::Kind>| match at.value {
        raw::Kind::Select => Kind::Select,
        raw::Kind::Insert => Kind::Insert,
        raw::Kind::Update => Kind::Update,
        raw::Kind::Delete => Kind::Delete,
    };
    let tables = |list: &[At<Text>]| -> BTreeSet<TableName> {
        list.iter().map(|at| table(&at.value.0, dialect)).collect()
    };
    let reads = raw.tables.as_ref().map(|at| tables(&at.value.0));
    let writes = raw.writes.as_ref().map(|at| tables(&at.value.0));
    let names = |list: &[At<Text>]| {
        list.iter()
            .map(|at| at.value.0.to_ascii_lowercase())
            .collect()
    };
    Some(Rule {
        dialect,
        statements: raw.statements.as_ref()?.value.0.iter().map(kind).collect(),
        writes: writes.or_else(|| reads.clone()),
        reads,
        functions: raw.functions.as_ref().map(|at| names(&at.value.0)),
        has_where: raw.has_where.as_ref().is_none_or(|at| at.value.0),
        limit_at_most: raw.limit_at_most.as_ref().map(|at| at.value.0.into()),
        statements_at_most: raw
            .statements_at_most
            .as_ref()
            .map_or(1, |at| usize::try_from(at.value.0).unwrap_or(1)),
    })
}

/// `public.tickets`, with `"Tickets"` for a name that is written in quotes.
fn table(text: &str, dialect: Dialect) -> TableName {
    let part = |part: &str| match part
        .strip_prefix('"')
        .and_then(|part| part.strip_suffix('"'))
    {
        Some(quoted) => dialect.folded(quoted, true),
        None => dialect.folded(part, false),
    };
    text.split('.').map(part).collect()
}

/// Whether a test is one for its subject; reports where it is not.
fn fits(subject: &Subject, test: &Test, place: Place, reports: &mut Reports) -> bool {
    let (allowed, what): (bool, &[&str]) = match subject {
        Subject::Client => (matches!(test, Test::In(_)), &["cidr"]),
        Subject::Hour(_) | Subject::Weekday(_) => (
            match test {
                Test::AtMost(_) | Test::AtLeast(_) => true,
                Test::OneOf(list) | Test::NotOneOf(list) => {
                    list.iter().all(|one| matches!(one, Literal::Number(_)))
                }
                _ => false,
            },
            &["equals", "one_of", "not_one_of", "at_least", "at_most"],
        ),
        Subject::Agent => (
            matches!(
                test,
                Test::OneOf(_) | Test::NotOneOf(_) | Test::Prefix(_) | Test::Matches(_)
            ),
            &["equals", "one_of", "not_one_of", "prefix", "matches"],
        ),
        Subject::Path(_) => (
            !matches!(test, Test::In(_) | Test::Exists(_)),
            &[
                "equals",
                "one_of",
                "not_one_of",
                "prefix",
                "matches",
                "at_least",
                "at_most",
                "length_at_most",
                "sql",
            ],
        ),
        Subject::Query(_)
        | Subject::Header(_)
        | Subject::Body(_)
        | Subject::Args(_)
        | Subject::Id
        | Subject::Property(_)
        | Subject::Session(_) => (
            !matches!(test, Test::In(_)),
            &[
                "equals",
                "one_of",
                "not_one_of",
                "prefix",
                "matches",
                "at_least",
                "at_most",
                "exists",
                "length_at_most",
                "sql",
            ],
        ),
    };
    if !allowed {
        let names: Vec<String> = what.iter().map(|name| format!("`{name}`")).collect();
        let number = matches!(subject, Subject::Hour(_) | Subject::Weekday(_));
        let kind = if number { ", with numbers" } else { "" };
        let message = format!("`{subject}` can't be asked this");
        reports.error(
            place,
            message,
            format!("ask it {}{kind}", alternatives(&names)),
        );
    }
    allowed
}
