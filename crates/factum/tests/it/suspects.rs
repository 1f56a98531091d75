//! Messages that a process dies of, or seems to: what is counted as a death, and what is not.

use std::{sync::atomic::Ordering, time::Duration};

use factum::{
    Accepted, At, By, FailureClass, Group, InboxId, InboxRow, Key, Outgoing, ParkedFilter,
    ParkedState, RetryPolicy, Running, StoreId, Topic, TopicPartition, Trying,
};

use crate::world::{World, amounts, deposit, follow_time, until};

/// More than the half of what an owner looks at before it commits the row alone.
const VOID: u64 = 600;

/// The partition of account `a`.
fn partition() -> TopicPartition {
    TopicPartition::new(Topic::of("accounts"), Key::from("a").partition(3))
}

fn inbox() -> InboxId {
    let TopicPartition { topic, partition } = partition();
    InboxId {
        group: Group::of("receipt-service"),
        topic,
        partition,
    }
}

async fn row(running: &Running) -> InboxRow {
    let receipts = running.service("receipts").unwrap().store();
    receipts.inbox(&inbox()).await.unwrap().unwrap()
}

/// How many duplicates the groups of this process have met.
async fn duplicates(running: &Running) -> u64 {
    let text = running.metrics().await;
    let mut lines = text.lines();
    let line = lines
        .find(|line| line.starts_with("factum_consumer_messages") && line.contains("duplicate"));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or(0)
}

/// Sends the first message of the partition again, `VOID` times: a duplicate each.
async fn flood(running: &Running) {
    let first = running.broker().read(&partition(), 0, 1).await.unwrap();
    let first = &first[0];
    let again = || Outgoing {
        topic: first.topic.clone(),
        partition: first.partition,
        key: first.key.clone(),
        headers: first.headers.clone(),
        value: first.value.clone(),
        timestamp: first.timestamp,
    };
    let mut producer = running.broker().producer().await.unwrap();
    let batch = (0..VOID).map(|number| (number, again())).collect();
    producer.send(batch).await.unwrap();
    until("they are looked at", async || {
        duplicates(running).await >= VOID
    })
    .await;
}

/// It went wrong: its offset is long finished for the inbox, and so each commit of the row alone took its mark away. It was
/// tried for the first time at each start, for ever.
#[tokio::test(start_paused = true)]
async fn a_parked_message_that_kills_is_counted_whatever_else_is_committed_while_it_is_tried() {
    let world = World {
        retry: RetryPolicy::exponential(Duration::from_secs(1)).without_jitter(),
        ..World::new(64)
    };
    let _time = follow_time(&world.env);
    let mut running = world.start().await;
    deposit(&running, "a", 1).await;
    until("a receipt", async || amounts(&running, "a").await == [1]).await;
    deposit(&running, "a", 13).await;
    let parked = async |running: &Running| {
        let store = running.service("receipts").unwrap().store();
        let rows = store.parked(&ParkedFilter::default(), 10).await.unwrap();
        rows.into_iter().next()
    };
    until("it is parked", async || parked(&running).await.is_some()).await;
    let offset = parked(&running).await.unwrap().id.offset;
    let hanging = world.hanging.clone();
    hanging.hangs.store(true, Ordering::SeqCst);
    hanging.until_more_than(0).await;
    for tries in 1..=3 {
        // It takes the process down.
        let begun = hanging.begun.load(Ordering::SeqCst);
        drop(running);
        running = world.start().await;
        hanging.until_more_than(begun).await;
        let mark = Some(Trying { offset, tries });
        assert_eq!(row(&running).await.trying, mark);

        flood(&running).await;
        assert_eq!(row(&running).await.trying, mark, "the owner commits");

        let accepted = Accepted {
            inbox: inbox(),
            source: StoreId(world.env.env().uuid()),
            from: At::new(1, 7),
        };
        let operator = running.service("receipts").unwrap().operator();
        let by = By::new("local", "a test");
        operator.accept_loss(&accepted, &by).await.unwrap();
        assert_eq!(row(&running).await.trying, mark, "an operator commits");
    }
    drop(running);
    running = world.start().await;
    until("it is a dead letter", async || {
        let row = parked(&running).await.unwrap();
        row.state == ParkedState::Dead
    })
    .await;
    let failure = parked(&running).await.unwrap().failure.unwrap();
    assert_eq!(failure.class, FailureClass::Crash, "{}", failure.message);
    running.stop().await;
}

/// It went wrong: the owner ended where it stood, as in a crash, and the next one counted the message among those
/// that the process may have died of.
#[tokio::test(start_paused = true)]
async fn a_stop_that_a_handler_is_too_slow_for_gives_back_and_is_no_death() {
    let world = World::new(65);
    let _time = follow_time(&world.env);
    let hanging = world.hanging.clone();
    hanging.hangs.store(true, Ordering::SeqCst);
    for stops in 0..5 {
        let running = world.start().await;
        if stops == 0 {
            deposit(&running, "a", 13).await;
        }
        hanging.until_more_than(stops).await;
        running.stop().await;
        let row = row(&running).await;
        assert!(row.clean, "after {stops} stops: {row:?}");
        assert_eq!(row.trying, None);
    }
    hanging.hangs.store(false, Ordering::SeqCst);
    let running = world.start().await;
    until("it is handled", async || {
        amounts(&running, "a").await == [13]
    })
    .await;
    running.stop().await;
}

/// It went wrong: a mark that a life had left was counted at the next death, though others had stopped in good order since.
#[tokio::test(start_paused = true)]
async fn a_stop_in_good_order_ends_what_is_suspected() {
    let world = World::new(66);
    let _time = follow_time(&world.env);
    let hanging = world.hanging.clone();
    hanging.hangs.store(true, Ordering::SeqCst);
    let running = world.start().await;
    deposit(&running, "a", 13).await;
    hanging.until_more_than(0).await;
    drop(running);
    for begun in [1, 3, 5] {
        // Behind a mark, and stopped; then without, and killed.
        let running = world.start().await;
        hanging.until_more_than(begun).await;
        assert_eq!(row(&running).await.trying.map(|mark| mark.tries), Some(1));
        running.stop().await;
        drop(running);
        let running = world.start().await;
        hanging.until_more_than(begun + 1).await;
        assert_eq!(row(&running).await.trying, None);
        drop(running);
    }
}
