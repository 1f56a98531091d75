//! Faults that no real broker has at will, on the library's own mock of a cluster. Needs no server.

use std::time::Duration;

use factum_core::{
    Broker, Consumed, Consumer, Error, ErrorClass, Group, Headers, Key, Outgoing, Producer, Report,
    Subscription, Timestamp, Topic, TopicPartition,
};
use factum_kafka::{Kafka, KafkaOptions};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time::timeout;

use crate::support::{WAIT_MAX, eventually};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(brokers: i32) -> Cluster {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic("orders", 1, brokers).unwrap();
    cluster
}

fn options(cluster: &Cluster) -> KafkaOptions {
    let servers = cluster.bootstrap_servers();
    KafkaOptions::new(servers.split(','))
}

async fn connect(cluster: &Cluster) -> Kafka {
    Kafka::connect(options(cluster)).await.unwrap()
}

fn orders() -> TopicPartition {
    TopicPartition::new(Topic::of("orders"), 0)
}

fn message(number: u64) -> Outgoing {
    Outgoing {
        topic: Topic::of("orders"),
        partition: 0,
        key: Some(Key::from("order-1")),
        headers: Headers::new(),
        value: Some(number.to_string().into()),
        timestamp: Timestamp::from_millis(1),
    }
}

/// All reports that come, until nothing is on the way.
async fn reports(producer: &mut dyn Producer) -> Vec<Report> {
    let mut all = Vec::new();
    loop {
        let reports = timeout(WAIT_MAX, producer.reports()).await;
        let reports = reports.expect("reports come").unwrap();
        if reports.is_empty() {
            return all;
        }
        all.extend(reports);
    }
}

/// Sends `numbers` in batches of ten, as far as the producer takes them.
async fn send(producer: &mut dyn Producer, numbers: std::ops::Range<u64>) {
    let numbers: Vec<_> = numbers.collect();
    for batch in numbers.chunks(10) {
        let batch = batch.iter().map(|number| (*number, message(*number)));
        if producer.send(batch.collect()).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn values(kafka: &Kafka) -> Vec<u64> {
    let read = kafka.read(&orders(), 0, 100_000).await.unwrap();
    let values = read.iter().map(|message| message.value.as_deref().unwrap());
    let values = values.map(|value| str::from_utf8(value).unwrap().parse().unwrap());
    values.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_a_while_is_sent_again_in_order_and_once() {
    let cluster = cluster(1);
    let kafka = connect(&cluster).await;
    let mut producer = kafka.producer().await.unwrap();
    send(&mut *producer, 0..10).await;

    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ],
    );
    send(&mut *producer, 10..500).await;

    let offsets: Result<Vec<u64>, Error> = reports(&mut *producer)
        .await
        .into_iter()
        .map(|report| report.result)
        .collect();
    let offsets = offsets.unwrap();
    assert_eq!(offsets.len(), 500);
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    assert_eq!(values(&kafka).await, (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_broker_says_nothing_all_that_is_on_the_way_fails_and_a_new_run_goes_on() {
    let cluster = cluster(1);
    // A run may send half a second after its beginning: it needs some patience.
    let kafka = options(&cluster).stall_max(Duration::from_secs(3));
    let kafka = Kafka::connect(kafka).await.unwrap();
    let mut producer = kafka.producer().await.unwrap();
    send(&mut *producer, 0..10).await;
    let sent = reports(&mut *producer).await;
    assert!(sent.iter().all(|report| report.result.is_ok()), "{sent:?}");

    cluster.broker_down(1).unwrap();
    send(&mut *producer, 10..40).await;

    let failed = reports(&mut *producer).await;
    assert_eq!(failed.len(), 30);
    for report in failed {
        // It may have arrived all the same: nobody may conclude that it didn't.
        assert_eq!(report.result.unwrap_err().class(), ErrorClass::Unknown);
    }
    cluster.broker_up(1).unwrap();
    let mut next = kafka.producer().await.unwrap();
    send(&mut *next, 100..110).await;
    let told = reports(&mut *next).await;
    assert!(told.iter().all(|report| report.result.is_ok()), "{told:?}");
    drop(producer);
    let expected: Vec<_> = (0..10).chain(100..110).collect();
    assert_eq!(
        values(&kafka).await,
        expected,
        "what was given up was purged"
    );
}

async fn join(kafka: &Kafka, member: &str) -> Box<dyn Consumer> {
    let subscription = Subscription {
        group: Group::of("stock"),
        topics: vec![Topic::of("orders")],
        member: member.to_owned(),
        session: Duration::from_secs(6),
        batch_max: 100,
    };
    kafka.join(subscription).await.unwrap()
}

async fn told(consumer: &mut dyn Consumer) -> Consumed {
    let told = timeout(WAIT_MAX, consumer.next()).await;
    told.expect("it is told something").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_expelled_is_told_what_it_lost_and_comes_back() {
    for error in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
    ] {
        let cluster = cluster(1);
        let kafka = connect(&cluster).await;
        let mut producer = kafka.producer().await.unwrap();
        send(&mut *producer, 0..3).await;
        let mut consumer = join(&kafka, "one").await;
        assert_eq!(
            told(&mut *consumer).await,
            Consumed::Assigned(vec![orders()])
        );
        consumer.seek(&orders(), 1).await.unwrap();
        assert!(matches!(told(&mut *consumer).await, Consumed::Messages(_)));

        cluster.request_errors(RDKafkaApiKey::Heartbeat, &[error]);

        assert_eq!(told(&mut *consumer).await, Consumed::Lost(vec![orders()]));
        let late = consumer.seek(&orders(), 1).await.unwrap_err();
        assert!(late.is_fenced(), "{late:?}");
        assert_eq!(
            told(&mut *consumer).await,
            Consumed::Assigned(vec![orders()])
        );
        consumer.seek(&orders(), 2).await.unwrap();
        let Consumed::Messages(messages) = told(&mut *consumer).await else {
            panic!("messages come");
        };
        assert_eq!(messages[0].offset, 2);
    }
}

/// It went wrong: a place could be sought until it was told that it was another's, so that its old owner claimed it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_fenced_before_its_user_has_heard_of_it() {
    let cluster = cluster(1);
    let kafka = connect(&cluster).await;
    let mut consumer = join(&kafka, "one").await;
    assert_eq!(
        told(&mut *consumer).await,
        Consumed::Assigned(vec![orders()])
    );
    consumer.seek(&orders(), 0).await.unwrap();
    let begun = timeout(Duration::from_millis(100), consumer.next()).await;
    assert!(begun.is_err(), "{begun:?}");
    consumer.resume(&orders()).await.unwrap();

    let expelled = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &[expelled]);

    let fenced = eventually("it is fenced", async || {
        consumer.resume(&orders()).await.err()
    });
    let fenced = fenced.await;
    assert!(fenced.is_fenced(), "{fenced:?}");
    for late in [
        consumer.seek(&orders(), 0).await,
        consumer.pause(&orders()).await,
    ] {
        assert!(late.unwrap_err().is_fenced());
    }
    assert_eq!(told(&mut *consumer).await, Consumed::Lost(vec![orders()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_not_taken_costs_nothing() {
    let cluster = cluster(1);
    let kafka = connect(&cluster).await;
    let mut consumer = join(&kafka, "one").await;
    assert_eq!(
        told(&mut *consumer).await,
        Consumed::Assigned(vec![orders()])
    );
    consumer.seek(&orders(), 0).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 3],
    );

    consumer.commit(&[(orders(), 0)]).await.unwrap();

    let mut producer = kafka.producer().await.unwrap();
    send(&mut *producer, 0..3).await;
    assert!(matches!(told(&mut *consumer).await, Consumed::Messages(_)));
    consumer.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_for_a_while_is_read_later_and_nothing_is_left_out() {
    let cluster = cluster(3);
    let kafka = connect(&cluster).await;
    let mut producer = kafka.producer().await.unwrap();
    send(&mut *producer, 0..300).await;
    assert_eq!(reports(&mut *producer).await.len(), 300);
    let mut consumer = join(&kafka, "one").await;
    assert_eq!(
        told(&mut *consumer).await,
        Consumed::Assigned(vec![orders()])
    );
    consumer.seek(&orders(), 0).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Fetch,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    );

    let mut offsets = Vec::new();
    for leader in (1..=3).cycle() {
        if let Consumed::Messages(messages) = told(&mut *consumer).await {
            offsets.extend(messages.iter().map(|message| message.offset));
        }
        if offsets.len() == 300 {
            break;
        }
        cluster.partition_leader("orders", 0, Some(leader)).unwrap();
    }

    assert_eq!(offsets, (0..300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_nothing_is_connected_to() {
    let nobody = KafkaOptions::new(["127.0.0.1:1"]).patience(Duration::from_millis(500));
    let error = Kafka::connect(nobody).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");

    let strange = KafkaOptions::new(["127.0.0.1:1"]).setting("no.such.setting", "1");
    let error = Kafka::connect(strange).await.unwrap_err();
    assert!(
        error.is_fatal() && error.to_string().contains("no.such.setting"),
        "{error}"
    );
}
