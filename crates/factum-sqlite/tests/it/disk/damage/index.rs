//! Damage in the indexes of the log, on purpose: each entry is compared with the record that it leads to.

use super::*;

/// Entries of an index that lead elsewhere, or that are gone: the stream was shorter, or another's record was served.
#[tokio::test]
async fn what_an_index_says_is_compared_with_the_records() {
    let original = Original::create().await;
    let first_key = "(SELECT min(key) FROM records)";
    for (damage, streams_whole) in [
        // The record that an entry leads to: another's, an earlier one of the same stream, none.
        (format!("UPDATE stream_events SET record = {first_key} + 1 WHERE stream & 1099511627775 = 1 AND version = 3"), false),
        (format!("UPDATE stream_events SET record = {first_key} WHERE stream & 1099511627775 = 1 AND version = 3"), false),
        ("UPDATE stream_events SET record = record + 1000000 WHERE stream & 1099511627775 = 1 AND version = 3".into(), false),
        // The last entry of the index: what comes behind it is in memory, or isn't.
        ("UPDATE stream_events SET record = record + 1000000 WHERE stream & 1099511627775 = 1 AND version = \
          (SELECT max(version) FROM stream_events WHERE stream & 1099511627775 = 1)".into(), false),
        // Entries that are gone: the first, in the middle, and the last before the tail.
        ("DELETE FROM stream_events WHERE stream & 1099511627775 = 1 AND version = 1".into(), false),
        ("DELETE FROM stream_events WHERE stream & 1099511627775 = 1 AND version BETWEEN 4 AND 9".into(), false),
        ("DELETE FROM stream_events WHERE stream & 1099511627775 = 1 AND version = \
          (SELECT max(version) FROM stream_events WHERE stream & 1099511627775 = 1)".into(), false),
        // An entry that went to another stream.
        ("UPDATE stream_events SET stream = stream + 1, version = 1000 WHERE stream & 1099511627775 = 1 AND version = 2".into(), false),
        // The other index.
        (format!("UPDATE correlated SET record = {first_key} + 1 WHERE record = {first_key} + 7"), true),
    ] {
        let copy = original.directory.copy();
        let file = Connection::open(copy.file()).expect("it is a SQLite file");
        let changed = file.execute(&damage, []).expect("it can be changed");
        assert!(changed > 0, "{damage}: nothing was there");
        drop(file);
        let sqlite = Sqlite::open(&copy.options().moved()).expect("a start looks at no index");
        let order = store(&sqlite, "order").await;
        let damaged = Contents::read(&sqlite, &order).await;
        let wrong = |read: &Result<Vec<Record>, Error>, known: &Result<Vec<Record>, Error>| {
            match (read, known) {
                (Ok(read), Ok(known)) => {
                    assert!(read == known, "{damage}: something else is served");
                    false
                }
                (Err(error), _) => {
                    let text = error.to_string();
                    assert!(
                        error.is_fatal() && text.contains("can't be read; restore"),
                        "{damage}: {text}"
                    );
                    true
                }
                (_, Err(error)) => panic!("the original is damaged: {error}"),
            }
        };
        let pairs = damaged.streams.iter().zip(&original.contents.streams);
        let found = pairs.filter(|(read, known)| wrong(read, known)).count();
        assert_eq!(found == 0, streams_whole, "{damage}");
        let story = wrong(&damaged.story, &original.contents.story);
        assert_eq!(story, streams_whole, "{damage}");
    }
}

/// Where nothing comes behind in memory, a stream was served without its last event, at its former version.
#[tokio::test]
async fn a_stream_is_not_shorter_by_an_entry_whose_record_is_gone() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    for _ in 0..3 {
        let commit = appending("order/quiet", Any);
        order.commit(commit).await.expect("it is applied");
    }
    // So many more that the index has all of the first ones.
    let others = (0..600).map(|_| order.commit(appending("order/other", Any)));
    assert!(join_all(others).await.iter().all(Result::is_ok));
    drop(order);
    sqlite.close().await;
    let file = Connection::open(directory.file()).expect("it is a SQLite file");
    let damage = "UPDATE stream_events SET record = record + 1000000 \
         WHERE stream & 1099511627775 = 1 AND version = 3";
    let changed = file.execute(damage, []);
    assert_eq!(changed.expect("it can be changed"), 1);
    drop(file);
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    let name = stream("order/quiet");
    for from in [1, 3] {
        let read = order.read_stream(&name, Version(from), 100).await;
        let error = read.expect_err("its last record is elsewhere");
        let text = error.to_string();
        assert!(
            error.is_fatal() && text.contains("version 3 of stream `order/quiet`"),
            "{text}"
        );
    }
}
