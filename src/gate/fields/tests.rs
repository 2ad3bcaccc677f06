//! Which fields are refused, which are sent on, and as what.

use super::*;
use crate::gate::Channel;
use crate::policy::model::{Http2, Mount, Protocol, SessionHeader, Tool, Upstream};
use crate::policy::name::ToolName;
use crate::policy::token::TOKEN_BYTES;
use http::header::AUTHORIZATION;
use std::time::Duration;

fn rules(change: impl FnOnce(&mut Tool)) -> Rules {
    let mut tool = Tool {
        name: ToolName::parse("crm").unwrap(),
        protocol: Protocol::Http,
        mount: Mount::Path("/crm".into()),
        upstream: Some(Upstream {
            authority: "crm.internal:80".into(),
            host: "crm.internal".into(),
            base_path: "".into(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            credential: None,
            tls: None,
            http2: Http2::Auto,
        }),
        oauth: None,
        preserve_host: false,
        session_header: SessionHeader::Authorization,
        allow_method_override: Box::default(),
        record_query: Box::default(),
        body_limit: 1 << 20,
        volatile_headers: Box::default(),
        mask_headers: Box::default(),
        pin: false,
    };
    change(&mut tool);
    Rules::new(&tool, Some(HeaderName::from_static("x-api-key")))
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

fn check(lines: &[(&'static str, &str)]) -> Result<(), FieldFault> {
    check_request(&headers(lines), "/users/7", &rules(|_| ()))
}

fn name(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

#[test]
fn an_ordinary_request_passes() {
    let ordinary = [
        ("host", "gate.example"),
        ("authorization", "Bearer tgs_x"),
        ("user-agent", "python-requests/2.32"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("cookie", "a_b=1; targs_x=2"),
        ("x-api-key", "the agent's own, overridden"),
        ("x-forwarded-for", "1.2.3.4"),
        ("connection", "keep-alive, Upgrade, HTTP2-Settings, X-Mine"),
        ("upgrade-insecure-requests", "1"),
        ("x-stainless-arch", "arm64"),
        ("expect", "100-Continue"),
        ("toolgate-intent", "look up a user"),
    ];
    assert_eq!(check(&ordinary), Ok(()));
}

#[test]
fn aliases_of_protected_names_are_refused_however_they_are_spelt() {
    for alias in [
        "x_api_key",
        "xapikey",
        "x-api.key",
        "x_forwarded_for",
        "xforwardedfor",
        "x-forwardedhost",
        "x_real_ip",
        "toolgate_session",
        "tool-gate-session",
        "content_length",
        "transfer_encoding",
        "auth-orization",
        "h_ost",
        "x_http_method_override",
        "x-original_url",
    ] {
        assert_eq!(
            check(&[(alias, "1")]),
            Err(FieldFault::Alias(name(alias))),
            "{alias}"
        );
    }
}

#[test]
fn overrides_are_refused_unless_the_tool_allows_the_very_name() {
    let sent = [("x-http-method-override", "DELETE")];
    assert_eq!(
        check(&sent),
        Err(FieldFault::Override(name("x-http-method-override")))
    );
    assert_eq!(
        check(&[("x-original-url", "/admin")]),
        Err(FieldFault::Override(name("x-original-url")))
    );
    let allowing =
        rules(|tool| tool.allow_method_override = ["x-http-method-override".into()].into());
    assert_eq!(check_request(&headers(&sent), "/", &allowing), Ok(()));
    let other = headers(&[("x-method-override", "DELETE")]);
    assert!(check_request(&other, "/", &allowing).is_err());
}

#[test]
fn connection_may_not_name_what_the_gate_sets_or_checks() {
    for protected in [
        "authorization",
        "host",
        "content-length",
        "x-api-key",
        "x_api_key",
        "x-forwarded-for",
        "toolgate-session",
        "via",
        "content-type",
        "idempotency-key",
    ] {
        let value = format!("close, {}", protected.to_uppercase());
        assert_eq!(
            check(&[("connection", &value)]),
            Err(FieldFault::Nominated(name(protected)))
        );
    }
}

#[test]
fn a_connection_field_that_names_more_than_any_message_needs_is_refused() {
    let many = "a,".repeat(33);
    assert_eq!(
        check(&[("connection", &many)]),
        Err(FieldFault::Nominated(CONNECTION))
    );
    assert_eq!(check(&[("connection", &many[..64])]), Ok(()));
}

#[test]
fn a_session_token_anywhere_but_in_its_field_is_refused() {
    assert_eq!(
        check(&[("cookie", "session=tgs_abc")]),
        Err(FieldFault::TokenInField(name("cookie")))
    );
    assert_eq!(
        check(&[("x-any", "tgs_abc")]),
        Err(FieldFault::TokenInField(name("x-any")))
    );
    let session = [
        ("toolgate-session", "tgs_abc"),
        ("authorization", "Bearer tgs_abc"),
    ];
    assert_eq!(check(&session), Err(FieldFault::TwoCredentials));
    let own = rules(|tool| tool.session_header = SessionHeader::ToolgateSession);
    assert_eq!(
        check_request(&headers(&session), "/", &own),
        Err(FieldFault::TokenInField(AUTHORIZATION))
    );
    let fine = headers(&[
        ("toolgate-session", "tgs_abc"),
        ("authorization", "Basic eA=="),
    ]);
    assert_eq!(check_request(&fine, "/", &own), Ok(()));
    for target in ["/tgs_abc", "/a?token=tgs_abc", "/a?b=c&tgs_"] {
        assert_eq!(
            check_request(&HeaderMap::new(), target, &own),
            Err(FieldFault::TokenInTarget)
        );
    }
    assert_eq!(
        check_request(&HeaderMap::new(), "/budgets_2026/mtgs_7", &own),
        Ok(())
    );
}

#[test]
fn a_whole_token_is_seen_even_within_a_word() {
    let token = format!("tgs_{}", "A".repeat(TOKEN_BYTES - 4));
    assert!(holds_token(format!("q=a%3D{token}").as_bytes()));
    assert!(!holds_token(b"q=a%3Dtgs_short"));
}

#[test]
fn credentials_are_sent_once_and_only_100_continue_can_be_expected() {
    let twice = [
        ("authorization", "Bearer tgs_a"),
        ("authorization", "Bearer tgs_b"),
    ];
    assert_eq!(check(&twice), Err(FieldFault::Repeated(AUTHORIZATION)));
    let twice = [("toolgate-session", "tgs_a"), ("toolgate-session", "tgs_b")];
    assert_eq!(check(&twice), Err(FieldFault::Repeated(TOOLGATE_SESSION)));
    assert_eq!(check(&[("expect", "200-ok")]), Err(FieldFault::Expectation));
}

fn stamped(lines: &[(&'static str, &str)], trust: Trust, framing: Framing) -> HeaderMap {
    let stamp = Stamp {
        trace: None,
        host: &HeaderValue::from_static("crm.internal"),
        peer: &HeaderValue::from_static("10.0.0.9"),
        authority: &HeaderValue::from_static("gate.example"),
        channel: Channel::Plain,
        trust,
        credential: Some(&HeaderValue::from_static("secret")),
        framing,
    };
    forward(&headers(lines), &rules(|_| ()), stamp)
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

#[test]
fn an_agents_word_on_its_origin_is_replaced_and_a_trusted_proxys_is_added_to() {
    let said = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outer.example"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
    ];
    let of_agent = stamped(&said, Trust::Agent, Framing::None);
    assert_eq!(all(&of_agent, "x-forwarded-for"), ["10.0.0.9"]);
    assert_eq!(all(&of_agent, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&of_agent, "x-forwarded-host"), ["gate.example"]);
    for gone in ["x-forwarded-port", "forwarded", "x-real-ip"] {
        assert!(!of_agent.contains_key(gone), "{gone}");
    }
    let of_proxy = stamped(&said, Trust::Proxy, Framing::None);
    assert_eq!(
        all(&of_proxy, "x-forwarded-for"),
        ["1.1.1.1, 2.2.2.2, 10.0.0.9"]
    );
    assert_eq!(all(&of_proxy, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&of_proxy, "x-forwarded-host"), ["outer.example"]);
    assert_eq!(all(&of_proxy, "x-forwarded-port"), ["443"]);
    assert_eq!(all(&of_proxy, "forwarded"), ["for=1.1.1.1"]);
}

#[test]
fn fields_of_one_connection_stay_and_repeated_fields_pass_in_order() {
    let out = stamped(
        &[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("proxy-authorization", "Basic eA=="),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("accept", "a"),
            ("x-api-key", "mine"),
            ("accept", "b"),
            ("te", "gzip, Trailers"),
            ("trailer", "X-Sum, Authorization, X_Api_Key, Host"),
        ],
        Trust::Agent,
        Framing::Chunked,
    );
    assert_eq!(all(&out, "accept"), ["a", "b"]);
    assert_eq!(all(&out, "x-api-key"), ["secret"]);
    assert_eq!(all(&out, "host"), ["crm.internal"]);
    assert_eq!(all(&out, "te"), ["trailers"]);
    assert_eq!(all(&out, "connection"), ["te"]);
    assert_eq!(all(&out, "trailer"), ["x-sum"]);
    assert_eq!(all(&out, "transfer-encoding"), ["chunked"]);
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-authorization",
        "upgrade",
        "content-length",
    ] {
        assert!(!out.contains_key(gone), "{gone}");
    }
}

#[test]
fn a_trailer_with_a_session_token_is_dropped() {
    let mut trailers = headers(&[("x-sum", "7"), ("x-leak", "tgs_abc")]);
    clean_trailers(&mut trailers);
    assert_eq!(trailers, headers(&[("x-sum", "7")]));
}
