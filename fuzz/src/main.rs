//! The targets under libFuzzer; `TOOLGATE_FUZZ` names which. See `fuzz/run`.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("TOOLGATE_FUZZ").unwrap_or_default();
    targets::named(&name)
});

fuzz_target!(|data: &[u8]| TARGET(data));
