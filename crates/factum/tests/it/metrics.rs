//! What those who scrape are told of what is recorded.

use factum::{CommandError, Running};

use crate::world::{Account, AccountCommand, World, amounts, deposit, until};

/// The value of the series with this name and these labels.
async fn value(running: &Running, name: &str, service: &str, label: &str) -> Option<u64> {
    let text = running.metrics().await;
    let service = format!("service=\"{service}\"");
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| line.contains(&service) && line.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn events_that_are_recorded_are_counted_by_service_and_type_and_rejections_are_not() {
    let world = World::new(70);
    let running = world.start().await;
    for amount in [1, 2, 3] {
        deposit(&running, "a", amount).await;
    }
    let commands = running.service("accounts").unwrap().commands();
    let id = "a".to_string();
    let execute = |command| commands.execute::<Account>(&id, command);
    execute(AccountCommand::Close).await.unwrap();
    let refused = execute(AccountCommand::Deposit(4)).await.unwrap_err();
    assert!(matches!(refused, CommandError::Rejected(_)), "{refused}");
    until("the receipts", async || {
        amounts(&running, "a").await == [1, 2, 3]
    })
    .await;

    let count = async |service, event_type: &str| {
        let label = format!("event_type=\"{event_type}\"");
        value(
            &running,
            "factum_store_events_appended_total{",
            service,
            &label,
        )
        .await
    };
    assert_eq!(count("accounts", "Deposited").await, Some(3));
    assert_eq!(count("accounts", "Closed").await, Some(1));
    assert_eq!(count("receipts", "ReceiptWritten").await, Some(3));
    assert_eq!(count("receipts", "Deposited").await, None);
    running.stop().await;
}

/// The value of the series with this name of the group.
async fn of_group(running: &Running, name: &str) -> Option<u64> {
    let text = running.metrics().await;
    let series = format!("{name}{{group=\"receipt-service\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn partitions_are_counted_by_the_process_that_owns_them() {
    let world = World::new(71);
    let broker = world.broker();
    let partitions = async |running: &Running| {
        let owned = of_group(running, "factum_consumer_partitions").await;
        owned.expect("a group has the series from the beginning")
    };
    let one = world.start_as("one", &broker).await;
    until("all are owned", async || partitions(&one).await == 3).await;
    let other = world.start_as("other", &broker).await;
    until("they are shared", async || {
        (1..3).contains(&partitions(&other).await)
            && partitions(&one).await + partitions(&other).await == 3
    })
    .await;
    one.stop().await;
    until("all are owned again", async || {
        partitions(&other).await == 3
    })
    .await;
    let service = other.service("receipts").expect("it runs");
    service.stop().await;
    assert_eq!(partitions(&other).await, 0);
}
