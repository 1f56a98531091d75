//! What operators do with parked messages.

use bytes::Bytes;
use factum_core::{
    Commit, CommitError, ErrorClass, ExpectedVersion, OperatorAction, ParkedFilter, ParkedState,
    Prune, Retried, Version,
};

use super::{
    StoreHarness,
    owner::Owner,
    world::{World, at},
};
use OperatorAction::{Discard, Edit, Redrive};
use ParkedState::{Dead, Discarded, Retrying, Waiting};

/// A dead message is retried by its owner long after the inbox has moved on.
pub async fn a_redrive_works_below_the_watermark(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.bury(&world, 0, "a")).await;
    for offset in 1..10 {
        world.apply(owner.apply(&world, offset, "b")).await;
    }
    let row = owner.row(&world).await;
    assert_eq!(row.low, 10);
    let mut expected = owner.one(&world, 0).await;
    world
        .apply(Commit {
            at: at(50),
            ..owner.operate(&world, 0, 1, Redrive)
        })
        .await;
    expected.redrive(1, at(50)).expect("it is dead");
    let world = world.reopen(harness).await;
    assert_eq!(owner.one(&world, 0).await, expected);
    assert_eq!(
        (
            expected.state,
            expected.due,
            expected.tries,
            expected.redrives
        ),
        (Retrying, Some(at(50)), 0, 1)
    );
    assert_eq!(
        world
            .store
            .next_retry(&owner.inbox)
            .await
            .expect("the next retry reads"),
        Some(at(50))
    );
    let effect = vec![world.append("order/1", ExpectedVersion::Any, 1)];
    let retried = Commit {
        appends: effect,
        ..owner.retried(&world, 0, expected.revision, Retried::Settled)
    };
    world.apply(retried).await;
    assert_eq!(owner.state(&world, 0).await, None);
    assert_eq!(
        owner.row(&world).await,
        row,
        "a retry leaves the inbox alone"
    );
    world.apply(owner.apply(&world, 10, "a")).await;
}

/// What is being retried, or waits, is not to be changed under its owner's hands.
pub async fn only_what_is_dead_is_redriven_or_edited(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    world.apply(owner.wait(&world, 1, "a")).await;
    world.apply(owner.bury(&world, 2, "b")).await;
    world.apply(owner.operate(&world, 2, 1, Discard)).await;
    for (offset, revision) in [(0, 1), (1, 1), (2, 2)] {
        let before = owner.one(&world, offset).await;
        assert_eq!(before.revision, revision);
        for action in [Redrive, Edit(Bytes::from_static(b"x"))] {
            let error = world
                .refuse(owner.operate(&world, offset, revision, action))
                .await;
            assert!(
                matches!(error, CommitError::RevisionChanged { .. }),
                "offset {offset}: {error}"
            );
        }
        assert_eq!(owner.one(&world, offset).await, before);
    }
    for (offset, revision) in [(1, 1), (2, 2)] {
        let error = world
            .refuse(owner.operate(&world, offset, revision, Discard))
            .await;
        assert!(
            matches!(error, CommitError::RevisionChanged { .. }),
            "only the head is discarded: {error}"
        );
    }
}

/// Other bytes beside the original ones.
pub async fn an_edit_keeps_the_original(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.bury(&world, 0, "a")).await;
    let original = owner.one(&world, 0).await;
    for (revision, value) in [(1, &b"\xff\0first"[..]), (2, b"second")] {
        world
            .apply(owner.operate(&world, 0, revision, Edit(Bytes::copy_from_slice(value))))
            .await;
    }
    let world = world.reopen(harness).await;
    let edited = owner.one(&world, 0).await;
    assert_eq!(edited.value(), Some(&Bytes::from_static(b"second")));
    assert_eq!(edited.message, original.message);
    assert_eq!(
        (edited.state, edited.revision, edited.redrives),
        (Dead, 3, 0)
    );
    world.apply(owner.operate(&world, 0, 3, Redrive)).await;
    assert_eq!(
        owner.one(&world, 0).await.value(),
        Some(&Bytes::from_static(b"second"))
    );
}

/// The row leaves its lane, and is kept for a stated time.
pub async fn a_discard_releases_the_next_and_keeps_the_row(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.bury(&world, 0, "a")).await;
    world.apply(owner.wait(&world, 1, "a")).await;
    world.apply(owner.wait(&world, 2, "a")).await;
    world.apply(owner.park(&world, 3, "b")).await;
    world
        .apply(Commit {
            at: at(70),
            ..owner.operate(&world, 0, 1, Discard)
        })
        .await;
    let discarded = owner.one(&world, 0).await;
    assert_eq!(
        (discarded.state, discarded.revision, discarded.due),
        (Discarded, 2, None)
    );
    let next = owner.one(&world, 1).await;
    assert_eq!((next.state, next.due), (Retrying, Some(at(70))));
    assert_eq!(owner.state(&world, 2).await, Some((Waiting, 1)));
    // A head that is retrying can be given up, too, and a lane of discarded ones is free.
    world.apply(owner.operate(&world, 3, 1, Discard)).await;
    world.apply(owner.apply(&world, 4, "b")).await;
    assert_eq!(
        world
            .store
            .next_retry(&owner.inbox)
            .await
            .expect("the next retry reads"),
        Some(at(70))
    );
    world
        .apply(owner.retried(&world, 1, next.revision, Retried::Settled))
        .await;
    assert_eq!(
        owner.state(&world, 2).await.map(|(state, _)| state),
        Some(Retrying)
    );
    let lanes = world
        .store
        .parked_lanes(&owner.inbox, 10)
        .await
        .expect("lanes are listed");
    assert_eq!(lanes, [super::owner::lane("a")]);
    let world = world.reopen(harness).await;
    let filter = ParkedFilter {
        state: Some(Discarded),
        ..ParkedFilter::default()
    };
    let kept = world
        .store
        .parked(&filter, 10)
        .await
        .expect("parked messages are listed");
    assert_eq!(
        kept.iter()
            .map(|parked| parked.id.offset)
            .collect::<Vec<_>>(),
        [0, 3]
    );
    let prune = |discarded| Prune {
        expired: at(-1000),
        discarded,
    };
    // Both were parked at the same time; the first was discarded later.
    for (before, dropped) in [(0, 0), (1, 1), (70, 0), (71, 1)] {
        let pruned = world.store.prune(prune(at(before))).await;
        assert_eq!(pruned.expect("expired rows are dropped"), dropped);
    }
    assert_eq!(owner.state(&world, 0).await, None);
    assert!(owner.state(&world, 2).await.is_some());
}

/// Two operators, or an operator and an owner, who saw the same row: one of them wins.
pub async fn an_operator_compares_the_revision(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.bury(&world, 0, "a")).await;
    for action in [Redrive, Edit(Bytes::new()), Discard] {
        for revision in [0, 2] {
            let error = world
                .refuse(owner.operate(&world, 0, revision, action.clone()))
                .await;
            let CommitError::RevisionChanged { id, actual } = &error else {
                panic!("{error}")
            };
            assert_eq!((id, *actual), (&owner.id(0), Some(1)));
            assert_eq!(error.class(), ErrorClass::Conflict);
        }
        let error = world.refuse(owner.operate(&world, 9, 1, action)).await;
        assert!(
            matches!(error, CommitError::RevisionChanged { actual: None, .. }),
            "{error}"
        );
    }
    world.apply(owner.operate(&world, 0, 1, Redrive)).await;
    world.refuse(owner.operate(&world, 0, 1, Redrive)).await;
    // The owner tried what the operator has meanwhile given up.
    let revision = owner.one(&world, 0).await.revision;
    world
        .apply(owner.operate(&world, 0, revision, Discard))
        .await;
    let effect = vec![world.append("order/1", ExpectedVersion::Any, 1)];
    let late = Commit {
        appends: effect,
        ..owner.retried(&world, 0, revision, Retried::Settled)
    };
    assert!(matches!(
        world.refuse(late).await,
        CommitError::RevisionChanged { .. }
    ));
    assert_eq!(world.version("order/1").await, Version(0));
    assert_eq!(
        owner.state(&world, 0).await.map(|(state, _)| state),
        Some(Discarded)
    );
}
