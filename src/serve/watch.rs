//! Deadlines of connections without a timer each: every connection notes what it is doing, and one coarse sweep a thread
//! looks at all of them. Arming a timer per request costs more than the whole policy step.
//!
//! The sweep bounds what hyper can't be asked to: a head that never ends, a connection that idles, an agent that does not
//! take its answer. It refuses to judge a call in progress: that is the forwarder's, which knows what it waits for.
//!
//! It is long because all that a connection may be doing, and how long, is told here and nowhere else.

use crate::config::Timeouts;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// How often connections are looked at, and so how coarse their timeouts are.
pub const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// How long, when a listener finishes, a connection between calls is waited on for a request that is already under way.
const IN_FLIGHT: Duration = Duration::from_millis(25);
/// Sweeps after which, when a listener finishes, a connection that never asked for anything is taken to have nothing to ask.
const SILENT: u32 = 3;
/// How many sweeps an idle HTTP/2 peer has between being told (GOAWAY) and the end.
const GOODBYE: u32 = 8;
/// The same when the listener finishes. Some clients read nothing between two calls, and would hold it up for ever.
const FAREWELL: u32 = 2;

/// How long a call goes on for a peer that sends no more, while there is nothing to send to it.
pub const HALVED_MAX: Duration = Duration::from_secs(5);

/// The connections of one thread (agents) or one listener (control).
#[derive(Debug)]
pub struct Registry {
    /// Sweeps so far: the clock of this module. Starts at 1, so that 0 can mean "not since any".
    sweeps: AtomicU32,
    limits: Limits,
    /// Closed ones are dropped at the next sweep. Bounded by the listener's caps, and those closed since the last sweep.
    watches: Mutex<Vec<Arc<Watch>>>,
    live: AtomicU32,
    emptied: Notify,
    /// A [`Leaving`].
    leaving: AtomicU8,
}

/// How far the listener is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Leaving {
    /// Not at all.
    Stay,
    /// Every answer says that its connection closes.
    Announce,
    /// What is between calls is closed.
    Finish,
}

/// Timeouts in sweeps.
#[derive(Clone, Copy, Debug)]
struct Limits {
    handshake: u32,
    head: u32,
    idle: u32,
    blocked: u32,
    halved: u32,
}

/// What one connection is doing, as its task notes it and the sweep reads it.
#[derive(Debug)]
pub struct Watch {
    phase: AtomicU8,
    /// In sweeps: when the phase began, or when an idle connection last moved a byte, or was told to finish (HTTP/2).
    since: AtomicU32,
    /// In sweeps: since when the peer takes no bytes; 0: it takes them.
    blocked: AtomicU32,
    /// In sweeps: since when a call's peer sends no more and was sent nothing; 0: it may send.
    halved: AtomicU32,
    /// More of an answer waits for the peer to take what it has.
    withheld: AtomicBool,
    order: AtomicU8,
    /// HTTP/2: calls in progress.
    streams: AtomicU32,
    /// Of the task that drives the connection: one task, so one waker for life.
    waker: OnceLock<Waker>,
    /// Of who reads and who writes once the connection was upgraded.
    upgraded: Mutex<[Option<Waker>; 2]>,
    registry: Arc<Registry>,
}

/// Held by the connection's task; the connection is gone when this is dropped, by panic too.
#[derive(Debug)]
pub struct Watched(Arc<Watch>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Accepted; its first byte is awaited.
    Fresh,
    /// Bytes of a head have come.
    Head,
    /// A call is being answered.
    Busy,
    /// Between calls.
    Idle,
    /// Gone.
    Closed,
    /// TLS is being agreed on.
    Handshake,
    /// HTTP/2: no call is in progress. Bytes alone (a PING) are no call.
    Between,
    /// Another protocol has taken over, and its own limits.
    Upgraded,
    /// HTTP/2: no call has come yet. One is on its way, as on any new connection: told to go elsewhere before it has come, a
    /// client would have opened the connection for nothing.
    Unasked,
}

/// Which way of an upgraded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What the connection's task is told to do. Only ever gets stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// Carry on.
    Go,
    /// Finish the call in progress, take no other.
    Finish,
    /// The head took too long: say so (408) and close.
    Late,
    /// Close at once.
    Cut,
}

impl Registry {
    /// Without connections.
    pub fn new(timeouts: &Timeouts) -> Arc<Self> {
        Arc::new(Self {
            sweeps: AtomicU32::new(1),
            limits: Limits {
                handshake: in_sweeps(timeouts.tls),
                head: in_sweeps(timeouts.head),
                idle: in_sweeps(timeouts.idle),
                blocked: in_sweeps(timeouts.body_idle),
                halved: in_sweeps(HALVED_MAX),
            },
            watches: Mutex::default(),
            live: AtomicU32::new(0),
            emptied: Notify::new(),
            leaving: AtomicU8::new(Leaving::Stay as u8),
        })
    }

    /// Takes a new connection in.
    pub fn watch(self: &Arc<Self>) -> Watched {
        self.watch_in(Phase::Fresh)
    }

    fn watch_in(self: &Arc<Self>, phase: Phase) -> Watched {
        let watch = Arc::new(Watch {
            phase: AtomicU8::new(phase as u8),
            since: AtomicU32::new(self.now()),
            blocked: AtomicU32::new(0),
            halved: AtomicU32::new(0),
            withheld: AtomicBool::new(false),
            order: AtomicU8::new(Order::Go as u8),
            streams: AtomicU32::new(0),
            waker: OnceLock::new(),
            upgraded: Mutex::default(),
            registry: Arc::clone(self),
        });
        self.live.fetch_add(1, Ordering::Relaxed);
        self.all().push(Arc::clone(&watch));
        Watched(watch)
    }

    /// Runs the sweep for as long as it is polled.
    pub async fn sweeping(&self) {
        let mut ticker = tokio::time::interval(SWEEP_EVERY);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticker.tick().await;
        loop {
            ticker.tick().await;
            self.sweep();
        }
    }

    /// One look at every connection.
    pub fn sweep(&self) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        self.all().retain(|watch| {
            if let Some(order) = watch.overdue(now, self.limits) {
                watch.tell(order);
            }
            watch.phase() != Phase::Closed
        });
    }

    /// Gives every connection an order.
    pub fn tell_all(&self, order: Order) {
        for watch in self.all().iter() {
            watch.tell(order);
        }
    }

    /// From now on every answer over HTTP/1 says that its connection closes, so that peers go elsewhere for the next call
    /// instead of finding a connection closed under them.
    pub fn announce(&self) {
        self.leave(Leaving::Announce);
        // HTTP/2 announces it by GOAWAY; calls that the peer sends before it hears of that are still answered. Who has not
        // asked for anything yet hears it with the first answer.
        self.tell_where(Watch::is_multiplexed, Order::Finish);
    }

    /// Calls in progress are finished, connections between calls are closed. Where a head is on its way, its call is
    /// still answered: closing would lose it.
    pub async fn finish(&self) {
        self.leave(Leaving::Finish);
        self.tell_where(|watch| watch.phase() == Phase::Busy, Order::Finish);
        // What the kernel has and we have not read: its connection is idle only to us.
        tokio::time::sleep(IN_FLIGHT).await;
        self.tell_where(Watch::is_idle, Order::Finish);
    }

    /// Connections held now.
    pub fn live(&self) -> u32 {
        self.live.load(Ordering::Acquire)
    }

    /// Resolves when no connection is left. One waiter at a time.
    pub async fn empty(&self) {
        while self.live() > 0 {
            self.emptied.notified().await;
        }
    }

    fn leave(&self, leaving: Leaving) {
        self.leaving.fetch_max(leaving as u8, Ordering::Relaxed);
    }

    fn is_finishing(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) == Leaving::Finish as u8
    }

    fn tell_where(&self, which: impl Fn(&Watch) -> bool, order: Order) {
        for watch in self.all().iter().filter(|watch| which(watch)) {
            watch.tell(order);
        }
    }

    fn now(&self) -> u32 {
        self.sweeps.load(Ordering::Relaxed)
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Bytes came from the peer.
    pub fn received(&self) {
        match self.phase() {
            Phase::Idle => self.enter(Phase::Head),
            // Timed from its acceptance all the same.
            Phase::Fresh => self.phase.store(Phase::Head as u8, Ordering::Relaxed),
            _ => {}
        }
    }

    fn is_multiplexed(&self) -> bool {
        self.phase() == Phase::Between || self.streams.load(Ordering::Relaxed) > 0
    }

    /// Sweeps so far: a clock for who needs no better one.
    pub fn sweep(&self) -> u32 {
        self.registry.now()
    }

    /// Whether an answer must say that its connection closes.
    pub fn announces(&self) -> bool {
        self.registry.leaving.load(Ordering::Relaxed) != Leaving::Stay as u8
    }

    /// Bytes went to the peer.
    pub fn sent(&self) {
        if self.blocked.load(Ordering::Relaxed) != 0 {
            self.blocked.store(0, Ordering::Relaxed);
        }
        if self.withheld.load(Ordering::Relaxed)
            && self.withheld.swap(false, Ordering::Relaxed)
            && let Some(waker) = self.waker.get()
        {
            waker.wake_by_ref();
        }
        if self.halved.load(Ordering::Relaxed) != 0 {
            self.halved.store(self.registry.now(), Ordering::Relaxed);
        }
        if self.phase.load(Ordering::Relaxed) == Phase::Idle as u8 {
            // The tail of an answer is still on its way: not idle yet. HTTP/2 sends for other reasons too.
            self.since.store(self.registry.now(), Ordering::Relaxed);
        }
    }

    /// The peer has said that it sends no more, in the middle of a call that it sent whole. It may be reading still; a
    /// process that is gone looks the same until it is sent something.
    pub fn halve(&self) {
        if self.halved.load(Ordering::Relaxed) == 0 {
            self.halved.store(self.registry.now(), Ordering::Relaxed);
        }
    }

    /// The peer takes no bytes now.
    pub fn blocked(&self) {
        if self.blocked.load(Ordering::Relaxed) == 0 {
            self.blocked.store(self.registry.now(), Ordering::Relaxed);
        }
    }

    /// Whether more of an answer is to wait. If so, the connection's task is woken once bytes go to the peer again.
    pub fn withhold(&self) -> bool {
        let blocked = self.blocked.load(Ordering::Relaxed) != 0;
        if blocked {
            self.withheld.store(true, Ordering::Relaxed);
        }
        blocked
    }

    /// A call's head is complete.
    pub fn begin(&self) {
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
    }

    /// A call's answer is complete, or was given up.
    pub fn rest(&self) {
        self.enter(Phase::Idle);
    }

    /// TLS comes first.
    pub fn handshake(&self) {
        self.enter(Phase::Handshake);
    }

    /// TLS is agreed on: the first head is awaited.
    pub fn greet(&self) {
        self.enter(Phase::Fresh);
    }

    /// It is HTTP/2, which may wait for its first call as for any other.
    pub fn multiplex(&self) {
        self.enter(Phase::Unasked);
    }

    /// HTTP/2: a call begins. What is returned watches it alone: an order to it is an order to that call.
    pub fn begin_stream(&self) -> Watched {
        if self.streams.fetch_add(1, Ordering::Relaxed) == 0 {
            let before = self.phase();
            self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
            if before == Phase::Unasked && self.announces() {
                self.tell(Order::Finish);
            }
        }
        self.registry.watch_in(Phase::Busy)
    }

    /// HTTP/2: a call is over.
    pub fn end_stream(&self) {
        if self.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Phase::Between);
        }
    }

    /// HTTP is over on this connection; it goes on otherwise, and somebody else drives it.
    pub fn upgrade(&self) {
        self.enter(Phase::Upgraded);
    }

    /// Whether somebody else drives it.
    pub fn is_upgraded(&self) -> bool {
        self.phase() == Phase::Upgraded
    }

    /// Notes who drives one way of an upgraded connection, and says what is to be done.
    pub fn attend_upgraded(&self, way: Way, context: &Context<'_>) -> Order {
        let mut wakers = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = &mut wakers[way as usize];
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        drop(wakers);
        self.order()
    }

    /// Whether a call is under way.
    pub fn in_call(&self) -> bool {
        self.phase() == Phase::Busy
    }

    /// Whether it waits between two calls: nothing that could be lost is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase(), Phase::Idle | Phase::Between)
    }

    /// Notes who drives the connection. Call at the start of every poll, before [`Watch::order`].
    pub fn attend(&self, context: &Context<'_>) {
        if self.waker.get().is_none() {
            let _ = self.waker.set(context.waker().clone());
        }
    }

    /// What is to be done.
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Go,
            1 => Order::Finish,
            2 => Order::Late,
            _ => Order::Cut,
        }
    }

    /// A wake-up that is lost to the race with the first poll is made good by the next sweep.
    pub fn tell(&self, order: Order) {
        let before = self.order.fetch_max(order as u8, Ordering::AcqRel);
        if before < order as u8 && matches!(self.phase(), Phase::Between | Phase::Unasked) {
            // However long it was idle before: it has its time to hear this.
            self.since.store(self.registry.now(), Ordering::Relaxed);
        }
        if self.is_upgraded() {
            let wakers = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
            wakers.iter().flatten().for_each(Waker::wake_by_ref);
        } else if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    fn overdue(&self, now: u32, limits: Limits) -> Option<Order> {
        let blocked = self.blocked.load(Ordering::Relaxed);
        if blocked != 0 && now.wrapping_sub(blocked) > limits.blocked {
            return Some(Order::Cut);
        }
        let halved = self.halved.load(Ordering::Relaxed);
        if halved != 0 && now.wrapping_sub(halved) > limits.halved {
            return Some(Order::Cut);
        }
        let spent = now.wrapping_sub(self.since.load(Ordering::Relaxed));
        if self.registry.is_finishing() {
            match self.phase() {
                Phase::Fresh if spent > SILENT => return Some(Order::Cut),
                Phase::Unasked if self.order() == Order::Go => {
                    return (spent > SILENT).then_some(Order::Finish);
                }
                // It was in its head, or in its handshake, when the others were told.
                Phase::Busy | Phase::Idle | Phase::Between if self.order() == Order::Go => {
                    return Some(Order::Finish);
                }
                Phase::Between | Phase::Unasked if spent >= FAREWELL => return Some(Order::Cut),
                _ => {}
            }
        }
        match self.phase() {
            Phase::Fresh | Phase::Head => (spent > limits.head).then_some(Order::Late),
            Phase::Handshake => (spent > limits.handshake).then_some(Order::Cut),
            Phase::Idle => (spent > limits.idle).then_some(Order::Cut),
            // A call may be on its way: the peer is told first, and has time to hear it.
            Phase::Between | Phase::Unasked if self.order() == Order::Finish => {
                (spent >= GOODBYE).then_some(Order::Cut)
            }
            Phase::Between | Phase::Unasked => (spent > limits.idle).then_some(Order::Finish),
            Phase::Busy | Phase::Upgraded | Phase::Closed => None,
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Fresh,
            1 => Phase::Head,
            2 => Phase::Busy,
            3 => Phase::Idle,
            5 => Phase::Handshake,
            6 => Phase::Between,
            7 => Phase::Upgraded,
            8 => Phase::Unasked,
            _ => Phase::Closed,
        }
    }

    fn enter(&self, phase: Phase) {
        self.since.store(self.registry.now(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

impl Watched {
    /// What the connection's parts note their doings in.
    pub fn share(&self) -> Arc<Watch> {
        Arc::clone(&self.0)
    }
}

impl std::ops::Deref for Watched {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.enter(Phase::Closed);
        if self.0.registry.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.registry.emptied.notify_one();
        }
    }
}

/// Rounded up, so that a timeout is never shorter than it says.
fn in_sweeps(span: Duration) -> u32 {
    u32::try_from(span.as_nanos().div_ceil(SWEEP_EVERY.as_nanos())).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests;
