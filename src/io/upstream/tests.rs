//! Kept connections, against backends on loopback sockets.

mod bodies;
mod streams;
mod tls;
mod tunnels;

pub(crate) mod backends;

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn answered_once() -> (Place, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = Place::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    (place, listener)
}

/// Whose connections those of these tests are.
pub(crate) const OWNER: Owner = Owner(SessionId::new(uuid::Uuid::nil()));

async fn exchange(lease: &mut Lease) -> Response<Answer> {
    lease.exchange(Request::new(Outgoing::Empty)).await.unwrap()
}

#[tokio::test]
async fn a_connection_is_kept_for_its_session_and_for_no_other() {
    let (place, listener) = answered_once().await;
    let backend = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut room = [0; 1024];
        while stream.read(&mut room).await.unwrap() > 0 {
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    let other = Owner(SessionId::new(uuid::Uuid::max()));
    let opened = Lease::fresh(&place, OWNER, Duration::from_secs(5)).await;
    let mut lease = opened.unwrap();
    exchange(&mut lease).await;
    lease.give_back();
    assert!(Lease::kept(&place, other).is_none());
    let mut lease = Lease::kept(&place, OWNER).expect("kept");
    exchange(&mut lease).await;
    drop(lease);
    backend.await.unwrap();
}

#[tokio::test]
async fn a_kept_connection_goes_before_the_backend_would_close_it() {
    let (place, listener) = answered_once().await;
    let backend = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut room = [0; 1024];
        while stream.read(&mut room).await.unwrap() > 0 {
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
        }
    });
    let mut lease = Lease::fresh(&place, OWNER, Duration::from_secs(5))
        .await
        .unwrap();
    exchange(&mut lease).await;
    lease.give_back();
    let mut lease = Lease::kept(&place, OWNER).expect("kept");
    assert_eq!(lease.origin(), Origin::Kept);
    exchange(&mut lease).await;
    lease.give_back();
    tokio::time::timeout(Duration::from_secs(5), backend)
        .await
        .expect("closed")
        .unwrap();
    assert!(Lease::kept(&place, OWNER).is_none());
}

#[tokio::test]
async fn a_lease_that_is_dropped_or_given_back_amid_an_answer_closes_its_connection() {
    let (place, listener) = answered_once().await;
    for given_back in [true, false] {
        let mut lease = Lease::fresh(&place, OWNER, Duration::from_secs(5))
            .await
            .unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let backend = async {
            let mut room = [0; 1024];
            assert!(stream.read(&mut room).await.unwrap() > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
                .await
                .unwrap();
        };
        let (answer, ()) = tokio::join!(exchange(&mut lease), backend);
        if given_back {
            lease.give_back();
        } else {
            drop(lease);
        }
        assert!(Lease::kept(&place, OWNER).is_none());
        let read = stream.read(&mut [0; 8]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        drop(answer);
    }
}

#[tokio::test]
async fn a_name_is_looked_up_and_every_address_of_it_is_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = Place::parse(&format!("localhost:{port}")).unwrap();
    assert!(
        Lease::fresh(&place, OWNER, Duration::from_secs(5))
            .await
            .is_ok()
    );
    let nowhere = Place::parse("no-such-host.invalid:80").unwrap();
    let fault = Lease::fresh(&nowhere, OWNER, Duration::from_secs(5))
        .await
        .err();
    assert_eq!(fault, Some(DialFault::NoAddress));
}
