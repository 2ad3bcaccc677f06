//! The `process_*` metrics that every Prometheus client library has, read from `/proc` at scrape time.
//!
//! The `prometheus` crate's own collector needs a feature with three more dependencies; four files say the same.
//! Where there is no `/proc`, the values stay zero.

use super::{int_gauge, registered};
use prometheus::{Counter, Gauge, IntGauge, Registry};
use std::fs;

/// CPU, memory, files, threads and start of this process.
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    threads: IntGauge,
    open_files: IntGauge,
    files_max: IntGauge,
    started_seconds: Gauge,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let metrics = Self {
            cpu_seconds: registered(
                registry,
                Counter::new(
                    "process_cpu_seconds_total",
                    "Total user and system CPU time spent in seconds.",
                )
                .expect(super::CONSTANT),
            ),
            resident_bytes: registered(
                registry,
                int_gauge(
                    "process_resident_memory_bytes",
                    "Resident memory size in bytes.",
                ),
            ),
            virtual_bytes: registered(
                registry,
                int_gauge(
                    "process_virtual_memory_bytes",
                    "Virtual memory size in bytes.",
                ),
            ),
            threads: registered(
                registry,
                int_gauge("process_threads", "Number of OS threads in the process."),
            ),
            open_files: registered(
                registry,
                int_gauge("process_open_fds", "Number of open file descriptors."),
            ),
            files_max: registered(
                registry,
                int_gauge(
                    "process_max_fds",
                    "Maximum number of open file descriptors.",
                ),
            ),
            started_seconds: registered(
                registry,
                Gauge::new(
                    "process_start_time_seconds",
                    "Start time of the process since unix epoch in seconds.",
                )
                .expect(super::CONSTANT),
            ),
        };
        metrics.refresh();
        metrics
    }

    pub(super) fn refresh(&self) {
        if let Some(stat) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(Stat::parse)
        {
            let spent = stat.cpu_ticks as f64 / TICKS_PER_SECOND;
            self.cpu_seconds
                .inc_by((spent - self.cpu_seconds.get()).max(0.0));
            self.resident_bytes.set(stat.resident_pages * PAGE_BYTES);
            self.virtual_bytes.set(stat.virtual_bytes);
            self.threads.set(stat.threads);
            if let Some(boot) = boot_seconds() {
                self.started_seconds
                    .set(boot + stat.start_ticks as f64 / TICKS_PER_SECOND);
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // Less the one that counts them.
            self.open_files
                .set(i64::try_from(open.count()).unwrap_or(i64::MAX) - 1);
        }
        if let Some(most) = files_max() {
            self.files_max.set(most);
        }
    }
}

/// The fields of proc(5)'s `stat` that are shown.
struct Stat {
    cpu_ticks: u64,
    threads: i64,
    start_ticks: u64,
    virtual_bytes: i64,
    resident_pages: i64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command's name, in brackets, may hold spaces and brackets: fields are counted from the last bracket on.
        let fields: Vec<&str> = text
            .get(text.rfind(')')? + 1..)?
            .split_ascii_whitespace()
            .collect();
        // `state` is field 3 of proc(5) and the first here.
        let field = |number: usize| fields.get(number - 3).copied();
        let utime: u64 = field(14)?.parse().ok()?;
        let stime: u64 = field(15)?.parse().ok()?;
        Some(Self {
            cpu_ticks: utime + stime,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            virtual_bytes: field(23)?.parse().ok()?,
            resident_pages: field(24)?.parse().ok()?,
        })
    }
}

fn boot_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn files_max() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `USER_HZ`: 100 on every architecture this runs on, whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;
/// 4 KiB; on a kernel with larger pages resident memory reads too small, and nothing else depends on it.
const PAGE_BYTES: i64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 15 16 17 18 19 2020 21 99";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.cpu_ticks, 333);
        assert_eq!(stat.threads, 17);
        assert_eq!(stat.start_ticks, 19);
    }
}
