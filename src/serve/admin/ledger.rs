//! The ledger through the admin API: records of the caller's own projects, newest first, page by page.
//!
//! It reads files beside the data plane, on a thread that may wait, a bounded number of bytes for one answer and a bounded
//! number of answers at a time: they share a disk with the ledger's writer. It proves nothing (that is `toolgate ledger
//! verify`'s, on the files), and what is not the caller's does not exist for it: not even as an error.

use super::Admin;
use super::caller::Caller;
use super::input;
use super::problem::{ProblemDocument, Refused, json};
use crate::config::Role;
use crate::ledger::query::{self, Filter, Order, Page};
use crate::policy::decision::Reason;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// Most answers that read at the same time.
pub(in crate::serve) const READERS_MAX: usize = 2;
/// How much of the ledger is read for one page, and as much again for the outcomes of its calls.
const READ_BYTES_MAX: u64 = 32 << 20;

/// Records of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordsView {
    /// As the ledger has them; the outcomes of calls that were found come with them and are not counted by `limit`.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// What to give as `after` for the next page; null: the end was reached. A page can be short, or empty, and have one.
    next: Option<String>,
    /// Calls (`req_...`) whose outcome may stand further on than was read for this page: ask for the one `request`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unresolved: Vec<String>,
}

/// What is asked for.
#[derive(Debug)]
struct Wanted {
    filter: Filter,
    order: Order,
    after: Option<u64>,
    limit: usize,
}

/// List the ledger's records of your projects. What belongs to no project, such as the gate's own records, is for those who
/// see all of them. Needs the role auditor.
#[utoipa::path(get, path = "/v1/ledger", params(
    ("project" = Option<String>, Query, description = "Only of this project; several are separated by commas."),
    ("kind" = Option<String>, Query, description = "Only `decision`, `outcome`, `session`, `grant`, `approval`, `quarantine`, `pin`, `policy`, `principal`, `gate`; several are separated by commas."),
    ("agent" = Option<String>, Query), ("session" = Option<String>, Query), ("run" = Option<String>, Query),
    ("tool" = Option<String>, Query), ("route" = Option<String>, Query), ("scope" = Option<String>, Query),
    ("resource" = Option<String>, Query, description = "What was acted on, by itself or among others, such as `user:7`."),
    ("decision" = Option<String>, Query, description = "`allow`, `deny` or `hold`."),
    ("shadow" = Option<String>, Query, description = "Only what passed because its route is in shadow, as it would have been: `deny`, `hold`, `any`."),
    ("reason" = Option<String>, Query), ("request" = Option<String>, Query), ("approval" = Option<String>, Query),
    ("principal" = Option<String>, Query, description = "Who changed something."),
    ("since" = Option<String>, Query, description = "A length of time before now (`24h`), a day or a moment (RFC 3339)."),
    ("until" = Option<String>, Query, description = "The same, exclusive; a day counts whole."),
    ("text" = Option<String>, Query, description = "Stands in one of the record's texts, in capitals or not."),
    ("order" = Option<String>, Query, description = "`newest` first (unless given) or `oldest`."),
    ("limit" = Option<usize>, Query, description = "Most records that meet the filter, 1 to 1000; 100 unless given."),
    ("after" = Option<String>, Query, description = "`next` of the page before."),
), responses((status = 200, body = RecordsView), (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Auditor])?;
    let wanted = wanted(&admin, request.uri())?;
    let page = look_up(
        &admin,
        &caller,
        wanted.filter,
        wanted.order,
        wanted.after,
        wanted.limit,
    )
    .await?;
    let view = RecordsView {
        items: page.records,
        next: page.next.map(|seq| seq.to_string()),
        unresolved: page.unresolved,
    };
    Ok(json(StatusCode::OK, &view))
}

/// The next records that meet the filter and are the caller's to see. Refuses whoever is no auditor.
///
/// # Errors
/// [`Refused`]: the role is missing, or the ledger's files can't be read.
pub(in crate::serve) async fn look_up(
    admin: &Admin,
    caller: &Caller,
    mut filter: Filter,
    order: Order,
    after: Option<u64>,
    limit: usize,
) -> Result<Page, Refused> {
    caller.needs(&[Role::Auditor])?;
    narrow(admin, caller, &mut filter);
    read(admin, filter, order, after, limit, READ_BYTES_MAX).await
}

/// The same without looking at who asks: the caller of this answers for what is shown.
pub(super) async fn read(
    admin: &Admin,
    filter: Filter,
    order: Order,
    after: Option<u64>,
    limit: usize,
    bytes_max: u64,
) -> Result<Page, Refused> {
    let Ok(_reader) = admin.readers.acquire().await else {
        return Err(Refused::new(Reason::Overloaded, "the gate is stopping"));
    };
    let ledger = admin.parts.ledger.clone();
    let reading = tokio::task::spawn_blocking(move || {
        query::page(ledger.directory(), &filter, order, after, limit, bytes_max)
    });
    match reading.await {
        Ok(Ok(page)) => {
            if page.damaged > 0 {
                tracing::error!(
                    lines = page.damaged,
                    "the ledger has lines that are no records: `toolgate ledger verify` says which"
                );
            }
            Ok(page)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the ledger's files could not be read");
            Err(Refused::new(
                Reason::LedgerUnavailable,
                "the ledger's files can't be read now; the gate's log says why",
            ))
        }
        Err(_) => Err(Refused::new(
            Reason::Internal,
            "the ledger could not be read: a fault of the gate",
        )),
    }
}

/// Leaves the caller's own projects of those asked for. Who has every project the gate has sees also what belongs to none.
fn narrow(admin: &Admin, caller: &Caller, filter: &mut Filter) {
    let sees_all = || {
        admin
            .parts
            .gate
            .all_projects(|project| caller.sees(project))
    };
    if filter.projects.is_none() && sees_all() {
        return;
    }
    let asked = filter
        .projects
        .take()
        .unwrap_or_else(|| caller.principal.projects.clone());
    filter.projects = Some(
        asked
            .into_iter()
            .filter(|project| caller.sees(project))
            .collect(),
    );
}

fn wanted(admin: &Admin, target: &Uri) -> Result<Wanted, Refused> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(target)
        .map_err(|error| Refused::invalid(format!("the query can't be read: {error}")))?;
    let now = admin.parts.clock.now().wall;
    let (mut filter, mut order, mut after, mut limit) = (Filter::default(), None, None, None);
    for (name, value) in &pairs {
        let fits = match &**name {
            "order" => once(
                &mut order,
                match &**value {
                    "newest" => Some(Order::Newest),
                    "oldest" => Some(Order::Oldest),
                    _ => return Err(Refused::invalid("`order` is `newest` or `oldest`")),
                },
            ),
            "after" => once(&mut after, value.parse::<u64>().ok()),
            "limit" => once(&mut limit, value.parse::<usize>().ok()),
            _ => {
                filter.set(name, value, now).map_err(|error| {
                    Refused::invalid(format!(
                        "{error}; a list also takes `order`, `limit` and `after`"
                    ))
                })?;
                true
            }
        };
        if !fits {
            let what = "given once: `after` is the `next` of the page before, `limit` a number";
            return Err(Refused::invalid(format!("`{name}` is {what}")));
        }
    }
    Ok(Wanted {
        filter,
        order: order.unwrap_or(Order::Newest),
        after,
        limit: input::limit(limit)?,
    })
}

/// Whether there is a value, and none was given before.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let first = place.is_none();
    *place = value;
    first && place.is_some()
}
