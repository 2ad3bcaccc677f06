//! One decision without I/O: authenticate, describe, limit, decide; and loading, which is all that its speed costs.
//!
//! `cargo bench --bench decision`. The goals: one decision is about as fast among 10,000 routes as among 10 (within
//! 1.5 times), takes at most a microsecond among 10,000 routes and 1,000,000 sessions, and 10,000 routes load in well
//! under a second.
//!
//! Sessions lie in a plain map by token digest, as in the live table but without its locks: what is measured is the
//! policy's part. Routes, sessions and ids are drawn evenly, so that every call meets a cold session: no run of an
//! agent is that unlucky.

use divan::{Bencher, black_box};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;
use toolgate::policy::decision::{Decision, Permit};
use toolgate::policy::id::SessionId;
use toolgate::policy::limit::{Bound, Call, Cells, Exceeded, Limit, Per, Select};
use toolgate::policy::model::{
    Agent, Ceiling, GrantMode, IntentRule, MatchPart, Mount, Parts, Policy, PolicyHash, Resources,
    RoutePart, SessionHeader, Tool, ToolIndex, Upstream,
};
use toolgate::policy::name::{
    AgentName, LimitId, PrincipalName, ProjectName, RouteId, ScopeName, ToolName,
};
use toolgate::policy::resource::{ResourcePattern, ResourceTemplate};
use toolgate::policy::subject::{Session, Subject};
use toolgate::policy::target::Target;
use toolgate::policy::template::Template;
use toolgate::policy::time::{Now, Tick, Timestamp};
use toolgate::policy::token::{self, Token, TokenDigest, TokenKind};
use toolgate::policy::{AccessRequest, decide};
use uuid::Uuid;

fn main() {
    divan::main();
}

/// Routes and sessions of each row.
const SIZES: [(u32, u32); 5] = [
    (10, 1_000),
    (1_000, 1_000),
    (10_000, 1_000),
    (10_000, 1),
    (10_000, 1_000_000),
];

#[divan::bench(args = SIZES, sample_count = 200, sample_size = 500)]
fn decision(bencher: Bencher<'_, '_>, (routes, sessions): (u32, u32)) {
    let gate = Gate::new(routes, sessions);
    let mut draw = Draw::new();
    bencher
        .with_inputs(|| gate.request(&mut draw))
        .bench_local_refs(|request| {
            let permit = gate.pass(request);
            black_box(permit.grant());
        });
}

/// The steps of one decision, at the largest size, to see where its time goes.
mod steps {
    use super::*;

    const SIZE: (u32, u32) = (10_000, 1_000_000);

    #[divan::bench(sample_count = 200, sample_size = 500)]
    fn authenticate(bencher: Bencher<'_, '_>) {
        let gate = Gate::new(SIZE.0, SIZE.1);
        let mut draw = Draw::new();
        bencher
            .with_inputs(|| gate.request(&mut draw))
            .bench_local_refs(|request| {
                black_box(gate.authenticate(&request.token));
            });
    }

    #[divan::bench(sample_count = 200, sample_size = 500)]
    fn describe(bencher: Bencher<'_, '_>) {
        let gate = Gate::new(SIZE.0, 1);
        let mut draw = Draw::new();
        bencher
            .with_inputs(|| gate.request(&mut draw))
            .bench_local_refs(|request| {
                let target = Target::parse(&request.target, HOST).expect("canonical");
                let matched = gate
                    .policy
                    .table
                    .find(&gate.policy, request.method, &target);
                black_box(matched.expect("a route").route);
            });
    }
}

#[divan::bench(args = [10, 1_000, 10_000], sample_count = 5)]
fn load(bencher: Bencher<'_, '_>, routes: u32) {
    bencher
        .with_inputs(|| parts(routes))
        .bench_local_values(|parts| Policy::assemble(parts).expect("a policy"));
}

/// What the journey's pure steps read.
struct Gate {
    policy: Policy,
    sessions: HashMap<TokenDigest, Arc<Caller>, BuildHasherDefault<DigestHasher>>,
    tokens: Vec<Box<str>>,
    routes: u32,
}

/// A live session.
struct Caller {
    facts: Session,
    cells: Cells,
}

/// What an agent sends.
struct Request {
    token: Box<str>,
    method: &'static str,
    target: String,
    now: Now,
}

impl Gate {
    fn new(routes: u32, sessions: u32) -> Self {
        let policy = Policy::assemble(parts(routes)).expect("a policy");
        let mut gate = Self {
            sessions: HashMap::default(),
            tokens: Vec::with_capacity(sessions as usize),
            policy,
            routes,
        };
        for number in 0..sessions {
            let mut random = [0; 32];
            random[..4].copy_from_slice(&number.to_be_bytes());
            let token = Token::mint(TokenKind::Session, &random);
            let caller = Caller {
                facts: session(number),
                cells: Cells::new(&gate.policy, Per::Session),
            };
            gate.tokens.push(token.reveal().into());
            gate.sessions.insert(token.digest(), Arc::new(caller));
        }
        gate
    }

    /// Some session calls some route on its own customer.
    fn request(&self, draw: &mut Draw) -> Request {
        let session = draw.below(u32::try_from(self.tokens.len()).expect("few"));
        let thing = draw.below(self.routes / 2);
        let (method, tail) = if draw.below(2) == 0 {
            ("GET", "")
        } else {
            ("POST", "/notes")
        };
        draw.nanos += 1_000;
        Request {
            token: self.tokens[session as usize].clone(),
            method,
            target: format!("/crm/v1/things{thing}/customer%2D{session}{tail}?expand=all"),
            now: Now {
                wall: Timestamp::from_micros(1_700_000_000_000_000),
                tick: Tick::from_nanos(draw.nanos),
            },
        }
    }

    /// What is measured: from the token's text to the permit.
    fn pass(&self, request: &Request) -> Permit<'_> {
        let caller = self.authenticate(&request.token);
        let call = Call {
            now: request.now.tick,
            digest: None,
        };
        let wide = caller.cells.take(&self.policy.session_wide, call);
        wide.expect("within the rate");
        let target = Target::parse(&request.target, HOST).expect("canonical");
        let matched = self
            .policy
            .table
            .find(&self.policy, request.method, &target);
        let matched = matched.expect("a route");
        let route = self.policy.route(matched.route);
        let template = route.resource.as_ref().expect("a resource");
        let resource = template.fill(&matched.captures, &caller.facts);
        let named = caller.cells.take(&route.session_limits, call);
        named.expect("within the count");
        let subject = Subject {
            session: &caller.facts,
            grants: &[],
        };
        let access = AccessRequest { route, resource };
        match decide(&self.policy, subject, access, request.now) {
            Decision::Allow(permit) => permit,
            Decision::Deny(denial) => panic!("denied: {denial:?}"),
        }
    }

    fn authenticate(&self, token: &str) -> Arc<Caller> {
        let digest = token::parse(TokenKind::Session, token).expect("a token");
        Arc::clone(self.sessions.get(&digest).expect("a live session"))
    }
}

const HOST: &str = "gate.example:8080";

/// Half the routes read, half write: two templates for each thing.
fn parts(routes: u32) -> Parts {
    let scopes = ["things.read", "things.write"].map(|name| ScopeName::parse(name).expect("name"));
    let own = ResourcePattern::parse("customer:{session.customer_id}").expect("a pattern");
    let ceiling = Ceiling {
        grant: GrantMode::OnUse,
        uses: 1,
        ttl: Duration::from_secs(300),
        grants: 10,
        resources: Resources::Patterns([own].into()),
    };
    let agent = Agent {
        name: AgentName::parse("support-bot").expect("a name"),
        ttl: Duration::from_secs(900),
        max_ttl: Duration::from_secs(3600),
        max_live: None,
        scopes: scopes
            .iter()
            .map(|scope| (scope.clone(), ceiling.clone()))
            .collect(),
    };
    let route = |number: u32, scope: &ScopeName, verb: &str, method: &str, tail: &str| RoutePart {
        id: RouteId::parse(&format!("things{number}.{verb}")).expect("a name"),
        tool: ToolIndex(0),
        matches: vec![MatchPart {
            methods: vec![method.into()],
            template: Template::parse(&format!("/v1/things{number}/{{customer}}{tail}"))
                .expect("a template"),
        }],
        scope: scope.clone(),
        resource: Some(ResourceTemplate::parse("customer:{customer}").expect("a template")),
        cost: None,
        irreversible: false,
        intent: IntentRule::Optional,
        body_limit: 1 << 20,
    };
    let [read, write] = &scopes;
    Parts {
        project: ProjectName::parse("bench").expect("a name"),
        hash: PolicyHash([7; 32]),
        agents: vec![agent],
        tools: vec![tool()],
        routes: (0..routes / 2)
            .flat_map(|number| {
                [
                    route(number, read, "read", "GET", ""),
                    route(number, write, "write", "POST", "/notes"),
                ]
            })
            .collect(),
        limits: vec![
            limit(
                "per-session",
                Select::default(),
                Bound::Rate {
                    count: u32::MAX,
                    window: Duration::from_secs(60),
                    burst: u32::MAX,
                },
            ),
            limit(
                "writes",
                Select {
                    scope: Some(write.clone()),
                    ..Select::default()
                },
                Bound::Count {
                    count: u32::MAX,
                    window: Duration::from_secs(60),
                },
            ),
        ],
    }
}

fn tool() -> Tool {
    Tool {
        name: ToolName::parse("crm").expect("a name"),
        mount: Mount::Path("/crm".into()),
        upstream: Upstream {
            authority: "127.0.0.1:9001".into(),
            host: "127.0.0.1:9001".into(),
            base_path: "".into(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            credential: None,
        },
        preserve_host: false,
        session_header: SessionHeader::Authorization,
        allow_method_override: [].into(),
        volatile_headers: [].into(),
        mask_headers: [].into(),
        record_query: [].into(),
        body_limit: 1 << 20,
    }
}

fn limit(id: &str, select: Select, bound: Bound) -> Limit {
    Limit {
        id: LimitId::parse(id).expect("a name"),
        per: Per::Session,
        select,
        bound,
        exceeded: Exceeded::Throttle,
    }
}

fn session(number: u32) -> Session {
    Session {
        id: SessionId::new(Uuid::from_u128(u128::from(number))),
        project: ProjectName::parse("bench").expect("a name"),
        agent: AgentName::parse("support-bot").expect("a name"),
        attributes: BTreeMap::from([("customer_id".into(), format!("customer-{number}").into())]),
        narrowing: None,
        parent: None,
        run: None,
        minted_by: PrincipalName::parse("orchestrator").expect("a name"),
        minted_at: Timestamp::from_micros(0),
        expires_at: Timestamp::from_micros(i64::MAX),
        ends: Tick::from_nanos(u64::MAX),
    }
}

/// A digest is evenly spread already.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some((head, _)) = bytes.split_first_chunk() {
            self.0 = u64::from_ne_bytes(*head);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// SplitMix64: the same calls in every run. Its clock goes a microsecond a call.
struct Draw {
    state: u64,
    nanos: u64,
}

impl Draw {
    fn new() -> Self {
        Self {
            state: 1,
            nanos: 3_600_000_000_000,
        }
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        u32::try_from((mixed >> 32) * u64::from(bound) >> 32).expect("below a u32")
    }
}
