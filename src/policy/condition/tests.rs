//! Conditions against calls, and what is proven of them against every call.

use super::*;
use crate::policy::call::Body;
use crate::policy::template::Template;
use crate::policy::time::Timestamp;
use proptest::prelude::*;

/// A call, with its body as text.
#[derive(Default)]
struct Call {
    query: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    session: Vec<(&'static str, &'static str)>,
    client: Option<IpAddr>,
    now: i64,
}

struct Judged<'c>(&'c Call, Option<Content<'c>>);

impl crate::policy::call::Call for Judged<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.0.query, name)
    }
    fn header(&self, name: &str) -> Found<'_> {
        let mut own = self.0.headers.iter().filter(|(have, _)| *have == name);
        match (own.next(), own.next()) {
            (None, _) => Found::Absent,
            (Some((_, value)), None) => Found::One((*value).into()),
            _ => Found::Many,
        }
    }
    fn body(&self) -> Body<'_> {
        self.1.as_ref().map_or(Body::Unread, Body::Read)
    }
    fn session(&self, name: &str) -> Option<&str> {
        let own = self.0.session.iter().find(|(have, _)| *have == name);
        own.map(|(_, value)| *value)
    }
    fn agent(&self) -> &str {
        "bot"
    }
    fn client(&self) -> Option<IpAddr> {
        self.0.client
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.now)
    }
}

impl Judged<'_> {
    /// The first condition that does not hold, of a call to `/users/7`.
    fn unmet(&self, place: &Where) -> Result<Option<usize>, Unevaluable> {
        let template = Template::parse("/users/{user}").unwrap();
        let captures = &template.captures("/users/7").unwrap();
        let call = self;
        place.unmet(&OnPath { captures, call })
    }
}

fn one(subject: Subject, tests: impl Into<Box<[Test]>>) -> Where {
    let tests = tests.into();
    Where([Condition { subject, tests }].into())
}

fn body(pointer: &str, test: Test) -> Where {
    one(Subject::Body(Pointer::parse(pointer).unwrap()), [test])
}

fn number(text: &str) -> Decimal {
    Decimal::read(text).unwrap()
}

fn texts(list: &[&str]) -> Box<[Literal]> {
    list.iter()
        .map(|text| Literal::Text((*text).into()))
        .collect()
}

/// `Ok`: whether it holds.
fn judge(place: &Where, call: &Call, json: &str) -> Result<bool, Why> {
    let value = (!json.is_empty()).then(|| Content::Json(Value::read(json.as_bytes()).unwrap()));
    let unmet = Judged(call, value).unmet(place);
    unmet
        .map(|unmet| unmet.is_none())
        .map_err(|error| error.why)
}

#[test]
fn numbers_are_held_to_their_bounds_exactly_and_nothing_else_is_a_number() {
    let at_most = body("/amount", Test::AtMost(number("100")));
    let call = Call::default();
    for (json, said) in [
        ("{\"amount\":100}", Ok(true)),
        ("{\"amount\":1e2}", Ok(true)),
        ("{\"amount\":-5}", Ok(true)),
        (
            "{\"amount\":100.0000000000000000000000000000001}",
            Ok(false),
        ),
        ("{\"amount\":101}", Ok(false)),
        ("{\"amount\":1e307}", Ok(false)),
        ("{\"amount\":1e400}", Err(Why::Number)),
        ("{\"amount\":\"100\"}", Err(Why::Kind)),
        ("{\"amount\":null}", Err(Why::Kind)),
        ("{\"amount\":[1]}", Err(Why::Kind)),
        ("{\"amount\":true}", Err(Why::Kind)),
        ("{}", Err(Why::Absent)),
        ("{\"Amount\":1}", Err(Why::Many)),
        ("{\"amount\":1,\"AMOUNT\":50000}", Err(Why::Many)),
        ("{\"amount\":1,\"amount\\u0000\":50000}", Err(Why::Many)),
        ("{\"amount\\u0000x\":50000,\"amount\":1}", Err(Why::Many)),
        ("{\"amount\\u0000\":1}", Err(Why::Many)),
        ("{\"amoun\\u0074\":1}", Ok(true)),
        ("{\"amount\":1e-400}", Err(Why::Number)),
        ("{\"amount\":50000e-3}", Ok(true)),
        ("[1]", Err(Why::Kind)),
        ("1", Err(Why::Kind)),
        ("", Err(Why::Unreadable)),
    ] {
        assert_eq!(judge(&at_most, &call, json), said, "{json}");
    }
}

#[test]
fn what_a_query_a_header_and_a_session_say_is_text_once() {
    let limit = one(
        Subject::Query("limit".into()),
        [Test::AtMost(number("100"))],
    );
    for (query, said) in [
        ("limit=100", Ok(true)),
        ("a=1&limit=%31%30", Ok(true)),
        ("%6cimit=7", Ok(true)),
        ("limit=101", Ok(false)),
        ("limit=1&limit=1", Err(Why::Many)),
        ("limit=1&%6climit=1", Ok(true)),
        ("limit=1&%6cimit=1", Err(Why::Many)),
        ("Limit=1", Err(Why::Many)),
        ("limit", Err(Why::Number)),
        ("limit=+1", Err(Why::Number)),
        ("limit=%zz", Err(Why::Unreadable)),
        ("limit=%ff", Err(Why::Unreadable)),
        ("a=1;limit=1", Err(Why::Many)),
        ("limit=1;a=1", Err(Why::Many)),
        ("limit=1&a=1;LIMIT=500", Err(Why::Many)),
        ("limit=1&limit[]=500", Err(Why::Many)),
        ("limit=1&limit[x]=500", Err(Why::Many)),
        ("limit=1&limit%00x=500", Err(Why::Many)),
        ("limit=1&+limit=500", Err(Why::Many)),
        ("limit=1&%20limit+=500", Err(Why::Many)),
        ("limit=1&limit(1i)=500", Err(Why::Many)),
        ("limit=1&[limit]=500", Err(Why::Many)),
        ("[limit]=5", Err(Why::Many)),
        ("limit=1&limit]=500", Err(Why::Many)),
        ("limit=1&%5Blimit=500", Err(Why::Many)),
        ("limit=1&[]=500", Ok(true)),
        ("limit=1&li.mit=500", Ok(true)),
        ("limit=1&limits=500", Ok(true)),
        ("limit=1e1", Err(Why::Number)),
        ("limit=50000e-3", Err(Why::Number)),
        ("limit=0x10", Err(Why::Number)),
        ("limit=1%00", Err(Why::Number)),
        ("limit=%EF%BC%91", Err(Why::Number)),
        ("limit=1&%zz=1", Err(Why::Unreadable)),
        ("", Err(Why::Absent)),
    ] {
        let call = Call {
            query,
            ..Call::default()
        };
        assert_eq!(judge(&limit, &call, ""), said, "{query}");
    }
    let field = one(
        Subject::Header("x-env".into()),
        [Test::OneOf(texts(&["dev", "test"]))],
    );
    for (headers, said) in [
        (vec![("x-env", "dev")], Ok(true)),
        (vec![("x-env", "prod")], Ok(false)),
        (vec![("x-env", "dev"), ("x-env", "dev")], Err(Why::Many)),
        (vec![], Err(Why::Absent)),
    ] {
        let call = Call {
            headers,
            ..Call::default()
        };
        assert_eq!(judge(&field, &call, ""), said);
    }
    let tier = one(
        Subject::Session("tier".into()),
        [Test::NotOneOf(texts(&["free"]))],
    );
    let of = |session| Call {
        session,
        ..Call::default()
    };
    assert_eq!(judge(&tier, &of(vec![("tier", "gold")]), ""), Ok(true));
    assert_eq!(judge(&tier, &of(vec![("tier", "free")]), ""), Ok(false));
    assert_eq!(judge(&tier, &of(vec![]), ""), Err(Why::Absent));
}

#[test]
fn a_number_that_readers_round_to_a_barred_one_can_not_be_told_from_it() {
    let call = Call::default();
    let barred: Box<[Literal]> = ["7", "0.1"]
        .map(|text| Literal::Number(number(text)))
        .into();
    let none_of = body("/id", Test::NotOneOf(barred));
    for (json, said) in [
        ("{\"id\":8}", Ok(true)),
        ("{\"id\":7}", Ok(false)),
        ("{\"id\":7.0}", Ok(false)),
        ("{\"id\":7.00000000000000000000000001}", Err(Why::Number)),
        ("{\"id\":0.1000000000000000000001}", Err(Why::Number)),
        ("{\"id\":6.9999999999999999999999}", Err(Why::Number)),
        ("{\"id\":7.001}", Ok(true)),
        ("{\"id\":\"7\"}", Err(Why::Kind)),
    ] {
        assert_eq!(judge(&none_of, &call, json), said, "{json}");
    }
}

#[test]
fn each_test_says_yes_no_or_that_it_can_not_say() {
    let call = Call::default();
    let says = |test: Test, json: &str| judge(&body("", test), &call, json);
    let prefix = || Test::Prefix("ab".into());
    assert_eq!(says(prefix(), "\"abc\""), Ok(true));
    assert_eq!(says(prefix(), "\"a\""), Ok(false));
    assert_eq!(says(prefix(), "\"ab\\u0000c\""), Err(Why::Nul));
    assert_eq!(says(prefix(), "7"), Err(Why::Kind));
    let form = || Test::Matches(Pattern::new("[a-z]+|x1").unwrap());
    assert_eq!(says(form(), "\"abc\""), Ok(true));
    assert_eq!(says(form(), "\"x1\""), Ok(true));
    assert_eq!(says(form(), "\"x12\""), Ok(false));
    assert_eq!(says(form(), "\"abc\\n\""), Ok(false));
    assert_eq!(says(form(), "\"abc\\ndef\""), Ok(false));
    assert!(Pattern::new("a)|(b").is_err());
    assert!(Pattern::new("(a{1000}){1000}").is_err());
    assert_eq!(says(Test::LengthAtMost(2), "\"\u{e9}\u{e9}\""), Ok(true));
    assert_eq!(says(Test::LengthAtMost(2), "[1,2,3]"), Ok(false));
    assert_eq!(says(Test::LengthAtMost(2), "{}"), Err(Why::Kind));
    assert_eq!(
        says(Test::OneOf([Literal::Bool(true)].into()), "true"),
        Ok(true)
    );
    assert_eq!(
        says(Test::OneOf([Literal::Bool(true)].into()), "\"true\""),
        Err(Why::Kind)
    );
    assert_eq!(
        says(Test::OneOf([Literal::Number(number("1"))].into()), "1.0"),
        Ok(true)
    );
    let exists = |there| body("/a", Test::Exists(there));
    assert_eq!(judge(&exists(true), &call, "{\"a\":null}"), Ok(true));
    assert_eq!(judge(&exists(true), &call, "{}"), Ok(false));
    assert_eq!(judge(&exists(false), &call, "{}"), Ok(true));
    assert_eq!(judge(&exists(false), &call, "{\"a\":1}"), Ok(false));
    assert_eq!(judge(&exists(false), &call, "{\"A\":1}"), Err(Why::Many));
    assert_eq!(judge(&exists(false), &call, "[]"), Err(Why::Kind));
}

#[test]
fn addresses_and_hours_are_told_where_and_when_the_call_comes() {
    let networks = ["10.0.0.0", "2001:db8::"].map(|text| text.parse().unwrap());
    let networks = [(networks[0], 8), (networks[1], 32)];
    let networks = networks.map(|(address, bits)| Network::new(address, bits).unwrap());
    let inside = one(Subject::Client, [Test::In(networks.into())]);
    for (client, said) in [
        ("10.255.0.1", true),
        ("11.0.0.1", false),
        ("::ffff:10.1.2.3", true),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
    ] {
        let client = Some(client.parse().unwrap());
        assert_eq!(
            judge(
                &inside,
                &Call {
                    client,
                    ..Call::default()
                },
                ""
            ),
            Ok(said),
            "{client:?}"
        );
    }
    let any: IpAddr = "0.0.0.0".parse().unwrap();
    assert!(
        Network::new(any, 0)
            .unwrap()
            .holds("1.2.3.4".parse().unwrap())
    );
    assert_eq!(Network::new("10.0.0.1".parse().unwrap(), 8), None);
    assert_eq!(Network::new(any, 33), None);
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
    let bounds = [Test::AtLeast(number("9")), Test::AtMost(number("16"))];
    let hours = one(Subject::Hour(zone.clone()), bounds);
    let weekday = one(Subject::Weekday(zone), [Test::AtMost(number("5"))]);
    // A Thursday, 07:00 UTC: nine there.
    for (now, hour, day) in [
        (7 * 3600, true, true),
        (7 * 3600 - 1, false, true),
        (15 * 3600 - 1, true, true),
        (15 * 3600, false, true),
        (2 * 86_400 + 7 * 3600, true, false),
    ] {
        let call = Call {
            now: now * 1_000_000,
            ..Call::default()
        };
        assert_eq!(judge(&hours, &call, ""), Ok(hour), "{now}");
        assert_eq!(judge(&weekday, &call, ""), Ok(day), "{now}");
    }
}

#[test]
fn one_subject_that_can_not_be_judged_refuses_whatever_the_others_say() {
    let conditions = [
        body("/a", Test::AtMost(number("1"))),
        body("/b", Test::AtMost(number("1"))),
    ];
    let both = Where(conditions.into_iter().flat_map(|one| one.0).collect());
    let call = Call::default();
    assert_eq!(judge(&both, &call, "{\"a\":1,\"b\":1}"), Ok(true));
    assert_eq!(judge(&both, &call, "{\"a\":2,\"b\":1}"), Ok(false));
    assert_eq!(judge(&both, &call, "{\"a\":2}"), Err(Why::Absent));
    assert_eq!(judge(&both, &call, "{\"a\":2,\"b\":\"x\"}"), Err(Why::Kind));
}

#[test]
fn what_can_never_hold_and_what_is_never_reached_is_known_before_the_first_call() {
    let never = |tests: &[Test]| {
        one(Subject::Path("a".into()), tests)
            .contradiction()
            .is_some()
    };
    assert!(never(&[
        Test::AtLeast(number("5")),
        Test::AtMost(number("4"))
    ]));
    assert!(!never(&[
        Test::AtLeast(number("5")),
        Test::AtMost(number("5"))
    ]));
    assert!(never(&[
        Test::OneOf(texts(&["a"])),
        Test::NotOneOf(texts(&["a"]))
    ]));
    assert!(never(&[
        Test::OneOf(texts(&["a"])),
        Test::Prefix("b".into())
    ]));
    assert!(never(&[Test::Exists(false), Test::Prefix("b".into())]));
    assert!(!never(&[Test::Exists(false)]));
    assert!(never(&[Test::Prefix("abc".into()), Test::LengthAtMost(2)]));
    assert!(!never(&[Test::Prefix("abc".into()), Test::LengthAtMost(3)]));
    let both = [Test::Prefix("1".into()), Test::AtMost(number("1"))];
    assert!(!never(&both));
    let argument = Subject::Args(Pointer::parse("/a").unwrap());
    assert!(one(argument, both).contradiction().is_some());
    let utc = || Subject::Hour(jiff::tz::TimeZone::UTC);
    assert!(
        one(utc(), [Test::AtLeast(number("24"))])
            .contradiction()
            .is_some()
    );
    let covers = |first: &Where, second: &Where| first.covers(second);
    let at_most = |most: &str| body("/a", Test::AtMost(number(most)));
    assert!(covers(&at_most("100"), &at_most("50")));
    assert!(!covers(&at_most("50"), &at_most("100")));
    assert!(covers(&Where::default(), &at_most("1")));
    assert!(!covers(&at_most("1"), &Where::default()));
    let list = |list: &[&str]| body("/a", Test::OneOf(texts(list)));
    assert!(covers(&list(&["a", "b"]), &list(&["a"])));
    assert!(!covers(&list(&["a"]), &list(&["a", "b"])));
    assert!(covers(
        &body("/a", Test::Prefix("x".into())),
        &list(&["xa", "xb"])
    ));
    assert!(covers(&body("/a", Test::Exists(true)), &at_most("7")));
    assert!(!covers(&body("/b", Test::Exists(true)), &at_most("7")));
}

#[test]
fn pointers_are_read_as_the_rfc_has_them() {
    for (text, tokens) in [
        ("", Some(vec![])),
        ("/", Some(vec![""])),
        ("/a/b", Some(vec!["a", "b"])),
        ("/a~1b/~0~01", Some(vec!["a/b", "~~1"])),
        ("/0", Some(vec!["0"])),
        ("a", None),
        ("/~", None),
        ("/~2", None),
    ] {
        let read = Pointer::parse(text);
        let shown = read
            .as_ref()
            .map(|pointer| pointer.tokens().collect::<Vec<_>>());
        assert_eq!(shown, tokens, "{text}");
        if let Some(pointer) = read {
            assert_eq!(pointer.to_string(), text);
        }
    }
}

fn any_test() -> impl Strategy<Value = Test> {
    let literal = prop_oneof![
        prop::sample::select(vec!["a", "ab", "b", "7"]).prop_map(|text| Literal::Text(text.into())),
        (0..9_u8).prop_map(|value| Literal::Number(number(&value.to_string()))),
        any::<bool>().prop_map(Literal::Bool),
    ];
    let list = prop::collection::vec(literal, 1..3).prop_map(Vec::into_boxed_slice);
    let bound = || (0..9_u8).prop_map(|value| number(&value.to_string()));
    prop_oneof![
        list.clone().prop_map(Test::OneOf),
        list.prop_map(Test::NotOneOf),
        bound().prop_map(Test::AtMost),
        bound().prop_map(Test::AtLeast),
        any::<bool>().prop_map(Test::Exists),
        (0..4_usize).prop_map(Test::LengthAtMost),
        prop::sample::select(vec!["a", "ab", ""]).prop_map(|text| Test::Prefix(text.into())),
        prop::sample::select(vec!["a.*", "[ab]+"])
            .prop_map(|text| Test::Matches(Pattern::new(text).unwrap())),
    ]
}

fn any_where() -> impl Strategy<Value = Where> {
    let condition = (
        prop::sample::select(vec!["/a", "/b"]),
        prop::collection::vec(any_test(), 1..3),
    );
    prop::collection::vec(condition, 0..3).prop_map(|list| {
        let conditions = list.into_iter().map(|(pointer, tests)| Condition {
            subject: Subject::Body(Pointer::parse(pointer).unwrap()),
            tests: tests.into(),
        });
        Where(conditions.collect())
    })
}

fn any_body() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "\"a\"", "\"ab\"", "\"b\"", "\"7\"", "0", "5", "8.0", "true", "null", "[]", "[1,2]", "",
    ]);
    (value.clone(), value).prop_map(|(a, b)| {
        let member =
            |name: &str, value: &str| (!value.is_empty()).then(|| format!("\"{name}\":{value}"));
        let members: Vec<_> = [member("a", a), member("b", b)]
            .into_iter()
            .flatten()
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A condition more never lets a call through that was refused without it.
    #[test]
    fn one_condition_more_never_allows_more(first in any_where(), second in any_where(), json in any_body()) {
        let call = Call::default();
        let both = Where(first.0.iter().chain(&second.0).cloned().collect());
        if judge(&both, &call, &json) == Ok(true) {
            prop_assert_eq!(judge(&first, &call, &json), Ok(true));
            prop_assert_eq!(judge(&second, &call, &json), Ok(true));
        }
    }

    /// What is proven before the first call is true of every call.
    #[test]
    fn what_is_proven_holds(first in any_where(), second in any_where(), json in any_body()) {
        let call = Call::default();
        if first.contradiction().is_some() {
            prop_assert_ne!(judge(&first, &call, &json), Ok(true));
        }
        if first.covers(&second) && judge(&second, &call, &json) == Ok(true) {
            // Not reached: it was answered, or refused, by the first.
            prop_assert_ne!(judge(&first, &call, &json), Ok(false));
        }
    }
}

#[test]
fn a_name_that_some_readers_find_twice_in_query_form_or_both_is_there_more_than_once() {
    for text in [
        "user_id=7&user[id=8",
        "user_id=7&user%5Bid=8",
        "user_id=7&user.id=8",
    ] {
        assert_eq!(named(text, "user_id"), Found::Many, "{text}");
    }
    assert_eq!(
        named("filter[user]=7&filter[user]x=8", "filter[user]"),
        Found::Many
    );
    assert_eq!(
        named("filter[user]=7&filter[team]=8", "filter[user]"),
        Found::One("7".into())
    );

    let small = one(
        Subject::Body(Pointer::parse("/amount").unwrap()),
        [Test::AtMost(number("100"))],
    );
    for (query, said) in [
        ("", Ok(true)),
        ("x=1", Ok(true)),
        ("amount=5000", Err(Why::Many)),
        ("Amount=1", Err(Why::Many)),
    ] {
        let call = Call {
            query,
            ..Call::default()
        };
        let judged = Judged(&call, Some(Content::Form("amount=50"))).unmet(&small);
        let judged = judged.map(|unmet| unmet.is_none());
        assert_eq!(judged.map_err(|error| error.why), said, "{query}");
    }
}

#[test]
fn a_form_has_a_bounded_number_of_fields() {
    use crate::policy::content::Media;
    assert!(Media::Form.content("a&".repeat(4095).as_bytes()).is_ok());
    assert!(Media::Form.content("a&".repeat(4096).as_bytes()).is_err());
}
