//! Traces from the agent through the gate to the backend, and the spans that tell of it.

use super::collector::{CLIENT, Collector, SERVER, failed, holds, one, send_to};
use super::scene::{CREDENTIAL, PARENT, PLACE, TRACE, call, scene, sent, traceparent};
use crate::approvals::talk::Order;
use crate::ledger::hex;
use crate::program::{Program, python};
use crate::wait::until;
use http::Method;
use std::net::TcpListener;
use std::process::Stdio;

fn read(path: &str) -> Order {
    Order::new(Method::GET, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_from_the_agent_through_the_gate_to_the_backend_whatever_they_speak() {
    let (collector, scene) = (Collector::start().await, scene().await);
    let (gate, session) = scene.told(&collector).await;
    let mut count = 0;
    for (two, tool) in [(false, "one"), (false, "two"), (true, "one"), (true, "two")] {
        count += 1;
        let trace = format!("{count:032x}");
        let order = read(&format!("/{tool}/items/7?page=2&q=secret"))
            .with("traceparent", format!("00-{trace}-{PARENT}-01"))
            .with("tracestate", "a=1")
            .with("tracestate", "b=2");
        let answer = call(&gate, &session, two, &order).await.expect(200);
        let spans = collector.spans(2 * count).await;
        let (server, client) = (one(&spans, &trace, SERVER), one(&spans, &trace, CLIENT));
        // The backend's spans will be children of what was sent to it, that of the call, and that of the agent's.
        let told = format!("00-{trace}-{}-01", hex(&client.span_id));
        assert_eq!(sent(&answer, "traceparent"), [told]);
        assert_eq!(sent(&answer, "tracestate"), ["a=1", "b=2"]);
        assert_eq!(client.parent_span_id, server.span_id);
        assert_eq!(hex(&server.parent_span_id), PARENT);
        // It came from elsewhere, and is sampled.
        assert_eq!((server.flags, client.flags), (0x301, 0x101));
        let request = answer.header("toolgate-request-id").unwrap();
        assert_eq!(scene.recorded(request), Some(trace));
        assert_eq!(server.name, format!("GET {tool}.read"));
        let version = if two { "2" } else { "1.1" };
        let query = if tool == "one" {
            "page=2&q=*"
        } else {
            "page=*&q=*"
        };
        holds(
            server,
            &[
                ("http.request.method", "GET"),
                ("http.response.status_code", "200"),
                ("url.path", &format!("/{tool}/items/7")),
                ("url.query", query),
                ("url.scheme", "http"),
                ("server.address", "gate.example"),
                ("client.address", "127.0.0.1"),
                ("network.protocol.version", version),
                ("gen_ai.operation.name", "execute_tool"),
                ("gen_ai.agent.name", "bot"),
                ("gen_ai.tool.name", &format!("{tool}/{tool}.read")),
                ("gen_ai.conversation.id", &session.id),
                ("toolgate.project", "demo"),
                ("toolgate.session.id", &session.id),
                ("toolgate.request.id", request),
                ("toolgate.decision", "allow"),
                ("toolgate.scope", "read"),
                ("toolgate.grant", "on_use"),
                ("error.type", "-"),
                ("toolgate.reason", "-"),
            ],
        );
        let base = if tool == "one" { "" } else { "/REDACTED" };
        let full = format!("http://{}{base}/items/7?{query}", scene.backend);
        holds(
            client,
            &[
                ("url.full", &full),
                ("server.address", "127.0.0.1"),
                ("server.port", &scene.backend.port().to_string()),
                ("http.response.status_code", "200"),
            ],
        );
        assert!(server.start_time_unix_nano <= client.start_time_unix_nano);
        assert!(client.end_time_unix_nano <= server.end_time_unix_nano);
        assert!(client.start_time_unix_nano < client.end_time_unix_nano);
    }
    collector.batches(|batches| {
        let batch = &batches[0];
        assert_eq!(batch.path, "/v1/traces");
        assert_eq!(batch.fields["content-type"], "application/x-protobuf");
        let attributes = &batch.resource.attributes;
        let keys: Vec<&str> = attributes.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(
            keys,
            ["service.name", "service.version", "service.instance.id"]
        );
    });
    assert!(!gate.said(CREDENTIAL) && !gate.said(PLACE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_valid_parent_begins_a_trace_whose_id_the_ledger_has() {
    let (collector, scene) = (Collector::start().await, scene().await);
    let (gate, session) = scene.told(&collector).await;
    let orders = [
        read("/one/items/1"),
        read("/one/items/1").with("traceparent", traceparent().to_uppercase()),
        read("/one/items/1").with(
            "traceparent",
            traceparent().replace(PARENT, &"0".repeat(16)),
        ),
        read("/one/items/1")
            .with("traceparent", traceparent())
            .with("traceparent", traceparent()),
    ];
    for (at, order) in orders.iter().enumerate() {
        let order = order
            .clone()
            .with("tracestate", "a=1")
            .with("baggage", "k=v");
        let answer = call(&gate, &session, false, &order).await.expect(200);
        let request = answer.header("toolgate-request-id").unwrap();
        let trace = scene.recorded(request).expect("a trace is recorded");
        let spans = collector.spans(2 * (at + 1)).await;
        let (server, client) = (one(&spans, &trace, SERVER), one(&spans, &trace, CLIENT));
        assert_ne!(trace, TRACE);
        assert!(server.parent_span_id.is_empty());
        assert_eq!(server.flags, 0x101);
        let told = format!("00-{trace}-{}-01", hex(&client.span_id));
        assert_eq!(sent(&answer, "traceparent"), [told]);
        // It was of another trace, or of none. What is not the trace's is not touched.
        assert_eq!(sent(&answer, "tracestate"), [""; 0]);
        assert_eq!(sent(&answer, "baggage"), ["k=v"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_agents_side_does_not_keep_or_the_share_leaves_out_is_told_on_and_not_exported() {
    let (collector, scene) = (Collector::start().await, scene().await);
    collector.with(&scene.setup, "", "  sample: 0\n");
    let (gate, session) = scene.start().await;
    // Three calls that make no spans, then one that does: who sends them in order would have sent those first.
    let unsampled = read("/one/items/1").with("traceparent", format!("00-{TRACE}-{PARENT}-00"));
    let answer = call(&gate, &session, false, &unsampled).await;
    let told = sent(&answer, "traceparent").remove(0);
    assert!(
        told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"),
        "{told}"
    );
    assert!(!told.contains(PARENT), "{told}");
    for _ in 0..2 {
        let answer = call(&gate, &session, false, &read("/one/items/1")).await;
        let request = answer.header("toolgate-request-id").unwrap();
        let trace = scene.recorded(request).unwrap();
        let told = sent(&answer, "traceparent").remove(0);
        assert!(
            told.starts_with(&format!("00-{trace}-")) && told.ends_with("-00"),
            "{told}"
        );
    }
    let sampled = read("/one/items/1").with("traceparent", traceparent());
    call(&gate, &session, false, &sampled).await.expect(200);
    let spans = collector.spans(2).await;
    assert!(
        spans.iter().all(|span| hex(&span.trace_id) == TRACE),
        "{spans:#?}"
    );
    assert_eq!(spans.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_telemetry_trace_context_passes_as_it_came() {
    let scene = scene().await;
    let (gate, session) = scene.start().await;
    for value in [traceparent(), "00-nonsense".to_owned()] {
        for tool in ["one", "two"] {
            let order = read(&format!("/{tool}/items/1"))
                .with("traceparent", &value)
                .with("tracestate", "a=1")
                .with("baggage", "k=v");
            let answer = call(&gate, &session, false, &order).await.expect(200);
            assert_eq!(sent(&answer, "traceparent"), std::slice::from_ref(&value));
            assert_eq!(sent(&answer, "tracestate"), ["a=1"]);
            assert_eq!(sent(&answer, "baggage"), ["k=v"]);
            let request = answer.header("toolgate-request-id").unwrap();
            let recorded = (value == traceparent()).then(|| TRACE.to_owned());
            assert_eq!(scene.recorded(request), recorded);
        }
    }
    let answer = call(&gate, &session, false, &read("/one/items/1")).await;
    assert_eq!(sent(&answer, "traceparent"), [""; 0]);
    assert!(
        gate.metric("toolgate_telemetry_spans_total", &[])
            .await
            .abs()
            < 0.5
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_failures_are_spans_that_say_why() {
    let (collector, scene) = (Collector::start().await, scene().await);
    let (gate, session) = scene.told(&collector).await;
    let order =
        |method: Method, path: &str| Order::new(method, path).with("traceparent", traceparent());
    // A stranger leaves none.
    let stranger = order(Method::GET, "/one/items/1");
    let mut talk = crate::approvals::talk::Talk::open(gate.agents)
        .await
        .unwrap();
    talk.send("", &stranger).await.unwrap().expect(401);

    let refused = order(Method::DELETE, "/one/items/2");
    call(&gate, &session, false, &refused).await.expect(403);
    let spans = collector.spans(1).await;
    let refusal = one(&spans, TRACE, SERVER);
    assert_eq!(refusal.name, "DELETE one.remove");
    // As conventions have it: a refusal is no error of the server's.
    assert!(!failed(refusal));
    holds(
        refusal,
        &[
            ("http.response.status_code", "403"),
            ("toolgate.decision", "deny"),
            ("toolgate.reason", "resource_outside_ceiling"),
            ("toolgate.resource", "item:2"),
            ("toolgate.grant", "-"),
            ("error.type", "-"),
        ],
    );

    let nowhere = order(Method::from_bytes(b"INVENTED").unwrap(), "/nowhere");
    call(&gate, &session, false, &nowhere).await.expect(403);
    let spans = collector.spans(2).await;
    assert_eq!(spans[1].name, "HTTP");
    holds(
        &spans[1],
        &[
            ("http.request.method", "_OTHER"),
            ("toolgate.reason", "no_route"),
            ("gen_ai.tool.name", "-"),
        ],
    );

    // The backend's own errors are the backend's.
    let missing = order(Method::GET, "/one/items/missing");
    call(&gate, &session, false, &missing).await.expect(404);
    let spans = collector.spans(4).await;
    assert!(!failed(&spans[2]) && failed(&spans[3]), "{spans:#?}");
    holds(
        &spans[3],
        &[("http.response.status_code", "404"), ("error.type", "404")],
    );

    // Its own paths have one name.
    let own = order(Method::GET, "/.toolgate/session");
    call(&gate, &session, false, &own).await.expect(200);
    let spans = collector.spans(5).await;
    assert_eq!(spans[4].name, "GET /.toolgate");
    assert_eq!(spans.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_not_there_is_an_error_of_both_spans() {
    let collector = Collector::start().await;
    let scene = scene().await;
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let yaml = std::fs::read_to_string(scene.setup.project_file("demo")).unwrap();
    let yaml = yaml.replace(&scene.backend.to_string(), &gone.to_string());
    scene.setup.write_project("demo", &yaml);
    let (gate, session) = scene.told(&collector).await;
    let order = read("/one/items/1").with("traceparent", traceparent());
    call(&gate, &session, false, &order).await.expect(502);
    let spans = collector.spans(2).await;
    for (kind, status) in [(SERVER, "502"), (CLIENT, "-")] {
        let span = one(&spans, TRACE, kind);
        assert!(failed(span));
        holds(
            span,
            &[
                ("http.response.status_code", status),
                ("error.type", "upstream_failed"),
            ],
        );
    }
}

/// Rotel, a collector made by others: it takes what the gate sends and sends it on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_collector_takes_the_spans_and_hands_them_on() {
    let (behind, scene) = (Collector::start().await, scene().await);
    let free = || {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap()
    };
    let (grpc, http) = (free(), free());
    let mut rotel = python("rotel_agent.py");
    rotel
        .args([
            "start",
            "--pid-file",
            "rotel.pid",
            "--log-file",
            "rotel.log",
        ])
        .args(["--otlp-grpc-endpoint", &grpc.to_string()])
        .args(["--otlp-http-endpoint", &http.to_string()])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
        .args([
            "--otlp-exporter-endpoint",
            &format!("http://{}", behind.address),
        ])
        .current_dir(scene.setup.config().parent().unwrap())
        .stderr(Stdio::null());
    let rotel = Program::start(rotel);
    assert!(rotel.says().contains("Starting Rotel"));
    send_to(&scene.setup, &format!("http://{http}"), "", "");
    let (gate, session) = scene.start().await;
    until("the collector listens", || async {
        tokio::net::TcpStream::connect(http).await.ok()
    })
    .await;
    for _ in 0..20 {
        let order = read("/one/items/7").with("traceparent", traceparent());
        call(&gate, &session, false, &order).await.expect(200);
    }
    let spans = behind.spans(40).await;
    let servers = spans.iter().filter(|span| span.kind == SERVER);
    assert_eq!((servers.clone().count(), spans.len()), (20, 40));
    for span in servers {
        assert_eq!(
            (hex(&span.trace_id), hex(&span.parent_span_id)),
            (TRACE.to_owned(), PARENT.to_owned())
        );
        holds(
            span,
            &[
                ("toolgate.decision", "allow"),
                ("http.response.status_code", "200"),
            ],
        );
    }
    let sent = "result=\"sent\"";
    assert!((gate.metric("toolgate_telemetry_spans_total", &[sent]).await - 40.0).abs() < 0.5);
}
