//! The worker: a process that commits to the store of a directory and says what was acknowledged.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use factum_core::{
    Append, Commit, Draft, ErrorClass, ExpectedVersion::Exact, ServiceName, Snapshot, Store as _,
    Topic, Version,
};
use factum_sqlite::{Sqlite, SqliteOptions, SqliteStore};
use futures_util::future::join_all;

use crate::support::{commit, env, event, later_life, stream};

/// How many streams are written to at a time.
pub(super) const STREAMS: u64 = 8;

/// The data of an event: nobody could make it up who has not its stream and version.
pub(super) fn data(name: &str, version: u64, bytes: usize) -> String {
    let text: String = (0..bytes)
        .map(|index| char::from(b'a' + ((index as u64 * 7 + version) % 26) as u8))
        .collect();
    format!(r#"{{"stream":"{name}","version":{version},"text":"{text}"}}"#)
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many bytes each event has.
fn bytes() -> usize {
    number("FACTUM_TEST_BYTES").unwrap_or(300)
}

/// Tells the parent, and writes acknowledgements where a journal keeps them in order with all else.
struct Mouth(Mutex<fs::File>);

impl Mouth {
    fn say(&self, line: &str) {
        let mut book = self.0.lock().expect("nobody panics with it");
        if line.starts_with("acked") {
            book.write_all(format!("{line}\n").as_bytes())
                .expect("the book has no faults");
        }
        let mut out = std::io::stdout().lock();
        // The parent may have heard enough.
        let _heard = out
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| out.flush());
    }

    fn failed(&self, class: ErrorClass, error: &impl std::fmt::Display) {
        let text = format!("{error:#}").replace('\n', " ");
        self.say(&format!("failed {class} {text}"));
    }
}

#[test]
fn works_where_it_is_told_to() {
    let Ok(directory) = std::env::var("FACTUM_TEST_WORK") else {
        return;
    };
    let directory = PathBuf::from(directory);
    let mut options = fs::OpenOptions::new();
    let book = options
        .create(true)
        .append(true)
        .open(directory.join("acked"));
    let mouth = Mouth(Mutex::new(book.expect("the book can be opened")));
    later_life(number("FACTUM_TEST_LIFE").unwrap_or(0));
    if std::env::var("FACTUM_TEST_PLAIN").is_ok() {
        return work_plainly(&directory, &mouth);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime
        .expect("a runtime can be made")
        .block_on(work(&directory, &mouth));
}

async fn work(directory: &Path, mouth: &Mouth) {
    // The log is to start over now and then.
    let options = SqliteOptions::new(directory).wal_bytes_max(1 << 20);
    let sqlite = match Sqlite::open(&options) {
        Ok(sqlite) => sqlite,
        Err(error) => return mouth.failed(error.class(), &error),
    };
    let topic = Topic::of("orders");
    let opened = async {
        let order = sqlite.store(&ServiceName::of("order"), &env()).await?;
        order.pin_topic(&topic, 4).await.map(|()| order)
    };
    let order = match opened.await {
        Ok(order) => order,
        Err(error) => return mouth.failed(error.class(), &error),
    };
    let count = number("FACTUM_TEST_COMMITS").unwrap_or(usize::MAX);
    join_all((0..STREAMS).map(|task| fill(&order, mouth, task, count))).await;
    if std::env::var("FACTUM_TEST_CLOSE").is_ok() {
        drop(order);
        sqlite.close().await;
    }
    mouth.say("ended");
}

async fn fill(order: &Arc<SqliteStore>, mouth: &Mouth, task: u64, count: usize) {
    let name = format!("order/{task}");
    let mut version = match order.read_stream(&stream(&name), Version(1), 1).await {
        Ok(page) => page.version,
        Err(error) => return mouth.failed(error.class(), &error),
    };
    for done in 0..count {
        let next = version.next();
        let appending = Commit {
            appends: vec![Append {
                stream: stream(&name),
                expected: Exact(version),
                drafts: vec![Draft {
                    data: Bytes::from(data(&name, next.0, bytes())),
                    ..event(&name, "")
                }],
            }],
            ..commit()
        };
        match order.commit(appending).await {
            Ok(_) => mouth.say(&format!("acked {name} {next}")),
            Err(error) => {
                mouth.failed(error.class(), &error);
                match error.class() {
                    ErrorClass::Transient => room().await,
                    _ => break,
                }
                continue;
            }
        }
        version = next;
        // Groups that move no log.
        if done % 16 == 0 && task == 0 {
            let (state, stream) = (Bytes::from_static(b"{}"), stream(&name));
            let saved = order
                .save_snapshot(
                    &stream,
                    "1",
                    Snapshot {
                        version,
                        event_id: "the last".into(),
                        state,
                    },
                )
                .await;
            let claimed = order.claim_relay().await;
            for error in saved.err().into_iter().chain(claimed.err()) {
                mouth.failed(error.class(), &error);
            }
        }
    }
}

/// Waits until the disk has room again.
async fn room() {
    let Ok(full) = std::env::var("FACTUM_FAULTS_WHILE") else {
        return tokio::task::yield_now().await;
    };
    while Path::new(&full).exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a store must not be: it tries again after a failed sync, and calls that a success.
fn work_plainly(directory: &Path, mouth: &Mouth) {
    let connection = rusqlite::Connection::open(directory.join("factum.db")).expect("it opens");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE a (n INTEGER)",
        )
        .expect("it is SQL");
    for number in 0..50 {
        while connection
            .execute("INSERT INTO a VALUES (?1)", [number])
            .is_err()
        {}
        mouth.say(&format!("acked plain {number}"));
    }
    mouth.say("ended");
}
