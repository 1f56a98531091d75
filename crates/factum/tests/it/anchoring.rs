//! A group that starts in the middle: it begins where the chains stood then, whatever was published before.

use factum::{
    At, Headers, Key, Link, Message, Outgoing, Running, Start, StoreId, Topic, TopicPartition,
};

use crate::world::{World, amounts, deposit, follow_time, until};

/// The partition of account `a`.
fn partition() -> TopicPartition {
    TopicPartition::new(Topic::of("accounts"), Key::from("a").partition(3))
}

/// A world in which a deposit of 7 was published, and the receipts start in the middle, later. With that message.
async fn before_the_group(seed: u64) -> (World, Running, Message) {
    let mut world = World::new(seed);
    world.receipts_start = None;
    // Runs on as long as the test does.
    drop(follow_time(&world.env));
    let running = world.start().await;
    deposit(&running, "a", 7).await;
    let read = async || running.broker().read(&partition(), 0, 1).await.unwrap();
    until("it is published", async || read().await.len() == 1).await;
    let message = read().await.remove(0);
    world.receipts_start = Some(Start::Anchor);
    (world, running, message)
}

/// The `nth` message of a source of our own, in place of `like`.
fn nth(like: &Message, source: StoreId, nth: u64) -> Outgoing {
    let place = |position| match position {
        0 => At::ZERO,
        position => At::new(1, position),
    };
    let link = Link {
        source,
        at: place(nth),
        previous: place(nth - 1),
    };
    let mut headers: Headers = link.to_headers().into_iter().collect();
    for (name, value) in like.headers.iter() {
        if headers.get(name).is_none() {
            headers.push(name, value.clone());
        }
    }
    Outgoing {
        topic: like.topic.clone(),
        partition: like.partition,
        key: like.key.clone(),
        headers,
        value: like.value.clone(),
        timestamp: like.timestamp,
    }
}

async fn send(running: &Running, messages: impl IntoIterator<Item = Outgoing>) {
    let mut producer = running.broker().producer().await.unwrap();
    for message in messages {
        producer.send(vec![(0, message)]).await.unwrap();
        assert_eq!(producer.reports().await.unwrap().len(), 1);
    }
}

/// It went wrong: a broker gives so many bytes at a time, the oldest first, so that the chain was taken to stand where
/// they ended, and all that came behind the start missed what lay between, for ever.
#[tokio::test(start_paused = true)]
async fn a_group_that_starts_behind_large_messages_begins_where_the_chain_stood() {
    const LARGE: u64 = 60;
    let (world, running, message) = before_the_group(61).await;
    let source = StoreId(world.env.env().uuid());
    let large = (1..=LARGE).map(|place| Outgoing {
        value: Some("x".repeat(400_000).into()),
        ..nth(&message, source, place)
    });
    send(&running, large).await;
    running.stop().await;

    let running = world.start().await;
    let receipts = running.service("receipts").unwrap().store();
    until("a group", async || {
        receipts.inboxes().await.unwrap().len() == 3
    })
    .await;
    send(&running, [nth(&message, source, LARGE + 1)]).await;
    until("it is taken", async || amounts(&running, "a").await == [7]).await;
    running.stop().await;
}
