//! Whom the gate believes, what it shows, which version is agreed on, and that no connection crosses identities.

use super::backends::{Ca, Clients, either, http2, listen, server, upstream, with_tls};
use super::*;
use crate::policy::model::{Http2, Upstream, Verify};
use http_body_util::BodyExt as _;
use rustls::HandshakeKind;

const PATIENCE: Duration = Duration::from_secs(5);

fn place(upstream: &Upstream) -> Place {
    Place::new(upstream).unwrap()
}

/// A call without a body, to its end. What is said is the answer's body.
async fn call(place: &Place) -> Result<String, DialFault> {
    let mut lease = Lease::open(place, OWNER, PATIENCE).await?;
    let mut request = Request::new(Outgoing::Empty);
    if lease.version() == Version::HTTP_2 {
        *request.uri_mut() = "https://backend.example/".parse().unwrap();
    }
    let answer = lease.exchange(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    lease.give_back();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

async fn fault(upstream: &Upstream) -> DialFault {
    let place = place(upstream);
    match Lease::open(&place, OWNER, PATIENCE).await {
        Err(fault) => fault,
        Ok(_) => panic!("connected"),
    }
}

#[tokio::test]
async fn the_backend_chooses_the_version_and_is_held_to_what_the_tool_says() {
    let ca = Ca::new();
    let own = ca.issue("127.0.0.1");
    let both = either(Some(server(&own, &Clients::Anybody, &["h2", "http/1.1"]))).await;
    let old = either(Some(server(&own, &Clients::Anybody, &["http/1.1"]))).await;
    let mute = either(Some(server(&own, &Clients::Anybody, &[]))).await;
    let plain = either(None).await;
    for (backend, tls, mode, expected) in [
        (&both, true, Http2::Auto, Ok("2")),
        (&both, true, Http2::Off, Ok("1")),
        (&both, true, Http2::PriorKnowledge, Ok("2")),
        (&old, true, Http2::Auto, Ok("1")),
        (&mute, true, Http2::Auto, Ok("1")),
        (
            &old,
            true,
            Http2::PriorKnowledge,
            Err(DialFault::Tls(TlsFault::NoHttp2)),
        ),
        (
            &mute,
            true,
            Http2::PriorKnowledge,
            Err(DialFault::Tls(TlsFault::NoHttp2)),
        ),
        (&plain, false, Http2::Auto, Ok("1")),
        (&plain, false, Http2::PriorKnowledge, Ok("2")),
    ] {
        let upstream = upstream(backend.address, tls.then_some(&ca), mode);
        for _ in 0..2 {
            let said = call(&place(&upstream)).await;
            assert_eq!(
                said.as_deref().map_err(|fault| *fault),
                expected,
                "{mode:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_backend_that_is_not_who_it_should_be_is_not_spoken_to_and_the_check_is_named() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    for (own, name, expected) in [
        (stranger.issue("127.0.0.1"), None, TlsFault::UnknownIssuer),
        (ca.issue("127.0.0.2"), None, TlsFault::WrongName),
        (
            ca.issue("crm.example"),
            Some("erp.example"),
            TlsFault::WrongName,
        ),
        (
            ca.issue_within("127.0.0.1", 2001, 2002),
            None,
            TlsFault::Expired,
        ),
        (
            ca.issue_within("127.0.0.1", 3001, 3002),
            None,
            TlsFault::NotYetValid,
        ),
    ] {
        let backend = either(Some(server(&own, &Clients::Anybody, &["h2"]))).await;
        let upstream = with_tls(upstream(backend.address, Some(&ca), Http2::Auto), |tls| {
            if let Some(name) = name {
                tls.server_name = name.into();
            }
        });
        assert_eq!(fault(&upstream).await, DialFault::Tls(expected));
        // The key for tests is the only way around it.
        let upstream = with_tls(upstream, |tls| tls.verify = Verify::SkipForTests);
        assert_eq!(call(&place(&upstream)).await.as_deref(), Ok("2"));
    }
}

#[tokio::test]
async fn a_name_of_the_tools_own_is_what_is_asked_for_and_checked() {
    let ca = Ca::new();
    let backend = either(Some(server(
        &ca.issue("crm.example"),
        &Clients::Anybody,
        &["h2"],
    )))
    .await;
    let upstream = with_tls(upstream(backend.address, Some(&ca), Http2::Auto), |tls| {
        tls.server_name = "crm.example".into();
    });
    assert_eq!(call(&place(&upstream)).await.as_deref(), Ok("2"));
}

#[tokio::test]
async fn without_an_authority_of_its_own_a_private_backend_is_unknown() {
    let ca = Ca::new();
    let backend = either(Some(server(
        &ca.issue("127.0.0.1"),
        &Clients::Anybody,
        &["h2"],
    )))
    .await;
    let upstream = with_tls(upstream(backend.address, Some(&ca), Http2::Auto), |tls| {
        tls.authorities = None;
    });
    match Place::new(&upstream) {
        Ok(_) => assert_eq!(
            fault(&upstream).await,
            DialFault::Tls(TlsFault::UnknownIssuer)
        ),
        // A machine without any: then it says so.
        Err(error) => assert!(error.to_string().contains("upstream.tls.ca"), "{error}"),
    }
}

#[tokio::test]
async fn what_is_not_tls_is_told_from_what_is_not_there() {
    let ca = Ca::new();
    let plain = listen(None, |_, mut io| async move {
        let _ = io.read(&mut [0; 64]).await;
        let _ = io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let upstream = upstream(plain.address, Some(&ca), Http2::Auto);
    assert_eq!(fault(&upstream).await, DialFault::Tls(TlsFault::NotTls));
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_bounded_by_the_connect_timeout() {
    let ca = Ca::new();
    let silent = listen(None, |_, mut io| async move {
        while io.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    for (ca, mode) in [
        (Some(&ca), Http2::Auto),
        (Some(&ca), Http2::Off),
        (None, Http2::PriorKnowledge),
    ] {
        let place = place(&upstream(silent.address, ca, mode));
        let opened = Lease::open(&place, OWNER, Duration::from_millis(100)).await;
        assert_eq!(opened.err(), Some(DialFault::Timeout));
    }
}

#[tokio::test]
async fn a_backend_that_demands_a_certificate_gets_it_and_refuses_others() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let own = ca.issue("127.0.0.1");
    for mode in [Http2::Auto, Http2::Off] {
        let config = server(&own, &Clients::CertifiedBy(&ca), &["h2", "http/1.1"]);
        let backend = either(Some(config)).await;
        let with = |identity| {
            with_tls(upstream(backend.address, Some(&ca), mode), |tls| {
                tls.identity = identity;
            })
        };
        let said = call(&place(&with(Some(ca.issue("gate.example"))))).await;
        assert!(said.is_ok(), "{said:?}");
        for (identity, expected) in [
            (None, TlsFault::CertificateDemanded),
            (
                Some(stranger.issue("gate.example")),
                TlsFault::CertificateRefused,
            ),
        ] {
            // Over TLS 1.3 it is refused after the client believes the handshake done.
            let met = match Lease::open(&place(&with(identity)), OWNER, PATIENCE).await {
                Err(DialFault::Tls(fault)) => fault,
                Err(fault) => panic!("{fault}"),
                Ok(mut lease) => match lease.exchange(Request::new(Outgoing::Empty)).await {
                    Err(Unanswered::Silent(ExchangeFault::Tls(fault))) => fault,
                    other => panic!("{:?}", other.map(|_| ())),
                },
            };
            assert_eq!(met, expected);
        }
    }
}

#[tokio::test]
async fn connections_never_cross_identities_and_a_rotation_leaves_old_calls_alone() {
    let ca = Ca::new();
    let own = ca.issue("127.0.0.1");
    let (release, held) = tokio::sync::watch::channel(false);
    let config = server(&own, &Clients::CertifiedBy(&ca), &["h2"]);
    let backend = http2(
        Some(config),
        h2::server::Builder::new(),
        move |_, mut respond| {
            let mut held = held.clone();
            async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                held.wait_for(|released| *released).await.unwrap();
                stream.send_data(Bytes::from_static(b"done"), true).unwrap();
            }
        },
    )
    .await;
    let with = |identity: &crate::policy::certificate::Identity| {
        place(&with_tls(
            upstream(backend.address, Some(&ca), Http2::Auto),
            |tls| tls.identity = Some(identity.clone()),
        ))
    };
    let (before, after) = (ca.issue("gate.example"), ca.issue("gate.example"));
    let mut answers = Vec::new();
    for identity in [&before, &after, &before, &after] {
        let mut lease = Lease::open(&with(identity), OWNER, PATIENCE).await.unwrap();
        let request = Request::get("https://backend.example/");
        let request = request.body(Outgoing::Empty).unwrap();
        let answer = lease.exchange(request).await.unwrap();
        answers.push((lease, answer));
    }
    assert_eq!(backend.connections(), 2);
    release.send(true).unwrap();
    for (lease, answer) in answers {
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "done");
        lease.give_back();
    }
}

#[tokio::test]
async fn equal_contents_are_one_identity_and_a_session_is_resumed_on_it() {
    let ca = Ca::new();
    let own = ca.issue("127.0.0.1");
    let backend = either(Some(server(&own, &Clients::Anybody, &["http/1.1"]))).await;
    let upstream = upstream(backend.address, Some(&ca), Http2::Off);
    let (one, other) = (place(&upstream), place(&upstream));
    assert_eq!(one.number(), other.number());
    let plain = super::backends::upstream(backend.address, None, Http2::Off);
    assert_ne!(one.number(), place(&plain).number());
    for (place, expected) in [
        (&one, HandshakeKind::Full),
        (&other, HandshakeKind::Resumed),
    ] {
        let stream = tokio::net::TcpStream::connect(backend.address)
            .await
            .unwrap();
        let connector = place.tls.as_ref().unwrap();
        let mut stream = connector.connect(stream, Offer::Configured).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        // With its answer come the tickets.
        let request = b"GET / HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}
