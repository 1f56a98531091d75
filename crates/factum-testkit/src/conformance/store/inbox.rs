//! The inbox row: which messages of a partition are finished.

use factum_core::{
    At, Begin, Commit, CommitError, Disposition, InboxRow, Input, Link, Seen, Start, StoreId,
    Trying, Version, WINDOW_MAX,
};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{
    StoreHarness,
    owner::{Owner, delivered_up_to, inbox, lane, published},
    world::World,
};

fn finished(row: &InboxRow) -> (u64, Vec<u64>) {
    (row.low, row.done.iter().map(|bit| row.low + bit).collect())
}

/// Low is the first unfinished offset, and the bits above it say what else is finished, over a restart too.
pub async fn the_row_says_what_is_finished(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let mut expected = owner.row(&world).await;
    for (offset, low, done) in [
        (3, 0, vec![3]),
        (0, 1, vec![3]),
        (200, 1, vec![3, 200]),
        (64, 1, vec![3, 64, 200]),
        (2, 1, vec![2, 3, 64, 200]),
        (1, 4, vec![64, 200]),
    ] {
        let input = owner.input(offset, lane("a"), Disposition::Apply);
        let input = factum_core::MessageInput {
            advance: delivered_up_to(300),
            ..input
        };
        let committed = world
            .apply(Commit {
                input: Input::Message(input),
                ..world.commit()
            })
            .await;
        expected
            .apply(Some(offset), &delivered_up_to(300))
            .expect("the owner is right");
        let row = owner.row(&world).await;
        assert_eq!(finished(&row), (low, done), "after {offset}");
        assert_eq!(row, expected);
        assert_eq!(committed.inbox, Some(row));
    }
    let world = world.reopen(harness).await;
    assert_eq!(owner.row(&world).await, expected);
    let all = world.store.inboxes().await.expect("inboxes are listed");
    assert_eq!(all, [(owner.inbox.clone(), expected.clone())]);
    let claimed = Owner::of_payment(&world).await.row(&world).await;
    assert_eq!(
        InboxRow {
            fence: expected.fence,
            ..claimed
        },
        expected,
        "a claim changes the fence only"
    );
}

/// Each commit's row is computed from the row that the commit before it left, inside one transaction too.
pub async fn commits_given_together_do_not_erase_each_others_work(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    // An order that jumps about: 37 and 200 have no common divisor.
    let offsets: Vec<u64> = (0..200).map(|index| index * 37 % 200).collect();
    let commits: Vec<_> = offsets
        .iter()
        .map(|offset| {
            let mut commit = owner.apply(&world, *offset, &format!("key {offset}"));
            if let Input::Message(input) = &mut commit.input {
                input.advance = delivered_up_to(199);
            }
            commit
        })
        .collect();
    let results = join_all(commits.into_iter().map(|commit| world.store.commit(commit))).await;
    for (offset, result) in offsets.iter().zip(results) {
        let row = result
            .expect("the owner is right")
            .inbox
            .expect("it is of an inbox");
        assert!(
            row.is_done(*offset),
            "the answer is the row with {offset} in it"
        );
    }
    assert_eq!(finished(&owner.row(&world).await), (200, vec![]));

    // One whose condition fails leaves the row untouched, and its neighbours' work stands.
    let bad = |commit: Commit| Commit {
        appends: vec![world.append(
            "order/1",
            factum_core::ExpectedVersion::Exact(Version(9)),
            1,
        )],
        ..commit
    };
    let given = [200, 201, 202].map(|offset| {
        let commit = owner.apply(&world, offset, "a");
        let commit = if offset == 201 { bad(commit) } else { commit };
        world.store.commit(commit)
    });
    let results = join_all(given).await;
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(finished(&owner.row(&world).await), (201, vec![202]));
}

/// What no handler runs for is passed over, by a commit of the row alone if no other comes.
pub async fn void_messages_move_the_row_on(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let voids = [true, true, true, false, true, false, true];
    let seen: factum_core::Advance = (0..)
        .zip(voids)
        .map(|(offset, void)| Seen {
            from: offset,
            offset,
            void,
            link: None,
            timestamp: published(offset),
        })
        .collect();
    let committed = world.apply(owner.void(&world, seen.clone())).await;
    assert_eq!(committed.inbox.as_ref().map(finished), Some((3, vec![])));
    let mut commit = owner.apply(&world, 5, "a");
    if let Input::Message(input) = &mut commit.input {
        input.advance = seen.clone();
    }
    assert_eq!(
        world.apply(commit).await.inbox.as_ref().map(finished),
        Some((3, vec![5]))
    );
    let mut commit = owner.skip(&world, 3, "a");
    if let Input::Message(input) = &mut commit.input {
        input.advance = seen.clone();
    }
    assert_eq!(
        world.apply(commit).await.inbox.as_ref().map(finished),
        Some((7, vec![]))
    );
    // Seen again, it changes nothing.
    world.apply(owner.void(&world, seen)).await;
    assert_eq!(finished(&owner.row(&world).await), (7, vec![]));
}

/// The stored last place is that of low: what is finished above it is folded again after a restart.
pub async fn the_last_place_of_each_source_is_kept_as_of_low(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let (ours, theirs) = (
        StoreId(Uuid::from_u128(7)),
        StoreId(Uuid::from_u128(u128::MAX)),
    );
    let link = |source, position, previous| {
        let previous = if previous == 0 {
            At::ZERO
        } else {
            At::new(1, previous)
        };
        Some(Link {
            source,
            at: At::new(1, position),
            previous,
        })
    };
    let seen = |offset, link| Seen {
        from: offset,
        offset,
        void: false,
        link,
        timestamp: published(offset),
    };
    let advance: factum_core::Advance = [
        seen(0, link(ours, 1, 0)),
        seen(1, link(theirs, 5, 0)),
        seen(2, link(ours, 4, 1)),
        seen(3, None),
        seen(4, link(theirs, 9, 5)),
    ]
    .into();
    let apply = |offset| {
        let input = owner.input(offset, lane(&offset.to_string()), Disposition::Apply);
        let input = Input::Message(factum_core::MessageInput {
            advance: advance.clone(),
            ..input
        });
        Commit {
            input,
            ..world.commit()
        }
    };
    let lasts = async || {
        let row = owner.row(&world).await;
        (
            row.lasts.get(ours).position.0,
            row.lasts.get(theirs).position.0,
        )
    };
    world.apply(apply(4)).await;
    world.apply(apply(2)).await;
    assert_eq!(lasts().await, (0, 0));
    world.apply(apply(0)).await;
    assert_eq!(lasts().await, (1, 0));
    world.apply(apply(1)).await;
    assert_eq!(lasts().await, (4, 5));
    world.apply(apply(3)).await;
    assert_eq!(lasts().await, (4, 9));
    let row = owner.row(&world).await;
    let world = world.reopen(harness).await;
    assert_eq!(owner.row(&world).await, row);
}

/// A new owner knows whether the one before ended in good order.
pub async fn a_release_is_told_to_the_next_owner(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let inbox = inbox("payment", 0);
    let claim = async |world: &World| {
        world
            .store
            .claim_inbox(&inbox, &Begin::at(Start::Beginning, 0))
            .await
            .expect("an inbox is claimed")
    };
    assert!(
        claim(&world).await.clean,
        "nobody has left anything behind yet"
    );
    let row = claim(&world).await;
    assert!(!row.clean, "the owner before did not release it");
    let owner = Owner {
        inbox: inbox.clone(),
        fence: row.fence,
    };
    assert!(!owner.row(&world).await.clean, "it has an owner");
    let release = factum_core::VoidInput {
        release: true,
        ..owner.void_input(delivered_up_to(0))
    };
    let committed = world
        .apply(Commit {
            input: Input::Void(release),
            ..world.commit()
        })
        .await;
    assert!(committed.inbox.is_some_and(|row| row.clean));
    let world = world.reopen(harness).await;
    assert!(claim(&world).await.clean, "the owner before released it");
    assert!(!claim(&world).await.clean);
}

/// A message that kills the process is found by its mark.
pub async fn an_attempt_mark_is_kept_until_its_message_is_finished(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let mark = |trying| {
        let input = factum_core::VoidInput {
            trying,
            ..owner.void_input(delivered_up_to(0))
        };
        Commit {
            input: Input::Void(input),
            ..world.commit()
        }
    };
    let trying = Some(Trying {
        offset: 2,
        tries: 3,
    });
    let committed = world.apply(mark(Some(trying))).await;
    assert_eq!(committed.inbox.and_then(|row| row.trying), trying);
    world.apply(mark(None)).await;
    world.apply(owner.apply(&world, 0, "a")).await;
    assert_eq!(
        owner.row(&world).await.trying,
        trying,
        "others' commits leave it"
    );
    let world = world.reopen(harness).await;
    let row = world
        .store
        .claim_inbox(&owner.inbox, &Begin::at(Start::Beginning, 0))
        .await
        .expect("an inbox is claimed");
    assert_eq!(row.trying, trying, "after a restart");
    let owner = Owner {
        fence: row.fence,
        ..owner
    };
    world.apply(owner.apply(&world, 2, "a")).await;
    assert_eq!(
        owner.row(&world).await.trying,
        None,
        "its message is finished"
    );
    let other = Some(Trying {
        offset: 4,
        tries: u32::MAX,
    });
    let input = factum_core::VoidInput {
        trying: Some(other),
        ..owner.void_input(delivered_up_to(0))
    };
    world
        .apply(Commit {
            input: Input::Void(input.clone()),
            ..world.commit()
        })
        .await;
    assert_eq!(owner.row(&world).await.trying, other);
    let input = factum_core::VoidInput {
        trying: Some(None),
        ..input
    };
    world
        .apply(Commit {
            input: Input::Void(input),
            ..world.commit()
        })
        .await;
    assert_eq!(owner.row(&world).await.trying, None, "taken away");
}

/// An operator may accept that messages of a source are missing: its chain goes on behind a place, never before what
/// was taken already, and not as long as the group is at work on what comes before.
pub async fn an_accepted_loss_moves_a_sources_last_place_on_and_never_back(
    harness: &dyn StoreHarness,
) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let source = StoreId(Uuid::from_u128(7));
    let accept = |last, from| {
        let loss = factum_core::AcceptedLoss {
            source,
            last,
            from: At::new(1, from),
        };
        let input = factum_core::VoidInput {
            accept: Some(loss.into()),
            ..owner.void_input(delivered_up_to(0))
        };
        Commit {
            input: Input::Void(input),
            ..world.commit()
        }
    };
    let early = world.store.commit(accept(At::new(1, 3), 5)).await;
    assert_eq!(
        early.expect_err("it has not come to 1-3").class(),
        factum_core::ErrorClass::Conflict
    );
    let row = world.apply(accept(At::ZERO, 5)).await;
    let row = row.inbox.expect("the row is told");
    assert_eq!(row.lasts.get(source), At::new(1, 5));
    assert_eq!(row.low, 0, "nothing of the partition is finished by it");
    for position in [4, 5] {
        let refused = world
            .store
            .commit(accept(row.lasts.get(source), position))
            .await;
        assert_eq!(
            refused.expect_err("it goes back").class(),
            factum_core::ErrorClass::Poison
        );
    }
    assert_eq!(owner.row(&world).await, row);
    let world = world.reopen(harness).await;
    assert_eq!(owner.row(&world).await.lasts.get(source), At::new(1, 5));
}

/// An operator may let a group go on at a later offset, where the partition no longer has what comes before: what was
/// finished behind it stays finished, and it never goes back.
pub async fn a_group_goes_on_at_a_later_offset_and_never_back(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    for offset in [2, 7] {
        world.apply(owner.apply(&world, offset, "a")).await;
    }
    let go_on = |low, to| {
        let offsets = factum_core::PassedOffsets { low, to };
        let input = factum_core::VoidInput {
            accept: Some(factum_core::Loss::Passed(offsets)),
            ..owner.void_input([].into())
        };
        Commit {
            input: Input::Void(input),
            ..world.commit()
        }
    };
    let moved = world.store.commit(go_on(1, 6)).await;
    assert_eq!(
        moved.expect_err("it does not stand there").class(),
        factum_core::ErrorClass::Conflict
    );
    let row = world.apply(go_on(0, 6)).await;
    let row = row.inbox.expect("the row is told");
    assert_eq!((row.low, row.is_done(6), row.is_done(7)), (6, false, true));
    for to in [2, 6] {
        let refused = world.store.commit(go_on(row.low, to)).await;
        assert_eq!(
            refused.expect_err("it goes back").class(),
            factum_core::ErrorClass::Poison
        );
    }
    let world = world.reopen(harness).await;
    assert_eq!(owner.row(&world).await, row);
}

/// An owner with a wrong picture of its row is stopped before it does harm.
pub async fn finishing_twice_is_fatal_and_no_second_effect(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.apply(&world, 0, "a")).await;
    world.apply(owner.apply(&world, 2, "a")).await;
    for offset in [0, 2] {
        let commit = Commit {
            appends: vec![world.append("order/1", factum_core::ExpectedVersion::Any, 1)],
            ..owner.apply(&world, offset, "a")
        };
        let error = world.refuse(commit).await;
        assert!(
            matches!(&error, CommitError::Failed(error) if error.is_fatal()),
            "{offset}: {error}"
        );
        let error = world.refuse(owner.park(&world, offset, "a")).await;
        assert!(
            matches!(&error, CommitError::Failed(error) if error.is_fatal()),
            "{offset}: {error}"
        );
    }
    assert_eq!(world.version("order/1").await, Version(0));
    assert_eq!(owner.state(&world, 0).await, None);
    world.apply(owner.apply(&world, 1, "a")).await;
}

/// The row stays small.
pub async fn the_window_has_a_bound(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let beyond = |offset| {
        let input = owner.input(offset, lane("a"), Disposition::Apply);
        let input = Input::Message(factum_core::MessageInput {
            advance: delivered_up_to(0),
            ..input
        });
        Commit {
            input,
            ..world.commit()
        }
    };
    world.refuse(beyond(WINDOW_MAX)).await;
    world.apply(beyond(WINDOW_MAX - 1)).await;
    world.apply(owner.apply(&world, 0, "a")).await;
    world.apply(beyond(WINDOW_MAX)).await;
    let row = owner.row(&world).await;
    assert_eq!(finished(&row), (1, vec![WINDOW_MAX - 1, WINDOW_MAX]));
    let world = world.reopen(harness).await;
    assert_eq!(owner.row(&world).await, row);
}

/// The first claim says where the group starts, and later ones don't change it.
pub async fn a_group_starts_where_it_was_told(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let high = u64::MAX / 4;
    let source = |number| StoreId(Uuid::from_u128(number));
    let mut begin = Begin::at(Start::Anchor, high);
    begin.lasts.set(source(1), At::new(1, 7));
    begin.lasts.set(source(2), At::new(3, 9));
    let row = world
        .store
        .claim_inbox(&inbox("late", 3), &begin)
        .await
        .expect("an inbox is claimed");
    assert_eq!((row.start, row.low), (Start::Anchor, high));
    assert_eq!(row.lasts, begin.lasts);
    let mut other = Begin::at(Start::Beginning, 0);
    other.lasts.set(source(3), At::new(1, 1));
    let row = world
        .store
        .claim_inbox(&inbox("late", 3), &other)
        .await
        .expect("an inbox is claimed");
    assert_eq!((row.start, row.low), (Start::Anchor, high));
    assert_eq!(row.lasts, begin.lasts);
    let owner = Owner {
        inbox: inbox("late", 3),
        fence: row.fence,
    };
    let seen = Seen {
        from: high,
        offset: high,
        void: false,
        link: None,
        timestamp: published(high),
    };
    let input = owner.input(5, lane("a"), Disposition::Apply);
    let input = factum_core::MessageInput {
        offset: high,
        advance: [seen].into(),
        ..input
    };
    let committed = world
        .apply(Commit {
            input: Input::Message(input),
            ..world.commit()
        })
        .await;
    assert_eq!(
        committed.inbox.as_ref().map(finished),
        Some((high + 1, vec![]))
    );
    let world = world.reopen(harness).await;
    let row = owner.row(&world).await;
    assert_eq!((row.start, row.lasts), (Start::Anchor, begin.lasts));
}
