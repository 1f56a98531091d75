//! What no store may take: it is refused as poison, before anything is written.

use bytes::Bytes;
use factum_core::{
    Commit, Destination, Draft, Error, ExpectedVersion, PinnedTopic, RECORD_BYTES_MAX, RecordKind,
    Topic, ViewWrite,
};

use super::{
    StoreHarness,
    world::{PARTITIONS, TOPIC, World, stream},
};

async fn assert_poison(world: &World, what: &str, commit: Commit) {
    let before = world.head().await;
    let error = world.refuse(commit).await;
    assert_eq!(
        error.class(),
        factum_core::ErrorClass::Poison,
        "{what}: {error}"
    );
    assert_eq!(world.head().await, before, "{what} left a trace");
}

fn appending(world: &World, draft: Draft) -> Commit {
    let mut commit = world.appending("order/1", ExpectedVersion::Any, 1);
    commit.appends[0].drafts = vec![draft];
    commit
}

/// The relay must be able to send whatever the log holds.
pub async fn records_for_unknown_topics_are_poison(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let to = |topic, partition| {
        Some(Destination {
            topic,
            partition,
            key: None,
        })
    };
    let (known, unknown) = (Topic::of(TOPIC), Topic::of("nowhere"));
    for (what, destination) in [
        ("an unknown topic", to(unknown.clone(), 0)),
        ("a partition out of range", to(known.clone(), PARTITIONS)),
    ] {
        let draft = Draft {
            destination: destination.clone(),
            ..world.event("order/1")
        };
        assert_poison(&world, what, appending(&world, draft)).await;
        let draft = Draft {
            destination,
            ..world.message()
        };
        assert_poison(
            &world,
            what,
            Commit {
                outbox: vec![draft],
                ..world.commit()
            },
        )
        .await;
    }
    world
        .store
        .pin_topic(&unknown, 1)
        .await
        .expect("a topic can be pinned");
    let draft = Draft {
        destination: to(unknown, 0),
        ..world.event("order/1")
    };
    world.apply(appending(&world, draft)).await;
    let draft = Draft {
        destination: to(known, PARTITIONS - 1),
        ..world.message()
    };
    world
        .apply(Commit {
            outbox: vec![draft],
            ..world.commit()
        })
        .await;
}

/// The bound is exact, and counts everything that the record holds.
pub async fn a_record_has_a_largest_size(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let rest = Draft {
        data: Bytes::new(),
        ..world.event("order/1")
    }
    .encoded_len();
    let largest = Bytes::from(vec![b' '; RECORD_BYTES_MAX - rest]);
    let draft = Draft {
        data: largest.clone(),
        ..world.event("order/1")
    };
    world.apply(appending(&world, draft.clone())).await;
    let draft = Draft {
        tags: vec!["x".into()],
        event_id: "e".into(),
        ..draft
    };
    assert_poison(&world, "one byte more", appending(&world, draft)).await;
    assert_eq!(world.log().await[0].draft.data, largest);
}

/// Records that don't fit where they were put.
pub async fn records_that_contradict_themselves_are_poison(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let event = || world.event("order/1");
    let message = Draft {
        kind: RecordKind::Message,
        ..event()
    };
    assert_poison(&world, "a message in a stream", appending(&world, message)).await;
    let other = Draft {
        stream: Some(stream("order/2")),
        ..event()
    };
    assert_poison(
        &world,
        "an event of another stream",
        appending(&world, other),
    )
    .await;
    let homeless = Draft {
        stream: None,
        ..event()
    };
    assert_poison(
        &world,
        "an event without a stream",
        appending(&world, homeless),
    )
    .await;
    let outbox = |draft| Commit {
        outbox: vec![draft],
        ..world.commit()
    };
    assert_poison(&world, "an event in the outbox", outbox(event())).await;
    let import = Draft {
        kind: RecordKind::Import,
        ..world.message()
    };
    assert_poison(&world, "an import without a stream", outbox(import)).await;
    let mut empty = world.appending("order/1", ExpectedVersion::Any, 1);
    empty.appends[0].drafts.clear();
    assert_poison(&world, "an append without events", empty).await;
}

/// Where the capabilities name no dialect, own SQL is refused and not left out in silence.
pub async fn own_sql_is_poison_where_none_is_spoken(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    if world.store.capabilities().sql.is_none() {
        let sql = ViewWrite::Sql {
            statement: "SELECT 1".into(),
            parameters: Vec::new(),
        };
        let commit = Commit {
            views: vec![sql],
            ..world.appending("order/1", ExpectedVersion::Any, 1)
        };
        assert_poison(&world, "own SQL", commit).await;
    }
}

/// A key's partition must never change, so the count must not.
pub async fn a_topic_keeps_its_partition_count(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let pin = async |world: &World, partitions| {
        world.store.pin_topic(&Topic::of(TOPIC), partitions).await
    };
    pin(&world, PARTITIONS)
        .await
        .expect("pinning a topic again is no change");
    let refused = |result: Result<(), Error>| result.expect_err("another count is refused");
    assert!(refused(pin(&world, PARTITIONS + 1).await).is_fatal());
    world
        .store
        .pin_topic(&Topic::of("alerts"), 1)
        .await
        .expect("a topic can be pinned");
    let world = world.reopen(harness).await;
    assert!(refused(pin(&world, 1).await).is_fatal());
    let mut pinned = world
        .store
        .pinned_topics()
        .await
        .expect("topics are listed");
    pinned.sort_by(|a, b| a.topic.cmp(&b.topic));
    let expected = [("alerts", 1), (TOPIC, PARTITIONS)];
    assert_eq!(
        pinned,
        expected.map(|(topic, partitions)| PinnedTopic {
            topic: Topic::of(topic),
            partitions
        })
    );
}
