//! What the cases of the broker suite share: topics of their own, messages, and members that keep their side
//! of the contract.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use factum_core::{
    Broker, Consumed, Consumer, Group, Headers, Key, Message, Outgoing, Producer, Subscription,
    Topic, TopicPartition, TopicSpec,
};
use tokio::time::timeout;

use super::BrokerHarness;

/// How long one call waits for something that may not come.
pub(crate) const CALL: Duration = Duration::from_millis(20);

/// How long the cases wait for something that must come: generous, since Kafka's rebalances take seconds.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// One case: its broker, and names that no other case uses.
pub(crate) struct World<'a> {
    pub(crate) harness: &'a dyn BrokerHarness,
    pub(crate) broker: Arc<dyn Broker>,
    case: &'static str,
}

impl<'a> World<'a> {
    pub(crate) async fn open(harness: &'a dyn BrokerHarness, case: &'static str) -> Self {
        Self::with(harness, harness.open().await, case)
    }

    pub(crate) fn with(
        harness: &'a dyn BrokerHarness,
        broker: Arc<dyn Broker>,
        case: &'static str,
    ) -> Self {
        Self {
            harness,
            broker,
            case,
        }
    }

    fn name(&self, what: &str) -> String {
        format!("{}.{}.{what}", self.harness.run(), self.case)
    }

    pub(crate) fn topic(&self, name: &str) -> Topic {
        Topic::new(self.name(name)).unwrap()
    }

    pub(crate) fn group(&self, name: &str) -> Group {
        Group::new(self.name(name)).unwrap()
    }

    /// Makes a topic of this case.
    pub(crate) async fn make(&self, name: &str, partitions: u32) -> Topic {
        let topic = self.topic(name);
        self.broker
            .ensure_topic(&TopicSpec::new(topic.clone(), partitions))
            .await
            .unwrap();
        topic
    }

    /// Applies retention.
    pub(crate) async fn sweep(&self) {
        self.broker.sweep(self.harness.now()).await.unwrap();
    }

    /// Lets retention take all that `partitions` hold and that is a minute old, while `alive` goes on calling. What an
    /// adapter has fetched ahead of a paused partition it has dropped by then.
    pub(crate) async fn expire(&self, partitions: &[TopicPartition], alive: &mut Member) {
        if self.harness.sweeps() {
            self.pass(Duration::from_mins(2), &mut [alive]).await;
            return self.sweep().await;
        }
        self.pass(self.harness.session(), &mut [alive]).await;
        for partition in partitions {
            assert!(
                self.harness.expire(partition).await,
                "a harness either sweeps or expires"
            );
        }
    }

    /// A message whose value is `value`.
    pub(crate) fn message(&self, topic: &Topic, partition: u32, value: &str) -> Outgoing {
        Outgoing {
            topic: topic.clone(),
            partition,
            key: Some(Key::from(value)),
            headers: Headers::new(),
            value: Some(value.to_owned().into()),
            timestamp: self.harness.now(),
        }
    }

    /// Publishes `values` to one partition, and returns their offsets.
    pub(crate) async fn publish<V: AsRef<str>>(
        &self,
        topic: &Topic,
        partition: u32,
        values: impl IntoIterator<Item = V>,
    ) -> Vec<u64> {
        let messages = values
            .into_iter()
            .map(|value| self.message(topic, partition, value.as_ref()));
        self.publish_all(messages.collect()).await
    }

    /// Publishes `messages`, and returns their offsets.
    pub(crate) async fn publish_all(&self, messages: Vec<Outgoing>) -> Vec<u64> {
        let mut producer = self.broker.producer().await.unwrap();
        let count = messages.len();
        producer.send((0..).zip(messages).collect()).await.unwrap();
        reported(&mut *producer, count).await
    }

    pub(crate) fn subscription(
        &self,
        group: &Group,
        topics: &[&Topic],
        member: &str,
    ) -> Subscription {
        Subscription {
            group: group.clone(),
            topics: topics.iter().map(|topic| (*topic).clone()).collect(),
            member: member.to_owned(),
            session: self.harness.session(),
            batch_max: 100,
        }
    }

    /// A member of `group` that starts where `inbox` says.
    pub(crate) async fn join(
        &self,
        group: &Group,
        topics: &[&Topic],
        member: &str,
        inbox: &Inbox,
    ) -> Member {
        self.start(self.subscription(group, topics, member), inbox)
            .await
    }

    /// A member that gets at most `batch_max` messages at a time.
    pub(crate) async fn join_with(&self, batch_max: usize, group: &Group, topic: &Topic) -> Member {
        let subscription = self.subscription(group, &[topic], "one");
        self.start(
            Subscription {
                batch_max,
                ..subscription
            },
            &Inbox::default(),
        )
        .await
    }

    async fn start(&self, subscription: Subscription, inbox: &Inbox) -> Member {
        Member {
            broker: self.broker.clone(),
            consumer: self.broker.join(subscription).await.unwrap(),
            inbox: inbox.clone(),
            owned: BTreeSet::new(),
            received: Vec::new(),
        }
    }

    /// Lets `duration` pass while `alive` go on calling, so that nobody who lives seems dead.
    pub(crate) async fn pass(&self, duration: Duration, alive: &mut [&mut Member]) {
        let step = self.harness.session() / 4;
        let mut passed = Duration::ZERO;
        while passed <= duration {
            self.harness.pass(step).await;
            passed += step;
            for member in &mut *alive {
                member.call().await;
            }
        }
    }
}

/// Waits for `count` reports, and returns the offsets in the order of sequence numbers.
pub(crate) async fn reported(producer: &mut dyn Producer, count: usize) -> Vec<u64> {
    let mut offsets = BTreeMap::new();
    while offsets.len() < count {
        let reports = timeout(PATIENCE, producer.reports())
            .await
            .expect("reports come in time")
            .unwrap();
        assert!(
            !reports.is_empty(),
            "{} of {count} reports came",
            offsets.len()
        );
        for report in reports {
            let offset = report.result.unwrap();
            assert_eq!(
                offsets.insert(report.sequence, offset),
                None,
                "{} is reported twice",
                report.sequence
            );
        }
    }
    offsets.into_values().collect()
}

/// How far a group has come, as a store's inbox rows would say: where a new owner starts.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<BTreeMap<TopicPartition, u64>>>);

impl Inbox {
    pub(crate) fn next(&self, partition: &TopicPartition) -> Option<u64> {
        self.0.lock().unwrap().get(partition).copied()
    }

    pub(crate) fn set(&self, partition: &TopicPartition, next: u64) {
        self.0.lock().unwrap().insert(partition.clone(), next);
    }
}

/// A member that seeks what it is assigned to the inbox's place and handles what it gets at once.
pub(crate) struct Member {
    broker: Arc<dyn Broker>,
    pub(crate) consumer: Box<dyn Consumer>,
    inbox: Inbox,
    pub(crate) owned: BTreeSet<TopicPartition>,
    pub(crate) received: Vec<Message>,
}

impl Member {
    /// Calls once, handles what comes, and says what it was.
    pub(crate) async fn call(&mut self) -> Option<Consumed> {
        let consumed = timeout(CALL, self.consumer.next()).await.ok()?.unwrap();
        self.handle(&consumed).await;
        Some(consumed)
    }

    pub(crate) async fn handle(&mut self, consumed: &Consumed) {
        match consumed {
            Consumed::Assigned(partitions) => {
                for partition in partitions {
                    assert!(
                        self.owned.insert(partition.clone()),
                        "{partition} was assigned twice"
                    );
                    let next = match self.inbox.next(partition) {
                        Some(next) => next,
                        None => self.broker.watermarks(partition).await.unwrap().first,
                    };
                    self.consumer.seek(partition, next).await.unwrap();
                }
            }
            Consumed::Revoked(partitions) | Consumed::Lost(partitions) => {
                for partition in partitions {
                    assert!(self.owned.remove(partition), "{partition} was not owned");
                }
            }
            Consumed::Passed(partitions) => {
                for partition in partitions {
                    assert!(self.owned.contains(partition), "{partition} is not owned");
                }
            }
            Consumed::Messages(messages) => {
                assert!(!messages.is_empty());
                for message in messages {
                    let partition = TopicPartition::new(message.topic.clone(), message.partition);
                    assert!(
                        self.owned.contains(&partition),
                        "a message of {partition}, which is not owned"
                    );
                    self.inbox.set(&partition, message.offset + 1);
                    self.received.push(message.clone());
                }
            }
        }
    }

    /// Calls until it has received `count` messages.
    pub(crate) async fn receive(&mut self, count: usize) {
        let waiting = async {
            while self.received.len() < count {
                self.call().await;
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .expect("the messages come in time");
        assert_eq!(self.received.len(), count, "more came than were published");
    }

    /// Calls until it owns `count` partitions.
    pub(crate) async fn own(&mut self, count: usize) {
        until(&mut [self], |members| members[0].owned.len() == count).await;
    }

    /// Calls some times and asserts that no messages come.
    pub(crate) async fn receive_nothing(&mut self) {
        for _ in 0..5 {
            let consumed = self.call().await;
            assert!(
                !matches!(consumed, Some(Consumed::Messages(_))),
                "{consumed:?}"
            );
        }
    }

    /// The values that it received, as text.
    pub(crate) fn values(&self) -> Vec<&str> {
        let value =
            |message: &Message| str::from_utf8(message.value.as_deref().unwrap()).map(|_| ());
        assert!(self.received.iter().all(|message| value(message).is_ok()));
        self.received
            .iter()
            .map(|message| str::from_utf8(message.value.as_deref().unwrap()).unwrap())
            .collect()
    }

    /// Leaves in good order, and holds nothing of the broker any more.
    pub(crate) async fn leave(self) {
        self.consumer.leave().await.unwrap();
    }

    /// Stops without a word.
    pub(crate) fn crash(self) {
        drop(self.consumer);
    }
}

/// Lets members call in turn until `done`.
pub(crate) async fn until(members: &mut [&mut Member], done: impl Fn(&[&mut Member]) -> bool) {
    let waiting = async {
        while !done(members) {
            for member in &mut *members {
                member.call().await;
            }
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .expect("it happens in time");
}

/// Partition `partition` of `topic`.
pub(crate) fn part(topic: &Topic, partition: u32) -> TopicPartition {
    TopicPartition::new(topic.clone(), partition)
}

/// `value-0`, `value-1`, ...
pub(crate) fn values(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("value-{number}")).collect()
}
