//! Publishing, and how far it has come: what is refused after a restore, and what is shown of a part that stands.

use factum::{Broker as _, Headers, Outgoing, Running, Status, Topic};

use crate::world::{World, amounts, deposit, until};

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
