//! Rebalance: members of a group join, leave, stall past their session and are killed while messages flow. Nothing is
//! lost, nothing is done twice, and each key keeps its order.
//!
//! The attack is on an [`Arena`], which knows ports alone, so that it is the same on every broker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use factum::{
    Aggregate, App, Begin, Broker, Commit, CommitError, Committed, Decision, Env, Error, Event,
    ExpectedVersion, Failure, Group, GroupSpec, InboxId, InboxRow, Input, Reaction, Reactor,
    Recorded, Running, Service, Store, StreamId, Topic, TopicSpec, Version,
};
use factum_testkit::{
    Layered, StoreLayer,
    faults::{Call, Faults, FaultyBroker, FaultyStore, Gate, Operation},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::data::{Data, until};

const PARTITIONS: u32 = 6;
const KEYS: u64 = 24;
const EACH: u64 = 100;
const ALL: u64 = KEYS * EACH;

/// How often something happens to the members.
const BLOWS: usize = 16;

/// How many messages come when the last blow falls: as many as four blows have between them.
const LAST: u64 = ALL / 5;

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

/// What happens to members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// One more joins.
    Join,
    /// One leaves in good order.
    Leave,
    /// One is killed, stalled or not.
    Kill,
    /// One stalls, in the middle of whatever it does.
    Stall,
    /// One that stalled wakes up, and goes on where it was.
    Wake,
}

const KINDS: [Blow; 5] = [Blow::Join, Blow::Leave, Blow::Kill, Blow::Stall, Blow::Wake];

/// How the attack begins, so that each kind of blow falls whatever is drawn afterwards.
const FIRST: [Blow; 6] = [
    Blow::Join,
    Blow::Join,
    Blow::Stall,
    Blow::Wake,
    Blow::Kill,
    Blow::Leave,
];

/// The members of the group, as the attack knows them.
struct Members<'a> {
    arena: &'a Arena,
    random: fastrand::Rng,
    alive: Vec<Member>,
    joined: u64,
    /// The blows that fell.
    fell: Vec<Blow>,
}

impl Members<'_> {
    async fn join(&mut self) {
        self.alive.push(self.arena.join(self.joined).await);
        self.joined += 1;
    }

    fn healthy(&self) -> usize {
        let healthy = |member: &&Member| member.stalled.is_none();
        self.alive.iter().filter(healthy).count()
    }

    /// One of them whom the blow may hit: one that is healthy always stays.
    fn victim(&mut self, blow: Blow) -> Option<usize> {
        let spare = self.healthy() > 1;
        let may_fall = |member: &Member| match blow {
            Blow::Join => false,
            Blow::Leave | Blow::Kill => spare || member.stalled.is_some(),
            Blow::Stall => spare && member.stalled.is_none(),
            Blow::Wake => member.stalled.is_some(),
        };
        let members = self.alive.iter().enumerate();
        let victims: Vec<_> = members.filter(|(_, member)| may_fall(member)).collect();
        let chosen = self.random.choice(&victims)?;
        Some(chosen.0)
    }

    /// Strikes, if there is anybody to be hit.
    async fn strike(&mut self, blow: Blow) {
        let victim = self.victim(blow);
        match (blow, victim) {
            (Blow::Join, _) if self.alive.len() < MEMBERS_MAX => self.join().await,
            (Blow::Leave, Some(victim)) => {
                let member = self.alive.swap_remove(victim);
                if let Some(gate) = member.stalled {
                    gate.open();
                }
                member.running.stop().await;
            }
            (Blow::Kill, Some(victim)) => drop(self.alive.swap_remove(victim)),
            (Blow::Stall, Some(victim)) => {
                let member = &mut self.alive[victim];
                member.stalled = Some(member.plan.pause(&member.node));
            }
            (Blow::Wake, Some(victim)) => {
                if let Some(gate) = self.alive[victim].stalled.take() {
                    gate.open();
                }
            }
            _ => return,
        }
        self.fell.push(blow);
    }

    /// Stalls one that has work in its hands, and waits until the group has put others in its place: nobody is listed
    /// who does not call.
    async fn replace_one(&mut self) {
        if self.healthy() < 2 {
            self.join().await;
        }
        let mut found = false;
        until("a member that stalls has work in its hands", async || {
            for member in &mut self.alive {
                if found || member.stalled.is_some() {
                    continue;
                }
                let plan = &member.plan;
                let before = plan.log().last().map_or(0, |write| write.operation.number);
                let gate = plan.pause(&member.node);
                // A handler that runs takes a moment, and then comes to the gate with its commit.
                tokio::time::sleep(Duration::from_millis(5)).await;
                found = plan.log().iter().any(|write| {
                    let Operation { number, call, .. } = &write.operation;
                    *number > before && *call == Call::Commit && write.answer.is_none()
                });
                if found {
                    member.stalled = Some(gate);
                } else {
                    gate.open();
                }
            }
            found
        })
        .await;
        let (group, healthy) = (Group::of("listeners"), self.healthy());
        until("nobody is listed who is stalled or dead", async || {
            let listed = self.arena.broker.members(&group).await.unwrap();
            let partitions: usize = listed.iter().map(|member| member.partitions.len()).sum();
            listed.len() == healthy && partitions == PARTITIONS as usize
        })
        .await;
        self.fell.push(Blow::Stall);
    }
}

/// Has members come, go, stall and die while messages flow, and says what is wrong in the end.
pub(crate) async fn attack(arena: &Arena, seed: u64) -> Vec<String> {
    let speakers = arena.start_speakers().await;
    let mut members = Members {
        arena,
        random: fastrand::Rng::with_seed(seed),
        alive: Vec::new(),
        joined: 0,
        fell: Vec::new(),
    };
    members.join().await;
    // The last part is said when the last blow falls, so that there is work in everybody's hands.
    let said = Arc::new(Semaphore::new(usize::try_from(ALL - LAST).unwrap()));
    let mut talks = Vec::new();
    for key in 0..KEYS {
        let commands = speakers.service("speakers").unwrap().commands();
        let said = said.clone();
        talks.push(tokio::spawn(async move {
            for _ in 0..EACH {
                said.acquire().await.unwrap().forget();
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
        let goal = (before + ALL / (BLOWS as u64 + 4)).min(ALL - LAST);
        until("messages flow", async || arena.noted().await >= goal).await;
        let drawn = KINDS[members.random.usize(..KINDS.len())];
        members
            .strike(FIRST.get(blow).copied().unwrap_or(drawn))
            .await;
        assert!(!members.alive.is_empty(), "blow {blow} of seed {seed}");
    }
    said.add_permits(usize::try_from(LAST).unwrap());
    members.replace_one().await;
    for talk in talks {
        talk.await.unwrap();
    }
    until("all is noted", async || arena.noted().await >= ALL).await;
    // Who stalled wakes up, long after others have taken its place and done its work, goes on where it was, and comes
    // back as a new member.
    let (group, mut listed) = (Group::of("listeners"), members.healthy());
    let Members { alive, fell, .. } = members;
    for gate in alive.iter().filter_map(|member| member.stalled.as_ref()) {
        gate.open();
        listed += 1;
        until("it is a member again", async || {
            arena.broker.members(&group).await.unwrap().len() == listed
        })
        .await;
    }
    for member in alive {
        member.running.stop().await;
    }
    speakers.stop().await;
    let mut wrong = faults(&arena.notes().await);
    for blow in KINDS {
        let count = fell.iter().filter(|fell| **fell == blow).count();
        if count == 0 {
            wrong.push(format!("no blow of the kind {blow:?} fell: {fell:?}"));
        }
    }
    let parked = arena.listeners.parked_counts().await.unwrap();
    if !parked.is_empty() {
        wrong.push(format!("messages are parked: {parked:?}"));
    }
    wrong
}

async fn arena(data: &Data) -> Arena {
    Arena {
        env: data.env.clone(),
        broker: data.broker().await,
        speakers: data.store("speakers").await,
        listeners: data.store("listeners").await,
        session: Duration::from_millis(700),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_joins_leaves_stalls_or_dies_nothing_is_lost_or_done_twice_and_keys_keep_their_order()
 {
    for seed in 0..3 {
        let data = Data::new();
        let arena = arena(&data).await;
        assert_eq!(attack(&arena, seed).await, [""; 0], "seed {seed}");
    }
}

/// A consumer whose fence and finished marks nobody looks at: the store lets through what it refuses for either reason,
/// and forgets at each claim what is finished above the watermark.
#[derive(Debug)]
struct Careless(Arc<dyn Store>);

#[async_trait::async_trait]
impl StoreLayer for Careless {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let Input::Message(input) = &commit.input else {
            return self.0.commit(commit).await;
        };
        let (inbox, mut unchecked) = (input.inbox.clone(), commit.clone());
        match self.0.commit(commit).await {
            Err(CommitError::Fenced { .. }) => {}
            Err(CommitError::Failed(error)) if error.is_fatal() => {}
            result => return result,
        }
        unchecked.input = Input::None;
        unchecked.conditions.clear();
        for append in &mut unchecked.appends {
            append.expected = ExpectedVersion::Any;
        }
        let mut committed = self.0.commit(unchecked).await?;
        committed.inbox = self.0.inbox(&inbox).await.map_err(CommitError::Failed)?;
        Ok(committed)
    }

    async fn claim_inbox(&self, inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error> {
        let row = self.0.claim_inbox(inbox, begin).await?;
        let done = begin.row().done;
        Ok(InboxRow { done, ..row })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consumer_whose_fence_and_finished_marks_are_not_checked_is_caught() {
    let data = Data::new();
    let mut arena = arena(&data).await;
    arena.listeners = Arc::new(Layered(Careless(arena.listeners)));
    let wrong = attack(&arena, 0).await;
    assert!(
        wrong.iter().any(|wrong| wrong.contains("notes, and")),
        "{wrong:?}"
    );
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
