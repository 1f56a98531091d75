//! Rebalance: members of a group join, leave, stall past their session and are killed while messages flow. Nothing is
//! lost, nothing is done twice, and each key keeps its order.
//!
//! The attack is on an [`Arena`], which knows ports alone, so that it is the same on every broker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use factum::{
    Aggregate, App, Broker, Decision, Env, Event, Failure, GroupSpec, Reaction, Reactor, Recorded,
    Running, Service, Store, StreamId, Topic, TopicSpec, Version,
};
use factum_sim::{Chronicle, Witness, unguarded};
use factum_testkit::faults::{Faults, FaultyBroker, FaultyStore, Gate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::{Data, until};

const PARTITIONS: u32 = 6;
const KEYS: u64 = 24;
const EACH: u64 = 100;
const ALL: u64 = KEYS * EACH;

/// How often something happens to the members.
const BLOWS: u64 = 16;

/// How many attacks it may take until a planted fault is found: the first finds it, as a rule.
const SEEDS_PLANTED_MAX: u64 = 6;

/// How many members there are at most.
const MEMBERS_MAX: usize = 5;

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "numbers")]
enum Numbered {
    #[event(name = "Said", version = 1)]
    Said { number: u64 },
}

/// Says the numbers from 1 on.
#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Speaker {
    said: u64,
}

impl Aggregate for Speaker {
    const CATEGORY: &'static str = "speaker";
    type Id = String;
    type Command = ();
    type Event = Numbered;
    type Error = std::convert::Infallible;

    fn handle(&self, (): (), _: &Decision) -> Result<Vec<Numbered>, Self::Error> {
        let number = self.said + 1;
        Ok(vec![Numbered::Said { number }])
    }

    fn apply(&mut self, Numbered::Said { number }: &Numbered) {
        self.said = *number;
    }
}

#[derive(Event, Clone, Debug, PartialEq)]
enum Noted {
    #[event(name = "Noted", version = 1)]
    Noted { number: u64 },
}

/// Notes what a speaker said.
#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Listener;

impl Aggregate for Listener {
    const CATEGORY: &'static str = "listener";
    type Id = String;
    type Command = u64;
    type Event = Noted;
    type Error = std::convert::Infallible;

    fn handle(&self, number: u64, _: &Decision) -> Result<Vec<Noted>, Self::Error> {
        Ok(vec![Noted::Noted { number }])
    }

    fn apply(&mut self, _: &Noted) {}
}

struct Listen;

impl Reactor for Listen {
    type Event = Numbered;

    fn name(&self) -> &'static str {
        "listen"
    }

    async fn react(&self, event: &Recorded<Numbered>, cx: &mut Reaction) -> Result<(), Failure> {
        let Numbered::Said { number } = event.data;
        let speaker = event.aggregate_id.as_deref().unwrap_or_default();
        // Work that takes a moment, so that members have messages in their hands when they are hit.
        tokio::time::sleep(Duration::from_millis(1)).await;
        cx.execute::<Listener>(&speaker.to_string(), number)?;
        Ok(())
    }
}

/// Where the attack takes place.
pub(crate) struct Arena {
    pub(crate) env: Env,
    pub(crate) broker: Arc<dyn Broker>,
    /// Of the service whose events are consumed.
    pub(crate) speakers: Arc<dyn Store>,
    /// Of the service that consumes, whose members all work on it.
    pub(crate) listeners: Arc<dyn Store>,
    /// After how long a silent member counts as dead: as short as the broker allows.
    pub(crate) session: Duration,
}

/// A process with a member of the group.
struct Member {
    running: Running,
    plan: Faults,
    node: String,
    /// Closed while the process is stalled.
    stalled: Option<Gate>,
}

impl Arena {
    async fn start_speakers(&self) -> Running {
        let topic = TopicSpec::new(Topic::of("numbers"), PARTITIONS);
        let service = Service::new("speakers").aggregate::<Speaker>().topic(topic);
        App::new(self.env.clone(), self.broker.clone())
            .service_on(self.speakers.clone(), service)
            .start()
            .await
            .unwrap()
    }

    async fn join(&self, number: u64) -> Member {
        let (node, plan) = (format!("member-{number}"), Faults::new());
        let broker = FaultyBroker::new(&node, self.broker.clone(), &plan);
        let store = FaultyStore::new(&node, self.listeners.clone(), &plan);
        let group = GroupSpec::new("listeners").on(Listen).session(self.session);
        let service = Service::new("listeners")
            .aggregate::<Listener>()
            .topic(TopicSpec::new(Topic::of("numbers"), PARTITIONS))
            .group(group);
        let running = App::new(self.env.clone(), Arc::new(broker))
            .service_on(Arc::new(store), service)
            .start()
            .await
            .unwrap();
        Member {
            running,
            plan,
            node,
            stalled: None,
        }
    }

    /// How many messages were handled.
    async fn noted(&self) -> u64 {
        self.listeners.head().await.unwrap().position.0
    }

    /// What was noted of each speaker, in its order.
    async fn notes(&self) -> BTreeMap<u64, Vec<u64>> {
        #[derive(Deserialize)]
        struct Note {
            number: u64,
        }
        let mut notes = BTreeMap::new();
        for key in 0..KEYS {
            let stream: StreamId = format!("listener/{key}").parse().unwrap();
            let page = self.listeners.read_stream(&stream, Version(1), 1_000);
            let records = page.await.unwrap().records.into_iter();
            let number = |data: &[u8]| serde_json::from_slice::<Note>(data).unwrap().number;
            notes.insert(
                key,
                records.map(|record| number(&record.draft.data)).collect(),
            );
        }
        notes
    }
}

/// What is wrong with the notes, if anything is.
fn faults(notes: &BTreeMap<u64, Vec<u64>>) -> Vec<String> {
    let expected: Vec<_> = (1..=EACH).collect();
    let wrong = notes.iter().filter(|(_, noted)| **noted != expected);
    wrong
        .map(|(speaker, noted)| {
            let at = noted
                .iter()
                .zip(&expected)
                .position(|(noted, expected)| noted != expected);
            let at = at.unwrap_or(noted.len().min(expected.len()));
            let seen = &noted[at.saturating_sub(1)..noted.len().min(at + 3)];
            format!(
                "speaker {speaker}: {} notes, and {seen:?} around note {}",
                noted.len(),
                at + 1
            )
        })
        .collect()
}

/// Has members come, go, stall and die while messages flow, and says what is wrong in the end.
pub(crate) async fn attack(arena: &Arena, seed: u64) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let speakers = arena.start_speakers().await;
    let mut members = vec![arena.join(0).await];
    let mut joined = 1;
    let mut talks = Vec::new();
    for key in 0..KEYS {
        let commands = speakers.service("speakers").unwrap().commands();
        talks.push(tokio::spawn(async move {
            for _ in 0..EACH {
                commands
                    .execute::<Speaker>(&key.to_string(), ())
                    .await
                    .unwrap();
            }
        }));
    }
    for blow in 0..BLOWS {
        // Each blow falls when a part more is done, so that all fall while messages flow.
        let before = arena.noted().await;
        let goal = (before + ALL / (BLOWS + 4)).min(ALL);
        until("messages flow", async || arena.noted().await >= goal).await;
        let healthy = members
            .iter()
            .filter(|member| member.stalled.is_none())
            .count();
        let victim = random.usize(..members.len());
        let may_fall = healthy > 1 || members[victim].stalled.is_some();
        match random.u32(0..4) {
            // Leaves in good order.
            1 if may_fall => {
                let member = members.swap_remove(victim);
                if let Some(gate) = member.stalled {
                    gate.open();
                }
                member.running.stop().await;
            }
            // Is killed, stalled or not.
            2 if may_fall => drop(members.swap_remove(victim)),
            // Stalls, in the middle of whatever it does.
            3 if may_fall && members[victim].stalled.is_none() => {
                let member = &mut members[victim];
                member.stalled = Some(member.plan.pause(&member.node));
            }
            // Wakes up, long after others have taken its place, and goes on where it was.
            _ if members[victim].stalled.is_some() => {
                if let Some(gate) = members[victim].stalled.take() {
                    gate.open();
                }
            }
            _ if members.len() < MEMBERS_MAX => {
                members.push(arena.join(joined).await);
                joined += 1;
            }
            _ => {}
        }
        assert!(!members.is_empty(), "blow {blow} of seed {seed}");
    }
    for talk in talks {
        talk.await.unwrap();
    }
    until("all is noted", async || arena.noted().await >= ALL).await;
    for member in &mut members {
        if let Some(gate) = member.stalled.take() {
            gate.open();
        }
    }
    for member in members {
        member.running.stop().await;
    }
    speakers.stop().await;
    let mut wrong = faults(&arena.notes().await);
    let parked = arena.listeners.parked_counts().await.unwrap();
    if !parked.is_empty() {
        wrong.push(format!("messages are parked: {parked:?}"));
    }
    wrong
}

/// An arena on the embedded adapters.
async fn arena() -> (Data, Arena) {
    let data = Data::new();
    let arena = Arena {
        env: data.env.clone(),
        broker: data.broker().await,
        speakers: data.store("speakers").await,
        listeners: data.store("listeners").await,
        session: Duration::from_millis(700),
    };
    (data, arena)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_joins_leaves_stalls_or_dies_nothing_is_lost_or_done_twice_and_keys_keep_their_order()
 {
    for seed in 0..3 {
        let (_data, arena) = arena().await;
        assert_eq!(attack(&arena, seed).await, [""; 0], "seed {seed}");
    }
}

/// Without the guards against them, members that were taken for dead do harm when they wake up, and it is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_lets_late_owners_write_is_found_out() {
    let mut found = Vec::new();
    for seed in 0..SEEDS_PLANTED_MAX {
        let (_data, mut arena) = arena().await;
        let witness = Witness::new(arena.listeners, Chronicle::default());
        arena.listeners = Arc::new(witness.meddled(Some(unguarded())));
        found = attack(&arena, seed).await;
        if !found.is_empty() {
            break;
        }
    }
    let doubled = |text: &String| text.starts_with("speaker ");
    assert!(found.iter().any(doubled), "{found:?}");
}

#[test]
fn the_check_finds_a_loss_a_double_and_a_broken_order() {
    let good: BTreeMap<u64, Vec<u64>> = (0..KEYS).map(|key| (key, (1..=EACH).collect())).collect();
    assert_eq!(faults(&good), [""; 0]);
    let with = |change: &dyn Fn(&mut Vec<u64>)| {
        let mut notes = good.clone();
        change(notes.get_mut(&3).unwrap());
        faults(&notes)
    };
    let lost = with(&|noted| {
        noted.remove(6);
    });
    assert_eq!(
        lost,
        ["speaker 3: 99 notes, and [6, 8, 9, 10] around note 7"]
    );
    let last = with(&|noted| {
        noted.pop();
    });
    assert_eq!(last, ["speaker 3: 99 notes, and [99] around note 100"]);
    let doubled = with(&|noted| noted.insert(1, 1));
    assert_eq!(
        doubled,
        ["speaker 3: 101 notes, and [1, 1, 2, 3] around note 2"]
    );
    let turned = with(&|noted| noted.swap(0, 1));
    assert_eq!(
        turned,
        ["speaker 3: 100 notes, and [2, 1, 3] around note 1"]
    );
}
