//! Behind a request for a WebSocket: nothing reaches the backend before it agreed, and nothing at all if it did not.

use super::scene::{find, scene};
use crate::wait::{until, within};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ASKED: &str = "Host: {H}\r\nAuthorization: Bearer {T}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A masked text frame.
const FRAME: &[u8] = b"\x81\x85\x00\x00\x00\x00early";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_says_before_the_switch_waits_for_it() {
    let scene = scene("").await;
    let asked = scene.bytes(format!("GET /crm/ws/yes HTTP/1.1\r\n{ASKED}").as_bytes(), 0);
    let talk = async {
        let mut stream = TcpStream::connect(scene.gate.agents).await.unwrap();
        stream.write_all(&[&asked, FRAME].concat()).await.unwrap();
        let mut answer = Vec::new();
        while find(&answer, b"\r\n\r\n").is_none() {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        // It is a tunnel now: bytes that are no HTTP pass.
        stream.write_all(FRAME).await.unwrap();
        until("both frames are there", || async {
            let (bytes, before, _) = scene.backend.line("/ws/yes")?;
            let head = find(&bytes, b"\r\n\r\n").unwrap() + 4;
            assert_eq!(before, Some(head));
            (bytes[head..] == [FRAME, FRAME].concat()).then_some(())
        })
        .await;
    };
    within(Duration::from_secs(60), "the tunnel", talk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_does_not_switch_gets_nothing_of_the_tunnel_and_no_other_call() {
    let scene = scene("").await;
    // What stands behind reads as a request to a backend that ignores the upgrade.
    let text = format!(
        "GET /crm/ws/no HTTP/1.1\r\n{ASKED}GET /crm/x/behind HTTP/1.1\r\nHost: {{H}}\r\nAuthorization: Bearer {{T}}\r\n\
         Connection: close\r\n\r\n"
    );
    let told = scene
        .talk(&[scene.bytes(text.as_bytes(), 0)], "no switch")
        .await;
    let statuses: Vec<_> = told.iter().map(|it| it.status).collect();
    // It is the agent's next call, judged as any other.
    assert_eq!(statuses, [200, 200], "{told:?}");
    until("its connection is closed", || async {
        let (bytes, _, closed) = scene.backend.line("/ws/no")?;
        assert!(bytes.ends_with(b"\r\n\r\n") && find(&bytes, b"behind").is_none());
        closed.then_some(())
    })
    .await;
    assert_eq!(scene.backend.whole("/x/behind ").len(), 1);
    // Frames to a backend that did not switch are no requests.
    let bytes = scene.bytes(format!("GET /crm/ws/no HTTP/1.1\r\n{ASKED}").as_bytes(), 0);
    let told = scene.talk(&[bytes, FRAME.to_vec()], "frames").await;
    let statuses: Vec<_> = told.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 400], "{told:?}");
    assert!(!scene.backend.saw("early"));
}
