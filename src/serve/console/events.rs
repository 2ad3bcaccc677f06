//! News for a page that is open: the admin API's stream of events, for as long as the visit lasts.

use super::door::{Guest, visitor};
use super::page::Trouble;
use super::visits::Look;
use crate::serve::admin::{Admin, events};
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often it is looked whether the visit still lasts.
const LOOK: Duration = Duration::from_secs(1);
/// Told to the page before the stream ends for good.
const ENDED: &str = "event: ended\ndata: {}\n\n";

/// `GET /events`
pub(super) async fn listen(
    State(admin): State<Arc<Admin>>,
    guest: Guest,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let Some(visitor) = visitor(&admin, &guest.peer, &headers, Look::Watch) else {
        // Status 204 tells an event source not to come again.
        return Ok(http::StatusCode::NO_CONTENT.into_response());
    };
    let response = events::stream(&admin, &visitor.caller, &headers)?;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (head, body) = response.into_parts();
    let watched = Watched {
        events: Some(body.into_data_stream()),
        looks,
        admin,
        guest,
        headers,
    };
    let stream = futures_util::stream::unfold(watched, |mut watched| async {
        let next = watched.next().await?;
        Some((next, watched))
    });
    Ok(Response::from_parts(head, Body::from_stream(stream)))
}

/// A stream of events and the visit that it belongs to.
struct Watched {
    /// `None`: it has ended.
    events: Option<BodyDataStream>,
    looks: Interval,
    admin: Arc<Admin>,
    guest: Guest,
    headers: HeaderMap,
}

impl Watched {
    async fn next(&mut self) -> Option<Result<Bytes, axum::Error>> {
        let events = self.events.as_mut()?;
        loop {
            tokio::select! {
                biased;
                _ = self.looks.tick() => {
                    let lasts = visitor(&self.admin, &self.guest.peer, &self.headers, Look::Watch);
                    if lasts.is_none() {
                        self.events = None;
                        return Some(Ok(Bytes::from_static(ENDED.as_bytes())));
                    }
                }
                event = events.next() => {
                    return event;
                }
            }
        }
    }
}
