//! What conditions add to a decision: the body's media type, its digest for the record, reading it as JSON, and judging.
//!
//! `without` chooses the route of a match that asks nothing of the call. `three` does so where three conditions ask about
//! three places of a body of 1 KiB, which is read anew each time, as a call's is; `three_of_more` of a body of 16 KiB. `sql`
//! is the same with one condition on a statement of the usual length. What is added is the difference to the first.
//!
//! `cargo bench --bench conditions`.

#![allow(clippy::unwrap_used, reason = "a benchmark is a test")]

#[path = "../tests/laws/builder.rs"]
mod builder;

use aws_lc_rs::digest::{SHA256, digest};
use builder::{Builder, ceiling};
use core::net::IpAddr;
use divan::Bencher;
use std::hint::black_box;
use toolgate::policy::call::{Body, Call};
use toolgate::policy::choice::choose;
use toolgate::policy::condition::{Found, Literal, Pattern, Pointer, Subject, Test, named};
use toolgate::policy::content::Media;
use toolgate::policy::decimal::Decimal;
use toolgate::policy::model::{GrantMode, Policy};
use toolgate::policy::sql::{Dialect, Kind, Rule};
use toolgate::policy::target::Target;
use toolgate::policy::time::Timestamp;

fn main() {
    divan::main();
}

struct Calling<'c> {
    target: &'c Target,
    body: Body<'c>,
}

impl Call for Calling<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.target.query().unwrap_or_default(), name)
    }
    fn header(&self, _: &str) -> Found<'_> {
        Found::Absent
    }
    fn body(&self) -> Body<'_> {
        self.body
    }
    fn session(&self, _: &str) -> Option<&str> {
        None
    }
    fn agent(&self) -> &str {
        "bot"
    }
    fn client(&self) -> Option<IpAddr> {
        Some([127, 0, 0, 1].into())
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }
}

fn policy(asked: Vec<(&str, Test)>) -> Policy {
    let mut builder = Builder::new()
        .tool("/t")
        .route("POST /refunds", "act", None);
    for (pointer, test) in asked {
        let pointer = Pointer::parse(pointer).unwrap();
        builder = builder.when(Subject::Body(pointer), test);
    }
    let act = [("act", ceiling(GrantMode::OnUse, &[]))];
    builder.agent("bot", &act).build()
}

/// An order as shops send them, so many bytes long.
fn order(size: usize) -> String {
    let start = "{\"amount\": 49.90, \"currency\": \"EUR\", \"customer\": {\"id\": \"c-4711\", \"name\": \"J\\u00f6rg M\", \"tags\": [\"new\", \"web\"]}, \"items\": [";
    let end = "], \"state\": \"open\"}";
    let item =
        "{\"sku\": \"A-1000\", \"count\": 2, \"price\": 9.98, \"gift\": false, \"note\": null}";
    let mut items = vec![item];
    let long = |items: &Vec<&str>| start.len() + items.join(", ").len() + end.len();
    while long(&items) < size - item.len() {
        items.push(item);
    }
    let space = " ".repeat(size - long(&items));
    format!("{start}{}{space}{end}", items.join(", "))
}

/// What the gate does of a call whose route asks about its body.
fn judge(policy: &Policy, target: &Target, bytes: &[u8]) {
    let first = policy.table.find("POST", target).unwrap();
    let kind = [&b"application/json"[..]].into_iter();
    let media = Media::read(std::iter::empty(), kind).unwrap();
    black_box(digest(&SHA256, bytes));
    let content = media.content(bytes).unwrap();
    let body = Body::Read(&content);
    let arm = choose(policy, first, &Calling { target, body });
    black_box(arm.map(|arm| arm.route).unwrap());
}

#[divan::bench]
fn without(bencher: Bencher<'_, '_>) {
    let policy = policy(Vec::new());
    let target = Target::parse("/t/refunds", "gate.example").unwrap();
    bencher.bench(|| {
        let first = policy.table.find("POST", black_box(&target)).unwrap();
        let call = Calling {
            target: &target,
            body: Body::Unread,
        };
        let arm = choose(&policy, first, &call);
        black_box(arm.map(|arm| arm.route).unwrap());
    });
}

#[divan::bench]
fn three(bencher: Bencher<'_, '_>) {
    three_of(1024, bencher);
}

#[divan::bench]
fn three_of_more(bencher: Bencher<'_, '_>) {
    three_of(16 * 1024, bencher);
}

fn three_of(size: usize, bencher: Bencher<'_, '_>) {
    let texts = ["EUR", "USD"].map(|text| Literal::Text(text.into()));
    let policy = policy(vec![
        ("/amount", Test::AtMost(Decimal::read("100").unwrap())),
        ("/currency", Test::OneOf(texts.into())),
        (
            "/customer/id",
            Test::Matches(Pattern::new("c-[0-9]+").unwrap()),
        ),
    ]);
    let target = Target::parse("/t/refunds", "gate.example").unwrap();
    let body = order(size);
    assert_eq!(body.len(), size);
    bencher.bench(|| judge(&policy, black_box(&target), black_box(body.as_bytes())));
}

#[divan::bench]
fn sql(bencher: Bencher<'_, '_>) {
    let rule = Rule {
        dialect: Dialect::Postgres,
        statements: [Kind::Select].into(),
        reads: Some(
            ["tickets", "customers"]
                .map(|name| vec![name.to_owned()])
                .into(),
        ),
        writes: Some([].into()),
        functions: None,
        has_where: true,
        limit_at_most: Some(100),
        statements_at_most: 1,
    };
    let policy = policy(vec![("/statement", Test::Sql(rule.into()))]);
    let target = Target::parse("/t/refunds", "gate.example").unwrap();
    let body = "{\"statement\": \"SELECT t.id, t.title, c.name FROM tickets t JOIN customers c ON c.id = t.customer_id WHERE t.state = 'open' AND t.age > 3 ORDER BY t.id LIMIT 20\"}";
    bencher.bench(|| judge(&policy, black_box(&target), black_box(body.as_bytes())));
}
