//! A caller of the admin API: one request, one connection, bounded in time and bytes.
//!
//! It refuses to send the key anywhere but to the URL that was given (redirects are not followed), and over TLS to anybody
//! whose certificate is not good for it.

use super::trust::Trust;
use super::{Failure, Globals, output};
use crate::io::tls::client::{Connector, Offer};
use crate::policy::token::{self, TokenKind};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request's first byte to the answer's last.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most items that a list command fetches, over all pages.
const LIST_ITEMS_MAX: usize = 10_000;
/// Items of one page.
const PAGE_ITEMS: usize = 100;

/// An admin API and the key to it.
pub struct Client {
    /// `host:port`.
    authority: String,
    /// `None`: plain HTTP.
    tls: Option<Arc<Connector>>,
    key: SecretString,
}

impl Client {
    /// The admin API that the command line and the environment name.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a URL or key that can't be one.
    pub fn from_globals(globals: &Globals) -> Result<Self, Failure> {
        let key = match &globals.key_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::Usage(format!("--key-file {}: {error}", path.display())))?,
            None => std::env::var("TOOLGATE_KEY").map_err(|_| {
                Failure::Usage(
                    "no key for the admin API: set TOOLGATE_KEY or give --key-file (`toolgate key new` makes one)"
                        .to_owned(),
                )
            })?,
        };
        let key = SecretString::from(key.trim());
        let client = Self::trusting(&globals.trust, &globals.admin, key)?;
        if client.tls.is_none() && !is_loopback(&client.authority) {
            anstream::eprintln!(
                "warning: the key goes to http://{} in clear; give its listener `tls`, or use a tunnel that ends on loopback",
                client.authority
            );
        }
        Ok(client)
    }

    /// A client of `url` (`http://host[:port]` or `https://...`) with a principal's key, which believes whom the system does.
    ///
    /// # Errors
    /// As [`Client::from_globals`].
    pub fn new(url: &str, key: SecretString) -> Result<Self, Failure> {
        Self::trusting(&Trust::default(), url, key)
    }

    /// As [`Client::new`], believing whom `trust` says.
    ///
    /// # Errors
    /// As [`Client::from_globals`].
    pub fn trusting(trust: &Trust, url: &str, key: SecretString) -> Result<Self, Failure> {
        if token::parse(TokenKind::Principal, key.expose_secret()).is_none() {
            return Err(Failure::Usage(
                "the key given for the admin API is not one (`tgk_...`): look for a typing error, or make one with `toolgate key new`"
                    .to_owned(),
            ));
        }
        let (scheme, authority) = origin(url)?;
        let tls = match scheme {
            Scheme::Http => None,
            Scheme::Https => Some(trust.connector(host(&authority))?),
        };
        Ok(Self {
            authority,
            tls,
            key,
        })
    }

    /// One call; the answer's JSON if it is a success.
    ///
    /// # Errors
    /// [`Failure::No`] where the API refuses, [`Failure::Unavailable`] where it can't be reached or can't serve.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let request = self.request(method, path, body)?;
        let stream = self.dial().await?;
        let (status, body) = timeout(ANSWER_TIMEOUT, exchange(stream, request))
            .await
            .map_err(|_| self.unreachable(&"the answer timed out"))?
            .map_err(|error| self.unreachable(&error))?;
        judge(status, &body)
    }

    /// A connection, with TLS where the URL says so.
    pub(super) async fn dial(&self) -> Result<Box<dyn Duplex>, Failure> {
        let connecting = async {
            let stream = TcpStream::connect(&self.authority).await?;
            Ok::<Box<dyn Duplex>, Box<dyn std::error::Error + Send + Sync>>(match &self.tls {
                None => Box::new(stream),
                Some(tls) => Box::new(tls.connect(stream, Offer::Http1).await?),
            })
        };
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| self.unreachable(&"the connection timed out"))?
            .map_err(|error| self.unreachable(&error))
    }

    /// Nobody answers there, or not for long.
    pub(super) fn unreachable(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Unavailable(format!(
            "no answer from the admin API at {}://{}: {why}; is the gate running, and is --admin (TOOLGATE_ADMIN) right?",
            if self.tls.is_some() { "https" } else { "http" },
            self.authority
        ))
    }

    /// All items of a list, page by page; `true` if there were more than are fetched. `path` may have a query.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn list(&self, path: &str) -> Result<(Vec<Value>, bool), Failure> {
        let mut items = Vec::new();
        let mut after = String::new();
        let mark = if path.contains('?') { '&' } else { '?' };
        loop {
            let page = self
                .call(
                    Method::GET,
                    &format!("{path}{mark}limit={PAGE_ITEMS}{after}"),
                    None,
                )
                .await?;
            items.extend(page["items"].as_array().into_iter().flatten().cloned());
            let Some(cursor) = page["next"].as_str() else {
                return Ok((items, false));
            };
            if items.len() >= LIST_ITEMS_MAX {
                return Ok((items, true));
            }
            // Cursors are ids of ours; anything else would have to be encoded, so it is not followed.
            if !cursor
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
            {
                return Err(Failure::Ours(
                    "the admin API sent a cursor that is not one".to_owned(),
                ));
            }
            after = format!("&after={cursor}");
        }
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.key.expose_secret()))
            .map_err(|_| Failure::Usage("the key can't be sent in a header".to_owned()))?;
        bearer.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json, application/problem+json")
            .header(USER_AGENT, concat!("toolgate/", env!("CARGO_PKG_VERSION")));
        match body {
            Some(json) => request
                .header(CONTENT_TYPE, "application/json")
                .body(Full::from(json.to_string())),
            None => request.body(Full::default()),
        }
        .map_err(|error| {
            Failure::Ours(format!("the request to {path} could not be built: {error}"))
        })
    }
}

/// A connection, whatever it is made of.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

async fn exchange(
    stream: Box<dyn Duplex>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answering = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await?;
        Ok((status, body.to_bytes()))
    };
    // The connection is driven here, beside its only request: there is nothing to spawn and nothing to leave behind.
    let mut connection = std::pin::pin!(connection);
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        end = &mut connection => {
            end?;
            answering.await
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Scheme and `host:port`.
fn origin(url: &str) -> Result<(Scheme, String), Failure> {
    let not = |why: &str| Failure::Usage(format!("--admin {url}: {why}"));
    let uri: Uri = url
        .parse()
        .map_err(|_| not("not a URL; it looks like http://127.0.0.1:9080"))?;
    let (scheme, port) = match uri.scheme_str() {
        Some("http") => (Scheme::Http, 80),
        Some("https") => (Scheme::Https, 443),
        _ => return Err(not("it begins with http:// or https://")),
    };
    if uri.path() != "/" || uri.query().is_some() {
        return Err(not(
            "it ends after the port; the API's paths are added by the command",
        ));
    }
    let authority = uri.authority().ok_or_else(|| not("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(not("a key belongs in TOOLGATE_KEY, never in a URL"));
    }
    let authority = match authority.port_u16() {
        Some(_) => authority.to_string(),
        None => format!("{}:{port}", authority.host()),
    };
    Ok((scheme, authority))
}

/// Without the port; IPv6 in brackets.
fn host(authority: &str) -> &str {
    authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host)
}

/// Judged by what is written, not by what a resolver says today.
fn is_loopback(authority: &str) -> bool {
    let host = host(authority);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

pub(super) fn judge(status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
    let json = serde_json::from_slice::<Value>(body);
    if status.is_success() {
        return match json {
            Ok(value) => Ok(value),
            Err(_) if body.is_empty() => Ok(Value::Null),
            Err(_) => Err(Failure::Ours(
                "the answer is not JSON: does --admin name the gate's admin listener?".to_owned(),
            )),
        };
    }
    let text = problem(status, &json.unwrap_or(Value::Null));
    Err(match status.as_u16() {
        500 => Failure::Ours(text),
        501.. => Failure::Unavailable(text),
        _ => Failure::No(text),
    })
}

/// A problem document in a person's words: what was refused, why, what to do next.
fn problem(status: StatusCode, document: &Value) -> String {
    let member = |name: &str| document[name].as_str().map(output::harmless);
    let detail = member("detail")
        .or_else(|| member("title"))
        .unwrap_or_else(|| "no reason was given".to_owned());
    let reason = member("reason").map_or_else(String::new, |reason| format!(", {reason}"));
    let mut text = format!("{detail} ({}{reason})", status.as_u16());
    let next = &document["next"];
    // An action alone says what the detail has said.
    if let Some(href) = next["href"].as_str() {
        let method = next["method"].as_str().unwrap_or("GET");
        let call = output::harmless(&format!("{method} {href}"));
        text.push_str(&format!("\n next: {call}"));
        if !next["body"].is_null() {
            text.push_str(&format!(" {}", output::harmless(&next["body"].to_string())));
        }
    }
    if status == StatusCode::UNAUTHORIZED {
        text.push_str("\n next: check TOOLGATE_KEY against the `principals` of the server file");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::token::Token;
    use serde_json::json;

    #[test]
    fn only_an_origin_is_an_admin_url() {
        for (url, scheme, authority) in [
            ("http://127.0.0.1:9080", Scheme::Http, "127.0.0.1:9080"),
            ("http://gate.example/", Scheme::Http, "gate.example:80"),
            ("http://[::1]:9080", Scheme::Http, "[::1]:9080"),
            ("https://gate.example", Scheme::Https, "gate.example:443"),
        ] {
            assert_eq!(origin(url).unwrap(), (scheme, authority.to_owned()));
        }
        let refused = |url: &str, why: &str| {
            let failure = origin(url).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{url}");
            assert!(failure.to_string().contains(why), "{failure}");
        };
        refused("ftp://gate.example", "http:// or https://");
        refused("gate.example:9080", "http://");
        refused("http://gate.example/v1", "after the port");
        refused("http://tgk_x@gate.example", "never in a URL");
    }

    #[test]
    fn a_key_stays_on_this_machine_only_at_a_loopback_address() {
        for here in ["127.0.0.1:9080", "[::1]:9080", "localhost:80"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in [
            "10.0.0.1:9080",
            "localhost.example:80",
            "127.0.0.1.example:80",
        ] {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn a_key_that_is_not_one_is_refused_without_being_repeated() {
        let failure = Client::new("http://127.0.0.1:1", SecretString::from("sk-secret"))
            .err()
            .unwrap();
        assert!(matches!(failure, Failure::Usage(_)));
        assert!(!failure.to_string().contains("sk-secret"));
    }

    #[test]
    fn a_problem_document_is_read_out_with_its_reason_and_what_to_do_next() {
        let body = json!({
            "detail": "users.delete is outside the ceiling", "reason": "scope_outside_ceiling",
            "next": {"action": "mint", "method": "POST", "href": "/v1/sessions", "body": {"agent": "x"}},
        });
        let failure = judge(StatusCode::FORBIDDEN, body.to_string().as_bytes()).unwrap_err();
        assert_eq!(
            failure,
            Failure::No(
                "users.delete is outside the ceiling (403, scope_outside_ceiling)\n next: POST /v1/sessions {\"agent\":\"x\"}"
                    .to_owned()
            )
        );
    }

    #[test]
    fn what_the_gate_could_not_serve_is_unavailable_and_what_it_broke_is_its_fault() {
        let kind = |status| judge(status, b"").unwrap_err();
        assert!(matches!(
            kind(StatusCode::SERVICE_UNAVAILABLE),
            Failure::Unavailable(_)
        ));
        assert!(matches!(
            kind(StatusCode::INTERNAL_SERVER_ERROR),
            Failure::Ours(_)
        ));
        assert!(matches!(kind(StatusCode::NOT_FOUND), Failure::No(_)));
    }

    /// A stand-in for the admin API, and a client of it.
    async fn against(api: axum::Router) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, api).await });
        let key = Token::mint(TokenKind::Principal, &[1; 32]);
        Client::new(&url, SecretString::from(key.reveal())).unwrap()
    }

    #[tokio::test]
    async fn a_list_is_fetched_page_by_page_with_the_key() {
        async fn page(request: axum::extract::Request) -> axum::Json<Value> {
            let key = Token::mint(TokenKind::Principal, &[1; 32]);
            let bearer = format!("Bearer {}", key.reveal());
            assert_eq!(request.headers()[AUTHORIZATION], bearer.as_str());
            axum::Json(match request.uri().query().unwrap() {
                "limit=100" => json!({"items": [{"id": "ses_1"}], "next": "ses_1"}),
                "limit=100&after=ses_1" => json!({"items": [{"id": "ses_2"}], "next": null}),
                other => panic!("{other}"),
            })
        }
        let api = axum::Router::new().route("/v1/sessions", axum::routing::get(page));
        let client = against(api).await;
        let (items, more) = client.list("/v1/sessions").await.unwrap();
        assert_eq!(json!(items), json!([{"id": "ses_1"}, {"id": "ses_2"}]));
        assert!(!more);
    }

    #[tokio::test]
    async fn a_cursor_that_would_change_the_request_is_not_followed() {
        let page = || async { axum::Json(json!({"items": [], "next": "x&project=y"})) };
        let api = axum::Router::new().route("/v1/sessions", axum::routing::get(page));
        let failure = against(api).await.list("/v1/sessions").await.unwrap_err();
        assert!(matches!(failure, Failure::Ours(_)), "{failure}");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_with_the_key() {
        let elsewhere = || async { axum::response::Redirect::temporary("http://127.0.0.1:1/") };
        let api = axum::Router::new().route("/v1/sessions", axum::routing::get(elsewhere));
        let failure = against(api)
            .await
            .call(Method::GET, "/v1/sessions", None)
            .await
            .unwrap_err();
        assert!(matches!(failure, Failure::No(_)), "{failure}");
    }

    #[tokio::test]
    async fn a_gate_that_is_not_there_is_unavailable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let key = Token::mint(TokenKind::Principal, &[1; 32]);
        let client = Client::new(
            &format!("http://{address}"),
            SecretString::from(key.reveal()),
        )
        .unwrap();
        let failure = client
            .call(Method::GET, "/v1/sessions", None)
            .await
            .unwrap_err();
        assert!(matches!(failure, Failure::Unavailable(_)), "{failure}");
        assert!(
            failure.to_string().contains("is the gate running"),
            "{failure}"
        );
    }
}
