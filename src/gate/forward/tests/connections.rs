//! Which connection a call goes on, when a call is sent again, and how a backend can fail before it answers.

use super::*;

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_was_read_to_the_end() {
    let address = backend(|n, mut wire| async move {
        loop {
            wire.head().await;
            wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{n}"))
                .await;
        }
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    for _ in 0..3 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        agent.head().await;
        agent.until("0").await;
    }
}

/// First connection: one good answer, then closed at the second request without a byte.
async fn closes_kept_connections() -> (SocketAddr, Arc<AtomicU64>) {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let address = backend(move |_, mut wire| {
        let counted = counted.clone();
        async move {
            wire.head().await;
            counted.fetch_add(1, Ordering::Relaxed);
            wire.send(OK).await;
            wire.head().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn a_get_is_sent_once_more_when_a_kept_connection_closed_without_an_answer() {
    let (address, requests) = closes_kept_connections().await;
    let mut agent = Gate::before(address).await.agent().await;
    for _ in 0..2 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let (address, requests) = closes_kept_connections().await;
    let mut agent = Gate::before(address).await.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 0\r\n\r\n")
        .await;
    agent.until("ok").await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 0\r\n\r\n")
        .await;
    let answer = agent.head().await;
    assert!(answer.contains("x-fault: Failed(Exchange("), "{answer}");
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_get_on_a_fresh_connection_that_closes_is_not_sent_again() {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let address = backend(move |_, mut wire| {
        let counted = counted.clone();
        async move {
            wire.head().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(
        agent
            .head()
            .await
            .contains("x-fault: Failed(Exchange(Closed))")
    );
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_backend_that_closed_its_idle_connection_is_dialled_anew_even_for_a_post() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send(OK).await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    for _ in 0..20 {
        agent
            .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 0\r\n\r\n")
            .await;
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200"));
        // The FIN is on its way; the agent's next request takes at least as long.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_become_the_next_ones() {
    let address = backend(|n, mut wire| async move {
        wire.head().await;
        wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{n}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")).await;
        wire.rest().await;
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    for _ in 0..3 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let head = agent.head().await;
        assert!(head.contains("x-fault: Failed(Exchange("), "{head}");
    }
}

#[tokio::test]
async fn refused_reset_and_slow_backends_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let resets = backend(|_, mut wire| async move {
        wire.head().await;
        wire.reset();
    })
    .await;
    let stalls = backend(|_, mut wire| async move {
        wire.head().await;
        wire.rest().await;
    })
    .await;
    for (address, fault) in [
        (nobody, "Failed(Dial(Unreachable))"),
        (resets, "Failed(Exchange(Broke))"),
        (stalls, "Timeout(Answer)"),
    ] {
        let mut tool = tool(address);
        tool.upstream.as_mut().unwrap().timeout = Duration::from_millis(100);
        let mut agent = Gate::with(tool, SOON).await.agent().await;
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let head = agent.head().await;
        assert!(head.contains(&format!("x-fault: {fault}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn an_agent_that_leaves_cancels_the_call_at_the_backend_before_and_during_the_answer() {
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"] {
        let (closed, mut seen) = tokio::sync::mpsc::channel(4);
        let address = backend(move |_, mut wire| {
            let closed = closed.clone();
            async move {
                wire.head().await;
                closed.send("asked").await.unwrap();
                wire.send(begun).await;
                wire.rest().await;
                closed.send("closed").await.unwrap();
            }
        })
        .await;
        let gate = Gate::before(address).await;
        let mut agent = gate.agent().await;
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(seen.recv().await, Some("asked"));
        if !begun.is_empty() {
            agent.until("half").await;
        }
        drop(agent);
        assert_eq!(timeout(SOON, seen.recv()).await.unwrap(), Some("closed"));
    }
}

#[test]
fn only_a_bodyless_get_or_head_on_no_stored_grant_may_be_sent_again() {
    let stored = Some(GrantUse::Stored(crate::io::clock::grant_id(
        SystemClock.now(),
    )));
    for (method, framing, grant, again) in [
        (
            Method::GET,
            Framing::None,
            Some(GrantUse::OnUse),
            Again::Once,
        ),
        (
            Method::HEAD,
            Framing::None,
            Some(GrantUse::OnUse),
            Again::Once,
        ),
        (Method::GET, Framing::None, stored, Again::Never),
        (
            Method::GET,
            Framing::Sized,
            Some(GrantUse::OnUse),
            Again::Never,
        ),
        (
            Method::OPTIONS,
            Framing::None,
            Some(GrantUse::OnUse),
            Again::Never,
        ),
        (
            Method::DELETE,
            Framing::None,
            Some(GrantUse::OnUse),
            Again::Never,
        ),
    ] {
        assert_eq!(
            Again::of(&method, framing, grant),
            again,
            "{method} {framing:?} {grant:?}"
        );
    }
}
