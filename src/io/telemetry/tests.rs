//! What is written is read back with the official messages; the queue is as long as it says.

use super::call::tests::call;
use super::*;
use crate::policy::model::{UpstreamTls, Verify};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use secrecy::SecretString;

fn settings() -> Settings {
    Settings {
        otlp: crate::config::Otlp {
            authority: "127.0.0.1:1".into(),
            host: "127.0.0.1:1".into(),
            base_path: "/otlp".into(),
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
            tls: None,
        },
        sample_millionths: 1_000_000,
        resource: vec![("service.name".into(), "other".into())],
    }
}

fn telemetry(settings: &Settings) -> Result<Telemetry, TelemetryError> {
    let clock = Arc::new(clock::SystemClock);
    Telemetry::new(settings, "gate-1", clock, Arc::default())
}

#[test]
fn what_is_written_the_official_messages_read() {
    let telemetry = telemetry(&settings()).unwrap();
    let message = telemetry
        .0
        .message(&[Box::new(call()), Box::new(call())], 6);
    let read = ExportTraceServiceRequest::decode(message.clone()).unwrap();
    // Nothing is lost on the way that they do not know.
    assert_eq!(read.encode_to_vec(), message);
    let [resource] = &read.resource_spans[..] else {
        panic!("{read:?}");
    };
    let said = format!("{:?}", resource.resource);
    assert!(said.contains("other") && said.contains("gate-1"), "{said}");
    assert!(
        !said.contains("\"toolgate\""),
        "what is written counts: {said}"
    );
    let [scope] = &resource.scope_spans[..] else {
        panic!("{read:?}");
    };
    let names: Vec<&str> = scope.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "GET read", "hold", "GET read", "GET read", "hold", "GET read"
        ]
    );
    let [server, hold, client] = &scope.spans[..3] else {
        panic!("{read:?}");
    };
    assert_eq!((server.kind, hold.kind, client.kind), (2, 1, 3));
    assert_eq!(server.start_time_unix_nano, 1_000_000_000);
    assert_eq!(server.end_time_unix_nano, 1_000_009_000);
    assert_eq!(client.start_time_unix_nano, 1_000_005_000);
    assert_eq!(client.end_time_unix_nano, 1_000_009_000);
    assert_eq!(
        (hold.start_time_unix_nano, hold.end_time_unix_nano),
        (1_000_001_000, 1_000_003_000)
    );
}

#[test]
fn the_queue_takes_as_many_as_it_says_and_counts_the_others() {
    let telemetry = telemetry(&settings()).unwrap();
    for _ in 0..queue::CALLS_MAX + 2 {
        telemetry.put(Box::new(call()));
    }
    let shown = telemetry.0.metrics.encode();
    let dropped = "toolgate_telemetry_spans_total{result=\"dropped\"} 6";
    assert!(shown.contains(dropped), "{shown}");
    assert_eq!(telemetry.0.queue.take().len(), queue::BATCH_CALLS);
    assert_eq!(
        telemetry.0.queue.empty(),
        (queue::CALLS_MAX - queue::BATCH_CALLS) * 3
    );
}

#[test]
fn pauses_grow_and_end_growing() {
    for attempts in 1..=40 {
        let most = Duration::from_secs(1 << (attempts - 1).min(5)).min(PAUSE_MAX);
        let pause = pause(attempts);
        assert!(pause >= most / 2 && pause <= most, "{attempts}: {pause:?}");
    }
}

#[test]
fn a_collector_that_can_not_be_sent_to_is_refused_and_shows_no_secret() {
    let mut bad = settings();
    bad.otlp.headers = vec![("x-api-key".into(), SecretString::from("canary\n"))];
    let error = telemetry(&bad).unwrap_err();
    let shown = format!("{error} {error:?} {bad:?}");
    assert!(
        shown.contains("x-api-key") && !shown.contains("canary"),
        "{shown}"
    );
    let mut bad = settings();
    bad.otlp.tls = Some(UpstreamTls {
        server_name: "not a name".into(),
        authorities: None,
        identity: None,
        verify: Verify::Full,
    });
    assert!(matches!(telemetry(&bad), Err(TelemetryError::Tls(_))));
}
