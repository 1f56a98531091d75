//! Parking: the transitions of the protocol, each with exactly its conditions and effects.

use bytes::Bytes;
use factum_core::{
    Commit, CommitError, Disposition, ErrorClass, ExpectedVersion, Headers, Input, Key, Lane,
    Parked, ParkedFilter, ParkedState, Retried, Room, TypeName, Version,
};

use super::{
    StoreHarness,
    owner::{Owner, failure, inbox, lane},
    world::{World, at},
};
use ParkedState::{Dead, Retrying, Waiting};

async fn find(world: &World, filter: &ParkedFilter, limit: usize) -> Vec<Parked> {
    world
        .store
        .parked(filter, limit)
        .await
        .expect("parked messages are listed")
}

async fn offsets(world: &World, filter: &ParkedFilter, limit: usize) -> Vec<u64> {
    find(world, filter, limit)
        .await
        .iter()
        .map(|parked| parked.id.offset)
        .collect()
}

/// "Lane not parked" is a condition of every live commit, in each of the three states.
pub async fn a_parked_lane_stops_its_messages_and_no_others(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    world.apply(owner.bury(&world, 1, "b")).await;
    let refused = async |world: &World, offset, key| {
        for commit in [
            owner.apply(world, offset, key),
            owner.skip(world, offset, key),
            owner.park(world, offset, key),
            owner.bury(world, offset, key),
        ] {
            let effect = world.append("order/1", ExpectedVersion::Any, 1);
            let error = world
                .refuse(Commit {
                    appends: vec![effect],
                    ..commit
                })
                .await;
            assert!(
                matches!(error, CommitError::LaneParked),
                "key {key}: {error}"
            );
            assert_eq!(error.class(), ErrorClass::Conflict);
        }
        assert_eq!(world.version("order/1").await, Version(0));
    };
    refused(&world, 2, "a").await;
    refused(&world, 2, "b").await;
    world.apply(owner.apply(&world, 2, "c")).await;
    world.apply(owner.skip(&world, 3, "A")).await;
    world.apply(owner.wait(&world, 4, "a")).await;
    refused(&world, 5, "a").await;
    let row = owner.row(&world).await;
    assert_eq!(row.low, 5, "a parked message is finished for the inbox");
    assert_eq!(owner.state(&world, 0).await, Some((Retrying, 1)));
    assert_eq!(owner.state(&world, 1).await, Some((Dead, 1)));
    assert_eq!(owner.state(&world, 4).await, Some((Waiting, 1)));
    let world = world.reopen(harness).await;
    refused(&world, 5, "a").await;
    refused(&world, 5, "b").await;
}

/// Told "parked" before, the message finds its lane free: it must run, since nobody would release it.
pub async fn nothing_waits_behind_a_lane_that_is_free(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    world.apply(owner.park(&world, 0, "a")).await;
    let error = world.refuse(owner.wait(&world, 1, "b")).await;
    assert!(matches!(error, CommitError::LaneFree), "{error}");
    world
        .apply(owner.retried(&world, 0, 1, Retried::Settled))
        .await;
    let error = world.refuse(owner.wait(&world, 1, "a")).await;
    assert!(matches!(error, CommitError::LaneFree), "{error}");
    assert_eq!(error.class(), ErrorClass::Conflict);
    assert_eq!(
        (owner.row(&world).await.low, owner.state(&world, 1).await),
        (1, None)
    );
    world.apply(owner.apply(&world, 1, "a")).await;
}

/// Every byte and every field of a parked message is kept.
pub async fn a_parked_message_comes_back_as_it_was_parked(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let key = Key::from(vec![0xff, 0, b'\'']);
    let headers: Headers = [("a", &b"1"[..]), ("", b""), ("a", b"\xff\0")]
        .into_iter()
        .map(|(name, value)| (name, Bytes::copy_from_slice(value)))
        .collect();
    let plain = owner.parked(0, Lane::Key(key.clone()), Retrying);
    let full = Parked {
        event_id: Some("ORDER-1".into()),
        event_type: Some(TypeName::new("주문생성", 3)),
        correlation_id: Some("01920000-0000-7000-8000-00000000000a".into()),
        tries: 7,
        redrives: 2,
        discarded_at: None,
        revision: 1,
        parked_at: at(-1),
        ..plain.clone()
    };
    let full = Parked {
        message: factum_core::Message {
            headers,
            value: Some(vec![0, 0xfe].into()),
            ..plain.message
        },
        ..full
    };
    let bare = owner.parked(1, Lane::Alone(1), Dead);
    let bare = Parked {
        message: factum_core::Message {
            value: None,
            timestamp: at(-100),
            ..bare.message
        },
        failure: bare.failure.map(|failure| factum_core::FailureNote {
            handler: None,
            ..failure
        }),
        ..bare
    };
    let waiting = owner.parked(2, Lane::Key(key), Waiting);
    for parked in [&full, &bare, &waiting] {
        let disposition = match parked.state {
            Waiting => Disposition::Wait(Box::new(parked.clone()), Room::default()),
            _ => Disposition::Park(Box::new(parked.clone()), Room::default()),
        };
        let input = owner.input(parked.id.offset, parked.lane.clone(), disposition);
        world
            .apply(Commit {
                input: Input::Message(input),
                ..world.commit()
            })
            .await;
    }
    let world = world.reopen(harness).await;
    let found = find(&world, &ParkedFilter::default(), 10).await;
    assert_eq!(found, [full.clone(), bare, waiting]);
    assert_eq!(owner.one(&world, 0).await, full);
}

/// Without a key there is no order to keep.
pub async fn a_message_without_a_key_is_a_lane_of_its_own(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let alone = |offset, disposition| {
        let input = owner.input(offset, Lane::Alone(offset), disposition);
        Commit {
            input: Input::Message(input),
            ..world.commit()
        }
    };
    let parked = |offset| owner.parked(offset, Lane::Alone(offset), Retrying);
    for offset in 0..3 {
        world
            .apply(alone(
                offset,
                Disposition::Park(Box::new(parked(offset)), Room::default()),
            ))
            .await;
    }
    world.apply(alone(3, Disposition::Apply)).await;
    // A key that looks like an offset, or is empty, is another lane.
    world.apply(owner.apply(&world, 4, "0")).await;
    world.apply(owner.apply(&world, 5, "")).await;
    world
        .apply(owner.retried(&world, 1, 1, Retried::Settled))
        .await;
    assert_eq!(offsets(&world, &ParkedFilter::default(), 10).await, [0, 2]);
    // Nothing else can come in these lanes, and they take no room from those with a key, however few are asked for.
    world.apply(owner.park(&world, 7, "k")).await;
    let lanes = world
        .store
        .parked_lanes(&owner.inbox, 1)
        .await
        .expect("lanes are listed");
    assert_eq!(lanes, [lane("k")]);
    let error = world
        .refuse(alone(
            6,
            Disposition::Wait(
                Box::new(owner.parked(6, Lane::Alone(6), Waiting)),
                Room::default(),
            ),
        ))
        .await;
    assert!(matches!(error, CommitError::LaneFree), "{error}");
}

/// The lane has the group, the topic and the partition in it.
pub async fn lanes_of_other_groups_and_partitions_are_other_lanes(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let payment = Owner::of_payment(&world).await;
    let other_group = Owner::claim(&world, inbox("payment2", 0)).await;
    let other_partition = Owner::claim(&world, inbox("payment", 1)).await;
    let mut other_topic = inbox("payment", 0);
    other_topic.topic = factum_core::Topic::of("orders2");
    let other_topic = Owner::claim(&world, other_topic).await;
    world.apply(payment.park(&world, 0, "a")).await;
    for other in [&other_group, &other_partition, &other_topic] {
        world.apply(other.apply(&world, 0, "a")).await;
        let error = world.refuse(other.wait(&world, 1, "a")).await;
        assert!(
            matches!(error, CommitError::LaneFree),
            "{}: {error}",
            other.inbox
        );
        world.apply(other.park(&world, 1, "a")).await;
        world
            .apply(other.retried(&world, 1, 1, Retried::Settled))
            .await;
        assert_eq!(
            payment.state(&world, 0).await,
            Some((Retrying, 1)),
            "{}",
            other.inbox
        );
        assert_eq!(other.row(&world).await.low, 2);
    }
    assert_eq!(payment.row(&world).await.low, 1);
}

/// At the bound the lane stays as it is; settling and discarding make room.
pub async fn parking_is_bounded_per_lane_and_per_group(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let other = Owner::claim(&world, inbox("payment", 1)).await;
    let stranger = Owner::claim(&world, inbox("stock", 0)).await;
    let with_room = |mut commit: Commit, lane_max, group_max| {
        if let Input::Message(input) = &mut commit.input
            && let Disposition::Park(_, room) | Disposition::Wait(_, room) = &mut input.disposition
        {
            *room = Room {
                lane_max,
                group_max,
            };
        }
        commit
    };
    let assert_full = async |commit, lane, bound| {
        let error = world.refuse(commit).await;
        let CommitError::NoRoom {
            lane: of_lane,
            bound: actual,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((of_lane, actual), (lane, bound));
        assert_eq!(error.class(), ErrorClass::Conflict);
    };
    assert_full(with_room(owner.park(&world, 0, "a"), 5, 0), false, 0).await;
    world
        .apply(with_room(owner.park(&world, 0, "a"), 2, 3))
        .await;
    world
        .apply(with_room(owner.wait(&world, 1, "a"), 2, 3))
        .await;
    assert_full(with_room(owner.wait(&world, 2, "a"), 2, 9), true, 2).await;
    world
        .apply(with_room(other.park(&world, 0, "a"), 2, 3))
        .await;
    assert_full(with_room(owner.park(&world, 2, "b"), 2, 3), false, 3).await;
    assert_full(with_room(other.wait(&world, 1, "a"), 2, 3), false, 3).await;
    world
        .apply(with_room(stranger.park(&world, 0, "a"), 1, 1))
        .await;
    assert_eq!(
        (owner.row(&world).await.low, owner.state(&world, 2).await),
        (2, None),
        "a full lane changes nothing"
    );
    world
        .apply(owner.retried(&world, 0, 1, Retried::Settled))
        .await;
    world
        .apply(with_room(owner.wait(&world, 2, "a"), 2, 3))
        .await;
    let discard = other.operate(&world, 0, 1, factum_core::OperatorAction::Discard);
    world.apply(discard).await;
    world
        .apply(with_room(other.park(&world, 1, "a"), 1, 3))
        .await;
    let world = world.reopen(harness).await;
    let error = world
        .refuse(with_room(owner.park(&world, 3, "c"), 2, 3))
        .await;
    assert!(
        matches!(
            error,
            CommitError::NoRoom {
                lane: false,
                bound: 3
            }
        ),
        "after a restart: {error}"
    );
}

/// Operators and owners look for them in many ways, page by page, in the order of their ids.
pub async fn parked_messages_are_found_by_all_that_is_asked_for(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let other = Owner::claim(&world, inbox("payment", 1)).await;
    let stranger = Owner::claim(&world, inbox("stock", 0)).await;
    for offset in 0..12 {
        let commit = match offset {
            1 | 3 | 11 => owner.park(&world, offset, &offset.to_string()),
            2 => owner.bury(&world, offset, "2"),
            4 | 10 => owner.wait(&world, offset, "3"),
            _ => owner.apply(&world, offset, "free"),
        };
        world.apply(commit).await;
    }
    world.apply(other.bury(&world, 0, "3")).await;
    world.apply(stranger.park(&world, 0, "3")).await;
    let later = Retried::Later {
        due: at(500),
        failure: failure("gateway up"),
    };
    world.apply(owner.retried(&world, 1, 1, later)).await;

    let all = ParkedFilter::default();
    let of_inbox = ParkedFilter {
        inbox: Some(owner.inbox.clone()),
        ..all.clone()
    };
    let mut expected: Vec<_> = find(&world, &all, 100)
        .await
        .into_iter()
        .map(|parked| parked.id)
        .collect();
    assert_eq!(expected.len(), 8);
    expected.sort();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = find(
            &world,
            &ParkedFilter {
                after: after.clone(),
                ..all.clone()
            },
            3,
        )
        .await;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        found.extend(page.into_iter().map(|parked| parked.id));
        assert!(
            found.len() <= expected.len(),
            "the pages never end: {after:?} comes again"
        );
    }
    assert_eq!(found, expected);
    let ask = async |change: fn(&mut ParkedFilter)| {
        let mut filter = of_inbox.clone();
        change(&mut filter);
        offsets(&world, &filter, 100).await
    };
    assert_eq!(
        ask(|_| {}).await,
        [1, 2, 3, 4, 10, 11],
        "by number, not by text"
    );
    assert_eq!(
        ask(|filter| filter.state = Some(Retrying)).await,
        [1, 3, 11]
    );
    assert_eq!(ask(|filter| filter.state = Some(Waiting)).await, [4, 10]);
    assert_eq!(
        ask(|filter| filter.lane = Some(lane("3"))).await,
        [3, 4, 10]
    );
    assert_eq!(ask(|filter| filter.due = Some(at(10))).await, [3, 11]);
    assert_eq!(ask(|filter| filter.due = Some(at(9))).await, [0_u64; 0]);
    assert_eq!(ask(|filter| filter.due = Some(at(500))).await, [1, 3, 11]);
    assert_eq!(
        ask(|filter| filter.cause = Some("cause of gateway up".into())).await,
        [1]
    );
    let group = ParkedFilter {
        group: Some(owner.inbox.group.clone()),
        ..all.clone()
    };
    assert_eq!(find(&world, &group, 100).await.len(), 7);
    assert_eq!(
        world
            .store
            .next_retry(&owner.inbox)
            .await
            .expect("the next retry reads"),
        Some(at(10))
    );
    assert_eq!(
        world
            .store
            .next_retry(&other.inbox)
            .await
            .expect("the next retry reads"),
        None
    );
    assert_eq!(
        world
            .store
            .next_retry(&inbox("nobody", 0))
            .await
            .expect("the next retry reads"),
        None
    );
    let mut lanes = world
        .store
        .parked_lanes(&owner.inbox, 100)
        .await
        .expect("lanes are listed");
    lanes.sort();
    assert_eq!(lanes, ["1", "11", "2", "3"].map(lane));
    assert_eq!(
        world
            .store
            .parked_lanes(&owner.inbox, 2)
            .await
            .expect("lanes are listed")
            .len(),
        2
    );

    let counts = world
        .store
        .parked_counts()
        .await
        .expect("parked messages are counted");
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|count| {
            (
                count.group.to_string(),
                count.state,
                count.cause,
                count.count,
            )
        })
        .collect();
    counts.sort();
    let down = || Some("cause of gateway down".to_string());
    let count = |group: &str, state, cause, count| (group.to_string(), state, cause, count);
    let expected = [
        count("payment", Retrying, down(), 2),
        count("payment", Retrying, Some("cause of gateway up".into()), 1),
        count("payment", Dead, down(), 2),
        count("payment", Waiting, None, 2),
        count("stock", Retrying, down(), 1),
    ];
    assert_eq!(counts, expected);
}

/// A page of large messages once had as many of them as one of small ones: a hundred megabytes for an owner alone.
pub async fn a_page_of_parked_messages_ends_when_it_has_enough_bytes(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    for offset in 0..14 {
        let lane = Lane::Alone(offset);
        let mut parked = owner.parked(offset, lane.clone(), Retrying);
        parked.message.value = Some(vec![b'x'; 700_000].into());
        let park = Disposition::Park(Box::new(parked), Room::default());
        let input = Input::Message(owner.input(offset, lane, park));
        world
            .apply(Commit {
                input,
                ..world.commit()
            })
            .await;
    }
    for (limit, expected) in [
        (100, vec![0..12, 12..14]),
        (12, vec![0..12, 12..14]),
        (8, vec![0..8, 8..14]),
        (7, vec![0..7, 7..14, 14..14]),
    ] {
        let mut filter = Some(ParkedFilter {
            due: Some(at(10)),
            ..ParkedFilter::default()
        });
        let mut pages = Vec::new();
        while let Some(asked) = filter {
            let page = find(&world, &asked, limit).await;
            filter = asked.behind(&page, limit);
            pages.push(page.iter().map(|one| one.id.offset).collect::<Vec<_>>());
        }
        let expected: Vec<Vec<u64>> = expected.into_iter().map(Iterator::collect).collect();
        assert_eq!(pages, expected, "asked for {limit}");
    }
}
