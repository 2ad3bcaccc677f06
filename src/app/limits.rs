//! The process's own bounds, looked at once at the start.

/// Descriptors beside those of connections: files, listeners, runtimes.
const SPARE: u64 = 64;

/// Says so where the system gives fewer file descriptors than the caps promise: a connection and its backend's need two.
pub(super) fn check_descriptors(connections: u32) {
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else {
        return;
    };
    let needed = u64::from(connections) * 2 + SPARE;
    if let Some(given) = open_files(&limits).filter(|given| *given < needed) {
        tracing::info!(
            given,
            needed,
            "fewer file descriptors than `caps.connections` can use; raise the limit (`ulimit -n`) or lower the cap"
        );
    }
}

/// The soft limit; `None`: there is none, or it can't be read.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_number_of_its_line() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files unlimited unlimited files"), None);
    }
}
