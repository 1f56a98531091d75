//! Records whose content is gone: archived and erased ones keep their position, and say what they are.

use factum_core::{At, ExpectedVersion::Any, LogFilter, RecordState, Store as _, Version};
use rusqlite::Connection;

use crate::support::{Directory, appending, stream};

#[tokio::test]
async fn an_archived_or_erased_record_is_read_as_what_it_is_and_keeps_its_place() {
    let directory = Directory::new();
    let order = directory.store().await;
    for _ in 0..4 {
        order
            .commit(appending("order/1", Any))
            .await
            .expect("it is applied");
    }
    // Nothing of Factum's does this yet; the column is what a later one will write.
    let other = Connection::open(directory.file()).expect("it is a SQLite file");
    for (state, position) in [(2, 2), (3, 3)] {
        let sql = "UPDATE records SET state = ?1 WHERE key & 1099511627775 = ?2";
        assert_eq!(other.execute(sql, [state, position]), Ok(1));
    }
    let expected = [
        RecordState::Live,
        RecordState::Archived,
        RecordState::Erased,
        RecordState::Live,
    ];
    let page = order
        .read_log(At::ZERO, &LogFilter::default(), 10)
        .await
        .expect("it is read");
    assert!(page.records.iter().map(|record| record.state).eq(expected));
    assert!(
        page.records
            .iter()
            .map(|record| record.at.position.0)
            .eq(1..=4)
    );
    let page = order
        .read_stream(&stream("order/1"), Version(1), 10)
        .await
        .expect("it is read");
    assert!(page.records.iter().map(|record| record.state).eq(expected));

    // A state that nobody has heard of is damage, and no marker.
    let sql = "UPDATE records SET state = 9 WHERE key & 1099511627775 = 2";
    assert_eq!(other.execute(sql, []), Ok(1));
    let error = order.read_log(At::ZERO, &LogFilter::default(), 10).await;
    let error = error.expect_err("it can't be read");
    assert!(
        error.is_fatal() && error.to_string().contains("position 2"),
        "{error}"
    );
}
