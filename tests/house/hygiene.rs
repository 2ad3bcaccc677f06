//! What must never be in the repository, and what must always be.

use super::{files, read, root, sources};

#[test]
fn no_private_key_is_committed() {
    let opening = ["-----BEGIN", " PRIVATE KEY"]; // in two parts, so that this file is not its own finding
    for path in files() {
        let name = path.to_string_lossy();
        assert!(
            !name.ends_with(".key"),
            "{name}: key files stay out of the repository"
        );
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else {
            continue;
        };
        let found = text
            .lines()
            .any(|line| line.trim_start().starts_with(opening[0]) && line.contains(opening[1]));
        assert!(!found, "{name}: holds a private key");
    }
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let homes = ["/ho", "/Us", "/ro", "/wo"]; // halves, for the same reason
    let ends = ["me/", "ers/", "ot/", "rk/"];
    for path in files()
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "Cargo.lock"))
    {
        let Ok(text) = std::fs::read_to_string(root().join(path)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for (half, end) in homes.iter().zip(ends) {
                let place = format!("{half}{end}");
                let own = line.match_indices(&place).any(|(at, _)| {
                    // `a/root/b` is a path of something else; a machine's begins the word.
                    line[..at].chars().next_back().is_none_or(|before| {
                        matches!(before, ' ' | '"' | '\'' | '`' | '=' | '(' | ':')
                    })
                });
                assert!(!own, "{}:{}: names {place}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_dependency_says_what_it_spares_us() {
    let mut section = String::new();
    let mut before = "";
    let text = read("Cargo.toml");
    for line in text.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        } else if matches!(section.as_str(), "[dependencies]" | "[dev-dependencies]")
            && line.contains('=')
        {
            let said = line.contains("# ") || before.starts_with("# ");
            assert!(said, "Cargo.toml: `{line}` does not say what it spares us");
        }
        before = line;
    }
}

#[test]
fn the_lock_file_is_committed_and_scripts_can_be_run() {
    let listed = files();
    for path in [
        "Cargo.lock",
        "test",
        "fuzz/run",
        "fuzz/Cargo.lock",
        ".ci/run",
        "certs/dev.sh",
        "LICENSE",
        "CHANGELOG.md",
    ] {
        assert!(
            listed.iter().any(|it| it.as_os_str() == path),
            "{path} is committed"
        );
    }
    #[cfg(unix)]
    for path in ["test", "fuzz/run", ".ci/run", "certs/dev.sh"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(root().join(path))
            .unwrap()
            .permissions()
            .mode();
        assert!(mode & 0o111 != 0, "{path} can be run");
    }
    assert!(
        read("LICENSE").contains("Apache License"),
        "the licence is the whole text"
    );
    assert!(
        read("LICENSE").contains("END OF TERMS AND CONDITIONS"),
        "the licence is the whole text"
    );
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let all = ["src", "tests", "fuzz"].into_iter().flat_map(sources);
    for (path, text) in all {
        assert!(
            text.starts_with("//!"),
            "{}: begins with a module doc",
            path.display()
        );
    }
}

#[test]
fn a_long_source_file_says_why_it_is_long() {
    for (path, text) in sources("src") {
        // Tests stand in a file of their own, or at the end of one, and count for nothing here.
        if path.ends_with("tests.rs") {
            continue;
        }
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        let doc: String = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        let said = doc.to_lowercase().contains("long") || doc.to_lowercase().contains("one file");
        assert!(
            lines <= 500 || said,
            "{}: {lines} lines, and its doc does not say why",
            path.display()
        );
    }
}

#[test]
fn nothing_unfinished_is_left_in_the_sources() {
    let marks = ["todo", "unimplemented"].map(|word| format!("{word}!("));
    for (path, text) in sources("src") {
        for (number, line) in text.lines().enumerate() {
            for mark in &marks {
                assert!(
                    !line.contains(mark.as_str()),
                    "{}:{}: {mark}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}
