//! Other protocols over what a backend was asked on, in either version.

use super::backends::{http2, listen, upstream};
use super::streams::{PATIENCE, holding, place, request};
use super::*;
use crate::policy::model::Http2;

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_where_the_backend_takes_extended_connect() {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let backend = http2(None, builder, |request, mut respond| async move {
        let protocol = request.extensions().get::<h2::ext::Protocol>();
        assert_eq!(protocol.map(h2::ext::Protocol::as_str), Some("websocket"));
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut body = request.into_body();
        while let Some(Ok(chunk)) = body.data().await {
            let _ = body.flow_control().release_capacity(chunk.len());
            let _ = stream.send_data(chunk, false);
        }
        let _ = stream.send_data(Bytes::new(), true);
    })
    .await;
    let mut lease = Lease::for_upgrade(&place(&backend), OWNER, PATIENCE)
        .await
        .unwrap();
    let switched = lease.upgrade(request(Outgoing::Empty), "websocket").await;
    let Ok(Upgrade::Switched(_, mut tunnel)) = switched else {
        panic!("not switched");
    };
    // More than a window, so that both sides must make room.
    let long = vec![7; 300 * 1024];
    let (mut reading, mut writing) = tokio::io::split(&mut tunnel);
    let (written, read) = tokio::join!(
        async {
            writing.write_all(&long).await?;
            writing.shutdown().await
        },
        async {
            let mut read = Vec::new();
            reading.read_to_end(&mut read).await.map(|_| read)
        }
    );
    written.unwrap();
    assert!(read.unwrap() == long);
}

#[tokio::test]
async fn a_backend_without_extended_connect_is_asked_over_http1_or_not_at_all() {
    let (backend, _release) = holding(100).await;
    let refused = Lease::for_upgrade(&place(&backend), OWNER, PATIENCE).await;
    assert_eq!(refused.err(), Some(DialFault::NoUpgrade));

    let backend = listen(None, |_, mut io| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(io.read_buf(&mut head).await.unwrap() > 0);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        io.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello",
        )
        .await
        .unwrap();
        let mut echo = [0; 3];
        io.read_exact(&mut echo).await.unwrap();
        io.write_all(&echo).await.unwrap();
    })
    .await;
    let place = Place::new(&upstream(backend.address, None, Http2::Auto)).unwrap();
    let mut lease = Lease::for_upgrade(&place, OWNER, PATIENCE).await.unwrap();
    let request = Request::get("/chat")
        .header("host", "b")
        .body(Outgoing::Empty);
    let switched = lease.upgrade(request.unwrap(), "websocket").await;
    let Ok(Upgrade::Switched(head, mut tunnel)) = switched else {
        panic!("not switched");
    };
    assert_eq!(head.status(), 101);
    tunnel.write_all(b"abc").await.unwrap();
    let mut read = String::new();
    tunnel.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "helloabc");
}
