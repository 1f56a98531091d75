//! What becomes of a store when a standby is promoted that lacks what its primary had acknowledged.

use ExpectedVersion::{Any, Exact};
use factum_core::{At, CommitError, ExpectedVersion, LogFilter, Position, Store as _, Version};
use factum_postgres::PostgresOptions;

use crate::{
    server::Server,
    support::{WAIT_MAX, appending, env, eventually, log, process, service, session, topic},
};

/// Waits until a standby has all that its primary has written.
async fn caught_up(primary: &Server, standby: &Server) {
    let here = session(&primary.url("")).await;
    let written: String = here
        .query_one("SELECT pg_current_wal_lsn()::text", &[])
        .await
        .expect("it says so")
        .get(0);
    let there = session(&standby.url("")).await;
    let has = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
    eventually("the standby has it all", async || {
        let row = there.query_one(&has, &[]).await.ok()?;
        row.get::<_, Option<bool>>(0)?.then_some(())
    })
    .await;
}

async fn promote(standby: &Server) {
    session(&standby.url(""))
        .await
        .execute("SELECT pg_promote()", &[])
        .await
        .expect("it is promoted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_promoted_standby_that_lags_goes_on_in_a_new_epoch_without_a_restart() {
    let Some(mut primary) = Server::start(&[]) else {
        return;
    };
    let mut standby = primary.standby();
    standby.up();
    let options = PostgresOptions::new(primary.url_with(&standby)).patience(WAIT_MAX);
    let (open, other) = (process(&options).await, process(&options).await);
    open.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    for version in 0..3 {
        let expected = if version == 0 {
            Any
        } else {
            Exact(Version(version))
        };
        open.store
            .commit(appending("1", expected))
            .await
            .expect("it fits");
    }
    caught_up(&primary, &standby).await;
    standby.down("INT");
    for version in 3..5 {
        open.store
            .commit(appending("1", Exact(Version(version))))
            .await
            .expect("it fits");
    }
    let lost = open.store.head().await.expect("it is read");
    assert_eq!(lost.position, Position(5));
    primary.down("QUIT");
    standby.up();
    promote(&standby).await;

    // Decided on what is lost: a conflict, and nothing is written behind a gap.
    let refused = open.store.commit(appending("1", Exact(Version(5)))).await;
    assert!(
        matches!(
            refused,
            Err(CommitError::Conflict {
                actual: Version(3),
                ..
            })
        ),
        "{refused:?}"
    );
    let epochs = open.store.epochs().await.expect("they are read");
    assert_eq!(epochs.len(), 2, "{epochs:?}");
    let again = other.store.commit(appending("1", Exact(Version(3)))).await;
    assert_eq!(again.expect("it fits").versions, [Version(4)]);
    let records = log(&*open.store).await;
    let places: Vec<_> = records.iter().map(|record| record.at).collect();
    let (before, after) = (epochs[0].epoch, epochs[1].epoch);
    let at = |epoch, position| At {
        epoch,
        position: Position(position),
    };
    assert_eq!(
        places,
        [at(before, 1), at(before, 2), at(before, 3), at(after, 4)]
    );
    let filter = LogFilter::default();
    let behind_lost = open.store.read_log(lost, &filter, 10).await;
    assert!(behind_lost.is_err(), "{behind_lost:?}");
    // Both have seen the same promotion, and one epoch was opened for it; a start finds all as it should be.
    let third = process(&options).await;
    let epochs = third.store.epochs().await.expect("they are read");
    assert_eq!(epochs.len(), 2, "{epochs:?}");
}

/// Claims failed until somebody committed something: a process whose parts only claimed was stuck for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_commits_nothing_claims_on_a_promoted_standby() {
    let Some(mut primary) = Server::start(&[]) else {
        return;
    };
    let mut standby = primary.standby();
    standby.up();
    let options = PostgresOptions::new(primary.url_with(&standby));
    let (open, other) = (process(&options).await, process(&options).await);
    let before = open.store.claim_relay().await.expect("it is free").fence;
    caught_up(&primary, &standby).await;
    primary.down("QUIT");
    promote(&standby).await;

    // Until it has a connection to the new primary, a claim may fail.
    let claimed = async || open.store.claim_relay().await.ok();
    let claim = eventually("the relay is claimed", claimed).await;
    let epochs = open.store.epochs().await.expect("they are read");
    assert_eq!(epochs.len(), 2, "{epochs:?}");
    assert_eq!(claim.fence.store, epochs[1].epoch);
    assert!(claim.fence.owner > before.owner, "{claim:?} {before:?}");
    // One epoch was opened, and whoever else stands on the store goes on in it.
    let claimed = async || other.store.claim_timers().await.ok();
    let timers = eventually("the timers are claimed", claimed).await;
    assert_eq!(timers.store, epochs[1].epoch);
    assert_eq!(other.store.epochs().await.expect("they are read"), epochs);
    for process in [&open, &other] {
        process.store.pin_topic(&topic(), 4).await.expect("it fits");
        let committed = process.store.commit(appending("1", Any)).await;
        let at = committed.expect("it fits").head;
        assert_eq!(at.epoch, epochs[1].epoch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_standby_is_no_place_for_a_store() {
    let Some(primary) = Server::start(&[]) else {
        return;
    };
    drop(process(&PostgresOptions::new(primary.url(""))).await);
    let mut standby = primary.standby();
    standby.up();
    let postgres = factum_postgres::Postgres::new(&PostgresOptions::new(standby.url("")))
        .expect("the address is right");
    let error = postgres.store(&service(), &env()).await.unwrap_err();
    assert!(error.to_string().contains("it is a standby"), "{error}");
}

/// What is asked of the server is open to everybody: the user that a service has is no administrator.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_without_rights_beyond_its_schema_opens_a_store() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    session(&server.url(""))
        .await
        .batch_execute(
            "CREATE ROLE plain LOGIN PASSWORD 'plain'; GRANT CREATE ON DATABASE postgres TO plain",
        )
        .await
        .expect("it is made");
    let url = server.url("").replace("factum:factum", "plain:plain");
    let open = process(&PostgresOptions::new(url)).await;
    open.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    let committed = open.store.commit(appending("1", Any)).await;
    assert_eq!(committed.expect("it fits").versions, [Version(1)]);
}
