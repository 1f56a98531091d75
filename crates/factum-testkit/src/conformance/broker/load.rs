//! Rebalancing under load: members that keep the contract never handle a message twice, and together handle all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use factum_core::{Broker, Consumed, Consumer, Message, Subscription, Topic, TopicPartition};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    BrokerHarness,
    world::{CALL, Inbox, PATIENCE, World, part},
};

const PARTITIONS: u32 = 6;
const MESSAGES: usize = 3000;

/// What all members share: the inbox, who owns what, and what was handled.
#[derive(Clone, Default)]
struct Shared {
    inbox: Inbox,
    owners: Arc<Mutex<BTreeMap<TopicPartition, usize>>>,
    handled: Arc<Mutex<Vec<(TopicPartition, u64)>>>,
}

impl Shared {
    fn count(&self) -> usize {
        self.handled.lock().unwrap().len()
    }
}

/// A member that runs as a task.
struct Running {
    task: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Running {
    /// Lets it finish what it has, and leave.
    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

/// A member as a task: it keeps messages in flight over several calls and finishes them late.
struct Worker {
    number: usize,
    shared: Shared,
    consumer: Box<dyn Consumer>,
    in_flight: Vec<Message>,
    /// What it was told to give up, and gives up with its next call.
    revoked: Vec<TopicPartition>,
}

impl Worker {
    /// Starts a member that works until it is stopped.
    async fn start(
        number: usize,
        broker: &Arc<dyn Broker>,
        subscription: Subscription,
        shared: &Shared,
    ) -> Running {
        let consumer = broker.join(subscription).await.unwrap();
        let shared = shared.clone();
        let mut worker = Self {
            number,
            shared,
            consumer,
            in_flight: Vec::new(),
            revoked: Vec::new(),
        };
        let broker = broker.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut calls = 0;
            while !stopped.load(Ordering::SeqCst) {
                calls += 1;
                worker.step(&broker, calls).await;
            }
            worker.finish(|_| true);
            worker
                .shared
                .owners
                .lock()
                .unwrap()
                .retain(|_, owner| *owner != worker.number);
            worker.consumer.leave().await.unwrap();
        });
        Running { task, stop }
    }

    async fn step(&mut self, broker: &Arc<dyn Broker>, calls: usize) {
        for partition in std::mem::take(&mut self.revoked) {
            assert_eq!(
                self.shared.owners.lock().unwrap().remove(&partition),
                Some(self.number)
            );
        }
        let Ok(consumed) = timeout(CALL, self.consumer.next()).await else {
            self.finish(|_| true);
            return;
        };
        match consumed.unwrap() {
            Consumed::Assigned(partitions) => {
                for partition in partitions {
                    let before = self
                        .shared
                        .owners
                        .lock()
                        .unwrap()
                        .insert(partition.clone(), self.number);
                    assert_eq!(before, None, "{partition} has an owner already");
                    let first = broker.watermarks(&partition).await.unwrap().first;
                    let next = self.shared.inbox.next(&partition).unwrap_or(first);
                    self.consumer.seek(&partition, next).await.unwrap();
                }
            }
            Consumed::Messages(messages) => {
                self.in_flight.extend(messages);
                if calls.is_multiple_of(3) {
                    self.finish(|_| true);
                }
            }
            Consumed::Revoked(partitions) => {
                self.finish(|partition| partitions.contains(partition));
                self.revoked = partitions;
            }
            Consumed::Lost(partitions) => {
                panic!("{partitions:?} were lost by a member that calls all the time")
            }
            Consumed::Passed(partitions) => panic!("{partitions:?} lost messages, and keep all"),
        }
        // Lets the others run, wherever this one is.
        tokio::task::yield_now().await;
    }

    /// Handles what is in flight of some partitions, in order.
    fn finish(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        let owners = self.shared.owners.lock().unwrap();
        let mut handled = self.shared.handled.lock().unwrap();
        self.in_flight.retain(|message| {
            let partition = TopicPartition::new(message.topic.clone(), message.partition);
            if !which(&partition) {
                return true;
            }
            assert_eq!(
                owners.get(&partition),
                Some(&self.number),
                "{partition} is another's"
            );
            self.shared.inbox.set(&partition, message.offset + 1);
            handled.push((partition, message.offset));
            false
        });
    }
}

/// Publishes [`MESSAGES`] messages over all partitions, bit by bit.
fn publish(world: &World<'_>, topic: &Topic) -> JoinHandle<()> {
    let broker = world.broker.clone();
    let messages: Vec<_> = (0..MESSAGES)
        .map(|number| {
            let partition = u32::try_from(number).unwrap() % PARTITIONS;
            world.message(topic, partition, &number.to_string())
        })
        .collect();
    tokio::spawn(async move {
        let mut producer = broker.producer().await.unwrap();
        for (sequence, batch) in (0..).zip(messages.chunks(10)) {
            let batch = batch.iter().cloned().map(|message| (sequence, message));
            producer.send(batch.collect()).await.unwrap();
            for report in producer.reports().await.unwrap() {
                report.result.unwrap();
            }
            tokio::task::yield_now().await;
        }
        while !producer.reports().await.unwrap().is_empty() {}
    })
}

async fn handled(shared: &Shared, count: usize) {
    let waiting = async {
        while shared.count() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .expect("all is handled in time");
}

fn assert_each_once_and_in_order(shared: &Shared) {
    let handled = shared.handled.lock().unwrap();
    let distinct: BTreeSet<_> = handled.iter().collect();
    assert_eq!(distinct.len(), handled.len(), "something was handled twice");
    assert_eq!(handled.len(), MESSAGES);
    let mut last = BTreeMap::new();
    for (partition, offset) in handled.iter() {
        let before = last.insert(partition, offset);
        assert!(
            before.is_none_or(|before| before < offset),
            "{partition}: {offset} after {before:?}"
        );
    }
}

/// Members join and leave all the time while messages flow, and nobody notices.
pub async fn nothing_is_lost_or_handled_twice_while_members_come_and_go(
    harness: &dyn BrokerHarness,
) {
    let world = World::open(harness, "come_and_go").await;
    let topic = world.make("orders", PARTITIONS).await;
    let group = world.group("g");
    let shared = Shared::default();
    let join = async |number: usize| {
        let subscription = world.subscription(&group, &[&topic], &format!("member-{number}"));
        Worker::start(number, &world.broker, subscription, &shared).await
    };
    let steady = join(0).await;
    let publishing = publish(&world, &topic);
    for number in 1..=8 {
        let members = [join(number).await, join(number + 100).await];
        handled(&shared, number * MESSAGES / 10).await;
        for member in members {
            member.stop().await;
        }
    }
    publishing.await.unwrap();
    handled(&shared, MESSAGES).await;
    steady.stop().await;
    assert_each_once_and_in_order(&shared);
}

/// A member dies with messages in its hands; another handles those, and those that were finished not again.
pub async fn a_crash_under_load_loses_nothing(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "crash_load").await;
    let topic = world.make("orders", PARTITIONS).await;
    let group = world.group("g");
    let inbox = Inbox::default();
    let mut survivor = world.join(&group, &[&topic], "survivor", &inbox).await;
    let mut victim = world.join(&group, &[&topic], "victim", &inbox).await;
    super::world::until(&mut [&mut survivor, &mut victim], |members| {
        members.iter().all(|member| member.owned.len() == 3)
    })
    .await;
    let publishing = publish(&world, &topic);
    publishing.await.unwrap();
    while victim.received.len() < MESSAGES / 4 {
        victim.call().await;
        survivor.call().await;
    }
    // The last ten messages of each of its partitions were in its hands and are not finished.
    let mut finished = Vec::new();
    for partition in &victim.owned {
        let its = victim
            .received
            .iter()
            .filter(|message| message.partition == partition.partition);
        let offsets: Vec<_> = its.map(|message| message.offset).collect();
        let done = offsets.len().saturating_sub(10);
        finished.extend(
            offsets[..done]
                .iter()
                .map(|offset| (partition.partition, *offset)),
        );
        inbox.set(partition, offsets.get(done).copied().unwrap_or(0));
    }

    victim.crash();
    world.pass(harness.session(), &mut [&mut survivor]).await;
    survivor.own(PARTITIONS as usize).await;
    survivor.receive(MESSAGES - finished.len()).await;

    let mut all = finished;
    all.extend(
        survivor
            .received
            .iter()
            .map(|message| (message.partition, message.offset)),
    );
    for partition in 0..PARTITIONS {
        let offsets = all
            .iter()
            .filter(|(its, _)| *its == partition)
            .map(|(_, offset)| *offset);
        let offsets: Vec<_> = offsets.collect();
        assert!(
            offsets.is_sorted_by(|a, b| a < b),
            "{}",
            part(&topic, partition)
        );
        assert_eq!(offsets.len(), MESSAGES / PARTITIONS as usize);
    }
}
