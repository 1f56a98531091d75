//! Several processes over one store: one of them publishes, and whatever happens to it, another soon does.

use std::time::Duration;

use factum::{OwnerEpoch, Running, Store as _};
use factum_testkit::MemoryStore;

use crate::world::{World, amounts, deposit, follow_time, until};

/// How often the relay was claimed so far.
async fn claims(world: &World) -> OwnerEpoch {
    let store = MemoryStore::open(world.accounts.clone());
    store.relay().await.unwrap().fence.owner
}

async fn until_amounts(running: &Running, account: &str, expected: &[u64]) {
    until("all receipts, each once", async || {
        amounts(running, account).await == expected
    })
    .await;
}

/// Waits for so long that an owner who could be taken for dead would be.
async fn a_minute() {
    tokio::time::sleep(Duration::from_mins(1)).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_one_publishes_and_the_other_takes_over_within_ten_seconds_of_its_death() {
    let world = World::new(51);
    let (_time, broker) = (follow_time(&world.env), world.broker());
    let first = world.start_as("one", &broker).await;
    deposit(&first, "a", 1).await;
    until_amounts(&first, "a", &[1]).await;
    let second = world.start_as("two", &broker).await;
    for amount in 2..=5 {
        deposit(&second, "a", amount).await;
        a_minute().await;
    }
    until_amounts(&second, "a", &[1, 2, 3, 4, 5]).await;
    assert_eq!(claims(&world).await, OwnerEpoch(1), "nobody fought for it");

    drop(first);
    let died = world.env.env().now();
    deposit(&second, "a", 6).await;
    until("a take-over", async || {
        claims(&world).await == OwnerEpoch(2)
    })
    .await;
    let took = world.env.env().now().since(died);
    assert!(took < Duration::from_secs(10), "{took:?}");
    until("all receipts", async || {
        amounts(&second, "a").await.len() == 6
    })
    .await;

    // A third finds it taken, and gets it at once when the second leaves in good order.
    let third = world.start_as("three", &broker).await;
    a_minute().await;
    assert_eq!(claims(&world).await, OwnerEpoch(2));
    let left = world.env.env().now();
    second.stop().await;
    until("a take-over", async || {
        claims(&world).await == OwnerEpoch(3)
    })
    .await;
    let took = world.env.env().now().since(left);
    assert!(took < Duration::from_secs(2), "{took:?}");
    deposit(&third, "a", 7).await;
    until_amounts(&third, "a", &[1, 2, 3, 4, 5, 6, 7]).await;
    third.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_paused_wakes_up_fenced_and_stands_by() {
    let world = World::new(52);
    let (_time, broker) = (follow_time(&world.env), world.broker());
    let first = world.start_as("one", &broker).await;
    deposit(&first, "a", 1).await;
    until_amounts(&first, "a", &[1]).await;
    let second = world.start_as("two", &broker).await;

    let asleep = world.faults.pause("one");
    deposit(&second, "a", 2).await;
    until("a take-over", async || {
        claims(&world).await == OwnerEpoch(2)
    })
    .await;
    until("a receipt", async || amounts(&second, "a").await == [1, 2]).await;
    deposit(&second, "a", 3).await;
    asleep.open();
    for amount in 4..=6 {
        deposit(&first, "a", amount).await;
        a_minute().await;
    }
    until_amounts(&second, "a", &[1, 2, 3, 4, 5, 6]).await;
    assert_eq!(claims(&world).await, OwnerEpoch(2), "it waits in its turn");

    // It is there when it is needed.
    drop(second);
    deposit(&first, "a", 7).await;
    until("a take-over", async || {
        claims(&world).await == OwnerEpoch(3)
    })
    .await;
    until("a receipt", async || amounts(&first, "a").await.len() == 7).await;
    first.stop().await;
}
