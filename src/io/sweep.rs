//! The coarse watch over calls in flight: has the session ended, has a wait lasted too long?
//!
//! It stands beside steps 3 (a body that is read) and 8 (forwarding). Arming a timer per request or per read costs more
//! than the policy does, so each thread has one task that looks at every call in flight each [`PERIOD`]. A deadline is
//! therefore never early and at most two periods late. The task rests while nothing is in flight.
//!
//! It refuses to know what a call is: it sees a [`Liveness`], a span, and whom to wake. What a lapse means is the owner's
//! to say.

use crate::io::clock::Clock;
use crate::io::upstream::Cut;
use crate::policy::time::Tick;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// Whether calls of a session may go on.
pub trait Liveness: Send + Sync + 'static {
    /// False once it was revoked, has expired or is in quarantine, or a parent is.
    fn live(&self, now: Tick) -> bool;
}

/// Why a watched wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// The armed span passed.
    Deadline,
    /// The session is no longer live.
    Ended,
}

/// One thread's watch.
pub struct Sweep {
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    rouse: Notify,
    /// The task is gone with its runtime; the next call on this thread starts another.
    stopped: AtomicBool,
}

/// One wait that is watched. Dropping it ends the watch.
pub struct Guard {
    sweep: Arc<Sweep>,
    slot: u32,
}

/// Arms and disarms a guard's deadline from the task that carries the request's body, for as long as the guard lives
/// and has not [settled](Guard::settle).
pub struct Remote {
    sweep: Arc<Sweep>,
    slot: u32,
    turn: u32,
}

/// How often calls in flight are looked at.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Passes without a call in flight after which the task rests, so that calls one after the other don't wake it each time.
const QUIET_PASSES_MAX: u32 = 20;

/// This thread's sweep by `clock`. Must be called within a tokio runtime.
pub fn here(clock: &Arc<dyn Clock>) -> Arc<Sweep> {
    thread_local! {
        static HERE: RefCell<Option<Arc<Sweep>>> = const { RefCell::new(None) };
    }
    HERE.with_borrow_mut(|here| {
        if let Some(sweep) = here
            && Arc::ptr_eq(&sweep.clock, clock)
            && !sweep.stopped.load(Ordering::Relaxed)
        {
            return sweep.clone();
        }
        let sweep = Sweep::start(clock.clone());
        *here = Some(sweep.clone());
        sweep
    })
}

impl Sweep {
    fn start(clock: Arc<dyn Clock>) -> Arc<Self> {
        let sweep = Arc::new(Self {
            clock,
            table: Mutex::default(),
            rouse: Notify::new(),
            stopped: AtomicBool::new(false),
        });
        tokio::spawn(run(sweep.clone()));
        sweep
    }

    /// This moment.
    pub fn now(&self) -> Tick {
        self.clock.tick()
    }

    /// Watches a wait: `session`'s life at once, `span` whenever it is armed.
    pub fn guard(self: &Arc<Self>, session: Option<Arc<dyn Liveness>>, span: Duration) -> Guard {
        let mut table = self.table();
        let slot = match table.free.pop() {
            Some(slot) => slot,
            None => {
                table.slots.push(Slot::default());
                u32::try_from(table.slots.len() - 1).expect("calls in flight fit 32 bits")
            }
        };
        let fresh = &mut table.slots[slot as usize];
        fresh.taken = true;
        fresh.session = session;
        fresh.span = span;
        table.taken += 1;
        if std::mem::take(&mut table.resting) {
            self.rouse.notify_one();
        }
        drop(table);
        Guard {
            sweep: self.clone(),
            slot,
        }
    }

    /// Looks at every call once. False if there is none.
    fn pass(&self, wake: &mut Vec<Waker>) -> bool {
        let now = self.now();
        let mut table = self.table();
        if table.taken == 0 {
            return false;
        }
        for slot in table.slots.iter_mut().filter(|slot| slot.taken) {
            slot.look(now);
            if slot.lapse.is_some() {
                wake.extend(slot.waker.take());
            }
        }
        drop(table);
        // Outside the lock: a waker may run code that takes it.
        for waker in wake.drain(..) {
            waker.wake();
        }
        true
    }

    /// True if nothing was in flight: the next guard rouses the task.
    fn rest(&self) -> bool {
        let mut table = self.table();
        table.resting = table.taken == 0;
        table.resting
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere can't leave a slot half written: each change is a few plain stores.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(sweep: Arc<Sweep>) {
    struct Stopped(Arc<Sweep>);
    impl Drop for Stopped {
        fn drop(&mut self) {
            self.0.stopped.store(true, Ordering::Relaxed);
        }
    }
    let sweep = Stopped(sweep);
    let mut wake = Vec::new();
    let mut quiet = 0;
    loop {
        tokio::time::sleep(PERIOD).await;
        if sweep.0.pass(&mut wake) {
            quiet = 0;
            continue;
        }
        quiet += 1;
        if quiet >= QUIET_PASSES_MAX && sweep.0.rest() {
            sweep.0.rouse.notified().await;
            quiet = 0;
        }
    }
}

impl Guard {
    /// The span begins now (again). A deadline that passed and was not acted upon is forgotten.
    pub fn arm(&self) {
        self.with(Slot::arm);
    }

    /// The wait lapses at `due`: for waits so long that the owner looks at the clock itself.
    pub fn until(&self, due: Tick) {
        self.with(|slot| slot.wait(Wait::Due(due)));
    }

    /// No deadline for now; one that passed and was not acted upon is forgotten.
    pub fn disarm(&self) {
        self.with(Slot::disarm);
    }

    /// No deadline ever again: only the session's life is watched from here on.
    pub fn settle(&self) {
        self.with(|slot| slot.wait(Wait::Settled));
    }

    /// What is cut at once, without waiting for the owner to be polled, when the session ends: a connection of the call's
    /// own, its stream on a shared one, or a task.
    pub fn cut(&self, cut: impl Into<Cut>) {
        let cut = cut.into();
        let before = self.with(|slot| slot.cut.replace(cut));
        // Outside the lock, as everything that may run code.
        drop(before);
    }

    /// A handle for the task that carries the body.
    pub fn remote(&self) -> Remote {
        Remote {
            sweep: self.sweep.clone(),
            slot: self.slot,
            turn: self.with(|slot| slot.turn),
        }
    }

    /// Ready once the wait has lapsed.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Lapse> {
        self.with(|slot| match slot.lapse {
            Some(lapse) => Poll::Ready(lapse),
            None => {
                match &mut slot.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        })
    }

    /// `future`'s output, or why it was not waited for any longer.
    ///
    /// It is the caller's to pin: a future that takes another one by value has room for it twice.
    ///
    /// # Errors
    /// The [`Lapse`]; `future` is given up.
    pub fn watch<F: Future + Unpin>(
        &self,
        mut future: F,
    ) -> impl Future<Output = Result<F::Output, Lapse>> {
        poll_fn(move |cx| {
            let lapse = self.poll(cx);
            if lapse == Poll::Ready(Lapse::Ended) {
                return Poll::Ready(Err(Lapse::Ended));
            }
            // An answer that is there is not lost to a deadline that passed in the same moment.
            match Pin::new(&mut future).poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => lapse.map(Err),
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Slot) -> T) -> T {
        act(&mut self.sweep.table().slots[self.slot as usize])
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut table = self.sweep.table();
        let slot = &mut table.slots[self.slot as usize];
        let turn = slot.turn.wrapping_add(1);
        let old = std::mem::replace(
            slot,
            Slot {
                turn,
                ..Slot::default()
            },
        );
        table.free.push(self.slot);
        table.taken -= 1;
        drop(table);
        // Outside the lock: the last reference to a session may be this one.
        drop(old);
    }
}

impl Remote {
    /// As [`Guard::arm`].
    pub fn arm(&self) {
        self.with(Slot::arm);
    }

    /// As [`Guard::disarm`].
    pub fn disarm(&self) {
        self.with(Slot::disarm);
    }

    fn with(&self, act: impl FnOnce(&mut Slot)) {
        let mut table = self.sweep.table();
        let slot = &mut table.slots[self.slot as usize];
        // Another call may have the slot by now.
        if slot.taken && slot.turn == self.turn {
            act(slot);
        }
    }
}

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    /// Last freed first, so that the same few slots stay warm.
    free: Vec<u32>,
    taken: usize,
    resting: bool,
}

#[derive(Default)]
struct Slot {
    taken: bool,
    /// Counts the slot's owners.
    turn: u32,
    wait: Wait,
    span: Duration,
    session: Option<Arc<dyn Liveness>>,
    lapse: Option<Lapse>,
    waker: Option<Waker>,
    cut: Option<Cut>,
}

/// The deadline's state. `Fresh` spares the owner a look at the clock: the next pass has the time.
#[derive(Clone, Copy, Default)]
enum Wait {
    #[default]
    Off,
    Fresh,
    Due(Tick),
    Settled,
}

impl Slot {
    fn arm(&mut self) {
        self.wait(Wait::Fresh);
    }

    fn disarm(&mut self) {
        self.wait(Wait::Off);
    }

    fn wait(&mut self, next: Wait) {
        match self.wait {
            Wait::Off | Wait::Fresh | Wait::Due(_) => self.wait = next,
            Wait::Settled => {}
        }
        // What was waited for came in the moment of the deadline: it came.
        if self.lapse == Some(Lapse::Deadline) {
            self.lapse = None;
        }
    }

    fn look(&mut self, now: Tick) {
        if self.lapse.is_some() {
            return;
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| !session.live(now))
        {
            self.lapse = Some(Lapse::Ended);
            if let Some(cut) = self.cut.take() {
                cut.cut();
            }
            return;
        }
        match self.wait {
            Wait::Off | Wait::Settled => {}
            Wait::Fresh => self.wait = Wait::Due(now.plus(self.span)),
            Wait::Due(due) => {
                if now >= due {
                    self.lapse = Some(Lapse::Deadline);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::SystemClock;
    use std::future::pending;

    struct Switch(AtomicBool);

    impl Liveness for Switch {
        fn live(&self, _now: Tick) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    #[tokio::test]
    async fn a_session_that_ends_lapses_its_calls_within_a_second_and_no_other() {
        let sweep = here(&clock());
        let ended = Arc::new(Switch(AtomicBool::new(true)));
        let lives = Arc::new(Switch(AtomicBool::new(true)));
        let of_ended = sweep.guard(Some(ended.clone()), Duration::from_secs(60));
        let of_living = sweep.guard(Some(lives), Duration::from_secs(60));
        let task = tokio::spawn(pending::<()>());
        of_ended.cut(task.abort_handle());
        ended.0.store(false, Ordering::Relaxed);
        let lapse = tokio::time::timeout(Duration::from_secs(1), of_ended.watch(pending::<()>()));
        assert_eq!(lapse.await.unwrap(), Err(Lapse::Ended));
        assert!(task.await.unwrap_err().is_cancelled());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(of_living.poll(&mut cx).is_pending());
    }

    #[tokio::test]
    async fn a_deadline_lapses_only_while_it_is_armed() {
        let sweep = here(&clock());
        let guard = sweep.guard(None, Duration::from_millis(50));
        let quiet = tokio::time::timeout(Duration::from_millis(400), guard.watch(pending::<()>()));
        assert!(quiet.await.is_err());
        guard.arm();
        let lapse = tokio::time::timeout(Duration::from_secs(2), guard.watch(pending::<()>()));
        assert_eq!(lapse.await.unwrap(), Err(Lapse::Deadline));
    }

    #[tokio::test]
    async fn a_deadline_that_passed_in_the_moment_of_the_answer_does_not_haunt_what_follows() {
        let sweep = here(&clock());
        let guard = sweep.guard(None, Duration::ZERO);
        guard.arm();
        let lapse = guard.watch(pending::<()>()).await;
        assert_eq!(lapse, Err(Lapse::Deadline));
        guard.settle();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(guard.poll(&mut cx).is_pending());
    }

    #[tokio::test]
    async fn a_settled_guard_and_a_reused_slot_ignore_the_old_remote() {
        let sweep = here(&clock());
        let guard = sweep.guard(None, Duration::ZERO);
        let remote = guard.remote();
        guard.settle();
        remote.arm();
        assert!(matches!(guard.with(|slot| slot.wait), Wait::Settled));
        drop(guard);
        let next = sweep.guard(None, Duration::ZERO);
        remote.arm();
        assert!(matches!(next.with(|slot| slot.wait), Wait::Off));
        assert_eq!(sweep.table().slots.len(), 1);
    }

    #[tokio::test]
    async fn a_resting_sweep_wakes_for_the_next_call() {
        let sweep = here(&clock());
        while !sweep.table().resting {
            tokio::time::sleep(PERIOD).await;
        }
        let ended = Arc::new(Switch(AtomicBool::new(false)));
        let guard = sweep.guard(Some(ended), Duration::ZERO);
        assert_eq!(guard.watch(pending::<()>()).await, Err(Lapse::Ended));
    }

    #[test]
    fn a_sweep_that_went_with_its_runtime_is_replaced() {
        let clock = clock();
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let ended = Arc::new(Switch(AtomicBool::new(false)));
                here(&clock)
                    .guard(Some(ended), Duration::ZERO)
                    .watch(pending::<()>())
                    .await
            })
        };
        assert_eq!(run(), Err(Lapse::Ended));
        assert_eq!(run(), Err(Lapse::Ended));
    }
}
