//! Chains, grants that people decide, whom to tell and where the console is: what is written arrives.

use super::{HOOK_SECRET, PROJECT, SERVER, environment};
use secrecy::ExposeSecret as _;
use std::fs;
use std::time::Duration;
use toolgate::config::{self, Loaded, Secrets};
use toolgate::policy::approval::ChainIndex;
use toolgate::policy::model::GrantMode;
use toolgate::policy::name::{PrincipalName, ProjectName};

fn loaded(server: &str, project: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("projects")).unwrap();
    fs::write(folder.path().join("projects/demo.yaml"), project).unwrap();
    let path = folder.path().join("toolgate.yaml");
    fs::write(&path, server).unwrap();
    let loaded = config::load_with(&path, Secrets::Required, &environment);
    loaded.unwrap_or_else(|errors| panic!("{errors}"))
}

/// The good project, its DELETE held and one scope's grants decided by people.
fn held() -> String {
    let held = PROJECT.replace("        approval: never\n", "").replace(
        "grant: on_request,",
        "grant: on_approval, approval: payments,",
    );
    format!(
        "{held}approvals:
  payments:
    approvers: [finance, leads]
    quorum: 2
    hold: 0s
    expires: 5m
    denied_for: 1m
    pending: {{ per_session: 4, per_route: 2 }}
    notify: [ops]
  default: {{ approvers: [leads] }}
notify:
  ops:
    webhook: {{ url: \"https://hooks.example/in?key=${{CRM_API_KEY}}\", secret: {{ env: HOOK_SECRET }}, previous_secret: {{ env: HOOK_SECRET }} }}
"
    )
}

#[test]
fn a_chain_arrives_as_written_and_with_the_defaults_of_the_documents() {
    let policy = &loaded(SERVER, &held()).projects[0];
    let seconds = Duration::from_secs;
    let [payments, default] = &*policy.chains else {
        panic!("{:?}", policy.chains)
    };
    let of = |chain: &toolgate::policy::approval::Chain| {
        let names = |names: &[_]| {
            names
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<String>>()
        };
        (
            names(&chain.approvers).join(" "),
            (
                chain.quorum,
                chain.pending_per_session,
                chain.pending_per_route,
            ),
            (chain.hold, chain.expires, chain.denied_for),
            chain.notify.len(),
        )
    };
    assert_eq!(
        of(payments),
        (
            "finance leads".into(),
            (2, 4, 2),
            (seconds(0), seconds(300), seconds(60)),
            1
        )
    );
    assert_eq!(
        of(default),
        (
            "leads".into(),
            (1, 16, 8),
            (seconds(50), seconds(3600), seconds(600)),
            0
        )
    );
    let agent = &policy.agents["bot"];
    assert_eq!(
        agent.scopes["users.delete"].grant,
        GrantMode::OnApproval(ChainIndex(0))
    );
}

#[test]
fn a_delete_goes_to_the_default_chain_unless_the_route_says_otherwise_and_a_read_to_nobody() {
    let of = |project: &str| {
        let policy = &loaded(SERVER, project).projects[0];
        policy
            .routes
            .iter()
            .map(|route| route.approval)
            .collect::<Vec<_>>()
    };
    let (payments, default) = (ChainIndex(0), ChainIndex(1));
    let delete = "match: DELETE /users/{user_id}\n";
    let saying =
        |approval: &str| held().replace(delete, &format!("{delete}        approval: {approval}\n"));
    assert_eq!(of(&held()), [None, Some(default)]);
    assert_eq!(of(&saying("payments")), [None, Some(payments)]);
    assert_eq!(of(&saying("never")), [None, None]);
    let read = "match: GET /users/{user_id}\n";
    let irreversible = held().replace(read, &format!("{read}        irreversible: true\n"));
    assert_eq!(of(&irreversible), [Some(default), Some(default)]);
    let asked = held().replace(read, &format!("{read}        approval: payments\n"));
    assert_eq!(of(&asked), [Some(payments), Some(default)]);
}

#[test]
fn webhooks_arrive_with_both_secrets_and_show_neither_url_nor_secret() {
    let loaded = loaded(SERVER, &held());
    let [ops] = &*loaded.projects[0].notify else {
        panic!()
    };
    assert_eq!(
        ops.url.expose_secret(),
        "https://hooks.example/in?key=s3cret-of-the-crm"
    );
    let secrets: Vec<_> = ops
        .secrets
        .iter()
        .map(|secret| secret.expose_secret())
        .collect();
    assert_eq!(secrets, [HOOK_SECRET, HOOK_SECRET]);
    let shown = format!("{loaded:?}");
    for secret in ["s3cret", "hooks.example", HOOK_SECRET] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn the_approvers_of_a_server_file_are_those_with_the_role_the_project_and_a_group() {
    let one = |name: &str, roles: &str, groups: &str, digit: &str| {
        format!(
            "  - {{ name: {name}, key: {{ sha256: \"{}\" }}, roles: [{roles}], projects: [demo]{groups} }}\n",
            digit.repeat(64)
        )
    };
    let server = SERVER.replace(
        "store:",
        &format!(
            "{}{}{}store:",
            one("dana", "approver, operator", ", groups: [leads]", "a"),
            one("erin", "operator", ", groups: [leads]", "b"),
            one("frank", "approver", ", groups: [others]", "c"),
        ),
    );
    let loaded = loaded(&server, &held());
    let approvers = loaded.server.approvers();
    let policy = &loaded.projects[0];
    let may = |name: &str, project: &str, chain| {
        let (name, project) = (PrincipalName::parse(name), ProjectName::parse(project));
        approvers.may(
            &name.unwrap(),
            &project.unwrap(),
            policy.chain(ChainIndex(chain)),
        )
    };
    assert!(may("dana", "demo", 0) && may("dana", "demo", 1));
    assert!(!may("dana", "other", 0));
    for other in ["erin", "frank", "orchestrator", "nobody"] {
        assert!(!may(other, "demo", 0) && !may(other, "demo", 1), "{other}");
    }
}

#[test]
fn the_console_is_found_at_its_url_or_else_where_it_listens() {
    let console = |admin: &str, bound: &str| {
        let server = SERVER.replace(
            "admin: { address: 127.0.0.1:9080 }",
            &format!("admin: {{ {admin} }}"),
        );
        let admin = loaded(&server, PROJECT).server.admin;
        (admin.console(bound.parse().unwrap()), admin.hosts)
    };
    let local = "127.0.0.1:4711";
    let (url, hosts) = console("address: 127.0.0.1:0", local);
    assert_eq!((&*url, hosts.len()), ("http://127.0.0.1:4711", 2));
    assert_eq!(
        console("address: \"0.0.0.0:9080\"", "0.0.0.0:9080").0,
        "http://localhost:9080"
    );
    assert_eq!(
        console("address: \"[::1]:9080\"", "[::1]:9080").0,
        "http://[::1]:9080"
    );
    let (url, hosts) = console(
        "address: 127.0.0.1:9080, url: \"https://Gate.example:8443/\"",
        local,
    );
    assert_eq!(url, "https://gate.example:8443");
    // Who follows a link there must not be turned away for the name.
    assert!(hosts.contains(&"gate.example".to_owned()), "{hosts:?}");
}

#[test]
fn another_url_of_the_console_needs_a_restart_and_other_groups_do_not() {
    let old = loaded(SERVER, PROJECT).server;
    let moved = SERVER.replace("9080 }", "9080, url: \"https://gate.example\" }");
    let needs = config::restart_needed(&old, &loaded(&moved, PROJECT).server);
    assert_eq!(
        needs.as_deref(),
        Some("a change to listeners.admin needs a restart")
    );
    let grouped = SERVER.replace("[issuer]", "[approver]\n    groups: [leads]");
    assert_eq!(
        config::restart_needed(&old, &loaded(&grouped, PROJECT).server),
        None
    );
}
