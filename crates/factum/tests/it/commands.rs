//! The command bus: contention, conflicts, idempotency, panics.

use std::time::Duration;

use bytes::Bytes;
use factum::{CommandError, CommandOptions, Idempotency, Store as _, StreamId, Version};
use factum_testkit::MemoryStore;

use crate::world::{Account, AccountCommand, AccountError, World};

fn id() -> String {
    "a-1".into()
}

#[tokio::test]
async fn sixteen_tasks_on_one_aggregate_lose_no_update() {
    let world = World::new(1);
    let running = world.start().await;
    let commands = running.service("accounts").unwrap().commands();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let commands = commands.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    commands
                        .execute::<Account>(&id(), AccountCommand::Deposit(1))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (account, version) = commands.load::<Account>(&id()).await.unwrap();
    assert_eq!((account.balance, version), (800, Version(800)));
}

#[tokio::test]
async fn another_process_on_the_same_store_is_noticed_and_decided_against_again() {
    let world = World::new(2);
    let (one, other) = (world.start().await, world.start().await);
    let one = one.service("accounts").unwrap().commands();
    let other = other.service("accounts").unwrap().commands();
    for _ in 0..20 {
        one.execute::<Account>(&id(), AccountCommand::Deposit(1))
            .await
            .unwrap();
        other
            .execute::<Account>(&id(), AccountCommand::Deposit(1))
            .await
            .unwrap();
    }
    assert_eq!(one.load::<Account>(&id()).await.unwrap().0.balance, 40);
}

#[tokio::test]
async fn a_rejection_is_never_decided_on_a_stale_state() {
    let world = World::new(3);
    let (one, other) = (world.start().await, world.start().await);
    let one = one.service("accounts").unwrap().commands();
    let other = other.service("accounts").unwrap().commands();
    one.execute::<Account>(&id(), AccountCommand::Deposit(1))
        .await
        .unwrap();
    other
        .execute::<Account>(&id(), AccountCommand::Close)
        .await
        .unwrap();
    // `one` still believes that the account is open: nothing-to-do and acceptance alike must be confirmed.
    let refused = one
        .execute::<Account>(&id(), AccountCommand::DepositOnce(1))
        .await
        .unwrap_err();
    let CommandError::Rejected(error) = refused else {
        panic!("{refused}")
    };
    assert_eq!(*error, AccountError::Closed);
}

#[tokio::test]
async fn a_command_sent_again_gets_the_same_answer_and_happens_once() {
    let world = World::new(4);
    let running = world.start().await;
    let commands = running.service("accounts").unwrap().commands();
    let options = |request| CommandOptions {
        idempotency: Some(Idempotency {
            scope: "POST /deposits".into(),
            key: "k-1".into(),
            request,
            answer: Bytes::from_static(b"done"),
            remember: Duration::from_mins(1),
        }),
        ..CommandOptions::default()
    };
    let id = id();
    let both = tokio::join!(
        commands.execute_with::<Account>(&id, AccountCommand::Deposit(5), options(7)),
        commands.execute_with::<Account>(&id, AccountCommand::Deposit(5), options(7)),
    );
    let both = [both.0.unwrap(), both.1.unwrap()];
    let repeated = both.iter().filter(|one| one.repeated.is_some()).count();
    assert_eq!(repeated, 1);
    // Another service waits for the same with either.
    assert_eq!(both[0].token, both[1].token);
    assert_eq!(both[0].token.writes().len(), 1);
    let other = commands
        .execute_with::<Account>(&id, AccountCommand::Deposit(5), options(8))
        .await;
    assert!(
        matches!(other, Err(CommandError::KeyReused(_))),
        "{other:?}"
    );
    assert_eq!(commands.load::<Account>(&id).await.unwrap().0.balance, 5);
}

/// An answer that had expired was still there until it was dropped: another command with its key was refused.
#[tokio::test]
async fn an_idempotency_key_is_free_when_its_answer_has_expired() {
    let world = World::new(12);
    let running = world.start().await;
    let commands = running.service("accounts").unwrap().commands();
    let id = id();
    let deposit = async |request| {
        let options = CommandOptions {
            idempotency: Some(Idempotency {
                scope: "POST /deposits".into(),
                key: "k-1".into(),
                request,
                answer: Bytes::from_static(b"done"),
                remember: Duration::from_mins(1),
            }),
            ..CommandOptions::default()
        };
        let done = commands.execute_with::<Account>(&id, AccountCommand::Deposit(5), options);
        done.await.map(|executed| executed.repeated.is_some())
    };
    assert!(!deposit(7).await.unwrap());
    world.env.advance(Duration::from_secs(59));
    assert!(deposit(7).await.unwrap());
    world.env.advance(Duration::from_secs(1));
    assert!(!deposit(8).await.unwrap());
    assert_eq!(commands.load::<Account>(&id).await.unwrap().0.balance, 10);
}

#[tokio::test]
async fn a_panic_in_a_decision_fails_that_command_alone() {
    let world = World::new(5);
    let running = world.start().await;
    let commands = running.service("accounts").unwrap().commands();
    commands
        .execute::<Account>(&id(), AccountCommand::Deposit(1))
        .await
        .unwrap();
    let panicked = commands
        .execute::<Account>(&id(), AccountCommand::Panic)
        .await
        .unwrap_err();
    assert!(
        panicked
            .to_string()
            .contains("a decision panicked: asked to"),
        "{panicked}"
    );
    commands
        .execute::<Account>(&id(), AccountCommand::Deposit(1))
        .await
        .unwrap();
    assert_eq!(commands.load::<Account>(&id()).await.unwrap().0.balance, 2);
}

#[tokio::test]
async fn a_load_starts_from_a_snapshot() {
    let world = World::new(6);
    let running = world.start().await;
    let commands = running.service("accounts").unwrap().commands();
    for _ in 0..25 {
        commands
            .execute::<Account>(&id(), AccountCommand::Deposit(1))
            .await
            .unwrap();
    }
    let store = MemoryStore::open(world.accounts.clone());
    let stream: StreamId = "account/a-1".parse().unwrap();
    let kind = factum::Kind::<Account>::new().unwrap();
    let fingerprint = factum::AggregateKind::fingerprint(&kind);
    let snapshot = store.snapshot(&stream, fingerprint).await.unwrap().unwrap();
    assert_eq!(snapshot.version, Version(20));
    assert_eq!(commands.load::<Account>(&id()).await.unwrap().0.balance, 25);
    // It is believed as long as it stands on the stream's own event.
    let richer = factum::Snapshot {
        state: r#"{"balance":700,"deposits":20,"closed":false}"#.into(),
        ..snapshot
    };
    let saved = store.save_snapshot(&stream, fingerprint, richer).await;
    saved.unwrap();
    assert_eq!(
        commands.load::<Account>(&id()).await.unwrap().0.balance,
        705
    );
}

/// A snapshot of a version that no event ever led to was believed: the state was wrong, and every command conflicted.
/// One of a version that the stream came to later, by other events than those that the snapshot stands on, was still
/// believed when that was mended.
#[tokio::test]
async fn a_snapshot_of_a_lost_time_line_is_left_aside() {
    let world = World::new(7);
    let deposit = async |running: &factum::Running| {
        let commands = running.service("accounts").unwrap().commands();
        let deposit = AccountCommand::Deposit(1);
        commands.execute::<Account>(&id(), deposit).await.unwrap();
    };
    let running = world.start().await;
    deposit(&running).await;
    running.stop().await;
    let kind = factum::Kind::<Account>::new().unwrap();
    let fingerprint = factum::AggregateKind::fingerprint(&kind);
    for version in [1, 2, 1_000, u64::MAX] {
        let store = MemoryStore::open(world.accounts.clone());
        let stream: StreamId = "account/a-1".parse().unwrap();
        let snapshot = factum::Snapshot {
            version: Version(version),
            event_id: "an event that was lost".into(),
            state: r#"{"balance":700,"deposits":7,"closed":false}"#.into(),
        };
        store
            .save_snapshot(&stream, fingerprint, snapshot)
            .await
            .unwrap();
        let running = world.start().await;
        let commands = running.service("accounts").unwrap().commands();
        let (before, _) = commands.load::<Account>(&id()).await.unwrap();
        deposit(&running).await;
        let (after, _) = commands.load::<Account>(&id()).await.unwrap();
        assert_eq!(
            (before.balance < 10, after.balance),
            (true, before.balance + 1)
        );
        running.stop().await;
    }
}
