//! How a connection is judged that nobody uses, or whose backend is silent.

use super::*;
use crate::io::upstream::tests::OWNER;
use crate::io::upstream::tests::backends::http2;
use std::time::Duration;

async fn connection() -> Arc<Connection> {
    let backend = http2(None, h2::server::Builder::new(), |_, _| async {}).await;
    let stream = tokio::net::TcpStream::connect(backend.address).await;
    let socket = Socket::Plain(stream.unwrap());
    let ticket = Ticket::take(OWNER).unwrap();
    Connection::open(0, socket, ticket).await.unwrap()
}

fn looks_until_closed(connection: &Connection) -> usize {
    (1..1000)
        .find(|_| connection.check() == Verdict::Close)
        .unwrap()
}

/// Until the backend's frames have come and nothing more does.
async fn settled(connection: &Connection, more_than: u64) -> u64 {
    let come = async {
        while connection.tally.received() <= more_than {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), come)
        .await
        .unwrap();
    connection.tally.received()
}

#[tokio::test]
async fn a_silent_backend_is_pinged_and_one_that_does_not_answer_is_given_up() {
    let connection = connection().await;
    let _seat = connection.seat(&Arc::default()).unwrap();
    // The acknowledgement of this side's settings is the last that it says by itself.
    let mut received = settled(&connection, 9).await;
    let mut looks = 0;
    while connection.health.lock().unwrap().pinged.is_none() {
        received = connection.tally.received();
        assert_eq!(connection.check(), Verdict::Keep);
        looks += 1;
    }
    assert!((10..=12).contains(&looks), "{looks}");
    assert_eq!(settled(&connection, received).await, received + PONG_BYTES);
    assert_eq!(connection.check(), Verdict::Keep);
    // One that answers and has nothing to say is not pinged again so soon; then nobody reads its answer.
    assert_eq!(looks_until_closed(&connection), 310 + 10);
}

#[tokio::test]
async fn a_connection_that_nobody_uses_goes() {
    let connection = connection().await;
    assert_eq!(looks_until_closed(&connection), 30);
    let _seat = connection.seat(&Arc::default()).unwrap();
    assert_eq!(connection.check(), Verdict::Keep);
}
