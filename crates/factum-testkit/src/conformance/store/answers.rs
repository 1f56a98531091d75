//! Idempotency keys: a command that is sent again gets the answer of the first.

use bytes::Bytes;
use factum_core::{
    Answered, CommandInput, Commit, CommitError, ErrorClass, ExpectedVersion, Input, Position,
    Prune, Version,
};
use futures_util::future::join_all;

use super::{
    StoreHarness,
    world::{World, at},
};

fn command(world: &World, scope: &str, key: &str, request: u64, answer: &'static str) -> Commit {
    let input = Input::Command(CommandInput {
        scope: scope.into(),
        key: key.into(),
        request,
        answer: Bytes::from_static(answer.as_bytes()),
        expires: at(3600),
    });
    Commit {
        input,
        ..world.appending("order/1", ExpectedVersion::Any, 1)
    }
}

fn answered(error: CommitError) -> Answered {
    match error {
        CommitError::Answered(answered) => *answered,
        other => panic!("expected the answer of the first, not: {other}"),
    }
}

/// The answer holds all that the first caller was told.
pub async fn a_command_sent_again_gets_the_answer_of_the_first(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    world.fill("order/1", 1).await;
    assert_eq!(
        world
            .store
            .answered("orders", "k", at(0))
            .await
            .expect("an answer reads"),
        None
    );
    let first = world
        .apply(command(&world, "orders", "k", 7, "created"))
        .await;
    assert_eq!(first.first, Some(Position(2)));
    let expected = Answered {
        answer: Bytes::from_static(b"created"),
        head: first.head,
        first: first.first,
    };
    world.fill("order/2", 1).await;
    assert_eq!(
        answered(
            world
                .refuse(command(&world, "orders", "k", 7, "other"))
                .await
        ),
        expected
    );
    let world = world.reopen(harness).await;
    assert_eq!(
        answered(
            world
                .refuse(command(&world, "orders", "k", 7, "other"))
                .await
        ),
        expected
    );
    assert_eq!(
        world
            .store
            .answered("orders", "k", at(0))
            .await
            .expect("an answer reads"),
        Some((7, expected))
    );
    assert_eq!(world.version("order/1").await, Version(2));

    // A command that led to nothing is answered, too.
    let idle = Commit {
        appends: Vec::new(),
        ..command(&world, "orders", "idle", 1, "nothing to do")
    };
    let idle = world.apply(idle).await;
    let again = answered(world.refuse(command(&world, "orders", "idle", 1, "")).await);
    assert_eq!(
        (again.answer, again.head, again.first),
        (Bytes::from_static(b"nothing to do"), idle.head, None)
    );
}

/// The same key with another request is a mistake of the client.
pub async fn a_key_used_for_another_request_is_refused(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    // Hashes are any 64 bits.
    world
        .apply(command(&world, "orders", "k", u64::MAX, "created"))
        .await;
    let error = world
        .refuse(command(&world, "orders", "k", u64::MAX - 1, "created"))
        .await;
    assert!(
        matches!(&error, CommitError::KeyReused { key } if key == "k"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Poison);
    answered(
        world
            .refuse(command(&world, "orders", "k", u64::MAX, "created"))
            .await,
    );
}

/// A key belongs to its scope, and both are compared exactly.
pub async fn keys_of_different_scopes_are_different(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    for (scope, key) in [
        ("orders", "k"),
        ("users", "k"),
        ("orders", "K"),
        ("orders", ""),
        ("", "ordersk"),
        ("order", "sk"),
    ] {
        world.apply(command(&world, scope, key, 1, "created")).await;
        answered(
            world
                .refuse(command(&world, scope, key, 1, "created"))
                .await,
        );
    }
}

/// After its time a key may be used again, by the time of the commit that does.
pub async fn an_expired_key_is_free_again(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let at_second = |seconds, request| Commit {
        at: at(seconds),
        ..command(&world, "orders", "k", request, "created")
    };
    world.apply(at_second(0, 1)).await;
    answered(world.refuse(at_second(3599, 1)).await);
    // Whoever asks before committing is told what the commit would be, though the row is still there.
    for (seconds, request) in [(3599, Some(1)), (3600, None), (3601, None)] {
        let known = world.store.answered("orders", "k", at(seconds)).await;
        let known = known.expect("an answer reads");
        assert_eq!(known.map(|(request, _)| request), request, "at {seconds}");
    }
    world.apply(at_second(3601, 2)).await;
    let known = world
        .store
        .answered("orders", "k", at(0))
        .await
        .expect("an answer reads");
    assert_eq!(known.map(|(request, _)| request), Some(2));
    // Nothing looks at a clock: the same key at an earlier time is remembered.
    answered(world.refuse(at_second(3599, 2)).await);
    let prune = Prune {
        expired: at(3599),
        discarded: at(0),
    };
    assert_eq!(
        world
            .store
            .prune(prune)
            .await
            .expect("expired rows are dropped"),
        0
    );
    let prune = Prune {
        expired: at(3602),
        discarded: at(0),
    };
    assert_eq!(
        world
            .store
            .prune(prune)
            .await
            .expect("expired rows are dropped"),
        1
    );
    assert_eq!(
        world
            .store
            .answered("orders", "k", at(0))
            .await
            .expect("an answer reads"),
        None
    );
    world.apply(at_second(3599, 3)).await;
}

/// A client that sends twice at once is served once.
pub async fn of_two_commands_with_one_key_one_is_handled(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let given = (0..8).map(|_| {
        world
            .store
            .commit(command(&world, "orders", "k", 1, "created"))
    });
    let results = join_all(given).await;
    let (done, again): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let done: Vec<_> = done.into_iter().filter_map(Result::ok).collect();
    assert_eq!((done.len(), again.len()), (1, 7));
    for error in again.into_iter().filter_map(Result::err) {
        assert_eq!(answered(error).head, done[0].head);
    }
    assert_eq!(world.version("order/1").await, Version(1));
}
