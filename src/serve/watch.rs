//! Deadlines of connections without a timer each: every connection notes what it is doing, and one coarse sweep a thread
//! looks at all of them. Arming a timer per request costs more than the whole policy step.
//!
//! The sweep bounds what hyper can't be asked to: a head that never ends, a connection that idles, an agent that does not
//! take its answer. It refuses to judge a call in progress: that is the forwarder's, which knows what it waits for.

use crate::config::Timeouts;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// How often connections are looked at, and so how coarse their timeouts are.
pub const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// How long, when a listener finishes, a connection between calls is waited on for a request that is already under way.
const IN_FLIGHT: Duration = Duration::from_millis(25);
/// Sweeps after which, when a listener finishes, a connection that never said anything is taken to have nothing to say.
const SILENT: u32 = 3;

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
    head: u32,
    idle: u32,
    blocked: u32,
}

/// What one connection is doing, as its task notes it and the sweep reads it.
#[derive(Debug)]
pub struct Watch {
    phase: AtomicU8,
    /// In sweeps: when the phase began, or when an idle connection last moved a byte.
    since: AtomicU32,
    /// In sweeps: since when the peer takes no bytes; 0: it takes them.
    blocked: AtomicU32,
    order: AtomicU8,
    /// Of the task that drives the connection: one task, so one waker for life.
    waker: OnceLock<Waker>,
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
                head: in_sweeps(timeouts.head),
                idle: in_sweeps(timeouts.idle),
                blocked: in_sweeps(timeouts.body_idle),
            },
            watches: Mutex::default(),
            live: AtomicU32::new(0),
            emptied: Notify::new(),
            leaving: AtomicU8::new(Leaving::Stay as u8),
        })
    }

    /// Takes a new connection in.
    pub fn watch(self: &Arc<Self>) -> Watched {
        let watch = Arc::new(Watch {
            phase: AtomicU8::new(Phase::Fresh as u8),
            since: AtomicU32::new(self.now()),
            blocked: AtomicU32::new(0),
            order: AtomicU8::new(Order::Go as u8),
            waker: OnceLock::new(),
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
    }

    /// Calls in progress are finished, connections between calls are closed. Where a head is on its way, its call is
    /// still answered: closing would lose it.
    pub async fn finish(&self) {
        self.leave(Leaving::Finish);
        self.tell_those_in(Phase::Busy, Order::Finish);
        // What the kernel has and we have not read: its connection is idle only to us.
        tokio::time::sleep(IN_FLIGHT).await;
        self.tell_those_in(Phase::Idle, Order::Finish);
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

    fn tell_those_in(&self, phase: Phase, order: Order) {
        for watch in self.all().iter().filter(|watch| watch.phase() == phase) {
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
            Phase::Head | Phase::Busy | Phase::Closed => {}
        }
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
        if self.phase.load(Ordering::Relaxed) == Phase::Idle as u8 {
            // The tail of an answer is still on its way: not idle yet.
            self.since.store(self.registry.now(), Ordering::Relaxed);
        }
    }

    /// The peer takes no bytes now.
    pub fn blocked(&self) {
        if self.blocked.load(Ordering::Relaxed) == 0 {
            self.blocked.store(self.registry.now(), Ordering::Relaxed);
        }
    }

    /// A call's head is complete.
    pub fn begin(&self) {
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
    }

    /// A call's answer is complete, or was given up.
    pub fn rest(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether it is in the middle of something that a peer would miss.
    pub fn in_call(&self) -> bool {
        matches!(self.phase(), Phase::Busy | Phase::Head)
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
    fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    fn overdue(&self, now: u32, limits: Limits) -> Option<Order> {
        let blocked = self.blocked.load(Ordering::Relaxed);
        if blocked != 0 && now.wrapping_sub(blocked) > limits.blocked {
            return Some(Order::Cut);
        }
        let spent = now.wrapping_sub(self.since.load(Ordering::Relaxed));
        if self.registry.is_finishing() {
            match self.phase() {
                Phase::Fresh if spent > SILENT => return Some(Order::Cut),
                // It was in its head when the others were told.
                Phase::Busy | Phase::Idle if self.order() == Order::Go => {
                    return Some(Order::Finish);
                }
                _ => {}
            }
        }
        match self.phase() {
            Phase::Fresh | Phase::Head => (spent > limits.head).then_some(Order::Late),
            Phase::Idle => (spent > limits.idle).then_some(Order::Cut),
            Phase::Busy | Phase::Closed => None,
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Fresh,
            1 => Phase::Head,
            2 => Phase::Busy,
            3 => Phase::Idle,
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
mod tests {
    use super::*;

    fn registry() -> Arc<Registry> {
        Registry::new(&Timeouts {
            head: SWEEP_EVERY * 2,
            body_idle: SWEEP_EVERY * 3,
            idle: SWEEP_EVERY * 5,
        })
    }

    fn sweeps(registry: &Registry, times: u32) {
        (0..times).for_each(|_| registry.sweep());
    }

    #[test]
    fn a_connection_that_never_sends_a_head_is_late() {
        let registry = registry();
        let watched = registry.watch();
        sweeps(&registry, 2);
        assert_eq!(watched.order(), Order::Go);
        watched.received();
        sweeps(&registry, 1);
        assert_eq!(
            watched.order(),
            Order::Late,
            "a trickle of bytes buys no time"
        );
    }

    #[test]
    fn an_idle_connection_is_cut_and_one_in_a_call_is_not() {
        let registry = registry();
        let (idle, busy) = (registry.watch(), registry.watch());
        idle.begin();
        busy.begin();
        idle.rest();
        sweeps(&registry, 6);
        assert_eq!((idle.order(), busy.order()), (Order::Cut, Order::Go));
    }

    #[test]
    fn the_next_head_is_timed_from_its_first_byte() {
        let registry = registry();
        let watched = registry.watch();
        watched.begin();
        watched.rest();
        sweeps(&registry, 4);
        watched.received();
        sweeps(&registry, 2);
        assert_eq!(watched.order(), Order::Go);
        sweeps(&registry, 1);
        assert_eq!(watched.order(), Order::Late);
    }

    #[test]
    fn a_peer_that_takes_no_bytes_is_cut_even_in_a_call() {
        let registry = registry();
        let watched = registry.watch();
        watched.begin();
        watched.blocked();
        sweeps(&registry, 3);
        watched.sent();
        watched.blocked();
        sweeps(&registry, 3);
        assert_eq!(watched.order(), Order::Go, "it moved in between");
        sweeps(&registry, 1);
        assert_eq!(watched.order(), Order::Cut);
    }

    #[tokio::test]
    async fn who_finishes_closes_what_is_between_calls_and_hears_out_who_has_begun_to_speak() {
        let registry = Registry::new(&Timeouts {
            head: SWEEP_EVERY * 40,
            body_idle: SWEEP_EVERY * 40,
            idle: SWEEP_EVERY * 40,
        });
        let (silent, speaking, busy, idle) = (
            registry.watch(),
            registry.watch(),
            registry.watch(),
            registry.watch(),
        );
        speaking.received();
        busy.begin();
        idle.begin();
        idle.rest();
        assert!(!busy.announces());
        registry.finish().await;
        assert!(busy.announces());
        let orders = || [&silent, &speaking, &busy, &idle].map(|each| each.order());
        assert_eq!(
            orders(),
            [Order::Go, Order::Go, Order::Finish, Order::Finish]
        );
        sweeps(&registry, SILENT);
        speaking.begin();
        sweeps(&registry, 1);
        assert_eq!(
            orders(),
            [Order::Cut, Order::Finish, Order::Finish, Order::Finish]
        );
    }

    #[test]
    fn a_closed_connection_is_forgotten_and_orders_never_soften() {
        let registry = registry();
        let watched = registry.watch();
        registry.tell_all(Order::Cut);
        registry.tell_all(Order::Finish);
        assert_eq!(watched.order(), Order::Cut);
        drop(watched);
        sweeps(&registry, 1);
        assert_eq!((registry.live(), registry.all().len()), (0, 0));
    }
}
