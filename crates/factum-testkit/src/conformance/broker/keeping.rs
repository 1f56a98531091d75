//! What a broker keeps over a restart, and what retention takes away.

use std::time::Duration;

use factum_core::{Consumed, Topic, TopicPartition, TopicSpec};
use tokio::time::timeout;

use super::{
    BrokerHarness,
    world::{Inbox, Member, PATIENCE, World, part, values},
};

/// Topics, messages and committed offsets outlive the connection and the broker's process.
pub async fn a_restart_keeps_messages_and_committed_offsets(harness: &dyn BrokerHarness) {
    let mut world = World::open(harness, "restart").await;
    let topic = world.make("orders", 2).await;
    let group = world.group("g");
    world.publish(&topic, 0, values(0..5)).await;
    world.publish(&topic, 1, values(5..7)).await;
    let inbox = Inbox::default();
    let mut member = world.join(&group, &[&topic], "one", &inbox).await;
    member.receive(7).await;
    let commits = [(part(&topic, 0), 3), (part(&topic, 1), 1)];
    member.consumer.commit(&commits).await.unwrap();
    let before = world.broker.read(&part(&topic, 0), 0, 100).await.unwrap();
    member.leave().await;
    let World { broker, .. } = world;

    let broker = harness.reopen(broker).await;

    world = World::with(harness, broker, "restart");
    assert_eq!(world.broker.committed(&group).await.unwrap(), commits);
    assert_eq!(
        world.broker.read(&part(&topic, 0), 0, 100).await.unwrap(),
        before
    );
    assert!(
        world
            .broker
            .topics()
            .await
            .unwrap()
            .iter()
            .any(|spec| spec.topic == topic && spec.partitions == 2)
    );
    assert_eq!(world.publish(&topic, 0, ["after"]).await, [5]);
    inbox.set(&part(&topic, 0), 3);
    inbox.set(&part(&topic, 1), 1);
    let mut member = world.join(&group, &[&topic], "two", &inbox).await;
    member.receive(4).await;
    let mut values = member.values();
    values.sort_unstable();
    assert_eq!(values, ["after", "value-3", "value-4", "value-6"]);
}

async fn bounded(
    world: &World<'_>,
    retention: Option<Duration>,
    retention_bytes: Option<u64>,
) -> Topic {
    let topic = world.topic("bounded");
    let spec = TopicSpec {
        retention,
        retention_bytes,
        ..TopicSpec::new(topic.clone(), 1)
    };
    world.broker.ensure_topic(&spec).await.unwrap();
    topic
}

/// Messages older than the topic's retention go, from the start of the partition; offsets stay what they were.
pub async fn old_messages_go(harness: &dyn BrokerHarness) {
    if !harness.sweeps() {
        return;
    }
    let world = World::open(harness, "age").await;
    let topic = bounded(&world, Some(Duration::from_mins(1)), None).await;
    let partition = part(&topic, 0);
    world.publish(&topic, 0, values(0..3)).await;
    harness.pass(Duration::from_secs(40)).await;
    world.publish(&topic, 0, values(3..5)).await;
    harness.pass(Duration::from_secs(40)).await;

    world.sweep().await;

    let kept = world.broker.watermarks(&partition).await.unwrap();
    assert_eq!((kept.first, kept.end), (3, 5));
    let read = world.broker.read(&partition, 0, 100).await.unwrap();
    assert_eq!(
        read.iter()
            .map(|message| message.offset)
            .collect::<Vec<_>>(),
        [3, 4],
        "goes on behind"
    );

    // Even when nothing is left, offsets go on.
    harness.pass(Duration::from_mins(1)).await;
    world.sweep().await;
    let kept = world.broker.watermarks(&partition).await.unwrap();
    assert_eq!((kept.first, kept.end), (5, 5));
    assert_eq!(world.publish(&topic, 0, ["next"]).await, [5]);
}

/// A topic has the retention that was stated last.
pub async fn retention_can_be_stated_anew(harness: &dyn BrokerHarness) {
    if !harness.sweeps() {
        return;
    }
    let world = World::open(harness, "anew").await;
    let topic = bounded(&world, Some(Duration::from_hours(1)), None).await;
    world.publish(&topic, 0, values(0..3)).await;
    harness.pass(Duration::from_mins(2)).await;
    let first = async || {
        let kept = world.broker.watermarks(&part(&topic, 0)).await;
        kept.unwrap().first
    };
    world.sweep().await;
    assert_eq!(first().await, 0);

    bounded(&world, Some(Duration::from_mins(1)), None).await;
    world.sweep().await;
    assert_eq!(first().await, 3);
}

/// A topic that nobody writes to and nobody reads loses its old messages by the sweep alone, after a restart too.
pub async fn nobody_need_write_to_a_topic_for_its_old_messages_to_go(harness: &dyn BrokerHarness) {
    if !harness.sweeps() {
        return;
    }
    let world = World::open(harness, "idle").await;
    let topic = bounded(&world, Some(Duration::from_mins(1)), None).await;
    let partition = part(&topic, 0);
    let kept_for_ever = world.make("kept", 1).await;
    for topic in [&topic, &kept_for_ever] {
        world.publish(topic, 0, values(0..3)).await;
    }
    let World { broker, .. } = world;
    let broker = harness.reopen(broker).await;
    let world = World::with(harness, broker, "idle");
    harness.pass(Duration::from_mins(2)).await;

    world.sweep().await;

    let kept = world.broker.watermarks(&partition).await.unwrap();
    assert_eq!((kept.first, kept.end), (3, 3));
    let kept = world.broker.watermarks(&part(&kept_for_ever, 0)).await;
    assert_eq!(kept.unwrap().first, 0);
}

/// The oldest messages go when the partition holds more bytes than it should.
pub async fn messages_beyond_the_bytes_go(harness: &dyn BrokerHarness) {
    const BOUND: usize = 100_000;
    if !harness.sweeps() {
        return;
    }
    let world = World::open(harness, "size").await;
    let topic = bounded(&world, None, Some(BOUND as u64)).await;
    let partition = part(&topic, 0);
    let value = "x".repeat(1000);
    for _ in 0..10 {
        world
            .publish(&topic, 0, (0..50).map(|_| value.as_str()))
            .await;
    }

    world.sweep().await;

    let kept = world.broker.watermarks(&partition).await.unwrap();
    assert_eq!(kept.end, 500);
    assert!(kept.first > 0, "the oldest are gone");
    let mut bytes = 0;
    for message in world.broker.read(&partition, 0, 1000).await.unwrap() {
        bytes += message.value.map_or(0, |value| value.len())
            + message.key.map_or(0, |key| key.as_bytes().len());
    }
    assert!(bytes >= BOUND, "what the bound allows is kept: {bytes}");
    assert!(
        bytes <= BOUND + 10_000,
        "no more than the bound and a message is kept: {bytes}"
    );
}

/// Retention that passes a member is told to it, and never a silent gap.
pub async fn a_member_that_retention_overtook_is_told(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "overtaken").await;
    let topic = bounded(&world, Some(Duration::from_mins(1)), None).await;
    let partition = part(&topic, 0);
    world.publish(&topic, 0, values(0..3)).await;
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    member.own(1).await;
    member.consumer.pause(&partition).await.unwrap();
    world
        .expire(std::slice::from_ref(&partition), &mut member)
        .await;
    world.publish(&topic, 0, ["young"]).await;

    let error = member.consumer.seek(&partition, 1).await.unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
    member.consumer.resume(&partition).await.unwrap();
    assert_eq!(
        until_passed(&mut member).await,
        std::slice::from_ref(&partition)
    );
    member.receive_nothing().await;

    member.consumer.seek(&partition, 3).await.unwrap();
    member.receive(1).await;
    assert_eq!(member.values(), ["young"]);
}

/// Calls until it is told that retention has passed what it reads next.
async fn until_passed(member: &mut Member) -> Vec<TopicPartition> {
    let told = async {
        loop {
            if let Some(Consumed::Passed(partitions)) = member.call().await {
                return partitions;
            }
        }
    };
    timeout(PATIENCE, told).await.expect("it is told")
}

/// A partition that retention has passed takes nothing from the others: what comes at the same time of them comes whole.
///
/// It went wrong: the call failed, and messages of other partitions that were read with it never came again.
pub async fn a_partition_that_retention_overtook_takes_nothing_from_the_others(
    harness: &dyn BrokerHarness,
) {
    let world = World::open(harness, "others").await;
    let topic = world.topic("orders");
    let spec = TopicSpec {
        retention: Some(Duration::from_mins(1)),
        ..TopicSpec::new(topic.clone(), 3)
    };
    world.broker.ensure_topic(&spec).await.unwrap();
    world.publish(&topic, 1, values(0..3)).await;
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    member.own(3).await;
    let all: Vec<_> = (0..3).map(|partition| part(&topic, partition)).collect();
    for partition in &all {
        member.consumer.pause(partition).await.unwrap();
    }
    // What a broker may have delivered before it was paused.
    member.consumer.seek(&all[1], 0).await.unwrap();
    world.expire(&all[1..2], &mut member).await;
    member.received.clear();
    for partition in [0, 1, 2] {
        world.publish(&topic, partition, values(10..14)).await;
    }
    for partition in &all {
        member.consumer.resume(partition).await.unwrap();
    }

    assert_eq!(until_passed(&mut member).await, [all[1].clone()]);
    member.receive(8).await;

    for partition in [0, 2] {
        let of = member.received.iter();
        let of = of.filter(|message| message.partition == partition);
        let offsets: Vec<_> = of.map(|message| message.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3], "of partition {partition}");
    }
    member.consumer.seek(&all[1], 3).await.unwrap();
    member.receive(12).await;
}
