//! Calls that a person must agree to: what is shown is what runs, and its answer reaches the attempt that waits for it.

use super::{Scene, call, problem, request};
use crate::client;
use http::Method;
use serde_json::{Value, json};

impl Scene {
    /// A person says yes to what is shown.
    pub(super) async fn agree(&self, approval: &str) -> Value {
        let path = format!("/v1/approvals/{approval}");
        let key = self.setup.key("dana");
        let shown = client::get(self.gate.admin, key, &path)
            .await
            .expect(200)
            .json();
        let word = json!({"decision": "approve", "digest": shown["digest"]});
        let decide = format!("{path}/decision");
        client::call(self.gate.admin, key, Method::POST, &decide, &word)
            .await
            .expect(200);
        shown
    }
}

/// The attempts of one call: numbered anew, with another token for progress.
fn attempt(id: Value, token: u64, amount: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
        "name": "create_issue", "arguments": {"repo": "a", "amount": amount}, "_meta": {"progressToken": token}
    }})
}

#[tokio::test]
async fn a_retry_joins_whatever_its_number_and_gets_the_answer_under_its_own() {
    let scene = Scene::before("mcp_stub.py").await;
    let pending = problem(scene.post(&attempt(json!(1), 100, 5)).await);
    assert_eq!(pending["status"], "PENDING_APPROVAL");
    let approval = pending["approval"].as_str().unwrap().to_owned();
    // Whatever else differs is another request.
    let other = problem(scene.post(&attempt(json!(1), 100, 6)).await);
    assert_ne!(other["approval"], pending["approval"]);
    let again = problem(scene.post(&attempt(json!("b"), 101, 5)).await);
    assert_eq!(again["approval"], pending["approval"]);
    scene.agree(&approval).await;
    let fields = [("x-answer", "stream")];
    let body = attempt(json!("c"), 102, 5).to_string();
    let answer = scene.send(Method::POST, &fields, &body).await;
    // Another field is another request, and is asked about.
    assert_eq!(problem(answer)["status"], "PENDING_APPROVAL");
    let answer = scene
        .post(&attempt(json!("c"), 102, 5))
        .await
        .expect(200)
        .json();
    assert_eq!(answer["id"], "c");
    // What ran is what was shown: the first attempt, byte for byte, once.
    let ran = answer["result"]["saw"]["body"].as_str().unwrap();
    assert_eq!(ran, attempt(json!(1), 100, 5).to_string());
    assert_eq!(scene.server.says(), format!("ran {}", json!(ran)));
    let records = scene
        .recorded("text=tools%2Fcall%20create_issue&decision=allow")
        .await;
    assert_eq!(
        records.iter().filter(|it| it["kind"] == "decision").count(),
        1
    );
}

#[tokio::test]
async fn events_of_an_approved_call_reach_the_attempt_that_waits() {
    let scene = Scene::before("mcp_stub.py").await;
    let fields = [("x-answer", "stream")];
    let send = |id: u64, token: u64| {
        let (scene, body) = (&scene, attempt(json!(id), token, 5).to_string());
        async move { scene.send(Method::POST, &fields, &body).await }
    };
    let pending = problem(send(1, 100).await);
    scene.agree(pending["approval"].as_str().unwrap()).await;
    let answer = send(2, 200).await.expect(200);
    let messages: Vec<Value> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(messages[0]["params"]["progressToken"], 200, "{messages:?}");
    assert_eq!(messages[1]["id"], 2, "{messages:?}");
}

/// A list that people had agreed to was refused to every retry with another number: it was changed for that attempt, and
/// was taken for one that can't be narrowed any more.
#[tokio::test]
async fn a_list_that_people_agreed_to_reaches_another_attempt_and_is_narrowed() {
    let scene = Scene::before("mcp_stub.py").await;
    for kind in ["list", "events"] {
        let list = |id: u64| {
            let body = request(id, "tools/list", json!({})).to_string();
            let scene = &scene;
            async move {
                let fields = [("x-answer", kind)];
                let session = &scene.session;
                scene
                    .send_to("/asked", session, Method::POST, &fields, &body)
                    .await
            }
        };
        let pending = list(1).await.expect(200).json();
        let pending = &pending["error"]["data"];
        assert_eq!(pending["status"], "PENDING_APPROVAL");
        scene.agree(pending["approval"].as_str().unwrap()).await;
        let answer = list(2).await.expect(200);
        let text = answer.text();
        let message = match text.lines().rfind(|line| line.starts_with("data: ")) {
            Some(event) => event.trim_start_matches("data: "),
            None => text,
        };
        let message: Value = serde_json::from_str(message).unwrap();
        assert_eq!(message["id"], 2, "{text}");
        assert!(text.contains("\"pay\"") && !text.contains("wipe"), "{text}");
    }
}

#[tokio::test]
async fn a_stricter_arm_asks_people_only_where_the_laxer_does_not_hold() {
    let scene = Scene::before("mcp_stub.py").await;
    scene
        .post(&call(1, "pay", json!({"amount": 50})))
        .await
        .expect(200);
    let pending = problem(scene.post(&call(2, "pay", json!({"amount": 51}))).await);
    let shown = scene.agree(pending["approval"].as_str().unwrap()).await;
    assert!(shown["call"].to_string().contains("51"), "{shown}");
    let answer = scene
        .post(&call(3, "pay", json!({"amount": 51})))
        .await
        .expect(200)
        .json();
    assert_eq!(answer["id"], 3);
    // It is used up: the next one is asked about anew.
    let next = problem(scene.post(&call(4, "pay", json!({"amount": 51}))).await);
    assert_ne!(next["approval"], pending["approval"]);
    let other = scene
        .post(&request(5, "completion/complete", json!({})))
        .await;
    other.expect(200);
}
