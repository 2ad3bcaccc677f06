//! What one decision costs, without I/O: token, session, limits, target, route, resource, ceiling.
//!
//! Sessions and calls are many and asked for in no order: 262,144 calls over all sessions and all routes go round, so
//! that at a million sessions hardly anything of a session, and at 10,000 routes hardly anything of a route, is still in
//! a cache when it is asked for again. Only the call's own text lies in order, as a request that has just been read does.
//! Every answer is checked to be an allow, and nothing is precomputed that a real call would have to compute.
//!
//! That is the worst case (`scattered`): no session ever calls twice while it is remembered. Agents don't behave so: they
//! run, and call the same tool again and again. `runs` has the same sessions and routes, of which 64 sessions at a time
//! make 32 calls each, one after another in turn, to any route of one tool.
//!
//! `cargo bench --bench decision`; a part of it: `cargo bench --bench decision -- whole`.

#![allow(clippy::unwrap_used, reason = "a benchmark is a test")]

#[path = "../tests/laws/builder.rs"]
mod builder;

use builder::{Builder, ceiling, filled, session};
use divan::Bencher;
use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use toolgate::config::{IntentRecord, LedgerSettings};
use toolgate::ledger::Ledger;
use toolgate::policy::decision::Decision;
use toolgate::policy::id::SessionId;
use toolgate::policy::limit::{Bound, Call, Exceeded, Per, Select};
use toolgate::policy::model::{Ceiling, GrantMode, Parts, Policy, Route};
use toolgate::policy::name::ToolName;
use toolgate::policy::route::Matched;
use toolgate::policy::subject::Subject;
use toolgate::policy::target::Target;
use toolgate::policy::time::{Now, Tick, Timestamp};
use toolgate::policy::token::{self, Token, TokenDigest, TokenKind};
use toolgate::policy::{AccessRequest, decide};
use toolgate::store::SessionRow;
use toolgate::store::embedded::Embedded;
use toolgate::store::live::{LiveSession, Sessions, State};
use uuid::Uuid;

fn main() {
    divan::main();
}

/// Calls that go round; a power of two.
const CALLS: usize = 1 << 18;
const HOST: &str = "gate.example";
const ROUTES: [usize; 3] = [10, 1_000, 10_000];
const SESSIONS: [usize; 3] = [1, 1_000, 1_000_000];
const AGENTS: usize = 8;
/// Routes of one tool, at most; five for each of its resources.
const ROUTES_OF_TOOL: usize = 100;
const ROUTES_OF_KIND: usize = 5;

/// One call as it is read off a connection.
struct Request<'w> {
    token: &'w str,
    method: &'static str,
    target: &'w str,
}

/// Where one call's text lies.
struct Place {
    start: usize,
    token_end: usize,
    end: usize,
    method: &'static str,
}

struct World {
    policy: Policy,
    sessions: &'static Sessions,
    /// By [`Order`].
    calls: [Calls; 2],
}

/// All calls behind one another.
struct Calls {
    text: String,
    places: Vec<Place>,
}

#[derive(Clone, Copy, PartialEq)]
struct Size {
    routes: usize,
    sessions: usize,
}

/// Who calls what next.
#[derive(Clone, Copy)]
enum Order {
    /// Anyone anything.
    Scattered,
    /// [`LIVELY`] sessions in turn, each [`RUN`] times, each of one tool.
    Runs,
}

/// Sessions that call in turn.
const LIVELY: usize = 64;
/// Calls of one session before another has its place.
const RUN: usize = 32;

impl Order {
    /// Session and route of a call.
    fn of(self, number: usize, size: Size) -> (usize, usize) {
        let chance = scattered(number);
        match self {
            Order::Scattered => (
                (chance >> 20) as usize % size.sessions,
                chance as usize % size.routes,
            ),
            Order::Runs => {
                let run = number / (LIVELY * RUN) * LIVELY + number % LIVELY;
                let whose = scattered(run);
                let of_tool = ROUTES_OF_TOOL.min(size.routes);
                let tool = whose as usize % (size.routes / of_tool);
                (
                    (whose >> 20) as usize % size.sessions,
                    tool * of_tool + chance as usize % of_tool,
                )
            }
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} routes x {} sessions", self.routes, self.sessions)
    }
}

fn sizes() -> impl Iterator<Item = Size> {
    ROUTES.into_iter().flat_map(|routes| {
        SESSIONS
            .into_iter()
            .map(move |sessions| Size { routes, sessions })
    })
}

/// The parts of a policy of `routes` routes: tools of a hundred, resources of five, a scope for reading and one for
/// writing each; every agent may read any and write its customer's.
fn parts(routes: usize) -> Parts {
    let mut builder = Builder::new();
    let mut scopes: Vec<(String, Ceiling)> = Vec::new();
    for kind in 0..routes.div_ceil(ROUTES_OF_KIND) {
        let (tool, kind) = place_of(kind);
        if kind == 0 {
            builder = builder.tool(&format!("/tools/t{tool}"));
        }
        let (read, write) = (
            format!("t{tool}.k{kind}.read"),
            format!("t{tool}.k{kind}.write"),
        );
        let of_one = Some("item:{id}");
        builder = builder
            .route(&format!("GET /v1/k{kind}/{{id}}"), &read, of_one)
            .route(&format!("PUT,DELETE /v1/k{kind}/{{id}}"), &write, of_one)
            .route(
                &format!("GET /v1/k{kind}/{{id}}/parts/{{part}}"),
                &read,
                of_one,
            )
            .route(&format!("POST /v1/k{kind}/{{id}}:run"), &write, of_one)
            .route(&format!("GET /v1/k{kind}"), &read, Some("item:all"));
        scopes.push((read, ceiling(GrantMode::OnUse, &[])));
        scopes.push((
            write,
            ceiling(
                GrantMode::OnUse,
                &["item:public", "item:{session.customer}"],
            ),
        ));
    }
    let scopes: Vec<(&str, Ceiling)> = scopes
        .iter()
        .map(|(name, ceiling)| (name.as_str(), ceiling.clone()))
        .collect();
    let builder = (0..AGENTS).fold(builder, |builder, agent| {
        builder.agent(&format!("agent{agent}"), &scopes)
    });
    limits(builder).parts()
}

/// The tool of a kind of resource, and its number there.
fn place_of(kind: usize) -> (usize, usize) {
    let of_tool = ROUTES_OF_TOOL / ROUTES_OF_KIND;
    (kind / of_tool, kind % of_tool)
}

/// A rate on all calls of a session and a count on those of one tool; the bounds are out of reach.
fn limits(builder: Builder) -> Builder {
    let minute = Duration::from_secs(60);
    let first = Select {
        tool: Some(ToolName::parse("t0").unwrap()),
        ..Select::default()
    };
    builder
        .limit(
            "per-session",
            Per::Session,
            Bound::Rate {
                count: 1_000_000_000,
                window: minute,
                burst: 1_000_000_000,
            },
        )
        .limit_of(
            "first-tool",
            Per::Session,
            first,
            Bound::Count {
                count: u32::MAX,
                window: minute,
            },
            Exceeded::Throttle,
        )
}

fn token_of(session: usize) -> Token {
    let mut random = [0x5a; 32];
    random[..8].copy_from_slice(&scattered(session).to_le_bytes());
    Token::mint(TokenKind::Session, &random)
}

fn customer_of(session: usize) -> String {
    format!("c{session}")
}

/// SplitMix64: the same in every run.
fn scattered(number: usize) -> u64 {
    let mut value = (number as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The gate's own table of sessions, of each size, made once: as after a restart, with every counter laid out.
fn sessions(count: usize) -> &'static Sessions {
    static TABLES: [OnceLock<Sessions>; 3] = [const { OnceLock::new() }; 3];
    let at = SESSIONS.iter().position(|have| *have == count).unwrap();
    TABLES[at].get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let settings = LedgerSettings {
            intent: IntentRecord::Omit,
            segment_bytes_max: 1 << 20,
            segment_age_max: Duration::from_secs(3600),
            ..LedgerSettings::new(folder.path().join("ledger"))
        };
        let now = moment(0);
        let ledger = Ledger::open(&settings, move || now.wall).unwrap();
        let (store, mut snapshot) =
            Embedded::open(&folder.path().join("store.db"), now.wall).unwrap();
        snapshot.sessions = (0..count).map(row).collect();
        let sessions = Sessions::new(Arc::new(store), snapshot, ledger, now);
        let layout = limits(Builder::new()).build();
        for number in 0..count {
            let session = sessions.find(&token_of(number).digest()).unwrap();
            session.cells(&layout);
        }
        sessions
    })
}

/// A session as the store has it.
fn row(number: usize) -> SessionRow {
    let facts = session(
        &format!("agent{}", number % AGENTS),
        &[("customer", &customer_of(number))],
    );
    SessionRow {
        id: SessionId::new(Uuid::from_u128(number as u128)),
        token: token_of(number).digest(),
        project: facts.project,
        agent: facts.agent,
        attributes: facts.attributes,
        narrowing: None,
        parent: None,
        run: None,
        intent: None,
        bound_to: None,
        minted_by: facts.minted_by,
        minted_at: facts.minted_at,
        expires_at: Timestamp::from_micros(1_000_000_000_000),
        quarantined: None,
    }
}

/// The worlds of each size, made once.
fn world(size: Size) -> &'static World {
    static WORLDS: [OnceLock<World>; 9] = [const { OnceLock::new() }; 9];
    let at = sizes().position(|have| have == size).unwrap();
    WORLDS[at].get_or_init(|| World {
        policy: Policy::assemble(parts(size.routes)).unwrap(),
        sessions: sessions(size.sessions),
        calls: [Order::Scattered, Order::Runs].map(|order| Calls::of(size, order)),
    })
}

impl Calls {
    fn of(size: Size, order: Order) -> Self {
        let mut calls = Self {
            text: String::new(),
            places: Vec::with_capacity(CALLS),
        };
        for number in 0..CALLS {
            let (session, route) = order.of(number, size);
            let (tool, kind) = place_of(route / ROUTES_OF_KIND);
            let (id, start) = (customer_of(session), calls.text.len());
            calls.text.push_str(token_of(session).reveal());
            let token_end = calls.text.len();
            calls.text.push_str(&format!("/tools/t{tool}/v1/k{kind}"));
            let (method, behind) = match route % ROUTES_OF_KIND {
                0 => ("GET", format!("/{id}")),
                1 => ("DELETE", format!("/{id}")),
                2 => ("GET", format!("/{id}/parts/p{session}?verbose=1")),
                3 => ("POST", format!("/{id}:run")),
                _ => ("GET", "?page=2".to_owned()),
            };
            calls.text.push_str(&behind);
            calls.places.push(Place {
                start,
                token_end,
                end: calls.text.len(),
                method,
            });
        }
        calls
    }

    fn request(&self, number: usize) -> Request<'_> {
        let place = &self.places[number % CALLS];
        Request {
            token: &self.text[place.start..place.token_end],
            method: place.method,
            target: &self.text[place.token_end..place.end],
        }
    }
}

/// The largest of a number of routes: for what does not look at sessions.
fn of_routes(routes: usize) -> &'static World {
    world(Size {
        routes,
        sessions: SESSIONS[1],
    })
}

impl World {
    /// A call of those in no order.
    fn request(&self, number: usize) -> Request<'_> {
        self.calls[Order::Scattered as usize].request(number)
    }

    /// One decision, in the order of the gate's journey.
    fn decide(&self, request: &Request<'_>, now: Now) -> Option<Decision<'_>> {
        let digest = token::parse(TokenKind::Session, request.token)?;
        let live = self.sessions.find(&digest)?;
        (live.state(now.tick) == State::Live).then_some(())?;
        let cells = live.cells(&self.policy);
        let call = Call {
            now: now.tick,
            digest: None,
        };
        cells.take(&self.policy.session_wide, call).ok()?;
        let target = Target::parse(request.target, HOST).ok()?;
        let matched = self.policy.table.find(request.method, &target).ok()?;
        let route = self.policy.route(matched.route);
        let resource = match &route.resource {
            Some(resource) => Some(filled(resource, &matched.captures, &live.facts)?),
            None => None,
        };
        cells.take(&route.session_limits, call).ok()?;
        let subject = Subject {
            session: &live.facts,
            grants: &[],
        };
        Some(decide(
            &self.policy,
            subject,
            AccessRequest { route, resource },
            now,
        ))
    }
}

/// A moment for each call; a day of ticks has passed before the first.
fn moment(number: usize) -> Now {
    Now {
        wall: Timestamp::from_micros(0),
        tick: Tick::from_nanos(86_400_000_000_000 + number as u64 * 1_000),
    }
}

/// Runs `step` on one call after another, of those in the order that `calls` gives.
fn round<T>(bencher: Bencher<'_, '_>, mut step: impl FnMut(usize) -> T) {
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        black_box(step(black_box(number)))
    });
}

/// A whole decision.
mod whole {
    use super::*;

    #[divan::bench(args = sizes(), sample_count = 400, sample_size = 1000)]
    fn runs(bencher: Bencher<'_, '_>, size: &Size) {
        whole(bencher, *size, Order::Runs);
    }

    #[divan::bench(args = sizes(), sample_count = 400, sample_size = 1000)]
    fn scattered(bencher: Bencher<'_, '_>, size: &Size) {
        whole(bencher, *size, Order::Scattered);
    }

    fn whole(bencher: Bencher<'_, '_>, size: Size, order: Order) {
        let world = world(size);
        let calls = &world.calls[order as usize];
        round(bencher, |number| {
            let request = calls.request(number);
            let decision = world.decide(&request, moment(number));
            assert!(
                matches!(decision, Some(Decision::Allow(_))),
                "{}",
                request.target
            );
            decision
        });
    }
}

/// The parts of it.
mod steps {
    use super::*;

    #[divan::bench(args = SESSIONS)]
    fn token_and_digest(bencher: Bencher<'_, '_>, sessions: usize) {
        let world = world(Size {
            routes: ROUTES[0],
            sessions,
        });
        round(bencher, |number| {
            token::parse(TokenKind::Session, world.request(number).token).unwrap()
        });
    }

    #[divan::bench(args = SESSIONS)]
    fn look_up(bencher: Bencher<'_, '_>, sessions: usize) {
        let world = world(Size {
            routes: ROUTES[0],
            sessions,
        });
        let digests: Vec<TokenDigest> = (0..CALLS)
            .map(|it| TokenDigest::of(world.request(it).token))
            .collect();
        round(bencher, |number| {
            let session = world.sessions.find(&digests[number % CALLS]).unwrap();
            assert_eq!(session.state(moment(number).tick), State::Live);
            session
        });
    }

    #[divan::bench(args = SESSIONS)]
    fn session_cells(bencher: Bencher<'_, '_>, sessions: usize) {
        let world = world(Size {
            routes: ROUTES[0],
            sessions,
        });
        let live = live(world);
        round(bencher, |number| {
            let call = Call {
                now: moment(number).tick,
                digest: None,
            };
            live[number % CALLS]
                .cells(&world.policy)
                .take(&world.policy.session_wide, call)
                .unwrap();
        });
    }

    #[divan::bench(args = ROUTES)]
    fn target(bencher: Bencher<'_, '_>, routes: usize) {
        let world = of_routes(routes);
        round(bencher, |number| {
            Target::parse(world.request(number).target, HOST).unwrap()
        });
    }

    #[divan::bench(args = ROUTES)]
    fn find(bencher: Bencher<'_, '_>, routes: usize) {
        let world = of_routes(routes);
        let targets = targets(world);
        round(bencher, |number| {
            let at = number % CALLS;
            let matched = world
                .policy
                .table
                .find(world.request(at).method, &targets[at]);
            matched.unwrap().route
        });
    }

    #[divan::bench(args = ROUTES)]
    fn fill(bencher: Bencher<'_, '_>, routes: usize) {
        let world = of_routes(routes);
        let targets = targets(world);
        let matched = matches(world, &targets);
        let session = session("agent0", &[]);
        round(bencher, |number| {
            let (matched, route) = &matched[number % CALLS];
            let template = route.resource.as_ref().unwrap();
            filled(template, &matched.captures, &session).unwrap()
        });
    }

    #[divan::bench(args = ROUTES)]
    fn ceiling(bencher: Bencher<'_, '_>, routes: usize) {
        let world = of_routes(routes);
        let targets = targets(world);
        let matched = matches(world, &targets);
        let live = live(world);
        let resources: Vec<_> = matched
            .iter()
            .zip(&live)
            .map(|((matched, route), live)| {
                let template = route.resource.as_ref().unwrap();
                filled(template, &matched.captures, &live.facts).unwrap()
            })
            .collect();
        round(bencher, |number| {
            let at = number % CALLS;
            let session = &live[at].facts;
            let effective =
                toolgate::policy::ceiling(&world.policy, session, matched[at].1.scope.as_str())
                    .unwrap();
            assert!(effective.allows(Some(&resources[at])));
            effective.grant()
        });
    }

    /// Whose each call is.
    fn live(world: &World) -> Vec<Arc<LiveSession>> {
        let of = |call| {
            let digest = TokenDigest::of(world.request(call).token);
            world.sessions.find(&digest).unwrap()
        };
        (0..CALLS).map(of).collect()
    }

    fn targets(world: &World) -> Vec<Target> {
        (0..CALLS)
            .map(|it| Target::parse(world.request(it).target, HOST).unwrap())
            .collect()
    }

    fn matches<'t>(world: &'t World, targets: &'t [Target]) -> Vec<(Matched<'t>, &'t Route)> {
        let found = targets.iter().enumerate().map(|(at, target)| {
            let matched = world
                .policy
                .table
                .find(world.request(at).method, target)
                .unwrap();
            (matched, world.policy.route(matched.route))
        });
        found.collect()
    }
}

#[divan::bench(args = ROUTES, sample_count = 10, sample_size = 1)]
fn assemble(bencher: Bencher<'_, '_>, routes: usize) {
    bencher
        .with_inputs(|| parts(routes))
        .bench_values(|parts| Policy::assemble(parts).unwrap());
}
