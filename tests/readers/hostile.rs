//! Targets that try to be taken for a public path by the gate and for a protected one behind it: every spelling of the
//! steps upwards by every spelling of a slash by where they stand, and what else was ever used to get past a proxy.

use std::collections::BTreeSet;

/// Spellings of `/`, and of what some readers take for one or for nothing beside one.
#[rustfmt::skip]
const SLASHES: [&str; 46] = [
    "/", "//", "///", "/./", "/%2e/", "/%2E/", "/.%00/", "\\", "\\/", "/\\", "\\\\", "%2f", "%2F",
    "%2f/", "/%2F", "%5c", "%5C", "%5C%2f", "%252f", "%252F", "%255c", "%25252f", "%25255C",
    "%c0%af", "%C0%2F", "%e0%80%af", "%f0%80%80%af", "%c1%9c", "%u002f", "%u2215", "%u2216",
    "%25u002f", "%ef%bc%8f", "%EF%BC%BC", "%e2%81%84", "%e2%88%95", "%25ef%25bc%258f", ";/",
    ";x=1/", "/;/", "/.;/", "%3b/", "%253B/", "%00/", "%0a/", "/%e2%80%8b/",
];

/// Spellings of `..`, and of what some readers make of them.
#[rustfmt::skip]
const DOTS: [&str; 62] = [
    "..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "%252e%252e", "%252E.", ".%252e", "%25252e%25252e",
    "%%32%65%%32%65", "%%32e.", ".%%32%65", "%2%65%2%65", "..;", "..;x=1", "..%3b", "..%3Bx",
    "..%253b", "%2e%2e;", "%2e%2e%3b", "..%00", "..%00x", "%00..", ".%00.", "..%20", "..%2520",
    ".. ", "..+", "..%09", "..\t", ".\t.", "..%0a", "..%0d%0a", ".%0d.", "..%c2%a0", "..%c2%85",
    "%c0%ae%c0%ae", "%c0%2e%c0%2e", "%e0%80%ae%e0%80%ae", "%f0%80%80%ae%f0%80%80%ae",
    "%25c0%25ae%25c0%25ae", "%u002e%u002e", "%U002E.", "%uff0e%uff0e", "%25u002e%25u002e",
    "%2525u002e%2525u002e", "%ef%bc%8e%ef%bc%8e", "%25ef%25bc%258e.", "\u{ff0e}\u{ff0e}",
    "%e2%80%a4%e2%80%a4", "%e2%80%a5", "..%3f", "..%3fx", "..%253f", "..?", "..%23", "..#",
    ".%e2%80%8b.", "..%ef%bb%bf", "..%e2%80%ae", "...", "..::$DATA",
];

/// Spellings of the protected name, to readers who don't compare bytes.
#[rustfmt::skip]
const NAMES: [&str; 34] = [
    "admin", "ADMIN", "Admin", "%61dmin", "adm%69n", "%41DMIN", "%2561dmin", "%252561dmin",
    "%u0061dmin", "%25u0061dmin", "%%36%31dmin", "%ef%bd%81dmin", "%25ef%25bd%2581dmin",
    "%c1%a1dmin", "admin.", "admin..", "admin%2e", "admin%20", "admin%2520", "admin%20.", "admin%00",
    "admin%00.html", "admin%0a", "admin%09", "admin;", "admin;x=1", "admin%3bx", "admin%3f",
    "admin%23", "admin::$DATA", "admin:x", "admin%e2%80%8b", "adm%c2%adin", "admin+",
];

/// In front of a whole target.
#[rustfmt::skip]
const FRONTS: [&str; 16] = [
    "", "/", "//", "/.", "/%2e", "/;", "/%20", "/@", "/x@", "\\", "%2f", "http://gate.example",
    "HTTP://gate.example/", "http://gate.example:80", "http://other.example", "//other.example",
];

/// Behind a whole target.
#[rustfmt::skip]
const ENDS: [&str; 24] = [
    "", "/", "//", "/.", "/%2e", "/..", "/%2e%2e", ".", "..", "%20", "%2e", "%00", "%0a", "%0d%0a", "?",
    "?x", "%3f", "#", "#x", "%23x", ";", ";jsessionid=1", "/..;/", "\\",
];

/// The table: below `mount`, with a public place, from which the protected `admin` lies one step upwards.
pub fn targets(mount: &str, public: &str) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    let mut add = |target: String| {
        all.insert(target.into_bytes());
    };
    let place = format!("{mount}/{public}");
    for dots in DOTS {
        for slash in SLASHES {
            add(format!("{place}/{dots}{slash}admin/keys"));
            add(format!("{place}{slash}{dots}/admin/keys"));
        }
        for end in ENDS {
            add(format!("{place}/x/{dots}/{dots}/admin/keys{end}"));
        }
        for front in FRONTS {
            add(format!(
                "{front}{mount}/{dots}{mount}/{public}/{dots}/admin"
            ));
        }
        // Within a longer name, at the end of the path, in a query, and as the first thing of all.
        add(format!("{place}/x{dots}/admin"));
        add(format!("{place}/{dots}x/admin"));
        add(format!("{place}/x/{dots}"));
        add(format!("{place}/x?next=/{dots}/admin"));
        add(format!("{place}/x?/{dots}/{dots}/admin"));
        add(format!("{place}/x%3f/{dots}/{dots}/admin"));
        add(format!("/{dots}{place}/admin"));
        add(format!("{place}/a/b/{dots}/{dots}/{dots}/admin/keys"));
    }
    for name in NAMES {
        for slash in SLASHES {
            add(format!("{mount}{slash}{name}/keys"));
            add(format!("{place}{slash}{name}/keys"));
        }
        for end in ENDS {
            add(format!("{mount}/{name}/keys{end}"));
            add(format!("{mount}/{name}{end}"));
        }
        for front in FRONTS {
            add(format!("{front}{mount}/{name}/keys"));
            add(format!("{front}{place}/{name}/keys"));
        }
    }
    all
}
