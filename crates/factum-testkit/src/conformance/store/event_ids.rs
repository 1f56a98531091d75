//! The event ids of foreign messages: remembered for a stated time, and as long as a parked row.

use factum_core::{
    Commit, CommitError, ErrorClass, ExpectedVersion, OperatorAction, ParkedFilter, Prune, Retried,
    Version,
};

use super::{
    StoreHarness,
    owner::{Owner, failure, foreign, inbox},
    world::{World, at},
};
use OperatorAction::{Discard, Redrive};

fn assert_duplicate(error: &CommitError, id: &str) {
    assert!(
        matches!(error, CommitError::DuplicateEvent(known) if *known == id.into()),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Conflict);
}

/// A foreign message has no link, so its id tells that it was handled, on whichever partition it comes.
pub async fn an_event_id_is_taken_once_in_a_group(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let beside = Owner::claim(&world, inbox("payment", 1)).await;
    let other = Owner::claim(&world, inbox("stock", 0)).await;
    world
        .apply(foreign(owner.apply(&world, 0, "a"), "E-1", at(100)))
        .await;
    world
        .apply(foreign(owner.skip(&world, 1, "a"), "E-2", at(100)))
        .await;
    world
        .apply(foreign(owner.bury(&world, 2, "b"), "E-3", at(100)))
        .await;
    world
        .apply(foreign(owner.wait(&world, 3, "b"), "E-4", at(100)))
        .await;
    let error = world.refuse(owner.duplicate(&world, 4, "c", "e-1")).await;
    assert!(
        matches!(&error, CommitError::NotDuplicate(known) if *known == "e-1".into()),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Conflict);
    let world = world.reopen(harness).await;
    for (offset, id) in (4..).zip(["E-1", "E-2", "E-3", "E-4"]) {
        let effect = vec![world.append("order/1", ExpectedVersion::Any, 1)];
        let again = Commit {
            appends: effect,
            ..foreign(owner.apply(&world, offset, "c"), id, at(100))
        };
        assert_duplicate(&world.refuse(again).await, id);
        assert_duplicate(
            &world
                .refuse(foreign(beside.apply(&world, offset, "c"), id, at(100)))
                .await,
            id,
        );
        world.apply(owner.duplicate(&world, offset, "c", id)).await;
        assert_eq!(
            owner.row(&world).await.low,
            offset + 1,
            "a duplicate is finished"
        );
        world
            .apply(foreign(other.apply(&world, offset - 4, "c"), id, at(100)))
            .await;
    }
    assert_eq!(world.version("order/1").await, Version(0));
    // A duplicate is finished whether its lane is parked or not.
    world.apply(owner.duplicate(&world, 8, "b", "E-1")).await;
    world
        .apply(foreign(owner.apply(&world, 9, "a"), "e-1", at(100)))
        .await;
}

/// Event ids are kept for a stated time, by the times of the commits.
pub async fn an_event_id_is_free_again_when_it_expires(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world
        .apply(foreign(owner.apply(&world, 0, "a"), "e-1", at(100)))
        .await;
    let again = |seconds| Commit {
        at: at(seconds),
        ..foreign(owner.apply(&world, 1, "a"), "e-1", at(200))
    };
    assert_duplicate(&world.refuse(again(99)).await, "e-1");
    let prune = |expired| Prune {
        expired,
        discarded: at(-1000),
    };
    assert_eq!(
        world
            .store
            .prune(prune(at(99)))
            .await
            .expect("expired rows are dropped"),
        0
    );
    world.apply(again(101)).await;
    assert_eq!(
        world
            .store
            .prune(prune(at(199)))
            .await
            .expect("expired rows are dropped"),
        0,
        "it was taken anew"
    );
    assert_eq!(
        world
            .store
            .prune(prune(at(201)))
            .await
            .expect("expired rows are dropped"),
        1
    );
    let error = world.refuse(owner.duplicate(&world, 2, "a", "e-1")).await;
    assert!(matches!(error, CommitError::NotDuplicate(_)), "{error}");
}

/// However short the window of event ids, a message that is parked must not be handled beside its row.
pub async fn an_event_id_is_kept_as_long_as_its_parked_message(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let other = Owner::claim(&world, inbox("payment", 1)).await;
    world
        .apply(foreign(owner.bury(&world, 0, "a"), "dead", at(10)))
        .await;
    world
        .apply(foreign(owner.wait(&world, 1, "a"), "waits", at(10)))
        .await;
    world
        .apply(foreign(owner.bury(&world, 2, "b"), "discarded", at(10)))
        .await;
    world.apply(owner.operate(&world, 2, 1, Discard)).await;
    let late = |offset, id| Commit {
        at: at(1000),
        ..foreign(other.apply(&world, offset, "c"), id, at(2000))
    };
    let prune = async |discarded| {
        let prune = Prune {
            expired: at(1000),
            discarded,
        };
        world
            .store
            .prune(prune)
            .await
            .expect("expired rows are dropped")
    };
    for pruned in [false, true] {
        if pruned {
            assert_eq!(
                prune(at(-1000)).await,
                0,
                "nothing has expired that has a row"
            );
        }
        for id in ["dead", "waits", "discarded"] {
            assert_duplicate(&world.refuse(late(0, id)).await, id);
        }
    }
    world.apply(owner.operate(&world, 0, 1, Redrive)).await;
    assert_duplicate(&world.refuse(late(0, "dead")).await, "dead");
    world
        .apply(owner.retried(&world, 0, 2, Retried::Settled))
        .await;
    assert_eq!(
        prune(at(1)).await,
        3,
        "the discarded row, its event id, and that of the settled one"
    );
    world.apply(late(0, "dead")).await;
    world.apply(late(1, "discarded")).await;
    assert_duplicate(&world.refuse(late(2, "waits")).await, "waits");
    let dead = Retried::Dead(failure("declined"));
    world.apply(owner.retried(&world, 1, 2, dead)).await;
    assert_duplicate(&world.refuse(late(2, "waits")).await, "waits");
}

/// Parked, a duplicate would be retried, and its retry asks for no event id: its effect would come twice.
pub async fn a_duplicate_is_neither_parked_nor_let_wait(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world
        .apply(foreign(owner.apply(&world, 0, "a"), "e-1", at(100)))
        .await;
    assert_duplicate(
        &world
            .refuse(foreign(owner.park(&world, 1, "a"), "e-1", at(100)))
            .await,
        "e-1",
    );
    assert_duplicate(
        &world
            .refuse(foreign(owner.bury(&world, 1, "a"), "e-1", at(100)))
            .await,
        "e-1",
    );
    world.apply(owner.duplicate(&world, 1, "a", "e-1")).await;
    world
        .apply(foreign(owner.park(&world, 2, "a"), "e-2", at(100)))
        .await;
    assert_duplicate(
        &world
            .refuse(foreign(owner.wait(&world, 3, "a"), "e-2", at(100)))
            .await,
        "e-2",
    );
    assert_duplicate(
        &world
            .refuse(foreign(owner.wait(&world, 3, "a"), "e-1", at(100)))
            .await,
        "e-1",
    );
    world.apply(owner.duplicate(&world, 3, "a", "e-2")).await;
    let all = world
        .store
        .parked(&ParkedFilter::default(), 10)
        .await
        .expect("parked messages are listed");
    assert_eq!(all.len(), 1);
}
