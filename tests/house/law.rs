//! The law of imports: `policy < config < ledger < store < io < gate < serve < app < cli < main`.
//! A module imports only from those to its left, and `policy` is pure.

use super::sources;
use std::path::{Path, PathBuf};

const LAW: [&str; 10] = [
    "policy", "config", "ledger", "store", "io", "gate", "serve", "app", "cli", "main",
];

/// What has no place in a pure function of (policy, session, request, time).
const IMPURE: [&str; 21] = [
    "tokio",
    "hyper",
    "hyper_util",
    "axum",
    "notify::",
    "rusqlite",
    "socket2",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Timestamp::now",
    "now_v7",
    "new_v4",
    "aws_lc_rs::rand",
    "async fn",
    "async move",
];

#[test]
fn a_module_imports_only_from_those_to_its_left() {
    let mut breaches = Vec::new();
    for (path, text) in sources("src") {
        let Some(own) = module_of(&path) else {
            continue;
        };
        let own_rank =
            rank(&own).unwrap_or_else(|| panic!("{} stands outside the law", path.display()));
        for (line, imported) in imports(&text, depth_of(&path)) {
            let Some(imported_rank) = rank(&imported) else {
                continue;
            };
            if imported_rank > own_rank {
                breaches.push(format!(
                    "{}:{line}: {own} imports {imported}",
                    path.display()
                ));
            }
        }
    }
    assert!(
        breaches.is_empty(),
        "against the law:\n{}",
        breaches.join("\n")
    );
}

#[test]
fn the_policy_core_knows_no_io_no_clock_and_no_chance() {
    let mut breaches = Vec::new();
    // Tests may do what they like.
    let pure = |(path, _): &(PathBuf, String)| !path.ends_with("tests.rs");
    for (path, text) in sources("src/policy").into_iter().filter(pure) {
        for (number, line) in code_lines(&text) {
            for word in IMPURE.iter().filter(|word| names(line, word)) {
                breaches.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "not pure:\n{}", breaches.join("\n"));
}

#[test]
fn the_reader_of_imports_finds_them_in_every_form() {
    let text = "
        use crate::gate::Gate; // use crate::cli
        use crate::{policy::Policy, store::{Store, live::Sessions}, io};
        fn f() { crate::app::start(crate::config::load()) }
        use super::super::serve::listen;
        /// [`crate::main`]
        use crate::{
            ledger::Ledger,
            io::clock,
        };
    ";
    let found: Vec<String> = imports(text, 2).into_iter().map(|(_, name)| name).collect();
    assert_eq!(
        found,
        [
            "gate", "policy", "store", "io", "app", "config", "ledger", "io", "serve"
        ]
    );
}

fn rank(module: &str) -> Option<usize> {
    LAW.iter().position(|name| *name == module)
}

/// The top module a file belongs to; the crate map belongs to none.
fn module_of(path: &Path) -> Option<String> {
    let inner = path.strip_prefix("src").unwrap();
    let first = inner
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then(|| name.to_owned())
}

/// How many `super::` lead from a file's module to the crate's root.
fn depth_of(path: &Path) -> usize {
    let parts = path.strip_prefix("src").unwrap().components().count();
    parts - usize::from(path.file_name().is_some_and(|name| name == "mod.rs"))
}

/// Top-level modules a text names, through `crate::` or enough `super::`, with the line of each.
fn imports(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code: String = text
        .lines()
        .map(|line| format!("{}\n", uncommented(line)))
        .collect();
    let climb = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(root) {
            let boundary = code[..at].chars().next_back();
            if boundary.is_some_and(|before| {
                before.is_alphanumeric() || before == '_' || before == '$' || before == ':'
            }) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            let names = rest
                .strip_prefix('{')
                .map_or_else(|| vec![first_name(rest)], group);
            found.extend(names.into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// The first name of each entry of a `{...}` group.
fn group(text: &str) -> Vec<String> {
    let mut names = vec![first_name(text)];
    let mut nested = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => nested += 1,
            '}' if nested == 0 => break,
            '}' => nested -= 1,
            ',' if nested == 0 => names.push(first_name(&text[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

/// Lines with their comments taken off; a `//` inside a string ends the line early, which hides nothing that imports.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, uncommented(line)))
}

fn uncommented(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// Whether `line` has `word` as a path of its own, not as the end or the beginning of a longer name.
fn names(line: &str, word: &str) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        // A word that ends in `::` is a crate's, and what follows is of it.
        let ends = word.ends_with(':') || !after.is_some_and(part);
        !before.is_some_and(|it| part(it) || it == '"') && ends
    })
}
