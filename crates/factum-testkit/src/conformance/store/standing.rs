//! Standing on: commits decided on what others, not yet durable, are about to write.

use std::task::{Context, Waker};

use factum_core::{Commit, CommitError, CommitId, Condition, ExpectedVersion, Version};
use futures_util::future::{join, join_all, maybe_done};

use super::{
    StoreHarness,
    world::{World, stream},
};
use ExpectedVersion::{Any, Exact};

fn assert_stood_on(error: &CommitError, id: CommitId) {
    assert!(
        matches!(error, CommitError::StoodOnFailed(known) if *known == id),
        "expected to fail with {id}: {error}"
    );
}

/// The version that the second commit expects is there, but another writer's event has it: what it was
/// decided on never happened.
pub async fn a_commit_fails_with_the_one_it_stands_on_though_its_versions_fit(
    harness: &dyn StoreHarness,
) {
    let world = World::create(harness).await;
    world.fill("order/1", 1).await;
    let late = world.appending("order/1", Exact(Version(0)), 1);
    let late_id = late.id;
    let decided_on_it = Commit {
        stands_on: vec![late_id],
        ..world.appending("order/1", Exact(Version(1)), 1)
    };
    let (first, second) = join(world.store.commit(late), world.store.commit(decided_on_it)).await;
    assert!(
        matches!(first, Err(CommitError::Conflict { .. })),
        "{first:?}"
    );
    assert_stood_on(
        &second.expect_err("it stands on a commit that failed"),
        late_id,
    );
    assert_eq!(world.version("order/1").await, Version(1));

    // The same when the first was answered long before the second came.
    let late = world.appending("order/1", Exact(Version(0)), 1);
    let late_id = late.id;
    world.refuse(late).await;
    world.fill("order/9", 1).await;
    let decided_on_it = Commit {
        stands_on: vec![late_id],
        ..world.appending("order/1", Exact(Version(1)), 1)
    };
    assert_stood_on(&world.refuse(decided_on_it).await, late_id);
    // Decided anew, it stands on nothing and is applied.
    world
        .apply(world.appending("order/1", Exact(Version(1)), 1))
        .await;
}

/// Whoever stands on a commit that stood on a failed one has failed, too.
pub async fn failing_with_the_one_before_goes_on_down_the_line(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 1).await;
    let mut line = vec![world.appending("order/1", Exact(Version(0)), 1)];
    for number in 1..20 {
        let stands_on = vec![line[number - 1].id];
        let name = format!("order/{}", number + 1);
        line.push(Commit {
            stands_on,
            ..world.appending(&name, Any, 1)
        });
    }
    let ids: Vec<_> = line.iter().map(|commit| commit.id).collect();
    let results = join_all(line.into_iter().map(|commit| world.store.commit(commit))).await;
    for (number, result) in results.into_iter().enumerate().skip(1) {
        assert_stood_on(
            &result.expect_err("the one before it failed"),
            ids[number - 1],
        );
    }
    assert_eq!(world.head().await.position.0, 1);
    let both = Commit {
        stands_on: vec![world.commit().id, ids[19]],
        ..world.appending("order/1", Any, 1)
    };
    assert_stood_on(&world.refuse(both).await, ids[19]);
}

/// The store has more to do than it takes at a time, and a commit's caller goes away while it waits for its turn.
/// Nobody knows then whether it is applied; what stands on it is applied if it was, and never without it.
pub async fn what_stands_on_a_commit_that_was_withdrawn_shares_its_fate(
    harness: &dyn StoreHarness,
) {
    let world = World::create(harness).await;
    // Given is what was polled once; who polls later is woken then.
    let given = |commit| {
        let mut future = Box::pin(maybe_done(world.store.commit(commit)));
        let _polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        future
    };
    // More than a store takes at a time, so that some of the withdrawn ones had no more than a place in the line.
    let mut crowd = Vec::new();
    for number in 0..3_000 {
        let name = format!("order/crowd-{}", number % 50);
        crowd.push(given(world.appending(&name, Any, 1)));
    }
    let mut standing = Vec::new();
    for number in 0..50 {
        let gone = world.appending(&format!("order/gone-{number}"), Any, 1);
        let gone_id = gone.id;
        let on_it = Commit {
            stands_on: vec![gone_id],
            ..world.appending(&format!("order/on-it-{number}"), Any, 1)
        };
        drop(given(gone));
        standing.push((gone_id, given(on_it)));
    }
    join_all(crowd).await;
    for (number, (gone_id, mut on_it)) in standing.into_iter().enumerate() {
        on_it.as_mut().await;
        let result = on_it.as_mut().take_output().expect("it has ended");
        let applied = world.version(&format!("order/gone-{number}")).await > Version::ZERO;
        match result {
            Ok(_) => assert!(
                applied,
                "{number}: it stands on a commit that was not applied"
            ),
            Err(error) => {
                assert!(
                    !applied,
                    "{number}: what it stands on was applied, and it failed: {error}"
                );
                assert_stood_on(&error, gone_id);
            }
        }
    }
}

/// A rejection is a commit of conditions: with the events that it was decided on gone, it is no answer.
pub async fn a_rejection_decided_on_what_failed_is_not_confirmed(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 1).await;
    let late = world.appending("order/1", Exact(Version(0)), 1);
    let late_id = late.id;
    let condition = |version| Condition::Stream {
        stream: stream("order/1"),
        expected: Exact(Version(version)),
    };
    let rejection = Commit {
        stands_on: vec![late_id],
        conditions: vec![condition(1)],
        ..world.commit()
    };
    let (_, confirmed) = join(world.store.commit(late), world.store.commit(rejection)).await;
    assert_stood_on(
        &confirmed.expect_err("it was decided on what never happened"),
        late_id,
    );

    // Decided on a cache that another writer has made stale, it is no answer either.
    let stale = Commit {
        conditions: vec![condition(0)],
        ..world.commit()
    };
    assert!(matches!(
        world.refuse(stale).await,
        CommitError::Conflict { .. }
    ));

    // And decided on events that became durable meanwhile, it is one.
    let written = world.appending("order/1", Exact(Version(1)), 1);
    let rejection = Commit {
        stands_on: vec![written.id],
        conditions: vec![condition(2)],
        ..world.commit()
    };
    let (written, confirmed) =
        join(world.store.commit(written), world.store.commit(rejection)).await;
    assert_eq!(
        confirmed.expect("all that it was decided on holds").head,
        written.expect("it fits").head
    );
}

/// A hot stream's commands are decided on each other's events and given to the store without waiting.
pub async fn a_line_of_commits_that_stand_on_each_other_is_applied(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let mut line: Vec<Commit> = Vec::new();
    for version in 0..50 {
        let stands_on = line.iter().rev().take(3).map(|commit| commit.id).collect();
        line.push(Commit {
            stands_on,
            ..world.appending("order/1", Exact(Version(version)), 1)
        });
    }
    for result in join_all(line.into_iter().map(|commit| world.store.commit(commit))).await {
        result.expect("each stands on commits that were applied");
    }
    assert_eq!(world.version("order/1").await, Version(50));
}

/// What has become durable meanwhile, or was never heard of in this process, is no obstacle.
pub async fn standing_on_a_durable_commit_is_no_hindrance(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let first = world.appending("order/1", Any, 1);
    let first_id = first.id;
    world.apply(first).await;
    world
        .apply(Commit {
            stands_on: vec![first_id],
            ..world.appending("order/1", Exact(Version(1)), 1)
        })
        .await;
    let world = world.reopen(harness).await;
    world
        .apply(Commit {
            stands_on: vec![first_id],
            ..world.appending("order/1", Exact(Version(2)), 1)
        })
        .await;
}
