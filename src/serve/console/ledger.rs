//! The ledger, for auditors: records by filter, newest first, and how to prove them. One session's story is
//! [`story`]'s.
//!
//! It reads through the admin API's own look-up, so that a record that is not the visitor's there is none here. It proves
//! nothing: it says which command does.

mod form;
mod line;
mod record;
pub(super) mod story;

use self::form::Form;
use self::line::{Row, Subject};
use super::door::Visitor;
use super::page::{Frame, SEES_LEDGER, Trouble, page};
use super::text::{Time, grouped};
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::query::{Filter, Order, Outcomes};
use crate::serve::admin::Admin;
use crate::serve::admin::ledger::look_up;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "console/ledger.html")]
struct LedgerPage {
    frame: Frame,
    form: Form,
    wrong: Option<String>,
    rows: Vec<Row>,
    /// Whether there is nothing older to look at.
    complete: bool,
    first: Option<String>,
    next: Option<String>,
    proof: Option<Proof>,
}

/// The newest checkpoint, and who signed it.
#[derive(Debug)]
struct Proof {
    records: String,
    at: Option<Time>,
    key: String,
    note: String,
}

/// Records of one page.
const PAGE_RECORDS: usize = 50;

/// `GET /ledger`
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Trouble> {
    visitor.needs(SEES_LEDGER)?;
    let now = admin.parts.clock.now();
    let form = Form::read(uri.query().unwrap_or_default());
    let mut shown = LedgerPage {
        frame: Frame::new(&admin, &visitor, "/ledger", now),
        wrong: None,
        rows: Vec::new(),
        complete: true,
        first: form.after().is_some().then(|| form.first()),
        next: None,
        proof: proof(&admin),
        form,
    };
    let filter = match shown.form.filter(now.wall) {
        Ok(filter) => Filter {
            outcomes: Outcomes::WithDecisions,
            ..filter
        },
        Err(wrong) => {
            shown.wrong = Some(wrong);
            return Ok(page(StatusCode::BAD_REQUEST, &shown));
        }
    };
    let after = shown.form.after();
    let found = look_up(
        &admin,
        &visitor.caller,
        filter,
        Order::Newest,
        after,
        PAGE_RECORDS,
    )
    .await?;
    shown.rows = line::rows(&found);
    shown.complete = found.next.is_none();
    shown.next = found.next.map(|seq| shown.form.behind(seq));
    Ok(page(StatusCode::OK, &shown))
}

fn proof(admin: &Admin) -> Option<Proof> {
    let text = admin.parts.ledger.checkpoint()?;
    let checkpoint = Checkpoint::read(text.as_bytes())?;
    Some(Proof {
        records: grouped(checkpoint.size),
        at: checkpoint.time.map(Time::dated),
        key: admin.parts.ledger.verifier().to_string(),
        note: text.trim_end().to_owned(),
    })
}
