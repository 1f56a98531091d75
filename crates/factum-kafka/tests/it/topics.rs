//! Topics that are there already, and are not as they should be.

use std::time::Duration;

use factum_core::{Broker, Error, Topic, TopicSpec};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use crate::support::Place;

/// Makes a topic as somebody else would.
async fn made(place: &Place, name: &str, settings: &[(&str, &str)]) -> TopicSpec {
    let topic = Topic::new(format!("{}.{name}", place.prefix)).unwrap();
    let new = NewTopic::new(topic.as_str(), 2, TopicReplication::Fixed(1));
    let new = settings
        .iter()
        .fold(new, |new, (name, value)| new.set(name, value));
    let made = place.admin();
    let made = made
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap();
    made[0].as_ref().unwrap();
    TopicSpec::new(topic, 2)
}

async fn refused(place: &Place, name: &str, settings: &[(&str, &str)]) -> Error {
    let spec = made(place, name, settings).await;
    let kafka = place.connect().await;
    let error = kafka.ensure_topic(&spec).await.unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
    assert!(error.to_string().contains(spec.topic.as_str()), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_lose_or_refuse_events_is_refused_in_words() {
    let Some(place) = Place::new() else { return };
    let compacted = refused(&place, "compacted", &[("cleanup.policy", "compact")]).await;
    assert!(
        compacted.to_string().contains("cleanup.policy=delete"),
        "{compacted}"
    );

    let small = [("max.message.bytes", "1000")];
    let small = refused(&place, "small", &small).await;
    assert!(
        small.to_string().contains("max.message.bytes=1114112"),
        "{small}"
    );

    let blocked = [("min.insync.replicas", "2")];
    let blocked = refused(&place, "blocked", &blocked).await;
    assert!(
        blocked.to_string().contains("min.insync.replicas=1"),
        "{blocked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_gets_the_retention_that_is_stated_and_keeps_its_other_settings() {
    let Some(place) = Place::new() else { return };
    let own = [("max.message.bytes", "2000000"), ("segment.ms", "3600000")];
    let mut spec = made(&place, "orders", &own).await;
    let kafka = place.connect().await;
    for (retention, bytes) in [
        (Some(Duration::from_hours(1)), Some(1_000_000)),
        (None, None),
    ] {
        (spec.retention, spec.retention_bytes) = (retention, bytes);
        kafka.ensure_topic(&spec).await.unwrap();

        let listed = kafka.topics().await.unwrap();
        assert!(listed.contains(&spec), "{listed:?}");
    }
    // A bound below is refused: it still has its own.
    let demanding = place.options().message_bytes_max(2_000_000);
    let demanding = factum_kafka::Kafka::connect(demanding).await.unwrap();
    let error = demanding.ensure_topic(&spec).await.unwrap_err();
    assert!(
        error.to_string().contains("2000000 bytes at most"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_copies_than_brokers_are_refused_in_words() {
    let Some(place) = Place::new() else { return };
    let kafka = factum_kafka::Kafka::connect(place.options().replication(3))
        .await
        .unwrap();
    let topic = Topic::new(format!("{}.copies", place.prefix)).unwrap();
    let error = kafka
        .ensure_topic(&TopicSpec::new(topic, 1))
        .await
        .unwrap_err();
    assert!(
        error.is_fatal() && error.to_string().contains("fewer brokers"),
        "{error:?}"
    );
}
