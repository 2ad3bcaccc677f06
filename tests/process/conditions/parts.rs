//! Query, header fields and path: read once, or not at all.

use super::{End, Scene, UNEVALUABLE};
use crate::approvals::talk::Order;
use End::{By, No};
use http::Method;

fn get(path: &str) -> Order {
    Order::new(Method::GET, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parameter_that_is_given_in_two_ways_reaches_no_laxer_route() {
    let scene = Scene::open().await;
    let mut cases = Vec::new();
    for (query, end) in [
        ("limit=100", By("page")),
        ("limit=%31%30", By("page")),
        ("a=b&limit=7&c", By("page")),
        ("l%69mit=7", By("page")),
        ("limit=101", By("page.any")),
        ("limit=-1", By("page")),
        ("limits=1&limit=500", By("page.any")),
        ("", UNEVALUABLE),
        ("a=1", UNEVALUABLE),
        ("limit", UNEVALUABLE),
        ("limit=", UNEVALUABLE),
        ("limit=1&limit=1", UNEVALUABLE),
        ("limit=1&limit=500", UNEVALUABLE),
        ("limit=1&l%69mit=500", UNEVALUABLE),
        ("limit=1&LIMIT=500", UNEVALUABLE),
        ("Limit=1", UNEVALUABLE),
        ("limit=1&limit[]=500", UNEVALUABLE),
        ("limit[]=1", UNEVALUABLE),
        ("limit=1&limit[0]=500", UNEVALUABLE),
        ("limit=1;limit=500", UNEVALUABLE),
        ("a=1;limit=500&limit=1", UNEVALUABLE),
        ("limit=1&%20limit=500", UNEVALUABLE),
        ("limit=1&limit%20=500", UNEVALUABLE),
        ("limit=1&limit%00x=500", UNEVALUABLE),
        ("limit=1%00", UNEVALUABLE),
        ("limit=%2500", UNEVALUABLE),
        ("limit=+1", UNEVALUABLE),
        ("limit=%2B1", UNEVALUABLE),
        ("limit=1,500", UNEVALUABLE),
        ("limit=0x10", UNEVALUABLE),
        ("limit=010", UNEVALUABLE),
        ("limit=1e2", UNEVALUABLE),
        ("limit=1%zz", No(400, "target_ambiguous")),
        ("limit=%EF%BC%91", UNEVALUABLE),
        ("limit=1&%ff=1", UNEVALUABLE),
        ("limit=1&%zz=1", No(400, "target_ambiguous")),
        ("limit=%C0%B1", UNEVALUABLE),
        ("%6Cimit%3D=1", UNEVALUABLE),
    ] {
        let path = match query {
            "" => "/t/mirror/page".to_owned(),
            query => format!("/t/mirror/page?{query}"),
        };
        cases.push((query.to_owned(), get(&path), end));
    }
    scene.check(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_said_twice_taken_away_or_spelt_otherwise_reaches_no_laxer_route() {
    let scene = Scene::open().await;
    let order = || get("/t/mirror/region");
    let forbidden = No(400, "field_forbidden");
    let cases = [
        ("eu", order().with("x-region", "eu"), By("region")),
        (
            "by another case",
            order().with("X-Region", "us"),
            By("region"),
        ),
        ("with space", order().with("x-region", " eu "), By("region")),
        ("asia", order().with("x-region", "asia"), By("region.any")),
        (
            "of two in one",
            order().with("x-region", "eu, asia"),
            By("region.any"),
        ),
        (
            "of another case",
            order().with("x-region", "EU"),
            By("region.any"),
        ),
        ("none", order(), UNEVALUABLE),
        (
            "twice",
            order().with("x-region", "eu").with("x-region", "eu"),
            UNEVALUABLE,
        ),
        (
            "two",
            order().with("x-region", "eu").with("x-region", "asia"),
            UNEVALUABLE,
        ),
        (
            "two spellings",
            order().with("x-region", "eu").with("x_region", "asia"),
            UNEVALUABLE,
        ),
        (
            "another spelling",
            order().with("x_region", "eu"),
            UNEVALUABLE,
        ),
        (
            "three spellings",
            order().with("x-region", "eu").with("x.region", "asia"),
            UNEVALUABLE,
        ),
        ("not text", order().with("x-region", b"e\xff"), UNEVALUABLE),
        (
            "taken away on the way",
            order()
                .with("x-region", "eu")
                .with("connection", "x-region"),
            UNEVALUABLE,
        ),
        (
            "taken away by another spelling",
            order()
                .with("x-region", "eu")
                .with("connection", "close, X-REGION"),
            UNEVALUABLE,
        ),
        (
            "the gate's own, taken away",
            order()
                .with("x-region", "eu")
                .with("connection", "content-type"),
            forbidden,
        ),
    ];
    let cases = cases.map(|(what, order, end)| (what.to_owned(), order, end));
    scene.check(cases.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parameter_of_the_path_is_judged_as_it_is_decoded() {
    let scene = Scene::open().await;
    let mut cases = Vec::new();
    for (user, end) in [
        ("7", By("user")),
        ("%37", By("user")),
        ("7a", By("user.any")),
        ("7%0A", No(400, "target_ambiguous")),
        ("7%00", No(400, "target_ambiguous")),
        ("7%2F8", No(400, "target_ambiguous")),
        ("%EF%BC%97", By("user.any")),
        ("%2537", By("user.any")),
    ] {
        let path = format!("/t/mirror/users/{user}");
        cases.push((user.to_owned(), get(&path), end));
    }
    scene.check(cases).await;
}
