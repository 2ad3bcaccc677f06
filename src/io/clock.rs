//! The one place that asks the system for time and randomness.

use crate::policy::id::{ApprovalId, GrantId, MessageId, RequestId, SessionId};
use crate::policy::time::{Now, Tick, Timestamp};
use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// The seam: a stepped clock in the journeys' ring, the system's everywhere else.
pub trait Clock: Send + Sync + 'static {
    /// Wall and monotonic reading of this moment.
    fn now(&self) -> Now;

    /// The monotonic one alone, for half the price.
    fn tick(&self) -> Tick {
        self.now().tick
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |span| span.as_micros());
        Now {
            wall: Timestamp::from_micros(i64::try_from(wall).unwrap_or(i64::MAX)),
            tick: self.tick(),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    fn tick(&self) -> Tick {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let since = ORIGIN.get_or_init(Instant::now).elapsed() + HEAD_START;
        Tick::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Ticks begin here: longer than the longest window of a limit, so that costs kept across a restart have a tick.
const HEAD_START: Duration = Duration::from_secs(40 * 24 * 3600);

/// Fills a buffer from the system's generator.
///
/// # Panics
/// If the system has no randomness to give: nothing safe can follow.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

fn uuid(now: Now) -> Uuid {
    uuid_of(now, &random())
}

fn uuid_of(now: Now, random: &[u8; 10]) -> Uuid {
    let millis = u64::try_from(now.wall.micros() / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid()
}

/// A new session's id.
pub fn session_id(now: Now) -> SessionId {
    SessionId::new(uuid(now))
}

/// A new grant's id.
pub fn grant_id(now: Now) -> GrantId {
    GrantId::new(uuid(now))
}

/// A new request's id. It names a call and is no secret: its randomness is drawn for a hundred at a time.
pub fn request_id(now: Now) -> RequestId {
    const DRAWN: usize = 100;
    thread_local! {
        static DRAW: RefCell<(usize, [u8; 10 * DRAWN])> = const { RefCell::new((DRAWN, [0; 10 * DRAWN])) };
    }
    DRAW.with_borrow_mut(|(used, drawn)| {
        if *used == DRAWN {
            (*used, *drawn) = (0, random());
        }
        let (own, _) = drawn[10 * *used..]
            .split_first_chunk()
            .expect("ten bytes each");
        *used += 1;
        RequestId::new(uuid_of(now, own))
    })
}

/// A new approval.
pub fn approval_id(now: Now) -> ApprovalId {
    ApprovalId::new(uuid(now))
}

/// A new message to the targets of `notify`.
pub fn message_id(now: Now) -> MessageId {
    MessageId::new(uuid(now))
}
