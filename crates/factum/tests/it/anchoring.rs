//! A group that starts in the middle: it begins where the chains stood then, whatever was published before, and no later
//! claim begins anew.

use factum::{
    At, By, Group, Headers, InboxId, InboxRow, Key, Link, Message, Outgoing, Running, Start,
    StoreId, Topic, TopicPartition, chain::SOURCES_MAX,
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

/// The inbox that they are read from.
fn inbox() -> InboxId {
    let TopicPartition { topic, partition } = partition();
    InboxId {
        group: Group::of("receipt-service"),
        topic,
        partition,
    }
}

async fn row(running: &Running) -> Option<InboxRow> {
    let receipts = running.service("receipts").unwrap().store();
    receipts.inbox(&inbox()).await.unwrap()
}

/// Waits until there is an owner with another fence than `row` has.
async fn until_claimed(running: &Running, row: &InboxRow) {
    until("the inbox is claimed", async || {
        let now = self::row(running).await.unwrap();
        now.fence.owner > row.fence.owner && !now.clean
    })
    .await;
    let claimed = self::row(running).await.unwrap();
    // Whatever an owner writes before it begins, it has written when it has taken what is new.
    deposit(running, "a", 8).await;
    until("it has begun", async || {
        self::row(running).await.unwrap().low > claimed.low
    })
    .await;
}

/// It went wrong: each claim took over the places of sources that the row had none of, also of such as an operator had
/// retired, ...
#[tokio::test(start_paused = true)]
async fn a_source_that_is_retired_stays_so_when_a_group_that_started_in_the_middle_is_started_anew()
{
    let (world, running, message) = before_the_group(62).await;
    let sources = [(); 3].map(|()| StoreId(world.env.env().uuid()));
    send(&running, sources.map(|source| nth(&message, source, 1))).await;
    running.stop().await;
    let running = world.start().await;
    until("a group that knows them", async || {
        let row = row(&running).await;
        row.is_some_and(|row| sources.iter().all(|one| row.lasts.get(*one) > At::ZERO))
    })
    .await;

    let operator = running.service("receipts").unwrap().operator();
    let by = By::new("local", "it was replaced");
    let retired = operator.retire_source(&inbox(), sources[1], &by).await;
    assert_eq!(retired.unwrap(), At::new(1, 1));
    let before = row(&running).await.unwrap();
    running.stop().await;
    drop(running);
    let running = world.start().await;
    until_claimed(&running, &before).await;

    let lasts = row(&running).await.unwrap().lasts;
    let known = sources.map(|source| lasts.get(source) > At::ZERO);
    assert_eq!(known, [true, false, true]);
    running.stop().await;
}

/// ... and of those that were too many: what was left out of them was passed over for good, and nobody was told.
#[tokio::test(start_paused = true)]
async fn what_a_source_too_many_has_published_is_not_passed_over_by_the_next_claim() {
    let (world, running, message) = before_the_group(63).await;
    running.stop().await;
    let running = world.start().await;
    until("a group", async || row(&running).await.is_some()).await;
    let sources: Vec<_> = (0..SOURCES_MAX - 1)
        .map(|_| StoreId(world.env.env().uuid()))
        .collect();
    send(&running, sources.iter().map(|one| nth(&message, *one, 1))).await;
    let one_too_many = StoreId(world.env.env().uuid());
    send(
        &running,
        (1..=5).map(|place| nth(&message, one_too_many, place)),
    )
    .await;
    until("all are looked at", async || {
        let row = row(&running).await.unwrap();
        row.lasts.iter().count() == SOURCES_MAX && row.low == SOURCES_MAX as u64 + 5
    })
    .await;
    let before = row(&running).await.unwrap();
    running.stop().await;
    drop(running);

    let running = world.start().await;
    until_claimed(&running, &before).await;

    let lasts = row(&running).await.unwrap().lasts;
    assert_eq!(lasts.get(one_too_many), At::ZERO);
    assert_eq!(lasts.iter().count(), SOURCES_MAX);
    running.stop().await;
}
