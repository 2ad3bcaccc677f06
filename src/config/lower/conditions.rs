//! `where`: subjects and tests, and that each test is one for its subject.

mod sql;

use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::leaf::Text;
use crate::config::raw::conditions as raw;
use crate::config::read::{At, alternatives, clipped};
use crate::policy::condition::{
    Condition, Literal, Network, Pattern, Pointer, Subject, Test, Where,
};
use crate::policy::model::{Protocol, Tool};
use jiff::tz::TimeZone;

/// Conditions, and where each stands.
pub type Lowered = (Where, Vec<Place>);

/// What calls of a route can be asked about.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    /// Those that every part of its match has; `None`: not all of it could be read.
    pub parameters: Option<&'a [&'a str]>,
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
    for (place, name, test) in written(&tests.value, reports) {
        match test.filter(|test| fits(&subject, test, (place, name), reports)) {
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
        ("path", name) if !name.is_empty() => path(name, place, calls.parameters, reports),
        ("query" | "header" | "body", _) if calls.tool.protocol == Protocol::Function => {
            let message = format!("a function is called without `{kind}`");
            reports.error(place, message, "ask about its arguments: `args./amount`");
            None
        }
        ("query", name) if !name.is_empty() => Some(Subject::Query(name.into())),
        ("header", name) if !name.is_empty() => forwarded(name, place, calls.tool, reports)
            .map(|name| Subject::Header(name.as_str().into())),
        ("body", name) => pointer(kind, name, place, reports).map(Subject::Body),
        ("args", name) if calls.tool.protocol.names_calls() => {
            pointer(kind, name, place, reports).map(Subject::Args)
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
        ("resource", name) if name.starts_with("properties.") => pointer(
            "resource.properties",
            &name["properties.".len()..],
            place,
            reports,
        )
        .map(Subject::Property),
        ("session", name) if is_attribute(name) => Some(Subject::Session(name.into())),
        _ => {
            let help = match did_you_mean(kind, SUBJECTS) {
                Some(meant) if meant != kind => {
                    let rest = clipped(&text[kind.len()..]);
                    format!("did you mean `{meant}{rest}`?")
                }
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

fn path(
    name: &str,
    place: Place,
    parameters: Option<&[&str]>,
    reports: &mut Reports,
) -> Option<Subject> {
    let Some(parameters) = parameters.filter(|have| !have.contains(&name)) else {
        return Some(Subject::Path(name.into()));
    };
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
        || credential.is_some_and(|own| own.header.eq_ignore_ascii_case(name));
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
const NOT_FORWARDED: [&str; 20] = [
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
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-real-ip",
];

fn pointer(kind: &str, name: &str, place: Place, reports: &mut Reports) -> Option<Pointer> {
    let pointer = Pointer::parse(name);
    if pointer.is_none() {
        let message = format!("`{}` is not a JSON pointer", clipped(name));
        let help = match Pointer::parse(&format!("/{name}")) {
            Some(_) if !name.is_empty() => format!("did you mean `{kind}./{}`?", clipped(name)),
            _ => format!(
                "write `{kind}./amount`, `{kind}./customer/id`, `{kind}./items/0`; `~1` is a slash in a name, `~0` a tilde (RFC 6901)"
            ),
        };
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

/// The tests that are written, each with its place and name; `None`: it was reported.
fn written(raw: &raw::Tests, reports: &mut Reports) -> Vec<(Place, &'static str, Option<Test>)> {
    let literals = |list: &[At<crate::config::leaf::Literal>]| -> Box<[Literal]> {
        list.iter().map(|at| at.value.0.clone()).collect()
    };
    let mut tests = Vec::new();
    if let Some(at) = &raw.equals {
        tests.push((
            at.place,
            "equals",
            Some(Test::OneOf([at.value.0.clone()].into())),
        ));
    }
    if let Some(at) = &raw.one_of {
        let test = alike(&at.value.0, reports).then(|| Test::OneOf(literals(&at.value.0)));
        tests.push((at.place, "one_of", test));
    }
    if let Some(at) = &raw.not_one_of {
        let test = alike(&at.value.0, reports).then(|| Test::NotOneOf(literals(&at.value.0)));
        tests.push((at.place, "not_one_of", test));
    }
    if let Some(at) = &raw.prefix {
        tests.push((
            at.place,
            "prefix",
            Some(Test::Prefix(at.value.0.as_str().into())),
        ));
    }
    if let Some(at) = &raw.matches {
        tests.push((at.place, "matches", pattern(at, reports)));
    }
    if let Some(at) = &raw.at_most {
        tests.push((at.place, "at_most", Some(Test::AtMost(at.value.0))));
    }
    if let Some(at) = &raw.at_least {
        tests.push((at.place, "at_least", Some(Test::AtLeast(at.value.0))));
    }
    if let Some(at) = &raw.exists {
        tests.push((at.place, "exists", Some(Test::Exists(at.value.0))));
    }
    if let Some(at) = &raw.length_at_most {
        let most = usize::try_from(at.value.0).unwrap_or(usize::MAX);
        tests.push((at.place, "length_at_most", Some(Test::LengthAtMost(most))));
    }
    if let Some(at) = &raw.cidr {
        let networks = at.value.0.iter().filter_map(|one| {
            let cidr = one.value.0;
            Network::new(cidr.network, cidr.prefix_bits)
        });
        tests.push((at.place, "cidr", Some(Test::In(networks.collect()))));
    }
    if let Some(at) = &raw.sql {
        let rule = sql::rule(&at.value, reports);
        tests.push((at.place, "sql", rule.map(|rule| Test::Sql(rule.into()))));
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

/// What is compared with a list is of one type, and anything else can't be judged: so the list has one type too.
fn alike(list: &[At<crate::config::leaf::Literal>], reports: &mut Reports) -> bool {
    let kind = |at: &At<crate::config::leaf::Literal>| std::mem::discriminant(&at.value.0);
    // An empty one was reported.
    let Some(first) = list.first() else {
        return false;
    };
    let other = list.iter().find(|at| kind(at) != kind(first));
    if let Some(at) = other {
        reports.error(
            at.place,
            "the values of a list are of one type: text, numbers, or `true` and `false`",
            "put all of them in quotes, or none; a number in quotes is text",
        );
    }
    other.is_none()
}

/// Whether a test is one for its subject; reports where it is not.
fn fits(
    subject: &Subject,
    test: &Test,
    (place, name): (Place, &str),
    reports: &mut Reports,
) -> bool {
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
        let message = format!("`{subject}` can't be asked `{name}`");
        reports.error(
            place,
            message,
            format!("ask it {}{kind}", alternatives(&names)),
        );
    }
    allowed
}
