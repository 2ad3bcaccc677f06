//! Targets that nobody means any harm with: what clients of common APIs really send, made from the shapes of those APIs
//! and from values of all kinds, escaped as clients escape them.

use std::collections::BTreeSet;

/// What a path parameter may hold, as a client that knows RFC 3986 writes it.
#[rustfmt::skip]
const VALUES: [&str; 46] = [
    "7", "0", "007", "9007199254740993", "-1", "3.14", "v1", "2026-11-23", "2026-11-23T17:45:32Z", "12:30",
    "550e8400-e29b-41d4-a716-446655440000", "ch_3MqLiJLkdIwHu7ix", "cus_NffrFeUfNV2Hib", "ada", "Ada-Lovelace",
    "ada@example.com", "ada+tag@example.com", "J%C3%B6rg", "%E6%9D%B1%E4%BA%AC", "%D0%B6%D1%83%D0%BA", "%F0%9F%A6%80",
    "%D8%B3%D9%84%D8%A7%D9%85", "caf%C3%A9.txt", "report%20final.pdf", "report+final.pdf", "a,b,c", "a:b:c", "~ada",
    "O'Brien", "(draft)", "what!", "100%25", "%23general", "C%23", "q%3Fa", "a%26b", "key=value", "$metadata", "*",
    "dGhpcyBpcyBiYXNlNjQ=", "YS9iK2M_ZA==", "sha256:9f86d081884c7d65", ".gitignore", "archive.tar.gz", "...and-more", "v1..v2",
];

/// Paths of APIs, `{}` where a value stands.
#[rustfmt::skip]
const SHAPES: [&str; 44] = [
    // GitHub, GitLab, npm, containers.
    "/repos/octo/{}/issues", "/repos/{}/hello.world/pulls/1347/files", "/repos/octo/hello/contents/src/{}",
    "/repos/octo/hello/compare/main...{}", "/repos/octo/hello/git/ref/heads/{}", "/users/{}", "/users/{}/", "/@types/{}",
    "/v2/library/{}/manifests/latest", "/v2/library/alpine/blobs/{}", "/orgs/octo/teams/{}/memberships/ada",
    // Stripe, payments.
    "/v1/charges/{}", "/v1/customers/{}/sources", "/v1/accounts/acct_1/external_accounts/{}",
    // Google: custom verbs behind a colon, names in several segments.
    "/v1/projects/{}/locations/us-central1/keyRings/r/cryptoKeys/k:encrypt", "/v1/projects/p/topics/{}:publish",
    "/calendar/v3/calendars/{}/events", "/v4/spreadsheets/{}/values/Sheet1!A1:D5", "/v1/{}:generateContent",
    // S3 and other stores of objects.
    "/bucket/photos/{}", "/bucket/a/b/c/{}", "/my-bucket.example/{}", "/storage/v1/b/bucket/o/{}",
    // Kubernetes, Elasticsearch, CouchDB.
    "/api/v1/namespaces/default/pods/{}/log", "/apis/apps/v1/namespaces/{}/deployments",
    "/api/v1/namespaces/default/services/https:web:443/proxy/{}", "/logs-2026.11,metrics-*/_search", "/{}/_doc/1", "/_cat/indices/{}",
    "/db/_design/{}/_view/all",
    // OData, SharePoint, Microsoft Graph.
    "/odata/Users('{}')", "/odata/Products(ID=7,Name='{}')/Category", "/v1.0/me/drive/root:/Documents/{}:/content",
    "/odata/People('{}')/Friends/$ref",
    // Content systems, feeds, wikis, maps.
    "/wiki/{}", "/wiki/Talk:{}_(film)", "/feeds/{}.atom", "/tiles/12/2200/1343@2x.png", "/@{}/posts", "/p/{}|draft", "/tag/[{}]",
    // Health, matrix chat, geo.
    "/fhir/Patient/{}/_history/2", "/_matrix/client/v3/rooms/!abc:example.org/send/m.room.message/{}", "/geo/52.52,13.405/{}",
];

/// Queries, each of which goes with some of the paths; quotes escaped, as browsers escape them and HTTP's own library asks.
#[rustfmt::skip]
const QUERIES: [&str; 24] = [
    "page=2&per_page=100", "q=repo:octo/hello+is:open+label:%22good+first+issue%22", "filter={%22status%22:%22open%22,%22n%22:[1,2]}",
    "filter=%7B%22a%22%3A%5B1%2C2%5D%7D", "$filter=Name%20eq%20'O''Brien'&$top=5", "$expand=Items($select=Id,Name;$top=3)",
    "expand[]=customer&expand[]=invoice.lines", "ids=1,2,3", "a=1;b=2", "next=/a/../b//c", "redirect_uri=https://example.com/cb?x=1",
    "X-Amz-Signature=9f86d0&X-Amz-Credential=AKIA/20261123/us-east-1/s3/aws4_request", "list-type=2&prefix=a/b/&delimiter=/",
    "token=dGhpcyBpcyBiYXNlNjQ=", "cursor=YS9iK2M/ZA==", "t=12:30&z=+01:00", "name=J%C3%B6rg", "name=J\u{f6}rg", "q=%e6%9d%b1%e4%ba%ac",
    "", "flag", "a==b", "q=a%2Fb%5Cc%00", "watch=true&fieldSelector=metadata.name!=x",
];

/// What goes on otherwise than it came, or not at all, and why that is right.
pub const EXPLAINED: [(&str, &str); 8] = [
    (
        "/api/v4/projects/group%2Fproject/issues",
        "an encoded slash is one to half of all readers (RFC 3986, 2.2, lets them differ): put the number in place of the path",
    ),
    (
        "/@types%2fnode",
        "the same: npm's registry takes `/@types/node` too",
    ),
    (
        "/bucket/a//b",
        "readers who merge slashes see another object; a key like that can't be told from its neighbour",
    ),
    (
        "/bucket/./b",
        "clients resolve it before they send; one who does not hides a step",
    ),
    (
        "/cars;color=red/wheels",
        "some servers cut parameters off before they look: matrix parameters belong in the query",
    ),
    (
        "/users/J%c3%b6rg",
        "goes on in the one spelling of escapes, upper case, which means the same (RFC 3986, 6.2.2.1)",
    ),
    (
        "/people/%7Eada",
        "goes on with `~` as it is, which means the same (RFC 3986, 6.2.2.2)",
    ),
    (
        "/files/C:%5Ctemp",
        "an encoded backslash is a slash on Windows",
    ),
];

/// The corpus.
pub fn targets() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = EXPLAINED.iter().map(|(it, _)| (*it).to_owned()).collect();
    let mut queries = QUERIES.iter().cycle();
    for (number, shape) in SHAPES.iter().enumerate() {
        for (at, value) in VALUES.iter().enumerate() {
            let path = shape.replace("{}", value);
            if (number + at) % 2 == 0 {
                let query = queries.next().expect("a cycle does not end");
                all.insert(format!("{path}?{query}"));
            }
            all.insert(path);
        }
    }
    all
}
