//! Places to read from that are gone: nothing is ever skipped in silence.

use std::time::Duration;

use factum_core::{
    Broker, Consumed, Consumer, Group, Headers, Key, Outgoing, Subscription, Topic, TopicPartition,
    TopicSpec,
};
use factum_kafka::Kafka;
use rdkafka::admin::AdminOptions;
use tokio::time::timeout;

use crate::support::{Place, WAIT_MAX, eventually, now};

struct World {
    place: Place,
    kafka: Kafka,
    orders: TopicPartition,
    consumer: Box<dyn Consumer>,
}

impl World {
    /// A member that owns a partition of ten messages, and has sought nothing.
    async fn new() -> Option<Self> {
        let place = Place::new()?;
        let kafka = place.connect().await;
        let topic = Topic::new(format!("{}.orders", place.prefix)).unwrap();
        let spec = TopicSpec::new(topic.clone(), 1);
        kafka.ensure_topic(&spec).await.unwrap();
        let subscription = Subscription {
            group: Group::new(format!("{topic}.group")).unwrap(),
            topics: vec![topic.clone()],
            member: "one".to_owned(),
            session: Duration::from_secs(6),
            batch_max: 100,
        };
        let consumer = kafka.join(subscription).await.unwrap();
        let orders = TopicPartition::new(topic, 0);
        let mut world = Self {
            place,
            kafka,
            orders,
            consumer,
        };
        world.publish(10).await;
        let assigned = Consumed::Assigned(vec![world.orders.clone()]);
        assert_eq!(world.told().await, assigned);
        Some(world)
    }

    async fn publish(&self, count: u64) {
        let mut producer = self.kafka.producer().await.unwrap();
        let batch = (0..count).map(|number| {
            let message = Outgoing {
                topic: self.orders.topic.clone(),
                partition: 0,
                key: Some(Key::from("order-1")),
                headers: Headers::new(),
                value: Some(number.to_string().into()),
                timestamp: now(),
            };
            (number, message)
        });
        producer.send(batch.collect()).await.unwrap();
        let mut reported = 0;
        while reported < count {
            for report in producer.reports().await.unwrap() {
                report.result.unwrap();
                reported += 1;
            }
        }
    }

    async fn told(&mut self) -> Consumed {
        let told = timeout(WAIT_MAX, self.consumer.next()).await;
        told.expect("it is told something").unwrap()
    }

    /// The offsets of the messages that come next.
    async fn offsets(&mut self) -> Vec<u64> {
        let Consumed::Messages(messages) = self.told().await else {
            panic!("messages come");
        };
        messages.iter().map(|message| message.offset).collect()
    }

    async fn hears_nothing(&mut self) {
        let told = timeout(Duration::from_secs(1), self.consumer.next()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

/// Retention passes the place between the seek and the first message.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_goes_after_it_was_sought_is_told_and_another_may_be_sought() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let orders = world.orders.clone();
    world.consumer.seek(&orders, 4).await.unwrap();
    world.place.expire(&orders).await;
    world.publish(3).await;

    assert_eq!(world.told().await, Consumed::Passed(vec![orders.clone()]));
    world.hears_nothing().await;

    let error = world.consumer.seek(&orders, 9).await.unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
    world.consumer.seek(&orders, 11).await.unwrap();
    assert_eq!(world.offsets().await, [11, 12]);
    world.publish(1).await;
    assert_eq!(world.offsets().await, [13], "it goes on as before");
}

/// The same partition may be begun anew while the group is sharing out.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_stopped_begins_anew_only_between_changes_of_the_group() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let orders = world.orders.clone();
    world.consumer.seek(&orders, 0).await.unwrap();
    world.place.expire(&orders).await;
    assert_eq!(world.told().await, Consumed::Passed(vec![orders.clone()]));
    world.publish(2).await;
    let subscription = Subscription {
        group: Group::new(format!("{}.group", orders.topic)).unwrap(),
        topics: vec![orders.topic.clone()],
        member: "two".to_owned(),
        session: Duration::from_secs(6),
        batch_max: 100,
    };
    // It joins and gets nothing; the first hears of it at some time while it seeks.
    let mut two = world.kafka.join(subscription).await.unwrap();
    for offset in [10, 11, 10, 11, 10] {
        world.consumer.seek(&orders, offset).await.unwrap();
        drop(timeout(Duration::from_millis(300), two.next()).await);
    }
    assert_eq!(world.offsets().await, [10, 11]);
    two.leave().await.unwrap();
}

/// The log ends below the place: it can't be known what was finished, so nothing is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_stops_who_stood_beyond_its_end() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let orders = world.orders.clone();
    world.consumer.seek(&orders, 0).await.unwrap();
    assert_eq!(world.offsets().await.len(), 10);
    let admin = world.place.admin();
    let names = [orders.topic.as_str()];
    let deleted = admin.delete_topics(&names, &AdminOptions::new()).await;
    deleted.unwrap()[0].as_ref().unwrap();
    let spec = TopicSpec::new(orders.topic.clone(), 1);
    let kafka = world.place.connect().await;
    eventually("the topic is made anew", async || {
        kafka.ensure_topic(&spec).await.ok()?;
        let marks = kafka.watermarks(&orders).await.ok()?;
        (marks.end == 0).then_some(())
    })
    .await;
    world.publish(3).await;

    // Whether it was told that it lost the partition with the topic, or stayed: what it stood at is gone.
    loop {
        match world.told().await {
            Consumed::Revoked(_) | Consumed::Lost(_) => {}
            Consumed::Assigned(partitions) => {
                assert_eq!(partitions, std::slice::from_ref(&orders));
                let error = world.consumer.seek(&orders, 10).await.unwrap_err();
                assert!(error.is_fatal(), "{error:?}");
                break;
            }
            Consumed::Passed(partitions) => {
                assert_eq!(partitions, std::slice::from_ref(&orders));
                break;
            }
            Consumed::Messages(messages) => panic!("something was skipped: {messages:?}"),
        }
    }
    world.hears_nothing().await;
}
