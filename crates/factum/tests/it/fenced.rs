//! Owners that were fenced: they claim again what the group still says is theirs, and nothing else.

use std::{sync::Arc, time::Duration};

use factum::{Broker, Error, OwnerEpoch, Running, Store as _};
use factum_testkit::{
    MemoryStore,
    faults::{Call, Faults, FaultyBroker},
};

use crate::world::{World, amounts, deposit, follow_time, until};

/// How often each inbox of the receipts was claimed so far.
async fn claims(world: &World) -> Vec<OwnerEpoch> {
    let store = MemoryStore::open(world.receipts.clone());
    let inboxes = store.inboxes().await.unwrap().into_iter();
    inboxes.map(|(_, row)| row.fence.owner).collect()
}

async fn until_amounts(running: &Running, expected: &[u64]) {
    until("all receipts, each once", async || {
        amounts(running, "a").await == expected
    })
    .await;
}

/// It went wrong: it claimed again before it had heard that the partition was another's, and fenced that one.
#[tokio::test(start_paused = true)]
async fn who_was_fenced_by_the_next_owner_does_not_fence_it_in_turn() {
    let world = World::new(71);
    let (_time, broker) = (follow_time(&world.env), world.broker());
    let deaf = Faults::new();
    let to_first: Arc<dyn Broker> = Arc::new(FaultyBroker::new("one", broker.clone(), &deaf));
    let first = world.start_as("one", &to_first).await;
    deposit(&first, "a", 1).await;
    until_amounts(&first, &[1]).await;

    let commit = world.plan.at(Call::Commit).waits();
    deposit(&first, "a", 2).await;
    until("it is about to commit", async || {
        world.plan.unmet().is_empty()
    })
    .await;
    // Nothing of the group's comes through, nor any sign of life the other way.
    let hears = deaf.at(Call::Next).times(u64::MAX).waits();
    let lost = Error::transient("the broker can't be reached");
    deaf.at(Call::CommitOffsets).times(u64::MAX).fails(lost);
    until("it is deaf", async || deaf.unmet().is_empty()).await;
    let second = world.start_as("two", &broker).await;
    // Longer than its session.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let claimed = vec![OwnerEpoch(2); 3];
    until("the second owns all", async || {
        claims(&world).await == claimed
    })
    .await;
    until_amounts(&second, &[1, 2]).await;

    commit.open();

    tokio::time::sleep(Duration::from_mins(1)).await;
    deposit(&second, "a", 3).await;
    until_amounts(&second, &[1, 2, 3]).await;
    assert_eq!(claims(&world).await, claimed, "nobody was fenced in turn");

    // When it hears that it has lost all, it comes back for its share.
    deaf.clear();
    hears.open();
    until("some are the first's again", async || {
        claims(&world).await != claimed
    })
    .await;
    deposit(&first, "a", 4).await;
    until_amounts(&first, &[1, 2, 3, 4]).await;
    first.stop().await;
    second.stop().await;
}
