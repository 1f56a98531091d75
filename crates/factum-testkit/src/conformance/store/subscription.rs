//! Subscriptions: waiting for the head, reading on, and missing nothing.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use factum_core::{
    At, Commit, ExpectedVersion, LogFilter, Position, Retried, Signal, Store, TimerWrite, Version,
};
use futures_util::future::join_all;

use super::{
    StoreHarness,
    owner::Owner,
    world::{World, at, stream},
};
use ExpectedVersion::Exact;

/// How many writers race.
const WRITERS: usize = 8;
/// How many commits each makes.
const COMMITS: usize = 100;

/// Reads the log as it grows until `last`, and says which positions it saw, in order.
async fn subscribe(store: Arc<dyn Store>, last: u64, limit: usize) -> Vec<u64> {
    let (mut seen, mut after) = (Vec::new(), At::ZERO);
    while after.position.0 < last {
        let page = store
            .read_log(after, &LogFilter::default(), limit)
            .await
            .expect("the log reads");
        if page.next == after {
            let head = store
                .wait(Signal::Head, after.position.0)
                .await
                .expect("a wait ends");
            assert!(
                head > after.position.0,
                "a wait returns a value greater than what was seen"
            );
        }
        assert!(page.next <= page.head, "nothing is read beyond the head");
        seen.extend(page.records.iter().map(|record| record.at.position.0));
        after = page.next;
    }
    seen
}

/// A reader that has seen a position has seen everything before it, whatever is being written meanwhile.
pub async fn a_subscription_sees_every_position_once_while_writers_race(
    harness: &dyn StoreHarness,
) {
    let world = World::create(harness).await;
    let total = (0..WRITERS * COMMITS)
        .map(|number| 1 + number % 3)
        .sum::<usize>() as u64;
    let readers: Vec<_> = [1, 7, 1000]
        .map(|limit| tokio::spawn(subscribe(world.store.clone(), total, limit)))
        .into_iter()
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let world = world.handle();
            tokio::spawn(async move {
                for number in 0..COMMITS {
                    let count = 1 + (writer * COMMITS + number) % 3;
                    world.fill(&format!("order/{writer}"), count).await;
                    if number % 5 == 0 {
                        // Failures in between must leave no holes.
                        world
                            .refuse(world.appending("order/0", Exact(Version(u64::MAX / 2)), 1))
                            .await;
                    }
                }
            })
        })
        .collect();
    for writer in join_all(writers).await {
        writer.expect("a writer ends");
    }
    for reader in join_all(readers).await {
        assert_eq!(
            reader.expect("a reader ends"),
            (1..=total).collect::<Vec<_>>()
        );
    }
}

/// Writers of different streams don't disturb each other, and each stream is in the order of its writer.
pub async fn concurrent_appends_to_many_streams_keep_each_in_order(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let world = world.handle();
            tokio::spawn(async move {
                let name = format!("order/{writer}");
                for version in 0..COMMITS as u64 {
                    let committed = world
                        .apply(world.appending(&name, Exact(Version(version)), 1))
                        .await;
                    assert_eq!(committed.versions, [Version(version + 1)]);
                    // What is answered is there to be read, at its place.
                    let first = committed.first.expect("it has a record");
                    let after = At {
                        position: Position(first.0 - 1),
                        ..committed.head
                    };
                    let after = if first.0 == 1 { At::ZERO } else { after };
                    let page = world.store.read_log(after, &LogFilter::default(), 1).await;
                    let page = page.expect("the log reads");
                    assert_eq!(page.records[0].draft.stream, Some(stream(&name)));
                    assert_eq!(page.records[0].version, Version(version + 1));
                }
            })
        })
        .collect();
    for writer in join_all(writers).await {
        writer.expect("a writer ends");
    }
    let mut versions = BTreeMap::new();
    for (index, record) in world.log().await.iter().enumerate() {
        assert_eq!(record.at.position.0, index as u64 + 1);
        let version = versions.entry(record.draft.stream.clone()).or_insert(0);
        *version += 1;
        assert_eq!(record.version.0, *version);
    }
    assert_eq!(
        versions.into_values().collect::<Vec<_>>(),
        [COMMITS as u64; WRITERS]
    );
}

/// Nobody sleeps through what happened before they came.
pub async fn a_wait_for_what_has_happened_returns_at_once(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 3).await;
    let wait = async |world: &World, signal, seen| {
        world.store.wait(signal, seen).await.expect("a wait ends")
    };
    assert_eq!(wait(&world, Signal::Head, 0).await, 3);
    assert_eq!(wait(&world, Signal::Head, 2).await, 3);
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    let timer = TimerWrite::Set {
        id: "t".into(),
        due: at(1),
        payload: Bytes::new(),
    };
    world
        .apply(Commit {
            timers: vec![timer],
            ..world.commit()
        })
        .await;
    assert!(wait(&world, Signal::Parking, 0).await > 0);
    assert!(wait(&world, Signal::Timers, 0).await > 0);
    let world = world.reopen(harness).await;
    assert_eq!(wait(&world, Signal::Head, 2).await, 3, "after a restart");
    assert!(
        wait(&world, Signal::Parking, 0).await > 0,
        "after a restart"
    );
    assert!(wait(&world, Signal::Timers, 0).await > 0, "after a restart");
}

/// One append wakes all that wait, and those who wait for a later one sleep on.
pub async fn everybody_who_waits_is_woken(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let waiting: Vec<_> = (0..50_u64)
        .map(|number| {
            let store = world.store.clone();
            tokio::spawn(async move { (number, store.wait(Signal::Head, number / 2).await) })
        })
        .collect();
    for _ in 0..25 {
        // Let those who wait get to it: however far they are, none may be missed.
        tokio::task::yield_now().await;
        world.fill("order/1", 1).await;
    }
    for woken in join_all(waiting).await {
        let (number, value) = woken.expect("a wait does not panic");
        assert!(value.expect("a wait ends") > number / 2);
    }
}

/// Waits until the value of `signal` is greater than what `change` found, and says what it is.
async fn signalled(world: &World, signal: Signal, seen: u64, what: &str, commit: Commit) -> u64 {
    let store = world.store.clone();
    let waiting = tokio::spawn(async move { store.wait(signal, seen).await });
    world.apply(commit).await;
    let value = waiting
        .await
        .expect("a wait does not panic")
        .expect("a wait ends");
    assert!(value > seen, "{what}: {value} is not greater than {seen}");
    value
}

/// Whoever runs retries is woken by whatever may have made one due.
pub async fn parking_is_signalled(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    let mut seen = world
        .store
        .wait(Signal::Parking, 0)
        .await
        .expect("a wait ends");
    let dead = Retried::Dead(super::owner::failure("declined"));
    for (what, commit) in [
        ("parked", owner.bury(&world, 1, "b")),
        (
            "redriven",
            owner.operate(&world, 1, 1, factum_core::OperatorAction::Redrive),
        ),
        ("settled", owner.retried(&world, 0, 1, Retried::Settled)),
    ] {
        seen = signalled(&world, Signal::Parking, seen, what, commit).await;
    }
    // Whether a failed retry counts is left open; one more that waits is one more that is parked.
    world.apply(owner.retried(&world, 1, 2, dead)).await;
    world.apply(owner.wait(&world, 2, "b")).await;
    seen = world
        .store
        .wait(Signal::Parking, seen)
        .await
        .expect("a wait ends");
    let discard = owner.operate(&world, 1, 3, factum_core::OperatorAction::Discard);
    signalled(
        &world,
        Signal::Parking,
        seen,
        "discarded, and the next released",
        discard,
    )
    .await;
    assert!(owner.one(&world, 2).await.due.is_some());
}

/// Whoever fires timers is woken by each that is set or cancelled.
pub async fn timers_are_signalled(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let set = |due| TimerWrite::Set {
        id: "t".into(),
        due: at(due),
        payload: Bytes::new(),
    };
    let commit = |write| Commit {
        timers: vec![write],
        ..world.commit()
    };
    world.apply(commit(set(60))).await;
    let mut seen = world
        .store
        .wait(Signal::Timers, 0)
        .await
        .expect("a wait ends");
    for (what, write) in [
        ("set again", set(30)),
        ("cancelled", TimerWrite::Cancel { id: "t".into() }),
        ("set", set(1)),
    ] {
        seen = signalled(&world, Signal::Timers, seen, what, commit(write)).await;
    }
}
