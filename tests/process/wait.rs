//! Bounded waiting.

use std::future::Future;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Longest wait for anything that should simply happen. Generous: machines that test are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often what is done `usual` times is done: by hand `ROUNDS` may say otherwise.
pub fn rounds(usual: usize) -> usize {
    std::env::var("ROUNDS").map_or(usual, |text| text.parse().unwrap())
}

/// The future's value, or a failure that names what did not happen.
pub async fn within<T>(span: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(span, future).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen within {span:?}: {what}"),
    }
}

/// Asks again and again until the answer is a value; the pause only spares the processor.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    within(PATIENCE, what, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Runs a program to its end and gives what it said. One that does not end is killed, by its id.
pub async fn run(command: Command) -> Output {
    run_with_input(command, Vec::new()).await
}

/// As [`run`], with bytes on its standard input.
pub async fn run_with_input(mut command: Command, input: Vec<u8>) -> Output {
    use std::io::Write as _;
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|fault| {
            panic!("{name} does not start: {fault}; ./test installs what the tests need")
        });
    let id = child.id();
    let mut stdin = child.stdin.take().unwrap();
    // A program that reads nothing may be gone before the bytes are: not our concern.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ending = tokio::task::spawn_blocking(move || child.wait_with_output());
    let Ok(output) = tokio::time::timeout(2 * PATIENCE, ending).await else {
        signal(id, "KILL");
        panic!("does not end: {name}");
    };
    writer.join().unwrap();
    output.unwrap().unwrap()
}

/// Sends a signal to one process.
pub fn signal(id: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &id.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "signal {name} reaches process {id}");
}
