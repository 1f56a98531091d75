//! What the tests are made with: a directory, the file in it, and ready-made commits.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use factum_core::{
    Append, Codec, Commit, CommitId, Destination, Draft, Env, ExpectedVersion, Key, Metadata,
    RecordKind, ServiceName, Store as _, StreamId, Timestamp, Topic, TypeName,
};
use factum_sqlite::{Sqlite, SqliteOptions, SqliteStore};
use factum_testkit::TestEnv;
use uuid::Uuid;

/// The one time of these tests.
pub(crate) const AT: Timestamp = Timestamp::UNIX_EPOCH;

static IDS: AtomicU64 = AtomicU64::new(1);

/// An id that was not used before.
pub(crate) fn fresh() -> Uuid {
    Uuid::from_u128(u128::from(IDS.fetch_add(1, Ordering::Relaxed)))
}

/// Lets the ids of another life of the same data begin elsewhere.
pub(crate) fn later_life(number: usize) {
    IDS.fetch_add((number as u64) << 40, Ordering::Relaxed);
}

/// A source of ids that differ from run to run of `env()` within this process.
pub(crate) fn env() -> Env {
    TestEnv::seeded(IDS.fetch_add(1, Ordering::Relaxed)).env()
}

/// A directory of its own, with the options to open it.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory can be made"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("factum.db")
    }

    /// Another directory with what this one holds at this moment, open or not: a kill could not leave less.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        for name in ["factum.db", "factum.db-wal", "factum.witness"] {
            if let Err(error) = fs::copy(self.path().join(name), copy.path().join(name)) {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
            }
        }
        copy
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions::new(self.path())
    }

    pub(crate) fn open(&self) -> Sqlite {
        Sqlite::open(&self.options()).expect("the directory opens")
    }

    /// The store of service `order`, with the topic `orders` pinned.
    pub(crate) async fn store(&self) -> Arc<SqliteStore> {
        store(&self.open(), "order").await
    }
}

pub(crate) async fn store(sqlite: &Sqlite, service: &'static str) -> Arc<SqliteStore> {
    let store = sqlite
        .store(&ServiceName::of(service), &env())
        .await
        .expect("the store opens");
    store
        .pin_topic(&Topic::of("orders"), 4)
        .await
        .expect("a topic can be pinned");
    store
}

pub(crate) fn stream(name: &str) -> StreamId {
    name.parse().expect("a test names its streams well")
}

/// An event with `data` for the topic, keyed by its stream.
pub(crate) fn event(name: &str, data: &str) -> Draft {
    let id = fresh();
    let key = Key::from(name);
    Draft {
        kind: RecordKind::Event,
        stream: Some(stream(name)),
        event_id: id.into(),
        event_type: TypeName::new("OrderCreated", 2),
        destination: Some(Destination {
            topic: Topic::of("orders"),
            partition: key.partition(4),
            key: Some(key),
        }),
        timestamp: "2026-03-02T10:00:00.000123Z".parse().expect("it is a time"),
        correlation_id: id.into(),
        causation_id: None,
        metadata: Metadata::new(),
        tags: Vec::new(),
        codec: Codec::Json,
        protection: None,
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

pub(crate) fn commit() -> Commit {
    Commit::new(CommitId(fresh()), AT)
}

/// A commit that appends one event.
pub(crate) fn appending(name: &str, expected: ExpectedVersion) -> Commit {
    let append = Append {
        stream: stream(name),
        expected,
        drafts: vec![event(name, r#"{"total":12}"#)],
    };
    Commit {
        appends: vec![append],
        ..commit()
    }
}
