//! Calls that wait for people, as tasks: for clients that take one in the place of a result, and for the session that called.

use super::{PROBLEM, Scene, problem, request};
use crate::client;
use crate::program::{Program, python};
use crate::wait::{PATIENCE, within};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A message of a client that takes tasks.
fn taking(id: u64, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    });
    request(id, method, params)
}

fn create(id: u64, amount: u64) -> Value {
    taking(
        id,
        "tools/call",
        json!({"name": "create_issue", "arguments": {"repo": "a", "amount": amount}}),
    )
}

fn about(id: u64, verb: &str, task: &str) -> Value {
    taking(id, &format!("tasks/{verb}"), json!({"taskId": task}))
}

impl Scene {
    /// Calls, with what the server is to answer, and is given a task.
    async fn begin(&self, call: &Value, answer: &str) -> String {
        let fields = [("x-answer", answer)];
        let told = self.send(Method::POST, &fields, &call.to_string()).await;
        let told = told.expect(200).json();
        assert_eq!(told["id"], call["id"], "{told}");
        let task = &told["result"];
        assert_eq!(
            (&task["resultType"], &task["status"]),
            (&json!("task"), &json!("working")),
            "{told}"
        );
        assert_eq!(
            (&task["ttlMs"], &task["pollIntervalMs"]),
            (&json!(600_000), &json!(5000)),
            "{told}"
        );
        task["taskId"].as_str().unwrap().to_owned()
    }

    /// What it says of a task.
    async fn get(&self, id: u64, task: &str) -> Value {
        let told = self.post(&about(id, "get", task)).await.expect(200).json();
        assert_eq!(told["id"], id, "{told}");
        assert_eq!(told["result"]["resultType"], "complete", "{told}");
        assert_eq!(told["result"]["taskId"], task, "{told}");
        told["result"].clone()
    }

    /// It was handed over; that the last of it was taken is known to the gate a moment later, and until then it is told again.
    async fn is_gone(&self, task: &str, state: &Value) {
        let gone = async {
            loop {
                let told = self.post(&about(90, "get", task)).await.expect(200).json();
                if told["error"]["code"] == -32602 {
                    return;
                }
                assert_eq!(told["result"]["status"], state["status"], "{told}");
            }
        };
        within(PATIENCE, "a task is gone", gone).await;
    }
}

#[tokio::test]
async fn a_call_that_waits_is_a_task_for_its_own_session_and_runs_once() {
    let scene = Scene::before("mcp_stub.py").await;
    // The server says nothing of tasks; to those who take them, the gate does.
    let discover = taking(1, "server/discover", json!({}));
    let told = scene.post(&discover).await.expect(200).json();
    let said = &told["result"]["capabilities"];
    assert_eq!(
        said,
        &json!({"tools": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}})
    );
    let told = scene.post(&request(2, "server/discover", json!({}))).await;
    let said = told.expect(200).json()["result"]["capabilities"].clone();
    assert_eq!(said, json!({"tools": {}}));
    for _ in 0..2 {
        scene.server.says();
    }

    let task = scene.begin(&create(3, 5), "").await;
    assert_eq!(scene.begin(&create(4, 5), "").await, task, "the same call");
    let state = scene.get(5, &task).await;
    assert_eq!(state["status"], "working", "{state}");
    // To every other session there is none; nor for a client that does not say what it takes.
    let other = scene.gate.mint("demo", "bot").await;
    for verb in ["get", "update", "cancel"] {
        let body = about(6, verb, &task).to_string();
        let told = scene.send_as(&other, Method::POST, &[], &body).await;
        assert_eq!(told.expect(200).json()["error"]["code"], -32602, "{verb}");
        let mut silent = about(6, verb, &task);
        silent["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let told = scene.post(&silent).await.expect(400).json();
        assert_eq!(told["error"]["code"], -32021, "{told}");
        let older = request(6, &format!("tasks/{verb}"), json!({"taskId": task}));
        let told = scene.post(&older).await.expect(200).json();
        assert_eq!(told["error"]["data"]["reason"], "no_route", "{told}");
        // A server's own tasks are for routes.
        let theirs = scene.post(&about(6, verb, "of-the-server")).await;
        let told = theirs.expect(200).json();
        assert_eq!(told["error"]["data"]["reason"], "no_route", "{told}");
    }
    let named = [("mcp-name", "apr_0"), ("mcp-method", "tasks/get")];
    let body = about(7, "get", &task).to_string();
    let told = scene.send(Method::POST, &named, &body).await.expect(400);
    assert_eq!(told.json()["error"]["code"], -32020);
    let told = scene.post(&about(8, "update", &task)).await;
    let told = told.expect(200).json();
    assert_eq!(told["result"], json!({"resultType": "complete"}));

    scene.agree(&task).await;
    let state = scene.get(9, &task).await;
    assert_eq!(state["status"], "completed", "{state}");
    // What ran is what was shown, byte for byte, once.
    let ran = state["result"]["saw"]["body"].as_str().unwrap();
    assert_eq!(ran, create(3, 5).to_string());
    assert_eq!(scene.server.says(), format!("ran {}", json!(ran)));
    // It was handed over, and the same call is another one.
    scene.is_gone(&task, &state).await;
    let next = scene.begin(&create(10, 5), "").await;
    assert_ne!(next, task);
    let records = scene
        .recorded("text=tools%2Fcall%20create_issue&decision=allow")
        .await;
    let decided: Vec<&Value> = records
        .iter()
        .filter(|it| it["kind"] == "decision")
        .collect();
    assert_eq!(decided.len(), 1, "{records:?}");
    assert_eq!(
        (&decided[0]["approval"], &decided[0]["route"]),
        (&json!(task), &json!("issues.create"))
    );
}

#[tokio::test]
async fn a_task_tells_how_it_ended_and_the_model_reads_what_it_would_have_read() {
    let scene = Scene::before("mcp_stub.py").await;
    // No.
    let task = scene.begin(&create(1, 1), "").await;
    scene.deny(&task, "not today").await;
    for id in [2, 3] {
        let state = scene.get(id, &task).await;
        let result = &state["result"];
        assert_eq!(
            (&state["status"], &result["isError"]),
            (&json!("completed"), &json!(true)),
            "{state}"
        );
        assert_eq!(result["_meta"][PROBLEM]["reason"], "approval_denied");
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("not today"), "{text}");
    }
    let (fields, again) = ([("x-answer", "")], create(4, 1).to_string());
    let again = scene.send(Method::POST, &fields, &again).await;
    assert_eq!(problem(again)["reason"], "approval_denied");
    // Taken back, once people had agreed too.
    let task = scene.begin(&create(5, 2), "").await;
    scene.agree(&task).await;
    let told = scene.post(&about(6, "cancel", &task)).await;
    let told = told.expect(200).json();
    assert_eq!(told["result"], json!({"resultType": "complete"}));
    let state = scene.get(7, &task).await;
    assert_eq!(state["status"], "cancelled", "{state}");
    scene.post(&about(8, "cancel", &task)).await.expect(200);
    // What the tool says is told as what it is: an error of the protocol, an answer in events, and neither.
    for (amount, answer, status) in [
        (3, "error", "failed"),
        (4, "stream", "completed"),
        (5, "words", "completed"),
    ] {
        let task = scene.begin(&create(9, amount), answer).await;
        scene.agree(&task).await;
        let state = scene.get(10, &task).await;
        assert_eq!(state["status"], status, "{state}");
        match answer {
            "error" => assert_eq!(
                state["error"],
                json!({"code": -32603, "message": "no"}),
                "{state}"
            ),
            "stream" => assert!(state["result"]["saw"].is_object(), "{state}"),
            _ => {
                let problem = &state["result"]["_meta"][PROBLEM];
                assert_eq!(problem["reason"], "outcome_not_kept", "{state}");
            }
        }
        scene.is_gone(&task, &state).await;
        let ran = scene.server.says();
        assert!(ran.contains(&format!("\\\"amount\\\":{amount}")), "{ran}");
    }
}

/// A poll that begins a long call does not wait for its end.
#[tokio::test]
async fn a_slow_tool_is_polled_and_runs_once_all_the_same() {
    let scene = Scene::before("mcp_stub.py").await;
    let task = scene.begin(&create(1, 1), "late").await;
    scene.agree(&task).await;
    for id in [2, 3] {
        let state = scene.get(id, &task).await;
        assert_eq!(state["status"], "working", "{state}");
    }
    // It goes on only now.
    let ping = request(4, "ping", json!({})).to_string();
    let release = [("x-answer", "release")];
    scene.send(Method::POST, &release, &ping).await.expect(200);
    let done = async {
        loop {
            let state = scene.get(5, &task).await;
            if state["status"] != "working" {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let state = within(Duration::from_secs(20), "it comes to its end", done).await;
    assert_eq!(state["status"], "completed", "{state}");
    assert!(state["result"]["saw"].is_object(), "{state}");
    let ran = [scene.server.says(), scene.server.says()];
    assert!(
        ran[0].contains("create_issue") && ran[1].contains("ping"),
        "{ran:?}"
    );
    scene.is_gone(&task, &state).await;
}

#[tokio::test]
async fn the_official_client_follows_a_task_to_its_result() {
    let scene = Scene::before("mcp_server.py").await;
    let mut command = python("mcp_tasks.py");
    command
        .env("BASE_URL", format!("http://{}/mcp", scene.gate.agents))
        .env("TOKEN", &scene.session.token);
    let client = Program::start(command);
    let said = |line: String| -> Value { serde_json::from_str(&line).unwrap() };
    // The first is agreed to, the second is not.
    let task = said(client.says())["task"].as_str().unwrap().to_owned();
    scene.agree(&task).await;
    let task = said(client.says())["task"].as_str().unwrap().to_owned();
    scene.deny(&task, "not today").await;
    let told = said(client.says());
    assert_eq!(told["declared"], true, "{told}");
    assert_eq!(told["made"]["content"][0]["text"], "acme/a#2", "{told}");
    assert_eq!(told["made"]["isError"], false, "{told}");
    assert_eq!(told["denied"]["isError"], true, "{told}");
    let text = told["denied"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("not today"), "{text}");
    assert_eq!(scene.server.says(), "ran create_issue acme/a t");
}

impl Scene {
    /// A person says no.
    async fn deny(&self, approval: &str, note: &str) {
        let path = format!("/v1/approvals/{approval}");
        let key = self.setup.key("dana");
        let shown = client::get(self.gate.admin, key, &path).await;
        let digest = shown.expect(200).json()["digest"].clone();
        let word = json!({"decision": "deny", "digest": digest, "note": note});
        let decide = format!("{path}/decision");
        client::call(self.gate.admin, key, Method::POST, &decide, &word)
            .await
            .expect(200);
    }
}
