//! A gate's state on disk and the table over it, with a disk whose changes fail as told.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use toolgate::config::LedgerSettings;
use toolgate::ledger::record::Cause;
use toolgate::ledger::{Ledger, verify};
use toolgate::policy::approval::{
    Approver, Approvers, Asked, AskedGrant, Chain, Facts, HeldCall, RequestDigest, Stage, Word,
};
use toolgate::policy::attributes::Attributes;
use toolgate::policy::decision::GrantUse;
use toolgate::policy::id::{ApprovalId, GrantId, RequestId, SessionId};
use toolgate::policy::limit::{Bound, Exceeded, Limit, Per, Select};
use toolgate::policy::model::{Agent, Ceiling, GrantMode, Parts, Policy, PolicyHash, Resources};
use toolgate::policy::name::{
    AgentName, ChainName, GroupName, LimitId, PrincipalName, ProjectName, RouteId, ScopeName,
    ToolName,
};
use toolgate::policy::resource::{Resource, ResourcePattern};
use toolgate::policy::time::{Now, Tick, Timestamp};
use toolgate::policy::token::TokenDigest;
use toolgate::store::embedded::Embedded;
use toolgate::store::live::approvals::{Ballot, Held, HoldError, LiveApproval, VoteError};
use toolgate::store::live::{
    Ask, ChangeError, GiveError, LiveSession, MintError, Order, Sessions, State,
};
use toolgate::store::{Applied, Change, Store, StoreFault, StoreFuture};
use uuid::Uuid;

/// A gate's state on disk, and the table over it.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) policy: Policy,
    pub(super) ledger: Ledger,
    pub(super) store: Arc<Flaky>,
    pub(super) sessions: Sessions,
    pub(super) now: Now,
    pub(super) made: u128,
}

/// The embedded store, of which chosen changes fail: before they are made, or after.
pub(super) struct Flaky {
    pub(super) store: Embedded,
    pub(super) calls: AtomicUsize,
    pub(super) faults: Mutex<BTreeMap<usize, When>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Before,
    After,
}

impl Store for Flaky {
    fn apply(&self, change: Change) -> StoreFuture<Applied> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().unwrap().get(&call).copied();
        let failed = || Err(StoreFault("the disk is gone".into()));
        match fault {
            None => self.store.apply(change),
            Some(When::Before) => Box::pin(async move { failed() }),
            Some(When::After) => {
                let applied = self.store.apply(change);
                Box::pin(async move {
                    applied.await?;
                    failed()
                })
            }
        }
    }
}

impl Flaky {
    /// The next changes fail, counted from here.
    pub(super) fn fail(&self, next: impl IntoIterator<Item = (usize, When)>) {
        let at = self.calls.load(Ordering::SeqCst);
        let faults = next.into_iter().map(|(call, when)| (at + call, when));
        *self.faults.lock().unwrap() = faults.collect();
    }
}

pub(super) fn ceiling(grant: GrantMode, resources: Resources) -> Ceiling {
    Ceiling {
        grant,
        uses: 5,
        ttl: Duration::from_secs(600),
        grants: 3,
        resources,
    }
}

pub(super) fn scope(text: &str) -> ScopeName {
    ScopeName::parse(text).unwrap()
}

/// Ten millionths an hour.
pub(super) fn spend_limit() -> Limit {
    Limit {
        id: LimitId::parse("spend").unwrap(),
        per: Per::Session,
        select: Select::default(),
        bound: Bound::Cost {
            micros: 10,
            window: Duration::from_secs(3600),
        },
        exceeded: Exceeded::Quarantine,
    }
}

pub(super) fn policy(max_live: Option<u32>) -> Policy {
    policy_with(max_live, Vec::new())
}

pub(super) fn policy_with(max_live: Option<u32>, limits: Vec<Limit>) -> Policy {
    let users = [ResourcePattern::parse("user:*").unwrap()].into();
    let scopes = HashMap::from([
        (
            scope("web.search"),
            ceiling(GrantMode::OnUse, Resources::Any),
        ),
        (
            scope("tickets.write"),
            ceiling(GrantMode::OnRequest, Resources::Any),
        ),
        (
            scope("refunds.create"),
            ceiling(GrantMode::OnRequest, Resources::Patterns(users)),
        ),
    ]);
    let agent = Agent {
        name: AgentName::parse("bot").unwrap(),
        ttl: Duration::from_secs(900),
        max_ttl: Duration::from_secs(3600),
        max_live,
        scopes,
    };
    Policy::assemble(Parts {
        project: ProjectName::parse("demo").unwrap(),
        hash: PolicyHash([1; 32]),
        agents: vec![agent],
        tools: Vec::new(),
        routes: Vec::new(),
        limits,
        chains: Vec::new(),
        notify: Vec::new(),
    })
    .unwrap()
}

pub(super) fn order() -> Order {
    Order {
        agent: AgentName::parse("bot").unwrap(),
        ttl: None,
        attributes: Attributes::from([("customer_id", "7")]),
        scopes: None,
        intent: None,
        run: Some("run-1".into()),
        parent: None,
        bound_to: None,
        minted_by: PrincipalName::parse("orchestrator").unwrap(),
    }
}

pub(super) fn ask(name: &str, resource: Option<&str>, uses: u32) -> Ask {
    Ask {
        scope: scope(name),
        resource: resource.map(|text| Resource::parse(text).unwrap()),
        uses: Some(uses),
        ttl: None,
        why: "because".into(),
    }
}

pub(super) fn operator() -> PrincipalName {
    PrincipalName::parse("ops").unwrap()
}

pub(super) type Opened = (Ledger, Arc<Flaky>, Sessions);

pub(super) fn open(folder: &TempDir, now: Now) -> Opened {
    let settings = LedgerSettings {
        segment_bytes_max: 1 << 20,
        segment_age_max: Duration::from_secs(86_400),
        ..LedgerSettings::new(folder.path().join("ledger"))
    };
    let ledger = Ledger::open(&settings, move || now.wall).unwrap();
    let (store, snapshot) = Embedded::open(&folder.path().join("toolgate.db"), now.wall).unwrap();
    let store = Arc::new(Flaky {
        store,
        calls: AtomicUsize::new(0),
        faults: Mutex::default(),
    });
    let seam: Arc<dyn Store> = Arc::clone(&store) as _;
    let sessions = Sessions::new(seam, snapshot, ledger.clone(), now);
    (ledger, store, sessions)
}

impl World {
    pub(super) fn new(max_live: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Now {
            wall: Timestamp::from_micros(1_700_000_000_000_000),
            tick: Tick::from_nanos(1_000_000_000_000),
        };
        let (ledger, store, sessions) = open(&folder, now);
        World {
            folder,
            policy: policy(max_live),
            ledger,
            store,
            sessions,
            now,
            made: 0,
        }
    }

    /// Closes everything and opens it again, on another monotonic clock.
    pub(super) fn reopen(self) -> Self {
        let World {
            folder,
            policy,
            ledger,
            store,
            sessions,
            now,
            made,
        } = self;
        drop((sessions, store, ledger));
        let now = Now {
            wall: now.wall,
            tick: Tick::from_nanos(5_000_000_000),
        };
        let (ledger, store, sessions) = open(&folder, now);
        World {
            folder,
            policy,
            ledger,
            store,
            sessions,
            now,
            made,
        }
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.now = Now {
            wall: self.now.wall.plus(span),
            tick: self.now.tick.plus(span),
        };
    }

    pub(super) fn number(&mut self) -> u128 {
        self.made += 1;
        self.made
    }

    pub(super) async fn mint(&mut self, order: Order) -> Result<Arc<LiveSession>, MintError> {
        let number = self.number();
        let (id, token) = (session_id(number), token(number));
        self.sessions
            .mint(&self.policy, order, id, token, self.now)
            .await
    }

    pub(super) async fn give(
        &mut self,
        session: &Arc<LiveSession>,
        ask: Ask,
    ) -> Result<GrantId, GiveError> {
        let id = GrantId::new(Uuid::from_u128(self.number()));
        let given = self
            .sessions
            .give(&self.policy, session, ask, id, Cause::Agent, self.now)
            .await;
        given.map(|grant| grant.id)
    }

    pub(super) async fn revoke(&self, session: &Arc<LiveSession>) -> Result<(), ChangeError> {
        self.sessions
            .revoke(session, Cause::Principal(&operator()), self.now)
            .await
    }

    pub(super) async fn quarantine(&self, session: &Arc<LiveSession>) -> Result<(), ChangeError> {
        let cause = Cause::Principal(&operator());
        self.sessions
            .quarantine(session, "strange", cause, self.now)
            .await
            .map(drop)
    }

    pub(super) async fn release(&self, session: &Arc<LiveSession>) -> Result<(), ChangeError> {
        self.sessions
            .release(session, "fine", Cause::Principal(&operator()), self.now)
            .await
    }

    pub(super) async fn spend(
        &self,
        session: &Arc<LiveSession>,
        grant: GrantId,
    ) -> Result<bool, StoreFault> {
        self.sessions.spend(session, grant, self.now).await
    }

    /// Holds a request to this target; on one use of a grant, if one is named.
    pub(super) async fn hold(
        &mut self,
        session: &Arc<LiveSession>,
        target: &str,
        grant: Option<GrantId>,
    ) -> Result<Held, HoldError> {
        let id = ApprovalId::new(Uuid::from_u128(self.number()));
        let facts = facts(id, session, target, grant, self.now);
        self.sessions
            .hold(session, &chain(), facts, Cause::Agent, self.now)
            .await
    }

    /// The same, where there is none yet.
    pub(super) async fn made(
        &mut self,
        session: &Arc<LiveSession>,
        target: &str,
        grant: Option<GrantId>,
    ) -> Arc<LiveApproval> {
        match self.hold(session, target, grant).await.unwrap() {
            Held::Made(approval) => approval,
            Held::Joined(_) => panic!("it was there"),
        }
    }

    /// The same, and all agree to it.
    pub(super) async fn agreed(
        &mut self,
        session: &Arc<LiveSession>,
        target: &str,
        grant: Option<GrantId>,
    ) -> Arc<LiveApproval> {
        let approval = self.made(session, target, grant).await;
        self.vote(&approval, "ann", Word::Approve).await.unwrap();
        let stage = self.vote(&approval, "bob", Word::Approve).await.unwrap();
        assert_eq!(stage, Stage::Approved);
        approval
    }

    pub(super) async fn vote(
        &self,
        approval: &Arc<LiveApproval>,
        who: &str,
        word: Word,
    ) -> Result<Stage, VoteError> {
        let principal = PrincipalName::parse(who).unwrap();
        let ballot = Ballot {
            principal: &principal,
            word,
            digest: approval.facts.digest,
            note: Some("seen"),
        };
        self.sessions
            .vote(approval, ballot, &chain(), &approvers(), self.now)
            .await
    }

    pub(super) fn standing(
        &self,
        session: &LiveSession,
        target: &str,
    ) -> Option<Arc<LiveApproval>> {
        self.sessions.standing(session, digest(target), self.now)
    }

    pub(super) fn again(&self, approval: &LiveApproval) -> Arc<LiveApproval> {
        self.sessions.approval(approval.facts.id).unwrap()
    }

    pub(super) fn state(&self, session: &LiveSession) -> State {
        session.state(self.now.tick)
    }

    /// Everything a restart must bring back.
    pub(super) fn dump(&self) -> Vec<String> {
        let all = self
            .sessions
            .list(std::slice::from_ref(&self.policy.project), None, usize::MAX);
        let sessions = all
            .iter()
            .filter(|session| self.state(session) != State::Ended);
        sessions
            .map(|session| {
                let facts = &session.facts;
                let grants = session.with_grants(|grants| {
                    let mut shown = Vec::new();
                    for grant in grants.iter().filter(|grant| self.now.tick < grant.ends) {
                        shown.push((
                            grant.id,
                            grant.scope.clone(),
                            grant.resource.clone(),
                            grant.uses_left,
                            grant.uses,
                            grant.expires_at,
                            grant.why.clone(),
                        ));
                    }
                    shown
                });
                let mut given = session.grants_given();
                given.sort();
                format!(
                    "{} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {grants:?} {given:?}",
                    facts.id,
                    facts.attributes,
                    facts.narrowing,
                    facts.parent.as_ref().map(|parent| parent.id),
                    facts.run,
                    facts.minted_by,
                    facts.expires_at,
                    session.intent(),
                    self.state(session),
                    session.quarantined_since(),
                    session.quarantine_reason(),
                )
            })
            .chain(self.approvals().into_values())
            .collect()
    }

    /// What of approvals a restart must bring back.
    pub(super) fn approvals(&self) -> BTreeMap<ApprovalId, String> {
        let all = self.sessions.approvals(
            std::slice::from_ref(&self.policy.project),
            &[],
            None,
            usize::MAX,
        );
        let shown = all.iter().map(|one| {
            let facts = Facts {
                ends: Tick::from_nanos(0),
                ..one.facts.clone()
            };
            let session = self.sessions.by_id(facts.session);
            let standing = session
                .and_then(|session| self.sessions.standing(&session, facts.digest, self.now));
            let stands = standing.is_some_and(|found| found.facts.id == facts.id);
            let (votes, ending) = (one.votes(), one.ending());
            let (stage, since, outcome) = (one.stage(), one.since(), one.outcome());
            let line =
                format!("{stage:?} {stands} {since:?} {facts:?} {votes:?} {ending:?} {outcome:?}");
            (facts.id, line)
        });
        shown.collect()
    }

    /// The ledger is whole; its records of one kind, as `change session-or-grant`.
    pub(super) fn records(&self, kind: &str) -> Vec<String> {
        let directory = self.folder.path().join("ledger");
        verify::chain(&directory).unwrap();
        let mut out = Vec::new();
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        for file in files
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        {
            for line in std::fs::read_to_string(file).unwrap().lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                if line["kind"] == kind {
                    out.push(line["change"].as_str().unwrap().to_owned());
                }
            }
        }
        out
    }
}

/// Two of four, within ten minutes.
pub(super) fn chain() -> Chain {
    Chain {
        name: ChainName::parse("leads").unwrap(),
        approvers: [GroupName::parse("leads").unwrap()].into(),
        quorum: 2,
        hold: Duration::from_secs(30),
        expires: Duration::from_secs(600),
        denied_for: Duration::from_secs(60),
        pending_per_session: 5,
        pending_per_route: 3,
        notify: [].into(),
    }
}

/// `ann`, `bob`, `cho` and the one who minted; `eve` is in another group, `fay` in another project.
pub(super) fn approvers() -> Approvers {
    let one = |name: &str, group: &str, project: &str| {
        let approver = Approver {
            groups: [GroupName::parse(group).unwrap()].into(),
            projects: [ProjectName::parse(project).unwrap()].into(),
        };
        (PrincipalName::parse(name).unwrap(), approver)
    };
    Approvers::new([
        one("ann", "leads", "demo"),
        one("bob", "leads", "demo"),
        one("cho", "leads", "demo"),
        one("orchestrator", "leads", "demo"),
        one("eve", "others", "demo"),
        one("fay", "leads", "elsewhere"),
    ])
}

pub(super) fn digest(target: &str) -> RequestDigest {
    RequestDigest(*TokenDigest::of(target).as_bytes())
}

/// What is asked of a call to `target` (its route: the first segment), or of a wish for `grant NAME`.
pub(super) fn facts(
    id: ApprovalId,
    session: &LiveSession,
    target: &str,
    grant: Option<GrantId>,
    now: Now,
) -> Facts {
    let asked = match target.strip_prefix("grant ") {
        Some(why) => Asked::Grant(AskedGrant {
            uses: 2,
            ttl: Duration::from_secs(60),
            why: why.into(),
        }),
        None => Asked::Call(Box::new(HeldCall {
            tool: ToolName::parse("users").unwrap(),
            route: RouteId::parse(target.split('/').nth(1).unwrap()).unwrap(),
            upstream: [3; 32],
            method: "DELETE".into(),
            authority: "gate:1".into(),
            target: target.into(),
            fields: ["a", "b"]
                .map(|name| toolgate::policy::approval::Field {
                    name: name.into(),
                    value: b"x: \xff: y".as_slice().into(),
                })
                .into(),
            body: target.as_bytes().into(),
            grant: grant.map_or(GrantUse::OnUse, GrantUse::Stored),
        })),
    };
    let (session, chain) = (&session.facts, chain());
    Facts {
        id,
        project: session.project.clone(),
        policy: PolicyHash([1; 32]),
        chain: chain.name,
        agent: session.agent.clone(),
        session: session.id,
        run: session.run.clone(),
        minted_by: session.minted_by.clone(),
        intent: Some("tidy up".into()),
        client: "127.0.0.1".parse().unwrap(),
        request: RequestId::new(Uuid::from_u128(7)),
        scope: scope("tickets.write"),
        resource: Some(Resource::parse("user:7").unwrap()),
        asked,
        digest: digest(target),
        created_at: now.wall,
        expires_at: now.wall.plus(chain.expires),
        ends: now.tick.plus(chain.expires),
        denied_for: chain.denied_for,
        quorum: chain.quorum,
    }
}

pub(super) fn approval_id(number: u128) -> ApprovalId {
    ApprovalId::new(Uuid::from_u128(number))
}

pub(super) fn session_id(number: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(number))
}

pub(super) fn token(number: u128) -> TokenDigest {
    TokenDigest::of(&number.to_string())
}

pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
