//! Topics: made once, verified afterwards.

use factum_core::{TopicPartition, TopicSpec, Watermarks};

use super::{
    BrokerHarness,
    world::{World, part},
};

/// Making a topic again changes nothing, and it is listed.
pub async fn a_topic_is_made_once_and_found(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "made_once").await;
    let topic = world.make("orders", 3).await;
    world.publish(&topic, 2, ["kept"]).await;

    world.make("orders", 3).await;

    let found = world.broker.topics().await.unwrap();
    let found: Vec<_> = found
        .into_iter()
        .filter(|spec| spec.topic == topic)
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].partitions, 3);
    let kept = world.broker.watermarks(&part(&topic, 2)).await.unwrap();
    assert_eq!((kept.first, kept.end), (0, 1));
}

/// The partition count of a topic doesn't change.
pub async fn a_topic_with_another_partition_count_is_refused(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "other_count").await;
    let topic = world.make("orders", 3).await;

    let error = world
        .broker
        .ensure_topic(&TopicSpec::new(topic.clone(), 4))
        .await
        .unwrap_err();

    assert!(error.is_fatal(), "{error:?}");
    assert!(
        error.to_string().contains(topic.as_str()),
        "the error names the topic: {error}"
    );
    world.make("orders", 3).await;
}

/// A partition without messages holds nothing from 0 on.
pub async fn a_new_topic_is_empty(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "empty").await;
    let topic = world.make("orders", 2).await;
    for partition in 0..2 {
        let partition = part(&topic, partition);
        let watermarks = world.broker.watermarks(&partition).await.unwrap();
        assert_eq!(watermarks, Watermarks { first: 0, end: 0 });
        assert_eq!(world.broker.read(&partition, 0, 10).await.unwrap(), []);
    }
}

/// What doesn't exist is an error and not an empty answer.
pub async fn unknown_topics_and_partitions_are_errors(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "unknown").await;
    let topic = world.make("orders", 2).await;
    for unknown in [
        part(&topic, 2),
        TopicPartition::new(world.topic("nothing"), 0),
    ] {
        assert!(
            world.broker.watermarks(&unknown).await.is_err(),
            "{unknown}"
        );
        assert!(
            world.broker.read(&unknown, 0, 1).await.is_err(),
            "{unknown}"
        );
    }
}
