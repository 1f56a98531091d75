//! The memory broker passes the broker suite, and dies with its disk's next broker.

use std::{sync::Arc, time::Duration};

use factum_core::{
    Broker, Consumed, Consumer, Group, Headers, Outgoing, Subscription, Timestamp, Topic,
    TopicPartition, TopicSpec,
};
use factum_testkit::{MemoryBroker, MemoryTopicsDisk, TestEnv, conformance::broker::BrokerHarness};

/// A memory broker, whose disk outlives it.
pub(crate) struct Memory {
    disk: MemoryTopicsDisk,
    test: TestEnv,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            disk: MemoryTopicsDisk::new(),
            test: TestEnv::seeded(1),
        }
    }
}

#[async_trait::async_trait]
impl BrokerHarness for Memory {
    async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.disk.open(self.test.env()))
    }

    async fn reopen(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        drop(broker);
        self.open().await
    }

    async fn pass(&self, duration: Duration) {
        self.test.advance(duration);
    }

    fn now(&self) -> Timestamp {
        self.test.clock().now()
    }

    fn sweeps(&self) -> bool {
        true
    }
}

mod suite {
    use super::*;
    factum_testkit::broker_suite!(Memory::new());
}

#[tokio::test]
async fn a_broker_is_cut_off_when_its_disk_gets_another() {
    let memory = Memory::new();
    let old = memory.open().await;
    old.ensure_topic(&TopicSpec::new(Topic::of("orders"), 1))
        .await
        .unwrap();

    let new = memory.open().await;

    let error = old
        .ensure_topic(&TopicSpec::new(Topic::of("payments"), 1))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(new.topics().await.unwrap().len(), 1);
}

/// Topic `orders` with one partition, on a broker of its own.
async fn orders(retention: Option<Duration>) -> (MemoryBroker, TestEnv, TopicPartition) {
    let test = TestEnv::seeded(1);
    let broker = MemoryTopicsDisk::new().open(test.env());
    let spec = TopicSpec {
        retention,
        ..TopicSpec::new(Topic::of("orders"), 1)
    };
    broker.ensure_topic(&spec).await.expect("the topic is new");
    (broker, test, TopicPartition::new(Topic::of("orders"), 0))
}

fn message(test: &TestEnv, value: &'static str) -> Outgoing {
    Outgoing {
        topic: Topic::of("orders"),
        partition: 0,
        key: None,
        headers: Headers::new(),
        value: Some(value.into()),
        timestamp: test.clock().now(),
    }
}

fn subscription(member: &str) -> Subscription {
    Subscription {
        group: Group::of("g"),
        topics: vec![Topic::of("orders")],
        member: member.to_owned(),
        session: Duration::from_secs(10),
        batch_max: 10,
    }
}

/// Calls once; `None` when there is nothing to be told.
async fn call(consumer: &mut dyn Consumer) -> Option<Consumed> {
    let told = tokio::time::timeout(Duration::from_millis(10), consumer.next()).await;
    told.ok().map(|told| told.expect("memory does not fail"))
}

#[tokio::test]
async fn a_member_that_slept_keeps_what_nobody_else_noticed() {
    let (broker, test, partition) = orders(None).await;
    let mut consumer = broker.join(subscription("one")).await.unwrap();
    assert_eq!(
        call(&mut *consumer).await,
        Some(Consumed::Assigned(vec![partition.clone()]))
    );

    test.advance(Duration::from_hours(8));

    assert_eq!(call(&mut *consumer).await, None, "nothing was given away");
    assert_eq!(
        broker.members(&Group::of("g")).await.unwrap()[0].partitions,
        [partition]
    );
}

#[tokio::test]
async fn asking_for_the_members_of_a_group_notices_the_dead() {
    let (broker, test, _) = orders(None).await;
    let _dead = broker.join(subscription("one")).await.unwrap();
    test.advance(Duration::from_secs(11));
    assert_eq!(broker.members(&Group::of("g")).await.unwrap(), []);
}

#[tokio::test]
async fn a_message_is_delivered_though_its_producer_never_asked_for_the_report() {
    let (broker, test, partition) = orders(None).await;
    let mut consumer = broker.join(subscription("one")).await.unwrap();
    call(&mut *consumer).await;
    consumer.seek(&partition, 0).await.unwrap();
    let waiting = tokio::spawn(async move { consumer.next().await.unwrap() });
    tokio::task::yield_now().await;

    let mut producer = broker.producer().await.unwrap();
    producer
        .send(vec![(1, message(&test, "one"))])
        .await
        .unwrap();
    drop(producer);

    assert!(matches!(waiting.await.unwrap(), Consumed::Messages(_)));
}

#[tokio::test]
async fn appends_apply_retention_from_time_to_time() {
    let (broker, test, partition) = orders(Some(Duration::from_mins(1))).await;
    let mut producer = broker.producer().await.unwrap();
    for _ in 0..5 {
        producer.send(vec![(1, message(&test, "x"))]).await.unwrap();
        producer.reports().await.unwrap();
        test.advance(Duration::from_secs(40));
    }
    let kept = broker.watermarks(&partition).await.unwrap();
    assert_eq!(
        (kept.first, kept.end),
        (3, 5),
        "those of the last minute before the last append"
    );
}
