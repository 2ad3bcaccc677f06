//! `toolgate check`: are the files valid, and is there anything in them that is probably not meant?

use super::{Failure, Globals, output};
use crate::config::{self, LedgerLevel, LedgerSettings, Loaded, Secrets};
use crate::gate::Gate;
use crate::io::clock::{Clock as _, SystemClock};
use crate::ledger::note::VerifierKey;
use crate::ledger::{LedgerError, keys};
use crate::policy::approval::{Chain, ChainIndex};
use crate::policy::model::{GrantMode, Mount, Policy, Tool};
use crate::policy::name::GroupName;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// `check`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate check --config config/toolgate.yaml --strict\n\nThe projects' `tests` are run: what they promise of calls must be what is decided.\n\nExit codes: 0 valid, 1 a test fails or warnings under --strict, 78 not valid. Secrets may be unset here; `serve` needs them."
)]
pub struct Arguments {
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
}

/// Reads all files; prints errors, warnings and what the projects consist of.
///
/// # Errors
/// [`Failure::Configuration`] with the whole report; [`Failure::No`] for warnings under `--strict`.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let mut loaded = match config::load(&globals.config, Secrets::Optional) {
        Ok(loaded) => loaded,
        Err(errors) => {
            let broken = errors.broken();
            if globals.json {
                let reports: Vec<Value> = errors.reports().iter().map(report).collect();
                output::json(&json!({"valid": false, "failed_tests": broken, "errors": reports}))?;
            }
            if broken > 0 {
                anstream::eprintln!("{}\n", errors.coloured().trim_end());
                let plural = if broken == 1 {
                    "test fails"
                } else {
                    "tests fail"
                };
                return Err(Failure::No(format!("{broken} {plural}")));
            }
            return Err(Failure::Configuration(errors.coloured()));
        }
    };
    if let Err(fault) = Gate::check(&loaded.projects) {
        if globals.json {
            let report = json!({"message": fault.to_string()});
            output::json(&json!({"valid": false, "errors": [report]}))?;
        }
        return Err(Failure::Configuration(fault.to_string()));
    }
    loaded.warn_of_expired(SystemClock.now().wall);
    let signer = Signer::of(&loaded.server.ledger);
    for warning in &loaded.warnings {
        anstream::eprintln!("{}\n", warning.rendered.trim_end());
    }
    if let Signer::Unfit(why) = &signer {
        let style = anstyle::AnsiColor::Yellow.on_default().bold();
        anstream::eprintln!("{style}warning{style:#}: {why}\n");
    }
    if globals.json {
        output::json(&summary(&loaded, &signer))?;
    } else {
        output::print(&prose(&loaded, &signer))?;
    }
    match loaded.warnings.len() + signer.warnings() {
        0 => Ok(()),
        _ if !arguments.strict => Ok(()),
        1 => Err(Failure::No(
            "1 warning, and --strict takes it for an error".to_owned(),
        )),
        many => Err(Failure::No(format!(
            "{many} warnings, and --strict takes them for errors"
        ))),
    }
}

/// Who signs the ledger's checkpoints, as far as the files say.
enum Signer {
    Known(VerifierKey),
    /// The first start makes its key.
    ToCome,
    /// The gate may be able to read it.
    Unread(String),
    /// The gate would not start.
    Unfit(String),
}

impl Signer {
    fn of(settings: &LedgerSettings) -> Self {
        let own = keys::own(&settings.directory);
        match keys::read(settings.signing_key.as_deref().unwrap_or(&own)) {
            Ok(Some(key)) => Signer::Known(key.verifier().clone()),
            Ok(None) => match &settings.signing_key {
                Some(path) => Signer::Unfit(keys::absent(path).to_string()),
                None => Signer::ToCome,
            },
            Err(error @ LedgerError::Key { .. }) => Signer::Unfit(error.to_string()),
            Err(error) => Signer::Unread(error.to_string()),
        }
    }

    /// As its verifier key, where that is known.
    fn vkey(&self) -> Option<String> {
        match self {
            Signer::Known(key) => Some(key.to_string()),
            Signer::ToCome | Signer::Unread(_) | Signer::Unfit(_) => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Signer::Known(key) => key.to_string(),
            Signer::ToCome => "the first start makes one".to_owned(),
            Signer::Unread(why) => format!("it can't be read here: {why}"),
            Signer::Unfit(_) => "none that fits: the gate will not start".to_owned(),
        }
    }

    fn warnings(&self) -> usize {
        usize::from(matches!(self, Signer::Unfit(_)))
    }
}

fn report(report: &config::Report) -> Value {
    json!({
        "file": report.file.display().to_string(),
        "line": report.line,
        "column": report.column,
        "message": report.message,
    })
}

fn prose(loaded: &Loaded, signer: &Signer) -> String {
    let mut text = String::new();
    for policy in &loaded.projects {
        let _ = writeln!(
            text,
            "project {}\n  policy  {}\n  mode    {}",
            policy.project,
            policy.hash,
            mode(policy)
        );
        let tools = policy
            .tools
            .iter()
            .map(|tool| format!("{} at {} -> {}", tool.name, mount(tool), upstream(tool)));
        let sections = [
            ("agents", agents(policy)),
            ("tools", tools.collect()),
            (
                "routes",
                policy
                    .routes
                    .iter()
                    .map(|route| route.id.to_string())
                    .collect(),
            ),
            (
                "limits",
                policy
                    .limits
                    .iter()
                    .map(|limit| limit.id.to_string())
                    .collect(),
            ),
        ];
        for (name, items) in sections {
            let _ = writeln!(text, "  {name:<6}  {:>3}  {}", items.len(), some_of(&items));
        }
        if let Some(tests) = tests(loaded, policy) {
            let _ = writeln!(text, "  tests   {tests:>3}  passed");
        }
        for (index, chain) in policy.chains.iter().enumerate() {
            let _ = writeln!(text, "  chain   {}", words_of(index, chain, policy, loaded));
        }
        text.push('\n');
    }
    text.push_str(&of_ledger(&loaded.server.ledger, signer));
    let projects = loaded.projects.len();
    let warnings = loaded.warnings.len() + signer.warnings();
    let tests: usize = loaded.lines.iter().map(|lines| lines.tests).sum();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let passed = match tests {
        0 => String::new(),
        many => format!("{many} test{} passed, ", plural(many)),
    };
    let _ = writeln!(
        text,
        "valid: {projects} project{}, {passed}{warnings} warning{}",
        plural(projects),
        plural(warnings)
    );
    text
}

/// Whether decisions are enforced.
fn mode(policy: &Policy) -> String {
    let shadow: Vec<String> = shadowed(policy).collect();
    match (shadow.len(), policy.routes.len()) {
        (0, _) => "enforce".to_owned(),
        (some, all) if some == all => {
            "SHADOW: what the policy denies is recorded and let through".to_owned()
        }
        (some, all) => format!("SHADOW on {some} of {all} routes: {}", some_of(&shadow)),
    }
}

fn shadowed(policy: &Policy) -> impl Iterator<Item = String> {
    let routes = policy.routes.iter().filter(|route| route.shadow);
    routes.map(|route| route.id.to_string())
}

/// How many tests a project has, if any. Of what is valid all have passed.
fn tests(loaded: &Loaded, policy: &Policy) -> Option<usize> {
    let mut lines = loaded.lines.iter();
    let lines = lines.find(|lines| lines.are_of(policy))?;
    Some(lines.tests).filter(|tests| *tests > 0)
}

fn of_ledger(settings: &LedgerSettings, signer: &Signer) -> String {
    let level = match settings.level {
        LedgerLevel::Sync => "sync",
        LedgerLevel::Written => "written",
        LedgerLevel::Batched => "batched",
    };
    let anchors = match (&settings.anchor_file, &settings.anchor_webhook) {
        (Some(file), None) => file.display().to_string(),
        (Some(file), Some(_)) => format!("{} and a webhook", file.display()),
        (None, Some(_)) => "a webhook".to_owned(),
        (None, None) => "none".to_owned(),
    };
    let (directory, key) = (settings.directory.display(), signer.words());
    format!("ledger {directory}\n  level   {level}\n  key     {key}\n  anchor  {anchors}\n\n")
}

/// Who decides what: `default: 1 of support-leads (dana) decides users.delete`.
fn words_of(index: usize, chain: &Chain, policy: &Policy, loaded: &Loaded) -> String {
    let people = approvers(chain, policy, loaded);
    let who = match people.len() {
        0 => "nobody".to_owned(),
        _ => some_of(&people),
    };
    let groups: Vec<String> = chain.approvers.iter().map(ToString::to_string).collect();
    let decided = decided_by(index, policy);
    let what = match decided.len() {
        0 => "nothing".to_owned(),
        _ => some_of(&decided),
    };
    format!(
        "{}: {} of {} ({who}) {} {what}",
        chain.name,
        chain.quorum,
        some_of(&groups),
        if chain.quorum == 1 {
            "decides"
        } else {
            "decide"
        }
    )
}

/// Those whose word counts, in order of name.
fn approvers(chain: &Chain, policy: &Policy, loaded: &Loaded) -> Vec<String> {
    let approvers = loaded.server.approvers();
    let people = approvers.of(&policy.project, chain);
    let mut people: Vec<String> = people.map(ToString::to_string).collect();
    people.sort();
    people
}

/// Routes and, as `grants of SCOPE`, the scopes whose grants a chain decides.
fn decided_by(index: usize, policy: &Policy) -> Vec<String> {
    let own = |chain: ChainIndex| usize::from(chain.0) == index;
    let routes = policy.routes.iter();
    let routes = routes.filter(|route| route.approval.is_some_and(own));
    let mut scopes: Vec<String> = policy
        .agents
        .values()
        .flat_map(|agent| &agent.scopes)
        .filter(|(_, ceiling)| matches!(ceiling.grant, GrantMode::OnApproval(chain) if own(chain)))
        .map(|(scope, _)| format!("grants of {scope}"))
        .collect();
    scopes.sort();
    scopes.dedup();
    let routes = routes.map(|route| route.id.to_string());
    routes.chain(scopes).collect()
}

/// Names, as many as a line holds.
fn some_of(items: &[String]) -> String {
    const NAMED_MAX: usize = 8;
    let mut text = items
        .iter()
        .take(NAMED_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > NAMED_MAX {
        text.push_str(", ...");
    }
    text
}

fn summary(loaded: &Loaded, signer: &Signer) -> Value {
    let projects = loaded.projects.iter();
    let projects: Vec<Value> = projects.map(|policy| project(policy, loaded)).collect();
    let warnings = loaded.warnings.iter();
    let mut warnings: Vec<&str> = warnings.map(|warning| warning.summary.as_str()).collect();
    if let Signer::Unfit(why) = signer {
        warnings.push(why);
    }
    let ledger = json!({
        "directory": loaded.server.ledger.directory.display().to_string(),
        "vkey": signer.vkey(),
    });
    json!({"valid": true, "projects": projects, "ledger": ledger, "warnings": warnings})
}

fn project(policy: &Policy, loaded: &Loaded) -> Value {
    let tools: Vec<Value> = policy
        .tools
        .iter()
        .map(|tool| json!({"name": tool.name.as_str(), "mount": mount(tool), "upstream": upstream(tool)}))
        .collect();
    let routes: Vec<&str> = policy
        .routes
        .iter()
        .map(|route| route.id.as_str())
        .collect();
    let limits: Vec<&str> = policy
        .limits
        .iter()
        .map(|limit| limit.id.as_str())
        .collect();
    let chains = policy.chains.iter().enumerate();
    let chains: Vec<Value> = chains
        .map(|(index, chain)| {
            json!({
                "name": chain.name.as_str(),
                "quorum": chain.quorum,
                "groups": chain.approvers.iter().map(GroupName::as_str).collect::<Vec<_>>(),
                "approvers": approvers(chain, policy, loaded),
                "decides": decided_by(index, policy),
            })
        })
        .collect();
    json!({
        "project": policy.project.as_str(),
        "policy": policy.hash.to_string(),
        "agents": agents(policy),
        "tools": tools,
        "routes": routes,
        "shadow": shadowed(policy).collect::<Vec<_>>(),
        "limits": limits,
        "chains": chains,
        "tests": tests(loaded, policy).unwrap_or_default(),
    })
}

/// In order of name: the policy keeps them in a table that has none.
fn agents(policy: &Policy) -> Vec<String> {
    let mut names: Vec<String> = policy.agents.keys().map(ToString::to_string).collect();
    names.sort();
    names
}

fn mount(tool: &Tool) -> String {
    match &tool.mount {
        Mount::Path(path) => path.to_string(),
        Mount::Host(host) => format!("host {host}"),
        Mount::None => "functions".to_owned(),
    }
}

fn upstream(tool: &Tool) -> String {
    let Some(upstream) = &tool.upstream else {
        return "the agent's own process".to_owned();
    };
    let scheme = match upstream.tls {
        Some(_) => "https",
        None => "http",
    };
    format!("{scheme}://{}{}", upstream.host, upstream.base_path)
}
