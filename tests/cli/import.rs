//! `toolgate import openapi`: documents as they are found in the wild become project files that pass `check`, and what
//! does not become one is said.

use crate::{NO, OK, Ran, USAGE, toolgate};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Imports a document and checks the result as a gate would read it, with a server file beside it.
fn imported(document: &str, name: &str) -> (Ran, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, document).unwrap();
    let ran = toolgate(&[
        "import",
        "openapi",
        file.to_str().unwrap(),
        "--tool",
        "crm",
        "--mount",
        "/crm",
    ]);
    if ran.code == OK {
        passes_check(folder.path(), &ran.stdout, "crm");
    }
    let text = ran.stdout.clone();
    (ran, text)
}

/// Nothing but that nobody is an approver yet may be said of it.
fn passes_check(folder: &Path, yaml: &str, project: &str) {
    fs::write(folder.join("project.yaml"), yaml).unwrap();
    // A group that no chain names is one that is warned of.
    let role = match yaml.contains("\napprovals:") {
        true => "[approver], groups: [approvers]",
        false => "[auditor]",
    };
    let server = format!(
        "version: 1\nlisteners:\n  agents: {{ address: 127.0.0.1:0 }}\n  admin: {{ address: 127.0.0.1:0 }}\n  metrics: {{ address: 127.0.0.1:0 }}\nprincipals:\n  - {{ name: dana, key: {{ sha256: {} }}, roles: {role}, projects: [{project}] }}\nstore: {{ embedded: {{ path: {}/toolgate.db }} }}\nledger: {{ directory: {}/ledger }}\nprojects: [project.yaml]\n",
        "0".repeat(64),
        folder.display(),
        folder.display(),
    );
    let path = folder.join("toolgate.yaml");
    fs::write(&path, server).unwrap();
    let checked = toolgate(&["check", "--strict", "--config", path.to_str().unwrap()]);
    assert_eq!(
        checked.code, OK,
        "{}{}\n{yaml}",
        checked.stdout, checked.stderr
    );
}

fn has(text: &str, all: &[&str]) {
    for expected in all {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
}

const PETSTORE: &str = r##"{
  "openapi": "3.0.3",
  "info": { "title": "Swagger Petstore", "version": "1.0.0" },
  "servers": [{ "url": "https://{region}.petstore.example/v2/", "variables": { "region": { "default": "eu" } } }],
  "paths": {
    "/pets": {
      "get": { "summary": "List all\npets", "operationId": "listPets", "tags": ["pets"],
               "parameters": [{ "$ref": "#/components/parameters/Limit" }, { "name": "X-Trace", "in": "header" }, { "name": "sid", "in": "cookie" }] },
      "post": { "operationId": "createPets", "tags": ["pets"] }
    },
    "/pets/{petId}": {
      "parameters": [{ "name": "petId", "in": "path", "required": true, "schema": { "type": "string" } }],
      "get": { "operationId": "showPetById", "tags": ["pets"] },
      "delete": { "operationId": "deletePet", "tags": ["pets"] }
    },
    "/pets/{petId}/uploadImage": { "post": { "operationId": "uploadFile", "tags": ["pets"], "deprecated": true } },
    "/store/order/{orderId}": { "$ref": "#/components/pathItems/Order" }
  },
  "components": {
    "parameters": { "Limit": { "name": "limit", "in": "query" } },
    "pathItems": { "Order": { "get": { "operationId": "getOrderById", "tags": ["store"] } } },
    "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "Api_Key" } }
  }
}"##;

#[test]
fn a_pet_store_becomes_routes_scopes_resources_and_an_approval_for_what_deletes() {
    let (ran, yaml) = imported(PETSTORE, "petstore.json");
    assert_eq!(ran.code, OK, "{}", ran.stderr);
    has(
        &yaml,
        &[
            "url: \"https://eu.petstore.example/v2\"",
            "# credential: { header: api_key, value: \"${TOOL_CREDENTIAL}\" }",
            "      # List all pets\n      - { id: listPets, match: \"GET /pets\", scope: pets.read }\n",
            "- { id: createPets, match: \"POST /pets\", scope: pets.write }",
            "- { id: deletePet, match: \"DELETE /pets/{petId}\", scope: pets.delete, resource: \"pet:{petId}\" }",
            "- { id: getOrderById, match: \"GET /store/order/{orderId}\", scope: store.read, resource: \"order:{orderId}\" }",
            "guess: deprecated by the document",
            "      pets.read: on_request\n",
            "      pets.delete: { grant: on_request, ttl: 1h, resources: any }",
            "  default: { approvers: [approvers]",
        ],
    );
    assert!(
        ran.stderr.contains("6 routes imported, 0 left out"),
        "{}",
        ran.stderr
    );
}

/// As GitHub's own description has them: ids with slashes, two parameters in one segment, a path for the rest.
const FORGE: &str = r##"
openapi: 3.1.0
info: { title: "Forge \e[2J", version: "2" }
servers: [{ url: /api/v3 }]
paths:
  /repos/{owner}/{repo}:
    get: { operationId: repos/get, tags: [repos] }
    delete: { operationId: repos/delete, tags: [repos] }
  /repos/{owner}/{repo}/issues/{issue_number}:
    get: { operationId: issues/get, tags: [issues] }
    patch: { operationId: issues/update, tags: [issues] }
  "/repos/{owner}/{repo}/compare/{base}...{head}":
    get: { operationId: repos/compare-commits, tags: [repos] }
  "/repos/{owner}/{repo}/contents/{path+}":
    put: { operationId: repos/create-or-update-file-contents, tags: [repos] }
  /repos/{owner}/{repo}/actions/runs/{run-id}/cancel:
    post: { operationId: actions/cancel-workflow-run, tags: [actions] }
  /user:
    get: { operationId: users/get-authenticated, tags: [users] }
    trace: { operationId: users/trace }
x-webhooks: {}
webhooks: { push: { post: {} } }
components:
  securitySchemes: { token: { type: http, scheme: bearer } }
"##;

#[test]
fn a_forge_keeps_what_a_template_can_say_and_what_it_widens_is_said() {
    let (ran, yaml) = imported(FORGE, "forge.yaml");
    assert_eq!(ran.code, OK, "{}", ran.stderr);
    has(
        &yaml,
        &[
            "url: \"http://127.0.0.1:9001/api/v3\"      # guess",
            "value: \"Bearer ${TOOL_CREDENTIAL}\"",
            "id: repos.get, match: \"GET /repos/{owner}/{repo}\", scope: repos.read, resource: \"repo:{owner}:{repo}\" }",
            "resource: \"issue:{issue_number}\"",
            "guess: `{base_head}` is the whole segment `{base}...{head}`",
            "match: \"PUT /repos/{owner}/{repo}/contents/{*path}\"",
            "guess: it destroys, by the word `cancel`: a person must agree",
            "match: \"POST /repos/{owner}/{repo}/actions/runs/{run_id}/cancel\", scope: actions.delete, resource: \"run:{run_id}\", irreversible: true }",
        ],
    );
    has(
        &ran.stderr,
        &[
            "left out: TRACE /user: the method TRACE is never forwarded",
            "note: webhooks",
        ],
    );
    assert!(!yaml.contains('\u{1b}'), "{yaml}");
}

/// What people write although nothing can be made of it, beside what can.
const ODD: &str = r##"{
  "openapi": "3.0.0",
  "info": { "title": "odd\n# version: 2\nproject: evil" },
  "servers": [{ "url": "https://user:secret@odd.example/" }],
  "paths": {
    "/users/{id}": { "get": { "operationId": "get" }, "put": { "operationId": "get" } },
    "/users/{name}": { "get": { "operationId": "byName" } },
    "/users/{id}/{tab}": { "get": {} },
    "/users/me/{tab}": { "get": {} },
    "/{kind}/me/{tab}": { "get": {} },
    "/größe/{a b}": { "get": { "summary": "\u202Ereversed" } },
    "/search?q={q}": { "get": {} },
    "/a//b": { "get": {} },
    "/matrix/{at}": { "get": { "parameters": [{ "in": "path", "name": "at", "style": "matrix" }] } },
    "/elsewhere": { "get": { "servers": [{ "url": "https://other.example" }] } },
    "/outside": { "$ref": "other.json#/paths/~1x" },
    "/nowhere": { "$ref": "#/nowhere" },
    "/circle": { "$ref": "#/paths/~1circle" },
    "/lost": { "get": { "parameters": [{ "$ref": "#/components/parameters/None" }] } },
    "/true": { "get": { "operationId": "true", "tags": ["null"] }, "options": {} },
    "x-extension": { "get": {} }
  }
}"##;

#[test]
fn what_cannot_be_imported_is_listed_with_why_and_the_rest_is() {
    let (ran, yaml) = imported(ODD, "odd.json");
    assert_eq!(ran.code, OK, "{}", ran.stderr);
    has(
        &ran.stderr,
        &[
            "left out: GET /users/{name}: some paths match it and GET /users/{id} alike",
            "left out: GET /{kind}/me/{tab}: some paths match it and GET /users/{id}/{tab} alike",
            "left out: GET /search?q={q}: it has a query or fragment",
            "left out: GET /a//b: ",
            "left out: GET /matrix/{at}: its path has `;` parameters",
            "left out: GET /elsewhere: it is at another server",
            "left out: /outside: `other.json#/paths/~1x` is in another document",
            "left out: /nowhere: `#/nowhere` leads nowhere",
            "left out: /circle: its references lead from one to the next without an end",
            "left out: GET /lost: one of its parameters can't be read",
        ],
    );
    has(
        &yaml,
        &[
            "id: get, match: \"GET /users/{id}\"",
            "id: get-2, match: \"PUT /users/{id}\"",
            "match: \"GET /gr%C3%B6%C3%9Fe/{a_b}\"",
            "id: \"true\", match: \"GET /true\", scope: null.read",
            "\nproject: crm\n",
        ],
    );
    for never in ["\u{202e}", "secret", "\nproject: evil", "x-extension"] {
        assert!(!yaml.contains(never), "{never}: {yaml}");
    }
}

#[test]
fn what_is_no_openapi_3_or_leaves_nothing_is_a_no() {
    for (document, why) in [
        ("{", "it is not JSON"),
        ("a: [", "it is not YAML"),
        ("[]", "it is no OpenAPI document"),
        ("swagger: '2.0'\npaths: {}", "it is Swagger 2.0"),
        ("openapi: 4.0.0", "it is OpenAPI 4.0.0"),
        (
            "openapi: 3.0.0\npaths: {}",
            "nothing of this document can be imported",
        ),
        (
            "openapi: 3.0.0\npaths: { 'a': { get: {} } }",
            "nothing of this document can be imported",
        ),
    ] {
        let (ran, yaml) = imported(document, "document");
        assert_eq!((ran.code, yaml.as_str()), (NO, ""), "{document}");
        assert!(ran.stderr.contains(why), "{document}: {}", ran.stderr);
    }
    let absent = toolgate(&[
        "import",
        "openapi",
        "/no/such/file",
        "--tool",
        "a",
        "--mount",
        "/a",
    ]);
    assert_eq!(absent.code, NO);
    for wrong in [
        ["--tool", "a b", "--mount", "/a"],
        ["--tool", "a", "--mount", "a"],
        ["--tool", "a", "--mount", "/a/"],
        ["--tool", "a", "--mount", "/.toolgate"],
        ["--tool", "a", "--mount", "/a/../b"],
    ] {
        let mut arguments = vec!["import", "openapi", "-"];
        arguments.extend(wrong);
        assert_eq!(toolgate(&arguments).code, USAGE, "{wrong:?}");
    }
}

#[test]
fn a_document_comes_through_a_pipe_and_names_and_places_are_given() {
    let folder = TempDir::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_toolgate"))
        .args([
            "import",
            "openapi",
            "-",
            "--tool",
            "pets",
            "--mount",
            "/",
            "--project",
            "zoo",
            "--agent",
            "keeper",
        ])
        .args(["--upstream", "https://pets.example:8443/base"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(PETSTORE.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let yaml = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    has(
        &yaml,
        &[
            "project: zoo",
            "  keeper:\n",
            "  pets:\n    mount: /\n",
            "url: \"https://pets.example:8443/base\"\n",
        ],
    );
    passes_check(folder.path(), &yaml, "zoo");
    let path = folder.path().join("pets.json");
    fs::write(&path, PETSTORE).unwrap();
    let wrong = toolgate(&[
        "import",
        "openapi",
        path.to_str().unwrap(),
        "--tool",
        "a",
        "--mount",
        "/a",
        "--upstream",
        "ftp://x",
    ]);
    assert_eq!(wrong.code, USAGE, "{}", wrong.stderr);
}

/// Any document ends in a file that passes or in a no: names, places and texts that would break out of the YAML among them.
#[test]
fn no_text_of_a_document_breaks_out_of_the_file_that_is_made_of_it() {
    for text in [
        "\"", "'", "}", "{", "\\", "\n- x", ": ", "#", "${HOME}", "\u{0}", "\u{85}", "\u{2028}",
        "*a", "&a", "!!x", "%00", "\t", "- ", "~", "é",
    ] {
        let json = serde_json::json!({
            "openapi": "3.0.0",
            "info": { "title": text },
            "servers": [{ "url": format!("https://a.example/{text}") }],
            "components": { "securitySchemes": { "a": { "type": "apiKey", "in": "header", "name": text } } },
            "paths": {
                "/ok": { "get": { "operationId": text, "summary": text, "tags": [text] } },
                format!("/{text}"): { "post": { "operationId": format!("a{text}b") } },
                format!("/x/{{{text}}}"): { "delete": {} },
            },
        });
        let (ran, yaml) = imported(&json.to_string(), "document.json");
        assert_eq!(ran.code, OK, "{text:?}: {}{yaml}", ran.stderr);
    }
}
