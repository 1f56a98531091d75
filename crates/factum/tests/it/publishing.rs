//! Publishing, and how far it has come: what is refused after a restore, and what is shown of a part that stands.

use std::{sync::Arc, time::Duration};

use factum::{
    At, Broker, Error, Headers, Link, Message, Outgoing, Position, Running, Status, Store as _,
    StoreId, Topic, TopicPartition, TopicSpec,
};
use factum_testkit::{
    MemoryStore,
    faults::{Call, Faults, FaultyBroker},
};

use crate::world::{World, amounts, deposit, follow_time, until};

/// What a foreign service publishes to the partitions of `accounts`: so much to each.
async fn foreign(world: &World, messages: u64) {
    let env = world.env.env();
    let broker = world.topics.open(env.clone());
    let mut producer = broker.producer().await.unwrap();
    for partition in 0..3 {
        let message = |sequence| {
            let message = Outgoing {
                topic: Topic::of("accounts"),
                partition,
                key: None,
                headers: Headers::new(),
                value: Some("{}".into()),
                timestamp: env.now(),
            };
            (sequence, message)
        };
        let mut sent = 0;
        while sent < messages {
            let batch = (messages - sent).min(1_000);
            producer
                .send((0..batch).map(message).collect())
                .await
                .unwrap();
            let mut reported = 0;
            while reported < batch {
                let reports = producer.reports().await.unwrap();
                reported += u64::try_from(reports.len()).unwrap();
            }
            sent += batch;
        }
    }
}

fn relay(running: &Running) -> Option<Status> {
    let parts = running.service("accounts").unwrap().health().parts();
    parts
        .get("accounts/relay")
        .map(|(status, _)| status.clone())
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_topics_know_more_than_its_log_publishes_nothing_whatever_came_behind() {
    let mut world = World::new(41);
    let running = world.start().await;
    deposit(&running, "a", 1).await;
    until("a receipt", async || amounts(&running, "a").await == [1]).await;
    let before = world.accounts.backup();
    deposit(&running, "a", 2).await;
    until("another receipt", async || {
        amounts(&running, "a").await == [1, 2]
    })
    .await;
    running.stop().await;
    drop(running);
    // More than one look takes, in every partition.
    foreign(&world, 1_200).await;

    // Put back by hand, without a new epoch.
    world.accounts = before;
    let running = world.start().await;
    until("a refusal", async || {
        matches!(relay(&running), Some(Status::Failed(reason)) if reason.contains("new epoch"))
    })
    .await;
    running.stop().await;
}

/// It went wrong: of large messages only the oldest were looked at, as many as a broker gives at a time, and all newer ones
/// were taken for none.
#[tokio::test(start_paused = true)]
async fn a_relay_whose_topics_know_more_is_refused_however_large_the_messages_are() {
    const OTHERS: u64 = 50;
    let world = World::new(44);
    let env = world.env.env();
    let broker = world.broker();
    broker
        .ensure_topic(&TopicSpec::new(Topic::of("accounts"), 3))
        .await
        .unwrap();
    let accounts = MemoryStore::open(world.accounts.clone()).identity().id;
    let mut producer = broker.producer().await.unwrap();
    for place in 1..=OTHERS + 10 {
        let link = Link {
            source: if place > OTHERS {
                accounts
            } else {
                StoreId(env.uuid())
            },
            at: At::new(1, place),
            previous: At::ZERO,
        };
        let message = Outgoing {
            topic: Topic::of("accounts"),
            partition: 0,
            key: None,
            headers: link.to_headers().into_iter().collect(),
            value: Some("x".repeat(400_000).into()),
            timestamp: env.now(),
        };
        producer.send(vec![(0, message)]).await.unwrap();
        assert_eq!(producer.reports().await.unwrap().len(), 1);
    }
    let running = world.start_as("one", &broker).await;
    until("a refusal", async || {
        matches!(relay(&running), Some(Status::Failed(reason)) if reason.contains("new epoch"))
    })
    .await;
    running.stop().await;
}

/// The head was read before the topics were looked at: what another process published meanwhile was taken for lost, and
/// the relay stood for good.
#[tokio::test(start_paused = true)]
async fn a_relay_that_looks_at_the_topics_while_another_publishes_is_not_refused() {
    let world = World::new(43);
    let broker = world.broker();
    let one = world.start_as("one", &broker).await;
    let faults = Faults::new();
    let looks = faults.at(Call::Read).about("watermarks").times(u64::MAX);
    let gate = looks.waits();
    let slow: Arc<dyn Broker> = Arc::new(FaultyBroker::new("slow", broker, &faults));
    let other = world.start_as("other", &slow).await;
    until("a look", async || faults.unmet().is_empty()).await;
    deposit(&one, "a", 1).await;
    until("a receipt", async || amounts(&one, "a").await == [1]).await;

    gate.open();
    one.stop().await;
    deposit(&other, "a", 2).await;
    until("another receipt", async || {
        amounts(&other, "a").await == [1, 2]
    })
    .await;
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_stopped_service_is_behind_is_shown_all_the_same() {
    let world = World::new(42);
    let running = world.start().await;
    let (accounts, receipts) = (
        running.service("accounts").unwrap(),
        running.service("receipts").unwrap(),
    );
    deposit(&running, "a", 1).await;
    until("a receipt", async || amounts(&running, "a").await == [1]).await;

    receipts.stop().await;
    for amount in 2..=5 {
        deposit(&running, "a", amount).await;
    }
    let lag = async || -> u64 {
        let text = running.metrics().await;
        let lags = text
            .lines()
            .filter(|line| line.starts_with("factum_consumer_lag{"));
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        lags.map(value).sum()
    };
    until("a lag of four", async || lag().await == 4).await;

    accounts.stop().await;
    deposit(&running, "a", 6).await;
    let text = running.metrics().await;
    let pending = r#"factum_relay_pending{service="accounts"} 1"#;
    assert!(text.lines().any(|line| line == pending), "{text}");

    receipts.start().await;
    accounts.start().await;
    until("no lag", async || {
        lag().await == 0 && amounts(&running, "a").await.len() == 6
    })
    .await;
    running.stop().await;
}

/// What is in the topic of the accounts, partition by partition: the place in the log that each message names.
async fn published(running: &Running) -> Vec<Vec<At>> {
    let mut published = Vec::new();
    for partition in 0..3 {
        let partition = TopicPartition::new(Topic::of("accounts"), partition);
        let messages = running.broker().read(&partition, 0, 1_000).await.unwrap();
        let at = |message: &Message| message.headers.text("factum-at").unwrap().parse().unwrap();
        published.push(messages.iter().map(at).collect());
    }
    published
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_crash_and_not_in_the_checkpoint_is_sent_again_and_taken_once() {
    let world = World::new(43);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    deposit(&running, "a", 1).await;
    until("a receipt", async || amounts(&running, "a").await == [1]).await;
    let stored = async |running: &Running| {
        let store = running.service("accounts").unwrap().store();
        store.relay().await.unwrap().checkpoint
    };
    until("a checkpoint", async || {
        stored(&running).await.position == Position(1)
    })
    .await;

    // Sent, and taken by the group; then the process dies before it has written how far it has come.
    let checkpoints = world.faults.at(Call::Commit).about("relay").times(1_000);
    checkpoints.fails(Error::transient("the disk is busy"));
    for amount in 2..=9 {
        deposit(&running, "a", amount).await;
        deposit(&running, "b", amount).await;
    }
    until("all receipts", async || {
        amounts(&running, "a").await.len() == 9 && amounts(&running, "b").await.len() == 8
    })
    .await;
    assert_eq!(stored(&running).await.position, Position(1));
    let before = published(&running).await;
    drop(running);
    world.faults.clear();

    let running = world.start().await;
    until("all is published", async || {
        stored(&running).await.position == Position(17)
    })
    .await;
    deposit(&running, "a", 10).await;
    deposit(&running, "b", 10).await;
    until("the last receipts", async || {
        amounts(&running, "a").await == (1..=10).collect::<Vec<_>>()
            && amounts(&running, "b").await == (2..=10).collect::<Vec<_>>()
    })
    .await;
    // What comes again names the same places, which is how it is told apart.
    for (before, now) in before.iter().zip(published(&running).await) {
        assert!(now.starts_with(before));
        let again: Vec<_> = before
            .iter()
            .filter(|at| at.position > Position(1))
            .collect();
        let behind = &now[before.len()..];
        assert!(
            behind.iter().take(again.len()).eq(again),
            "{before:?} {now:?}"
        );
    }
    running.stop().await;
}

/// It went wrong: messages had the time of their events, so that a topic dropped what was published late before anybody
/// had read it, and what a rewind published again as well.
#[tokio::test(start_paused = true)]
async fn a_topic_keeps_what_is_published_late_as_long_as_anything_else() {
    let hour = Duration::from_hours(1);
    let world = World {
        retention: Some(hour),
        ..World::new(44)
    };
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let (accounts, receipts) = (
        running.service("accounts").unwrap(),
        running.service("receipts").unwrap(),
    );
    accounts.stop().await;
    receipts.stop().await;
    for amount in 1..=3 {
        deposit(&running, "a", amount).await;
    }
    let by = factum::By::new("local", "the broker lost its disk");
    for _ in 0..2 {
        world.env.advance(2 * hour);
        let now = world.env.env().now();
        accounts.start().await;
        until("all is published", async || {
            accounts.store().relay().await.unwrap().checkpoint.position == Position(3)
        })
        .await;
        running.broker().sweep(world.env.env().now()).await.unwrap();
        let mut kept = Vec::new();
        for partition in 0..3 {
            let partition = TopicPartition::new(Topic::of("accounts"), partition);
            kept.extend(running.broker().read(&partition, 0, 10).await.unwrap());
        }
        assert_eq!(kept.len(), 3, "what was published just now is kept");
        assert!(kept.iter().all(|message| message.timestamp >= now));
        receipts.start().await;
        until("all is taken", async || {
            amounts(&running, "a").await == [1, 2, 3]
        })
        .await;
        accounts.stop().await;
        accounts
            .operator()
            .rewind_relay(Position(0), &by)
            .await
            .unwrap();
    }
    assert_eq!(amounts(&running, "a").await, [1, 2, 3]);
    running.stop().await;
}
