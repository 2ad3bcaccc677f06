//! Messages that two readers could delimit differently: none of them passes, and nothing behind them is a request.

use super::malformed::{Case, bodies, heads, limits};
use super::scene::{Scene, Told, scene};
use crate::wait::until;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What stands behind every case in the same write: a call that would pass, were it read as one.
const SMUGGLED: &str = "GET /crm/x/smuggled-{N} HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\nAuthorization: Bearer {T}\r\n\r\n";

/// What became of one case, if it is not what it should be.
async fn wrong(scene: &Scene, number: usize, case: &Case, pieces: &[Vec<u8>]) -> Option<String> {
    let name = format!("{number} {}", case.name);
    let told = scene.talk(pieces, &name).await;
    let spent = |why: &str| {
        let short: Vec<_> = told.iter().map(|it| (it.status, it.reason())).collect();
        Some(format!("{name}: {why}: {short:?}"))
    };
    if scene.backend.saw(&format!("smuggled-{number} ")) || scene.backend.saw("/hidden") {
        return spent("what stood behind it reached the backend");
    }
    if !scene.backend.whole(&format!("case-{number} ")).is_empty() {
        return spent("it reached the backend whole");
    }
    let [only] = &told[..] else {
        return spent("not one answer");
    };
    if only.status != case.status || only.reason().as_deref() != Some(case.reason) {
        return spent("another answer");
    }
    let closes = only.head.contains("connection: close");
    let named = only.head.contains("toolgate-request-id: ");
    if !closes || !named || !only.head.contains("content-type: application/problem+json") {
        return Some(format!("{name}: {}", only.head));
    }
    None
}

/// All cases at once, sent whole or in small pieces.
async fn judge(scene: &Arc<Scene>, cases: Vec<Case>, piece: usize, from: usize) {
    let mut running = JoinSet::new();
    let mut found = Vec::new();
    let count = cases.len();
    for (number, case) in cases.into_iter().enumerate() {
        let number = from + number;
        if running.len() >= 16 {
            found.extend(running.join_next().await.unwrap().unwrap());
        }
        let scene = Arc::clone(scene);
        running.spawn(async move {
            let mut bytes = scene.bytes(&case.bytes, number);
            bytes.extend(scene.bytes(SMUGGLED.as_bytes(), number));
            let pieces: Vec<_> = match piece {
                0 => vec![bytes],
                piece => bytes.chunks(piece).map(<[u8]>::to_vec).collect(),
            };
            wrong(&scene, number, &case, &pieces).await
        });
    }
    while let Some(one) = running.join_next().await {
        found.extend(one.unwrap());
    }
    found.sort();
    assert!(
        found.is_empty(),
        "{} of {count} cases:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_two_readers_could_read_differently_is_refused_and_nothing_behind_it_is_a_request()
 {
    let scene = Arc::new(scene("").await);
    assert!(heads().len() >= 130);
    judge(&scene, heads(), 0, 0).await;
    judge(&scene, limits(), 0, 1000).await;
    assert!(scene.backend.all().is_empty(), "{:?}", scene.backend.all());
    // In whatever pieces it comes.
    judge(&scene, heads(), 7, 2000).await;
    assert!(scene.backend.all().is_empty(), "{:?}", scene.backend.all());
    let strangers = scene
        .gate
        .metric("toolgate_requests_total", &["reason=\"request_malformed\""])
        .await;
    assert!(strangers >= 200.0, "{strangers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_two_readers_could_end_differently_is_never_completed_towards_the_backend() {
    let scene = Arc::new(scene("").await);
    judge(&scene, bodies(), 0, 0).await;
    judge(&scene, bodies(), 3, 1000).await;
    assert!(scene.backend.all().is_empty(), "{:?}", scene.backend.all());
    // The calls that had begun are given up, and their connections with them.
    until("the backend's connections are closed", || async {
        (scene.backend.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_before_a_malformed_head_are_answered_first_and_nothing_behind_it_is() {
    let scene = scene("").await;
    let call = |name: &str| {
        format!("GET /crm/x/{name} HTTP/1.1\r\nHost: {{H}}\r\nAuthorization: Bearer {{T}}\r\n\r\n")
    };
    for (number, piece) in [0, 1, 50].into_iter().enumerate() {
        let text = format!(
            "{}{}GET /crm/x/bad HTTP/1.1\nHost: a\r\n\r\n{}",
            call("one-{N}"),
            call("two-{N}"),
            call("three-{N}")
        );
        let bytes = scene.bytes(text.as_bytes(), number);
        let pieces: Vec<_> = match piece {
            0 => vec![bytes],
            piece => bytes.chunks(piece).map(<[u8]>::to_vec).collect(),
        };
        let told = scene.talk(&pieces, "three calls and a bad head").await;
        let statuses: Vec<_> = told.iter().map(|it: &Told| it.status).collect();
        assert_eq!(statuses, [200, 200, 400], "{told:?}");
        assert_eq!(told[2].reason().as_deref(), Some("request_malformed"));
        for (name, times) in [("one", 1), ("two", 1), ("three", 0)] {
            let text = format!("/x/{name}-{number} ");
            assert_eq!(scene.backend.whole(&text).len(), times, "{name}");
        }
    }
    // A call that says it is the last is the last: what stands behind it is not looked at.
    let text = "GET /crm/x/last HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\nAuthorization: Bearer {T}\r\n\r\nnonsense\n\n";
    let told = scene
        .talk(
            &[scene.bytes(text.as_bytes(), 9)],
            "nonsense behind the last",
        )
        .await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].status, 200);
}
