//! Documents agree with the code: reasons, metrics, tests that refute attacks, files that the map names.

use super::{read, root, sources};
use std::collections::BTreeSet;
use toolgate::policy::decision::Reason;

/// Words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests", "fuzz"] {
        for (_, text) in sources(folder) {
            let lines = text.lines().map(str::trim_start);
            for line in lines {
                let line = line.strip_prefix("pub ").unwrap_or(line);
                let line = line.strip_prefix("async ").unwrap_or(line);
                if let Some(rest) = line.strip_prefix("fn ") {
                    names.insert(
                        rest.chars()
                            .take_while(|it| it.is_alphanumeric() || *it == '_')
                            .collect(),
                    );
                }
            }
        }
    }
    names
}

#[test]
fn every_attack_in_the_threat_model_names_tests_that_exist() {
    let known = test_names();
    let text = read("THREATS.md");
    let mut rows = 0;
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|it| it.starts_with("|---"));
    for (at, line) in lines.iter().enumerate() {
        if !line.starts_with("| ") || is_head(at) {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let tests = quoted(cells.last().unwrap());
        assert!(!tests.is_empty(), "THREATS.md: no test refutes: {line}");
        for test in tests {
            let name = test.rsplit("::").next().unwrap();
            assert!(
                known.contains(name),
                "THREATS.md: there is no test `{name}`"
            );
        }
        rows += 1;
    }
    assert!(rows >= 20, "the threat model has its table ({rows} rows)");
}

#[test]
fn every_reason_a_refusal_can_give_is_in_the_readme_and_no_other() {
    let readme = read("README.md");
    let table = section(&readme, "## When the gate says no");
    let told: BTreeSet<&str> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| quoted(line.split('|').nth(1).unwrap()))
        .collect();
    let given: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(told, given);
}

#[test]
fn the_metrics_that_documents_name_are_the_metrics_there_are() {
    let exported: BTreeSet<String> = sources("src/io")
        .iter()
        .flat_map(|(_, text)| metric_names(text))
        .collect();
    assert!(exported.len() >= 10, "the metrics are registered in src/io");
    let readme = read("README.md");
    let told: BTreeSet<String> = metric_names(section(&readme, "### Metrics"))
        .into_iter()
        .collect();
    assert_eq!(told, exported);
    for document in ["README.md", "ARCHITECTURE.md", "THREATS.md", "CHANGELOG.md"] {
        for name in metric_names(&read(document)) {
            assert!(
                exported.contains(&name),
                "{document}: there is no metric {name}"
            );
        }
    }
}

#[test]
fn the_map_of_files_shows_what_is_there() {
    let text = read("ARCHITECTURE.md");
    let map = section(&text, "## The map");
    let named: BTreeSet<&str> = quoted(map)
        .into_iter()
        .filter(|it| it.starts_with("src/") || it.starts_with("tests/"))
        .collect();
    for path in &named {
        assert!(
            root().join(path).exists(),
            "ARCHITECTURE.md: there is no {path}"
        );
    }
    for (path, _) in sources("src") {
        let path = path.to_str().unwrap();
        // `src/a/` covers what lies under it where the map doesn't go file by file.
        let covered = named
            .iter()
            .any(|it| *it == path || (it.ends_with('/') && path.starts_with(it)));
        assert!(covered, "ARCHITECTURE.md: the map does not show {path}");
    }
}

#[test]
fn the_invariants_that_the_architecture_names_are_held_by_tests_that_exist() {
    let known = test_names();
    let text = read("ARCHITECTURE.md");
    let invariants = section(&text, "## Invariants");
    let held: Vec<&str> = quoted(invariants)
        .into_iter()
        .filter(|it| it.matches('_').count() >= 3)
        .collect();
    assert!(held.len() >= 8, "each invariant names what holds it");
    for name in held {
        assert!(
            known.contains(name),
            "ARCHITECTURE.md: there is no test `{name}`"
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "THREATS.md",
        "CHANGELOG.md",
        "certs/README.md",
    ] {
        let text = read(document);
        let base = root().join(document);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap();
            assert!(
                base.parent().unwrap().join(file).exists(),
                "{document}: there is no {file}"
            );
        }
    }
}

/// A document's part from `heading` to the next heading of that level or above.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let from = text
        .find(heading)
        .unwrap_or_else(|| panic!("there is a section {heading:?}"))
        + heading.len();
    let level = heading.chars().take_while(|it| *it == '#').count();
    let rest = &text[from..];
    let end = (1..=level)
        .filter_map(|hashes| rest.find(&format!("\n{} ", "#".repeat(hashes))))
        .min();
    &rest[..end.unwrap_or(rest.len())]
}

/// Names of the gate's metrics in a text: as documents write them, and as string literals in code.
fn metric_names(text: &str) -> Vec<String> {
    let uncommented: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    uncommented
        .match_indices("toolgate_")
        .filter(|(at, _)| matches!(uncommented[..*at].chars().next_back(), Some('"' | '`')))
        .map(|(at, _)| {
            let rest = &uncommented[at..];
            rest.chars()
                .take_while(|it| it.is_ascii_lowercase() || *it == '_')
                .collect()
        })
        .collect()
}
