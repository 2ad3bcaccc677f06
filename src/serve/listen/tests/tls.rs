//! TLS on the agents' listener, with authorities and certificates of the tests' own.

use super::http2::Peer2;
use super::*;
use crate::config::{Clients, ListenerTls};
use crate::io::tls::server::Version;
use crate::policy::certificate::{Certificates, Identity, Thumbprint};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use zeroize::Zeroizing;

type Authority = CertifiedIssuer<'static, KeyPair>;
type Tls = StreamOwned<ClientConnection, TcpStream>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name, and its key.
fn issued(authority: &Authority, name: &str) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), key)
}

fn certificates(der: &[u8]) -> Certificates {
    Certificates::new(vec![der.into()]).unwrap()
}

fn version(authority: &Authority, clients: Clients) -> Version {
    let (certificate, key) = issued(authority, "gate.example");
    let identity = Identity::new(
        certificates(&certificate),
        Zeroizing::new(key.serialize_der()),
    );
    Version::new(&ListenerTls { identity, clients }).unwrap()
}

/// A client that trusts this authority.
fn client(
    authority: &Authority,
    own: Option<&(CertificateDer<'static>, KeyPair)>,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder
                .with_client_auth_cert(vec![certificate.clone()], key)
                .unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn open(scene: &Scene, config: &Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from("gate.example").unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(session, connect(scene))
}

/// What the handler says of the connection; the fault where there is none.
fn told(stream: &mut Tls) -> std::io::Result<String> {
    stream.write_all(b"GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").expect("an answer");
    Ok(body.to_owned())
}

fn server(version: Version) -> Arc<Server> {
    Arc::new(Server::new(version))
}

#[test]
fn alpn_chooses_the_version_of_http() {
    let authority = authority();
    let tls = server(version(&authority, Clients::Unasked));
    let scene = scene_with(Some(tls), patient(), roomy());
    for alpn in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1", b"h2"]] {
        let mut two = Peer2::open(open(&scene, &client(&authority, None, alpn)), &[]);
        two.get(1, "/");
        assert_eq!(two.status(1), 200);
        assert_eq!(
            two.0.conn.alpn_protocol(),
            Some(&b"h2"[..]),
            "the gate prefers it"
        );
    }
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut one = open(&scene, &client(&authority, None, alpn));
        assert_eq!(told(&mut one).unwrap(), "Tls { certificate: None }");
    }
    let mut neither = open(&scene, &client(&authority, None, &[b"spdy/3"]));
    assert!(told(&mut neither).is_err());
    finish(scene);
}

#[test]
fn a_client_is_known_by_the_thumbprint_of_its_certificate_and_by_no_other() {
    let (servers, clients, strangers) = (authority(), authority(), authority());
    let own = issued(&clients, "agent");
    let foreign = issued(&strangers, "agent");
    let known = format!("Tls {{ certificate: Some({:?}) }}", Thumbprint::of(&own.0));
    for (asked, nobody) in [
        (Clients::Optional(certificates(clients.der())), true),
        (Clients::Required(certificates(clients.der())), false),
    ] {
        let scene = scene_with(Some(server(version(&servers, asked))), patient(), roomy());
        let with_own = client(&servers, Some(&own), &[]);
        // The second and third resume the session of those before them, and are known all the same.
        for _ in 0..3 {
            assert_eq!(told(&mut open(&scene, &with_own)).unwrap(), known);
        }
        let foreign = told(&mut open(&scene, &client(&servers, Some(&foreign), &[])));
        assert!(foreign.is_err(), "{foreign:?}");
        let without = told(&mut open(&scene, &client(&servers, None, &[])));
        assert_eq!(without.is_ok(), nobody, "{without:?}");
        finish(scene);
    }
}

#[test]
fn who_does_not_finish_the_handshake_is_cut_and_holds_nobody_up() {
    let authority = authority();
    let tls = server(version(&authority, Clients::Unasked));
    let mut timeouts = patient();
    timeouts.tls = SWEEP_EVERY;
    let scene = scene_with(Some(tls), timeouts, roomy());
    let mut silent: Vec<TcpStream> = (0..8).map(|_| connect(&scene)).collect();
    // The beginning of a ClientHello.
    send(&mut silent[0], "\u{16}\u{3}\u{1}");
    let config = client(&authority, None, &[]);
    assert_eq!(
        told(&mut open(&scene, &config)).unwrap(),
        "Tls { certificate: None }"
    );
    for stream in &mut silent {
        let mut nothing = Vec::new();
        let _ = stream.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
    }
    finish(scene);
}

#[test]
fn plain_text_is_not_served_where_tls_is_spoken() {
    let authority = authority();
    let tls = server(version(&authority, Clients::Unasked));
    let scene = scene_with(Some(tls), patient(), roomy());
    let mut plain = connect(&scene);
    send(&mut plain, GET);
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(
        !String::from_utf8_lossy(&answer).contains("HTTP"),
        "{answer:?}"
    );
    finish(scene);
}

#[test]
fn a_head_that_does_not_end_is_answered_with_408_over_tls_too() {
    let authority = authority();
    let tls = server(version(&authority, Clients::Unasked));
    let mut timeouts = patient();
    timeouts.head = SWEEP_EVERY;
    let scene = scene_with(Some(tls), timeouts, roomy());
    let mut slow = open(&scene, &client(&authority, None, &[]));
    slow.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer)
        .expect("closed in order, with close_notify");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    finish(scene);
}

#[test]
fn a_renewed_certificate_is_for_new_handshakes_and_open_connections_go_on() {
    let (before, after) = (authority(), authority());
    let tls = server(version(&before, Clients::Unasked));
    let scene = scene_with(Some(Arc::clone(&tls)), patient(), roomy());
    let (trusts_before, trusts_after) = (client(&before, None, &[]), client(&after, None, &[]));
    let mut kept = open(&scene, &trusts_before);
    kept.write_all(GET.as_bytes()).unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).unwrap();
    assert!(told(&mut open(&scene, &trusts_after)).is_err());

    tls.put_in_force(version(&after, Clients::Unasked));
    assert!(told(&mut open(&scene, &trusts_after)).is_ok());
    // Its ticket was sealed by the version before: a whole handshake again, with a certificate it does not trust.
    assert!(told(&mut open(&scene, &trusts_before)).is_err());
    kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut rest = String::new();
    kept.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("HTTP/1.1 200 OK").count(), 1, "{rest}");
    finish(scene);
}
