//! Secrets put into a real gate wherever secrets can be, and looked for in everything that it leaves behind or says to who
//! must not have them.
//!
//! It is long because what is put where can only be judged where all of it is in sight.

mod search;

use self::search::{Place, Secrets};
use crate::backend::Backend;
use crate::client::{self, Answer, Connection, Payload, read};
use crate::gate::{Gate, Minted, Role, Setup};
use crate::ledger;
use crate::visit::{Visit, sign_in};
use crate::wait::{run, until};
use crate::wire::pki::Authority;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::json;
use std::process::{Command, Output};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use toolgate::policy::token::{Token, TokenKind};

/// What the store keeps for the person who is to decide: the held call as it would run, and the session's attributes.
const STORE: &[&str] = &["the store"];
/// What the console shows to who works with sessions.
const SESSIONS: &[&str] = &["the store", "the console"];

struct Scene {
    setup: Setup,
    secrets: Secrets,
    /// Values of the gate's environment.
    environment: Vec<(&'static str, String)>,
    told: Vec<Place>,
}

/// Text that is nowhere by chance.
fn fresh(name: &str) -> String {
    let random = toolgate::io::clock::random::<12>();
    format!("canary-{name}-{}", ledger::hex(&random))
}

fn token(kind: TokenKind) -> String {
    Token::mint(kind, &toolgate::io::clock::random())
        .reveal()
        .to_owned()
}

/// What of a token is secret.
fn core(token: &str) -> &str {
    &token[4..]
}

impl Scene {
    async fn new(backend: &Backend) -> Self {
        let role = |name, roles| Role {
            name,
            roles,
            projects: "demo",
        };
        let principals = [
            role("root", "issuer, operator, auditor"),
            role("dana", "approver"),
        ];
        let setup = Setup::with(&[("demo", "")], &principals);
        let mut secrets = Secrets::new();
        for name in ["root", "dana"] {
            secrets.add(&format!("{name}'s key"), core(setup.key(name)));
        }
        let mut environment = Vec::new();
        for (variable, name) in [
            ("CANARY_CREDENTIAL", "credential"),
            ("CANARY_URL", "upstream-url"),
            ("CANARY_HOOK", "webhook-url"),
            ("CANARY_GONE", "webhook-url-of-nobody"),
        ] {
            let value = fresh(name);
            secrets.add(name, &value);
            environment.push((variable, value));
        }
        let folder = setup.config().parent().unwrap().to_owned();
        let signing: [u8; 24] = toolgate::io::clock::random();
        let whsec = format!("whsec_{}", STANDARD.encode(signing));
        std::fs::write(folder.join("hook"), &whsec).unwrap();
        secrets.add("webhook secret", signing);
        let authority = Authority::new();
        for name in ["vault", "gate"] {
            let leaf = if name == "vault" {
                authority.client()
            } else {
                authority.server()
            };
            leaf.write(&folder, name);
            for line in leaf.key.lines().filter(|line| !line.starts_with("---")) {
                let line = line.trim();
                if line.len() >= 32 {
                    secrets.add(
                        &format!("private key of {name}"),
                        STANDARD.decode(line).unwrap(),
                    );
                }
            }
        }
        std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        let mut scene = Self {
            setup,
            secrets,
            environment,
            told: Vec::new(),
        };
        scene.setup.edit_server(|text| {
            text.replace("roles: [approver],", "roles: [approver], groups: [leads],")
        });
        scene.setup.write_project("demo", &policy(backend));
        scene.secrets.add(
            "the key of a principal that is none",
            core(&token(TokenKind::Principal)),
        );
        scene
    }

    fn command(&self) -> Command {
        let mut command = self.setup.serve(&[]);
        command
            .env("TOOLGATE_LOG", "trace")
            .envs(self.environment.iter().cloned());
        command
    }

    /// Something new that is in none of the places but these.
    fn plant(&mut self, name: &str, except: &'static [&'static str]) -> String {
        let secret = fresh(name);
        self.secrets.add_except(name, &secret, except);
        secret
    }

    /// A token that was never minted here, and may be good elsewhere.
    fn plant_token(&mut self, name: &str, kind: TokenKind) -> String {
        let token = token(kind);
        self.secrets.add(name, core(&token));
        token
    }

    fn keep(&mut self, name: &'static str, part: &str, bytes: impl Into<Vec<u8>>) {
        let (part, bytes) = (part.to_owned(), bytes.into());
        self.told.push(Place { name, part, bytes });
    }

    /// An answer, and for an error all that it says.
    fn error(&mut self, part: &str, answer: &Answer) {
        assert!(answer.status.as_u16() >= 400, "{part}: {answer:?}");
        let fields = format!("{:?}\n", answer.headers);
        let bytes = [fields.as_bytes(), &answer.body].concat();
        self.keep("an error", part, bytes);
    }

    fn log(&mut self, part: &str, output: &Output) {
        self.keep(
            "the log",
            part,
            [&output.stdout[..], &output.stderr].concat(),
        );
    }
}

fn policy(backend: &Backend) -> String {
    let to = backend.address;
    format!(
        "version: 1
project: demo
agents:
  bot:
    scopes: {{ users: on_use, users.delete: on_use, vault: {{ grant: on_request }} }}
tools:
  crm:
    mount: /crm
    record_query: [page]
    upstream: {{ url: 'http://{to}/${{CANARY_URL}}', credential: {{ header: x-api-key, value: 'Bearer ${{CANARY_CREDENTIAL}}' }} }}
    routes:
      - {{ id: users.read, match: 'GET /users/{{user_id}}', scope: users, resource: 'user:{{user_id}}' }}
      - {{ id: notes.add, match: 'POST /users/{{user_id}}/notes', scope: users }}
      - {{ id: users.delete, match: 'DELETE /users/{{user_id}}', scope: users.delete, resource: 'user:{{user_id}}' }}
  dead:
    mount: /dead
    upstream: {{ url: 'https://127.0.0.1:9/', tls: {{ ca: ca.pem, certificate: vault.pem, private_key: vault.key }} }}
    routes:
      - {{ id: dead.read, match: GET /it, scope: users }}
  late:
    mount: /late
    mask_headers: [x-masked]
    upstream: {{ url: 'http://{to}', credential: {{ header: x-api-key, value: 'Bearer ${{CANARY_CREDENTIAL}}' }} }}
    routes:
      - {{ id: late.delete, match: DELETE /sink, scope: users.delete }}
  vault:
    mount: /vault
    upstream: {{ url: 'http://{to}' }}
    routes:
      - {{ id: vault.open, match: POST /, scope: vault }}
limits:
  - {{ id: same, per: session, repeats: 100/1m }}
approvals:
  default: {{ approvers: [leads], hold: 0s, notify: [ops, gone] }}
notify:
  ops: {{ webhook: {{ url: 'http://{to}/${{CANARY_HOOK}}', secret: {{ file: hook }} }} }}
  gone: {{ webhook: {{ url: 'http://127.0.0.1:9/${{CANARY_GONE}}', secret: {{ file: hook }} }} }}
"
    )
}

async fn send(
    gate: &Gate,
    token: &str,
    (method, path): (Method, &str),
    fields: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut connection = Connection::open(gate.agents, token).await.unwrap();
    let body = Payload::from(Bytes::from(body.to_owned()));
    let response = connection.start(method, path, fields, body).await.unwrap();
    read(response).await.unwrap()
}

/// What is answered to bytes that are no request.
async fn malformed(gate: &Gate, text: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(gate.agents).await.unwrap();
    drop(stream.write_all(text.as_bytes()).await);
    drop(stream.shutdown().await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    answer
}

/// Calls of an agent that forwards, or should not have been let forward, what is secret.
async fn agent(scene: &mut Scene, gate: &Gate, session: &Minted) {
    let good = &session.token;
    let query = scene.plant("query-value", &[]);
    let path = format!("/crm/users/7?page=2&api_key={query}&{query}");
    let cookie = format!("sid={}", scene.plant("cookie", &[]));
    let plain = scene.plant("header", &[]);
    let body = scene.plant("body", &[]);
    let fields = [("cookie", cookie.as_str()), ("x-other", &plain)];
    send(gate, good, (Method::GET, &path), &fields, "")
        .await
        .expect(200);
    send(
        gate,
        good,
        (Method::POST, "/crm/users/7/notes"),
        &fields,
        &body,
    )
    .await
    .expect(200);
    let key = scene.setup.key("root").to_owned();
    let hidden = key.replace('_', "%5F");
    for path in [
        format!("/crm/users/7?key={key}"),
        format!("/crm/users/7?{hidden}=1"),
        format!("/crm/users/{key}"),
    ] {
        send(gate, good, (Method::GET, &path), &[], "")
            .await
            .expect(200);
    }
    let of_tls = send(gate, good, (Method::GET, "/dead/it"), &[], "").await;
    scene.error("a backend that is not there", &of_tls);

    // Its own token where no token may be, plainly and dressed.
    let dressed = good.replacen('t', "%74", 1);
    for (path, fields) in [
        (format!("/crm/users/7?token={good}"), vec![]),
        (format!("/crm/users/{dressed}"), vec![]),
        (format!("/nowhere/../{good}"), vec![]),
        ("/crm/users/7".to_owned(), vec![("x-token", good.as_str())]),
        (
            "/crm/users/7".to_owned(),
            vec![("connection", good.as_str())],
        ),
        (
            "/crm/users/7".to_owned(),
            vec![("toolgate-session", good.as_str()), ("x-b", good)],
        ),
    ] {
        let answer = send(gate, good, (Method::GET, &path), &fields, "").await;
        scene.error("a token out of place", &answer);
    }
    // What it says of itself, and asks for.
    let with_key = format!("tidy up, CONTROL-INTENT, with {key}");
    let fields = [("toolgate-intent", with_key.as_str())];
    send(gate, good, (Method::GET, "/crm/users/7"), &fields, "")
        .await
        .expect(200);
    let intent = format!("{with_key} and {good}");
    let fields = [("toolgate-intent", intent.as_str())];
    let answer = send(gate, good, (Method::GET, "/crm/users/7"), &fields, "").await;
    scene.error("a token in an intent's field", &answer);
    let json = [("content-type", "application/json")];
    let state = json!({ "intent": intent }).to_string();
    let own = |path: &'static str| (Method::PUT, path);
    send(gate, good, own("/.toolgate/intent"), &json, &state)
        .await
        .expect(200);
    let wish = json!({ "scope": "vault", "reason": intent }).to_string();
    send(
        gate,
        good,
        (Method::POST, "/.toolgate/grants"),
        &json,
        &wish,
    )
    .await
    .expect(201);
    for body in [
        json!({ "scope": key, "reason": "x" }).to_string(),
        json!({ "scope": "vault", "reason": "x", key.clone(): 1 }).to_string(),
        json!({ "scope": "vault", "resource": good, "reason": "x" }).to_string(),
        json!({ "scope": key, "resource": format!("user:{key}"), "reason": "x" }).to_string(),
        json!({ "scope": "vault", "ttl": key, "reason": "x" }).to_string(),
        format!("{{\"scope\": {key}"),
    ] {
        let answer = send(
            gate,
            good,
            (Method::POST, "/.toolgate/grants"),
            &json,
            &body,
        )
        .await;
        scene.error("a wish that is none", &answer);
    }
}

/// Who has no good token.
async fn strangers(scene: &mut Scene, gate: &Gate) {
    let foreign = scene.plant_token("token of another gate", TokenKind::Session);
    let cut = scene.plant_token("token that was cut off", TokenKind::Session);
    let password = scene.plant("password", &[]);
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{password}")));
    for credential in [
        format!("Bearer {foreign}"),
        format!("Bearer {}", &cut[..cut.len() - 1]),
        format!("Bearer {password}"),
        basic,
    ] {
        let fields = [("authorization", credential.as_str())];
        let answer = send(gate, "", (Method::GET, "/crm/users/7"), &fields, "").await;
        scene.error("a wrong token", &answer);
        let mut admin = Connection::open(gate.admin, "").await.unwrap();
        let answer = admin
            .start(Method::GET, "/v1/sessions", &fields, ().into())
            .await;
        let answer = read(answer.unwrap()).await.unwrap();
        scene.error("a wrong key", &answer);
    }
    for text in [
        format!("GET /{foreign} HTTP/1.1\r\nhost: a\r\nbad {foreign}\r\n\r\n"),
        format!("{foreign} / HTTP/1.1\r\nhost: a\r\n\r\n"),
        format!("GET / HTTP/{foreign}\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nauthorization: Bearer {foreign}\r\nhost: a\r\nhost: {foreign}\r\n\r\n"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {foreign}\r\ntransfer-encoding: chunked\r\n\r\n{foreign}"
        ),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{foreign}"),
    ] {
        let answer = malformed(gate, &text).await;
        scene.keep("an error", "what is no request", answer);
    }
}

/// Calls over HTTP/2, whose library says much when it is let.
async fn over_http2(scene: &mut Scene, gate: &Gate, session: &Minted) {
    let secret = scene.plant("header-of-http2", &[]);
    for (token, path) in [(&session.token, "/crm/users/7?k="), (&secret, "/?k=")] {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-i",
            "--http2-prior-knowledge",
            "--noproxy",
            "*",
            "--max-time",
            "20",
        ])
        .args(["-H", &format!("authorization: Bearer {token}")])
        .args(["-H", &format!("x-other: {secret}"), "-d", &secret])
        .arg(format!("http://{}{path}{secret}", gate.agents));
        let output = run(curl).await;
        assert!(output.status.success(), "{output:?}");
        scene.keep("an error", "over HTTP/2", output.stdout);
    }
}

/// What people are asked, and say.
async fn approvals(scene: &mut Scene, gate: &Gate, session: &Minted) {
    let key = scene.setup.key("root").to_owned();
    let good = session.token.clone();
    let mut held = Vec::new();
    for number in 1..=2 {
        let (query, masked, body) = (
            scene.plant("query-value-of-a-held-call", STORE),
            scene.plant("masked-header", STORE),
            scene.plant("body-of-a-held-call", STORE),
        );
        held.push((
            format!("/late/sink?number={number}&k={query}"),
            masked,
            body,
        ));
    }
    let mut ids = Vec::new();
    for (path, masked, body) in &held {
        let fields = [("x-masked", masked.as_str())];
        let asked = send(gate, &good, (Method::DELETE, path), &fields, body)
            .await
            .expect(202);
        scene.keep("an error", "a call that waits", asked.body.to_vec());
        ids.push(asked.json()["approval"].as_str().unwrap().to_owned());
    }
    // The approver's own view shows the call whole, by design; masked fields not even there.
    let dana = scene.setup.key("dana").to_owned();
    let path = format!("/v1/approvals/{}", ids[0]);
    let shown = client::get(gate.admin, &dana, &path).await.expect(200);
    assert!(!shown.text().contains(&held[0].1) && shown.text().contains(&held[0].2));
    let note = format!("seen the ticket, not {key}");
    let digest = shown.json()["digest"].clone();
    let word = json!({ "decision": "approve", "digest": digest, "note": note });
    let decision = format!("{path}/decision");
    for wrong in [
        json!({ "decision": key, "digest": good }),
        json!({ key.clone(): 1 }),
    ] {
        let answer = client::call(gate.admin, &dana, Method::POST, &decision, &wrong).await;
        scene.error("a word that is none", &answer);
    }
    client::call(gate.admin, &dana, Method::POST, &decision, &word)
        .await
        .expect(200);
    let (path, masked, body) = &held[0];
    let fields = [("x-masked", masked.as_str())];
    send(gate, &good, (Method::DELETE, path), &fields, body)
        .await
        .expect(200);
}

/// What principals send, and see in the console.
async fn people(scene: &mut Scene, gate: &Gate, session: &Minted) {
    let root = scene.setup.key("root").to_owned();
    let wrong = scene.plant_token("a wrong key at the console", TokenKind::Principal);
    let answer = sign_in(gate.admin, &wrong).await;
    scene.error("a wrong key at the console", &answer);
    for (method, path, body) in [
        (
            Method::POST,
            "/v1/sessions",
            json!({ "project": wrong, "agent": "bot" }),
        ),
        (
            Method::POST,
            "/v1/sessions",
            json!({ "project": "demo", "agent": wrong }),
        ),
        (
            Method::POST,
            "/v1/sessions",
            json!({ "project": "demo", "agent": "bot", wrong.clone(): 1 }),
        ),
        (
            Method::POST,
            "/v1/sessions",
            json!({ "project": "demo", "agent": "bot", "parent": wrong }),
        ),
        (
            Method::POST,
            "/v1/sessions",
            json!({ "project": "demo", "agent": "bot", "scopes": { wrong.clone(): {} } }),
        ),
        (Method::GET, "/v1/approvals?state=nothing", json!({})),
    ] {
        let answer = client::call(gate.admin, &root, method, path, &body).await;
        scene.error("what a principal may not send", &answer);
    }
    for path in [
        format!("/v1/sessions/{}", session.token),
        format!("/v1/{wrong}"),
    ] {
        let answer = client::get(gate.admin, &root, &path).await;
        scene.error("a token for an id", &answer);
    }
    let path = format!("/v1/sessions/{}/quarantine", session.id);
    let reason = json!({ "reason": format!("it said {wrong}") });
    gate.admin(Method::POST, &path, &reason).await.expect(200);

    let visit = Visit::begin(gate.admin, &root).await;
    scene.secrets.add("the console's cookie", &visit.secret);
    for path in [
        "/",
        "/sessions",
        "/policy",
        "/ledger",
        "/ledger?resource=user:7",
        "/console/script.js",
        &format!("/sessions/{}", session.id),
        &format!("/ledger/sessions/{}", session.id),
    ] {
        let page = visit.page(path).await;
        scene.keep("the console", path, page.body.to_vec());
    }
    for path in ["/approvals", "/sessions/ses_1", "/ledger?since=never"] {
        let page = visit.page(path).await;
        scene.error(path, &page);
    }
}

/// A reload that is refused, of a file with a password where none may be.
async fn reloads(scene: &mut Scene, gate: &Gate, backend: &Backend) {
    let password = scene.plant("password-in-a-url", &[]);
    let good = policy(backend);
    let to = backend.address.to_string();
    let broken = good.replace(&to, &format!("user:{password}@{to}"));
    scene.setup.write_project("demo", &broken);
    let answer = gate
        .admin(Method::POST, "/v1/policy/reload", &json!({}))
        .await;
    scene.error("a reload", &answer);
    let rejections = ["result=\"rejected\""];
    until("the gate saw it by itself, too", || async {
        let count = gate
            .metric("toolgate_policy_reloads_total", &rejections)
            .await;
        (count >= 2.0).then_some(())
    })
    .await;
    scene.setup.write_project("demo", &good);
    gate.signal("HUP");
    gate.runs(&scene.setup.project_file("demo")).await;
}

/// A start with keys that are none.
async fn failed_starts(scene: &mut Scene) {
    let wrong = scene.plant("key-that-is-none", &[]);
    let folder = scene.setup.config().with_file_name("broken");
    std::fs::create_dir(&folder).unwrap();
    let good = std::fs::read_to_string(scene.setup.config()).unwrap();
    let digest = ledger::sha256(scene.setup.key("dana").as_bytes());
    let text = good
        .replace(&format!("{{ sha256: {digest} }}"), "{ env: CANARY_WRONG }")
        .replace("projects/*.yaml", "../projects/*.yaml");
    std::fs::write(folder.join("toolgate.yaml"), &text).unwrap();
    for words in [&["serve"][..], &["check"], &["check", "--json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
        command
            .args(words)
            .arg("--config")
            .arg(folder.join("toolgate.yaml"))
            .current_dir(scene.setup.config().parent().unwrap())
            .env("TOOLGATE_LOG", "trace")
            .env("CANARY_WRONG", &wrong)
            .envs(scene.environment.iter().cloned());
        let output = run(command).await;
        assert!(!output.status.success(), "{words:?}");
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // That key, and nothing before it, is what is wrong.
        assert!(said.contains("`CANARY_WRONG` holds"), "{words:?}: {said}");
        scene.log(&words.join(" "), &output);
    }
}

fn files(scene: &mut Scene) {
    let directory = scene.setup.ledger();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_file() && name != "key" {
            scene.keep("the ledger", &name, std::fs::read(&path).unwrap());
        }
    }
    // The one file that may hold it; its text ends with the key itself.
    let key = std::fs::read_to_string(directory.join("key")).unwrap();
    // `PRIVATE+KEY+NAME+ID+` and base64 of a byte that says which kind of key, and the key.
    let text = STANDARD.decode(key.trim().splitn(5, '+').nth(4).unwrap());
    let key = &text.unwrap()[1..];
    scene.secrets.add("the ledger's signing key", key);
    let data = directory.parent().unwrap().to_owned();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            scene.keep("the store", &name, std::fs::read(&path).unwrap());
        }
    }
}

/// The gate's second life: its listener speaks TLS, with a private key.
async fn with_tls(scene: &mut Scene) {
    scene.setup.edit_server(|text| {
        text.replacen(
            "agents: { address: 127.0.0.1:0 }",
            "agents: { address: 127.0.0.1:0, tls: { certificate: gate.pem, private_key: gate.key } }",
            1,
        )
    });
    let mut gate = scene.setup.started(scene.command()).await;
    let answer = malformed(&gate, "GET / HTTP/1.1\r\n\r\n").await;
    scene.keep("an error", "plain HTTP to TLS", answer);
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    scene.keep("the log", "with TLS", gate.lines("").join("\n"));
}

fn has(places: &[Place], name: &str, text: &str) -> bool {
    let has = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    places
        .iter()
        .any(|place| place.name == name && has(&place.bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_ledger_log_metrics_errors_console_or_store() {
    let backend = Backend::start("crm").await;
    let mut scene = Scene::new(&backend).await;
    let mut gate = scene.setup.started(scene.command()).await;
    let attribute = scene.plant("attribute", SESSIONS);
    let order = json!({
        "project": "demo", "agent": "bot", "attributes": { "note": attribute },
        "intent": format!("clean up with {}", scene.setup.key("root")),
    });
    let session = gate.mint_with(order).await;
    scene
        .secrets
        .add("the session's token", core(&session.token));
    let gone = gate.mint("demo", "bot").await;
    scene.secrets.add("a revoked token", core(&gone.token));
    let path = format!("/v1/sessions/{}", gone.id);
    gate.admin(Method::DELETE, &path, ()).await.expect(200);
    let answer = send(&gate, &gone.token, (Method::GET, "/crm/users/7"), &[], "").await;
    scene.error("a revoked token", &answer);

    agent(&mut scene, &gate, &session).await;
    strangers(&mut scene, &gate).await;
    over_http2(&mut scene, &gate, &session).await;
    approvals(&mut scene, &gate, &session).await;
    reloads(&mut scene, &gate, &backend).await;
    people(&mut scene, &gate, &session).await;
    let hook = scene.environment[2].1.clone();
    until("a webhook was told", || async {
        (backend.seen(&format!("POST /{hook}")) > 0).then_some(())
    })
    .await;
    let metrics = gate.metrics().await;
    scene.keep("metrics", "", metrics);
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    scene.keep("the log", "", gate.lines("").join("\n"));
    with_tls(&mut scene).await;
    failed_starts(&mut scene).await;
    files(&mut scene);

    // These are the right places: what may be there is.
    for (place, text) in [
        ("the ledger", "CONTROL-INTENT"),
        ("the ledger", "tgk_*"),
        ("the ledger", "canary"),
        ("the log", "TRACE"),
        ("the log", "listening"),
        ("metrics", "route=\"late.delete\""),
        ("an error", "upstream_failed"),
        ("the console", "CONTROL-INTENT"),
        ("the console", "/ledger/sessions/"),
        ("the store", "CONTROL-INTENT"),
        ("the store", "body-of-a-held-call"),
    ] {
        let known = has(&scene.told, place, text);
        assert_eq!(known, text != "canary", "{text} in {place}");
    }
    let records = ledger::verified(&scene.setup.ledger());
    for kind in [
        "decision",
        "outcome",
        "session",
        "grant",
        "approval",
        "quarantine",
        "policy",
        "principal",
        "gate",
    ] {
        assert!(
            !ledger::of_kind(&records, kind).is_empty(),
            "a record of the kind {kind}"
        );
    }
    let triggers: Vec<&str> = ledger::of_kind(&records, "policy")
        .iter()
        .filter_map(|record| record["trigger"].as_str())
        .collect();
    for trigger in ["start", "signal", "file_change", "principal:root"] {
        assert!(triggers.contains(&trigger), "{triggers:?}");
    }
    let found = scene.secrets.found_in(&scene.told);
    assert!(found.is_empty(), "{}", found.join("\n\n"));
    // And whatever is put there is found.
    let planted = scene.plant("planted", &[]);
    for place in [
        "the ledger",
        "the log",
        "metrics",
        "an error",
        "the console",
        "the store",
    ] {
        let mut bytes = STANDARD.encode(format!("x{planted}")).into_bytes();
        bytes.extend_from_slice(b"\n");
        let place = Place {
            name: place,
            part: "a guard".to_owned(),
            bytes,
        };
        assert_eq!(scene.secrets.found_in(&[place]).len(), 1);
    }
}
