//! Where bodies over HTTP/2 end, and where they should not.

use super::backends::http2;
use super::streams::{PATIENCE, fed, futures_of, open, place, request};
use super::*;
use http_body_util::BodyExt as _;

#[tokio::test]
async fn an_answer_that_is_not_as_long_as_it_says_is_broken() {
    for said in ["3", "1"] {
        let backend = http2(
            None,
            h2::server::Builder::new(),
            move |_, mut respond| async move {
                let answer = Response::builder().header("content-length", said).body(());
                let mut stream = respond.send_response(answer.unwrap(), false).unwrap();
                let _ = stream.send_data(Bytes::from_static(b"ok"), true);
            },
        )
        .await;
        let mut lease = open(&place(&backend)).await;
        match lease.exchange(request(Outgoing::Empty)).await {
            Ok(answer) => {
                let fault = answer.into_body().collect().await.unwrap_err();
                assert_eq!(fault, ExchangeFault::Malformed, "{said}");
            }
            Err(Unanswered::Broken(ExchangeFault::Malformed)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_early_answer_is_whole_though_the_request_is_not() {
    let backend = http2(
        None,
        h2::server::Builder::new(),
        |_, mut respond| async move {
            let answer = Response::builder().status(413).body(()).unwrap();
            let mut stream = respond.send_response(answer, false).unwrap();
            stream
                .send_data(Bytes::from_static(b"too large"), true)
                .unwrap();
            // The rest is not wanted: dropping the request's body says so.
        },
    )
    .await;
    let (feed, body) = fed();
    feed.send(Frame::data(Bytes::from_static(b"begun")))
        .await
        .unwrap();
    let mut lease = open(&place(&backend)).await;
    let answer = lease.exchange(request(body)).await.unwrap();
    assert_eq!(answer.status(), 413);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "too large");
    lease.give_back();
    tokio::time::timeout(PATIENCE, feed.closed()).await.unwrap();
}

/// An empty last chunk once waited for room that nobody had asked for, and the request never ended.
#[tokio::test]
async fn a_body_whose_end_comes_by_itself_ends() {
    let backend = http2(
        None,
        h2::server::Builder::new(),
        |request, mut respond| async move {
            let mut body = request.into_body();
            while let Some(chunk) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.unwrap().len());
            }
            respond.send_response(Response::new(()), true).unwrap();
        },
    )
    .await;
    let place = place(&backend);
    for chunks in [&[][..], &["abc"], &["abc", ""], &[""]] {
        let mut chunks = chunks.iter();
        // Its last chunk does not say that it is the last.
        let body = futures_of(move |_| {
            Poll::Ready(
                chunks
                    .next()
                    .map(|text| Frame::data(Bytes::from_static(text.as_bytes()))),
            )
        });
        let mut lease = open(&place).await;
        let exchange = lease.exchange(request(Outgoing::Stream(Box::pin(body))));
        let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
        assert_eq!(answer.unwrap().status(), 200);
        lease.give_back();
    }
    let mut lease = open(&place).await;
    let exchange = lease.exchange(request(Outgoing::Stream(Box::pin(LastIsEmpty(false)))));
    assert!(
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap()
            .is_ok()
    );
}

/// One empty chunk, which says that it is the last.
struct LastIsEmpty(bool);

impl Body for LastIsEmpty {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let over = std::mem::replace(&mut self.0, true);
        Poll::Ready((!over).then(|| Ok(Frame::data(Bytes::new()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0
    }
}
