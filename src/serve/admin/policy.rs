//! The policy in force, and how to put another in its place.

use super::Admin;
use super::caller::Caller;
use super::problem::{FileError, ProblemDocument, Refused, json};
use super::view::{List, PolicyView};
use crate::config::Role;
use crate::serve::reload::{Rejection, ReloadOutcome, Trigger};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

/// Show the policies in force of your projects. Needs the role operator.
#[utoipa::path(get, path = "/v1/policy", responses((status = 200, body = List<PolicyView>)))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Operator])?;
    Ok(json(StatusCode::OK, &in_force(&admin, &caller)))
}

/// Read the configuration again; all of it or nothing is put in force. Needs the role operator.
#[utoipa::path(post, path = "/v1/policy/reload", responses(
    (status = 200, description = "In force.", body = List<PolicyView>),
    (status = 409, description = "Rejected; what was in force is.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn reload(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Operator])?;
    let trigger = Trigger::Principal(caller.principal.name.clone());
    let outcome = admin.parts.reload.ask(trigger).await;
    admin.record_call(&caller, "POST /v1/policy/reload").await;
    match outcome {
        ReloadOutcome::Applied => Ok(json(StatusCode::OK, &in_force(&admin, &caller))),
        ReloadOutcome::Rejected(rejection) => Err(rejected(&caller, rejection)),
    }
}

fn in_force(admin: &Admin, caller: &Caller) -> List<PolicyView> {
    let mut projects: Vec<_> = caller.principal.projects.iter().collect();
    projects.sort();
    let rulesets = projects
        .into_iter()
        .filter_map(|project| admin.parts.gate.ruleset(project));
    List {
        items: rulesets
            .map(|ruleset| PolicyView::new(&ruleset.policy))
            .collect(),
        next: None,
    }
}

/// Excerpts of files may belong to any project, so only who sees all of them is told more than how many errors there are.
fn rejected(caller: &Caller, rejection: Rejection) -> Refused {
    let sees_all = rejection
        .projects
        .iter()
        .all(|project| caller.sees(project));
    if !sees_all {
        return Refused::conflict(format!(
            "the configuration was rejected with {} errors and what was in force is; the gate's log has the report",
            rejection.errors.len()
        ));
    }
    let detail = format!(
        "the configuration was rejected and what was in force is: {}",
        rejection.summary
    );
    let errors = rejection.errors.into_iter().map(|error| FileError {
        file: error.file.display().to_string(),
        line: error.line,
        column: error.column,
        message: error.message,
    });
    Refused::conflict(detail).errors(errors.collect())
}
