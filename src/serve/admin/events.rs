//! Events as they happen (Server-Sent Events of the WHATWG HTML standard): what changes in approvals, quarantines and
//! policies of the listener's own projects.
//!
//! An event says that something changed, never what is asked: whoever hears it looks, with their own rights. `id` lets a
//! client that was away resume; where that is not possible the first event is `reset`: look at everything anew. Who
//! listens is looked up again before every event, so that a key that is taken away hears nothing more; a reload is an
//! event itself, so its stream ends at once.

use super::caller::Caller;
use super::problem::{ProblemDocument, Refused};
use super::{Admin, Principal};
use crate::config::Role;
use crate::policy::decision::Reason;
use crate::policy::name::PrincipalName;
use crate::store::news::{Item, KEPT, News, What};
use aws_lc_rs::hmac;
use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Whoever listens.
#[derive(Debug)]
pub(in crate::serve) struct Feeds {
    /// Makes ids that tell no more than where to go on: a number would tell how much happens in others' projects.
    key: hmac::Key,
    seats: Arc<Mutex<HashMap<PrincipalName, usize>>>,
    /// Whether all of them are to end.
    closing: watch::Sender<bool>,
}

/// Most streams at once, of one principal and in all.
const STREAMS_MAX: usize = 256;
const STREAMS_OF_ONE_MAX: usize = 32;
/// How often a stream on which nothing happens shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client waits before it comes again.
const RETRY: Duration = Duration::from_secs(2);
/// Roles that may listen.
const HEARING: &[Role] = &[Role::Approver, Role::Operator];

/// Hear of approvals, quarantines and reloads of your projects as they happen (`text/event-stream`): events `approval`
/// `{id, project, change, at}`, `quarantine` `{session, project, change, at}`, `policy` `{change, at}`, and `reset`, after
/// which everything is to be looked at anew. Needs the role approver or operator.
#[utoipa::path(get, path = "/v1/events", params(
    ("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that was heard: go on behind it."),
), responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    (status = 503, description = "Too many streams.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn listen(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    stream(&admin, &caller, request.headers())
}

/// The stream of events for an authenticated principal, behind the `Last-Event-ID` among these header fields.
///
/// # Errors
/// [`Refused`]: the principal may not listen, or as many listen as may.
pub(in crate::serve) fn stream(
    admin: &Arc<Admin>,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    caller.needs(HEARING)?;
    let seat = admin.feeds.seat(&caller.principal.name)?;
    let last = headers.get("last-event-id");
    let last = last.map(|id| id.to_str().unwrap_or_default());
    let news = admin.parts.sessions.news();
    let (from, known) = admin.feeds.place(news, last);
    let missed = news.after(Some(from));
    let id = admin.feeds.id(from);
    let first = match known && !missed.gap {
        // Without data it is no event; the client only notes where it is.
        true => Event::default().id(id),
        false => reset().id(id),
    };
    let feed = Feed {
        first: Some(first.retry(RETRY)),
        backlog: missed.items.into(),
        rest: missed.rest,
        closing: admin.feeds.closing.subscribe(),
        principal: Arc::clone(&caller.principal),
        admin: Arc::clone(admin),
        _seat: seat,
    };
    let events = futures_util::stream::unfold(feed, |mut feed| async {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    let beat = KeepAlive::new().interval(HEARTBEAT);
    let mut response = Sse::new(events).keep_alive(beat).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers before they pass them on are asked not to.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

impl Feeds {
    /// Nobody listens yet. `key` is this run's own.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            seats: Arc::default(),
            closing: watch::Sender::new(false),
        }
    }

    /// All streams end, and those that begin from now on.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    fn id(&self, number: u64) -> String {
        let tag = hmac::sign(&self.key, &number.to_be_bytes());
        tag.as_ref()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Behind which item a client goes on, and whether that is where it was.
    fn place(&self, news: &News, last_id: Option<&str>) -> (u64, bool) {
        let newest = news.last();
        let Some(id) = last_id else {
            return (newest, true);
        };
        // What is older is not kept either.
        let oldest = newest.saturating_sub(KEPT as u64);
        let found = (oldest..=newest)
            .rev()
            .find(|number| self.id(*number) == id);
        found.map_or((newest, false), |number| (number, true))
    }

    fn seat(&self, principal: &PrincipalName) -> Result<Seat, Refused> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = seats.values().sum();
        let own = seats.get(principal).copied().unwrap_or(0);
        if all >= STREAMS_MAX || own >= STREAMS_OF_ONE_MAX {
            return Err(Refused::new(
                Reason::Overloaded,
                format!(
                    "as many streams are open as may: {STREAMS_MAX} in all, {STREAMS_OF_ONE_MAX} of one principal; close one"
                ),
            ));
        }
        *seats.entry(principal.clone()).or_default() += 1;
        Ok(Seat {
            seats: Arc::clone(&self.seats),
            principal: principal.clone(),
        })
    }
}

/// One stream's place among those that may be.
#[derive(Debug)]
struct Seat {
    seats: Arc<Mutex<HashMap<PrincipalName, usize>>>,
    principal: PrincipalName,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = seats.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                seats.remove(&self.principal);
            }
        }
    }
}

/// One stream.
struct Feed {
    first: Option<Event>,
    backlog: VecDeque<Item>,
    rest: broadcast::Receiver<Item>,
    closing: watch::Receiver<bool>,
    principal: Arc<Principal>,
    admin: Arc<Admin>,
    _seat: Seat,
}

impl Feed {
    /// The next event; `None`: the stream ends.
    async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let item = match self.backlog.pop_front() {
                Some(item) => item,
                None => tokio::select! {
                    biased;
                    _ = self.closing.wait_for(|closing| *closing) => return None,
                    item = self.rest.recv() => match item {
                        Ok(item) => item,
                        Err(broadcast::error::RecvError::Closed) => return None,
                        // It reads too slowly: nothing is kept for it alone.
                        Err(broadcast::error::RecvError::Lagged(_)) => return Some(reset()),
                    },
                },
            };
            self.principal = self.still()?;
            if let Some(event) = self.event(&item) {
                return Some(event.id(self.admin.feeds.id(item.number)));
            }
        }
    }

    /// Who listens, as the server file says now; `None`: their key or role is gone.
    fn still(&self) -> Option<Arc<Principal>> {
        let principals = self.admin.parts.principals.load();
        let now = principals.find(&self.principal.key)?;
        let hears = HEARING.iter().any(|role| now.roles.contains(role));
        (now.name == self.principal.name && hears).then_some(now)
    }

    /// As it is told; `None`: it is none of the listener's business.
    fn event(&self, item: &Item) -> Option<Event> {
        let own = |project| self.principal.projects.contains(project);
        if !item.project.as_ref().is_none_or(own) {
            return None;
        }
        let at = super::view::time(item.at);
        let project = item.project.as_ref().map(ToString::to_string);
        let (name, data) = match &item.what {
            What::Approval { id, change } => (
                "approval",
                json!({ "id": id.to_string(), "project": project, "change": change, "at": at }),
            ),
            What::Quarantine { session, change } => (
                "quarantine",
                json!({ "session": session.to_string(), "project": project, "change": change, "at": at }),
            ),
            What::Pins { tool, change } => (
                "pins",
                json!({ "tool": tool.as_str(), "project": project, "change": change, "at": at }),
            ),
            What::Policy { change } => ("policy", json!({ "change": change, "at": at })),
        };
        Some(Event::default().event(name).data(data.to_string()))
    }
}

fn reset() -> Event {
    Event::default().event("reset").data("{}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::time::Timestamp;

    fn happens(news: &News) {
        let what = What::Policy { change: "reloaded" };
        news.tell(Timestamp::from_micros(0), None, what);
    }

    #[test]
    fn a_client_goes_on_where_it_was_and_one_of_another_run_is_told_so() {
        let (feeds, news) = (Feeds::new(&[1; 32]), News::default());
        assert_eq!(feeds.place(&news, None), (0, true));
        let before = feeds.id(0);
        for _ in 0..3 {
            happens(&news);
        }
        assert_eq!(feeds.place(&news, Some(&feeds.id(1))), (1, true));
        assert_eq!(feeds.place(&news, Some(&before)), (0, true));
        let other = Feeds::new(&[2; 32]);
        for id in [other.id(1).as_str(), "", "1"] {
            assert_eq!(feeds.place(&news, Some(id)), (3, false), "{id}");
        }
        for _ in 0..KEPT {
            happens(&news);
        }
        assert!(!feeds.place(&news, Some(&before)).1);
    }

    #[test]
    fn streams_are_bounded_for_one_principal_and_in_all_and_a_closed_one_makes_room() {
        let feeds = Feeds::new(&[1; 32]);
        let name = |n: usize| PrincipalName::parse(&format!("p{n}")).unwrap();
        let mut seats = Vec::new();
        for _ in 0..STREAMS_OF_ONE_MAX {
            seats.push(feeds.seat(&name(0)).unwrap());
        }
        assert!(feeds.seat(&name(0)).is_err());
        for n in STREAMS_OF_ONE_MAX..STREAMS_MAX {
            seats.push(feeds.seat(&name(n)).unwrap());
        }
        assert!(feeds.seat(&name(1)).is_err());
        seats.pop();
        feeds.seat(&name(1)).unwrap();
        seats.clear();
        assert!(feeds.seats.lock().unwrap().is_empty());
    }
}
