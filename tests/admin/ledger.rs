//! The ledger through the admin API: whose records, which, in what order, and what can't be asked.

use crate::scene::Scene;
use http::Method;
use serde_json::{Value, json};

async fn records(scene: &Scene, principal: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/ledger{query}");
    let answer = scene.get(principal, &path).await.expect(200).json();
    answer["items"].as_array().unwrap().clone()
}

fn seqs(records: &[Value]) -> Vec<u64> {
    records
        .iter()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_sees_the_records_of_own_projects_and_none_without_one() {
    let scene = Scene::start();
    scene.mint().await;
    scene
        .mint_with(json!({ "project": "prod", "agent": "bot" }))
        .await;
    for (principal, own) in [("auditor", "dev"), ("stranger", "prod")] {
        for query in [
            "",
            "?order=oldest",
            "?kind=session,gate,policy,principal",
            "?project=dev,prod",
            "?text=minted",
        ] {
            let found = records(&scene, principal, query).await;
            assert!(!found.is_empty(), "{principal} {query}");
            assert!(
                found.iter().all(|record| record["project"] == own),
                "{principal} {query}: {found:?}"
            );
        }
    }
    // Another's project, one that is not there and one without records answer alike.
    for query in [
        "?project=prod",
        "?project=nowhere",
        "?kind=gate",
        "?agent=nobody",
    ] {
        let answer = scene
            .get("auditor", &format!("/v1/ledger{query}"))
            .await
            .expect(200);
        assert_eq!(
            answer.json(),
            json!({ "items": [], "next": null }),
            "{query}"
        );
    }
    let all = records(&scene, "root", "?order=oldest").await;
    assert_eq!(
        all[0]["kind"], "gate",
        "who has all projects sees the gate's own"
    );
    assert_eq!(seqs(&all), (0..all.len() as u64).collect::<Vec<_>>());
    let detail = scene
        .get("issuer", "/v1/ledger")
        .await
        .refused(403, "role_missing");
    assert!(detail.contains("auditor"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_from_either_end_and_a_call_comes_with_its_outcome() {
    let scene = Scene::start();
    let (session, token) = scene.mint().await;
    for _ in 0..5 {
        scene
            .agent(&token, Method::GET, "/shop/nowhere")
            .await
            .refused(403, "no_route");
    }
    // Outcomes are written behind the answer; a stopped gate has them all, a running one soon.
    let all = loop {
        let all = records(
            &scene,
            "auditor",
            &format!("?session={session}&order=oldest"),
        )
        .await;
        if all
            .iter()
            .filter(|record| record["kind"] == "outcome")
            .count()
            == 5
        {
            break all;
        }
    };
    let mut newest = seqs(&all);
    newest.reverse();
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/ledger?session={session}&limit=2{after}");
        let page = scene.get("auditor", &path).await.expect(200).json();
        found.extend(seqs(page["items"].as_array().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, newest);
    // What only the decision says: the outcome comes with it, and is not counted.
    let denied = records(
        &scene,
        "auditor",
        "?agent=bot&decision=deny&reason=no_route&limit=3",
    )
    .await;
    let kinds: Vec<&str> = denied
        .iter()
        .map(|record| record["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["outcome", "decision"].repeat(3));
    assert_eq!(
        records(&scene, "auditor", "?kind=decision&tool=shop")
            .await
            .len(),
        5
    );
    assert_eq!(
        records(&scene, "auditor", "?since=1h&until=1970-01-01")
            .await
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_the_ledger_is_named() {
    let scene = Scene::start();
    for (query, named) in [
        ("colour=red", "`colour` is none of the filters"),
        ("limit=0", "`limit`"),
        ("limit=1001", "`limit`"),
        ("limit=many", "`limit`"),
        ("limit=1&limit=2", "`limit`"),
        ("after=ses_1", "`after`"),
        ("order=up", "`order`"),
        ("kind=call", "`kind` is one of decision,"),
        ("decision=no", "`decision` is one of"),
        ("session=1", "`session` is `ses_`"),
        ("project=A%20B", "`project` is the name"),
        ("since=yesterday", "`since` is a length of time"),
        ("agent=a&agent=b", "`agent` is given twice"),
        ("text=", "`text` is a text of 1 to"),
    ] {
        let detail = scene
            .get("auditor", &format!("/v1/ledger?{query}"))
            .await
            .refused(400, "invalid_input");
        assert!(detail.contains(named), "{query}: {detail}");
    }
    let document = scene
        .raw(Method::GET, "/openapi.json", &[], "")
        .await
        .expect(200)
        .json();
    let parameters = document["paths"]["/v1/ledger"]["get"]["parameters"]
        .as_array()
        .unwrap();
    let described: Vec<&str> = parameters
        .iter()
        .map(|each| each["name"].as_str().unwrap())
        .collect();
    let taken = toolgate::ledger::query::NAMES
        .iter()
        .chain(&["order", "limit", "after"]);
    assert!(
        taken.clone().all(|name| described.contains(name)),
        "{described:?}"
    );
    assert_eq!(described.len(), taken.count());
}
