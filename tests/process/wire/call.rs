//! What a call and its backend agree on outside of HTTP: who goes next, and what arrived.

use super::content::Received;
use http::Version;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore};

/// The field by which the backend knows which call it has before it.
pub const CALL: &str = "x-call";

/// One call under way.
pub struct Call {
    /// One permit for each piece that the backend may send.
    pub go: Semaphore,
    /// One permit for each piece that reached the backend.
    pub came: Semaphore,
    /// Told when the stream that the backend had open was given up.
    pub left: Notify,
    seen: Mutex<Option<Seen>>,
}

/// A request as the backend saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub version: Version,
    pub method: String,
    pub authority: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    /// What the client of the connection showed.
    pub certificate: Option<Vec<u8>>,
    /// `None` where the backend answered without reading the body to its end.
    pub body: Option<Received>,
}

impl Call {
    pub fn note(&self, seen: Seen) {
        *self.seen.lock().unwrap() = Some(seen);
    }

    pub fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// The calls of a backend by their names.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<HashMap<String, Arc<Call>>>>);

impl Calls {
    /// The call of this name; made where it is not there yet.
    pub fn of(&self, name: &str) -> Arc<Call> {
        let mut calls = self.0.lock().unwrap();
        let call = calls.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Call {
                go: Semaphore::new(0),
                came: Semaphore::new(0),
                left: Notify::new(),
                seen: Mutex::default(),
            })
        });
        Arc::clone(call)
    }
}
