//! What is kept: over a restart, beside another process, and until it is pruned.

use bytes::Bytes;
use factum_core::{
    AuditEntry, CommandInput, Commit, CommitError, ExpectedVersion, Input, Prune, Retried,
    Snapshot, StoreIdentity, Timestamp, Version,
};

use super::{
    StoreHarness,
    owner::{Owner, foreign},
    world::{World, at, stream},
};
use ExpectedVersion::{Any, Exact};

/// What was answered is there after a restart, and everything goes on from there.
pub async fn a_restart_keeps_everything(harness: &dyn StoreHarness) {
    let mut world = World::create(harness).await;
    let view = world.view().await;
    let mut expected: Option<(StoreIdentity, String)> = None;
    for round in 0..4_u64 {
        let owner = Owner::of_payment(&world).await;
        let set = factum_core::TimerWrite::Set {
            id: format!("t{round}"),
            due: at(1),
            payload: Bytes::new(),
        };
        let commit = owner.apply(&world, 2 * round, "a");
        let views = view
            .iter()
            .map(|view| super::world::put(view, "row", round + 1))
            .collect();
        let appends = vec![world.append("order/1", Exact(Version(round)), 1)];
        world
            .apply(Commit {
                timers: vec![set],
                appends,
                views,
                ..commit
            })
            .await;
        world
            .apply(owner.bury(&world, 2 * round + 1, &format!("b{round}")))
            .await;
        let claim = world
            .store
            .claim_relay()
            .await
            .expect("the relay is claimed");
        let head = world.head().await;
        let relayed = factum_core::RelayInput {
            fence: claim.fence,
            checkpoint: head,
            lasts: vec![],
            rewind: false,
        };
        world
            .apply(Commit {
                input: Input::Relay(relayed),
                ..world.commit()
            })
            .await;
        let shown = show(&world).await;
        world = world.reopen(harness).await;
        assert_eq!(show(&world).await, shown, "round {round}");
        if let Some((identity, before)) = expected.replace((world.store.identity(), shown)) {
            assert_eq!(world.store.identity(), identity);
            assert_ne!(before, show(&world).await);
        }
        if let Some(view) = &view {
            assert_eq!(
                world.row(view, "row").await.map(|version| version.0),
                Some(round + 1)
            );
        }
    }
}

async fn show(world: &World) -> String {
    let store = &world.store;
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        world.log().await,
        store.inboxes().await.expect("inboxes are listed"),
        store
            .parked(&factum_core::ParkedFilter::default(), 100)
            .await
            .expect("parked messages are listed"),
        store.next_timers(100).await.expect("timers are listed"),
        store.relay().await.expect("the relay's row reads"),
        store
            .streams(None, None, 100)
            .await
            .expect("streams are listed"),
    )
}

/// Two processes over one store are two writers of one log.
pub async fn a_second_process_is_one_of_two_writers(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let Some(second) = world.second(harness).await else {
        assert!(
            !world.store.capabilities().shared,
            "a shared store is opened twice"
        );
        return;
    };
    world.fill("order/1", 1).await;
    second
        .apply(second.appending("order/1", Exact(Version(1)), 1))
        .await;
    let error = world
        .refuse(world.appending("order/1", Exact(Version(1)), 1))
        .await;
    assert!(matches!(error, CommitError::Conflict { .. }), "{error}");
    assert_eq!(world.log().await, second.log().await);

    // The version fits because the other process wrote it, and not because what this one decided was kept.
    let late = world.appending("order/1", Exact(Version(1)), 1);
    let late_id = late.id;
    world.refuse(late).await;
    let decided_on_it = Commit {
        stands_on: vec![late_id],
        ..world.appending("order/1", Exact(Version(2)), 1)
    };
    assert!(
        matches!(world.refuse(decided_on_it).await, CommitError::StoodOnFailed(id) if id == late_id)
    );

    let old = Owner::of_payment(&world).await;
    let new = Owner::of_payment(&second).await;
    let error = world.refuse(old.apply(&world, 0, "a")).await;
    assert!(matches!(error, CommitError::Fenced { .. }), "{error}");
    second.apply(new.park(&second, 0, "a")).await;
    assert!(old.state(&world, 0).await.is_some());

    // Both append at once, and the log of both is dense.
    let writers = [world.handle(), second.handle()].map(|world| {
        tokio::spawn(async move {
            for _ in 0..50 {
                world.fill("order/2", 2).await;
            }
        })
    });
    for writer in writers {
        writer.await.expect("a writer ends");
    }
    let positions: Vec<_> = world
        .log()
        .await
        .iter()
        .map(|record| record.at.position.0)
        .collect();
    assert_eq!(positions, (1..=202).collect::<Vec<_>>());
    assert_eq!(second.version("order/2").await, Version(200));
}

/// A snapshot is of use only to the code that made it.
pub async fn snapshots_are_kept_by_fingerprint(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 9).await;
    let read = async |world: &World, name, fingerprint| {
        world
            .store
            .snapshot(&stream(name), fingerprint)
            .await
            .expect("a snapshot reads")
    };
    let save = async |fingerprint, version, state: &'static str| {
        let snapshot = Snapshot {
            version: Version(version),
            event_id: format!("event {version}").into(),
            state: Bytes::from_static(state.as_bytes()),
        };
        world
            .store
            .save_snapshot(&stream("order/1"), fingerprint, snapshot.clone())
            .await
            .expect("a snapshot is kept");
        snapshot
    };
    assert_eq!(read(&world, "order/1", "v1").await, None);
    let first = save("v1", 3, "{\"n\":3}").await;
    assert_eq!(read(&world, "order/1", "v1").await, Some(first));
    assert_eq!(read(&world, "order/1", "v2").await, None);
    assert_eq!(read(&world, "order/2", "v1").await, None);
    save("v1", 5, "{\"n\":5}").await;
    let newest = save("v2", 7, "{\"n\":7}").await;
    assert_eq!(read(&world, "order/1", "v2").await, Some(newest.clone()));
    let world = world.reopen(harness).await;
    assert_eq!(read(&world, "order/1", "v2").await, Some(newest));
    // Whether the older code's snapshot stays beside it is left open; another's state it never is.
    let older = read(&world, "order/1", "v1").await;
    assert!(older.is_none_or(|snapshot| snapshot.version == Version(5)));
}

/// Who did what is kept in the commit that did it.
pub async fn the_audit_record_is_read_newest_first(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    let entry = |number: i64, at: Timestamp| AuditEntry {
        at,
        actor: "anna".into(),
        action: "skip".into(),
        subject: format!("payment:orders:0:{number}"),
        reason: "주문이 없다".into(),
    };
    // Times may go back: the order is that of the commits.
    let entries: Vec<_> = (0..5)
        .map(|number| entry(number, at(10 - number)))
        .collect();
    for (offset, entry) in (0..).zip(&entries) {
        world
            .apply(Commit {
                audit: Some(entry.clone()),
                ..owner.skip(&world, offset, "a")
            })
            .await;
    }
    let world = world.reopen(harness).await;
    assert_eq!(
        audit(&world, None, 10).await.1,
        entries.iter().rev().cloned().collect::<Vec<_>>()
    );
    assert_eq!(
        audit(&world, None, 2).await.1,
        [entries[4].clone(), entries[3].clone()]
    );
}

/// The numbers of the entries that are read, and the entries.
async fn audit(world: &World, before: Option<u64>, limit: usize) -> (Vec<u64>, Vec<AuditEntry>) {
    let read = world.store.audit(before, limit).await;
    let read = read.expect("the audit record reads").into_iter();
    read.map(|audited| (audited.number, audited.entry)).unzip()
}

/// However old an entry is, somebody who goes on from page to page comes to it, and what is written meanwhile is in
/// the way of nobody.
pub async fn the_audit_record_is_read_to_its_end_page_by_page(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let wrote = async |number: i64| {
        let entry = AuditEntry {
            at: at(number),
            actor: "anna".into(),
            action: "note".into(),
            subject: number.to_string(),
            reason: String::new(),
        };
        world
            .apply(Commit {
                audit: Some(entry.clone()),
                ..world.commit()
            })
            .await;
        entry
    };
    let mut entries = Vec::new();
    for number in 0..5 {
        entries.push(wrote(number).await);
    }
    let (mut read, mut numbers, mut before) = (Vec::new(), Vec::new(), None);
    loop {
        let (page_numbers, page) = audit(&world, before, 2).await;
        before = page_numbers.last().copied();
        numbers.extend(page_numbers);
        read.extend(page);
        if before.is_none() {
            break;
        }
        wrote(100).await;
    }
    entries.reverse();
    assert_eq!(read, entries);
    assert!(
        numbers.is_sorted_by(|newer, older| newer > older),
        "{numbers:?}"
    );
    // The numbers outlive the store object, and what lies before the first is nothing.
    let world = world.reopen(harness).await;
    let (_, found) = audit(&world, Some(numbers[2]), 10).await;
    assert_eq!(found, entries[3..]);
    assert_eq!(audit(&world, Some(numbers[4]), 10).await, (vec![], vec![]));
    assert_eq!(audit(&world, Some(0), 10).await, (vec![], vec![]));
}

/// Only what is past its time goes.
pub async fn pruning_drops_what_has_expired_and_nothing_else(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let owner = Owner::of_payment(&world).await;
    for (offset, seconds) in (0..).zip([10, 20, 30]) {
        let command = CommandInput {
            scope: "orders".into(),
            key: format!("k{seconds}"),
            request: 1,
            answer: Bytes::new(),
            expires: at(seconds),
        };
        world
            .apply(Commit {
                input: Input::Command(command),
                ..world.appending("order/1", Any, 1)
            })
            .await;
        world
            .apply(foreign(
                owner.apply(&world, offset, "a"),
                &format!("e{seconds}"),
                at(seconds),
            ))
            .await;
    }
    world.apply(owner.bury(&world, 3, "b")).await;
    world.apply(owner.park(&world, 4, "c")).await;
    let log = world.log().await;
    let row = owner.row(&world).await;
    let prune = Prune {
        expired: at(25),
        discarded: at(10_000),
    };
    assert_eq!(
        world
            .store
            .prune(prune)
            .await
            .expect("expired rows are dropped"),
        4
    );
    assert_eq!(
        world
            .store
            .prune(prune)
            .await
            .expect("expired rows are dropped"),
        0
    );
    assert_eq!((world.log().await, owner.row(&world).await), (log, row));
    assert!(
        world
            .store
            .answered("orders", "k20", at(0))
            .await
            .expect("an answer reads")
            .is_none()
    );
    assert!(
        world
            .store
            .answered("orders", "k30", at(0))
            .await
            .expect("an answer reads")
            .is_some()
    );
    world.apply(owner.duplicate(&world, 5, "a", "e30")).await;
    world.refuse(owner.duplicate(&world, 6, "a", "e20")).await;
    world
        .apply(owner.retried(&world, 4, 1, Retried::Settled))
        .await;
    assert!(
        owner.state(&world, 3).await.is_some(),
        "what is dead is not discarded"
    );
}
