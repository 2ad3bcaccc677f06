//! Laws of conditions: choosing among the arms of a match always ends, whatever a call says; and a condition more, of any
//! arm, lets no call through that was refused without it.

use crate::builder::{Builder, ceiling, session};
use core::net::IpAddr;
use proptest::prelude::*;
use toolgate::policy::call::{Body, Call};
use toolgate::policy::choice::choose;
use toolgate::policy::condition::{
    Content, Found, Literal, Network, Pattern, Pointer, Subject, Test, named,
};
use toolgate::policy::content::Media;
use toolgate::policy::decimal::Decimal;
use toolgate::policy::model::{GrantMode, Policy};
use toolgate::policy::sql::{Dialect, Kind, Rule};
use toolgate::policy::target::Target;
use toolgate::policy::time::Timestamp;

const TARGETS: [&str; 3] = [
    "/t/users/7",
    "/t/users/bob?limit=5",
    "/t/users/7?limit=5&limit=6",
];

/// What a call says.
#[derive(Clone, Debug)]
struct Said {
    target: &'static str,
    kind: &'static str,
    region: Vec<&'static str>,
    body: Vec<u8>,
    client: [u8; 4],
    now: i64,
}

struct Calling<'c> {
    said: &'c Said,
    target: &'c Target,
    body: Body<'c>,
}

impl Call for Calling<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.target.query().unwrap_or_default(), name)
    }
    fn header(&self, name: &str) -> Found<'_> {
        match (&self.said.region[..], name) {
            ([one], "x-region") => Found::One((*one).into()),
            ([_, _, ..], "x-region") => Found::Many,
            _ => Found::Absent,
        }
    }
    fn body(&self) -> Body<'_> {
        self.body
    }
    fn session(&self, name: &str) -> Option<&str> {
        (name == "tier").then_some("gold")
    }
    fn agent(&self) -> &str {
        "bot"
    }
    fn client(&self) -> Option<IpAddr> {
        Some(self.said.client.into())
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.said.now)
    }
}

/// The arm that judges a call, by its place in the file; `None`: none does, and the call is refused.
fn taken(policy: &Policy, said: &Said) -> Option<usize> {
    let target = Target::parse(said.target, "gate.example").unwrap();
    let first = policy.table.find("POST", &target).unwrap();
    let calling = |body| Calling {
        said,
        target: &target,
        body,
    };
    let unread = calling(Body::Unread);
    let found = match choose(policy, first, &unread) {
        Err(toolgate::policy::choice::Unfit::Unread(_)) => {
            let kind = [said.kind.as_bytes()].into_iter();
            let media = Media::read(std::iter::empty(), kind).ok()?;
            let content: Content<'_> = media.content(&said.body).ok()?;
            let read = calling(Body::Read(&content));
            choose(policy, first, &read).ok().map(|arm| arm.route)
        }
        found => found.ok().map(|arm| arm.route),
    };
    found.map(|route| route.0 as usize)
}

type Asked = (Subject, Test);

/// A policy of arms of one match, the last of which asks nothing if `lax`.
fn policy(arms: &[Vec<Asked>], lax: bool) -> Policy {
    let mut builder = Builder::new().tool("/t");
    for arm in arms {
        builder = builder.route("POST /users/{user}", "act", None);
        for (subject, test) in arm {
            builder = builder.when(subject.clone(), test.clone());
        }
    }
    if lax {
        builder = builder.route("POST /users/{user}", "act", None);
    }
    let act = [("act", ceiling(GrantMode::OnUse, &[]))];
    builder.agent("bot", &act).build()
}

fn number(text: &str) -> Decimal {
    Decimal::read(text).unwrap()
}

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).unwrap()
}

fn rule(dialect: Dialect) -> Test {
    Test::Sql(Box::new(Rule {
        dialect,
        statements: [Kind::Select].into(),
        reads: Some([vec!["tickets".to_owned()]].into()),
        writes: Some([].into()),
        functions: None,
        has_where: true,
        limit_at_most: None,
        statements_at_most: 1,
    }))
}

fn asked() -> impl Strategy<Value = Asked> {
    let texts = |list: &[&str]| -> Box<[Literal]> {
        list.iter()
            .map(|text| Literal::Text((*text).into()))
            .collect()
    };
    let network = |text: &str, bits| Network::new(text.parse().unwrap(), bits).unwrap();
    prop::sample::select(vec![
        (
            Subject::Path("user".into()),
            Test::Matches(Pattern::new("[0-9]+").unwrap()),
        ),
        (Subject::Path("user".into()), Test::AtMost(number("9"))),
        (Subject::Query("limit".into()), Test::AtMost(number("5"))),
        (Subject::Query("limit".into()), Test::Exists(false)),
        (
            Subject::Header("x-region".into()),
            Test::OneOf(texts(&["eu", "us"])),
        ),
        (Subject::Body(pointer("/a")), Test::AtMost(number("5"))),
        (
            Subject::Body(pointer("/a")),
            Test::NotOneOf([Literal::Number(number("7"))].into()),
        ),
        (Subject::Body(pointer("/b")), Test::Prefix("x".into())),
        (Subject::Body(pointer("/b")), Test::LengthAtMost(3)),
        (Subject::Body(pointer("/list/0")), Test::Exists(true)),
        (Subject::Body(pointer("/sql")), rule(Dialect::Postgres)),
        (Subject::Body(pointer("/sql")), rule(Dialect::MySql)),
        (
            Subject::Session("tier".into()),
            Test::OneOf(texts(&["gold"])),
        ),
        (Subject::Session("none".into()), Test::Exists(false)),
        (Subject::Agent, Test::Prefix("b".into())),
        (Subject::Client, Test::In([network("10.0.0.0", 8)].into())),
        (
            Subject::Hour(jiff::tz::TimeZone::UTC),
            Test::AtLeast(number("12")),
        ),
        (
            Subject::Weekday(jiff::tz::TimeZone::UTC),
            Test::AtMost(number("5")),
        ),
    ])
}

fn arms() -> impl Strategy<Value = Vec<Vec<Asked>>> {
    prop::collection::vec(prop::collection::vec(asked(), 1..4), 1..4)
}

/// Bodies that mean something, bodies that nearly do, and anything.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let value = prop::sample::select(vec![
        "1",
        "7",
        "7.0000000000000000000000001",
        "1e400",
        "\"x\"",
        "\"xyzw\"",
        "\"\\u0000\"",
        "null",
        "[1]",
        "{}",
        "true",
        "\"SELECT * FROM tickets\"",
        "\"DROP TABLE users\"",
        "\"SELECT 1 END, a FROM users\"",
        "01",
        "",
    ]);
    let name = prop::sample::select(vec!["a", "A", "b", "sql", "list", "a\\u0000", "\\u0061"]);
    let member = (name, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object = prop::collection::vec(member, 0..5);
    let object = object.prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes());
    let form = prop::collection::vec(
        prop::sample::select(vec![
            "a=1",
            "a=9",
            "A=1",
            "b=x",
            "a[]=1",
            "%=1",
            "a=1;b=x",
            "sql=SELECT+1",
            "+a=1",
        ]),
        0..4,
    );
    let form = form.prop_map(|parts| parts.join("&").into_bytes());
    prop_oneof![
        4 => object,
        2 => form,
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => "[\\[\\]{}\",:a0-9 ]{0,30}".prop_map(String::into_bytes),
        1 => Just(b"[".repeat(3000)),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    (
        prop::sample::select(TARGETS.to_vec()),
        prop::sample::select(vec![
            "application/json",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "text/plain",
            "",
        ]),
        prop::collection::vec(prop::sample::select(vec!["eu", "asia"]), 0..3),
        body(),
        prop::sample::select(vec![[10, 0, 0, 1], [192, 0, 2, 1]]),
        0..1_000_000_000_000_i64,
    )
        .prop_map(|(target, kind, region, body, client, now)| Said {
            target,
            kind,
            region,
            body,
            client,
            now,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// No call is let through by an arm that asks more, or behind one that asks more, unless it was let through before.
    #[test]
    fn a_condition_more_in_any_arm_never_allows_more(
        arms in arms(), lax in any::<bool>(), more in asked(), at in any::<prop::sample::Index>(), said in said(),
    ) {
        // Without an arm that asks nothing, to ask more of one arm may only lead to the next: what it then asks holds.
        let before = taken(&policy(&arms, lax), &said);
        let at = at.index(arms.len());
        let mut stricter = arms.clone();
        stricter[at].push(more);
        let after = taken(&policy(&stricter, lax), &said);
        if before.is_none() {
            // It was refused as unevaluable by an arm that is still asked first, or no arm's conditions held.
            prop_assert_eq!(after, None);
        }
        if let (Some(before), Some(after)) = (before, after) {
            prop_assert!(after >= before, "{before} {after}");
            prop_assert!(after == before || before == at);
        }
    }

    /// The laxest arm with a condition lets through a part of what it let through without.
    #[test]
    fn a_condition_on_the_laxest_arm_never_allows_more(arms in arms(), more in asked(), said in said()) {
        let without = taken(&policy(&arms, true), &said);
        let mut all = arms.clone();
        all.push(vec![more]);
        let with = taken(&policy(&all, false), &said);
        prop_assert!(with.is_none() || with == without, "{with:?} {without:?}");
    }

    /// What can't be judged at the arm that is asked reaches no later one.
    #[test]
    fn an_arm_that_asks_nothing_is_reached_only_where_every_arm_before_it_was_judged(arms in arms(), said in said()) {
        let lax = taken(&policy(&arms, true), &said);
        if lax == Some(arms.len()) {
            for arm in &arms {
                // Alone, each says that it does not hold; none that it can't say.
                prop_assert_eq!(taken(&policy(std::slice::from_ref(arm), true), &said), Some(1));
            }
        }
    }
}

/// The session of these laws is one of its project's.
#[test]
fn a_call_that_says_what_all_arms_ask_is_judged_by_the_first() {
    let session = session("bot", &[]);
    assert_eq!(session.agent.as_str(), "bot");
    let arms = vec![
        vec![(Subject::Body(pointer("/a")), Test::AtMost(number("5")))],
        vec![(Subject::Agent, Test::Prefix("b".into()))],
    ];
    let said = |body: &str| Said {
        target: TARGETS[0],
        kind: "application/json",
        region: Vec::new(),
        body: body.into(),
        client: [10, 0, 0, 1],
        now: 0,
    };
    assert_eq!(taken(&policy(&arms, true), &said("{\"a\":5}")), Some(0));
    assert_eq!(taken(&policy(&arms, true), &said("{\"a\":6}")), Some(1));
    assert_eq!(taken(&policy(&arms, true), &said("{\"a\":\"5\"}")), None);
}
