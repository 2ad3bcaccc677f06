//! `toolgate demo`: a sample backend, the gate with the example configuration, two sessions, and lines to paste.
//!
//! Everything it keeps is in one temporary folder that goes when it ends. Nothing is short-cut: the sessions are minted
//! through the admin API, the lines go through real sockets, and `--check` runs those very lines.

mod backend;
mod certificates;
mod mcp;
mod script;
mod stage;

use super::client::Client;
use super::serve::{self, Signals};
use super::{Failure, Globals, output, runtime};
use crate::app::{App, Options, Running, logs};
use crate::config::{self, Secrets};
use crate::io::clock;
use anstyle::{AnsiColor, Style};
use clap::Args;
use http::Method;
use script::{Setting, Step};
use secrecy::SecretString;
use serde_json::{Value, json};
use stage::{Ports, Stage, Wire};
use std::fmt::Write as _;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// `demo`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate demo\n  toolgate demo --tls\n  toolgate demo --check\n\nIt needs no configuration and leaves nothing behind. --check needs `sh`, `curl` and `grep`."
)]
pub struct Arguments {
    /// Run the lines instead of printing them, and fail unless every answer is as promised
    #[arg(long)]
    check: bool,
    /// Speak TLS to agents, who may show a certificate, and to the backend; with certificates made for this run
    #[arg(long)]
    tls: bool,
    /// Listen on ports N (agents), N+1 (admin), N+2 (metrics) and N+3 (the backend) instead of free ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65_532))]
    port: Option<u16>,
}

/// Longest that one line of `--check` may take.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at whether something waits for a person.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// For calls in flight when the demo ends.
const DRAIN_BOUND: Duration = Duration::from_secs(2);
/// What the lines name, in the order in which it is printed.
const SETTINGS: [&str; 14] = [
    "GATE",
    "BACKEND",
    "METRICS",
    "LEDGER",
    "TOKEN",
    "SESSION",
    "OTHER",
    "TOOLGATE_ADMIN",
    "TOOLGATE_KEY",
    "DANA",
    "TOOLGATE",
    // Only with --tls.
    "CA",
    "CERT",
    "CERT_KEY",
];

/// Runs the demo until Ctrl-C, or its check.
///
/// # Errors
/// [`Failure::No`] if an answer is not as promised, else whatever kept it from starting.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    // What the check provokes it also reports.
    let level = if arguments.check { "error" } else { "warn" };
    logs::start(globals.log_format.into(), level);
    let runtime = runtime()?;
    // Before there is a folder that has to go.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let ports = arguments.port.map_or_else(Ports::default, Ports::from);
    let (listener, address) = runtime.block_on(listen(ports.backend))?;
    let credential = secret();
    let wire = if arguments.tls {
        Wire::Tls
    } else {
        Wire::Plain
    };
    let stage = Stage::build(ports, address, &credential, wire)?;
    let tls = stage.certificates.as_ref().map(backend::tls).transpose();
    let tls = tls.map_err(|error| Failure::Ours(format!("the demo's certificates: {error}")))?;
    runtime.spawn(backend::serve(listener, tls, credential));
    let loaded = config::load(&stage.config(), Secrets::Required).map_err(|errors| {
        Failure::Ours(format!("the example configuration is not valid\n{errors}"))
    })?;
    let running = App::start(loaded, Options::default()).map_err(serve::not_started)?;
    let played = runtime.block_on(async {
        let played = tokio::select! {
            played = play(arguments, &stage, &running, address) => played,
            () = signals.stop() => stopped(arguments),
        };
        running.drain(DRAIN_BOUND).await;
        played
    });
    // A line that was given up may still be read from.
    runtime.shutdown_background();
    played
}

/// A signal is how the demo ends, and no way for its check to.
fn stopped(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.check {
        return Err(Failure::No("interrupted before the last line".to_owned()));
    }
    Ok(())
}

async fn listen(port: u16) -> Result<(TcpListener, SocketAddr), Failure> {
    let fault =
        |error| Failure::Unavailable(format!("port {port} for the sample backend: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok((listener, address))
}

/// The check, or the bill and then nothing until a signal.
async fn play(
    arguments: &Arguments,
    stage: &Stage,
    running: &Running,
    backend: SocketAddr,
) -> Result<(), Failure> {
    let backend = format!("{}://{backend}", stage.scheme());
    let settings = settings(stage, running, &backend).await?;
    if arguments.check {
        return check(stage, &settings, running).await;
    }
    output::print(&bill(stage, &settings, running))?;
    std::future::pending().await
}

/// Mints the sessions and says what the lines' variables are.
async fn settings(
    stage: &Stage,
    running: &Running,
    backend: &str,
) -> Result<Vec<Setting>, Failure> {
    let admin = format!("http://{}", running.addresses.admin);
    let client = Client::new(&admin, SecretString::from(stage.key.reveal()))?;
    let support = mint(
        &client,
        &json!({
            "project": "demo", "agent": "support-bot", "attributes": {"customer_id": "7"},
            "intent": "help customer 7 with a lost parcel", "run": "demo",
        }),
    )
    .await?;
    let research = mint(
        &client,
        &json!({"project": "demo", "agent": "research-bot", "run": "demo"}),
    )
    .await?;
    let mut values = vec![
        format!("{}://{}", stage.scheme(), running.addresses.agents),
        backend.to_owned(),
        format!("http://{}/metrics", running.addresses.metrics),
        stage.ledger().display().to_string(),
        support.token,
        support.id,
        research.token,
        admin,
        stage.key.reveal().to_owned(),
        stage.approver.reveal().to_owned(),
        own_program(),
    ];
    if let Some(certificates) = &stage.certificates {
        let path = |file| certificates.path(file).display().to_string();
        values.extend(["ca.pem", "agent.pem", "agent.key"].map(path));
    }
    let named = SETTINGS.into_iter().zip(values);
    Ok(named.map(|(name, value)| Setting { name, value }).collect())
}

/// What the lines call to say what people say.
fn own_program() -> String {
    let own = std::env::current_exe();
    own.map_or_else(|_| "toolgate".to_owned(), |path| path.display().to_string())
}

struct Minted {
    id: String,
    token: String,
}

async fn mint(client: &Client, order: &Value) -> Result<Minted, Failure> {
    let answer = client
        .call(Method::POST, "/v1/sessions", Some(order))
        .await?;
    let member = |name: &str| {
        answer[name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::Ours(format!("a session was minted without {name}")))
    };
    Ok(Minted {
        id: member("id")?,
        token: member("token")?,
    })
}

/// What the demo prints: where everything is, and the lines.
fn bill(stage: &Stage, settings: &[Setting], running: &Running) -> String {
    let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
    let mut text = format!(
        "{bold}Toolgate demo{bold:#}: a small CRM, the gate before it, and two sessions. All of it is in\n{}\nand goes with Ctrl-C.\n\n\
         Paste this into another terminal:\n\n",
        stage.folder().display()
    );
    for Setting { name, value } in settings {
        text.push_str(&format!("  export {name}={}\n", quoted(value)));
    }
    let _ = write!(
        text,
        "\n{bold}Dana decides{bold:#} what waits for a person: in the console at {bold}http://{}/{bold:#}, signed in with the key\n  {}\n\
         or with the lines below. The same key reads the ledger there.\n",
        running.addresses.admin,
        stage.approver.reveal()
    );
    text.push_str("\nThen these lines, in this order; a number is the status that is promised:\n");
    for scene in script::scenes(stage.certificates.is_some()) {
        text.push_str(&format!("\n  {bold}# {}{bold:#}\n", scene.title));
        for step in scene.steps {
            let promise = match script::in_short(step.statuses) {
                none if none.is_empty() => String::new(),
                statuses => format!(": {statuses}"),
            };
            text.push_str(&format!(
                "\n  {dim}# {}{promise}{dim:#}\n  {}\n",
                step.title,
                line_of(stage, step)
            ));
            if let Some(line) = step.meanwhile {
                let _ = write!(
                    text,
                    "\n  {dim}# meanwhile dana says so in the console, or here in another terminal with the same exports{dim:#}\n  {line}\n"
                );
            }
        }
    }
    text.push_str(
        "\nWith the exports the command line works too: toolgate session list\n\
         The policy is projects/demo.yaml in that folder: edit it, and the gate follows. Ctrl-C ends the demo.\n",
    );
    text
}

/// A step's line for this run.
fn line_of(stage: &Stage, step: &Step) -> String {
    match stage.certificates {
        Some(_) => script::encrypted(step.line),
        None => step.line.to_owned(),
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs every line and compares.
async fn check(stage: &Stage, settings: &[Setting], running: &Running) -> Result<(), Failure> {
    for tool in ["curl", "grep"] {
        let found = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            return Err(Failure::Unavailable(format!(
                "--check runs its lines with {tool}, which is not installed"
            )));
        }
    }
    let admin = format!("http://{}", running.addresses.admin);
    let person = Client::new(&admin, SecretString::from(stage.approver.reveal()))?;
    let (mut kept, mut broken) = (0, 0);
    for scene in script::scenes(stage.certificates.is_some()) {
        output::line(&format!("\n{}", scene.title))?;
        for step in scene.steps {
            let line = line_of(stage, step);
            let printed = match step.meanwhile {
                None => run_line(&line, settings).await?,
                Some(meanwhile) => run_both(&line, meanwhile, settings, &person).await?,
            };
            match fault(step, &printed) {
                None => kept += 1,
                Some(_) => broken += 1,
            }
            output::print(&verdict(step, &line, &printed))?;
        }
    }
    if broken > 0 {
        return Err(Failure::No(format!(
            "{broken} of {} lines did not answer as promised",
            kept + broken
        )));
    }
    output::line(&format!("\nall {kept} lines answered as promised"))
}

/// What is wrong with what a line printed.
fn fault(step: &Step, printed: &str) -> Option<String> {
    let statuses = script::statuses(printed);
    if statuses != step.statuses {
        let (got, promised) = (script::in_short(&statuses), script::in_short(step.statuses));
        return Some(format!("answered [{got}], promised [{promised}]"));
    }
    let silent = !printed.contains(step.shows);
    silent.then(|| format!("does not show {:?}", step.shows))
}

fn verdict(step: &Step, line: &str, printed: &str) -> String {
    let (green, red) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default());
    let statuses = script::in_short(&script::statuses(printed));
    let head = format!("{} {}", statuses, step.title);
    match fault(step, printed) {
        None => format!("  {green}✓{green:#} {}\n    {}\n", head.trim_start(), line),
        Some(why) => format!(
            "  {red}✗{red:#} {}: {why}\n    {}\n{}\n",
            head.trim_start(),
            line,
            output::harmless_lines(printed)
        ),
    }
}

/// What a line prints that waits for a person, who runs the other once there is something to decide.
async fn run_both(
    line: &str,
    meanwhile: &str,
    settings: &[Setting],
    person: &Client,
) -> Result<String, Failure> {
    let decided = async {
        let asked = timeout(LINE_TIMEOUT, async {
            while person
                .list("/v1/approvals?state=pending")
                .await?
                .0
                .is_empty()
            {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            Ok::<_, Failure>(())
        });
        match asked.await {
            Ok(asked) => asked?,
            // The line's own answer says what came instead.
            Err(_) => return Ok(String::new()),
        }
        run_line(meanwhile, settings).await
    };
    let (printed, decided) = tokio::join!(run_line(line, settings), decided);
    decided?;
    printed
}

/// What a line prints, run by the shell as it stands.
async fn run_line(line: &str, settings: &[Setting]) -> Result<String, Failure> {
    let fault =
        |error: std::io::Error| Failure::Unavailable(format!("sh could not run `{line}`: {error}"));
    let mut child = Command::new("sh")
        .args(["-c", line])
        .envs(
            settings
                .iter()
                .map(|setting| (setting.name, setting.value.as_str())),
        )
        // The demo is on loopback; a proxy of the environment is not.
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(fault)?;
    let printed = timeout(LINE_TIMEOUT, printed_by(&mut child)).await;
    if printed.is_err() {
        child.kill().map_err(fault)?;
    }
    child.wait().map_err(fault)?;
    printed.unwrap_or_else(|_| Ok(format!("no end after {} s", LINE_TIMEOUT.as_secs())))
}

async fn printed_by(child: &mut Child) -> Result<String, Failure> {
    let stdout = child.stdout.take();
    // Reading blocks; the sample backend lives on this thread and has to answer meanwhile.
    let reading = tokio::task::spawn_blocking(move || {
        let mut printed = Vec::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut printed)?;
        }
        Ok::<_, std::io::Error>(printed)
    });
    match reading.await {
        Ok(Ok(printed)) => Ok(String::from_utf8_lossy(&printed).into_owned()),
        Ok(Err(error)) => Err(Failure::Ours(format!(
            "what a line prints could not be read: {error}"
        ))),
        Err(error) => Err(Failure::Ours(format!(
            "the reader of a line ended: {error}"
        ))),
    }
}

/// The sample backend's own credential, as an API key would be.
fn secret() -> String {
    let hex: String = clock::random::<16>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("crm_{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        title: "two answers",
        line: r#"printf 'HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 %s Late\r\n%s' "$GATE" 'some words'"#,
        statuses: &[200, 429],
        shows: "some words",
        meanwhile: None,
    };

    async fn told(gate: &str) -> String {
        let setting = Setting {
            name: "GATE",
            value: gate.to_owned(),
        };
        run_line(STEP.line, &[setting]).await.unwrap()
    }

    #[tokio::test]
    async fn a_line_runs_in_the_shell_and_is_held_to_its_promise() {
        assert_eq!(fault(&STEP, &told("429").await), None);
        assert_eq!(
            fault(&STEP, &told("200").await).unwrap(),
            "answered [200 x2], promised [200, 429]"
        );
        let silent = told("429").await.replace("some", "no");
        assert_eq!(
            fault(&STEP, &silent).unwrap(),
            r#"does not show "some words""#
        );
    }

    #[test]
    fn settings_can_be_pasted_whatever_stands_in_them() {
        assert_eq!(quoted("a'b $c"), r"'a'\''b $c'");
    }
}
