use crate::ledger::query::{self, Filter, Order, Page};
use crate::policy::decision::Reason;
use crate::serve::admin::Admin;
use crate::serve::admin::caller::Caller;
use crate::serve::admin::problem::Refused;

pub(super) async fn look_up(
    admin: &Admin,
    caller: &Caller,
    mut filter: Filter,
    order: Order,
    after: Option<u64>,
    limit: usize,
) -> Result<Page, Refused> {
    filter.projects = Some(caller.principal.projects.clone());
    let directory = admin.parts.ledger.directory().to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        query::page(&directory, &filter, order, after, limit, 64 << 20)
    });
    match reading.await {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(_)) => Err(Refused::ledger_unavailable()),
        Err(_) => Err(Refused::new(Reason::Internal, "a fault of the gate")),
    }
}
