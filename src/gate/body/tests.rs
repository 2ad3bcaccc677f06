//! Bodies of agents: whole, too long, idle, broken.

use super::*;
use crate::io::clock::SystemClock;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As [`served_at`], however slowly it comes.
async fn served<F>(
    idle: Duration,
    read: impl Fn(RequestBody) -> F + Clone + Send + 'static,
) -> TcpStream
where
    F: Future<Output = String> + Send,
{
    let tempo = Tempo {
        idle,
        bytes_per_second_min: 1,
    };
    served_at(tempo, read).await
}

/// A server that answers with what `read` makes of the request's body, and a connection to it.
async fn served_at<F>(
    tempo: Tempo,
    read: impl Fn(RequestBody) -> F + Clone + Send + 'static,
) -> TcpStream
where
    F: Future<Output = String> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let service = service_fn(move |request: Request<Incoming>| {
        let (clock, read) = (clock.clone(), read.clone());
        async move {
            let (head, incoming) = request.into_parts();
            let body = RequestBody::new(incoming, &head.headers, Arc::default(), tempo, &clock);
            let text = read(body).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service),
    );
    agent
}

/// What the agent receives up to `mark`.
async fn until(agent: &mut TcpStream, mark: &str) -> String {
    let mut got = Vec::new();
    while !got.ends_with(mark.as_bytes()) {
        assert_ne!(
            agent.read_buf(&mut got).await.unwrap(),
            0,
            "{}",
            String::from_utf8_lossy(&got)
        );
    }
    String::from_utf8(got).unwrap()
}

const LONG: Duration = Duration::from_secs(20);

/// Reads ahead within 8 bytes, then streams all of it: both must agree.
async fn peek(mut body: RequestBody) -> String {
    let announced = body.size_hint().exact();
    let prefix = match body.read_prefix(8).await {
        Ok(prefix) => prefix,
        Err(fault) => return format!("{fault:?}|"),
    };
    // What was read to its end has an exact size, whatever its framing was.
    assert!(announced.is_none() || body.size_hint().exact() == announced);
    let meter = body.meter().clone();
    let streamed = body.collect().await.unwrap().to_bytes();
    assert_eq!(meter.bytes_in(), streamed.len() as u64);
    let shown = match prefix {
        Prefix::Whole(bytes) => format!("whole {}", String::from_utf8_lossy(&bytes)),
        Prefix::Longer(bytes) => {
            assert!(bytes.is_empty() || bytes.len() > 8);
            assert!(streamed.starts_with(&bytes));
            "longer".to_owned()
        }
    };
    format!("{shown}, streamed {}|", String::from_utf8_lossy(&streamed))
}

#[tokio::test]
async fn what_is_read_ahead_is_streamed_all_the_same() {
    let mut agent = served(LONG, peek).await;
    for (framing, read) in [
        ("content-length: 0\r\n\r\n", "whole , streamed |"),
        (
            "content-length: 5\r\n\r\nhello",
            "whole hello, streamed hello|",
        ),
        (
            "content-length: 8\r\n\r\n12345678",
            "whole 12345678, streamed 12345678|",
        ),
        (
            "content-length: 9\r\n\r\n123456789",
            "longer, streamed 123456789|",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
            "whole abcde, streamed abcde|",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n1\r\n9\r\n0\r\n\r\n",
            "longer, streamed 123456789|",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "whole , streamed |",
        ),
    ] {
        agent
            .write_all(format!("POST / HTTP/1.1\r\nhost: g\r\n{framing}").as_bytes())
            .await
            .unwrap();
        let answer = until(&mut agent, "|").await;
        assert!(
            answer.ends_with(&format!("\r\n\r\n{read}")),
            "{framing:?} gave {answer:?}"
        );
    }
}

#[tokio::test]
async fn trailers_behind_what_is_read_ahead_are_kept_without_the_tokens_in_them() {
    let read = |mut body: RequestBody| async move {
        assert_eq!(
            body.read_prefix(8).await,
            Ok(Prefix::Whole(Bytes::from_static(b"ab")))
        );
        assert_eq!(body.size_hint().exact(), None);
        let collected = body.collect().await.unwrap();
        format!("{:?}|", collected.trailers().unwrap())
    };
    let mut agent = served(LONG, read).await;
    agent
        .write_all(b"POST / HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\nx-leak: tgs_x\r\n\r\n")
        .await
        .unwrap();
    assert!(
        until(&mut agent, "|")
            .await
            .ends_with("\r\n\r\n{\"x-sum\": \"1\"}|")
    );
}

#[tokio::test]
async fn an_idle_body_fails_as_idle_and_a_malformed_one_as_broken() {
    let mut agent = served(Duration::from_millis(100), peek).await;
    agent
        .write_all(b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\n\r\nhel")
        .await
        .unwrap();
    assert!(until(&mut agent, "|").await.ends_with("\r\n\r\nIdle|"));
    let mut agent = served(LONG, peek).await;
    agent
        .write_all(b"POST / HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .await
        .unwrap();
    assert!(until(&mut agent, "|").await.ends_with("\r\n\r\nBroken|"));
}

#[tokio::test]
async fn a_slow_body_is_not_idle_as_long_as_it_comes() {
    let mut agent = served(Duration::from_millis(400), peek).await;
    agent
        .write_all(b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\n\r\n")
        .await
        .unwrap();
    for byte in b"hello" {
        tokio::time::sleep(Duration::from_millis(200)).await;
        agent.write_all(&[*byte]).await.unwrap();
    }
    assert!(until(&mut agent, "|").await.ends_with("streamed hello|"));
}

/// Streams it, and counts.
async fn count(body: RequestBody) -> String {
    let whole = body.collect().await;
    format!("{:?}|", whole.map(|whole| whole.to_bytes().len()))
}

const SLOW: Tempo = Tempo {
    idle: Duration::from_secs(1),
    bytes_per_second_min: 1000,
};

#[tokio::test]
async fn a_body_that_is_waited_for_must_get_on_and_a_stream_may_say_little() {
    // It says how long it is.
    let mut sized = served_at(SLOW, count).await;
    let head = b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 100000\r\n\r\n";
    sized.write_all(head).await.unwrap();
    let ahead =
        |mut body: RequestBody| async move { format!("{:?}|", body.read_prefix(9999).await) };
    let mut ahead = served_at(SLOW, ahead).await;
    let mut stream = served_at(SLOW, count).await;
    let head = b"POST / HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n";
    ahead.write_all(head).await.unwrap();
    stream.write_all(head).await.unwrap();
    for _ in 0..80 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(b"1\r\nx\r\n").await.unwrap();
        // These are told, and closed, meanwhile.
        drop(sized.write_all(b"x").await);
        drop(ahead.write_all(b"1\r\nx\r\n").await);
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(until(&mut stream, "|").await.ends_with("\r\n\r\nOk(80)|"));
    assert!(until(&mut sized, "|").await.ends_with("Err(Idle)|"));
    assert!(until(&mut ahead, "|").await.ends_with("Err(Idle)|"));
}

#[tokio::test]
async fn a_body_nobody_wants_is_drained_so_that_the_answer_arrives_and_the_connection_lives() {
    let refuse = |body: RequestBody| async move {
        drop(body);
        "no|".to_owned()
    };
    let mut agent = served(LONG, refuse).await;
    for _ in 0..3 {
        agent
            .write_all(b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 500000\r\n\r\n")
            .await
            .unwrap();
        agent.write_all(&[b'x'; 500_000]).await.unwrap();
        assert!(until(&mut agent, "|").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn an_agent_that_asked_first_is_not_told_to_go_on_when_nobody_wants_its_body() {
    let refuse = |body: RequestBody| async move {
        drop(body);
        "no|".to_owned()
    };
    let mut agent = served(LONG, refuse).await;
    agent
        .write_all(
            b"POST / HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        )
        .await
        .unwrap();
    assert!(until(&mut agent, "|").await.starts_with("HTTP/1.1 200"));
    // A body past the bound is known to be from its length: not asked for either.
    let too_long =
        |mut body: RequestBody| async move { format!("{:?}|", body.read_prefix(4).await.unwrap()) };
    let mut agent = served(LONG, too_long).await;
    agent
        .write_all(
            b"POST / HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = until(&mut agent, "|").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("Longer(b\"\")|"),
        "{answer}"
    );
}
