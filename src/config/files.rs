//! The files of a configuration: reading them within bounds, and finding those a pattern names.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// The bytes of a configuration file as text.
///
/// # Errors
/// Why not, and the cure.
pub(super) fn read_text(path: &Path) -> Result<String, (String, &'static str)> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let message = format!("this file can't be read: {}", error.kind());
        return Err((message, "check its path and mode"));
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("this file is larger than {} MiB", FILE_BYTES_MAX >> 20);
        return Err((message, "split it into several projects"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        (
            format!("this file is not UTF-8: line {line} has other bytes"),
            "save it as UTF-8",
        )
    })
}

/// Files that `pattern` names, sorted; `*` and `?` stand for characters within one name, and not for a leading dot.
///
/// # Errors
/// What of the pattern can't be read, and the cure.
pub(super) fn matching(
    folder: &Path,
    pattern: &str,
) -> Result<Vec<PathBuf>, (String, &'static str)> {
    if pattern.contains("**") || pattern.contains(['[', ']', '{', '}']) {
        let message = format!("`{pattern}` is a pattern that is not read here");
        return Err((message, "`*` and `?` stand for characters within one name"));
    }
    let mut found = vec![folder.to_owned()];
    for component in Path::new(pattern).components() {
        found = match component {
            Component::Normal(name) => {
                let name = name.to_string_lossy();
                found
                    .iter()
                    .flat_map(|folder| within(folder, &name))
                    .collect()
            }
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                found.iter().map(|folder| folder.join(component)).collect()
            }
            Component::CurDir => found,
        };
        found.truncate(FILES_MAX);
    }
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

fn within(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?']) {
        return vec![folder.join(pattern)];
    }
    let listed = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = std::fs::read_dir(listed) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| fits(pattern, name))
        .map(|name| folder.join(name))
        .collect()
}

fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    // Greedy with one point of return: linear but for the last `*`.
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Largest file.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most files that one pattern names.
const FILES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_files_and_not_what_begins_with_a_dot() {
        for (pattern, name, expected) in [
            ("*.yaml", "demo.yaml", true),
            ("*.yaml", ".demo.yaml", false),
            ("*.yaml", "demo.yml", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn matches_are_sorted_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("projects/x.yaml")).unwrap();
        for name in ["b.yaml", "a.yaml", "c.txt"] {
            std::fs::write(folder.path().join("projects").join(name), "").unwrap();
        }
        let found = matching(folder.path(), "projects/*.yaml").unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.yaml", "b.yaml"]);
        assert!(matching(folder.path(), "projects/**/*.yaml").is_err());
    }
}
