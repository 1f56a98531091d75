//! A relay whose process is stopped in the middle, and wakes when another has taken over: what it still has on the way
//! arrives late, and the chain tells consumers so.

use factum_core::{
    At, Broker, Headers, Key, Message, Outgoing, Producer, StoreId, Topic, TopicPartition,
    TopicSpec,
    chain::{Class, Lasts, Link, Start},
};
use factum_kafka::Kafka;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    process::{Process, part},
    support::{Place, WAIT_MAX, eventually, now},
};

/// How many records the log has.
const RECORDS: u64 = 30_000;

/// How many of them were published when the relay is stopped.
const STOPPED_AFTER: u64 = 2_000;

const PARTITIONS: u32 = 2;

const SOURCE: StoreId = StoreId(Uuid::from_u128(1));

/// Record `number` as a relay publishes it: each names the one before it in its partition.
fn record(topic: &Topic, number: u64) -> Outgoing {
    let (every, partition) = (u64::from(PARTITIONS), number % u64::from(PARTITIONS));
    let link = Link {
        source: SOURCE,
        at: At::new(1, number),
        previous: match number.checked_sub(every) {
            None | Some(0) => At::ZERO,
            Some(previous) => At::new(1, previous),
        },
    };
    Outgoing {
        topic: topic.clone(),
        partition: u32::try_from(partition).unwrap(),
        key: Some(Key::from(partition.to_string())),
        headers: Headers::from_iter(link.to_headers()),
        value: Some(number.to_string().into()),
        timestamp: now(),
    }
}

/// Publishes the records from `first` on, as a relay does.
async fn publish(kafka: &Kafka, topic: &Topic, first: u64) {
    let mut producer = kafka.producer().await.unwrap();
    let numbers: Vec<_> = (first..=RECORDS).collect();
    for batch in numbers.chunks(100) {
        let batch = batch.iter().map(|number| (*number, record(topic, *number)));
        producer.send(batch.collect()).await.unwrap();
    }
    heard(&mut *producer).await;
}

async fn heard(producer: &mut dyn Producer) {
    loop {
        let reports = timeout(WAIT_MAX, producer.reports()).await;
        let reports = reports.expect("reports come").unwrap();
        if reports.is_empty() {
            return;
        }
        for report in reports {
            report.result.unwrap();
        }
    }
}

async fn all(kafka: &Kafka, partition: &TopicPartition) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::new();
    loop {
        let next = all.last().map_or(0, |last| last.offset + 1);
        let page = kafka.read(partition, next, 5_000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn published(kafka: &Kafka, topic: &Topic) -> u64 {
    let mut count = 0;
    for partition in 0..PARTITIONS {
        let partition = TopicPartition::new(topic.clone(), partition);
        count += kafka.watermarks(&partition).await.unwrap().end;
    }
    count
}

/// The body of the process that is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn relay_that_will_be_stopped() {
    let Some(part) = part() else { return };
    let place = Place::of(&part[0]);
    let kafka = place.connect().await;
    publish(&kafka, &Topic::new(&part[1]).unwrap(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_wakes_up_late_harms_nobody() {
    let Some(place) = Place::new() else { return };
    let kafka = place.connect().await;
    let topic = Topic::new(format!("{}.orders", place.prefix)).unwrap();
    let spec = TopicSpec::new(topic.clone(), PARTITIONS);
    kafka.ensure_topic(&spec).await.unwrap();

    let zombie = Process::start(
        "zombie::relay_that_will_be_stopped",
        &[place.servers(), topic.as_str()],
    );
    eventually("the relay publishes", async || {
        (published(&kafka, &topic).await >= STOPPED_AFTER).then_some(())
    })
    .await;
    zombie.signal("STOP");
    let stopped_at = published(&kafka, &topic).await;
    assert!(
        stopped_at < RECORDS,
        "it was stopped too late to be a zombie"
    );

    // The other begins at the checkpoint: behind what surely was appended, some way before the end.
    publish(&kafka, &topic, STOPPED_AFTER / 2).await;
    let before = published(&kafka, &topic).await;
    zombie.signal("CONT");
    zombie.wait();

    let after = published(&kafka, &topic).await;
    assert!(after > before, "the zombie had something on the way");
    for partition in 0..PARTITIONS {
        let partition = TopicPartition::new(topic.clone(), partition);
        let mut lasts = Lasts::default();
        let (mut delivered, mut classes) = (Vec::new(), Vec::new());
        for message in all(&kafka, &partition).await {
            let link = Link::from_headers(|name| message.headers.get(name)).unwrap();
            let class = lasts.fold(Start::Beginning, link.as_ref());
            classes.push(class);
            if class == Class::Deliver {
                delivered.push(link.unwrap().at.position.0);
            }
        }
        let number = u64::from(partition.partition);
        let every = (1..=RECORDS).filter(|record| record % u64::from(PARTITIONS) == number);
        assert_eq!(
            delivered,
            every.collect::<Vec<_>>(),
            "each once, in order, in {partition}"
        );
        let prematures = classes.iter().filter(|class| **class == Class::Premature);
        assert_eq!(prematures.count(), 0, "neither left a gap in {partition}");
        assert!(classes.contains(&Class::Duplicate), "{partition}");
    }
}
