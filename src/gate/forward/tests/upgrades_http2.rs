//! Tunnels with HTTP/2 on one side or both (RFC 8441).

use super::upgrades::{ASK, BACKEND_CLOSE, echo, from_agent, from_backend};
use super::*;
use crate::ledger::record::FrameCounts;
use crate::policy::model::Http2;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};

/// A backend of HTTP/2 that takes extended CONNECT for WebSocket, and sends back whatever text frame comes.
async fn echo_http2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut http = h2::server::Builder::new();
        http.enable_connect_protocol();
        let mut connection = http.handshake::<_, Bytes>(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
            assert_eq!(
                (request.method(), protocol),
                (&Method::CONNECT, Some("websocket"))
            );
            let headers = request.headers();
            assert!(!headers.contains_key("sec-websocket-key") && !headers.contains_key("upgrade"));
            assert_eq!(headers["sec-websocket-version"], "13");
            let answer = Response::builder().header("sec-websocket-protocol", "chat");
            let mut send = respond
                .send_response(answer.body(()).unwrap(), false)
                .unwrap();
            tokio::spawn(async move {
                let mut receive = request.into_body();
                let frame = arrived(&mut receive, from_agent("one").len()).await;
                assert_eq!(frame, from_agent("one"));
                send.send_data(from_backend("one").into(), false).unwrap();
                send.send_data(BACKEND_CLOSE.to_vec().into(), true).unwrap();
                while let Some(Ok(_)) = receive.data().await {}
            });
        }
    });
    address
}

async fn arrived(receive: &mut RecvStream, bytes: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < bytes {
        let chunk = timeout(SOON, receive.data())
            .await
            .unwrap()
            .expect("more")
            .unwrap();
        receive
            .flow_control()
            .release_capacity(chunk.len())
            .unwrap();
        read.extend_from_slice(&chunk);
    }
    read
}

/// An agent's extended CONNECT: the answer, and the stream both ways.
async fn ask(gate: &Gate, protocol: &'static str) -> (Response<RecvStream>, SendStream<Bytes>) {
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://gate.example/feed")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .extension(Protocol::from_static(protocol))
        .body(())
        .unwrap();
    let (answer, send) = client.send_request(request, false).unwrap();
    (timeout(SOON, answer).await.unwrap().unwrap(), send)
}

fn of_http2(address: SocketAddr) -> Tool {
    let mut tool = tool(address);
    tool.upstream.as_mut().unwrap().http2 = Http2::PriorKnowledge;
    tool
}

async fn echoes_to_http2(gate: Gate) {
    let (answer, mut send) = ask(&gate, "websocket").await;
    assert_eq!(answer.status(), 200);
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    let mut receive = answer.into_body();
    send.send_data(from_agent("one").into(), false).unwrap();
    let echoed = from_backend("one");
    assert_eq!(arrived(&mut receive, echoed.len()).await, echoed);
}

#[tokio::test]
async fn an_agent_of_http2_reaches_a_websocket_of_http1() {
    let address = backend(|_, mut wire| async move {
        let head = wire.head().await;
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .expect("a key of the gate's own");
        let proof = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, proof.as_bytes());
        wire.send(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            STANDARD.encode(proof)
        ))
        .await;
        assert_eq!(wire.take(from_agent("one").len()).await, from_agent("one"));
        wire.send_bytes(&from_backend("one")).await;
        wire.rest_bytes().await;
    })
    .await;
    echoes_to_http2(Gate::before(address).await).await;
}

#[tokio::test]
async fn a_backend_that_does_not_prove_the_gates_own_key_is_refused() {
    let gate = Gate::before(echo().await).await;
    let (answer, _send) = ask(&gate, "websocket").await;
    assert_eq!(answer.status(), 502);
}

#[tokio::test]
async fn an_agent_of_http2_reaches_a_websocket_of_http2() {
    echoes_to_http2(Gate::with(of_http2(echo_http2().await), SOON).await).await;
}

#[tokio::test]
async fn an_agent_of_http1_reaches_a_websocket_of_http2() {
    let gate = Gate::with(of_http2(echo_http2().await), SOON).await;
    let mut agent = gate.agent().await;
    agent.send(ASK).await;
    let head = agent.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    assert!(head.contains("sec-websocket-protocol: chat"), "{head}");
    agent.send_bytes(&from_agent("one")).await;
    let expected = [from_backend("one"), BACKEND_CLOSE.to_vec()].concat();
    assert_eq!(agent.rest_bytes().await, expected);
    drop(agent);
    let ended = gate.ended().await;
    let frames = FrameCounts {
        received: 1,
        sent: 2,
    };
    assert_eq!((ended.frames, ended.fault), (frames, None));
}

#[tokio::test]
async fn a_tunnel_over_http2_is_cut_within_a_second_of_its_sessions_end() {
    let gate = Gate::with(of_http2(echo_http2().await), SOON).await;
    let (answer, _send) = ask(&gate, "websocket").await;
    gate.end_session();
    let mut receive = answer.into_body();
    let told = timeout(Duration::from_secs(1), arrived(&mut receive, 4)).await;
    assert_eq!(told.unwrap(), [0x88, 2, 0x03, 0xf0], "1008");
    assert_eq!(gate.ended().await.fault, Some(Fault::SessionEnded));
}

#[tokio::test]
async fn an_answer_that_an_agent_of_http2_would_take_for_a_tunnel_is_refused() {
    let gate = Gate::before(fixed(OK).await).await;
    let (answer, _send) = ask(&gate, "websocket").await;
    assert_eq!(answer.status(), 502);
    let gate =
        Gate::before(fixed("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await).await;
    let (answer, _send) = ask(&gate, "websocket").await;
    assert_eq!(answer.status(), 403);
}
