//! Bodies that are long, slow, early, cut or broken.

use super::*;

#[tokio::test]
async fn an_open_stream_is_cut_within_a_second_of_its_sessions_end_and_the_backend_sees_it() {
    let (closed, seen) = tokio::sync::mpsc::channel(1);
    let address = backend(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
                .await;
            wire.rest().await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    agent.until("data: 1\n\n").await;
    gate.end_session();
    let mut seen = seen;
    timeout(Duration::from_secs(1), seen.recv())
        .await
        .expect("within a second");
    let rest = timeout(Duration::from_secs(1), agent.rest())
        .await
        .expect("the agent is cut as well");
    assert!(!rest.contains("0\r\n\r\n"), "cut, not ended: {rest:?}");
}

#[tokio::test]
async fn a_call_that_waits_for_its_answer_is_cut_when_its_session_ends() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.rest().await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.end_session();
    let head = timeout(Duration::from_secs(1), agent.head()).await.unwrap();
    assert!(head.contains("x-fault: SessionEnded"), "{head}");
}

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent() {
    let (go, wait) = tokio::sync::mpsc::channel::<()>(1);
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let address = backend(move |_, mut wire| {
        let wait = wait.clone();
        async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            for n in 0..3 {
                let event = format!("data: {n}\n\n");
                wire.send(&format!("{:x}\r\n{event}\r\n", event.len()))
                    .await;
                wait.lock().await.recv().await.unwrap();
            }
            wire.send("0\r\n\r\n").await;
            wire.rest().await;
        }
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    for n in 0..3 {
        agent.until(&format!("data: {n}\n\n")).await;
        go.send(()).await.unwrap();
    }
    agent.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn an_early_refusal_reaches_an_agent_that_still_uploads() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nless")
            .await;
        // Closed with most of the upload unread: a reset.
    })
    .await;
    let gate = Gate::before(address).await;
    for _ in 0..10 {
        let agent = gate.agent().await;
        let (read, mut write) = agent.0.into_split();
        let upload = tokio::spawn(async move {
            write
                .write_all(b"POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 700000\r\n\r\n")
                .await
                .unwrap();
            for _ in 0..70 {
                let _ = write.write_all(&[b'x'; 10_000]).await;
            }
            write
        });
        let mut read = read;
        let mut answer = Vec::new();
        timeout(SOON, async {
            while !answer.ends_with(b"less") {
                assert_ne!(
                    read.read_buf(&mut answer).await.unwrap(),
                    0,
                    "{}",
                    String::from_utf8_lossy(&answer)
                );
            }
        })
        .await
        .unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 413"));
        upload.await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_fails_within_its_body_fails_the_call_and_closes_the_backend() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(4);
    let address = backend(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.head().await;
            wire.until("half").await;
            closed.send("half").await.unwrap();
            wire.rest().await;
            closed.send("closed").await.unwrap();
        }
    })
    .await;
    let gate = Gate::with(tool(address), Duration::from_millis(100)).await;
    // Malformed.
    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n")
        .await;
    let answer = agent.head().await;
    assert!(answer.contains("AgentFailed(Broken)"), "{answer}");
    assert_eq!(
        (seen.recv().await, seen.recv().await),
        (Some("half"), Some("closed"))
    );
    // Idle.
    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 8\r\n\r\nhalf")
        .await;
    let answer = agent.head().await;
    assert!(answer.contains("AgentFailed(Idle)"), "{answer}");
    assert_eq!(
        (seen.recv().await, seen.recv().await),
        (Some("half"), Some("closed"))
    );
    // Gone.
    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 8\r\n\r\nhalf")
        .await;
    assert_eq!(seen.recv().await, Some("half"));
    drop(agent);
    assert_eq!(timeout(SOON, seen.recv()).await.unwrap(), Some("closed"));
}

#[tokio::test]
async fn the_answers_deadline_stands_still_while_the_agent_is_waited_for() {
    let address = backend(|_, mut wire| async move {
        wire.until("last").await;
        wire.send(OK).await;
        wire.rest().await;
    })
    .await;
    let mut tool = tool(address);
    tool.upstream.as_mut().unwrap().timeout = Duration::from_millis(200);
    let mut agent = Gate::with(tool, SOON).await.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 9\r\n\r\nfirst")
        .await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    agent.send("last").await;
    assert!(agent.head().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_as_whole() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .await;
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let answer = agent.rest().await;
    assert!(
        answer.contains("half") && !answer.contains("0\r\n\r\n"),
        "{answer}"
    );
}

/// How much a writer gets rid of while nobody reads at the far end.
async fn pressed_in(mut stream: TcpStream) -> usize {
    let chunk = [b'x'; 65536];
    let mut written = 0;
    while let Ok(wrote) = timeout(Duration::from_millis(500), stream.write(&chunk)).await {
        written += wrote.unwrap();
        assert!(written < 64 << 20, "no back-pressure after {written} bytes");
    }
    std::mem::forget(stream);
    written
}

#[tokio::test]
async fn a_side_that_does_not_read_holds_the_other_back() {
    let (tell, mut heard) = tokio::sync::mpsc::channel(1);
    let address = backend(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            if wire.head().await.starts_with("POST") {
                std::future::pending::<()>().await;
            }
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
                .await;
            tell.send(pressed_in(wire.0).await).await.unwrap();
        }
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    heard.recv().await.unwrap();

    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 1073741824\r\n\r\n")
        .await;
    pressed_in(agent.0).await;
}

#[tokio::test]
async fn a_long_stream_passes_whole_in_both_directions() {
    const BYTES: usize = 24 << 20;
    let address = backend(|_, wire| async move {
        let mut wire = wire;
        wire.head().await;
        let (mut read, mut write) = wire.0.into_split();
        let mut got = wire.1.len();
        write
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        // The answer goes on while the upload does: neither waits for the other.
        let mut buffer = vec![0; 1 << 16];
        while got < BYTES {
            let n = read.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0);
            write.write_all(&buffer[..n]).await.unwrap();
            got += n;
        }
        write.write_all(&vec![b'.'; wire.1.len()]).await.unwrap();
    })
    .await;
    let gate = Gate::before(address).await;
    let agent = gate.agent().await;
    let (mut read, mut write) = agent.0.into_split();
    let upload = tokio::spawn(async move {
        write
            .write_all(
                format!("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        for _ in 0..BYTES / 65536 {
            write.write_all(&[b'x'; 65536]).await.unwrap();
        }
        write
    });
    let mut buffer = vec![0; 1 << 16];
    let mut got = 0;
    timeout(Duration::from_secs(30), async {
        while got < BYTES {
            let n = read.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "after {got} bytes");
            got += n;
        }
    })
    .await
    .unwrap();
    upload.await.unwrap();
    assert_eq!(gate.meter().bytes_in(), BYTES as u64);
    assert_eq!(gate.meter().bytes_out(), BYTES as u64);
}

#[tokio::test]
async fn an_upload_that_fails_during_the_answer_breaks_the_answer_off() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .await;
        wire.rest().await;
    })
    .await;
    let gate = Gate::with(tool(address), Duration::from_millis(100)).await;
    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 8\r\n\r\nhalf")
        .await;
    agent.until("half").await;
    let rest = agent.rest().await;
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
    assert_eq!(gate.meter().body_fault(), Some(BodyFault::Idle));
}

#[tokio::test]
async fn a_backend_that_stops_taking_the_upload_is_too_slow() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut tool = tool(address);
    tool.upstream.as_mut().unwrap().timeout = Duration::from_millis(100);
    let gate = Gate::with(tool, SOON).await;
    let agent = gate.agent().await;
    let (read, mut write) = agent.0.into_split();
    tokio::spawn(async move {
        write
            .write_all(b"POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 1073741824\r\n\r\n")
            .await
            .unwrap();
        while write.write_all(&[b'x'; 65536]).await.is_ok() {}
    });
    let mut read = read;
    let mut answer = Vec::new();
    timeout(SOON, async {
        while !answer.ends_with(b"\r\n\r\n") {
            assert_ne!(read.read_buf(&mut answer).await.unwrap(), 0);
        }
    })
    .await
    .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("x-fault: Timeout(Answer)"), "{answer}");
}
