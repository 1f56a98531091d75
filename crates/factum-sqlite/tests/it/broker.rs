//! The embedded broker passes the broker suite, and shares its file with the stores.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use factum_core::{
    Broker, Consumed, Group, Headers, Outgoing, Subscription, Timestamp, Topic, TopicPartition,
    TopicSpec,
};
use factum_sqlite::{Sqlite, SqliteBroker, SqliteOptions};
use factum_testkit::{MemoryTopicsDisk, TestEnv, conformance::broker::BrokerHarness};
use tempfile::TempDir;

/// A data directory, and the broker that is open in it.
struct Directory {
    data: TempDir,
    test: TestEnv,
    open: Mutex<Option<(Sqlite, SqliteBroker)>>,
}

impl Directory {
    fn new() -> Self {
        let data = tempfile::tempdir().expect("there is room for a directory");
        Self {
            data,
            test: TestEnv::seeded(1),
            open: Mutex::default(),
        }
    }

    async fn broker(&self) -> SqliteBroker {
        let sqlite = Sqlite::open(&SqliteOptions::new(self.data.path())).expect("it can be opened");
        let broker = sqlite
            .broker(&self.test.env())
            .await
            .expect("its topics can be read");
        *self.open.lock().expect("no case panicked yet") = Some((sqlite, broker.clone()));
        broker
    }

    async fn close(&self) {
        let open = self.open.lock().expect("no case panicked yet").take();
        let (sqlite, broker) = open.expect("it is open");
        drop(broker);
        sqlite.close().await;
    }
}

#[async_trait::async_trait]
impl BrokerHarness for Directory {
    async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.broker().await)
    }

    async fn reopen(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        drop(broker);
        self.close().await;
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
    factum_testkit::broker_suite!(Directory::new());
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

#[tokio::test]
async fn a_directory_has_one_broker() {
    let directory = Directory::new();
    let one = directory.broker().await;
    let (sqlite, _) = directory.open.lock().unwrap().clone().unwrap();
    let two = sqlite.broker(&directory.test.env()).await.unwrap();
    one.ensure_topic(&TopicSpec::new(Topic::of("orders"), 1))
        .await
        .unwrap();
    let subscription = Subscription {
        group: Group::of("g"),
        topics: vec![Topic::of("orders")],
        member: "one".into(),
        session: Duration::from_secs(10),
        batch_max: 10,
    };
    let mut consumer = one.join(subscription).await.unwrap();
    let partition = TopicPartition::new(Topic::of("orders"), 0);
    assert_eq!(
        consumer.next().await.unwrap(),
        Consumed::Assigned(vec![partition.clone()])
    );
    consumer.seek(&partition, 0).await.unwrap();

    let mut producer = two.producer().await.unwrap();
    producer
        .send(vec![(1, message(&directory.test, "hello"))])
        .await
        .unwrap();

    let told = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await;
    assert!(matches!(
        told.expect("it is woken").unwrap(),
        Consumed::Messages(_)
    ));
}

#[tokio::test]
async fn a_message_is_delivered_though_its_producer_was_dropped() {
    let directory = Directory::new();
    let broker = directory.broker().await;
    broker
        .ensure_topic(&TopicSpec::new(Topic::of("orders"), 1))
        .await
        .unwrap();
    let mut producer = broker.producer().await.unwrap();
    producer
        .send(vec![(1, message(&directory.test, "hello"))])
        .await
        .unwrap();
    drop(producer);

    // A write that comes after it is answered after it.
    let offsets = [(TopicPartition::new(Topic::of("orders"), 0), 1)];
    let spec = TopicSpec::new(Topic::of("payments"), 1);
    broker.ensure_topic(&spec).await.unwrap();

    let read = broker.read(&offsets[0].0, 0, 10).await.unwrap();
    assert_eq!(read.len(), 1);
}

/// A batch of a random size, with messages of random sizes for random partitions.
fn random_batch(test: &TestEnv) -> Vec<Outgoing> {
    let random = |below: u64| test.env().random() % below;
    let bytes = |length: u64| vec![b'x'; usize::try_from(length).expect("lengths are small")];
    let one = |_| {
        let length = if random(10) == 0 {
            random(40_000)
        } else {
            random(60)
        };
        Outgoing {
            topic: Topic::of("orders"),
            partition: u32::try_from(random(3)).expect("it is below 3"),
            key: (random(3) > 0).then(|| bytes(random(9)).into()),
            headers: (0..random(3))
                .map(|number| (number.to_string(), bytes(random(5))))
                .collect(),
            value: (random(9) > 0).then(|| bytes(length).into()),
            timestamp: test.clock().now(),
        }
    };
    (0..=random(30)).map(one).collect()
}

async fn publish(broker: &dyn Broker, batch: Vec<Outgoing>) -> Vec<u64> {
    let mut producer = broker.producer().await.expect("it is open");
    let count = batch.len();
    producer
        .send((0..).zip(batch).collect())
        .await
        .expect("it is alive");
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let reports = producer.reports().await.expect("it is open");
        offsets.extend(
            reports
                .into_iter()
                .map(|report| report.result.expect("it is appended")),
        );
    }
    offsets
}

#[tokio::test]
async fn whatever_is_published_and_trimmed_it_reads_as_the_memory_broker_does() {
    for seed in 0..8 {
        let directory = Directory {
            test: TestEnv::seeded(seed),
            ..Directory::new()
        };
        let test = &directory.test;
        let kept = directory.broker().await;
        let model = MemoryTopicsDisk::new().open(test.env());
        let spec = TopicSpec {
            retention: (seed % 2 == 0).then_some(Duration::from_mins(1)),
            retention_bytes: (seed % 3 > 0).then_some(20_000),
            ..TopicSpec::new(Topic::of("orders"), 3)
        };
        kept.ensure_topic(&spec).await.unwrap();
        model.ensure_topic(&spec).await.unwrap();
        for step in 0..40 {
            let batch = random_batch(test);
            assert_eq!(
                publish(&kept, batch.clone()).await,
                publish(&model, batch).await,
                "seed {seed}, step {step}"
            );
            test.advance(Duration::from_millis(test.env().random() % 9_000));
            if step % 4 == 0 {
                kept.sweep(test.clock().now()).await.unwrap();
                model.sweep(test.clock().now()).await.unwrap();
            }
            for partition in 0..3 {
                let partition = TopicPartition::new(Topic::of("orders"), partition);
                let watermarks = model.watermarks(&partition).await.unwrap();
                assert_eq!(
                    kept.watermarks(&partition).await.unwrap(),
                    watermarks,
                    "seed {seed}, step {step}"
                );
                let from = test.env().random() % (watermarks.end + 2);
                let read = model.read(&partition, from, 20).await.unwrap();
                assert_eq!(
                    kept.read(&partition, from, 20).await.unwrap(),
                    read,
                    "seed {seed}, step {step}, {from}"
                );
            }
        }
    }
}
