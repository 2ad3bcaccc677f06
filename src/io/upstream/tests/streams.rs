//! Calls that share a connection: how many there are, what ends one of them and only it, and what a backend may do to them.

use super::backends::{Backend, http2, listen, upstream};
use super::*;
use crate::policy::model::Http2;
use h2::Reason;
use http_body_util::BodyExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, watch};

pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn place(backend: &Backend) -> Place {
    Place::new(&upstream(backend.address, None, Http2::PriorKnowledge)).unwrap()
}

pub(super) fn request(body: Outgoing) -> Request<Outgoing> {
    let request = Request::post("http://backend.example/");
    request.body(body).unwrap()
}

pub(super) async fn open(place: &Place) -> Lease {
    Lease::open(place, OWNER, PATIENCE).await.unwrap()
}

/// A body whose chunks come through a channel; it ends with the channel.
pub(super) fn fed() -> (mpsc::Sender<Frame<Bytes>>, Outgoing) {
    let (feed, mut chunks) = mpsc::channel::<Frame<Bytes>>(1);
    let frames = futures_of(move |cx| chunks.poll_recv(cx));
    (feed, Outgoing::Stream(Box::pin(frames)))
}

pub(super) struct Fed<F>(F);

pub(super) fn futures_of<F>(poll: F) -> Fed<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Frame<Bytes>>> + Unpin,
{
    Fed(poll)
}

impl<F> Body for Fed<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Frame<Bytes>>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        (self.0)(cx).map(|frame| frame.map(Ok))
    }
}

/// Answers at once and ends each answer when it is told to.
pub(super) async fn holding(most: u32) -> (Backend, watch::Sender<bool>) {
    let (release, held) = watch::channel(false);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(most);
    let backend = http2(None, builder, move |_, mut respond| {
        let mut held = held.clone();
        async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            if held.wait_for(|released| *released).await.is_ok() {
                let _ = stream.send_data(Bytes::from_static(b"done"), true);
            }
        }
    })
    .await;
    (backend, release)
}

#[tokio::test]
async fn a_burst_to_a_place_nobody_spoke_to_shares_one_connection() {
    let (backend, _release) = holding(100).await;
    let place = place(&backend);
    let calls = (0..50).map(|_| {
        let place = place.clone();
        tokio::spawn(async move {
            let mut lease = Lease::open(&place, OWNER, PATIENCE).await.unwrap();
            let answer = lease.exchange(request(Outgoing::Empty)).await.unwrap();
            (lease, answer)
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut held = Vec::new();
    for call in calls {
        held.push(call.await.unwrap());
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_burst_to_a_backend_that_is_not_there_fails_at_once_for_all() {
    let backend = listen(None, |_, io| async move { drop(io) }).await;
    let place = place(&backend);
    let calls = (0..20).map(|_| {
        let place = place.clone();
        tokio::spawn(async move { Lease::open(&place, OWNER, PATIENCE).await.err() })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        assert!(call.await.unwrap().is_some());
    }
    assert!(backend.connections() <= 2, "{}", backend.connections());
}

#[tokio::test]
async fn no_connection_carries_more_than_the_backend_takes_and_the_last_waits_for_room() {
    let (backend, release) = holding(2).await;
    let place = place(&backend);
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut lease = open(&place).await;
        let answer = lease.exchange(request(Outgoing::Empty)).await.unwrap();
        held.push((lease, answer));
    }
    assert_eq!(backend.connections(), 16);
    let full = Lease::open(&place, OWNER, Duration::from_millis(50)).await;
    assert_eq!(full.err(), Some(DialFault::Timeout));
    let waiting = tokio::spawn(async move { Lease::open(&place, OWNER, PATIENCE).await.err() });
    tokio::task::yield_now().await;
    drop(held.pop());
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(backend.connections(), 16);
    release.send(true).unwrap();
}

/// Says which streams were reset, and how.
async fn watched() -> (Backend, mpsc::UnboundedReceiver<Reason>) {
    let (told, resets) = mpsc::unbounded_channel();
    let backend = http2(
        None,
        h2::server::Builder::new(),
        move |request, mut respond| {
            let told = told.clone();
            async move {
                if request.uri().path() == "/well" {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"well"), true).unwrap();
                    return;
                }
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                told.send(reason.unwrap()).unwrap();
            }
        },
    )
    .await;
    (backend, resets)
}

async fn well(place: &Place) {
    let mut lease = open(place).await;
    assert_eq!(lease.origin(), Origin::Kept);
    let request = Request::get("http://backend.example/well");
    let answer = lease.exchange(request.body(Outgoing::Empty).unwrap()).await;
    let body = answer.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "well");
    lease.give_back();
}

#[tokio::test]
async fn a_lease_that_is_dropped_or_cut_resets_its_own_stream_and_no_other() {
    let (backend, mut resets) = watched().await;
    let place = place(&backend);
    for cut in [false, true] {
        // Amid an upload, too: its body must go with it.
        for uploads in [false, true] {
            let (feed, body) = fed();
            let body = if uploads { body } else { Outgoing::Empty };
            let mut lease = open(&place).await;
            let answer = lease.exchange(request(body)).await.unwrap();
            if cut {
                // Whoever holds lease and answer need not be polled for it.
                lease.cut().cut();
            } else {
                drop(lease);
            }
            let reset = tokio::time::timeout(PATIENCE, resets.recv()).await;
            assert_eq!(reset.unwrap(), Some(Reason::CANCEL));
            if uploads {
                tokio::time::timeout(PATIENCE, feed.closed()).await.unwrap();
            }
            well(&place).await;
            drop(answer);
        }
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_longer_is_cancelled_before_its_answer() {
    let (told, mut resets) = mpsc::unbounded_channel();
    let backend = http2(None, h2::server::Builder::new(), move |_, mut respond| {
        let told = told.clone();
        async move {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            told.send(reason.unwrap()).unwrap();
        }
    })
    .await;
    let place = place(&backend);
    let mut lease = open(&place).await;
    let waited = lease.exchange(request(Outgoing::Empty));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waited)
            .await
            .is_err()
    );
    drop(lease);
    let reset = tokio::time::timeout(PATIENCE, resets.recv()).await.unwrap();
    assert_eq!(reset, Some(Reason::CANCEL));
}

#[tokio::test]
async fn trailers_and_interim_answers_pass_and_an_answer_may_consist_of_trailers_alone() {
    let backend = http2(
        None,
        h2::server::Builder::new(),
        |request, mut respond| async move {
            let trailers_only = request.uri().path() == "/alone";
            let mut body = request.into_body();
            while let Some(chunk) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.unwrap().len());
            }
            let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
            if trailers_only {
                let answer = Response::builder().header("grpc-status", "5").body(());
                respond.send_response(answer.unwrap(), true).unwrap();
                return;
            }
            let hints = Response::builder()
                .status(103)
                .header("link", "</a>")
                .body(());
            respond.send_informational(hints.unwrap()).unwrap();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
            trailers.insert("grpc-status", "0".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        },
    )
    .await;
    let place = place(&backend);
    let (feed, body) = fed();
    tokio::spawn(async move {
        let _ = feed.send(Frame::data(Bytes::from_static(b"abc"))).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let _ = feed.send(Frame::trailers(trailers)).await;
    });
    let mut lease = open(&place).await;
    let hints = Arc::new(Mutex::new(Vec::new()));
    let heard = hints.clone();
    lease.relay(Box::new(move |status, headers| {
        heard
            .lock()
            .unwrap()
            .push((status.as_u16(), headers["link"].clone()));
    }));
    let answer = lease.exchange(request(body)).await.unwrap();
    let body = answer.into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-sum"], "7");
    assert_eq!(body.to_bytes(), "ok");
    assert_eq!(
        *hints.lock().unwrap(),
        [(103, HeaderValue::from_static("</a>"))]
    );
    lease.give_back();

    let mut lease = open(&place).await;
    let request = Request::post("http://backend.example/alone");
    let answer = lease
        .exchange(request.body(Outgoing::Empty).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.headers()["grpc-status"], "5");
    assert!(answer.body().is_end_stream());
}

#[tokio::test]
async fn an_answer_that_nobody_reads_stays_at_the_backend_and_holds_no_other_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let backend = http2(
        None,
        h2::server::Builder::new(),
        move |request, mut respond| {
            let counted = counted.clone();
            async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                if request.uri().path() == "/well" {
                    stream.send_data(Bytes::from_static(b"well"), true).unwrap();
                    return;
                }
                loop {
                    stream.reserve_capacity(16 * 1024);
                    let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await
                    else {
                        return;
                    };
                    counted.fetch_add(room, Ordering::Relaxed);
                    if stream.send_data(vec![0; room].into(), false).is_err() {
                        return;
                    }
                }
            }
        },
    )
    .await;
    let place = place(&backend);
    let mut unread = Vec::new();
    for _ in 0..40 {
        let mut lease = open(&place).await;
        let answer = lease.exchange(request(Outgoing::Empty)).await.unwrap();
        unread.push((lease, answer));
    }
    // All that can be sent has been: then nothing moves any longer.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
        well(&place).await;
    }
    assert!(before <= 40 * 256 * 1024, "{before}");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_backend_that_does_not_read_holds_the_agent_back() {
    let backend = http2(
        None,
        h2::server::Builder::new(),
        |request, mut respond| async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            let _unread = request.into_body();
            let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        },
    )
    .await;
    let place = place(&backend);
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let endless = futures_of(move |_| {
        counted.fetch_add(8 * 1024, Ordering::Relaxed);
        Poll::Ready(Some(Frame::data(Bytes::from_static(&[0; 8 * 1024]))))
    });
    let mut lease = open(&place).await;
    let answer = lease
        .exchange(request(Outgoing::Stream(Box::pin(endless))))
        .await;
    let mut before = usize::MAX;
    while before != taken.load(Ordering::Relaxed) {
        before = taken.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The backend's window, what lies here to be sent, and a chunk.
    assert!(before <= (64 + 64 + 16) * 1024, "{before}");
    drop(answer);
}

#[tokio::test]
async fn a_head_over_the_bound_is_no_answer() {
    let backend = http2(
        None,
        h2::server::Builder::new(),
        |_, mut respond| async move {
            let mut answer = Response::new(());
            for n in 0..40 {
                let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
                let value = HeaderValue::try_from("v".repeat(2048)).unwrap();
                answer.headers_mut().insert(name, value);
            }
            let _ = respond.send_response(answer, true);
        },
    )
    .await;
    let place = place(&backend);
    let mut lease = open(&place).await;
    match lease.exchange(request(Outgoing::Empty)).await {
        Err(Unanswered::Broken(ExchangeFault::Malformed)) => {}
        other => panic!("{:?}", other.map(|answer| answer.status())),
    }
    // Its stream alone.
    drop(lease);
    assert_eq!(open(&place).await.origin(), Origin::Kept);
}
