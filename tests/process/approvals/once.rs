//! Exactly once, however many retries, disconnects and approvers race.

use super::scene::{APPROVE, DENY, Scene, Shown, edited, stage, waits};
use super::talk::{Order, Talk, send};
use crate::client::Answer;
use crate::gate::Minted;
use crate::ledger;
use crate::wait::within;
use http::Method;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const ROUNDS: u64 = 1000;
/// Identical requests of a round, while people decide.
const RETRIES: usize = 32;
/// Of these, so many leave before they are answered.
const LEAVING: usize = 6;
/// Rounds at the same time, each of a session of its own.
const LANES: usize = 8;

/// What a retry may hear of an approval that is over.
const HEARD: [&str; 3] = ["approval_denied", "approval_void", "outcome_not_kept"];

/// What people, and the agent itself, do in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plot {
    /// Two agree at once where one is enough.
    BothAgree,
    /// Two agree at once where two are needed.
    TwoOfTwo,
    /// One agrees, one does not, at once.
    Quarrel,
    /// One agrees, twice at once, where two are needed.
    OneTwice,
    /// One agrees while the agent takes it back.
    TakenBack,
    /// One agrees to something else.
    Elsewhere,
}

impl Plot {
    fn of(round: u64) -> Self {
        match round % 10 {
            0..=3 => Plot::BothAgree,
            4 | 5 => Plot::TwoOfTwo,
            6 => Plot::Quarrel,
            7 => Plot::OneTwice,
            8 => Plot::TakenBack,
            _ => Plot::Elsewhere,
        }
    }

    fn route(self) -> &'static str {
        match self {
            Plot::TwoOfTwo | Plot::OneTwice => "pair",
            _ => "act",
        }
    }
}

/// What came of all rounds.
#[derive(Debug, Default)]
struct Counts {
    /// Where the approvals ended, by plot.
    ends: BTreeMap<(Plot, String), u64>,
    /// Requests by status and reason.
    answers: BTreeMap<String, u64>,
    /// Requests that nobody stayed to hear the answer of.
    left: u64,
    /// What ran.
    runs: u64,
}

/// A session and its connections.
struct Lane {
    scene: Arc<Scene>,
    session: Minted,
    talks: Vec<Talk>,
    counts: Counts,
}

impl Lane {
    async fn open(scene: Arc<Scene>) -> Self {
        let session = scene.mint().await;
        let mut talks = Vec::new();
        for _ in LEAVING..RETRIES {
            talks.push(scene.talk().await);
        }
        Self {
            scene,
            session,
            talks,
            counts: Counts::default(),
        }
    }

    async fn round(&mut self, round: u64) {
        let plot = Plot::of(round);
        let order = Order::post(format!("/t/{}/{round}", plot.route())).body(format!("{round}"));
        let (scene, session) = (Arc::clone(&self.scene), self.session.clone());
        let shown = scene.ask(&self.session, &order).await;
        let (answers, people) =
            tokio::join!(self.crowd(&order), people(&scene, plot, &shown, &session));
        let mut serials: HashSet<String> = HashSet::new();
        let mut at_first_hand = 0;
        for answer in &answers {
            self.note(answer);
            if answer.status == 200 {
                serials.insert(answer.header("x-serial").unwrap().to_owned());
                at_first_hand += usize::from(answer.header("toolgate-replayed").is_none());
            }
        }
        let end = self.settled(&order, &shown, &mut serials).await;
        let line = format!("POST /{}/{round}", plot.route());
        let runs = scene.backend.seen(&line);
        let story = format!("round {round}, {plot:?}, {end}, {people:?}");
        assert_eq!(runs, u64::from(end == "executed"), "{story}");
        assert!(serials.len() <= 1, "one run has one answer: {story}");
        assert!(at_first_hand <= 1, "the others have a copy: {story}");
        let told: Vec<&str> = people.iter().map(String::as_str).collect();
        plot.check(&end, &told, &story);
        self.counts.runs += runs;
        *self.counts.ends.entry((plot, end)).or_default() += 1;
    }

    /// The identical requests, all at once; who leaves has no answer.
    async fn crowd(&mut self, order: &Order) -> Vec<Answer> {
        let (address, token) = (self.scene.gate.agents, self.session.token.clone());
        let leaving = (0..LEAVING).map(|number| {
            let (token, order) = (token.clone(), order.clone());
            async move {
                let Ok(mut talk) = Talk::open(address).await else {
                    return;
                };
                // Chance chooses what the gate is doing when they leave: this is not a wait for anything.
                let stay = Duration::from_millis(number as u64);
                drop(tokio::time::timeout(stay, talk.send(&token, &order)).await);
            }
        });
        self.counts.left += LEAVING as u64;
        let staying = self.talks.iter_mut().enumerate().map(|(number, talk)| {
            let order = match number % 3 {
                0 => order.clone().at_once(),
                1 => order.clone().with("user-agent", format!("retry/{number}")),
                _ => order.clone(),
            };
            let token = token.clone();
            async move { talk.send(&token, &order).await.unwrap() }
        });
        let leaving = futures_util::future::join_all(leaving);
        let (_, answers) = tokio::join!(leaving, futures_util::future::join_all(staying));
        answers
    }

    /// Until nothing more can come of the approval: an agent that gets no answer asks again.
    async fn settled(
        &mut self,
        order: &Order,
        shown: &Shown,
        serials: &mut HashSet<String>,
    ) -> String {
        let patience = Duration::from_secs(60);
        within(patience, "the round ends", async {
            loop {
                let stage = self.scene.stage(&shown.id).await;
                match stage.as_str() {
                    "approved" | "executing" => {
                        let again = order.clone().at_once();
                        let answer = self.talks[0]
                            .send(&self.session.token, &again)
                            .await
                            .unwrap();
                        if answer.status == 200 {
                            serials.insert(answer.header("x-serial").unwrap().to_owned());
                        }
                        self.note(&answer);
                    }
                    // It stays open for whoever has not spoken; nobody will.
                    _ => return stage,
                }
            }
        })
        .await
    }

    fn note(&mut self, answer: &Answer) {
        let kind = match (answer.status.as_u16(), answer.reason()) {
            (200, _) if answer.header("toolgate-replayed").is_some() => "200 replayed".to_owned(),
            (200, _) => "200".to_owned(),
            (202, _) => "202".to_owned(),
            // Denied, taken back; or heard by another just before.
            (403 | 409, Some(reason)) if HEARD.contains(&reason.as_str()) => reason,
            _ => panic!("{answer:?}"),
        };
        *self.counts.answers.entry(kind).or_default() += 1;
    }
}

impl Plot {
    /// What people were told agrees with what came of it.
    fn check(self, end: &str, people: &[&str], story: &str) {
        let late = people.iter().filter(|it| **it == "409").count();
        let taken = people.len() - late;
        match self {
            Plot::BothAgree | Plot::TwoOfTwo => assert_eq!(end, "executed", "{story}"),
            // A word of denial beats one of agreement that was on its way with it, whose speaker is told so.
            Plot::Quarrel => assert!(
                matches!(
                    (end, people),
                    ("executed", ["approved" | "executing" | "executed", "409"])
                        | ("denied", ["409" | "denied", "denied"])
                ),
                "{story}"
            ),
            Plot::OneTwice => assert_eq!((end, taken), ("pending", 2), "{story}"),
            Plot::TakenBack => assert!(matches!(end, "executed" | "withdrawn"), "{story}"),
            Plot::Elsewhere => assert_eq!((end, late), ("pending", 2), "{story}"),
        }
    }
}

/// What two people do at once, and what each hears: where it then stands, or the status.
async fn people(scene: &Scene, plot: Plot, shown: &Shown, session: &Minted) -> Vec<String> {
    let heard = |answer: Answer| match answer.status.as_u16() {
        200 => stage(&answer.json()),
        status => status.to_string(),
    };
    let wrong = Shown {
        digest: ledger::sha256(shown.digest.as_bytes()),
        ..shown.clone()
    };
    let decide = |who, shown, word| scene.decide(who, shown, word);
    let (one, other) = match plot {
        Plot::BothAgree => tokio::join!(
            decide("dana", shown, APPROVE),
            decide("eli", shown, APPROVE)
        ),
        Plot::TwoOfTwo => tokio::join!(
            decide("dana", shown, APPROVE),
            decide("finn", shown, APPROVE)
        ),
        Plot::Quarrel => tokio::join!(decide("dana", shown, APPROVE), decide("eli", shown, DENY)),
        Plot::OneTwice => tokio::join!(
            decide("dana", shown, APPROVE),
            decide("dana", shown, APPROVE)
        ),
        Plot::Elsewhere => tokio::join!(
            decide("dana", &wrong, APPROVE),
            decide("eli", &wrong, APPROVE)
        ),
        Plot::TakenBack => {
            let place = format!("/.toolgate/approvals/{}", shown.id);
            let back = Order::new(Method::DELETE, place);
            let back = send(scene.gate.agents, &session.token, &back);
            let (word, back) = tokio::join!(decide("dana", shown, APPROVE), back);
            assert!(matches!(back.status.as_u16(), 200 | 204 | 409), "{back:?}");
            return vec![heard(word)];
        }
    };
    vec![heard(one), heard(other)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_thousand_rounds_of_racing_retries_what_was_agreed_to_runs_once_and_nothing_else_runs()
{
    let scene = Scene::open_with(|yaml| {
        // Who is not answered need not wait long: the rounds are many.
        let yaml = edited(&yaml, "quorum: 1, hold: 30s", "quorum: 1, hold: 300ms");
        edited(&yaml, "quorum: 2, hold: 30s", "quorum: 2, hold: 300ms")
    })
    .await;
    let scene = Arc::new(scene);
    let begun = tokio::time::Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        let mut lane = Lane::open(Arc::clone(&scene)).await;
        let next = Arc::clone(&next);
        lanes.push(tokio::spawn(async move {
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    round @ 0..ROUNDS => lane.round(round).await,
                    _ => return lane.counts,
                }
            }
        }));
    }
    let mut sums = Counts::default();
    for lane in lanes {
        let counts = within(Duration::from_secs(240), "the rounds end", lane)
            .await
            .unwrap();
        sums.runs += counts.runs;
        sums.left += counts.left;
        for (key, count) in counts.ends {
            *sums.ends.entry(key).or_default() += count;
        }
        for (key, count) in counts.answers {
            *sums.answers.entry(key).or_default() += count;
        }
    }
    println!(
        "{ROUNDS} rounds of {RETRIES} retries in {:?}",
        begun.elapsed()
    );
    println!(
        "ends: {:#?}\nanswers: {:#?}\nleft unanswered: {}",
        sums.ends, sums.answers, sums.left
    );

    // Requests that came after their round's answer was delivered were asked about anew, and nobody agreed.
    let executed: u64 = sums
        .ends
        .iter()
        .filter(|it| it.0.1 == "executed")
        .map(|it| it.1)
        .sum();
    println!(
        "approved and run: {executed}; seen by the backend: {}",
        scene.backend.total()
    );
    assert_eq!(sums.ends.values().sum::<u64>(), ROUNDS);
    assert_eq!((sums.runs, scene.backend.total()), (executed, executed));
    assert!(scene.backend.all_seen().values().all(|times| *times == 1));
    runs_are_on_record(&scene, executed).await;
}

/// Each run has its own decision on record, which names its approval.
async fn runs_are_on_record(scene: &Scene, runs: u64) {
    let records = ledger::verified(&scene.setup.ledger());
    let decisions = ledger::of_kind(&records, "decision");
    let allowed = decisions.iter().filter(|it| it["decision"] == "allow");
    let approvals: Vec<&Value> = allowed.map(|it| &it["approval"]).collect();
    let distinct: HashSet<&str> = approvals.iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(
        (approvals.len() as u64, distinct.len() as u64),
        (runs, runs)
    );
}

/// Of one who waits and one who asks again, each hears of the one run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_wait_for_the_same_request_get_the_answer_of_its_one_run() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/held");
    let first = scene.sending(&session, &order);
    let shown = scene.asked("/t/held").await;
    let second = scene.sending(&session, &order);
    scene.approve("dana", &shown).await;
    scene.comes_to(&shown.id, "executing").await;
    // One who comes while it runs waits for the same outcome.
    let third = scene.sending(&session, &order);
    let late = scene.send(&session, &order.clone().at_once()).await;
    assert_eq!(waits(&late), shown.id);
    scene.backend.release(10);
    let mut serials = HashSet::new();
    for waiting in [first, second, third] {
        let answer = waiting.await.unwrap().expect(200);
        serials.insert(answer.header("x-serial").unwrap().to_owned());
    }
    assert_eq!((serials.len(), scene.backend.seen("POST /held")), (1, 1));
}
