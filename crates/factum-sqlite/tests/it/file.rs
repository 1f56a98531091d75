//! The file: who may open it, what it refuses, and what it keeps when things go wrong.

use std::{fs, process::Command};

use factum_core::{
    Append, At, Commit, CommitError, Epoch, ErrorClass, ExpectedVersion, LogFilter, Position,
    ServiceName, Store as _, Version,
};
use factum_sqlite::{Restore, Sqlite, SqliteStore};
use futures_util::future::join_all;
use rusqlite::Connection;

use crate::support::{AT, Directory, appending, commit, env, event, store, stream};
use ExpectedVersion::{Any, Exact};

#[tokio::test]
async fn a_directory_in_use_is_refused_and_free_again_after_closing() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let error = Sqlite::open(&directory.options()).expect_err("it is in use");
    assert!(error.is_fatal());
    let text = error.to_string();
    assert!(
        text.contains("is in use by another process") && text.contains("stop that one first"),
        "{text}"
    );
    sqlite.close().await;
    directory.open();
}

/// The lock is the system's: a process that is killed leaves none behind.
#[test]
fn a_directory_in_use_by_another_process_is_refused() {
    let directory = Directory::new();
    if let Ok(path) = std::env::var("FACTUM_TEST_DIRECTORY") {
        let refused = Sqlite::open(&factum_sqlite::SqliteOptions::new(path));
        std::process::exit(if refused.is_err() { 42 } else { 0 });
    }
    let open = directory.open();
    let other = || {
        let program = std::env::current_exe().expect("a test has a program");
        let name = "file::a_directory_in_use_by_another_process_is_refused";
        let mut child = Command::new(program);
        child
            .args([name, "--exact"])
            .env("FACTUM_TEST_DIRECTORY", directory.path());
        child.output().expect("a process starts").status.code()
    };
    assert_eq!(other(), Some(42));
    drop(open);
    assert_eq!(other(), Some(0));
}

fn refused(directory: &Directory) -> String {
    let error = Sqlite::open(&directory.options()).expect_err("the file can't be used");
    assert!(error.is_fatal(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&*directory.file().to_string_lossy()),
        "it names the file: {text}"
    );
    text
}

#[test]
fn what_is_no_database_is_refused_and_left_as_it_is() {
    let directory = Directory::new();
    let letter = b"Dear reader, this is not a database, and it is longer than a hundred bytes, so that it could be one.";
    fs::write(directory.file(), letter).expect("a file is written");
    let text = refused(&directory);
    assert!(text.contains("is not a data file of Factum"), "{text}");
    assert_eq!(
        fs::read(directory.file()).expect("it is still there"),
        letter
    );
}

#[test]
fn a_database_of_another_application_is_refused() {
    let directory = Directory::new();
    let other = Connection::open(directory.file()).expect("SQLite makes a file");
    other
        .execute_batch("CREATE TABLE diary (day TEXT)")
        .expect("it is SQL");
    drop(other);
    let text = refused(&directory);
    assert!(text.contains("of another application"), "{text}");
}

#[test]
fn an_unknown_schema_version_is_refused_with_the_way_out() {
    let directory = Directory::new();
    drop(directory.open());
    let other = Connection::open(directory.file()).expect("it is a SQLite file");
    other
        .pragma_update(None, "user_version", 99)
        .expect("it can be changed");
    drop(other);
    let text = refused(&directory);
    assert!(
        text.contains("has schema version 99") && text.contains("start the newer program"),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_without_its_beginning_is_refused() {
    let directory = Directory::new();
    let order = directory.store().await;
    order
        .commit(appending("order/1", Any))
        .await
        .expect("it is applied");
    drop(order);
    let mut bytes = fs::read(directory.file()).expect("it can be read");
    // The header stays, so that it looks like a database; the rest of its first page is gone.
    bytes[100..4096].fill(0);
    fs::write(directory.file(), bytes).expect("it can be written");
    let text = refused(&directory);
    assert!(
        text.contains("damaged") && text.contains("restore the newest backup"),
        "{text}"
    );
}

#[tokio::test]
async fn a_record_that_was_changed_is_not_served() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    for _ in 0..3 {
        order
            .commit(appending("order/1", Any))
            .await
            .expect("it is applied");
    }
    // Another program changes it behind our back, as a failing disk does.
    let other = Connection::open(directory.file()).expect("it is a SQLite file");
    let changed = other.execute(
        "UPDATE records SET data = x'7b7d' WHERE key & 1099511627775 = 2",
        [],
    );
    assert_eq!(changed, Ok(1));
    let page = order.read_log(At::ZERO, &LogFilter::default(), 10).await;
    let error = page.expect_err("a damaged record is not served");
    assert!(error.is_fatal());
    let text = error.to_string();
    assert!(
        text.contains("position 2") && text.contains("factum.db"),
        "{text}"
    );
    order
        .read_stream(&stream("order/1"), Version(1), 10)
        .await
        .expect_err("by its stream neither");
    // And one that is missing is not passed over.
    assert_eq!(
        other.execute("DELETE FROM records WHERE key & 1099511627775 = 2", []),
        Ok(1)
    );
    order
        .read_log(At::ZERO, &LogFilter::default(), 10)
        .await
        .expect_err("the log has a gap");
}

#[tokio::test]
async fn commits_that_share_a_transaction_have_results_of_their_own() {
    let directory = Directory::new();
    let order = directory.store().await;
    // Every third expects what is not there, and joins the same groups as its neighbours.
    let commits = (0..100_u64).map(|number| {
        let expected = if number % 3 == 2 {
            Exact(Version(1_000 + number))
        } else {
            Any
        };
        order.commit(appending(&format!("order/{}", number % 7), expected))
    });
    let results = join_all(commits).await;
    let mut positions = Vec::new();
    for (number, result) in results.into_iter().enumerate() {
        match result {
            Ok(committed) => positions.push(committed.first.expect("it has a record").0),
            Err(error) => assert!(
                number % 3 == 2 && error.class() == ErrorClass::Conflict,
                "{number}: {error}"
            ),
        }
    }
    assert_eq!(positions, (1..=67).collect::<Vec<_>>());
}

/// What was acknowledged is there after a restart that nothing was closed for, and streams are whole though their
/// index trailed the log.
#[tokio::test]
async fn the_index_is_completed_from_the_tail_of_the_log() {
    let directory = Directory::new();
    let order = directory.store().await;
    let commits = (0..1_500_u64)
        .map(|number| order.commit(appending(&format!("order/{}", number % 50), Any)));
    for result in join_all(commits).await {
        result.expect("it is applied");
    }
    let trails = |directory: &Directory| {
        let file = Connection::open(directory.file()).expect("it is a SQLite file");
        let unindexed =
            "SELECT (SELECT count(*) FROM records) - (SELECT count(*) FROM stream_events)";
        file.query_row(unindexed, [], |row| row.get::<_, i64>(0))
            .expect("it is SQL")
    };
    assert!(
        trails(&directory) > 0,
        "the index trails the log, or this test shows nothing"
    );
    check_streams(&order).await;
    let copy = directory.copy();
    let sqlite = Sqlite::open(&copy.options().moved()).expect("the copy opens");
    let order = store(&sqlite, "order").await;
    assert_eq!(trails(&copy), 0);
    check_streams(&order).await;
    order
        .commit(appending("order/1", Exact(Version(30))))
        .await
        .expect("the version is known");
}

/// Each of 50 streams has 30 events, and each event is a story of its own.
async fn check_streams(order: &SqliteStore) {
    let expected: Vec<_> = (1..=30).map(Version).collect();
    for number in 0..50 {
        let stream = stream(&format!("order/{number}"));
        let page = order
            .read_stream(&stream, Version(1), 100)
            .await
            .expect("a stream is read");
        let versions: Vec<_> = page.records.iter().map(|record| record.version).collect();
        assert_eq!((versions, page.version), (expected.clone(), Version(30)));
        let story = &page.records[29].draft.correlation_id;
        let story = order
            .read_correlated(story, Position(0), 10)
            .await
            .expect("a story is read");
        assert_eq!(story.len(), 1);
    }
}

#[tokio::test]
async fn people_read_the_log_with_plain_sql() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    let drafts = vec![event("order/주문-1", r#"{"total":12,"items":["a"]}"#)];
    let append = Append {
        stream: stream("order/주문-1"),
        expected: Any,
        drafts,
    };
    order
        .commit(Commit {
            appends: vec![append],
            ..commit()
        })
        .await
        .expect("it is applied");
    let file = Connection::open(directory.file()).expect("it is a SQLite file");
    let row = file.query_row(
        "SELECT store, seq, aggregate_id, type, data, timestamp, json_extract(data, '$.total') FROM events",
        [],
        |row| {
            let texts = [row.get::<_, String>(0)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            Ok((texts, row.get::<_, i64>(1)?, row.get::<_, i64>(6)?))
        },
    );
    let (texts, seq, total) = row.expect("the view has a row");
    let expected = [
        "order",
        "주문-1",
        "OrderCreated",
        r#"{"total":12,"items":["a"]}"#,
        "2026-03-02T10:00:00.000123Z",
    ];
    assert_eq!(
        (texts.each_ref().map(String::as_str), seq, total),
        (expected, 1, 12)
    );
}

#[tokio::test]
async fn a_full_disk_is_transient_and_loses_nothing() {
    let directory = Directory::new();
    let sqlite = Sqlite::open(&directory.options().pages_max(160)).expect("the directory opens");
    let order = store(&sqlite, "order").await;
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(20_000));
    let big = |name: &str, version| {
        let append = Append {
            stream: stream(name),
            expected: Exact(Version(version)),
            drafts: vec![event(name, &data)],
        };
        Commit {
            appends: vec![append],
            ..commit()
        }
    };
    let mut applied = 0;
    let refused = loop {
        match order.commit(big("order/1", applied)).await {
            Ok(_) => applied += 1,
            Err(error) => break error,
        }
    };
    assert!(applied > 3, "it held {applied}");
    assert_eq!(refused.class(), ErrorClass::Transient, "{refused}");
    assert!(
        refused.to_string().contains("the disk is full"),
        "{refused}"
    );
    // Again, and in company: nothing of it is there, and what was before is.
    let commits = (0..20).map(|number| order.commit(big(&format!("order/other-{number}"), 0)));
    assert!(join_all(commits).await.iter().all(Result::is_err));
    // What stands on one that the disk refused fails with it, though it would fit.
    let refused = big("order/2", 0);
    let behind = Commit {
        stands_on: vec![refused.id],
        ..commit()
    };
    let both = join_all([refused, behind].map(|commit| order.commit(commit))).await;
    assert!(both.iter().all(Result::is_err), "{both:?}");
    let page = order
        .read_stream(&stream("order/1"), Version(1), 1_000)
        .await
        .expect("it can be read");
    assert_eq!(
        (page.version, page.records.len() as u64),
        (Version(applied), applied)
    );
    assert_eq!(
        order.head().await.expect("it can be read").position.0,
        applied
    );
    let listed = order
        .streams(None, None, 100)
        .await
        .expect("they can be listed");
    assert_eq!(listed.len(), 1);
    // With room again, it goes on by itself from where it was.
    drop((order, sqlite));
    let order = directory.store().await;
    order
        .commit(big("order/1", applied))
        .await
        .expect("there is room again");
    assert_eq!(
        order.head().await.expect("it can be read").position.0,
        applied + 1
    );
}

/// Another program held the file's lock, so that the group could not even begin: its first commit was refused
/// without a look at it, and what stood on it was applied alone.
#[tokio::test]
async fn what_stands_on_a_commit_that_found_the_file_locked_fails_with_it() {
    let directory = Directory::new();
    let order = directory.store().await;
    let other = Connection::open(directory.file()).expect("it is a SQLite file");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("it can be locked");
    let refused = appending("order/1", Any);
    let id = refused.id;
    let error = order.commit(refused).await.expect_err("the file is locked");
    assert!(
        error.class() == ErrorClass::Transient && error.to_string().contains("another program"),
        "{error}"
    );
    other.execute_batch("ROLLBACK").expect("it is free again");
    let behind = Commit {
        stands_on: vec![id],
        ..appending("order/2", Any)
    };
    let error = order.commit(behind).await.expect_err("it stands on it");
    assert!(
        matches!(error, CommitError::StoodOnFailed(known) if known == id),
        "{error}"
    );
    order
        .commit(appending("order/1", Exact(Version(0))))
        .await
        .expect("it goes on by itself");
}

#[tokio::test]
async fn stores_of_one_file_share_nothing_but_the_writer() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let (order, payment) = (
        store(&sqlite, "order").await,
        store(&sqlite, "payment").await,
    );
    assert_ne!(order.identity().id, payment.identity().id);
    let commits = (0..50).flat_map(|_| {
        [
            order.commit(appending("order/1", Any)),
            payment.commit(appending("order/1", Any)),
        ]
    });
    assert!(join_all(commits).await.iter().all(Result::is_ok));
    for one in [&order, &payment] {
        let page = one
            .read_log(At::ZERO, &LogFilter::default(), 1_000)
            .await
            .expect("the log is read");
        assert!(
            page.records
                .iter()
                .map(|record| record.at.position.0)
                .eq(1..=50)
        );
        assert_eq!(
            one.streams(None, None, 10)
                .await
                .expect("they are listed")
                .len(),
            1
        );
    }
    order
        .open_epoch(Epoch(7), AT, "test")
        .await
        .expect("an epoch is opened");
    assert_eq!(
        (order.identity().epoch, payment.identity().epoch),
        (Epoch(7), Epoch(1))
    );
}

/// Two handles of one service are one store.
#[tokio::test]
async fn a_store_that_is_opened_twice_is_one() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let (first, second) = (store(&sqlite, "order").await, store(&sqlite, "order").await);
    first
        .commit(appending("order/1", Any))
        .await
        .expect("it is applied");
    second
        .commit(appending("order/1", Exact(Version(1))))
        .await
        .expect("it is known");
    assert_eq!(first.head().await.expect("it is read").position.0, 2);
    assert_eq!(first.identity(), second.identity());
}

#[tokio::test]
async fn a_closed_file_refuses_and_does_not_hang() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    order
        .commit(appending("order/1", Any))
        .await
        .expect("it is applied");
    sqlite.close().await;
    assert!(order.commit(appending("order/1", Any)).await.is_err());
    assert!(
        order
            .read_stream(&stream("order/1"), Version(1), 1)
            .await
            .is_err()
    );
    // Closing has moved everything into the one file.
    assert!(fs::metadata(directory.path().join("factum.db-wal")).map_or(0, |wal| wal.len()) == 0);
}

/// The log is moved into the file beside the commits, and never grows beyond its bound by more than one group.
#[tokio::test]
async fn the_write_ahead_log_has_a_bound() {
    let directory = Directory::new();
    let bound = 5_000_000;
    let sqlite =
        Sqlite::open(&directory.options().wal_bytes_max(bound)).expect("the directory opens");
    let order = store(&sqlite, "order").await;
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    let mut largest = 0;
    for number in 0..300 {
        let name = format!("order/{number}");
        let append = Append {
            stream: stream(&name),
            expected: Any,
            drafts: vec![event(&name, &data)],
        };
        order
            .commit(Commit {
                appends: vec![append],
                ..commit()
            })
            .await
            .expect("it is applied");
        let wal = fs::metadata(directory.path().join("factum.db-wal")).expect("there is a log");
        largest = largest.max(wal.len());
    }
    assert!(
        largest > 1_000_000,
        "30 MB went through a log of {largest} bytes: it was not measured"
    );
    assert!(largest < bound + 500_000, "the log grew to {largest} bytes");
}

#[tokio::test]
async fn a_backup_holds_one_store_as_of_one_moment() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let (order, payment) = (
        store(&sqlite, "order").await,
        store(&sqlite, "payment").await,
    );
    for _ in 0..10 {
        order
            .commit(appending("order/1", Any))
            .await
            .expect("it is applied");
        payment
            .commit(appending("payment/1", Any))
            .await
            .expect("it is applied");
    }
    let path = directory.path().join("order.backup");
    order.backup(&path).await.expect("a backup is written");
    order
        .backup(&path)
        .await
        .expect_err("a backup is never overwritten");
    let kept = order
        .read_log(At::ZERO, &LogFilter::default(), 100)
        .await
        .expect("the log is read")
        .records;
    order
        .commit(appending("order/1", Any))
        .await
        .expect("it is applied");
    let lost = order.identity();
    drop((order, payment));
    sqlite.close().await;

    let restore = Restore {
        at: AT,
        epoch_min: Epoch(5),
        reason: "a test".into(),
    };
    // In its own place, beside the other store.
    let restored = Sqlite::restore(&path, &directory.options(), &restore).expect("it is restored");
    assert_eq!((restored.id, restored.epoch), (lost.id, Epoch(5)));
    // Twice: the second is another time line again.
    let again = Sqlite::restore(&path, &directory.options(), &restore).expect("it is restored");
    assert_eq!(again.epoch, Epoch(6));
    let sqlite = directory.open();
    let (order, payment) = (
        store(&sqlite, "order").await,
        store(&sqlite, "payment").await,
    );
    assert_eq!(order.identity(), again);
    assert_eq!(
        order
            .read_log(At::ZERO, &LogFilter::default(), 100)
            .await
            .expect("it is read")
            .records,
        kept
    );
    assert_eq!(payment.head().await.expect("it is read").position.0, 10);
    assert_eq!(payment.identity().epoch, Epoch(1));
    let spans = order.epochs().await.expect("they are listed");
    assert!(
        spans[1].reason.contains("restored to 1-10") && spans[1].reason.contains("a test"),
        "{:?}",
        spans[1]
    );
    assert_eq!(spans[1].first.0, 11);
    order
        .commit(appending("order/1", Exact(Version(10))))
        .await
        .expect("it goes on from there");

    // In an empty directory.
    let other = Directory::new();
    let late = Restore {
        at: "2026-03-02T10:00:00Z".parse().expect("it is a time"),
        ..restore
    };
    let restored = Sqlite::restore(&path, &other.options(), &late).expect("it is restored");
    assert_eq!(
        restored.epoch,
        Epoch(1_772_445_600_000),
        "the time in milliseconds"
    );
    let order = other.store().await;
    assert_eq!(
        order
            .read_log(At::ZERO, &LogFilter::default(), 100)
            .await
            .expect("it is read")
            .records,
        kept
    );

    // Not over a stranger of the same name, and not while the directory is in use.
    let stranger = Directory::new();
    let sqlite = stranger.open();
    let known = sqlite
        .store(&ServiceName::of("order"), &env())
        .await
        .expect("the store opens")
        .identity();
    assert!(
        Sqlite::restore(&path, &stranger.options(), &late)
            .expect_err("it is in use")
            .to_string()
            .contains("in use")
    );
    sqlite.close().await;
    let error =
        Sqlite::restore(&path, &stranger.options(), &late).expect_err("it is another store");
    assert!(
        error
            .to_string()
            .contains("restore into an empty directory"),
        "{error}"
    );
    let sqlite = stranger.open();
    assert_eq!(
        sqlite
            .store(&ServiceName::of("order"), &env())
            .await
            .expect("the store opens")
            .identity(),
        known
    );
}
