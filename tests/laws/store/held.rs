//! Approvals under everything that can happen to them at once: words, runs, ends of sessions, faults of store and ledger,
//! callers that leave, kills. Whatever the order, what must never happen does not.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use super::world::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use toolgate::ledger::record::Cause;
use toolgate::policy::approval::{Stage, Word};
use toolgate::policy::id::{ApprovalId, GrantId, SessionId};
use toolgate::store::live::approvals::{Held, LiveApproval, Outcome, Run, VoteError};
use toolgate::store::live::{LiveSession, State};

#[derive(Clone, Debug)]
enum Step {
    Mint,
    Give(usize),
    Hold {
        session: usize,
        target: u8,
        grant: bool,
        leaves: bool,
    },
    Vote {
        approval: usize,
        who: usize,
        word: Word,
        leaves: bool,
    },
    Begin {
        approval: usize,
        leaves: bool,
    },
    Finish {
        run: usize,
        leaves: bool,
    },
    Unsent {
        run: usize,
        leaves: bool,
    },
    Lose(usize),
    Deliver(usize),
    Withdraw(usize),
    Resolve {
        approval: usize,
        ran: bool,
    },
    Spend(usize),
    TakeGrant(usize),
    Revoke(usize),
    Quarantine(usize),
    Release(usize),
    Fail {
        at: usize,
        count: usize,
        after: bool,
    },
    CloseLedger,
    Pass(u64),
    Sweep,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..30_usize;
    let leaves = || prop::bool::weighted(0.1);
    let word =
        prop::bool::weighted(0.1).prop_map(|deny| if deny { Word::Deny } else { Word::Approve });
    prop_oneof![
        1 => Just(Step::Mint),
        2 => which().prop_map(Step::Give),
        8 => (which(), 0..5_u8, any::<bool>(), leaves())
            .prop_map(|(session, target, grant, leaves)| Step::Hold { session, target, grant, leaves }),
        16 => (which(), 0..5_usize, word, leaves())
            .prop_map(|(approval, who, word, leaves)| Step::Vote { approval, who, word, leaves }),
        8 => (which(), leaves()).prop_map(|(approval, leaves)| Step::Begin { approval, leaves }),
        3 => (which(), leaves()).prop_map(|(run, leaves)| Step::Finish { run, leaves }),
        3 => (which(), leaves()).prop_map(|(run, leaves)| Step::Unsent { run, leaves }),
        1 => which().prop_map(Step::Lose),
        1 => which().prop_map(Step::Deliver),
        1 => which().prop_map(Step::Withdraw),
        3 => (which(), any::<bool>()).prop_map(|(approval, ran)| Step::Resolve { approval, ran }),
        2 => which().prop_map(Step::Spend),
        1 => which().prop_map(Step::TakeGrant),
        1 => which().prop_map(Step::Revoke),
        1 => which().prop_map(Step::Quarantine),
        2 => which().prop_map(Step::Release),
        3 => (0..3_usize, 1..4_usize, any::<bool>())
            .prop_map(|(at, count, after)| Step::Fail { at, count, after }),
        1 => Just(Step::CloseLedger),
        1 => (0..300_u64).prop_map(Step::Pass),
        3 => Just(Step::Sweep),
        2 => Just(Step::Kill),
    ]
}

/// What was acknowledged of one approval.
struct Known {
    id: ApprovalId,
    grant: Option<GrantId>,
    /// Whose agreement.
    words: HashSet<&'static str>,
    /// Runs begun and not given back.
    running: u32,
    /// Nothing of its run was sent, but that is not acknowledged.
    returning: bool,
    over: Option<Stage>,
}

#[derive(Default)]
struct Oracle {
    sessions: Vec<SessionId>,
    approvals: Vec<Known>,
    runs: Vec<(usize, Run)>,
    /// What each grant was given for, and what was taken of it.
    grants: Vec<(GrantId, SessionId)>,
    taken: HashMap<GrantId, u32>,
    /// Store and ledger may be behind memory.
    behind: bool,
}

const USES: u32 = 3;
const WHO: [&str; 5] = ["ann", "bob", "cho", "eve", "orchestrator"];

struct Play {
    world: World,
    oracle: Oracle,
}

impl Play {
    fn session(&self, at: usize) -> Option<Arc<LiveSession>> {
        let at = at.checked_rem(self.oracle.sessions.len())?;
        self.world.sessions.by_id(self.oracle.sessions[at])
    }

    fn pick(&self, at: usize) -> Option<(usize, Arc<LiveApproval>)> {
        let at = at.checked_rem(self.oracle.approvals.len())?;
        let found = self.world.sessions.approval(self.oracle.approvals[at].id)?;
        Some((at, found))
    }

    /// The same, of those at a stage, if there are any: most of what is drawn would come to nothing else.
    fn pick_at(&self, at: usize, stage: Stage) -> Option<(usize, Arc<LiveApproval>)> {
        let here = |known: &Known| {
            let found = self.world.sessions.approval(known.id);
            found.is_some_and(|found| found.stage() == stage)
        };
        let known = self.oracle.approvals.iter().enumerate();
        let all: Vec<_> = known.filter(|one| here(one.1)).map(|one| one.0).collect();
        match at.checked_rem(all.len()) {
            Some(place) if !at.is_multiple_of(5) => self.pick(all[place]),
            _ => self.pick(at),
        }
    }

    async fn act(&mut self, step: Step) {
        match step {
            Step::Mint if self.oracle.sessions.len() < 3 => {
                if let Ok(session) = self.world.mint(order()).await {
                    self.oracle.sessions.push(session.facts.id);
                } else {
                    self.oracle.behind = true;
                }
            }
            Step::Mint => {}
            Step::Give(at) => self.give(at).await,
            Step::Hold {
                session,
                target,
                grant,
                leaves,
            } => self.hold(session, target, grant, leaves).await,
            Step::Vote {
                approval,
                who,
                word,
                leaves,
            } => self.vote(approval, WHO[who], word, leaves).await,
            Step::Begin { approval, leaves } => self.begin(approval, leaves).await,
            Step::Finish { run, leaves } => self.finish(run, leaves).await,
            Step::Unsent { run, leaves } => self.unsent(run, leaves).await,
            Step::Lose(at) => {
                if let Some(at) = at.checked_rem(self.oracle.runs.len()) {
                    drop(self.oracle.runs.remove(at));
                    self.oracle.behind = true;
                }
            }
            Step::Deliver(at) => {
                if let Some((_, approval)) = self.pick(at) {
                    self.world.sessions.delivered(&approval);
                    self.oracle.behind = true;
                }
            }
            Step::Withdraw(at) => {
                if let Some((_, approval)) = self.pick(at) {
                    let withdrawn = self
                        .world
                        .sessions
                        .withdraw(&approval, "why", Cause::Agent, self.world.now)
                        .await;
                    self.note(withdrawn.map(drop));
                    assert_ne!(approval.stage(), Stage::Pending);
                    assert_ne!(approval.stage(), Stage::Approved);
                }
            }
            Step::Resolve { approval, ran } => self.resolve(approval, ran).await,
            Step::Spend(at) => {
                if let Some(at) = at.checked_rem(self.oracle.grants.len()) {
                    let (grant, session) = self.oracle.grants[at];
                    if let Some(session) = self.world.sessions.by_id(session) {
                        match self.world.spend(&session, grant).await {
                            Ok(true) => self.take(grant),
                            Ok(false) => {}
                            Err(_) => self.oracle.behind = true,
                        }
                    }
                }
            }
            Step::TakeGrant(at) => {
                if let Some(at) = at.checked_rem(self.oracle.grants.len()) {
                    let (grant, session) = self.oracle.grants[at];
                    if let Some(session) = self.world.sessions.by_id(session) {
                        let gone = self
                            .world
                            .sessions
                            .revoke_grant(&session, grant, Cause::Agent, self.world.now)
                            .await;
                        self.oracle.behind |= gone.is_err();
                    }
                }
            }
            Step::Revoke(at) => {
                if let Some(session) = self.session(at) {
                    self.oracle.behind |= self.world.revoke(&session).await.is_err();
                    self.nothing_waits(&session);
                }
            }
            Step::Quarantine(at) => {
                if let Some(session) = self.session(at) {
                    self.oracle.behind |= self.world.quarantine(&session).await.is_err();
                    self.nothing_waits(&session);
                }
            }
            Step::Release(at) => {
                if let Some(session) = self.session(at) {
                    self.oracle.behind |= self.world.release(&session).await.is_err();
                }
            }
            Step::Fail { at, count, after } => {
                let when = if after { When::After } else { When::Before };
                self.world
                    .store
                    .fail((at..at + count).map(|call| (call, when)));
            }
            Step::CloseLedger => self.world.ledger.close().unwrap(),
            Step::Pass(seconds) => self.world.pass(Duration::from_secs(seconds)),
            Step::Sweep => {
                self.world.store.fail([]);
                let failed = self.world.sessions.sweep(self.world.now).await.failed;
                self.oracle.behind = failed > 0;
            }
            Step::Kill => {}
        }
    }

    fn note(&mut self, result: Result<(), VoteError>) {
        match result {
            Ok(()) => {}
            // Time may have been faster, and that may not be durable.
            Err(VoteError::Late(_) | VoteError::Store(_) | VoteError::Ledger(_)) => {
                self.oracle.behind = true
            }
            Err(_) => {}
        }
    }

    fn take(&mut self, grant: GrantId) {
        let taken = self.oracle.taken.entry(grant).or_default();
        *taken += 1;
        assert!(*taken <= USES, "a use was made twice");
    }

    async fn give(&mut self, at: usize) {
        let Some(session) = self.session(at) else {
            return;
        };
        match self
            .world
            .give(&session, ask("tickets.write", None, USES))
            .await
        {
            Ok(grant) => self.oracle.grants.push((grant, session.facts.id)),
            Err(_) => self.oracle.behind = true,
        }
    }

    async fn hold(&mut self, session: usize, target: u8, grant: bool, leaves: bool) {
        let Some(session) = self.session(session) else {
            return;
        };
        let own = |one: &&(GrantId, SessionId)| one.1 == session.facts.id;
        let grant = self
            .oracle
            .grants
            .iter()
            .rev()
            .find(own)
            .filter(|_| grant)
            .map(|one| one.0);
        // Another grant is another request, as another byte of it would be.
        let target = format!("/r{target}/{grant:?}");
        if leaves {
            super::once(self.world.hold(&session, &target, grant)).await;
            self.oracle.behind = true;
            return;
        }
        match self.world.hold(&session, &target, grant).await {
            Ok(Held::Made(approval)) => {
                assert_eq!(self.world.state(&session), State::Live);
                let same = |one: &&Known| {
                    let found = self.world.sessions.approval(one.id);
                    found.is_some_and(|found| {
                        found.facts.session == approval.facts.session
                            && found.facts.digest == approval.facts.digest
                            && found.stage() == Stage::Pending
                            && self.world.now.tick < found.facts.ends
                    })
                };
                assert_eq!(
                    self.oracle.approvals.iter().filter(same).count(),
                    0,
                    "it was asked before"
                );
                self.oracle.approvals.push(Known {
                    id: approval.facts.id,
                    grant,
                    words: HashSet::new(),
                    running: 0,
                    returning: false,
                    over: None,
                });
            }
            Ok(Held::Joined(_)) => {}
            Err(_) => self.oracle.behind = true,
        }
    }

    async fn vote(&mut self, at: usize, who: &'static str, word: Word, leaves: bool) {
        let Some((at, approval)) = self.pick_at(at, Stage::Pending) else {
            return;
        };
        if leaves {
            super::once(self.world.vote(&approval, who, word)).await;
            self.oracle.behind = true;
            return;
        }
        match self.world.vote(&approval, who, word).await {
            Ok(stage) => {
                assert!(["ann", "bob", "cho"].contains(&who));
                assert_eq!(
                    word == Word::Deny,
                    stage == Stage::Denied
                        && approval
                            .votes()
                            .iter()
                            .any(|vote| vote.word == Word::Deny && vote.principal.as_str() == who)
                );
                if word == Word::Approve {
                    self.oracle.approvals[at].words.insert(who);
                }
            }
            Err(error) => self.note(Err(error)),
        }
    }

    async fn begin(&mut self, at: usize, leaves: bool) {
        let Some((at, approval)) = self.pick_at(at, Stage::Approved) else {
            return;
        };
        if leaves {
            super::once(self.world.sessions.begin(&approval, self.world.now)).await;
            self.oracle.behind = true;
            return;
        }
        let begun = self.world.sessions.begin(&approval, self.world.now).await;
        let run = match begun {
            Ok(run) => run,
            Err(error) => return self.note(Err(error)),
        };
        let now = self.world.now.tick;
        assert!(now < approval.facts.ends, "its time was over");
        let session = self.world.sessions.by_id(approval.facts.session).unwrap();
        assert_eq!(session.state(now), State::Live);
        let votes = approval.votes();
        let who: HashSet<_> = votes.iter().map(|vote| vote.principal.as_str()).collect();
        assert!(who.len() >= 2 && votes.iter().all(|vote| vote.word == Word::Approve));
        assert!(who.is_subset(&["ann", "bob", "cho"].into()));
        let known = &mut self.oracle.approvals[at];
        known.running += 1;
        assert_eq!(known.running, 1, "it ran twice");
        if let Some(grant) = known.grant {
            self.take(grant);
        }
        self.oracle.runs.push((at, run));
    }

    async fn finish(&mut self, at: usize, leaves: bool) {
        let Some(at) = at.checked_rem(self.oracle.runs.len()) else {
            return;
        };
        let (at, run) = self.oracle.runs.remove(at);
        let outcome = Outcome {
            status: Some(200),
            body: Some(b"x".as_slice().into()),
            ..Outcome::default()
        };
        let finish = self.world.sessions.finish(run, outcome, self.world.now);
        if leaves {
            super::once(finish).await;
            self.oracle.behind = true;
        } else if finish.await.is_ok() {
            self.oracle.approvals[at].over = Some(Stage::Executed);
        } else {
            self.oracle.behind = true;
        }
    }

    async fn unsent(&mut self, at: usize, leaves: bool) {
        let Some(at) = at.checked_rem(self.oracle.runs.len()) else {
            return;
        };
        let (at, run) = self.oracle.runs.remove(at);
        self.oracle.approvals[at].returning = true;
        let unsent = self.world.sessions.unsent(run, self.world.now);
        if leaves {
            super::once(unsent).await;
            self.oracle.behind = true;
        } else {
            self.oracle.behind |= unsent.await.is_err();
        }
    }

    async fn resolve(&mut self, at: usize, ran: bool) {
        let Some((at, approval)) = self.pick_at(at, Stage::Unknown) else {
            return;
        };
        let resolved = self
            .world
            .sessions
            .resolve(&approval, ran, "seen", &operator(), self.world.now)
            .await;
        if resolved.is_ok() && !ran {
            // A step to run that its caller did not wait for was never counted.
            let known = &mut self.oracle.approvals[at];
            known.returning = known.running > 0;
        }
        self.note(resolved);
    }

    /// But what is past its time, which counts for nothing: the sweep says so.
    fn nothing_waits(&self, session: &LiveSession) {
        let all = self.world.sessions.approvals(
            std::slice::from_ref(&session.facts.project),
            &[Stage::Pending, Stage::Approved],
            None,
            usize::MAX,
        );
        assert!(
            all.iter().all(|one| one.facts.session != session.facts.id
                || self.world.now.tick >= one.facts.ends),
            "it waits for a session that is dead"
        );
    }

    /// What holds after every step.
    fn look(&mut self) {
        for known in &mut self.oracle.approvals {
            let Some(approval) = self.world.sessions.approval(known.id) else {
                assert!(known.over.is_some(), "it is gone");
                continue;
            };
            let stage = approval.stage();
            if let Some(over) = known.over {
                assert_eq!(stage, over, "it was over");
            }
            if known.returning && !matches!(stage, Stage::Executing | Stage::Unknown) {
                known.returning = false;
                known.running -= 1;
                if let Some(grant) = known.grant {
                    *self.oracle.taken.get_mut(&grant).unwrap() -= 1;
                }
            }
            let votes = approval.votes();
            for who in &known.words {
                let said = votes
                    .iter()
                    .any(|vote| vote.principal.as_str() == *who && vote.word == Word::Approve);
                assert!(said, "a word was lost");
            }
        }
        for id in &self.oracle.sessions {
            if let Some(session) = self.world.sessions.by_id(*id) {
                session.with_grants(|all| {
                    assert!(
                        all.iter()
                            .all(|grant| grant.reserved <= grant.uses_left
                                && grant.uses_left <= USES)
                    );
                });
            }
        }
    }

    /// Closes everything as it stands and opens it again.
    fn kill(self) -> Self {
        let Play { world, mut oracle } = self;
        let before = world.approvals();
        let runs = std::mem::take(&mut oracle.runs);
        let world = world.reopen();
        for (at, run) in runs {
            let found = world.sessions.approval(oracle.approvals[at].id).unwrap();
            assert_eq!(found.stage(), Stage::Unknown, "its run was under way");
            drop(run);
        }
        if !oracle.behind {
            let after = world.approvals();
            for (id, line) in before {
                if !line.starts_with("Executing") {
                    assert_eq!(after.get(&id), Some(&line));
                }
            }
        }
        // What the restart itself decided is not durable before the next sweep.
        oracle.behind = true;
        Play { world, oracle }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing runs twice, or without enough people's word, or for a session that is dead, or after its time; no use of a
    /// grant is made twice; no word that was taken and no end that was acknowledged is lost, whatever fails and whenever the
    /// gate is killed; and after a sweep memory and store are the same.
    #[test]
    fn whatever_happens_to_approvals_what_must_never_happen_does_not(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        run(async {
            let mut play = Play { world: World::new(None), oracle: Oracle::default() };
            play.act(Step::Mint).await;
            for step in steps {
                let kill = matches!(step, Step::Kill);
                play.act(step).await;
                if kill {
                    play = play.kill();
                }
                play.look();
            }
            // At the end all is well again: what is owed is paid, and a restart changes nothing.
            play = play.kill();
            play.look();
            for _ in 0..3 {
                assert_eq!(play.world.sessions.sweep(play.world.now).await.failed, 0);
            }
            assert_eq!(play.world.sessions.sweep(play.world.now).await, Default::default());
            let before = play.world.dump();
            let world = play.world.reopen();
            assert_eq!(world.dump(), before);
        });
    }
}
