//! Names, kinds and errors of spans.

use super::super::context::TraceId;
use super::*;
use uuid::Uuid;

/// A call of `bot` that waited, was sent and answered.
pub(in super::super) fn call() -> Call {
    Call {
        context: Context {
            trace: TraceId([1; 16]),
            parent: Some([2; 8]),
            call: [3; 8],
            backend: [4; 8],
            hold: [5; 8],
            sampled: true,
        },
        time: Timestamp::from_micros(1_000_000),
        total_micros: 9,
        decision_micros: Some(1),
        hold: Some(Stretch {
            from_micros: 1,
            micros: Some(2),
        }),
        exchange: Some(Exchange {
            from_micros: 5,
            upstream_micros: Some(2),
            scheme: "https",
            authority: "[::1]:8443".into(),
            target: "/items/1?q=*".into(),
            status: Some(200),
        }),
        request: RequestId::new(Uuid::nil()),
        method: Method::GET,
        target: "/t/items/1?q=*".into(),
        arrival: Arrival {
            encrypted: true,
            version: Version::HTTP_2,
            authority: Some("gate.example:8443".into()),
        },
        project: ProjectName::parse("demo").unwrap(),
        policy: PolicyHash([7; 32]),
        agent: AgentName::parse("bot").unwrap(),
        session: SessionId::new(Uuid::nil()),
        run: Some("nightly".into()),
        tool: Some(ToolName::parse("t").unwrap()),
        route: Some(RouteId::parse("read").unwrap()),
        scope: None,
        resource: None,
        decision: Some("allow"),
        reason: None,
        grant: Some(GrantUse::OnUse),
        shadow: None,
        approval: None,
        limit: None,
        client: [127, 0, 0, 1].into(),
        status: Some(200),
        fault: None,
        frames: None,
        bytes_in: 1,
        bytes_out: 2,
    }
}

fn spans(call: &Call) -> Vec<Span> {
    let mut spans = Vec::new();
    call.write(&mut spans);
    assert_eq!(spans.len(), call.spans());
    spans
}

fn said<'s>(span: &'s Span, key: &str) -> Option<&'s Value> {
    let found = span.attributes.iter().find(|it| it.key == key);
    found?.value.as_ref()?.value.as_ref()
}

fn error(span: &Span) -> Option<&str> {
    let said = match said(span, "error.type")? {
        Value::Text(text) => text.as_str(),
        Value::Number(_) => panic!("a number"),
    };
    assert_eq!(span.status.as_ref().map(|it| it.code), Some(2));
    Some(said)
}

#[test]
fn a_run_is_the_conversation_and_places_are_host_and_port() {
    let spans = spans(&call());
    let text = |at: usize, key: &str| match said(&spans[at], key) {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        None => "-".to_owned(),
    };
    assert_eq!(text(0, "gen_ai.conversation.id"), "nightly");
    assert_eq!(text(0, "gen_ai.tool.name"), "t/read");
    assert_eq!(text(0, "url.scheme"), "https");
    assert_eq!(text(0, "server.address"), "gate.example");
    assert_eq!(text(0, "server.port"), "8443");
    assert_eq!(text(2, "server.address"), "[::1]");
    assert_eq!(text(2, "server.port"), "8443");
    assert_eq!(text(2, "url.full"), "https://[::1]:8443/items/1?q=*");
    assert!(spans.iter().all(|span| span.status.is_none()));
    let mut keys: Vec<&str> = spans[0]
        .attributes
        .iter()
        .map(|it| it.key.as_str())
        .collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all, "each key once");
}

#[test]
fn errors_are_those_of_the_conventions() {
    let check = |edit: fn(&mut Call), server: Option<&str>, client: Option<&str>| {
        let mut call = call();
        edit(&mut call);
        let spans = spans(&call);
        assert_eq!((error(&spans[0]), error(&spans[2])), (server, client));
    };
    check(|_| {}, None, None);
    check(
        |call| {
            call.status = Some(404);
            call.exchange.as_mut().unwrap().status = Some(404);
        },
        None,
        Some("404"),
    );
    check(
        |call| {
            call.status = Some(503);
            call.exchange.as_mut().unwrap().status = Some(503);
        },
        Some("503"),
        Some("503"),
    );
    check(
        |call| call.fault = Some(Fault::AgentLeft),
        Some("agent_left"),
        Some("agent_left"),
    );
    check(|call| call.fault = Some(Fault::CostUnreadable), None, None);
    check(
        |call| {
            (call.status, call.reason) = (Some(502), Some(Reason::UpstreamFailed));
            call.fault = Some(Fault::UpstreamFailed);
            call.exchange.as_mut().unwrap().status = None;
        },
        Some("upstream_failed"),
        Some("upstream_failed"),
    );
}

#[test]
fn texts_are_bounded_and_hold_no_token() {
    use crate::policy::token::{Token, TokenKind};
    let token = Token::mint(TokenKind::Session, &[9; 32]);
    let mut call = call();
    call.run = Some(token.reveal().into());
    call.target = "/\u{e9}".repeat(TEXT_BYTES_MAX).into();
    for span in spans(&call) {
        for key in span.attributes {
            if let Some(Value::Text(text)) = key.value.and_then(|it| it.value) {
                assert!(text.len() <= TEXT_BYTES_MAX);
                assert!(!text.contains(token.reveal()), "{}", key.key);
            }
        }
    }
}
