//! A commit is applied whole or not at all, and once.

use bytes::Bytes;
use factum_core::{
    Append, At, AuditEntry, CommandInput, Commit, CommitError, Condition, Destination, Draft,
    ErrorClass, ExpectedVersion, Input, LogInput, Position, ProjectionName, RECORD_BYTES_MAX,
    SqlValue, TimerWrite, Topic, Version, ViewRef, ViewWrite,
};
use futures_util::future::join_all;

use super::{
    StoreHarness,
    owner::{Owner, foreign},
    world::{TOPIC, World, at, put, stream},
};
use ExpectedVersion::{Any, Exact, NoStream};

/// Adds all that a commit can do besides its input.
fn with_effects(world: &World, view: Option<&ViewRef>, commit: Commit) -> Commit {
    let set = |id: &str| TimerWrite::Set {
        id: id.into(),
        due: at(60),
        payload: Bytes::new(),
    };
    Commit {
        appends: vec![
            world.append("order/1", Any, 2),
            world.append("order/2", NoStream, 1),
        ],
        outbox: vec![world.message()],
        views: view.map(|view| put(view, "row", 5)).into_iter().collect(),
        timers: vec![set("new"), TimerWrite::Cancel { id: "old".into() }],
        audit: Some(AuditEntry {
            at: at(0),
            actor: "anna".into(),
            action: "test".into(),
            subject: "all".into(),
            reason: "to see".into(),
        }),
        ..commit
    }
}

/// All that can be seen of such a commit, to be compared before and after.
async fn traces(world: &World, owner: &Owner, view: Option<&ViewRef>) -> String {
    let store = &world.store;
    let row = match view {
        Some(view) => world.row(view, "row").await,
        None => None,
    };
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {row:?} {:?} {:?} {:?}",
        world.log().await,
        store
            .streams(None, None, 100)
            .await
            .expect("streams are listed"),
        store.next_timers(100).await.expect("timers are listed"),
        store.inbox(&owner.inbox).await.expect("a row reads"),
        store
            .parked(&factum_core::ParkedFilter::default(), 100)
            .await
            .expect("parked messages are listed"),
        store
            .audit(None, 100)
            .await
            .expect("the audit record reads"),
        store
            .answered("scope", "key", at(0))
            .await
            .expect("an answer reads"),
        store.projections().await.expect("projections are listed"),
        store.head().await.expect("the head reads"),
    )
}

/// Whatever part of a commit fails, no other part of it was done.
pub async fn a_commit_that_is_refused_leaves_no_trace(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let view = world.view().await;
    let view = view.as_ref();
    let owner = Owner::of_payment(&world).await;
    let projection = ProjectionName::of("orders");
    let claim = world
        .store
        .claim_projection(&projection, 1, "f")
        .await
        .expect("a projection is claimed");
    world.fill("order/1", 1).await;
    let old = TimerWrite::Set {
        id: "old".into(),
        due: at(30),
        payload: Bytes::new(),
    };
    world
        .apply(Commit {
            timers: vec![old],
            ..world.commit()
        })
        .await;
    world.apply(owner.park(&world, 0, "parked")).await;
    let before = traces(&world, &owner, view).await;

    let command = CommandInput {
        scope: "scope".into(),
        key: "key".into(),
        request: 1,
        answer: Bytes::from_static(b"yes"),
        expires: at(1000),
    };
    let log = LogInput {
        projection,
        generation: 1,
        fence: claim.fence,
        from: At::ZERO,
        to: At::new(1, 1),
    };
    let inputs = [
        ("nothing", world.commit()),
        (
            "a command",
            Commit {
                input: Input::Command(command),
                ..world.commit()
            },
        ),
        (
            "a message",
            foreign(owner.apply(&world, 1, "free"), "e-1", at(1000)),
        ),
        (
            "a message to park",
            foreign(owner.park(&world, 1, "free"), "e-1", at(1000)),
        ),
        (
            "a message to wait",
            foreign(owner.wait(&world, 1, "parked"), "e-1", at(1000)),
        ),
        (
            "a retry",
            owner.retried(&world, 0, 1, factum_core::Retried::Settled),
        ),
        (
            "a stretch of the log",
            Commit {
                input: Input::Log(log),
                ..world.commit()
            },
        ),
    ];
    for (what, input) in inputs {
        let commit = || {
            with_effects(
                &world,
                view,
                Commit {
                    id: world.commit().id,
                    ..input.clone()
                },
            )
        };
        let mut broken: Vec<(&str, Commit)> = Vec::new();
        let mut breaking = |why, change: &dyn Fn(&mut Commit)| {
            let mut commit = commit();
            change(&mut commit);
            broken.push((why, commit));
        };
        let append = |appends: &mut Vec<Append>, append| appends.push(append);
        breaking("a version", &|commit| {
            append(
                &mut commit.appends,
                world.append("order/3", Exact(Version(7)), 1),
            );
        });
        breaking("a condition", &|commit| {
            commit.conditions.push(Condition::Stream {
                stream: stream("order/1"),
                expected: NoStream,
            });
        });
        breaking("an unknown topic", &|commit| {
            let to = Destination {
                topic: Topic::of("nowhere"),
                partition: 0,
                key: None,
            };
            commit.outbox.push(Draft {
                destination: Some(to),
                ..world.message()
            });
        });
        breaking("an unknown partition", &|commit| {
            let to = Destination {
                topic: Topic::of(TOPIC),
                partition: 4,
                key: None,
            };
            commit.outbox.push(Draft {
                destination: Some(to),
                ..world.message()
            });
        });
        breaking("a record too large", &|commit| {
            commit.outbox.push(Draft {
                data: vec![b' '; RECORD_BYTES_MAX].into(),
                ..world.message()
            });
        });
        breaking("another key", &|commit| {
            let mut other = world.append("order/1", Any, 1);
            other.drafts[0].destination = Some(Destination {
                topic: Topic::of(TOPIC),
                partition: 0,
                key: None,
            });
            commit.appends.push(other);
        });
        if let Some(view) = view {
            breaking("a row's version", &|commit| {
                let (view, id) = (view.clone(), "row".into());
                commit.conditions.push(Condition::Row {
                    view,
                    id,
                    version: Some(Position(1)),
                });
            });
            breaking("an unknown view", &|commit| {
                commit.views.push(put(
                    &ViewRef {
                        generation: 9,
                        ..view.clone()
                    },
                    "row",
                    5,
                ));
            });
            breaking("a document of another kind", &|commit| {
                let document = factum_core::Json::parse(r#"{"status":1}"#).expect("it is JSON");
                let (view, id) = (view.clone(), "other".into());
                commit.views.push(ViewWrite::Put {
                    view,
                    id,
                    version: Position(5),
                    document,
                });
            });
        }
        for (why, commit) in broken {
            let error = world.refuse(commit).await;
            assert!(
                matches!(error.class(), ErrorClass::Conflict | ErrorClass::Poison),
                "{what} broken by {why}: {error}"
            );
            assert_eq!(
                traces(&world, &owner, view).await,
                before,
                "{what} broken by {why} left a trace"
            );
        }
        let event_id = owner.duplicate(&world, 1, "free", "e-1");
        let error = world.refuse(event_id).await;
        assert!(
            matches!(error, CommitError::NotDuplicate(_)),
            "{what} left its event id: {error}"
        );
    }
    let world = world.reopen(harness).await;
    assert_eq!(
        traces(&world, &owner, view).await,
        before,
        "after a restart"
    );
}

/// Many commits share a transaction, and each has a result of its own.
pub async fn one_that_fails_does_not_disturb_its_neighbours(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let bad = |number: u64| match number % 4 {
        1 => world.appending("order/0", Exact(Version(number + 1000)), 1),
        2 => {
            let mut commit = world.appending("order/0", Any, 1);
            commit
                .appends
                .push(world.append("order/1", Exact(Version(1)), 1));
            commit
        }
        _ => {
            let mut commit = world.appending("order/0", Any, 1);
            commit.appends[0].drafts[0].data = vec![0; RECORD_BYTES_MAX].into();
            commit
        }
    };
    let commits = (0..100).map(|number| match number % 4 {
        0 => world.appending("order/0", Exact(Version(number / 4)), 1),
        _ => bad(number),
    });
    let commits: Vec<_> = commits.collect();
    let ids: Vec<_> = commits
        .iter()
        .map(|commit| commit.appends[0].drafts[0].event_id.clone())
        .collect();
    let results = join_all(commits.into_iter().map(|commit| world.store.commit(commit))).await;
    for (number, result) in results.iter().enumerate() {
        assert_eq!(
            result.is_ok(),
            number % 4 == 0,
            "commit {number}: {result:?}"
        );
    }
    let log = world.log().await;
    let written: Vec<_> = log
        .iter()
        .map(|record| record.draft.event_id.clone())
        .collect();
    assert_eq!(
        written,
        ids.into_iter().step_by(4).collect::<Vec<_>>(),
        "in the order in which they were given"
    );
    let firsts = results
        .iter()
        .filter_map(|result| result.as_ref().ok())
        .map(|committed| committed.first);
    assert!(firsts.eq((1..=25).map(|position| Some(Position(position)))));
}

/// After an unknown outcome the same commit is sent again: one of the two wins.
pub async fn a_guarded_commit_sent_again_is_refused(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let commit = world.appending("order/1", NoStream, 2);
    assert!(commit.is_guarded());
    world.apply(commit.clone()).await;
    assert!(matches!(
        world.refuse(commit).await,
        CommitError::Conflict { .. }
    ));
    assert_eq!(world.head().await.position, Position(2));
}

/// A commit that nothing guards is known by its id, over a restart too.
pub async fn an_unguarded_commit_sent_again_is_applied_once(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let commit = world.appending("order/1", Any, 2);
    assert!(!commit.is_guarded());
    let first = world.apply(commit.clone()).await;
    world.fill("order/2", 1).await;
    assert_eq!(world.apply(commit.clone()).await.first, first.first);
    let world = world.reopen(harness).await;
    assert_eq!(world.apply(commit).await.first, first.first);
    assert_eq!(world.version("order/1").await, Version(2));

    let twice = world.appending("order/3", Any, 1);
    let both = join_all([twice.clone(), twice].map(|commit| world.store.commit(commit))).await;
    assert!(both.iter().all(Result::is_ok), "{both:?}");
    assert_eq!(world.version("order/3").await, Version(1));

    // A commit that only confirms what was read is looked at again each time.
    let conditions = vec![Condition::Stream {
        stream: stream("order/3"),
        expected: Exact(Version(1)),
    }];
    let confirmation = Commit {
        conditions,
        ..world.commit()
    };
    world.apply(confirmation.clone()).await;
    world.fill("order/3", 1).await;
    world.refuse(confirmation).await;
}

/// All parts of a commit are there when it is answered.
pub async fn a_whole_effect_is_applied_at_once(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let view = world.view().await;
    let owner = Owner::of_payment(&world).await;
    let old = TimerWrite::Set {
        id: "old".into(),
        due: at(30),
        payload: Bytes::new(),
    };
    world
        .apply(Commit {
            timers: vec![old],
            ..world.commit()
        })
        .await;
    let committed = world
        .apply(with_effects(
            &world,
            view.as_ref(),
            owner.apply(&world, 0, "key"),
        ))
        .await;
    assert_eq!(
        (committed.first, committed.head.position),
        (Some(Position(1)), Position(4))
    );
    assert_eq!(committed.versions, [Version(2), Version(1)]);
    assert_eq!(committed.inbox.as_ref().map(|row| row.low), Some(1));
    assert_eq!(committed.inbox, Some(owner.row(&world).await));
    assert_eq!(world.log().await.len(), 4);
    let timers = world
        .store
        .next_timers(10)
        .await
        .expect("timers are listed");
    assert_eq!(
        timers
            .iter()
            .map(|timer| timer.id.as_str())
            .collect::<Vec<_>>(),
        ["new"]
    );
    assert_eq!(
        world
            .store
            .audit(None, 10)
            .await
            .expect("the audit record reads")
            .len(),
        1
    );
    if let Some(view) = &view {
        assert_eq!(world.row(view, "row").await, Some(Position(5)));
    }
}

/// Where the capabilities name a dialect: a row that is there already shows what was applied, and what was not.
pub async fn own_sql_is_applied_with_its_commit_or_not_at_all(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let Some(dialect) = world.store.capabilities().sql else {
        return;
    };
    let parameter = if dialect == "sqlite" { "?1" } else { "$1" };
    // Own tables begin with the service's name and two underscores.
    let table = format!("{}__seen", world.store.identity().service);
    let with = |statement: String, parameters: Vec<SqlValue>, commit: Commit| {
        let sql = ViewWrite::Sql {
            statement,
            parameters,
        };
        Commit {
            views: vec![sql],
            ..commit
        }
    };
    let create = format!("CREATE TABLE {table} (id TEXT PRIMARY KEY)");
    world.apply(with(create, Vec::new(), world.commit())).await;
    let seeing = |id: &str, commit: Commit| {
        let insert = format!("INSERT INTO {table} VALUES ({parameter})");
        with(insert, vec![SqlValue::Text(id.into())], commit)
    };
    world
        .apply(seeing("a", world.appending("order/1", Any, 1)))
        .await;
    // In company: the second statement of `a` fails, and its commit alone.
    let commits = [
        seeing("b", world.appending("order/1", Any, 1)),
        seeing("a", world.appending("order/2", Any, 1)),
        seeing("c", world.appending("order/3", Any, 1)),
    ];
    let results = join_all(commits.map(|commit| world.store.commit(commit))).await;
    let [b, a, c] = &results[..] else {
        unreachable!("three commits have three results")
    };
    assert!(b.is_ok() && c.is_ok(), "{b:?}, {c:?}");
    let refused = a.as_ref().expect_err("its row is there already");
    assert_eq!(refused.class(), ErrorClass::Poison, "{refused}");
    assert_eq!(world.version("order/2").await, Version::ZERO);
    assert_eq!(world.head().await.position, Position(3));
    // A commit that fails for another reason takes its statement along.
    let late = seeing("d", world.appending("order/1", Exact(Version(0)), 1));
    world.refuse(late).await;
    world
        .apply(seeing(
            "d",
            world.appending("order/1", Exact(Version(2)), 1),
        ))
        .await;
    // And so does a restart: what was applied is there.
    let world = world.reopen(harness).await;
    let again = seeing("d", world.appending("order/1", Any, 1));
    assert_eq!(world.refuse(again).await.class(), ErrorClass::Poison);
}
