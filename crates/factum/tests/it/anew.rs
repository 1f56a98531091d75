//! Topics that were made anew: a group reads nothing of what it would take for what it has finished.

use std::sync::atomic::Ordering;

use factum::{Group, Headers, InboxId, Key, Outgoing, Running, Status, Store as _, Topic};
use factum_testkit::{MemoryStore, MemoryTopicsDisk};

use crate::{
    bank::status,
    world::{World, amounts, deposit, follow_time, until},
};

/// A foreign service publishes deposits to the first partition, in this order.
async fn publish(world: &World, running: &Running, deposits: &[(&str, u64)]) {
    let env = world.env.env();
    let mut producer = running.broker().producer().await.unwrap();
    let message = |(account, amount): &(&str, u64)| {
        Outgoing {
        topic: Topic::of("accounts"),
        partition: 0,
        key: Some(Key::from(*account)),
        headers: Headers::new(),
        value: Some(
            format!(
                r#"{{"event_type":"Deposited","event_id":"{}","timestamp":"{}","aggregate_id":"{account}","data":{{"amount":{amount}}}}}"#,
                env.uuid(),
                env.now(),
            )
            .into(),
        ),
        timestamp: env.now(),
    }
    };
    let messages = (0..).zip(deposits.iter().map(message));
    producer.send(messages.collect()).await.unwrap();
    let mut reported = 0;
    while reported < deposits.len() {
        for report in producer.reports().await.unwrap() {
            report.result.unwrap();
            reported += 1;
        }
    }
}

fn inbox() -> InboxId {
    InboxId {
        group: Group::of("receipt-service"),
        topic: Topic::of("accounts"),
        partition: 0,
    }
}

async fn until_failed(running: &Running, why: &str) {
    until(why, async || {
        let health = running.service("receipts").unwrap().health();
        let part = status(health, "receipts/group/receipt-service/accounts/0");
        matches!(part, Some(Status::Failed(reason)) if reason.contains(why) && reason.contains("made anew"))
    })
    .await;
}

/// It went wrong: of the new topic, messages were left out whose offsets were finished in the old one.
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_and_has_grown_is_not_taken_for_what_it_was() {
    let mut world = World::new(81);
    let _time = follow_time(&world.env);
    world.hanging.hangs.store(true, Ordering::SeqCst);
    let running = world.start().await;
    publish(&world, &running, &[("a", 13), ("b", 1)]).await;
    until("one is finished before the first", async || {
        amounts(&running, "b").await == [1]
    })
    .await;
    running.stop().await;
    drop(running);
    let store = MemoryStore::open(world.receipts.clone());
    let row = store.inbox(&inbox()).await.unwrap().unwrap();
    assert_eq!((row.low, row.is_done(1)), (0, true));

    world.hanging.hangs.store(false, Ordering::SeqCst);
    world.topics = MemoryTopicsDisk::new();
    let running = world.start().await;
    until_failed(&running, "the partition ends at 0").await;
    publish(&world, &running, &[("c", 2), ("c", 3), ("c", 4)]).await;
    until_failed(&running, "has one of").await;

    // The others flow, before a restart and after it.
    let elsewhere = (0..).map(|number| format!("account-{number}"));
    let mut elsewhere = elsewhere.filter(|name| Key::from(name.as_str()).partition(3) != 0);
    let elsewhere = elsewhere.next().unwrap();
    deposit(&running, &elsewhere, 7).await;
    until("the others flow", async || {
        amounts(&running, &elsewhere).await == [7]
    })
    .await;
    running.stop().await;
    drop(running);
    let running = world.start().await;
    until_failed(&running, "has one of").await;
    deposit(&running, &elsewhere, 8).await;
    until("the others flow", async || {
        amounts(&running, &elsewhere).await == [7, 8]
    })
    .await;
    assert_eq!(amounts(&running, "c").await, [0_u64; 0]);
    let operator = running.service("receipts").unwrap().operator();
    let refused = operator
        .go_on(&inbox(), 3, &factum::By::new("local", "a try"))
        .await;
    assert!(refused.unwrap_err().is_poison());
    running.stop().await;
}
