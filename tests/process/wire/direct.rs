//! The reference backend and client against each other: what the matrix measures with must be true itself.

use super::exchange::{Exchange, Kind, UPLOAD, compare, perform};
use super::scene::Papers;
use super::side::{End, Side};
use http::Version;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_client_and_backend_agree_on_every_side() {
    let papers = Papers::new();
    for side in Side::ALL {
        let backend = papers.backend(side).await;
        let door = papers.direct(&backend);
        for kind in Kind::ALL {
            let cell = format!("{} {}", side.name(), kind.name());
            let told = perform(kind, &door, &backend.calls, &cell).await;
            let told = told.unwrap_or_else(|fault| panic!("{cell}: {fault}"));
            assert_eq!(told.status, kind.status(), "{cell}");
            assert_eq!(told.version, side.version(End::Backend), "{cell}");
            assert_eq!(told.seen.version, told.version, "{cell}");
            assert_eq!(told.seen.authority, backend.address.to_string(), "{cell}");
            let arrived = told.seen.body.as_ref();
            match kind {
                Kind::Head | Kind::Unchanged => assert_eq!(told.body.bytes, 0, "{cell}"),
                Kind::Upload => assert_eq!(arrived.unwrap().bytes, UPLOAD as u64, "{cell}"),
                Kind::Trailers => {
                    assert_eq!(told.body.trailers.len(), 2, "{cell}: {told:?}");
                    assert_eq!(arrived.unwrap().trailers.len(), 2, "{cell}: {told:?}");
                }
                Kind::Refused => assert!(arrived.is_none(), "{cell}"),
                _ => assert!(told.body.bytes > 0, "{cell}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_asks_for_a_certificate_refuses_who_has_none() {
    let papers = Papers::new();
    let backend = papers.backend(Side::Mtls).await;
    let mut door = papers.direct(&backend);
    door.tls = Some(std::sync::Arc::new(
        papers
            .authority
            .trusting(None, Side::Mtls.alpn(End::Backend)),
    ));
    let told = perform(Kind::Get, &door, &backend.calls, "bare").await;
    assert!(told.is_err(), "{told:?}");
    assert!(backend.calls.of("bare").seen().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_in_anything_that_is_told_is_seen() {
    let papers = Papers::new();
    let backend = papers.backend(Side::H1).await;
    let door = papers.direct(&backend);
    let told = perform(Kind::Trailers, &door, &backend.calls, "told").await;
    let told = told.unwrap();
    let differs = |change: fn(&mut Exchange)| {
        let mut other = told.clone();
        change(&mut other);
        let found = compare(Kind::Trailers, Side::H1, Side::H1, &told, &other);
        found.into_iter().map(|it| it.what).collect::<Vec<_>>()
    };
    assert_eq!(differs(|_| {}), [""; 0]);
    assert_eq!(differs(|it| it.status = 500), ["status", "status expected"]);
    assert_eq!(
        differs(|it| it.version = Version::HTTP_2),
        ["agents' version"]
    );
    assert_eq!(differs(|it| it.body.bytes += 1), ["bytes"]);
    assert_eq!(differs(|it| it.body.sha256.clear()), ["digest"]);
    assert_eq!(
        differs(|it| drop(it.body.trailers.pop())),
        ["answer's trailer x-sum"]
    );
    assert_eq!(
        differs(|it| it.fields.push(("x-more".to_owned(), String::new()))),
        ["answer's x-more"]
    );
    assert_eq!(
        differs(|it| it.fields.retain(|(name, _)| name != "date")),
        ["answer's date"]
    );
    assert_eq!(
        differs(|it| it.seen.version = Version::HTTP_2),
        ["backend's version"]
    );
    assert_eq!(differs(|it| it.seen.target.push('?')), ["request line"]);
    assert_eq!(differs(|it| it.seen.authority.push('0')), ["request line"]);
    assert_eq!(differs(|it| it.seen.body = None), ["request body"]);
    assert_eq!(
        differs(|it| it.seen.fields.retain(|(name, _)| name != "te")),
        ["request's te"]
    );
}
