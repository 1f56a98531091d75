//! What a broker refuses although we took it.

use factum_core::{
    Broker, Headers, Key, Outgoing, Producer, Report, Topic, TopicPartition, TopicSpec,
};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use tokio::time::timeout;

use crate::support::{Place, WAIT_MAX, now};

fn message(topic: &Topic, number: u64, bytes: usize) -> Outgoing {
    Outgoing {
        topic: topic.clone(),
        partition: 0,
        key: Some(Key::from(number.to_string())),
        headers: Headers::new(),
        value: Some(vec![b'x'; bytes].into()),
        timestamp: now(),
    }
}

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

/// The numbers that were appended, in order.
fn appended(reports: &[Report]) -> Vec<u64> {
    let appended = reports.iter().filter(|report| report.result.is_ok());
    let mut appended: Vec<_> = appended.map(|report| report.sequence).collect();
    appended.sort_unstable();
    appended
}

/// A topic whose bound somebody lowered after we looked.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_appended_behind_a_message_that_the_broker_refuses() {
    let Some(place) = Place::new() else { return };
    let kafka = place.connect().await;
    let topic = Topic::new(format!("{}.orders", place.prefix)).unwrap();
    kafka
        .ensure_topic(&TopicSpec::new(topic.clone(), 1))
        .await
        .unwrap();
    let lower = AlterConfig::new(ResourceSpecifier::Topic(topic.as_str()));
    let lower = lower.set("max.message.bytes", "20000");
    let admin = place.admin();
    let lowered = admin.alter_configs([&lower], &AdminOptions::new()).await;
    lowered.unwrap()[0].as_ref().unwrap();

    let mut producer = kafka.producer().await.unwrap();
    let mut sent = Vec::new();
    // The first is awaited, so that the broker knows the run.
    producer
        .send(vec![(0, message(&topic, 0, 10))])
        .await
        .unwrap();
    sent.extend(reports(&mut *producer).await);
    for number in 1..2_000 {
        let bytes = if number == 700 { 30_000 } else { 10 };
        let batch = vec![(number, message(&topic, number, bytes))];
        if producer.send(batch).await.is_err() {
            break;
        }
    }
    sent.extend(reports(&mut *producer).await);

    let read = kafka.read(&TopicPartition::new(topic, 0), 0, 10_000).await;
    let read: Vec<u64> = read
        .unwrap()
        .iter()
        .map(|message| message.key.as_ref().unwrap().as_text().unwrap())
        .map(|key| key.parse().unwrap())
        .collect();
    assert_eq!(read, (0..read.len() as u64).collect::<Vec<_>>(), "no gap");
    assert_eq!(appended(&sent), read);
    assert!(read.len() <= 700, "{} were appended", read.len());
    let refused = sent
        .iter()
        .filter_map(|report| report.result.as_ref().err());
    assert!(
        refused.clone().any(factum_core::Error::is_poison),
        "{:?}",
        refused.collect::<Vec<_>>()
    );
}
