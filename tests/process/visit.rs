//! The console without a browser: who signs in, and what its pages say.

use crate::client::{Answer, Connection, Payload, read};
use bytes::Bytes;
use http::Method;
use std::net::SocketAddr;

/// Somebody who is signed in.
pub struct Visit {
    admin: SocketAddr,
    /// What the cookie holds.
    pub secret: String,
}

const OWN: (&str, &str) = ("sec-fetch-site", "same-origin");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// An attempt to sign in with this key.
pub async fn sign_in(admin: SocketAddr, key: &str) -> Answer {
    let form = format!("to=%2F&key={key}");
    send(admin, Method::POST, "/sign-in", &[OWN, FORM], form).await
}

impl Visit {
    pub async fn begin(admin: SocketAddr, key: &str) -> Self {
        let answer = sign_in(admin, key).await.expect(303);
        let cookie = answer.header("set-cookie").unwrap();
        let pair = cookie.split(';').next().unwrap();
        let (_, secret) = pair.split_once('=').unwrap();
        Self {
            admin,
            secret: secret.to_owned(),
        }
    }

    pub async fn page(&self, path: &str) -> Answer {
        let cookie = format!("__Host-toolgate={}", self.secret);
        let fields = [("cookie", cookie.as_str())];
        send(self.admin, Method::GET, path, &fields, String::new()).await
    }
}

async fn send(
    admin: SocketAddr,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: String,
) -> Answer {
    let mut connection = Connection::open(admin, "").await.unwrap();
    let body = Payload::from(Bytes::from(body));
    let response = connection.start(method, path, fields, body).await.unwrap();
    read(response).await.unwrap()
}
