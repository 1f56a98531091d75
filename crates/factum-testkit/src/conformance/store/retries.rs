//! Retries: the head of a lane settles, fails again or dies, and the next is released.

use factum_core::{
    Commit, CommitError, ErrorClass, ExpectedVersion, ParkedFilter, ParkedState, Prune, Retried,
    Version,
};
use futures_util::future::{join, join_all};

use super::{
    StoreHarness,
    owner::{Owner, failure, lane},
    world::{World, at},
};
use ParkedState::{Dead, Retrying, Waiting};

/// The next of the lane becomes its head in the same commit, by the number of its offset.
pub async fn settling_releases_the_next_by_offset(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    for offset in 0..120 {
        let commit = match offset {
            8 => owner.park(&world, offset, "a"),
            // Not in their order, to see that it is the offset that counts.
            9 => owner.wait(&world, 100, "a"),
            100 => owner.wait(&world, 9, "a"),
            10 | 101 => owner.wait(&world, offset, "a"),
            50 => owner.park(&world, offset, "b"),
            51 => owner.wait(&world, offset, "b"),
            _ => owner.apply(&world, offset, "c"),
        };
        world.apply(commit).await;
    }
    let mut revision = 1;
    for (head, next) in [(8, 9), (9, 10), (10, 100), (100, 101)] {
        assert_eq!(owner.state(&world, head).await, Some((Retrying, revision)));
        assert_eq!(owner.state(&world, next).await, Some((Waiting, 1)));
        let effect = vec![world.append("order/1", ExpectedVersion::Any, 1)];
        let settled = Commit {
            at: at(head.cast_signed()),
            appends: effect,
            ..owner.retried(&world, head, revision, Retried::Settled)
        };
        world.apply(settled).await;
        assert_eq!(
            owner.state(&world, head).await,
            None,
            "a settled message is gone"
        );
        let released = owner.one(&world, next).await;
        assert_eq!(
            (released.state, released.due),
            (Retrying, Some(at(head.cast_signed()))),
            "due at once"
        );
        assert!(released.revision > 1, "a release is a change");
        assert_eq!((released.tries, released.failure), (0, None));
        revision = released.revision;
        let error = world.refuse(owner.apply(&world, 120, "a")).await;
        assert!(
            matches!(error, CommitError::LaneParked),
            "the lane is parked until its last is settled"
        );
    }
    assert_eq!(
        world.version("order/1").await,
        Version(4),
        "each retry's effect is in its commit"
    );
    assert_eq!(
        owner.state(&world, 51).await,
        Some((Waiting, 1)),
        "another lane is not released"
    );
    world
        .apply(owner.retried(&world, 101, revision, Retried::Settled))
        .await;
    world.apply(owner.apply(&world, 120, "a")).await;
}

/// It is tried again later, or dead; those behind it go on waiting.
pub async fn a_retry_that_fails_stays_at_the_head(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    world.apply(owner.wait(&world, 1, "a")).await;
    let original = owner.one(&world, 0).await;
    let later = Retried::Later {
        due: at(77),
        failure: failure("again"),
    };
    world.apply(owner.retried(&world, 0, 1, later)).await;
    let mut expected = original.clone();
    expected.later(at(77), failure("again"));
    assert_eq!(owner.one(&world, 0).await, expected);
    assert_eq!(
        world
            .store
            .next_retry(&owner.inbox)
            .await
            .expect("the next retry reads"),
        Some(at(77))
    );
    world
        .apply(owner.retried(&world, 0, 2, Retried::Dead(failure("declined"))))
        .await;
    expected.dead(failure("declined"));
    let world = world.reopen(harness).await;
    assert_eq!(owner.one(&world, 0).await, expected);
    assert_eq!(
        (
            expected.state,
            expected.revision,
            expected.tries,
            expected.due
        ),
        (Dead, 3, 3, None)
    );
    assert_eq!(
        world
            .store
            .next_retry(&owner.inbox)
            .await
            .expect("the next retry reads"),
        None
    );
    assert_eq!(owner.state(&world, 1).await, Some((Waiting, 1)));
}

/// A retry of what is not the head, or is not as it was read, counts for nothing.
pub async fn only_the_head_is_retried_and_only_at_its_revision(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    world.apply(owner.wait(&world, 1, "a")).await;
    world.apply(owner.bury(&world, 2, "b")).await;
    for (what, offset, revision, actual) in [
        ("another revision", 0, 2, Some(1)),
        ("an older revision", 0, 0, Some(1)),
        ("one that waits", 1, 1, Some(1)),
        ("one that is dead", 2, 1, Some(1)),
        ("one that is not parked", 3, 1, None),
    ] {
        let later = Retried::Later {
            due: at(9),
            failure: failure("again"),
        };
        for outcome in [Retried::Settled, later, Retried::Dead(failure("again"))] {
            let effect = vec![world.append("order/1", ExpectedVersion::Any, 1)];
            let error = world
                .refuse(Commit {
                    appends: effect,
                    ..owner.retried(&world, offset, revision, outcome)
                })
                .await;
            let CommitError::RevisionChanged { id, actual: found } = &error else {
                panic!("{what}: {error}")
            };
            assert_eq!((id, *found), (&owner.id(offset), actual), "{what}");
            assert_eq!(error.class(), ErrorClass::Conflict);
        }
    }
    assert_eq!(world.version("order/1").await, Version(0));
    let twice = [0, 1].map(|_| {
        world
            .store
            .commit(owner.retried(&world, 0, 1, Retried::Settled))
    });
    let twice = join_all(twice).await;
    assert_eq!(
        twice.iter().filter(|result| result.is_ok()).count(),
        1,
        "{twice:?}"
    );
    assert_eq!(
        owner.state(&world, 1).await.map(|(state, _)| state),
        Some(Retrying),
        "released once"
    );
}

/// However settling, waiting and running live race, no message is left behind a lane without a head.
pub async fn a_lane_never_waits_behind_nobody(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let mut offset = 0;
    for round in 0..40 {
        world.apply(owner.park(&world, offset, "a")).await;
        let settle = world
            .store
            .commit(owner.retried(&world, offset, 1, Retried::Settled));
        let wait = world.store.commit(owner.wait(&world, offset + 1, "a"));
        let (settled, waits) = if round % 2 == 0 {
            join(settle, wait).await
        } else {
            let (waits, settled) = join(wait, settle).await;
            (settled, waits)
        };
        settled.expect("it is the head");
        let head = owner.one(&world, offset + 1);
        match waits {
            Ok(_) => {
                let head = head.await;
                assert_eq!(head.state, Retrying, "round {round}");
                world
                    .apply(owner.retried(&world, offset + 1, head.revision, Retried::Settled))
                    .await;
            }
            Err(error) => {
                assert!(
                    matches!(error, CommitError::LaneFree),
                    "round {round}: {error}"
                );
                world.apply(owner.apply(&world, offset + 1, "a")).await;
            }
        }
        offset += 2;
    }
    let left = world.store.parked(&ParkedFilter::default(), 10).await;
    assert_eq!(left.expect("parked messages are listed"), []);
    assert_eq!(owner.row(&world).await.low, offset);
}

/// One key is tried again for three hours while the others flow. By then its topic has forgotten the messages: the store
/// alone has them, whatever is pruned, byte for byte and in their order.
pub async fn a_key_that_retries_for_three_hours_outlives_its_topics_retention(
    harness: &dyn StoreHarness,
) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    for (hour, first) in (1..=3).zip([1, 101, 201]) {
        world.apply(owner.wait(&world, first, "a")).await;
        for offset in first + 1..first + 100 {
            world.apply(owner.apply(&world, offset, "b")).await;
        }
        let now = at(3_600 * hour);
        let all = Prune {
            expired: now,
            discarded: now,
        };
        world.store.prune(all).await.expect("a store can be pruned");
        let later = Retried::Later {
            due: now,
            failure: failure("again"),
        };
        let revision = owner.one(&world, 0).await.revision;
        world.apply(owner.retried(&world, 0, revision, later)).await;
    }
    assert_eq!(owner.row(&world).await.low, 301, "the others flow");
    let world = world.reopen(harness).await;
    for offset in [0, 1, 101, 201] {
        let head = owner.one(&world, offset).await;
        let original = owner.parked(offset, lane("a"), Retrying).message;
        assert_eq!((head.state, head.message), (Retrying, original));
        let settled = owner.retried(&world, offset, head.revision, Retried::Settled);
        world.apply(settled).await;
    }
    world.apply(owner.apply(&world, 301, "a")).await;
}
