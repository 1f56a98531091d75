//! What a start has to read: the part of the log that is not indexed yet, and its last records to see them whole.

use std::sync::Arc;

use factum_core::{At, ExpectedVersion, LogFilter, Store as _, Version};

use factum_sqlite::{Sqlite, SqliteStore};
use rusqlite::Connection;

use crate::support::{Directory, appending, store};

/// The records that the indexes may trail the log by, as `docs/internals/storage.md` states it, and one group of
/// commits.
const UNINDEXED_MAX: u64 = 512 + 64;

/// How many of the last records a start looks at.
const LAST: u64 = 512;

/// The store of `directory`, started anew where what it had was left.
async fn start(left: &Directory) -> (Sqlite, Arc<SqliteStore>) {
    let sqlite = Sqlite::open(&left.options().moved()).expect("what a kill leaves opens");
    let started = store(&sqlite, "order").await;
    (sqlite, started)
}

#[tokio::test]
async fn a_start_reads_a_bounded_part_of_the_log_whatever_its_length() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let orders = store(&sqlite, "order").await;
    let mut written = 0;
    for length in [300, 2_000] {
        while written < length {
            let commit = appending("order/1", ExpectedVersion::Exact(Version(written)));
            orders.commit(commit).await.unwrap();
            written += 1;
        }
        // A copy is what a kill leaves: nothing was closed.
        let left = directory.copy();
        let (_sqlite, started) = start(&left).await;
        let read = started.records_read().unwrap();
        assert!(
            (1..=UNINDEXED_MAX + LAST).contains(&read),
            "of {length} records {read} were read"
        );
        // It is what is read that is counted.
        let all = LogFilter::default();
        let page = started.read_log(At::ZERO, &all, 100).await.unwrap();
        assert_eq!(page.records.len(), 100);
        assert_eq!(started.records_read().unwrap(), read + 100);
    }
}

/// A start that has lost its indexes reads the whole log, and the bound would tell.
#[tokio::test]
async fn a_start_that_has_to_read_all_exceeds_the_bound() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let orders = store(&sqlite, "order").await;
    for written in 0..2_000 {
        let commit = appending("order/1", ExpectedVersion::Exact(Version(written)));
        orders.commit(commit).await.unwrap();
    }
    let left = directory.copy();
    let file = Connection::open(left.file()).unwrap();
    file.execute_batch(
        "DELETE FROM stream_events; DELETE FROM correlated; UPDATE stores SET indexed = 0",
    )
    .unwrap();
    drop(file);
    let (_sqlite, started) = start(&left).await;
    let read = started.records_read().unwrap();
    assert!(read > UNINDEXED_MAX + LAST, "{read} records were read");
}
