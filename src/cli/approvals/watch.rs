//! `approvals watch`: follows the admin API's events. On a terminal a live inbox, elsewhere a line for each event.
//!
//! A stream that breaks off is opened again, where it was heard last, after a while that grows. A gate that refuses (the
//! key is gone, or its role) ends it.

use super::inbox::{Decision, Inbox, Wish};
use super::screen::{Input, Screen};
use super::{PATH, decide, shown};
use crate::cli::client::Client;
use crate::cli::events::Event;
use crate::cli::output::plain;
use crate::cli::{Failure, Globals};
use crate::io::clock::{self, Clock as _, SystemClock};
use crate::policy::id::ApprovalId;
use http::Method;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, IsTerminal as _, Write as _};
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// First and longest wait before a stream is opened again.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Signals that wait to be dealt with.
const SIGNALS_MAX: usize = 256;
/// What the inbox lists.
const WAITING: &str = "?state=pending";

/// How it goes with the stream.
#[derive(Debug)]
enum Heard {
    Connected,
    Event(Event),
    Lost(String),
}

/// Follows until the person leaves.
pub(super) async fn run(client: &Client, globals: &Globals) -> Result<(), Failure> {
    let (told, mut heard) = mpsc::channel(SIGNALS_MAX);
    let mut following = pin!(follow(client, told));
    let person = io::stdin().is_terminal() && io::stdout().is_terminal() && !globals.json;
    if person {
        return live(client, following, heard).await;
    }
    let mut lines = Lines {
        client,
        json: globals.json,
        begun: false,
    };
    loop {
        // Dealing with one event may take a while; the stream waits meanwhile, as far as it goes.
        let heard = tokio::select! {
            failure = &mut following => return Err(failure),
            heard = heard.recv() => heard,
        };
        let Some(heard) = heard else {
            return Ok(());
        };
        if !lines.tell(heard).await? {
            return Ok(());
        }
    }
}

/// Keeps a stream open; ends only where that is no use.
async fn follow(client: &Client, told: mpsc::Sender<Heard>) -> Failure {
    let mut last_id: Option<String> = None;
    let mut wait = WAIT_MIN;
    let mut connected = false;
    loop {
        match client.events(last_id.as_deref()).await {
            Ok(mut events) => {
                (connected, wait) = (true, WAIT_MIN);
                // Nobody is left to hear it once the receiver is gone; then this is dropped too.
                let _ = told.send(Heard::Connected).await;
                while let Some(event) = events.next().await {
                    let _ = told.send(Heard::Event(event)).await;
                }
                if let Some(id) = events.last_id() {
                    last_id = Some(id.to_owned());
                }
                let _ = told.send(Heard::Lost("the stream ended".to_owned())).await;
            }
            Err(Failure::Unavailable(why)) if connected => {
                let _ = told.send(Heard::Lost(why)).await;
            }
            Err(failure) => return failure,
        }
        // Not all of those who were cut off at the same moment come back at the same moment.
        let [chance] = clock::random::<1>();
        sleep(wait.mul_f64(0.5 + f64::from(chance) / 512.0)).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// A line for each event.
struct Lines<'a> {
    client: &'a Client,
    json: bool,
    /// Whether what waits was told.
    begun: bool,
}

impl Lines<'_> {
    /// False: nobody reads any more.
    async fn tell(&mut self, heard: Heard) -> Result<bool, Failure> {
        match heard {
            Heard::Lost(why) => {
                anstream::eprintln!("{why}; trying again");
                Ok(true)
            }
            // What waits already is told once; a stream that goes on where it was tells the rest itself.
            Heard::Connected if self.begun => Ok(true),
            Heard::Connected => {
                self.begun = true;
                self.waiting().await
            }
            Heard::Event(event) if event.name == "reset" => self.waiting().await,
            Heard::Event(event) => {
                let approval = self.approval(&event).await?;
                self.line(&event, approval.as_ref())
            }
        }
    }

    async fn waiting(&self) -> Result<bool, Failure> {
        let (items, _) = self.client.list(&format!("{PATH}{WAITING}")).await?;
        for item in &items {
            let event = Event {
                name: "waiting".to_owned(),
                data: json!({ "id": item["id"], "project": item["project"], "change": "waiting", "at": item["created_at"] }),
            };
            if !self.line(&event, Some(item))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What an event is about, as far as the principal may see it and it is still kept.
    async fn approval(&self, event: &Event) -> Result<Option<Value>, Failure> {
        let id = event.data["id"].as_str().map(str::parse::<ApprovalId>);
        let Some(Ok(id)) = id.filter(|_| event.name == "approval") else {
            return Ok(None);
        };
        match self.client.call(Method::GET, &super::path(id), None).await {
            Ok(approval) => Ok(Some(approval)),
            Err(Failure::No(_) | Failure::Unavailable(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn line(&self, event: &Event, approval: Option<&Value>) -> Result<bool, Failure> {
        if self.json {
            let mut line = json!({ "event": event.name, "data": event.data });
            if let Some(approval) = approval {
                line["approval"] = approval.clone();
            }
            return written(&line.to_string());
        }
        let data = &event.data;
        let about = match event.name.as_str() {
            "quarantine" => format!(
                "session {} of {}",
                plain(&data["session"]),
                plain(&data["project"])
            ),
            "policy" => "policy".to_owned(),
            _ => plain(&data["id"]),
        };
        let mut line = format!(
            "{}  {:<11} {about}",
            plain(&data["at"]),
            plain(&data["change"])
        );
        if let Some(approval) = approval {
            let now = SystemClock.now().wall;
            let left = shown::left(approval, now)
                .map_or_else(String::new, |left| format!(", time left: {left}"));
            line.push_str(&format!(
                "  {}/{}  {}  ({}: {} agree{left})",
                plain(&approval["project"]),
                plain(&approval["agent"]),
                shown::what(approval),
                plain(&approval["state"]),
                shown::agreement(approval),
            ));
        }
        written(&line)
    }
}

/// One line on standard output; false: nobody reads it.
fn written(line: &str) -> Result<bool, Failure> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Ours(format!("standard output: {error}"))),
    }
}

/// Something that was asked of the gate.
enum Answer {
    Listed(Result<Vec<Value>, Failure>),
    Shown(Result<Value, Failure>),
    Refreshed(Result<Value, Failure>),
    Decided(Result<Value, Failure>),
}

/// What is asked of the gate, one at a time.
enum Job {
    List,
    Show(String),
    /// What is looked at, as it stands now.
    Refresh(String),
    Decide(Decision),
}

type Asking<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

async fn live(
    client: &Client,
    mut following: Pin<&mut impl Future<Output = Failure>>,
    mut heard: mpsc::Receiver<Heard>,
) -> Result<(), Failure> {
    let fault = |error: io::Error| Failure::Ours(format!("signals can't be heard: {error}"));
    let mut terminated = signal(SignalKind::terminate()).map_err(fault)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(fault)?;
    let (screen, mut keys) = Screen::open()?;
    let mut inbox = Inbox::default();
    inbox.link = "connecting".to_owned();
    let mut jobs = VecDeque::new();
    let mut asking: Option<Asking<'_>> = None;
    // The time that is left goes down.
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if asking.is_none() {
            asking = jobs.pop_front().map(|job| ask(client, job));
        }
        let (width, height) = screen.size();
        let rows = inbox.rows(width, height, SystemClock.now().wall);
        if screen.draw(&rows).is_err() {
            return Ok(());
        }
        tokio::select! {
            failure = &mut following => return Err(failure),
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = seconds.tick() => {}
            input = keys.recv() => match input {
                Some(Input::Pressed(key)) => match inbox.key(key, height) {
                    Some(Wish::Quit) => return Ok(()),
                    Some(Wish::Show(id)) => jobs.push_back(Job::Show(id)),
                    Some(Wish::Decide(decision)) => jobs.push_back(Job::Decide(decision)),
                    None => {}
                },
                Some(Input::Resized) => {}
                Some(Input::Gone) | None => return Ok(()),
            },
            Some(heard) = heard.recv() => hear(&mut inbox, &mut jobs, heard),
            answer = answer(&mut asking) => {
                asking = None;
                settle(&mut inbox, &mut jobs, answer);
            }
        }
    }
}

async fn answer(asking: &mut Option<Asking<'_>>) -> Answer {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

fn ask(client: &Client, job: Job) -> Asking<'_> {
    Box::pin(async move {
        match job {
            Job::List => {
                let listed = client.list(&format!("{PATH}{WAITING}")).await;
                Answer::Listed(listed.map(|(items, _)| items))
            }
            Job::Show(id) => Answer::Shown(with_history(client, &id).await),
            Job::Refresh(id) => Answer::Refreshed(one(client, &id).await),
            Job::Decide(decision) => Answer::Decided(word(client, &decision).await),
        }
    })
}

async fn one(client: &Client, id: &str) -> Result<Value, Failure> {
    let path = super::path(known(id)?);
    client.call(Method::GET, &path, None).await
}

/// The approval, and what its session did before, if that can be told.
async fn with_history(client: &Client, id: &str) -> Result<Value, Failure> {
    let mut approval = one(client, id).await?;
    let path = super::path(known(id)?) + "/history";
    if let Ok(history) = client.call(Method::GET, &path, None).await {
        approval["history"] = history;
    }
    Ok(approval)
}

async fn word(client: &Client, decision: &Decision) -> Result<Value, Failure> {
    let id = known(&decision.id)?;
    let note = decision.note.as_deref();
    decide(client, id, decision.word, &decision.digest, note).await
}

/// Ids go into paths, so they are ids.
fn known(id: &str) -> Result<ApprovalId, Failure> {
    let not = |_| Failure::Ours("the gate listed an id that is not one".to_owned());
    id.parse().map_err(not)
}

fn hear(inbox: &mut Inbox, jobs: &mut VecDeque<Job>, heard: Heard) {
    match heard {
        Heard::Connected => {
            inbox.link = "live".to_owned();
            again(inbox, jobs);
        }
        Heard::Lost(_) => inbox.link = "not connected: trying again".to_owned(),
        Heard::Event(event) => match event.name.as_str() {
            "approval" | "reset" => again(inbox, jobs),
            "quarantine" => inbox.notice(format!(
                "session {} was {}",
                plain(&event.data["session"]),
                plain(&event.data["change"])
            )),
            _ => {}
        },
    }
}

/// Everything on the screen is looked at anew; however much happens, at most once at a time.
fn again(inbox: &Inbox, jobs: &mut VecDeque<Job>) {
    jobs.retain(|job| !matches!(job, Job::List | Job::Refresh(_)));
    jobs.push_back(Job::List);
    jobs.extend(inbox.open().map(|id| Job::Refresh(id.to_owned())));
}

fn settle(inbox: &mut Inbox, jobs: &mut VecDeque<Job>, answer: Answer) {
    match answer {
        Answer::Listed(Ok(items)) => inbox.listed(items),
        Answer::Shown(Ok(approval)) => inbox.shown(approval),
        // Unless the person has gone back meanwhile.
        Answer::Refreshed(Ok(approval)) => {
            if inbox.open() == approval["id"].as_str() {
                inbox.shown(approval);
            }
        }
        Answer::Decided(decided) => {
            inbox.decided(decided.map_err(|failure| failure.to_string()));
            again(inbox, jobs);
        }
        Answer::Listed(Err(failure))
        | Answer::Shown(Err(failure))
        | Answer::Refreshed(Err(failure)) => {
            inbox.notice(failure.to_string());
        }
    }
}
