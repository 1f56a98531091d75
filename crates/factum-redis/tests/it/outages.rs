//! A server that goes away, and a network that stalls.

use std::time::{Duration, Instant};

use factum_core::{CommitError, ErrorClass, Position, Query, ViewsEngine as _};
use factum_redis::RedisViews;

use crate::{
    proxy::{Passes, Proxy},
    server::Server,
    shelf::{Owner, WAIT_MAX, count_of, standing, until_it_works, view, views},
    support::Place,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_found_again() {
    let Some(mut server) = Server::start(&["--appendfsync", "always"]) else {
        return;
    };
    let place = Place::on(&server.url());
    let process = place.process().await;
    let store = &process.store;
    let mut owner = Owner::claim(store, 1).await.expect("it is free");
    owner.count_one("a").await.expect("it is ours");
    for round in 1..=3 {
        server.kill();
        let error = loop {
            // The first ones may still find the old connection.
            match views(&**store)
                .count(&view(), Some(1), &Query::all(), 10)
                .await
            {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.class(), ErrorClass::Transient, "{error:#}");
        let error = owner.count_one("a").await.expect_err("nobody is there");
        assert!(
            matches!(error.class(), ErrorClass::Transient | ErrorClass::Fenced),
            "nothing was sent: {error}"
        );
        server.up();
        // Nothing was lost, but nobody can know.
        owner = until_it_works(async || Owner::claim(store, 1).await).await;
        assert_eq!(owner.input.from.position, Position(round));
        owner.count_one("a").await.expect("it is ours");
    }
    assert_eq!(count_of(&**store, 1, "a").await.expect("it reads"), 4);
}

/// Whatever becomes of a batch without an answer, it is there once or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_network_ends_calls_in_time_and_nothing_is_done_twice() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let proxy = Proxy::to(server.port).await;
    let place = Place::on(&proxy.url);
    let patience = Duration::from_millis(300);
    let engine = RedisViews::connect(place.options().call_max(patience)).await;
    let engine = engine.expect("the server is there");
    let store = place.store_on(&engine).await;
    for (passes, applied) in [(Passes::Questions, true), (Passes::Answers, false)] {
        let mut owner = until_it_works(async || Owner::claim(&store, 1).await).await;
        owner.count_one("a").await.expect("it is ours");
        let (before, count) = standing(&*store, 1).await.expect("it reads");
        let batch = vec![owner.put("a", &format!(r#"{{"user":"u","count":{}}}"#, count + 1))];
        proxy.only(passes);
        #[expect(
            clippy::disallowed_methods,
            reason = "it is about the time that passes for a caller"
        )]
        let started = Instant::now();
        let error = owner.send(owner.input.clone(), batch).await;
        let error = error.expect_err("there is no answer");
        assert_eq!(error.class(), ErrorClass::Unknown, "{error}");
        let asked = views(&*store).get(&view(), Some(1), "a").await;
        let error = asked.expect_err("there is no answer either");
        assert_eq!(error.class(), ErrorClass::Transient, "{error}");
        assert!(
            started.elapsed() < WAIT_MAX,
            "a stall does not hold callers up"
        );
        proxy.only(Passes::Everything);
        let mut again = until_it_works(async || Owner::claim(&store, 1).await).await;
        if applied {
            // The server heard it, sooner or later; and from the claim on it can't hear it any more.
            assert_eq!(again.input.from, owner.input.to);
        }
        // What was still on its way when the network stalled comes too late, or has come before the claim.
        let moved = again.input.from != owner.input.from;
        let late = owner.send(owner.input.clone(), Vec::new()).await;
        assert!(
            matches!(
                late,
                Err(CommitError::Fenced { .. } | CommitError::CheckpointMoved { .. })
            ),
            "{late:?}"
        );
        let (now, sum) = standing(&*store, 1).await.expect("it reads");
        assert_eq!(now, if moved { before.next() } else { before });
        assert_eq!(sum, count + i64::from(moved));
        again.count_one("a").await.expect("it is ours");
    }
    engine.close().await;
    let asked = views(&*store).get(&view(), Some(1), "a").await;
    assert_eq!(asked.expect_err("it is closed").class(), ErrorClass::Fatal);
}
