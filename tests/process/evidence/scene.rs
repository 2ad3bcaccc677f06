//! A gate whose routes are recorded in every way there is, over segments as small as they may be.

use crate::backend::Backend;
use crate::gate::Setup;

/// `read` is written, `erase` and `once` are synced before they leave.
pub fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes:
      read: on_use
      erase: on_use
      once: {{ grant: on_request, uses: 1, ttl: 1h, grants: 1000 }}
      act: on_use
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}', timeout: 60s }}
    routes:
      - {{ id: read, match: 'GET /read/{{key}}', scope: read }}
      - {{ id: held, match: GET /held, scope: read }}
      - {{ id: erase, match: 'DELETE /items/{{key}}', scope: erase, approval: never }}
      - {{ id: once, match: 'POST /once/{{key}}', scope: once, resource: 'key:{{key}}' }}
      - {{ id: act, match: 'POST /act/{{key}}', scope: act, approval: default }}
approvals:
  default: {{ approvers: [leads], quorum: 1, hold: 60s, expires: 1h }}
",
        backend.address
    )
}

/// `root` does everything, and decides what is held.
pub fn setup(backend: &Backend) -> Setup {
    let setup = Setup::new("demo", &policy(backend));
    setup.edit_server(|text| {
        text.replace("/ledger }", "/ledger, segment: { size: 64KiB } }")
            .replace("{ name: root,", "{ name: root, groups: [leads],")
            .replace(
                "roles: [issuer, operator, auditor]",
                "roles: [issuer, operator, auditor, approver]",
            )
    });
    setup
}
