//! Calls that become tunnels: handshakes that are wrong on either side, frames, and every way to end.

use super::messages::noting;
use super::*;
use crate::ledger::record::FrameCounts;

/// The key and proof of RFC 6455 section 1.3.
pub(super) const ASK: &str = "GET /feed HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: chat\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// A text frame of the agent's.
pub(super) fn from_agent(payload: &str) -> Vec<u8> {
    let mut frame = vec![
        0x81,
        0x80 | u8::try_from(payload.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    frame.extend(payload.as_bytes());
    frame
}

pub(super) fn from_backend(payload: &str) -> Vec<u8> {
    let mut frame = vec![0x81, u8::try_from(payload.len()).unwrap()];
    frame.extend(payload.as_bytes());
    frame
}

const AGENT_CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 3, 0xe8];
pub(super) const BACKEND_CLOSE: [u8; 4] = [0x88, 2, 3, 0xe8];

/// A backend that switches and sends back, unmasked, whatever text frame comes; it answers a Close and then closes.
pub(super) async fn echo() -> SocketAddr {
    backend(|_, mut wire| async move {
        wire.head().await;
        wire.send(&format!("{SWITCH}\r\n")).await;
        loop {
            let head = wire.take(6).await;
            let payload = wire.take(usize::from(head[1] & 0x7f)).await;
            if head[0] == 0x88 {
                wire.send_bytes(&BACKEND_CLOSE).await;
                return;
            }
            wire.send_bytes(&from_backend(std::str::from_utf8(&payload).unwrap()))
                .await;
        }
    })
    .await
}

/// A backend that switches and then does as it is told.
async fn switched<F>(act: impl Fn(Wire) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    backend(move |_, mut wire| {
        let act = act.clone();
        async move {
            wire.head().await;
            wire.send(&format!("{SWITCH}\r\n")).await;
            act(wire).await;
        }
    })
    .await
}

/// A backend that switches and then only listens; and all that it heard until its connection ended.
async fn hearing() -> (SocketAddr, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    let (told, heard) = tokio::sync::mpsc::channel(1);
    let address = switched(move |mut wire| {
        let told = told.clone();
        async move { told.send(wire.rest_bytes().await).await.unwrap() }
    })
    .await;
    (address, heard)
}

async fn opened(gate: &Gate) -> Wire {
    let mut agent = gate.agent().await;
    agent.send(ASK).await;
    let head = agent.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    agent
}

#[tokio::test]
async fn frames_pass_both_ways_and_are_counted_until_the_close_handshake() {
    let gate = Gate::before(echo().await).await;
    let mut agent = opened(&gate).await;
    for text in ["one", "two", ""] {
        agent.send_bytes(&from_agent(text)).await;
        let echoed = from_backend(text);
        assert_eq!(agent.take(echoed.len()).await, echoed);
    }
    agent.send_bytes(&AGENT_CLOSE).await;
    assert_eq!(agent.rest_bytes().await, BACKEND_CLOSE);
    drop(agent);
    let ended = gate.ended().await;
    let frames = FrameCounts {
        received: 4,
        sent: 4,
    };
    assert_eq!((ended.frames, ended.fault), (frames, None));
    assert_eq!(gate.meter().bytes_in(), 3 * 6 + 6 + 8);
    assert_eq!(gate.meter().bytes_out(), 3 * 2 + 6 + 4);
}

#[tokio::test]
async fn the_handshake_passes_with_its_subprotocol_and_nothing_of_the_agents_connection() {
    let (tell, heard) = tokio::sync::oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let address = backend(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            let head = wire.head().await;
            let rest = "Sec-WebSocket-Protocol: chat\r\nSet-Cookie: a=1\r\nKeep-Alive: 5\r\n\r\n";
            // The first frame comes in one piece with the answer.
            wire.send(&format!("{SWITCH}{rest}")).await;
            wire.send_bytes(&from_backend("early")).await;
            tell.lock().unwrap().take().unwrap().send(head).unwrap();
            wire.rest().await;
        }
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent
        .send(&ASK.replace(
            "Connection: Upgrade",
            "Connection: keep-alive, Upgrade, X-Hop\r\nX-Hop: 1",
        ))
        .await;
    let answer = agent.head().await.to_ascii_lowercase();
    for line in [
        "http/1.1 101 switching protocols\r\n",
        "\r\nconnection: upgrade\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n",
        "\r\nsec-websocket-protocol: chat\r\n",
        "\r\nset-cookie: a=1\r\n",
        "\r\nvia: 1.1 toolgate\r\n",
    ] {
        assert!(answer.contains(line), "{line:?} in {answer}");
    }
    assert!(!answer.contains("keep-alive"), "{answer}");
    let early = from_backend("early");
    assert_eq!(agent.take(early.len()).await, early);
    let head = heard.await.unwrap();
    for line in [
        "\r\nconnection: Upgrade\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "\r\nsec-websocket-version: 13\r\n",
        "\r\nsec-websocket-protocol: chat\r\n",
    ] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    assert!(
        !head.contains("x-hop") && !head.contains("keep-alive"),
        "{head}"
    );
}

#[tokio::test]
async fn a_backend_that_declines_is_relayed_as_an_ordinary_answer_and_the_agent_stays_with_http() {
    let gate =
        Gate::before(fixed("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await).await;
    let mut agent = gate.agent().await;
    for _ in 0..2 {
        agent.send(ASK).await;
        let answer = agent.until("no").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
}

#[tokio::test]
async fn a_backend_that_switches_to_what_nobody_asked_for_is_refused() {
    let proof = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for head in [
        format!("Upgrade: h2c\r\nConnection: Upgrade\r\n{proof}"),
        format!("Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n{proof}"),
        format!("Upgrade: websocket\r\n{proof}"),
        format!("Connection: Upgrade\r\n{proof}"),
        format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{proof}{proof}"),
        format!("Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n{proof}"),
        "Upgrade: websocket\r\nConnection: Upgrade\r\n".to_owned(),
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"
            .to_owned(),
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n");
        let address = fixed(Box::leak(answer.into())).await;
        let mut agent = Gate::before(address).await.agent().await;
        agent.send(ASK).await;
        let refused = agent.head().await;
        assert!(refused.starts_with("HTTP/1.1 502 "), "{head}: {refused}");
    }
}

#[tokio::test]
async fn a_handshake_that_two_readers_could_differ_on_is_refused() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (from, to) in [
        ("Upgrade: websocket", "Upgrade: websocket, h2c"),
        (
            "Upgrade: websocket",
            "Upgrade: websocket\r\nUpgrade: websocket",
        ),
        (key, ""),
        (key, "Sec-WebSocket-Key: short\r\n"),
        (key, &format!("{key}{key}")),
        ("Version: 13", "Version: 8"),
        ("Version: 13", "Version: 13\r\nContent-Length: 5"),
        ("Version: 13", "Version: 13\r\nTransfer-Encoding: chunked"),
    ] {
        // No backend: nothing of it is sent on.
        let mut agent = Gate::before("127.0.0.1:9".parse().unwrap())
            .await
            .agent()
            .await;
        agent.send(&ASK.replacen(from, to, 1)).await;
        let answer = agent.head().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{to}: {answer}");
    }
}

#[tokio::test]
async fn other_upgrades_are_not_passed_on_and_the_call_goes_on_without() {
    for ask in [
        "GET / HTTP/1.1\r\nHost: g\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\
         Connection: Upgrade, HTTP2-Settings\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (address, heard) = noting().await;
        let mut agent = Gate::before(address).await.agent().await;
        agent.send(ask).await;
        agent.until("ok").await;
        let head = heard.await.unwrap().to_ascii_lowercase();
        assert!(
            !head.contains("upgrade") && !head.contains("http2-settings"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_tunnel_is_cut_within_a_second_of_its_sessions_end_and_both_sides_are_told() {
    let (address, mut seen) = hearing().await;
    let gate = Gate::before(address).await;
    let mut agent = opened(&gate).await;
    gate.end_session();
    let at_agent = timeout(Duration::from_secs(1), agent.rest_bytes())
        .await
        .unwrap();
    assert_eq!(at_agent, [0x88, 2, 0x03, 0xf0], "1008");
    let at_backend = timeout(Duration::from_secs(1), seen.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(at_backend[..2], [0x88, 0x82]);
    assert_eq!(gate.ended().await.fault, Some(Fault::SessionEnded));
}

#[tokio::test]
async fn a_tunnel_that_never_pauses_is_cut_as_well() {
    let address = switched(|mut wire| async move {
        while wire.0.write_all(&from_backend("more")).await.is_ok() {}
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = opened(&gate).await;
    agent.take(100_000).await;
    gate.end_session();
    timeout(Duration::from_secs(1), agent.rest_bytes())
        .await
        .unwrap();
    assert_eq!(gate.ended().await.fault, Some(Fault::SessionEnded));
}

#[tokio::test]
async fn a_tunnel_on_which_nobody_speaks_is_cut_and_a_ping_keeps_it() {
    let address = switched(|mut wire| async move {
        wire.rest_bytes().await;
    })
    .await;
    let gate = Gate::bounded(tool(address), SOON, Duration::from_millis(400)).await;
    let mut agent = opened(&gate).await;
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        agent.send_bytes(&ping).await;
        assert!(
            gate.ended.lock().unwrap().is_none(),
            "a tunnel that pings stays"
        );
    }
    assert_eq!(agent.rest_bytes().await, [0x88, 2, 0x03, 0xe9], "1001");
    let ended = gate.ended().await;
    assert_eq!((ended.fault, ended.frames.received), (Some(Fault::Idle), 6));
}

#[tokio::test]
async fn a_frame_that_makes_no_sense_reaches_nobody_and_ends_the_tunnel() {
    let (address, mut seen) = hearing().await;
    let gate = Gate::before(address).await;
    let mut agent = opened(&gate).await;
    let sound = from_agent("sound");
    let unmasked = b"\x81\x26GET /admin HTTP/1.1\r\nHost: smuggled\r\n\r\n";
    agent
        .send_bytes(&[sound.clone(), unmasked.to_vec()].concat())
        .await;
    assert_eq!(agent.rest_bytes().await, [0x88, 2, 0x03, 0xea], "1002");
    let at_backend = timeout(SOON, seen.recv()).await.unwrap().unwrap();
    assert_eq!(at_backend[..sound.len()], sound);
    assert_eq!(
        at_backend.len(),
        sound.len() + AGENT_CLOSE.len(),
        "and a Close frame of the gate's"
    );
    let ended = gate.ended().await;
    assert_eq!(
        (ended.fault, ended.frames.received),
        (Some(Fault::AgentFailed), 1)
    );
}

#[tokio::test]
async fn a_backends_frame_that_makes_no_sense_ends_the_tunnel() {
    let address = switched(|mut wire| async move {
        wire.send_bytes(&from_agent("masked")).await;
        wire.rest_bytes().await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = opened(&gate).await;
    assert_eq!(agent.rest_bytes().await, [0x88, 2, 0x03, 0xe9], "1001");
    assert_eq!(gate.ended().await.fault, Some(Fault::UpstreamBroke));
}

#[tokio::test]
async fn a_side_of_a_tunnel_that_takes_nothing_holds_the_other_back_and_is_cut() {
    let (pressed, mut seen) = tokio::sync::mpsc::channel(1);
    let address = switched(move |mut wire| {
        let pressed = pressed.clone();
        async move {
            let chunk = from_backend(&"x".repeat(120)).repeat(100);
            let mut written = 0;
            while wire.0.write_all(&chunk).await.is_ok() {
                written += chunk.len();
            }
            pressed.send(written).await.unwrap();
        }
    })
    .await;
    let gate = Gate::with(tool(address), Duration::from_millis(500)).await;
    let agent = opened(&gate).await;
    assert_eq!(gate.ended().await.fault, Some(Fault::AgentLeft));
    drop(agent);
    let written = timeout(SOON, seen.recv()).await.unwrap().unwrap();
    assert!(written < 16 << 20, "{written}: only kernels' buffers fill");
}

#[tokio::test]
async fn whoever_leaves_without_a_close_is_named() {
    let address = switched(|mut wire| async move {
        wire.rest_bytes().await;
    })
    .await;
    let gate = Gate::before(address).await;
    drop(opened(&gate).await);
    assert_eq!(gate.ended().await.fault, Some(Fault::AgentLeft));

    let gate = Gate::before(switched(|_| async {}).await).await;
    let mut agent = opened(&gate).await;
    assert_eq!(
        agent.rest_bytes().await,
        b"",
        "no Close frame that the backend did not send"
    );
    drop(agent);
    assert_eq!(gate.ended().await.fault, Some(Fault::UpstreamBroke));
}

#[tokio::test]
async fn what_the_backend_still_says_reaches_an_agent_that_says_no_more() {
    let address = switched(|mut wire| async move {
        assert_eq!(wire.rest_bytes().await, from_agent("last"));
        wire.send_bytes(&from_backend("answer")).await;
        wire.send_bytes(&BACKEND_CLOSE).await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = opened(&gate).await;
    agent.send_bytes(&from_agent("last")).await;
    agent.0.shutdown().await.unwrap();
    let expected = [from_backend("answer"), BACKEND_CLOSE.to_vec()].concat();
    assert_eq!(agent.rest_bytes().await, expected);
    assert_eq!(gate.ended().await.fault, None);
}

#[tokio::test]
async fn both_sides_hear_that_the_gate_stops() {
    let (address, mut seen) = hearing().await;
    let gate = Gate::before(address).await;
    let mut agent = opened(&gate).await;
    gate.stopping.send_replace(true);
    assert_eq!(agent.rest_bytes().await, [0x88, 2, 0x03, 0xe9], "1001");
    let at_backend = timeout(SOON, seen.recv()).await.unwrap().unwrap();
    assert_eq!(at_backend.len(), AGENT_CLOSE.len());
    assert_eq!(gate.ended().await.fault, Some(Fault::GateStopped));
}
