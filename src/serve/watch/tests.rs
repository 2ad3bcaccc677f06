//! What the sweep finds late, what it leaves alone, and what it is told.

use super::*;

fn registry() -> Arc<Registry> {
    Registry::new(&Timeouts {
        tls: SWEEP_EVERY,
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
        tls: SWEEP_EVERY * 40,
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

/// A connection of HTTP/2 that was opened while a gate handed over was told to go elsewhere before its first call had come.
#[tokio::test]
async fn who_has_just_come_with_http2_is_heard_out_and_told_with_its_first_call() {
    let registry = Registry::new(&Timeouts {
        tls: SWEEP_EVERY * 40,
        head: SWEEP_EVERY * 40,
        body_idle: SWEEP_EVERY * 40,
        idle: SWEEP_EVERY * 40,
    });
    let (asking, silent, idle) = (registry.watch(), registry.watch(), registry.watch());
    for each in [&asking, &silent, &idle] {
        each.multiplex();
    }
    drop(idle.begin_stream());
    idle.end_stream();
    sweeps(&registry, 1);
    registry.announce();
    let orders = || [&asking, &silent, &idle].map(|each| each.order());
    assert_eq!(orders(), [Order::Go, Order::Go, Order::Finish]);
    registry.finish().await;
    assert_eq!(orders(), [Order::Go, Order::Go, Order::Finish]);
    let call = asking.begin_stream();
    assert_eq!(orders(), [Order::Finish, Order::Go, Order::Finish]);
    // However long it was idle before, it has its time between being told and the end.
    sweeps(&registry, FAREWELL - 1);
    assert_eq!(idle.order(), Order::Finish);
    sweeps(&registry, 1);
    assert_eq!(idle.order(), Order::Cut);
    sweeps(&registry, 1);
    assert_eq!(silent.order(), Order::Finish);
    sweeps(&registry, FAREWELL);
    assert_eq!(
        (asking.order(), silent.order()),
        (Order::Finish, Order::Cut)
    );
    drop(call);
}

#[test]
fn a_handshake_has_its_own_limit_and_a_head_begins_when_it_is_over() {
    let registry = registry();
    let (slow, done) = (registry.watch(), registry.watch());
    slow.handshake();
    done.handshake();
    sweeps(&registry, 1);
    done.greet();
    sweeps(&registry, 1);
    assert_eq!((slow.order(), done.order()), (Order::Cut, Order::Go));
    sweeps(&registry, 2);
    assert_eq!(done.order(), Order::Late);
}

#[test]
fn http2_is_idle_when_its_last_call_is_over_and_is_told_before_it_is_cut() {
    let registry = registry();
    let watched = registry.watch();
    watched.multiplex();
    let calls = [watched.begin_stream(), watched.begin_stream()];
    watched.end_stream();
    sweeps(&registry, 20);
    assert_eq!(watched.order(), Order::Go, "one call is in progress");
    watched.end_stream();
    drop(calls);
    watched.received();
    sweeps(&registry, 6);
    assert_eq!(watched.order(), Order::Finish, "a PING is no call");
    sweeps(&registry, GOODBYE);
    assert_eq!(watched.order(), Order::Cut);
}

#[test]
fn a_call_whose_answer_is_not_taken_is_cut_alone() {
    let registry = registry();
    let watched = registry.watch();
    watched.multiplex();
    let (stalled, other) = (watched.begin_stream(), watched.begin_stream());
    stalled.blocked();
    sweeps(&registry, 4);
    assert_eq!((stalled.order(), other.order()), (Order::Cut, Order::Go));
    assert_eq!(watched.order(), Order::Go);
}

#[test]
fn a_peer_that_sends_no_more_is_cut_once_nothing_goes_to_it_either() {
    let registry = registry();
    let watched = registry.watch();
    watched.begin();
    watched.halve();
    let most = in_sweeps(HALVED_MAX);
    sweeps(&registry, most);
    watched.sent();
    watched.halve();
    sweeps(&registry, most);
    assert_eq!(
        watched.order(),
        Order::Go,
        "it was sent something in between"
    );
    sweeps(&registry, 1);
    assert_eq!(watched.order(), Order::Cut);
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
