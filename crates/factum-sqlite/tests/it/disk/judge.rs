//! The judge: whether a directory still has what was acknowledged, and nothing that nobody wrote.

use std::collections::BTreeMap;

use factum_core::{At, Error, LogFilter, Record, Store as _, Version};
use factum_sqlite::{Sqlite, SqliteOptions, SqliteStore};

use super::{
    Said,
    worker::{STREAMS, data},
};
use crate::support::{store, stream};

/// For each stream, the last version that was acknowledged.
pub(super) type Acked = BTreeMap<String, u64>;

/// Adds what was said.
pub(super) fn add(acked: &mut Acked, said: &[Said]) {
    for said in said {
        if let Said::Acked(stream, version) = said {
            let last = acked.entry(stream.clone()).or_default();
            *last = (*version).max(*last);
        }
    }
}

/// Runs on an executor of its own.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime can be made").block_on(future)
}

/// Reads all that the directory has, and compares.
pub(super) fn judge(options: &SqliteOptions, acked: &Acked, bytes: usize) -> Result<usize, String> {
    run(async {
        let failed = |error: Error| format!("{error:#}");
        let sqlite = Sqlite::open(options).map_err(failed)?;
        let order = store(&sqlite, "order").await;
        let records = read_all(&order).await.map_err(failed)?;
        compare(&records, acked, bytes)?;
        for task in 0..STREAMS {
            let name = format!("order/{task}");
            let page = order
                .read_stream(&stream(&name), Version(1), usize::MAX)
                .await;
            let page = page.map_err(failed)?;
            let of_stream = |record: &&Record| record.draft.stream.as_ref() == Some(&stream(&name));
            if !records.iter().filter(of_stream).eq(page.records.iter()) {
                return Err(format!("stream {name} is not what the log says"));
            }
        }
        sqlite.close().await;
        Ok(records.len())
    })
}

/// The whole log.
pub(super) async fn read_all(order: &SqliteStore) -> Result<Vec<Record>, Error> {
    let (mut records, mut next) = (Vec::new(), At::ZERO);
    loop {
        let page = order.read_log(next, &LogFilter::default(), 1_000).await?;
        records.extend(page.records);
        if page.next == page.head || page.next == next {
            return Ok(records);
        }
        next = page.next;
    }
}

/// Each stream has its events once, in order and with the data they were written with, up to what was acknowledged.
pub(super) fn compare(records: &[Record], acked: &Acked, bytes: usize) -> Result<(), String> {
    let mut streams: BTreeMap<String, u64> = BTreeMap::new();
    for record in records {
        let name = record
            .draft
            .stream
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let last = streams.entry(name.clone()).or_default();
        *last += 1;
        if record.version.0 != *last {
            return Err(format!(
                "{name} has version {} behind {}",
                record.version,
                *last - 1
            ));
        }
        if record.draft.data != data(&name, *last, bytes).as_bytes() {
            return Err(format!("{name} has another event as version {last}"));
        }
    }
    for (name, version) in acked {
        let last = streams.get(name).copied().unwrap_or(0);
        if last < *version {
            return Err(format!(
                "{name} ends at version {last}, and {version} was acknowledged"
            ));
        }
    }
    Ok(())
}
