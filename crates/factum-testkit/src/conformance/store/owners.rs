//! Ownership: claims raise a fence and read a row in one step, and only the last owner's commits count.

use std::collections::BTreeSet;

use bytes::Bytes;
use factum_core::{
    At, Begin, Commit, CommitError, ErrorClass, Fence, Input, LogInput, Position, ProjectionName,
    RelayInput, Retried, Start, TimerInput, TimerWrite, Topic,
};
use futures_util::future::join_all;

use super::{
    StoreHarness,
    owner::{Owner, delivered_up_to, failure, inbox},
    world::{TOPIC, World, at},
};

async fn assert_fenced(world: &World, what: &str, commit: Commit, stored: Option<Fence>) {
    let commit = Commit {
        appends: vec![world.append("order/9", factum_core::ExpectedVersion::Any, 1)],
        ..commit
    };
    let error = world.refuse(commit).await;
    assert_eq!(error.class(), ErrorClass::Fenced, "{what}: {error}");
    let CommitError::Fenced { stored: actual, .. } = error else {
        panic!("{what}: {error}")
    };
    if let Some(stored) = stored {
        assert_eq!(actual, stored, "{what} is told who owns it now");
    }
    assert_eq!(world.version("order/9").await.0, 0, "{what} has written");
}

/// An owner that lost its partition can neither handle, park, move on nor release.
pub async fn an_inbox_belongs_to_its_last_owner(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let old = Owner::of_payment(&world).await;
    world.apply(old.apply(&world, 0, "a")).await;
    let new = Owner::of_payment(&world).await;
    assert_ne!(old.fence, new.fence);
    let mut release = old.void_input(delivered_up_to(5));
    release.release = true;
    for (what, commit) in [
        ("apply", old.apply(&world, 1, "a")),
        ("skip", old.skip(&world, 1, "a")),
        ("park", old.park(&world, 1, "a")),
        ("wait", old.wait(&world, 1, "a")),
        ("duplicate", old.duplicate(&world, 1, "a", "e-1")),
        ("void", old.void(&world, delivered_up_to(5))),
        (
            "release",
            Commit {
                input: Input::Void(release),
                ..world.commit()
            },
        ),
    ] {
        assert_fenced(&world, what, commit, Some(new.fence)).await;
    }
    let row = new.row(&world).await;
    assert_eq!((row.low, row.fence, row.clean), (1, new.fence, false));
    world.apply(new.apply(&world, 1, "a")).await;
    // A claim of another inbox is no claim of this one.
    Owner::claim(&world, inbox("payment", 1)).await;
    Owner::claim(&world, inbox("stock", 0)).await;
    world.apply(new.apply(&world, 2, "a")).await;
    let world = world.reopen(harness).await;
    assert_fenced(
        &world,
        "apply after a restart",
        old.apply(&world, 3, "a"),
        Some(new.fence),
    )
    .await;
    world.apply(new.apply(&world, 3, "a")).await;
}

/// No fence is valid before the first claim: neither none at all nor a guessed one.
pub async fn an_inbox_that_nobody_claimed_takes_no_commits(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let epoch = world.store.identity().epoch;
    for fence in [
        Fence::default(),
        Fence {
            store: epoch,
            ..Fence::default()
        },
    ] {
        let stranger = Owner {
            inbox: inbox("payment", 0),
            fence,
        };
        assert_fenced(&world, "apply", stranger.apply(&world, 0, "a"), None).await;
        assert_fenced(
            &world,
            "retry",
            stranger.retried(&world, 0, 1, Retried::Settled),
            None,
        )
        .await;
    }
    assert_eq!(
        world
            .store
            .inbox(&inbox("payment", 0))
            .await
            .expect("a row reads"),
        None
    );
}

/// A retry is an act of the partition's owner, or an old one's effect would come after a new one's.
pub async fn parked_messages_belong_to_the_owner_of_their_inbox(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let old = Owner::of_payment(&world).await;
    world.apply(old.park(&world, 0, "a")).await;
    let new = Owner::of_payment(&world).await;
    let later = Retried::Later {
        due: at(99),
        failure: failure("again"),
    };
    for (what, outcome) in [
        ("settle", Retried::Settled),
        ("later", later),
        ("dead", Retried::Dead(failure("again"))),
    ] {
        assert_fenced(
            &world,
            what,
            old.retried(&world, 0, 1, outcome),
            Some(new.fence),
        )
        .await;
    }
    assert_eq!(new.one(&world, 0).await.tries, 1);
    world
        .apply(new.retried(&world, 0, 1, Retried::Settled))
        .await;
    assert_eq!(new.state(&world, 0).await, None);
}

fn relayed(world: &World, fence: Fence, position: u64, lasts: &[(u32, u64)]) -> Commit {
    let epoch = world.store.identity().epoch;
    let place = |position| At {
        epoch,
        position: Position(position),
    };
    let lasts = lasts
        .iter()
        .map(|(partition, position)| (Topic::of(TOPIC), *partition, place(*position)));
    let input = RelayInput {
        fence,
        checkpoint: place(position),
        lasts: lasts.collect(),
        rewind: false,
    };
    Commit {
        input: Input::Relay(input),
        ..world.commit()
    }
}

/// Only one relay moves the checkpoint.
pub async fn the_relay_belongs_to_its_last_owner(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 5).await;
    assert_fenced(
        &world,
        "a relay before its claim",
        relayed(&world, Fence::default(), 1, &[]),
        None,
    )
    .await;
    let old = world
        .store
        .claim_relay()
        .await
        .expect("the relay is claimed");
    assert_eq!((old.checkpoint, &old.lasts[..]), (At::ZERO, &[][..]));
    world.apply(relayed(&world, old.fence, 2, &[(1, 2)])).await;
    let new = world
        .store
        .claim_relay()
        .await
        .expect("the relay is claimed");
    assert_eq!(
        new.checkpoint.position,
        Position(2),
        "raised and read in one step"
    );
    assert_ne!(old.fence, new.fence);
    assert_fenced(
        &world,
        "the old relay",
        relayed(&world, old.fence, 3, &[(1, 3)]),
        Some(new.fence),
    )
    .await;
    world.apply(relayed(&world, new.fence, 4, &[(3, 4)])).await;
    let world = world.reopen(harness).await;
    let relay = world.store.relay().await.expect("the relay's row reads");
    assert_eq!(
        (relay.fence, relay.checkpoint.position),
        (new.fence, Position(4))
    );
    let epoch = world.store.identity().epoch;
    let mut lasts = relay.lasts;
    lasts.sort();
    let place = |position| At {
        epoch,
        position: Position(position),
    };
    assert_eq!(
        lasts,
        [
            (Topic::of(TOPIC), 1, place(2)),
            (Topic::of(TOPIC), 3, place(4))
        ],
        "only what changed is given"
    );
}

/// A late acknowledgement may come after a later one.
pub async fn the_relays_checkpoint_never_goes_back(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 5).await;
    let fence = world
        .store
        .claim_relay()
        .await
        .expect("the relay is claimed")
        .fence;
    world.apply(relayed(&world, fence, 4, &[(0, 4)])).await;
    world.apply(relayed(&world, fence, 2, &[(0, 2)])).await;
    let relay = world.store.relay().await.expect("the relay's row reads");
    assert_eq!(relay.checkpoint.position, Position(4));
    assert_eq!(
        relay.lasts[0].2.position,
        Position(4),
        "the last places are as of the checkpoint"
    );
    world.apply(relayed(&world, fence, 5, &[(0, 5)])).await;
    let relay = world.store.relay().await.expect("the relay's row reads");
    assert_eq!(
        (relay.checkpoint.position, relay.lasts[0].2.position),
        (Position(5), Position(5))
    );
}

/// An operator who sets the relay back has everything behind that place published again.
pub async fn a_rewind_sets_the_relays_checkpoint_back(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 5).await;
    let relay = world.store.claim_relay().await;
    let fence = relay.expect("the relay is claimed").fence;
    world
        .apply(relayed(&world, fence, 4, &[(0, 4), (1, 3)]))
        .await;
    let mut rewind = relayed(&world, fence, 2, &[(0, 2), (1, 0)]);
    if let Input::Relay(input) = &mut rewind.input {
        input.rewind = true;
    }
    world.apply(rewind).await;
    let world = world.reopen(harness).await;
    let relay = world.store.relay().await.expect("the relay's row reads");
    assert_eq!(relay.checkpoint.position, Position(2));
    let last = |partition| {
        let lasts = relay.lasts.iter();
        let mut its = lasts.filter(|(_, its, _)| *its == partition);
        its.next().map_or(Position(0), |(_, _, at)| at.position)
    };
    assert_eq!((last(0), last(1)), (Position(2), Position(0)));
}

fn projected(world: &World, generation: u32, fence: Fence, from: At, to: u64) -> Commit {
    let to = At {
        epoch: world.store.identity().epoch,
        position: Position(to),
    };
    let projection = ProjectionName::of("orders");
    Commit {
        input: Input::Log(LogInput {
            projection,
            generation,
            fence,
            from,
            to,
        }),
        ..world.commit()
    }
}

/// Each generation of a projection has an owner of its own.
pub async fn a_projection_belongs_to_its_last_owner(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 5).await;
    let name = ProjectionName::of("orders");
    let claim = async |generation| {
        world
            .store
            .claim_projection(&name, generation, "f")
            .await
            .expect("a projection is claimed")
    };
    let unclaimed = Fence {
        store: world.store.identity().epoch,
        ..Fence::default()
    };
    assert_fenced(
        &world,
        "an unclaimed projection",
        projected(&world, 1, unclaimed, At::ZERO, 1),
        None,
    )
    .await;
    let old = claim(1).await;
    assert_eq!(old.checkpoint, At::ZERO);
    let first = world
        .apply(projected(&world, 1, old.fence, At::ZERO, 2))
        .await;
    assert_eq!(first.first, None);
    let new = claim(1).await;
    assert_eq!(
        new.checkpoint.position,
        Position(2),
        "raised and read in one step"
    );
    let late = projected(&world, 1, old.fence, new.checkpoint, 3);
    assert_fenced(&world, "the old projection", late, Some(new.fence)).await;
    let other = claim(2).await;
    assert_eq!(other.checkpoint, At::ZERO, "a new generation starts anew");
    world
        .apply(projected(&world, 1, new.fence, new.checkpoint, 3))
        .await;
    world
        .apply(projected(&world, 2, other.fence, At::ZERO, 1))
        .await;
    let mut states = world
        .store
        .projections()
        .await
        .expect("projections are listed");
    states.sort_by_key(|state| state.generation);
    let states: Vec<_> = states
        .iter()
        .map(|state| (state.generation, state.checkpoint.position.0))
        .collect();
    assert_eq!(states, [(1, 3), (2, 1)]);
    world
        .store
        .forget_projection(&name, 1)
        .await
        .expect("a generation is forgotten");
    let states = world
        .store
        .projections()
        .await
        .expect("projections are listed");
    assert_eq!(
        states
            .iter()
            .map(|state| state.generation)
            .collect::<Vec<_>>(),
        [2]
    );
    assert_eq!(states[0].fingerprint, "f");
}

/// So that whoever drops its rows can first say, in one step, that nobody must take it for theirs any more.
pub async fn a_generation_that_is_claimed_for_other_rows_starts_over(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 9).await;
    let name = ProjectionName::of("orders");
    let claim = async |world: &World, fingerprint| {
        let claim = world.store.claim_projection(&name, 1, fingerprint).await;
        claim.expect("a projection is claimed")
    };
    let fence = claim(&world, "f").await.fence;
    world.apply(projected(&world, 1, fence, At::ZERO, 4)).await;
    assert_eq!(claim(&world, "f").await.checkpoint.position, Position(4));
    assert_eq!(claim(&world, "g").await.checkpoint, At::ZERO);
    let world = world.reopen(harness).await;
    let states = world.store.projections().await;
    let states = states.expect("projections are listed");
    assert_eq!(
        (&*states[0].fingerprint, states[0].checkpoint),
        ("g", At::ZERO)
    );
    assert_eq!(claim(&world, "f").await.checkpoint, At::ZERO);
}

/// What was read from another place than where the rows stand would leave a gap, or be done twice.
pub async fn a_projection_goes_on_from_its_checkpoint_only(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 9).await;
    let name = ProjectionName::of("orders");
    let fence = world
        .store
        .claim_projection(&name, 1, "f")
        .await
        .expect("a projection is claimed")
        .fence;
    world.apply(projected(&world, 1, fence, At::ZERO, 4)).await;
    let epoch = world.store.identity().epoch;
    for from in [
        At::ZERO,
        At {
            epoch,
            position: Position(3),
        },
        At {
            epoch,
            position: Position(5),
        },
    ] {
        let error = world.refuse(projected(&world, 1, fence, from, 6)).await;
        assert!(
            matches!(&error, CommitError::CheckpointMoved { actual, .. } if actual.position == Position(4)),
            "from {from}: {error}"
        );
        assert_eq!(error.class(), ErrorClass::Conflict);
    }
    world
        .apply(projected(
            &world,
            1,
            fence,
            At {
                epoch,
                position: Position(4),
            },
            9,
        ))
        .await;
}

/// Only one process fires timers.
pub async fn timers_belong_to_their_last_owner(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
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
    let fired = |fence| Commit {
        input: Input::Timer(TimerInput {
            fence,
            id: "t".into(),
            generation,
        }),
        ..world.commit()
    };
    assert_fenced(
        &world,
        "timers before a claim",
        fired(Fence::default()),
        None,
    )
    .await;
    let old = world
        .store
        .claim_timers()
        .await
        .expect("timers are claimed");
    let new = world
        .store
        .claim_timers()
        .await
        .expect("timers are claimed");
    assert_fenced(&world, "the old owner", fired(old), Some(new)).await;
    world.apply(fired(new)).await;
}

/// Claims that race are one after another, and the last is the owner.
pub async fn of_many_claims_each_has_its_own_fence_and_one_is_valid(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let claims = (0..16).map(|_| {
        let store = world.store.clone();
        tokio::spawn(async move {
            let inbox = store
                .claim_inbox(&inbox("payment", 0), &Begin::at(Start::Beginning, 0))
                .await;
            let relay = store.claim_relay().await;
            (
                inbox.expect("an inbox is claimed").fence,
                relay.expect("the relay is claimed").fence,
            )
        })
    });
    let claims: Vec<_> = join_all(claims)
        .await
        .into_iter()
        .map(|claim| claim.expect("no claim panics"))
        .collect();
    let fences: BTreeSet<_> = claims.iter().map(|(inbox, _)| *inbox).collect();
    assert_eq!(fences.len(), 16, "{fences:?}");
    assert_eq!(
        claims
            .iter()
            .map(|(_, relay)| relay)
            .collect::<BTreeSet<_>>()
            .len(),
        16
    );
    let mut valid = 0;
    for fence in fences {
        let owner = Owner {
            inbox: inbox("payment", 0),
            fence,
        };
        match world
            .store
            .commit(owner.void(&world, delivered_up_to(0)))
            .await
        {
            Ok(_) => valid += 1,
            Err(error) => assert!(matches!(error, CommitError::Fenced { .. }), "{error}"),
        }
    }
    assert_eq!(valid, 1);
}
