//! What a start has to read: the part of the log that is not indexed yet, and its last records to see them whole.

use factum_core::{At, ExpectedVersion, LogFilter, Store as _, Version};

use factum_sqlite::Sqlite;

use crate::support::{Directory, appending, store};

/// The records that the indexes may trail the log by, as `docs/internals/storage.md` states it, and one group of
/// commits.
const UNINDEXED_MAX: u64 = 512 + 64;

/// How many of the last records a start looks at.
const LAST: u64 = 512;

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
        let sqlite = Sqlite::open(&left.options().moved()).unwrap();
        let started = store(&sqlite, "order").await;
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
