//! What is counted is shown, under the names and labels of the contract.

use super::*;
use crate::policy::name::NotifyName;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn a_fresh_registry_encodes_every_process_metric_and_both_reload_results() {
    let text = Metrics::new().encode();
    for line in [
        "toolgate_policy_reloads_total{result=\"rejected\"} 0",
        "toolgate_build_info{version=",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_open_fds ",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn promtool_finds_nothing_to_say_where_it_is_installed() {
    let metrics = Metrics::new();
    let project = ProjectName::parse("demo").unwrap();
    let limit = LimitId::parse("per-session").unwrap();
    metrics.not_forwarded(
        "demo",
        "crm",
        "users.read",
        Decided::Deny,
        Some(Reason::NoRoute),
    );
    metrics.grant_made(&project, GrantKind::OnUse);
    metrics.limit_exceeded(&project, &limit);
    metrics.quarantined(&project, None);
    metrics.policies(&[(project.clone(), PolicyHash([7; 32]), 2)]);
    metrics.request_took(1200);
    metrics.decision_took(3);
    metrics
        .upstream_seconds
        .with_label_values(&["demo", "crm", "2xx"])
        .observe(0.1);
    metrics
        .cost
        .with_label_values(&["demo", "crm"])
        .inc_by(0.01);
    metrics
        .sessions
        .with_label_values(&["demo", "bot", "live"])
        .set(1);
    let target = NotifyName::parse("ops").unwrap();
    metrics
        .webhooks
        .count(&project, &target, WebhookResult::Dead);
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return;
    };
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(metrics.encode().as_bytes()).unwrap();
    drop(input);
    let said = promtool.wait_with_output().unwrap();
    assert!(
        said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}
