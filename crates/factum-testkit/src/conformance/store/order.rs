//! Which answer is given where several conditions fail: the caller acts on it, so it matters.

use bytes::Bytes;
use factum_core::{
    CommandInput, Commit, CommitError, Condition, ExpectedVersion, Fence, Input, OwnerEpoch,
    Position, Version,
};

use super::{
    StoreHarness,
    owner::Owner,
    world::{World, at, stream},
};
use ExpectedVersion::{Exact, NoStream};

/// A commit that was refused, to be stood on.
async fn failed(world: &World) -> factum_core::CommitId {
    let commit = world.appending("order/1", Exact(Version(99)), 1);
    let id = commit.id;
    world.refuse(commit).await;
    id
}

fn conflicting(commit: Commit) -> Commit {
    let condition = Condition::Stream {
        stream: stream("order/1"),
        expected: NoStream,
    };
    Commit {
        conditions: vec![condition],
        ..commit
    }
}

/// An owner that lost its role must find out, whatever else is wrong.
pub async fn the_fence_is_compared_before_all_else(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 1).await;
    let mut owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    owner.fence = Fence {
        owner: OwnerEpoch(owner.fence.owner.0 + 1),
        ..owner.fence
    };
    let commit = Commit {
        stands_on: vec![failed(&world).await],
        ..conflicting(owner.apply(&world, 1, "a"))
    };
    assert!(matches!(
        world.refuse(commit).await,
        CommitError::Fenced { .. }
    ));
    let retry = conflicting(owner.retried(&world, 0, 77, factum_core::Retried::Settled));
    assert!(matches!(
        world.refuse(retry).await,
        CommitError::Fenced { .. }
    ));
    let gone = owner.retried(&world, 5, 1, factum_core::Retried::Settled);
    assert!(matches!(
        world.refuse(gone).await,
        CommitError::Fenced { .. }
    ));
}

/// What was decided on events that never happened is decided again, and not told what its input met.
pub async fn what_is_stood_on_is_compared_before_the_input(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 1).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    let commit = Commit {
        stands_on: vec![failed(&world).await],
        ..conflicting(owner.apply(&world, 1, "a"))
    };
    assert!(matches!(
        world.refuse(commit).await,
        CommitError::StoodOnFailed(_)
    ));
}

/// A message whose lane is parked must wait, whatever its handler made of a stale state.
pub async fn the_input_is_compared_before_versions_and_versions_before_rows(
    harness: &dyn StoreHarness,
) {
    let world = World::create(harness).await;
    let view = world.view().await;
    world.fill("order/1", 1).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    let commit = conflicting(owner.apply(&world, 1, "a"));
    assert!(matches!(
        world.refuse(commit).await,
        CommitError::LaneParked
    ));
    let command = |request| {
        let (scope, key, answer) = ("s".to_string(), "k".to_string(), Bytes::new());
        let input = Input::Command(CommandInput {
            scope,
            key,
            request,
            answer,
            expires: at(10),
        });
        Commit {
            input,
            ..world.commit()
        }
    };
    world.apply(command(1)).await;
    assert!(matches!(
        world.refuse(conflicting(command(1))).await,
        CommitError::Answered(_)
    ));
    assert!(matches!(
        world.refuse(conflicting(command(2))).await,
        CommitError::KeyReused { .. }
    ));
    if let Some(view) = view {
        let mut commit = conflicting(world.commit());
        commit.conditions.insert(
            0,
            Condition::Row {
                view,
                id: "1".into(),
                version: Some(Position(1)),
            },
        );
        assert!(matches!(
            world.refuse(commit).await,
            CommitError::Conflict { .. }
        ));
    }
}
