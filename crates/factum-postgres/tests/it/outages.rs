//! What becomes of commits when the server is killed, restarted, or has no room, and when nobody can know at once.

use std::time::Duration;

use factum_core::{ExpectedVersion, Signal, Store, Version};
use factum_postgres::PostgresOptions;
use tokio::time::timeout;

use crate::{
    server::Server,
    support::{WAIT_MAX, appending, env, eventually, log, process, service, session, topic},
};
use ExpectedVersion::{Any, Exact};

/// Commits wait for a standby that never comes, in the middle of COMMIT, and are killed there: they are stored, and nobody
/// has said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_whose_connection_dies_during_commit_is_answered_with_what_became_of_it() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let url = server.url("");
    let open = process(&PostgresOptions::new(&url)).await;
    open.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    open.store
        .commit(appending("1", Any))
        .await
        .expect("it fits");
    let operator = session(&url).await;
    let standby = async |name: &str| {
        operator
            .batch_execute("SET synchronous_commit = local")
            .await
            .expect("an operator waits for nobody");
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
        operator.batch_execute(&set).await.expect("it is set");
        operator
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .expect("it is loaded");
        eventually("the setting holds", async || {
            let row = operator
                .query_one("SHOW synchronous_standby_names", &[])
                .await
                .ok()?;
            (row.get::<_, String>(0) == name).then_some(())
        })
        .await;
    };
    standby("nobody").await;
    let given = {
        let store = open.store.clone();
        tokio::spawn(async move { store.commit(appending("1", Exact(Version(1)))).await })
    };
    let pid: i32 = eventually("a commit waits for the standby", async || {
        let find = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'factum'";
        operator.query_opt(find, &[]).await.ok().flatten().map(|row| row.get(0))
    })
    .await;
    standby("").await;
    standby("nobody").await;
    // The standby is gone for good: what waits for it is killed, and later commits need not wait.
    operator
        .execute("SELECT pg_terminate_backend($1)", &[&pid])
        .await
        .expect("it is killed");
    standby("").await;
    let committed = timeout(WAIT_MAX, given)
        .await
        .expect("it is answered")
        .expect("it does not panic");
    assert_eq!(committed.expect("it is stored").versions, [Version(2)]);
    open.store
        .commit(appending("1", Exact(Version(2))))
        .await
        .expect("it fits");
    assert_eq!(log(&*open.store).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_crashes_or_restarts_costs_time_and_no_commit() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let options = PostgresOptions::new(server.url("")).patience(WAIT_MAX);
    let open = process(&options).await;
    open.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    let waiting = {
        let store = open.store.clone();
        tokio::spawn(async move { store.wait(Signal::Head, 59).await })
    };
    let mut version = 0;
    for signal in ["INT", "QUIT"] {
        let writer = {
            let store = open.store.clone();
            tokio::spawn(async move {
                for next in version..version + 30 {
                    store
                        .commit(appending("1", Exact(Version(next))))
                        .await
                        .expect("nobody else writes");
                }
            })
        };
        eventually("some are written", async || {
            let page = open
                .store
                .read_stream(&crate::support::stream("1"), Version(1), 1)
                .await
                .ok()?;
            (page.version.0 > version + 3).then_some(())
        })
        .await;
        server.down(signal);
        server.up();
        timeout(WAIT_MAX, writer)
            .await
            .expect("it goes on")
            .expect("each commit is answered");
        version += 30;
    }
    assert_eq!(log(&*open.store).await.len(), 60);
    // Who listened before listens again.
    let woken = timeout(WAIT_MAX, waiting)
        .await
        .expect("it is woken")
        .expect("it does not panic");
    assert_eq!(woken.expect("a wait ends"), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_away_for_long_is_a_transient_error() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let options = PostgresOptions::new(server.url("")).patience(Duration::from_millis(300));
    let open = process(&options).await;
    open.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    open.store
        .commit(appending("1", Any))
        .await
        .expect("it fits");
    server.down("INT");
    let refused = open
        .store
        .commit(appending("1", Any))
        .await
        .expect_err("nobody is there");
    assert!(
        matches!(
            refused.class(),
            factum_core::ErrorClass::Transient | factum_core::ErrorClass::Unknown
        ),
        "{refused:?}"
    );
    let refused = open.store.head().await.expect_err("nobody is there");
    assert!(refused.is_transient(), "{refused:?}");
    server.up();
    open.store
        .commit(appending("1", Any))
        .await
        .expect("it goes on by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_without_connections_left_is_a_transient_error_that_names_the_way_out() {
    let Some(server) = Server::start(&["max_connections=12", "superuser_reserved_connections=0"])
    else {
        return;
    };
    let url = server.url("");
    let mut crowd = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await
    {
        tokio::spawn(async move { drop(connection.await) });
        crowd.push(client);
    }
    let postgres =
        factum_postgres::Postgres::new(&PostgresOptions::new(&url)).expect("the address is right");
    let refused = postgres
        .store(&service(), &env())
        .await
        .expect_err("there is no room");
    assert!(refused.is_transient(), "{refused:?}");
    assert!(refused.to_string().contains("max_connections"), "{refused}");
    drop(crowd);
    eventually("there is room again", async || {
        postgres.store(&service(), &env()).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_statement_that_takes_too_long_is_given_up_and_harms_nobody() {
    let Some(place) = crate::support::Place::new() else {
        return;
    };
    let options = place
        .options()
        .statement_max(Duration::from_millis(300))
        .patience(Duration::from_millis(900));
    let open = process(&options).await;
    open.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    let lock = session(&place.url).await;
    lock.batch_execute(&format!(
        "BEGIN; LOCK TABLE {}.records IN SHARE MODE",
        place.schema()
    ))
    .await
    .expect("the lock is taken");
    let refused = open
        .store
        .commit(appending("1", Any))
        .await
        .expect_err("the table is locked");
    assert_eq!(
        refused.class(),
        factum_core::ErrorClass::Transient,
        "{refused:?}"
    );
    lock.batch_execute("COMMIT")
        .await
        .expect("the lock is given back");
    open.store
        .commit(appending("1", Any))
        .await
        .expect("it goes on by itself");
    assert_eq!(log(&*open.store).await.len(), 1);
}

/// However many come together, the schema is made once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_together_make_one_schema() {
    let Some(place) = crate::support::Place::new() else {
        return;
    };
    let starts = (0..8).map(|_| {
        let options = place.options();
        tokio::spawn(async move { process(&options).await })
    });
    let mut ids = std::collections::BTreeSet::new();
    for start in starts.collect::<Vec<_>>() {
        let open = start.await.expect("it does not panic");
        ids.insert(open.store.identity().id);
        open.postgres.close().await;
    }
    assert_eq!(ids.len(), 1);
}
