//! What is fuzzed: each target takes bytes, and panics where the gate breaks a promise, not only where it crashes.
//!
//! They stand here once and are run twice: by `fuzz/ring.rs`, a ring of the tests, over the corpus and for some seconds; and
//! by libFuzzer with coverage, for hours (`fuzz/run`). They reach the gate as its tests do, by what the library shows.

mod conditions;
mod heads;
mod json;
mod ledger;
mod mcp;
mod policy;
mod sql;
mod target;
mod token;
mod wire;

/// One target.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 10] = [
    ("target", target::run),
    ("conditions", conditions::run),
    ("policy", policy::run),
    ("token", token::run),
    ("json", json::run),
    ("sql", sql::run),
    ("mcp", mcp::run),
    ("ledger", ledger::run),
    ("heads", heads::run),
    ("wire", wire::run),
];

/// The target of this name.
pub fn named(name: &str) -> Target {
    let found = TARGETS.iter().find(|(have, _)| *have == name);
    match found {
        Some((_, target)) => *target,
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            panic!(
                "there is no target {name:?}; there are {}",
                names.join(", ")
            )
        }
    }
}

/// A folder of this process, in memory where the machine has that.
fn folder(name: &str) -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    let base = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    let folder = base.join(format!("toolgate-fuzz-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// What another reader of JSON finds, who must find something. He alone refuses numbers that he can't hold; then there is
/// nothing to compare.
fn another(data: &[u8]) -> Option<serde_json::Value> {
    match serde_json::from_slice(data) {
        Ok(value) => Some(value),
        Err(fault) if fault.to_string().contains("number out of range") => None,
        Err(fault) => panic!("another reader refuses it: {fault}"),
    }
}
