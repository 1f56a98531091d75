//! The memory broker passes the broker suite, and dies with its disk's next broker.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use factum_core::{
    Broker, Consumed, Consumer, Group, Headers, Outgoing, Subscription, Timestamp, Topic,
    TopicPartition, TopicSpec,
};
use factum_testkit::{MemoryBroker, MemoryTopicsDisk, TestEnv, conformance::broker::BrokerHarness};

/// A memory broker, whose disk outlives it.
pub(crate) struct Memory {
    disk: MemoryTopicsDisk,
    test: TestEnv,
    open: Mutex<Option<MemoryBroker>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            disk: MemoryTopicsDisk::new(),
            test: TestEnv::seeded(1),
            open: Mutex::default(),
        }
    }
}

#[async_trait::async_trait]
impl BrokerHarness for Memory {
    async fn open(&self) -> Arc<dyn Broker> {
        let broker = self.disk.open(self.test.env());
        *self.open.lock().expect("no case panicked yet") = Some(broker.clone());
        Arc::new(broker)
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

    async fn sweep(&self) -> bool {
        let broker = self
            .open
            .lock()
            .expect("no case panicked yet")
            .clone()
            .expect("it was opened");
        broker
            .sweep(self.now())
            .await
            .expect("memory does not fail");
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
async fn nothing_is_delivered_before_the_first_seek() {
    let (broker, test, partition) = orders(None).await;
    let mut producer = broker.producer().await.unwrap();
    producer
        .send(vec![(1, message(&test, "one"))])
        .await
        .unwrap();
    let mut consumer = broker.join(subscription("one")).await.unwrap();
    assert_eq!(
        call(&mut *consumer).await,
        Some(Consumed::Assigned(vec![partition.clone()]))
    );
    assert_eq!(call(&mut *consumer).await, None);

    consumer.seek(&partition, 0).await.unwrap();

    assert!(
        matches!(call(&mut *consumer).await, Some(Consumed::Messages(messages)) if messages.len() == 1)
    );
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

#[tokio::test]
async fn a_batch_is_cut_where_its_first_bad_message_is() {
    let (broker, test, partition) = orders(None).await;
    let mut producer = broker.producer().await.unwrap();
    let elsewhere = Outgoing {
        partition: 9,
        ..message(&test, "bad")
    };

    let batch = [
        message(&test, "before"),
        elsewhere,
        message(&test, "behind"),
    ];
    producer.send((1..).zip(batch).collect()).await.unwrap();

    let mut reports = Vec::new();
    while reports.len() < 3 {
        reports.extend(producer.reports().await.unwrap());
    }
    let results: Vec<_> = reports
        .iter()
        .map(|report| (report.sequence, report.result.is_ok()))
        .collect();
    assert_eq!(results, [(1, true), (2, false), (3, false)]);
    assert_eq!(broker.watermarks(&partition).await.unwrap().end, 1);
}
