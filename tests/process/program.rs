//! A program beside the gate that goes on until the test ends it, and what it says meanwhile.

use crate::clients::script_path;
use crate::wait::PATIENCE;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A program, and its lines as it says them.
pub struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self { child, lines }
    }

    /// The next line.
    pub fn says(&self) -> String {
        self.within(PATIENCE)
    }

    pub fn within(&self, patience: Duration) -> String {
        self.lines
            .recv_timeout(patience)
            .expect("a line that comes")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A script of the Python clients.
pub fn python(name: &str) -> Command {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python");
    let mut command = Command::new(python);
    command.arg(script_path(name));
    command
}
