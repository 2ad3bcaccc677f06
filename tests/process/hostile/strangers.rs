//! Who tries tokens: after so many an address is not listened to, and who is known is.

use super::raw::{Act, Raw, ask, good, setup};
use crate::client::Connection;
use http::Method;

const TRIES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_fails_too_often_is_answered_503_before_its_token_is_looked_at() {
    let backend = Raw::start(|_, _| Act::Say(vec![good("ok")])).await;
    let setup = setup(&[("t", backend.address, "")]);
    setup.edit_server(|text| {
        text.replace(
            "agents: { address: 127.0.0.1:0 }",
            &format!("agents: {{ address: 127.0.0.1:0, failed_tries: {TRIES} }}"),
        )
    });
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let mut known = Connection::open(gate.agents, &token).await.unwrap();
    known
        .call(Method::GET, "/t/a", ())
        .await
        .unwrap()
        .expect(200);
    let mut refused = 0;
    for _ in 0..2 * TRIES {
        match ask(&gate, "tgs_wrong", "GET", "/t/a", "").await.status() {
            401 => assert_eq!(refused, 0, "listened to again"),
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    // A minute gives as many back as it may fail, and this took less than one.
    assert!((1..=TRIES).contains(&refused), "{refused}");
    // A good token of the same address waits as well, and says when to come again.
    let got = ask(&gate, &token, "GET", "/t/a", "").await;
    let said = got.0.escape_ascii().to_string();
    assert_eq!(got.status(), 503, "{said}");
    assert!(
        said.contains("retry-after: ") && said.contains("overloaded"),
        "{said}"
    );
    // Where one was shown before, calls go on.
    known
        .call(Method::GET, "/t/a", ())
        .await
        .unwrap()
        .expect(200);
    let counted = gate
        .metric("toolgate_requests_total", &["reason=\"overloaded\""])
        .await;
    assert!(counted >= 1.0, "{counted}");
    assert!(gate.metric("toolgate_connections", &[]).await >= 1.0);
}
