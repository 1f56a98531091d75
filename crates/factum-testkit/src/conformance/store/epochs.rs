//! Epochs: what a restore lost is never taken for what comes.

use bytes::Bytes;
use factum_core::{
    At, Commit, CommitError, Epoch, ExpectedVersion, Fence, Input, LogFilter, LogInput, Position,
    ProjectionName, RelayInput, Retried, TimerInput, TimerWrite, Topic, Version,
};

use super::{
    StoreHarness,
    owner::Owner,
    world::{TOPIC, World, at},
};

async fn open(world: &World, epoch: Epoch) {
    world
        .store
        .open_epoch(epoch, at(5), "restored: all was lost")
        .await
        .expect("a new epoch is opened");
}

/// Positions go on, and a record keeps the epoch that it was written in.
pub async fn a_new_epoch_counts_on_and_records_keep_theirs(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 3).await;
    let before = world.log().await;
    let first = world.store.identity();
    let second = Epoch(first.epoch.0 + 1_772_000_000_000);
    open(&world, second).await;
    assert_eq!(
        world.store.identity(),
        factum_core::StoreIdentity {
            epoch: second,
            ..first.clone()
        }
    );
    assert_eq!(
        world.head().await,
        At {
            epoch: first.epoch,
            position: Position(3)
        }
    );
    assert_eq!(world.log().await, before);
    let committed = world
        .apply(world.appending("order/1", ExpectedVersion::Exact(Version(3)), 2))
        .await;
    assert_eq!(
        (committed.first, committed.head),
        (
            Some(Position(4)),
            At {
                epoch: second,
                position: Position(5)
            }
        )
    );
    let world = world.reopen(harness).await;
    assert_eq!(world.store.identity().epoch, second);
    let epochs: Vec<_> = world
        .log()
        .await
        .iter()
        .map(|record| record.at.epoch)
        .collect();
    assert_eq!(
        epochs,
        [first.epoch, first.epoch, first.epoch, second, second]
    );
    let spans = world.store.epochs().await.expect("the epochs are listed");
    assert_eq!(
        spans
            .iter()
            .map(|span| (span.epoch, span.first.0))
            .collect::<Vec<_>>(),
        [(first.epoch, 1), (second, 4)]
    );
    assert_eq!(
        (spans[1].opened, spans[1].reason.as_str()),
        (at(5), "restored: all was lost")
    );
    let page = world
        .store
        .read_log(before[1].at, &LogFilter::default(), 10)
        .await
        .expect("an old cursor goes on");
    assert_eq!(
        page.records
            .iter()
            .map(|record| record.at.position.0)
            .collect::<Vec<_>>(),
        [3, 4, 5]
    );
}

/// An epoch that was used names another time line.
pub async fn a_new_epoch_must_be_greater(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let first = world.store.identity().epoch;
    open(&world, Epoch(first.0 + 10)).await;
    for used in [0, first.0, first.0 + 5, first.0 + 10] {
        world
            .store
            .open_epoch(Epoch(used), at(6), "again")
            .await
            .expect_err("it is not greater");
    }
    assert_eq!(world.store.identity().epoch, Epoch(first.0 + 10));
    assert_eq!(
        world
            .store
            .epochs()
            .await
            .expect("the epochs are listed")
            .len(),
        2
    );
}

/// Every owner claims anew: what it holds in memory may be of the lost time line.
pub async fn a_new_epoch_fences_every_owner(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 3).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    let relay = world
        .store
        .claim_relay()
        .await
        .expect("the relay is claimed")
        .fence;
    let projection = ProjectionName::of("orders");
    let claim = async |world: &World| {
        world
            .store
            .claim_projection(&projection, 1, "f")
            .await
            .expect("a projection is claimed")
            .fence
    };
    let projecting = claim(&world).await;
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
    let generation = world.store.next_timers(1).await.expect("timers are listed")[0].generation;
    let timers = world
        .store
        .claim_timers()
        .await
        .expect("timers are claimed");
    let head = world.head().await;
    let relayed = |fence| {
        let input = RelayInput {
            fence,
            checkpoint: head,
            lasts: vec![],
            rewind: false,
        };
        Commit {
            input: Input::Relay(input),
            ..world.commit()
        }
    };
    let projected = |fence| {
        let input = LogInput {
            projection: projection.clone(),
            generation: 1,
            fence,
            from: At::ZERO,
            to: head,
        };
        Commit {
            input: Input::Log(input),
            ..world.commit()
        }
    };
    let fired = |fence| {
        let input = TimerInput {
            fence,
            id: "t".into(),
            generation,
        };
        Commit {
            input: Input::Timer(input),
            ..world.commit()
        }
    };
    open(&world, Epoch(world.store.identity().epoch.0 + 1)).await;
    for (what, commit) in [
        ("a message", owner.apply(&world, 1, "b")),
        ("a retry", owner.retried(&world, 0, 1, Retried::Settled)),
        (
            "the row",
            owner.void(&world, super::owner::delivered_up_to(1)),
        ),
        ("the relay", relayed(relay)),
        ("a projection", projected(projecting)),
        ("a timer", fired(timers)),
    ] {
        let error = world.refuse(commit).await;
        assert!(
            matches!(error, CommitError::Fenced { .. }),
            "{what}: {error}"
        );
    }
    let epoch = world.store.identity().epoch;
    let new = Owner::of_payment(&world).await;
    let relay = world
        .store
        .claim_relay()
        .await
        .expect("the relay is claimed")
        .fence;
    let timers = world
        .store
        .claim_timers()
        .await
        .expect("timers are claimed");
    let projecting = claim(&world).await;
    let fences: [Fence; 4] = [new.fence, relay, timers, projecting];
    assert!(
        fences.iter().all(|fence| fence.store == epoch),
        "{fences:?}"
    );
    world.apply(new.apply(&world, 1, "b")).await;
    world
        .apply(new.retried(&world, 0, 1, Retried::Settled))
        .await;
    world.apply(relayed(relay)).await;
    world.apply(projected(projecting)).await;
    world.apply(fired(timers)).await;
}

/// A reader that has seen more than there is has seen another time line.
pub async fn a_cursor_is_checked_against_the_time_line(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 3).await;
    let first = world.store.identity().epoch;
    let second = Epoch(first.0 + 10);
    let place = |epoch, position| At {
        epoch,
        position: Position(position),
    };
    let read = async |after| world.store.read_log(after, &LogFilter::default(), 10).await;
    let refused = async |after| {
        let error = read(after)
            .await
            .expect_err("it is not on the present time line");
        assert!(error.is_conflict(), "{after}: {error}");
    };
    refused(place(first, 4)).await;
    refused(place(Epoch(first.0 + 1), 3)).await;
    open(&world, second).await;
    world.fill("order/1", 2).await;
    for (after, expected) in [
        (At::ZERO, 5),
        (place(first, 1), 4),
        (place(first, 3), 2),
        (place(second, 4), 1),
        (place(second, 5), 0),
    ] {
        assert_eq!(
            read(after)
                .await
                .expect("it is on the time line")
                .records
                .len(),
            expected,
            "after {after}"
        );
    }
    refused(place(first, 4)).await;
    refused(place(second, 6)).await;
    refused(place(Epoch(first.0 + 5), 2)).await;
    refused(place(Epoch(second.0 + 1), 5)).await;
}

/// A relay or projection beyond the head would pass over what is written next.
pub async fn checkpoints_beyond_the_head_are_moved_back(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 3).await;
    let epoch = world.store.identity().epoch;
    let place = |position| At {
        epoch,
        position: Position(position),
    };
    let projection = ProjectionName::of("orders");
    let relay = world
        .store
        .claim_relay()
        .await
        .expect("the relay is claimed");
    let claim = world
        .store
        .claim_projection(&projection, 1, "f")
        .await
        .expect("a projection is claimed");
    let lasts = vec![(Topic::of(TOPIC), 0, place(2))];
    let relayed = RelayInput {
        fence: relay.fence,
        checkpoint: place(2),
        lasts,
        rewind: false,
    };
    world
        .apply(Commit {
            input: Input::Relay(relayed.clone()),
            ..world.commit()
        })
        .await;
    let projected = LogInput {
        projection,
        generation: 1,
        fence: claim.fence,
        from: At::ZERO,
        to: place(100),
    };
    // A store may refuse such a checkpoint in the first place; then there is nothing to move.
    let beyond = world
        .store
        .commit(Commit {
            input: Input::Log(projected),
            ..world.commit()
        })
        .await;
    open(&world, Epoch(epoch.0 + 1)).await;
    let relay = world.store.relay().await.expect("the relay's row reads");
    assert_eq!(
        (relay.checkpoint, relay.lasts),
        (place(2), relayed.lasts),
        "what is not beyond the head stays"
    );
    let states = world
        .store
        .projections()
        .await
        .expect("projections are listed");
    let expected = if beyond.is_ok() { place(3) } else { At::ZERO };
    assert_eq!(
        states
            .iter()
            .map(|state| state.checkpoint)
            .collect::<Vec<_>>(),
        [expected]
    );
}

/// After a restore the store is what it was, in a time line of its own.
pub async fn a_restored_backup_is_another_time_line(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let view = world.view().await;
    world.fill("order/1", 3).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    let relay = world
        .store
        .claim_relay()
        .await
        .expect("the relay is claimed");
    if !harness.backup().await {
        return;
    }
    let (kept, kept_row) = (world.log().await, owner.row(&world).await);
    let write = world.fill("order/1", 2).await;
    world
        .apply(owner.retried(&world, 0, 1, Retried::Settled))
        .await;
    world.apply(owner.apply(&world, 1, "a")).await;
    let relayed = RelayInput {
        fence: relay.fence,
        checkpoint: write.head,
        lasts: vec![],
        rewind: false,
    };
    world
        .apply(Commit {
            input: Input::Relay(relayed.clone()),
            ..world.commit()
        })
        .await;
    if let Some(view) = &view {
        world
            .apply(Commit {
                views: vec![super::world::put(view, "lost", 5)],
                ..world.commit()
            })
            .await;
    }
    let lost = world.store.identity();
    let lost_owner = Owner::of_payment(&world).await;

    let world = world.restore(harness).await;
    let restored = world.store.identity();
    assert_eq!(restored.id, lost.id);
    assert!(restored.epoch > lost.epoch, "a restore opens a new epoch");
    assert_eq!(world.log().await, kept);
    assert_eq!(owner.one(&world, 0).await.revision, 1);
    assert_eq!((owner.row(&world).await.low, kept_row.low), (1, 1));
    if let Some(view) = &view {
        assert_eq!(world.row(view, "lost").await, None);
    }
    world
        .store
        .read_log(write.head, &LogFilter::default(), 10)
        .await
        .expect_err("it is of the lost time line");
    for zombie in [&owner, &lost_owner] {
        let error = world.refuse(zombie.apply(&world, 1, "b")).await;
        assert!(matches!(error, CommitError::Fenced { .. }), "{error}");
    }
    let error = world
        .refuse(Commit {
            input: Input::Relay(relayed),
            ..world.commit()
        })
        .await;
    assert!(matches!(error, CommitError::Fenced { .. }), "{error}");
    assert_eq!(
        world
            .store
            .claim_relay()
            .await
            .expect("the relay is claimed")
            .checkpoint,
        At::ZERO
    );
    let committed = world.fill("order/1", 1).await;
    assert_eq!(
        committed.head,
        At {
            epoch: restored.epoch,
            position: Position(4)
        }
    );
    let owner = Owner::of_payment(&world).await;
    assert!(owner.fence > lost_owner.fence);
    world.apply(owner.apply(&world, 1, "b")).await;
    let world = world.reopen(harness).await;
    assert_eq!(world.store.identity(), restored);
    assert_eq!(world.log().await.len(), 4);
}
