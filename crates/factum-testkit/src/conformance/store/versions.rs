//! Streams' versions and keys, as writers meet them.

use std::collections::BTreeSet;

use factum_core::{
    Commit, CommitError, Condition, Destination, Draft, ErrorClass, ExpectedVersion, Key, Topic,
    Version,
};
use futures_util::future::join_all;

use super::{
    StoreHarness,
    world::{TOPIC, World, stream},
};
use ExpectedVersion::{Any, Exact, Exists, NoStream};

fn assert_conflict(error: &CommitError, name: &str, actual: u64) {
    assert_eq!(error.class(), ErrorClass::Conflict);
    match error {
        CommitError::Conflict {
            stream: known,
            actual: version,
            ..
        } => {
            assert_eq!((known, *version), (&stream(name), Version(actual)));
        }
        other => panic!("expected a conflict of `{name}`, not: {other}"),
    }
}

/// Each expectation is compared with the version that the stream has when the commit is applied.
pub async fn expected_versions_are_compared(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    for expected in [Exists, Exact(Version(1))] {
        assert_conflict(
            &world.refuse(world.appending("order/1", expected, 1)).await,
            "order/1",
            0,
        );
    }
    world
        .apply(world.appending("order/1", Exact(Version(0)), 1))
        .await;
    world.apply(world.appending("order/2", NoStream, 1)).await;
    let committed = world.apply(world.appending("order/1", Exists, 2)).await;
    assert_eq!(committed.versions, [Version(3)]);
    for expected in [
        NoStream,
        Exact(Version(0)),
        Exact(Version(2)),
        Exact(Version(4)),
    ] {
        assert_conflict(
            &world.refuse(world.appending("order/1", expected, 1)).await,
            "order/1",
            3,
        );
    }
    world
        .apply(world.appending("order/1", Exact(Version(3)), 1))
        .await;
    world.apply(world.appending("order/1", Any, 1)).await;
    assert_eq!(world.version("order/1").await, Version(5));
    assert_eq!(world.version("order/2").await, Version(1));
}

/// Within a commit, each append to a stream finds what those before it have brought.
pub async fn several_appends_to_one_stream_are_consecutive(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 1).await;
    let appends = vec![
        world.append("order/1", Exact(Version(1)), 2),
        world.append("order/2", NoStream, 1),
        world.append("order/1", Exact(Version(3)), 1),
        world.append("order/2", Exists, 1),
        world.append("order/1", Any, 1),
    ];
    let committed = world
        .apply(Commit {
            appends: appends.clone(),
            ..world.commit()
        })
        .await;
    assert_eq!(committed.versions, [3, 1, 4, 2, 5].map(Version));
    let written: Vec<_> = appends
        .iter()
        .flat_map(|append| append.drafts.clone())
        .collect();
    let log = world.log().await;
    assert_eq!(
        log[1..]
            .iter()
            .map(|record| (*record.draft).clone())
            .collect::<Vec<_>>(),
        written
    );
    assert_eq!(
        log[1..]
            .iter()
            .map(|record| record.version.0)
            .collect::<Vec<_>>(),
        [2, 3, 1, 4, 2, 5]
    );

    let appends = vec![
        world.append("order/1", Any, 1),
        world.append("order/1", Exact(Version(5)), 1),
    ];
    let error = world
        .refuse(Commit {
            appends,
            ..world.commit()
        })
        .await;
    assert_conflict(&error, "order/1", 6);
    assert_eq!(world.version("order/1").await, Version(5));
}

/// What was only read is compared as well.
pub async fn a_stream_condition_is_compared_without_an_append(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 2).await;
    let reading = |name: &str, expected| Commit {
        conditions: vec![Condition::Stream {
            stream: stream(name),
            expected,
        }],
        appends: vec![world.append("invoice/1", Any, 1)],
        ..world.commit()
    };
    for (name, expected, actual) in [
        ("order/1", NoStream, 2),
        ("order/1", Exact(Version(1)), 2),
        ("order/2", Exists, 0),
    ] {
        assert_conflict(&world.refuse(reading(name, expected)).await, name, actual);
    }
    assert_eq!(world.version("invoice/1").await, Version(0));
    for (name, expected) in [
        ("order/1", Exact(Version(2))),
        ("order/1", Exists),
        ("order/2", NoStream),
        ("order/2", Any),
    ] {
        world.apply(reading(name, expected)).await;
    }
    assert_eq!(
        world.version("order/1").await,
        Version(2),
        "a condition appends nothing"
    );
    // The condition is about what the commit found, not about what it wrote.
    let mut both = reading("order/1", Exact(Version(2)));
    both.appends
        .push(world.append("order/1", Exact(Version(2)), 1));
    world.apply(both).await;
    // A commit of conditions alone is answered too: it confirms a decision that nothing is to be done.
    let conditions = vec![Condition::Stream {
        stream: stream("order/1"),
        expected: Exact(Version(3)),
    }];
    let committed = world
        .apply(Commit {
            conditions,
            ..world.commit()
        })
        .await;
    assert_eq!(
        (committed.first, committed.head),
        (None, world.head().await)
    );
}

/// The key belongs to the stream from its first event that is sent anywhere.
pub async fn the_partition_key_of_a_stream_never_changes(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let sent = |key: Option<&str>| Draft {
        destination: Some(Destination {
            topic: Topic::of(TOPIC),
            partition: 0,
            key: key.map(Key::from),
        }),
        ..world.event("order/1")
    };
    let private = || Draft {
        destination: None,
        ..world.event("order/1")
    };
    let appending = |drafts: Vec<Draft>| {
        let mut commit = world.appending("order/1", Any, 1);
        commit.appends[0].drafts = drafts;
        commit
    };
    let refused = async |drafts| {
        let error = world.refuse(appending(drafts)).await;
        assert!(
            matches!(&error, CommitError::KeyChanged { stream: known, .. } if *known == stream("order/1")),
            "{error}"
        );
        assert_eq!(error.class(), ErrorClass::Poison);
    };
    world.apply(appending(vec![private()])).await;
    refused(vec![sent(Some("user-1")), sent(Some("user-2"))]).await;
    world
        .apply(appending(vec![
            sent(Some("user-1")),
            private(),
            sent(Some("user-1")),
        ]))
        .await;
    refused(vec![sent(Some("user-2"))]).await;
    refused(vec![sent(None)]).await;
    refused(vec![sent(Some("user-1")), sent(Some("User-1"))]).await;
    let world = world.reopen(harness).await;
    let error = world.refuse(world.appending("order/1", Any, 1)).await;
    assert!(
        matches!(error, CommitError::KeyChanged { .. }),
        "after a restart: {error}"
    );
    assert_eq!(world.version("order/1").await, Version(4));
}

/// However many race for a version, one gets it.
pub async fn of_many_writers_at_one_version_one_wins(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    for version in 0..10 {
        let race = (0..8).map(|_| {
            let (store, commit) = (
                world.store.clone(),
                world.appending("order/1", Exact(Version(version)), 1),
            );
            tokio::spawn(async move { store.commit(commit).await })
        });
        let results = join_all(race).await;
        let results: Vec<_> = results
            .into_iter()
            .map(|result| result.expect("no commit panics"))
            .collect();
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "at version {version}: {results:?}"
        );
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_conflict(error, "order/1", version + 1);
        }
    }
    let positions: BTreeSet<_> = world
        .log()
        .await
        .iter()
        .map(|record| record.at.position)
        .collect();
    assert_eq!(positions.len(), 10);
}

/// How many commits are given at once: more than any queue holds, so that some must wait to be queued.
const AT_ONCE: u64 = 3_000;

/// The order of decisions is that of giving, when the queue is full too: what is decided on the events before
/// it must not overtake them.
pub async fn commits_are_decided_in_the_order_in_which_they_were_given(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let given = (0..AT_ONCE).map(|version| {
        world
            .store
            .commit(world.appending("order/1", Exact(Version(version)), 1))
    });
    let results = join_all(given).await;
    let first = results.iter().position(Result::is_err);
    assert_eq!(
        first,
        None,
        "the first that was overtaken: {:?}",
        first.map(|index| &results[index])
    );
    assert_eq!(world.version("order/1").await, Version(AT_ONCE));
}
