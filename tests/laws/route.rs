//! Laws of the route table, against a matcher that tries every template.

use crate::builder::{Builder, filled, session};
use proptest::prelude::*;
use std::sync::LazyLock;
use toolgate::policy::model::{Policy, ToolIndex};
use toolgate::policy::route::{NoRoute, TableError};
use toolgate::policy::target::Target;

const HOST: &str = "gate.example";

/// Segments of paths, enough to tell every pair of [`PLAIN`] apart.
const PLAIN_WORDS: &[&str] = &["a", "b", "x", "ab", "ax", "xb", "axb"];

/// More of them, enough to tell every pair of [`ODD`] and [`PLAIN`] apart.
const WORDS: &[&str] = &[
    "a", "b", "x", "ab", "ax", "xb", "axb", "aax", "aaxb", "aaxbb", "xbb", "axbb", "x0", "x20",
    "x2", "ax0", "ax20", "ax2", "aax0", "aax20", "aax2", "a%20", "x%20", "x%C3%A2",
];

/// Segments of templates, `?` in place of a parameter.
const PLAIN: &[&str] = &["a", "b", "ab", "?", "?", "?", "a?", "?b", "a?b"];

/// More of them: longer text around a parameter, and text that could cut an encoded byte.
const ODD: &[&str] = &[
    "a", "?", "a%20", "a?", "?b", "a?b", "aa?", "?bb", "?0", "?20", "?2",
];

/// What every template is tried with: paths of up to three words, with and without a trailing slash, and the bare mount.
static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut all = vec![String::new()];
    for first in WORDS {
        all.push(format!("/{first}"));
        all.extend(WORDS.iter().map(|second| format!("/{first}/{second}")));
        for second in PLAIN_WORDS {
            all.extend(
                PLAIN_WORDS
                    .iter()
                    .map(|third| format!("/{first}/{second}/{third}")),
            );
        }
    }
    let slashed: Vec<String> = all.iter().map(|path| format!("{path}/")).collect();
    all.extend(slashed);
    all
});

/// A template text, perhaps with a rest or a trailing slash behind; no longer than [`PATHS`] can tell apart.
fn template() -> impl Strategy<Value = String> {
    let plain = prop::collection::vec(prop::sample::select(PLAIN), 0..=3);
    let odd = prop::collection::vec(prop::sample::select(ODD), 0..=2);
    let segments = prop_oneof![plain.prop_map(|it| (it, 2)), odd.prop_map(|it| (it, 1))];
    (segments, 0..5u8).prop_map(|((segments, before_rest), end)| {
        let mut text = String::new();
        for (position, segment) in segments.iter().enumerate() {
            text.push('/');
            text.push_str(&segment.replace('?', &format!("{{p{position}}}")));
        }
        match end {
            0 => text.push('/'),
            1 if segments.len() <= before_rest => text.push_str("/{*rest}"),
            _ => {}
        }
        text
    })
}

/// What the contract says of one segment: the whole text, or text around one or more whole characters.
fn segment_matches(template: &str, segment: &str) -> bool {
    let Some((prefix, behind)) = template.split_once('{') else {
        return template == segment;
    };
    let (_, suffix) = behind.split_once('}').unwrap();
    if segment.len() <= prefix.len() + suffix.len()
        || !segment.starts_with(prefix)
        || !segment.ends_with(suffix)
    {
        return false;
    }
    // Whole characters: `%20` is one.
    let inner = &segment[prefix.len()..segment.len() - suffix.len()];
    let percent = inner.rfind('%');
    percent.is_none_or(|at| at + 3 <= inner.len())
}

/// What the contract says of one path.
fn matches(template: &str, path: &str) -> bool {
    let (mut template, mut path): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    if template.last() == Some(&"{*rest}") {
        template.pop();
        if path.len() <= template.len() || path[template.len()..] == [""] {
            return false;
        }
        path.truncate(template.len());
    }
    template.len() == path.len()
        && template
            .iter()
            .zip(&path)
            .all(|(template, segment)| segment_matches(template, segment))
}

/// Which of [`PATHS`] a template matches.
fn extent(template: &str) -> Vec<bool> {
    PATHS.iter().map(|path| matches(template, path)).collect()
}

fn within(a: &[bool], b: &[bool]) -> bool {
    a.iter().zip(b).all(|(a, b)| !a || *b)
}

fn meet(a: &[bool], b: &[bool]) -> bool {
    a.iter().zip(b).any(|(a, b)| *a && *b)
}

fn table(templates: &[(String, &str)]) -> Result<Policy, Vec<TableError>> {
    let start = Builder::new().tool("/m");
    templates
        .iter()
        .fold(start, |builder, (template, methods)| {
            builder.route(&format!("{methods} {template}"), "s", None)
        })
        .assemble()
}

/// Which route answers a path behind the mount `/m`.
fn found(policy: &Policy, method: &str, path: &str) -> Option<usize> {
    let target = Target::parse(&format!("/m{path}"), HOST).unwrap();
    match policy.table.find(method, &target) {
        Ok(matched) => {
            assert_eq!(matched.path, path);
            Some(matched.route.0 as usize)
        }
        Err(why) => {
            assert_eq!(why, NoRoute::Route(ToolIndex(0)));
            None
        }
    }
}

/// Whether some readers may take a path for another, which then is no route's: a slash at the end, a space.
fn is_loose(path: &str) -> bool {
    path.ends_with('/') || path.contains('%')
}

/// What every template says of every path decides: the position of the one whose paths are fewest, if the table builds.
fn check_set(templates: &[String]) -> Result<(), TestCaseError> {
    let named: Vec<(String, &str)> = templates.iter().map(|text| (text.clone(), "GET")).collect();
    let extents: Vec<Vec<bool>> = templates.iter().map(|text| extent(text)).collect();
    let pairs = || (0..templates.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    let same = |a: usize, b: usize| extents[a] == extents[b];
    let crossing = |a: usize, b: usize| {
        let (a, b) = (&extents[a], &extents[b]);
        meet(a, b) && !within(a, b) && !within(b, a)
    };
    match table(&named) {
        Err(faults) => {
            for fault in &faults {
                let real = match fault {
                    TableError::Duplicate { first, second, .. } => {
                        same(first.0 as usize, second.0 as usize)
                    }
                    TableError::Overlap { first, second } => {
                        crossing(first.0 as usize, second.0 as usize)
                    }
                    _ => false,
                };
                prop_assert!(real, "{templates:?}: {fault:?}");
            }
        }
        Ok(policy) => {
            for (a, b) in pairs() {
                prop_assert!(
                    !same(a, b) && !crossing(a, b),
                    "{} and {}",
                    templates[a],
                    templates[b]
                );
            }
            for (at, path) in PATHS.iter().enumerate() {
                let mut all = (0..templates.len()).filter(|&it| extents[it][at]);
                let first = all.next();
                let best = first.map(|first| {
                    all.fold(first, |best, it| {
                        if within(&extents[it], &extents[best]) {
                            it
                        } else {
                            best
                        }
                    })
                });
                let found = found(&policy, "GET", path);
                if found.is_some() || !is_loose(path) {
                    prop_assert_eq!(found, best, "{:?} of {:?}", path, templates);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_most_specific_template_wins_and_sets_without_one_are_refused(
        templates in prop::collection::vec(template(), 1..7),
    ) {
        check_set(&templates)?;
    }

    #[test]
    fn what_is_left_of_a_set_without_its_crossings_builds_and_matches(
        templates in prop::collection::vec(template(), 1..24),
    ) {
        let mut left: Vec<String> = Vec::new();
        for template in templates {
            let mut with = left.clone();
            with.push(template);
            let named: Vec<(String, &str)> = with.iter().map(|text| (text.clone(), "GET")).collect();
            if table(&named).is_ok() {
                left = with;
            }
        }
        check_set(&left)?;
    }

    #[test]
    fn only_the_most_specific_template_is_asked_for_the_method(
        set in prop::collection::vec((template(), prop::sample::subsequence(vec!["GET", "HEAD", "POST"], 1..3)), 1..7),
        asked in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "get"]),
    ) {
        let named: Vec<(String, String)> =
            set.iter().map(|(template, methods)| (template.clone(), methods.join(","))).collect();
        let named: Vec<(String, &str)> = named.iter().map(|(t, m)| (t.clone(), m.as_str())).collect();
        let Ok(policy) = table(&named) else { return Ok(()) };
        let extents: Vec<Vec<bool>> = set.iter().map(|(text, _)| extent(text)).collect();
        for (at, path) in PATHS.iter().enumerate() {
            let all: Vec<usize> = (0..set.len()).filter(|&it| extents[it][at]).collect();
            let best: Vec<usize> = all
                .iter()
                .copied()
                .filter(|&it| all.iter().all(|&other| within(&extents[it], &extents[other])))
                .collect();
            let with = |method: &str| best.iter().copied().find(|&it| set[it].1.contains(&method));
            let expected = with(asked).or_else(|| if asked == "HEAD" { with("GET") } else { None });
            let found = found(&policy, asked, path);
            if found.is_some() || !is_loose(path) {
                prop_assert_eq!(found, expected, "{:?} of {:?}", path, set);
            }
        }
    }

    #[test]
    fn what_is_captured_is_what_stands_in_the_path(template in template(), at in any::<prop::sample::Index>()) {
        let policy = table(&[(template.clone(), "GET")]).unwrap();
        let all: Vec<&String> = PATHS.iter().filter(|path| matches(&template, path)).collect();
        prop_assume!(!all.is_empty());
        let path = at.get(&all);
        let target = Target::parse(&format!("/m{path}"), HOST).unwrap();
        let matched = policy.table.find("GET", &target).unwrap();
        let mut filled = template.clone();
        for (name, value) in matched.captures.iter() {
            prop_assert_eq!(matched.captures.get(name), Some(value));
            let place = if name == "rest" { "{*rest}".to_owned() } else { format!("{{{name}}}") };
            filled = filled.replace(&place, value);
        }
        prop_assert_eq!(&filled, *path);
    }

    #[test]
    fn host_before_mount_and_the_longest_mount_on_whole_segments(
        mounts in prop::sample::subsequence(
            vec!["/", "/a", "/ab", "/a/b", "/a/b/a", "/b", "/.x", "gate.example", "127.0.0.1", "other"], 0..=10),
        host in prop::sample::select(vec!["gate.example", "GATE.example:8080", "127.0.0.1:80", "other", "x.other", "[::1]"]),
        path in "(/(a|b|ab|abc|\\.x|\\.toolgate|\\.toolgate2)){0,4}/?",
        empty in any::<prop::sample::Index>(),
    ) {
        let path = if path.is_empty() { "/" } else { &path };
        // All tools but one answer everything; that one answers nothing, and no other answers for it.
        let silent = empty.index(mounts.len().max(1));
        let mut builder = Builder::new();
        for (position, mount) in mounts.iter().enumerate() {
            builder = builder.tool(mount);
            if position != silent {
                builder = builder.route("GET ", "s", None).route("GET /", "s", None).route("GET /{*rest}", "s", None);
            }
        }
        let policy = builder.build();
        let target = Target::parse(path, host).unwrap();
        let own = path == "/.toolgate" || path.starts_with("/.toolgate/");
        let by_host = mounts.iter().position(|mount| *mount == target.host());
        let by_mount = (0..mounts.len())
            .filter(|&it| mounts[it].starts_with('/'))
            .filter(|&it| {
                let below = format!("{}/", mounts[it].trim_end_matches('/'));
                path == mounts[it] || path.starts_with(&below)
            })
            .max_by_key(|&it| mounts[it].len());
        let expected = match by_host.or(by_mount) {
            _ if own => Err(NoRoute::Tool),
            None => Err(NoRoute::Tool),
            Some(tool) if tool == silent => Err(NoRoute::Route(ToolIndex(u32::try_from(tool).unwrap()))),
            Some(tool) => {
                let mount = mounts[tool];
                let behind = if mount.len() > 1 && mount.starts_with('/') { &path[mount.len()..] } else { path };
                Ok((ToolIndex(u32::try_from(tool).unwrap()), behind))
            }
        };
        let found = policy.table.find("GET", &target).map(|matched| (matched.tool, matched.path));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn spelling_a_delimiter_encoded_never_reaches_a_wider_template(
        spelt in "[ab!$&'()*+,:=@]{1,6}",
        encode in prop::collection::vec(any::<bool>(), 6),
    ) {
        // Many backends decode before they route: to them both spellings are the one that the narrow routes are for.
        let policy = Builder::new()
            .tool("/m")
            .route("POST /models/{model}", "wide", None)
            .route("POST /models/{model}:run", "narrow", None)
            .route("POST /models/a@b", "narrow", None)
            .tool("/")
            .route("POST /{*rest}", "wide", None)
            .tool("/m/a:b")
            .route("POST /{*rest}", "narrow", None)
            .build();
        for (before, behind) in [("/m/models/", ""), ("/m/models/", ":run"), ("/m/", "/x"), ("/m/models/a@", "")] {
            let plain = format!("{before}{spelt}{behind}");
            let mut other = before.to_owned();
            for (byte, encode) in spelt.bytes().chain(behind.bytes()).zip(encode.iter().cycle()) {
                if *encode && b"!$&'()*+,:=@".contains(&byte) {
                    other.push_str(&format!("%{byte:02X}"));
                } else {
                    other.push(char::from(byte));
                }
            }
            let (plain, other) = (Target::parse(&plain, HOST).unwrap(), Target::parse(&other, HOST).unwrap());
            let meant = policy.table.find("POST", &plain).map(|matched| matched.route);
            let reached = policy.table.find("POST", &other).map(|matched| matched.route);
            prop_assert!(reached.is_err() || reached == meant, "{} reaches {:?}, {} reaches {:?}",
                other.path(), reached, plain.path(), meant);
        }
    }
}

#[test]
fn an_encoded_delimiter_is_no_hindrance_where_it_changes_nothing() {
    let policy = Builder::new()
        .tool("/m")
        .route("GET /models/{model}", "s", Some("model:{model}"))
        .build();
    let target = Target::parse("/m/models/a%3Ab%20c%40", HOST).unwrap();
    let matched = policy.table.find("GET", &target).unwrap();
    let route = policy.route(matched.route);
    let template = route.resource.as_ref().unwrap();
    let resource = filled(template, &matched.captures, &session("bot", &[]));
    assert_eq!(resource.unwrap().as_str(), "model:a%3Ab%20c@");
}

#[test]
fn a_literal_that_encodes_what_may_stand_as_it_is_is_refused_with_the_cure() {
    use toolgate::policy::template::Template;
    let error = Template::parse("/a/b%3Ac").unwrap_err();
    assert_eq!(error.at, 3);
    assert_eq!(
        error.to_string(),
        "`b%3Ac` never matches: the canonical spelling is `b:c`"
    );
    assert!(Template::parse("/a/b%20c%3B").is_ok());
}

#[test]
fn a_mount_or_host_that_no_target_can_have_is_refused() {
    for mount in [
        "/a/",
        "//",
        "/a//b",
        "/a%2Fb",
        "/%41",
        "/a/..",
        "/a;b",
        "/a%3Ab",
        "A.example",
        "a..b",
        "a:80",
        "127.1",
        "a.",
        "",
    ] {
        let faults = Builder::new().tool(mount).assemble().unwrap_err();
        assert_eq!(
            faults,
            [TableError::MountMalformed { tool: ToolIndex(0) }],
            "{mount}"
        );
    }
    for mount in [
        "/.toolgate",
        "/.toolgate/x",
        "/.well-known",
        "/.well-known/acme",
    ] {
        let faults = Builder::new().tool(mount).assemble().unwrap_err();
        assert_eq!(
            faults,
            [TableError::MountReserved { tool: ToolIndex(0) }],
            "{mount}"
        );
    }
    let faults = Builder::new().tool("/a").tool("/a").assemble().unwrap_err();
    assert_eq!(
        faults,
        [TableError::MountTwice {
            first: ToolIndex(0),
            second: ToolIndex(1)
        }]
    );
}

#[test]
fn a_method_that_is_never_forwarded_is_refused() {
    for method in ["get", "CONNECT", "TRACE", "", "G:"] {
        let builder = Builder::new()
            .tool("/a")
            .route(&format!("{method},POST /"), "s", None);
        let faults = builder.assemble().unwrap_err();
        assert!(
            matches!(&faults[..], [TableError::Method { method: have, .. }] if **have == *method)
        );
    }
}
