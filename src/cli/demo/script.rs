//! What the demo shows: one table of shell lines and the answers they promise. People paste them; `--check` runs them.

/// A value that the lines name, such as `$GATE`.
pub struct Setting {
    /// The shell variable.
    pub name: &'static str,
    /// What it is in this run.
    pub value: String,
}

/// One line and its promise.
#[derive(Debug)]
pub struct Step {
    /// What it shows.
    pub title: &'static str,
    /// What the shell runs.
    pub line: &'static str,
    /// Status of every answer, in order; empty for lines that read files.
    pub statuses: &'static [u16],
    /// Stands in what the line prints.
    pub shows: &'static str,
    /// The line waits for a person, who runs this one.
    pub meanwhile: Option<&'static str>,
}

/// Some steps that belong together.
#[derive(Debug)]
pub struct Scene {
    /// What they show together.
    pub title: &'static str,
    /// In order: later ones build on earlier ones.
    pub steps: &'static [Step],
}

/// In the order in which they hold.
const SCENES: &[Scene] = &[
    Scene {
        title: "Allowed: a tool works as before, but for base URL and token",
        steps: &[
            Step {
                title: "the gate takes the token and adds the credential of the CRM",
                line: r#"curl -siw '\n' "$GATE/crm/users/7" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[200],
                shows: "Grace Tan",
                meanwhile: None,
            },
            Step {
                title: "events arrive as they are sent",
                line: r#"curl -siN "$GATE/crm/events" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[200],
                shows: "event: ticket",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Refused: everything that no rule allows",
        steps: &[
            Step {
                title: "no token",
                line: r#"curl -siw '\n' "$GATE/crm/users/7""#,
                statuses: &[401],
                shows: "credential_missing",
                meanwhile: None,
            },
            Step {
                title: "around the gate the token is worth nothing",
                line: r#"curl -siw '\n' "$BACKEND/users/7" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[401],
                shows: "the CRM wants its own credential",
                meanwhile: None,
            },
            Step {
                title: "no route in the policy",
                line: r#"curl -siw '\n' "$GATE/crm/invoices" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[403],
                shows: "no_route",
                meanwhile: None,
            },
            Step {
                title: "the other session is of a research-bot, which may never hold this scope",
                line: r#"curl -siw '\n' "$GATE/crm/tickets" -H "Authorization: Bearer $OTHER" -d '{"subject":"hello"}'"#,
                statuses: &[403],
                shows: "scope_outside_ceiling",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Just in time: a refund needs a grant, and a grant is for one",
        steps: &[
            Step {
                title: "no grant yet, and the answer says how to ask for one",
                line: r#"curl -siw '\n' "$GATE/crm/users/7/refunds" -H "Authorization: Bearer $TOKEN" -d '{"amount":20}'"#,
                statuses: &[403],
                shows: "grant_missing",
                meanwhile: None,
            },
            Step {
                title: "the agent asks",
                line: r#"curl -siw '\n' "$GATE/.toolgate/grants" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"scope":"refunds.create","resource":"user:7","reason":"the parcel was lost"}'"#,
                statuses: &[201],
                shows: "grt_",
                meanwhile: None,
            },
            Step {
                title: "now it passes",
                line: r#"curl -siw '\n' "$GATE/crm/users/7/refunds" -H "Authorization: Bearer $TOKEN" -d '{"amount":20}'"#,
                statuses: &[201],
                shows: r#""refund":1"#,
                meanwhile: None,
            },
            Step {
                title: "once",
                line: r#"curl -siw '\n' "$GATE/crm/users/7/refunds" -H "Authorization: Bearer $TOKEN" -d '{"amount":20}'"#,
                statuses: &[403],
                shows: "grant_missing",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Locked to its customer: the session was minted with customer_id=7",
        steps: &[Step {
            title: "not customer 8",
            line: r#"curl -siw '\n' -X DELETE "$GATE/crm/users/8" -H "Authorization: Bearer $TOKEN""#,
            statuses: &[403],
            shows: "resource_outside_ceiling",
            meanwhile: None,
        }],
    },
    Scene {
        title: "Held: a DELETE waits for a person, who sees the whole request first",
        steps: &[
            Step {
                title: "an agent that can not wait is told where to ask again",
                line: r#"curl -siw '\n' -X DELETE "$GATE/crm/users/7?why=spring-cleaning" -H "Authorization: Bearer $TOKEN" -H 'Prefer: respond-async'"#,
                statuses: &[202],
                shows: "PENDING_APPROVAL",
                meanwhile: None,
            },
            Step {
                title: "dana looks at what waits, as in the console",
                line: r#"TOOLGATE_KEY="$DANA" "$TOOLGATE" approvals list"#,
                statuses: &[],
                shows: "user:7",
                meanwhile: None,
            },
            Step {
                title: "and says no, with a reason",
                line: r#"(export TOOLGATE_KEY="$DANA"; "$TOOLGATE" approvals deny --note 'ask the customer first' "$("$TOOLGATE" approvals list --json | grep -o 'apr_[0-9a-f]*' | head -n 1)")"#,
                statuses: &[],
                shows: "denied",
                meanwhile: None,
            },
            Step {
                title: "which the agent reads when it asks again",
                line: r#"curl -siw '\n' -X DELETE "$GATE/crm/users/7?why=spring-cleaning" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[403],
                shows: "ask the customer first",
                meanwhile: None,
            },
            Step {
                title: "another request is another question: this one waits, at most 50 s, until dana says yes",
                line: r#"curl -siw '\n' -X DELETE "$GATE/crm/users/7" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[204],
                shows: "",
                meanwhile: Some(
                    r#"(export TOOLGATE_KEY="$DANA"; "$TOOLGATE" approvals approve --yes "$("$TOOLGATE" approvals list --json | grep -o 'apr_[0-9a-f]*' | head -n 1)")"#,
                ),
            },
            Step {
                title: "it ran once: the same again is a new question",
                line: r#"curl -siw '\n' -X DELETE "$GATE/crm/users/7" -H "Authorization: Bearer $TOKEN" -H 'Prefer: respond-async'"#,
                statuses: &[202],
                shows: "PENDING_APPROVAL",
                meanwhile: None,
            },
            Step {
                title: "dana says yes while nobody waits",
                line: r#"(export TOOLGATE_KEY="$DANA"; "$TOOLGATE" approvals approve --yes "$("$TOOLGATE" approvals list --json | grep -o 'apr_[0-9a-f]*' | head -n 1)")"#,
                statuses: &[],
                shows: "approved",
                meanwhile: None,
            },
            Step {
                title: "the agent comes back, the call runs, and the CRM has no such customer any more",
                line: r#"curl -siw '\n' -X DELETE "$GATE/crm/users/7" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[404],
                shows: "no such user",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Asked for: a grant that a person decides",
        steps: &[
            Step {
                title: "the customer list leaves the CRM only with a grant",
                line: r#"curl -siw '\n' "$GATE/crm/export" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[403],
                shows: "grant_missing",
                meanwhile: None,
            },
            Step {
                title: "the agent asks, and a person has to agree",
                line: r#"curl -siw '\n' "$GATE/.toolgate/grants" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"scope":"crm.export","reason":"the figures of the quarter"}'"#,
                statuses: &[202],
                shows: "PENDING_APPROVAL",
                meanwhile: None,
            },
            Step {
                title: "dana agrees",
                line: r#"(export TOOLGATE_KEY="$DANA"; "$TOOLGATE" approvals approve --yes "$("$TOOLGATE" approvals list --json | grep -o 'apr_[0-9a-f]*' | head -n 1)")"#,
                statuses: &[],
                shows: "crm.export",
                meanwhile: None,
            },
            Step {
                title: "now it passes, once",
                line: r#"for i in 1 2; do curl -siw '\n' "$GATE/crm/export" -H "Authorization: Bearer $TOKEN"; done"#,
                statuses: &[200, 403],
                shows: "2,Bo Lindqvist",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Judged by what it says: one URL that runs SQL, and an agent that may read tickets",
        steps: &[
            Step {
                title: "a SELECT passes",
                line: r#"curl -siw '\n' "$GATE/crm/query" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"statement":"SELECT id, subject FROM tickets WHERE id = 7"}'"#,
                statuses: &[200],
                shows: "the parcel is late",
                meanwhile: None,
            },
            Step {
                title: "DROP TABLE does not, though the CRM would do it: the answer names what was judged",
                line: r#"curl -siw '\n' "$GATE/crm/query" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"statement":"DROP TABLE users"}'"#,
                statuses: &[403],
                shows: "does not allow this call with such a `body./statement`",
                meanwhile: None,
            },
            Step {
                title: "nor does it behind a SELECT",
                line: r#"curl -siw '\n' "$GATE/crm/query" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"statement":"SELECT 1; DROP TABLE users"}'"#,
                statuses: &[403],
                shows: "condition_unmet",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Told apart by the message: the same CRM over MCP, one URL for all its tools",
        steps: &[
            Step {
                title: "of the three tools that it has, the two that this session could use are listed",
                line: r#"curl -siw '\n' "$GATE/desk" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' | grep -o -e '^HTTP.*' -e '"name":"[a-z_]*"'"#,
                statuses: &[200],
                shows: "\"name\":\"find_customer\"\n\"name\":\"delete_customer\"",
                meanwhile: None,
            },
            Step {
                title: "one of them is called",
                line: r#"curl -siw '\n' "$GATE/desk" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"find_customer","arguments":{"user_id":"2"}}}'"#,
                statuses: &[200],
                shows: "Bo Lindqvist",
                meanwhile: None,
            },
            Step {
                title: "customer 8 belongs to another session: a refusal is a result, whose text the model reads",
                line: r#"curl -siw '\n' "$GATE/desk" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"delete_customer","arguments":{"user_id":"8"}}}'"#,
                statuses: &[200],
                shows: "\"isError\":true,\"_meta\":{\"toolgate/problem\"",
                meanwhile: None,
            },
            Step {
                title: "the third is not there, whoever heard of it",
                line: r#"curl -siw '\n' "$GATE/desk" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"reset_crm"}}'"#,
                statuses: &[200],
                shows: "no_route",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Limited: five tickets a minute",
        steps: &[Step {
            title: "the sixth waits",
            line: r#"for i in 1 2 3 4 5 6; do curl -si "$GATE/crm/tickets" -H "Authorization: Bearer $TOKEN" -d '{"subject":"hello"}' | grep -e '^HTTP' -e '^{'; done"#,
            statuses: &[201, 201, 201, 201, 201, 429],
            shows: "limit_exceeded",
            meanwhile: None,
        }],
    },
    Scene {
        title: "Quarantined: an agent that loops is stopped until a person looks",
        steps: &[
            Step {
                title: "the same call is served 20 times, the 21st trips the limit same-call",
                line: r#"for i in $(seq 21); do curl -si "$GATE/crm/search?q=grace" -H "Authorization: Bearer $TOKEN" | grep '^HTTP'; done"#,
                statuses: &[
                    200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200,
                    200, 200, 200, 200, 403,
                ],
                shows: "403",
                meanwhile: None,
            },
            Step {
                title: "nothing of that session passes any more",
                line: r#"curl -siw '\n' "$GATE/crm/users/2" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[403],
                shows: "quarantined",
                meanwhile: None,
            },
            Step {
                title: "the other session is untouched",
                line: r#"curl -siw '\n' "$GATE/crm/users/2" -H "Authorization: Bearer $OTHER""#,
                statuses: &[200],
                shows: "Bo Lindqvist",
                meanwhile: None,
            },
            Step {
                title: "an operator releases it",
                line: r#"curl -siw '\n' "$TOOLGATE_ADMIN/v1/sessions/$SESSION/release" -H "Authorization: Bearer $TOOLGATE_KEY" -H 'Content-Type: application/json' -d '{"reason":"a retry without a pause; mended"}'"#,
                statuses: &[200],
                shows: "ses_",
                meanwhile: None,
            },
            Step {
                title: "and it goes on",
                line: r#"curl -siw '\n' "$GATE/crm/users/2" -H "Authorization: Bearer $TOKEN""#,
                statuses: &[200],
                shows: "Bo Lindqvist",
                meanwhile: None,
            },
        ],
    },
    Scene {
        title: "Written down: what was decided, by which rule, and what came of it",
        steps: &[
            Step {
                title: "what became of customer 7: the files of the ledger say it, with no gate and no key",
                line: r#""$TOOLGATE" ledger query "$LEDGER" --resource user:7 --kind decision"#,
                statuses: &[],
                shows: "allow: agreed apr_",
                meanwhile: None,
            },
            Step {
                title: "the whole story of the session: what it claimed, what was decided, and who agreed",
                line: r#""$TOOLGATE" ledger show "$SESSION" "$LEDGER""#,
                statuses: &[],
                shows: "dana says approve",
                meanwhile: None,
            },
            Step {
                title: "and that nobody changed any of it since",
                line: r#""$TOOLGATE" ledger verify "$LEDGER""#,
                statuses: &[],
                shows: "PROVEN\n  - records 0 to ",
                meanwhile: None,
            },
            Step {
                title: "the same in numbers",
                line: r#"curl -s "$METRICS" | grep '^toolgate_requests_total'"#,
                statuses: &[],
                shows: r#"reason="quarantined""#,
                meanwhile: None,
            },
        ],
    },
];

/// The statuses in what `curl -i` printed; interim ones (1xx) are not answers.
pub fn statuses(printed: &str) -> Vec<u16> {
    printed
        .lines()
        .filter_map(|line| {
            line.strip_prefix("HTTP/")?
                .split_ascii_whitespace()
                .nth(1)?
                .parse()
                .ok()
        })
        .filter(|status| *status >= 200)
        .collect()
}

/// What the demo shows with TLS, before the rest.
const ENCRYPTED: Scene = Scene {
    title: "Encrypted: the gate has a certificate, and so has the backend behind it",
    steps: &[
        Step {
            title: "an agent that trusts its authority",
            line: r#"curl --cacert "$CA" -siw '\n' "$GATE/crm/users/7" -H "Authorization: Bearer $TOKEN""#,
            statuses: &[200],
            shows: "Grace Tan",
            meanwhile: None,
        },
        Step {
            title: "an agent that shows a certificate of its own",
            line: r#"curl --cacert "$CA" --cert "$CERT" --key "$CERT_KEY" -siw '\n' "$GATE/crm/users/7" -H "Authorization: Bearer $TOKEN""#,
            statuses: &[200],
            shows: "Grace Tan",
            meanwhile: None,
        },
        Step {
            title: "an agent that does not trust it sends nothing, and curl ends with 60",
            line: r#"curl -s "$GATE/crm/users/7" -H "Authorization: Bearer $TOKEN"; echo "curl: $?""#,
            statuses: &[],
            shows: "curl: 60",
            meanwhile: None,
        },
    ],
};

/// All of it, in order.
pub fn scenes(tls: bool) -> impl Iterator<Item = &'static Scene> {
    tls.then_some(&ENCRYPTED).into_iter().chain(SCENES)
}

/// A line for a gate and a backend that speak TLS: curl is told whom to trust.
pub fn encrypted(line: &str) -> String {
    let tells = ENCRYPTED.steps.iter().any(|step| step.line == line);
    if tells || !["$GATE", "$BACKEND"].iter().any(|name| line.contains(name)) {
        return line.to_owned();
    }
    line.replace("curl ", r#"curl --cacert "$CA" "#)
}

/// Statuses in a few words: `201 x5, 429`.
pub fn in_short(statuses: &[u16]) -> String {
    statuses
        .chunk_by(|one, next| one == next)
        .map(|run| match run.len() {
            1 => run[0].to_string(),
            many => format!("{} x{many}", run[0]),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_from_heads_and_interim_ones_left_out() {
        let printed = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nvia: 1.1 x\r\n\r\nHTTP is fun\n";
        assert_eq!(statuses(printed), [403]);
    }

    #[test]
    fn repeated_statuses_are_counted() {
        assert_eq!(in_short(&[201, 201, 429]), "201 x2, 429");
        assert_eq!(in_short(&[]), "");
    }

    #[test]
    fn titles_are_harmless_where_a_shell_does_not_take_them_for_comments() {
        // An interactive zsh runs a pasted `# ...`: a quote or `>` in it would swallow lines or write files.
        let harmless = |c: char| c.is_ascii_alphanumeric() || " ,.:-_=".contains(c);
        for scene in scenes(true) {
            for title in scene
                .steps
                .iter()
                .map(|step| step.title)
                .chain([scene.title])
            {
                assert!(title.chars().all(harmless), "{title}");
            }
        }
    }

    #[test]
    fn every_line_names_only_settings_that_the_demo_exports() {
        let steps = || scenes(true).flat_map(|scene| scene.steps);
        for line in steps().flat_map(|step| [step.line].into_iter().chain(step.meanwhile)) {
            for name in line
                .split('$')
                .skip(1)
                .filter(|rest| !rest.starts_with(['(', '?']))
            {
                let name = name
                    .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
                    .next()
                    .unwrap();
                assert!(super::super::SETTINGS.contains(&name), "{name} in {line}");
            }
        }
    }
}
