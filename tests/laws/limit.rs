//! Laws of limits, against oracles that remember every call.

use crate::builder::{Builder, at};
use proptest::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use toolgate::policy::limit::{Bound, Call, CallDigest, Cells, Exceeded, Per, Select, Standing};
use toolgate::policy::model::{LimitIndex, Policy};
use toolgate::policy::time::{Now, Tick, Timestamp};

const ONLY: &[LimitIndex] = &[LimitIndex(0)];
/// Ticks begin well after zero, as the clock's do.
const START: u64 = 40 * 24 * 3600 * SECOND;
const SECOND: u64 = 1_000_000_000;

fn policy(bound: Bound) -> Policy {
    Builder::new().limit("l", Per::Session, bound).build()
}

fn cells(bound: Bound) -> Cells {
    Cells::new(&policy(bound), Per::Session)
}

/// `None`: it fits; else how long until it does.
fn take(cells: &Cells, now: u64, digest: Option<&CallDigest>) -> Option<u64> {
    let call = Call {
        now: Tick::from_nanos(now),
        digest,
    };
    let refused = cells.take(ONLY, call).err()?;
    assert_eq!(refused.limit, LimitIndex(0));
    Some(nanos(refused.retry_after))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}

fn standing(cells: &Cells, now: u64) -> Standing {
    cells.standings(ONLY, Tick::from_nanos(now)).next().unwrap()
}

/// A window's length, and moments that crowd around its parts and its whole.
fn schedule(calls: usize) -> impl Strategy<Value = (u64, Vec<u64>)> {
    let window = prop_oneof![
        Just(60 * SECOND),
        Just(SECOND),
        Just(7 * SECOND),
        (SECOND..10 * SECOND),
    ];
    window.prop_flat_map(move |window| {
        let gap = prop_oneof![
            4 => Just(0),
            4 => 0..window / 60 + 2,
            4 => 0..window / 4,
            2 => window - 2..window + 3,
            1 => window..window + window / 30,
            1 => Just(window / 60),
            1 => 0..3 * window,
        ];
        (Just(window), prop::collection::vec(gap, 1..calls)).prop_map(|(window, gaps)| {
            let moments = gaps.iter().scan(START, |now, gap| {
                *now += gap;
                Some(*now)
            });
            (window, moments.collect())
        })
    })
}

/// No two of `admitted`, in order, hold more between them than `burst` and the rate over their distance.
fn check_rate(admitted: &[u64], count: u32, window: u64, burst: u32) -> Result<(), TestCaseError> {
    for (position, from) in admitted.iter().enumerate() {
        for (calls, to) in (1u128..).zip(&admitted[position..]) {
            let allowed =
                u128::from(burst) * u128::from(window) + u128::from(count) * u128::from(to - from);
            prop_assert!(
                calls * u128::from(window) <= allowed,
                "{calls} calls in {} ns",
                to - from
            );
        }
    }
    Ok(())
}

/// No true window, both ends included, holds more than `count` of what was admitted.
fn check_count(admitted: &[u64], count: u32, window: u64) -> Result<(), TestCaseError> {
    for (from, to) in admitted.iter().zip(admitted.iter().skip(count as usize)) {
        prop_assert!(
            to - from > window,
            "{} calls in {} ns",
            count + 1,
            to - from
        );
    }
    Ok(())
}

/// A refusal is due: at least `count` lie within the window plus a sixtieth (and the rounding of its parts).
fn refusal_is_due(admitted: &[u64], now: u64, count: u32, window: u64) -> bool {
    let oldest = now.saturating_sub(window + window / 60 + 61);
    admitted.iter().filter(|&&then| then > oldest).count() >= count as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_window_admits_more_than_burst_and_rate(
        (window, moments) in schedule(120), count in 1..9u32, burst in 1..9u32,
    ) {
        let cells = cells(Bound::Rate { count, window: Duration::from_nanos(window), burst });
        let mut admitted: Vec<u64> = Vec::new();
        for now in moments {
            let before = standing(&cells, now);
            match take(&cells, now, None) {
                None => {
                    admitted.push(now);
                    prop_assert_eq!(standing(&cells, now).remaining, before.remaining - 1);
                }
                Some(wait) => {
                    prop_assert_eq!(before.remaining, 0);
                    prop_assert_eq!(nanos(before.resets_in), wait);
                    // Due: with one more, some window that ends now would hold too many, up to the rounding of a call's share.
                    let share = window.div_ceil(u64::from(count));
                    let over = admitted.iter().rev().zip(2u64..).any(|(from, calls)| {
                        calls.saturating_sub(u64::from(burst)) * share > now - from
                    });
                    prop_assert!(over, "refused at {now} after {admitted:?}");
                    let copy = cells.carried_to(&policy(Bound::Rate { count, window: Duration::from_nanos(window), burst }));
                    prop_assert!(take(&copy, now + wait - 1, None).is_some());
                    prop_assert_eq!(take(&copy, now + wait, None), None);
                }
            }
        }
        check_rate(&admitted, count, window, burst)?;
    }

    #[test]
    fn a_count_holds_in_every_true_window_and_refuses_only_near_it(
        (window, moments) in schedule(120), count in 1..9u32,
    ) {
        let bound = Bound::Count { count, window: Duration::from_nanos(window) };
        let cells = cells(bound);
        let mut admitted = Vec::new();
        for now in moments {
            let before = standing(&cells, now);
            match take(&cells, now, None) {
                None => {
                    admitted.push(now);
                    prop_assert_eq!(standing(&cells, now).remaining, before.remaining - 1);
                }
                Some(wait) => {
                    prop_assert_eq!(before.remaining, 0);
                    prop_assert_eq!(nanos(before.resets_in), wait);
                    prop_assert!(refusal_is_due(&admitted, now, count, window), "refused at {now} after {admitted:?}");
                    let copy = cells.carried_to(&policy(bound));
                    prop_assert!(take(&copy, now + wait - 1, None).is_some());
                    prop_assert_eq!(take(&copy, now + wait, None), None);
                }
            }
        }
        check_count(&admitted, count, window)?;
    }

    #[test]
    fn repeats_count_each_digest_by_itself(
        (window, moments) in schedule(120), count in 1..5u32, digests in prop::collection::vec(prop::option::weighted(0.9, 0..64u8), 120),
    ) {
        let bound = Bound::Repeats { count, window: Duration::from_nanos(window) };
        let cells = cells(bound);
        let mut admitted: Vec<Vec<u64>> = vec![Vec::new(); 64];
        for (now, digest) in moments.into_iter().zip(digests) {
            let Some(digest) = digest else {
                prop_assert_eq!(take(&cells, now, None), None);
                continue;
            };
            let own = &mut admitted[usize::from(digest)];
            match take(&cells, now, Some(&[digest; 32])) {
                None => own.push(now),
                Some(wait) => {
                    prop_assert!(refusal_is_due(own, now, count, window));
                    let copy = cells.carried_to(&policy(bound));
                    prop_assert!(take(&copy, now + wait - 1, Some(&[digest; 32])).is_some());
                    prop_assert_eq!(take(&copy, now + wait, Some(&[digest; 32])), None);
                }
            }
        }
        for admitted in admitted {
            check_count(&admitted, count, window)?;
        }
    }

    #[test]
    fn takes_of_many_threads_are_one_schedule(
        count in 1..40u32, burst in 1..40u32, rounds in prop::collection::vec(0..SECOND, 1..4),
    ) {
        let window = SECOND;
        let rate = Bound::Rate { count, window: Duration::from_nanos(window), burst };
        let counted = Bound::Count { count, window: Duration::from_nanos(window) };
        let repeats = Bound::Repeats { count, window: Duration::from_nanos(window) };
        for bound in [rate, counted, repeats] {
            let cells = cells(bound);
            let mut now = START;
            let mut admitted = Vec::new();
            for gap in &rounds {
                now += gap;
                let left = standing(&cells, now).remaining;
                let passed = AtomicUsize::new(0);
                let barrier = Barrier::new(4);
                thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(|| {
                            barrier.wait();
                            for _ in 0..15 {
                                if take(&cells, now, Some(&[7; 32])).is_none() {
                                    passed.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        });
                    }
                });
                let passed = passed.into_inner();
                prop_assert_eq!(passed as u64, left.min(60));
                admitted.extend(std::iter::repeat_n(now, passed));
            }
            match bound {
                Bound::Rate { .. } => check_rate(&admitted, count, window, burst)?,
                _ => check_count(&admitted, count, window)?,
            }
        }
    }

    #[test]
    fn a_cost_is_spent_from_all_limits_or_from_none_and_a_charge_is_always_added(
        (window, moments) in schedule(60),
        bounds in prop::collection::vec((1..50u64, 1..4u32), 1..4),
        steps in prop::collection::vec((0..30u64, 0..4u8), 60),
    ) {
        let start = Builder::new().limit("calls", Per::Session, Bound::Rate { count: 1, window: Duration::from_secs(1), burst: 1 });
        let policy = bounds.iter().enumerate().fold(start, |builder, (position, (micros, factor))| {
            let bound = Bound::Cost { micros: *micros, window: Duration::from_nanos(window) * *factor };
            let per = if position == 2 { Per::Agent } else { Per::Session };
            builder.limit(&format!("c{position}"), per, bound)
        });
        let policy = policy.build();
        let cells = Cells::new(&policy, Per::Session);
        let all: Vec<LimitIndex> = (0..=bounds.len()).map(|at| LimitIndex(u32::try_from(at).unwrap())).collect();
        let own = &bounds[..bounds.len().min(2)];
        let mut spent: Vec<(u64, u64)> = Vec::new();
        let mut charged = false;
        for (now, (micros, kind)) in moments.into_iter().zip(steps) {
            let tick = Tick::from_nanos(now);
            let left = || cells.standings(&all, tick).skip(1).map(|it| it.remaining).collect::<Vec<_>>();
            let kept = || own.iter().enumerate().map(|(at, _)| {
                let buckets = cells.cost_buckets(LimitIndex(u32::try_from(at).unwrap() + 1), at_tick(now));
                buckets.iter().map(|(_, micros)| micros).sum::<u64>()
            }).collect::<Vec<_>>();
            let (before, sums) = (left(), kept());
            prop_assert_eq!(before.len(), own.len());
            match kind {
                0 => {
                    let exceeded = cells.charge(&all, tick, micros);
                    let added: Vec<u64> = sums.iter().map(|sum| sum + micros).collect();
                    prop_assert_eq!(kept(), added.clone());
                    let over = added.iter().zip(own).any(|(sum, (bound, _))| sum > bound);
                    prop_assert_eq!(exceeded.is_some(), over);
                    charged = true;
                    spent.push((now, micros));
                }
                1 => {
                    if cells.spend(&all, tick, micros).is_ok() {
                        cells.refund(&all, tick, micros);
                    }
                    prop_assert_eq!(kept(), sums);
                    prop_assert_eq!(left(), before);
                }
                _ => match cells.spend(&all, tick, micros) {
                    Ok(()) => {
                        prop_assert!(before.iter().all(|left| *left >= micros.max(1)));
                        let after: Vec<u64> = before.iter().map(|left| left - micros).collect();
                        prop_assert_eq!(left(), after);
                        spent.push((now, micros));
                    }
                    Err(refused) => {
                        let first = before.iter().position(|left| *left < micros.max(1)).map(|at| at + 1);
                        prop_assert_eq!(Some(refused.limit.0 as usize), first);
                        prop_assert_eq!(left(), before);
                        prop_assert_eq!(kept(), sums);
                    }
                },
            }
        }
        // What was only spent stays within each bound in every true window.
        if !charged {
            for (bound, factor) in own {
                let window = window * u64::from(*factor);
                for (position, (from, _)) in spent.iter().enumerate() {
                    let within = spent[position..].iter().take_while(|(to, _)| to - from <= window);
                    prop_assert!(within.map(|(_, micros)| micros).sum::<u64>() <= *bound);
                }
            }
        }
    }

    #[test]
    fn a_cost_kept_across_a_restart_is_whole_and_leaves_in_its_time(
        (window, moments) in schedule(20),
        micros in prop::collection::vec(1..100u64, 20),
        away in prop_oneof![Just(0), 0..2 * 60 * SECOND],
        parts in 0..1_000_000u64,
    ) {
        let bound = Bound::Cost { micros: 1_000_000, window: Duration::from_nanos(window) };
        let (old, new) = (cells(bound), cells(bound));
        let spent: Vec<(u64, u64)> = moments.into_iter().zip(micros).collect();
        for (now, micros) in &spent {
            old.charge(ONLY, Tick::from_nanos(*now), *micros);
        }
        // Kept at the last call, each bucket by the middle of its part, which no rounding moves to another; back after a
        // while, with other ticks, in which parts begin at the same times (as the clock sees to).
        let last = spent[spent.len() - 1].0;
        let back = last + away;
        let sixtieth = window.div_ceil(60);
        let then = |moment: u64| Now { wall: wall(moment), tick: Tick::from_nanos(moment + parts * sixtieth) };
        let kept = old.cost_buckets(LimitIndex(0), at_tick(last));
        for (bucket, micros) in &kept {
            let middle = bucket.plus(Duration::from_nanos(sixtieth / 2));
            new.restore_cost(LimitIndex(0), middle, *micros, then(back));
        }
        if away == 0 {
            let standing = new.standings(ONLY, then(back).tick).next().unwrap();
            prop_assert_eq!(1_000_000 - standing.remaining, kept.iter().map(|(_, micros)| micros).sum::<u64>());
        }
        for moment in (0..70).map(|step| back + step * sixtieth) {
            let have = new.cost_buckets(LimitIndex(0), then(moment)).iter().map(|(_, micros)| micros).sum::<u64>();
            let newer = |age: u64| spent.iter().filter(|(then, _)| moment - then <= age).map(|(_, micros)| micros).sum::<u64>();
            prop_assert!(have >= newer(window), "forgotten early: {have} of {}", newer(window));
            let late = newer(61 * sixtieth);
            prop_assert!(have <= late, "kept long: {have} of {late}");
        }
    }

    #[test]
    fn state_is_carried_over_for_unchanged_limits_only(
        old in prop::collection::vec((0..4u8, 1..3u32, 0..2u8), 0..6),
        new in prop::collection::vec((0..4u8, 1..3u32, 0..2u8), 0..6),
        reversed: bool,
    ) {
        let build = |limits: &[(u8, u32, u8)], hash: u8| {
            let named = limits.iter().enumerate();
            let builder = named.fold(Builder::new().hash(hash), |builder, (id, limit)| {
                let (per, bound) = limit_of(*limit);
                builder.limit_of(&format!("l{id}"), per, Select::default(), bound, Exceeded::Throttle)
            });
            let mut parts = builder.parts();
            if hash == 1 && reversed {
                parts.limits.reverse();
            }
            Policy::assemble(parts).unwrap()
        };
        let (before, after) = (build(&old, 0), build(&new, 1));
        let now = at(1_000_000);
        for per in [Per::Session, Per::Agent] {
            let cells = Cells::new(&before, per);
            for index in 0..old.len() {
                let limits = [LimitIndex(u32::try_from(index).unwrap())];
                let _ = cells.take(&limits, Call { now: now.tick, digest: Some(&[1; 32]) });
                let _ = cells.spend(&limits, now.tick, 1);
            }
            let carried = cells.carried_to(&after);
            prop_assert_eq!(carried.layout(), after.hash);
            for (index, limit) in after.limits.iter().enumerate() {
                let limits = [LimitIndex(u32::try_from(index).unwrap())];
                let have = carried.standings(&limits, now.tick).next();
                let same = before.limits.iter().position(|it| it.id == limit.id && it.per == limit.per && it.bound == limit.bound);
                if limit.per != per {
                    prop_assert!(have.is_none());
                    continue;
                }
                let expected = match same {
                    Some(at) => cells.standings(&[LimitIndex(u32::try_from(at).unwrap())], now.tick).next(),
                    None => Cells::new(&after, per).standings(&limits, now.tick).next(),
                };
                let (have, expected) = (have.unwrap(), expected.unwrap());
                prop_assert_eq!((have.remaining, have.resets_in), (expected.remaining, expected.resets_in));
                prop_assert_eq!(have.resets_in.is_zero(), same.is_none());
            }
            // The copy is its own: what one takes the other keeps.
            carried.clear();
            for index in 0..old.len() {
                let limits = [LimitIndex(u32::try_from(index).unwrap())];
                prop_assert!(cells.standings(&limits, now.tick).all(|it| !it.resets_in.is_zero()));
            }
            for index in 0..new.len() {
                let limits = [LimitIndex(u32::try_from(index).unwrap())];
                prop_assert!(carried.standings(&limits, now.tick).all(|it| it.resets_in.is_zero()));
            }
        }
    }
}

fn limit_of((kind, count, per): (u8, u32, u8)) -> (Per, Bound) {
    let window = Duration::from_secs(60);
    let bound = match kind {
        0 => Bound::Rate {
            count,
            window,
            burst: count,
        },
        1 => Bound::Count { count, window },
        2 => Bound::Repeats { count, window },
        _ => Bound::Cost {
            micros: u64::from(count) * 10,
            window,
        },
    };
    (if per == 0 { Per::Session } else { Per::Agent }, bound)
}

fn wall(moment: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + i64::try_from(moment / 1000).unwrap())
}

fn at_tick(moment: u64) -> Now {
    Now {
        wall: wall(moment),
        tick: Tick::from_nanos(moment),
    }
}

#[test]
fn sixty_four_digests_are_watched_and_the_one_unused_longest_makes_room() {
    let cells = cells(Bound::Repeats {
        count: 1,
        window: Duration::from_secs(3600),
    });
    for digest in 0..64u8 {
        assert_eq!(
            take(&cells, START + u64::from(digest), Some(&[digest; 32])),
            None
        );
    }
    // All are known; asking for the first makes it the most recent.
    for digest in (1..64u8).chain([0]) {
        assert!(take(&cells, START + 100 + u64::from(digest), Some(&[digest; 32])).is_some());
    }
    assert!(take(&cells, START + 1000, Some(&[0; 32])).is_some());
    assert_eq!(take(&cells, START + 1001, Some(&[200; 32])), None);
    assert!(take(&cells, START + 1002, Some(&[0; 32])).is_some());
    assert_eq!(
        take(&cells, START + 1003, Some(&[1; 32])),
        None,
        "the second made room"
    );
    assert!(take(&cells, START + 1004, Some(&[200; 32])).is_some());
}

#[test]
fn the_501st_within_a_minute_exceeds_however_they_were_spread() {
    for gap in [0, SECOND / 10, SECOND * 60 / 501] {
        let cells = cells(Bound::Count {
            count: 500,
            window: Duration::from_secs(60),
        });
        let refused = (0..501).position(|call| take(&cells, START + call * gap, None).is_some());
        assert_eq!(refused, Some(500), "every {gap} ns");
    }
}

#[test]
fn a_call_that_one_limit_refuses_is_not_counted_by_the_later_ones() {
    let minute = Duration::from_secs(60);
    let policy = Builder::new()
        .limit(
            "first",
            Per::Session,
            Bound::Count {
                count: 5,
                window: minute,
            },
        )
        .limit(
            "second",
            Per::Session,
            Bound::Count {
                count: 1,
                window: minute,
            },
        )
        .limit(
            "third",
            Per::Session,
            Bound::Count {
                count: 5,
                window: minute,
            },
        )
        .build();
    let cells = Cells::new(&policy, Per::Session);
    let limits = [LimitIndex(0), LimitIndex(1), LimitIndex(2)];
    let now = Tick::from_nanos(START);
    let call = Call { now, digest: None };
    assert!(cells.take(&limits, call).is_ok());
    assert_eq!(cells.take(&limits, call).unwrap_err().limit, LimitIndex(1));
    let left: Vec<u64> = cells
        .standings(&limits, now)
        .map(|it| it.remaining)
        .collect();
    assert_eq!(left, [3, 0, 4]);
}

#[test]
fn of_the_costs_that_a_charge_exceeds_the_one_that_quarantines_is_told() {
    let cost = |micros| Bound::Cost {
        micros,
        window: Duration::from_secs(60),
    };
    let policy = Builder::new()
        .limit("throttles", Per::Session, cost(1))
        .limit_of(
            "quarantines",
            Per::Session,
            Select::default(),
            cost(2),
            Exceeded::Quarantine,
        )
        .limit("throttles-too", Per::Session, cost(1))
        .build();
    let cells = Cells::new(&policy, Per::Session);
    let limits = [LimitIndex(0), LimitIndex(1), LimitIndex(2)];
    let now = Tick::from_nanos(START);
    assert_eq!(cells.charge(&limits, now, 2).unwrap().limit, LimitIndex(0));
    assert_eq!(
        cells.charge(&limits, now, u64::MAX).unwrap().limit,
        LimitIndex(1)
    );
    assert_eq!(
        cells.charge(&limits, now, u64::MAX).unwrap().limit,
        LimitIndex(1)
    );
}

#[test]
fn a_burst_wider_than_time_itself_still_has_an_end() {
    let month = Duration::from_secs(31 * 24 * 3600);
    let cells = cells(Bound::Rate {
        count: 1,
        window: month,
        burst: u32::MAX,
    });
    let most = u64::MAX / nanos(month);
    let taken = (0..=most).take_while(|_| take(&cells, START, None).is_none());
    assert!(taken.count() as u64 <= most);
}

proptest! {
    /// Shared limits are all asked before one is taken: what the project refuses must not use up what is the agent's.
    #[test]
    fn asking_answers_as_taking_would_and_counts_nothing(
        (window, moments) in schedule(60),
        count in 1u32..6,
        smooth in any::<bool>(),
    ) {
        let window = Duration::from_nanos(window);
        let bound = if smooth {
            Bound::Rate { count, window, burst: count }
        } else {
            Bound::Count { count, window }
        };
        let (asked, only_taken) = (cells(bound), cells(bound));
        for &moment in &moments {
            let now = Tick::from_nanos(moment);
            let call = Call { now, digest: None };
            let answers = [asked.ask(ONLY, now), asked.ask(ONLY, now), asked.take(ONLY, call)];
            let expected = only_taken.take(ONLY, call);
            prop_assert_eq!(answers, [expected; 3]);
        }
    }
}
