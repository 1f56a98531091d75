//! What the tests are made with: a server, and a schema of its own for each test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use factum_core::{
    Append, Codec, Commit, CommitId, Destination, Draft, Env, ExpectedVersion, Key, LogFilter,
    Metadata, Record, RecordKind, ServiceName, Store, StreamId, Timestamp, Topic, TypeName,
};
use factum_postgres::{Postgres, PostgresOptions, PostgresStore};
use factum_testkit::{TestEnv, engines};
use tokio_postgres::Client;
use uuid::Uuid;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A number that no test of this run has had.
pub(crate) fn fresh() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// A source of ids that differ from call to call, and from run to run.
pub(crate) fn env() -> Env {
    TestEnv::seeded(u64::from(std::process::id()) << 32 | fresh()).env()
}

/// The service whose store the tests open.
pub(crate) fn service() -> ServiceName {
    ServiceName::of("order")
}

/// A place in the server of the tests that nobody else uses. It is dropped with this.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) prefix: String,
}

impl Place {
    /// One of its own; `None`, which is then said, when there is no server.
    pub(crate) fn new() -> Option<Self> {
        let url = engines::server("FACTUM_TEST_POSTGRES")?;
        let prefix = format!("t{}_{}_", std::process::id(), fresh());
        Some(Self { url, prefix })
    }

    /// The schema of the store, as it is written in a statement.
    pub(crate) fn schema(&self) -> String {
        format!("\"{}order\"", self.prefix)
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions::new(&self.url).schema_prefix(&self.prefix)
    }

    /// A process that uses its store.
    pub(crate) async fn process(&self) -> Process {
        process(&self.options()).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, schema) = (self.url.clone(), format!("{}order", self.prefix));
        let drop_it = async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            let connection = tokio::spawn(connection);
            client
                .batch_execute(&format!(
                    "DROP SCHEMA IF EXISTS \"{schema}\" CASCADE; DROP SCHEMA IF EXISTS \"{schema}_own\" CASCADE"
                ))
                .await?;
            drop(client);
            drop(connection.await);
            Ok::<_, tokio_postgres::Error>(())
        };
        // On a thread of its own, since a test may be on a runtime's. A schema that stays behind harms nobody.
        let thread = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.map(|runtime| runtime.block_on(drop_it).is_ok())
        });
        drop(thread.join());
    }
}

/// A process that uses a store, as far as the server can tell: a pool, a writer and a listener of its own.
pub(crate) struct Process {
    pub(crate) postgres: Postgres,
    pub(crate) store: Arc<PostgresStore>,
}

/// A process whose store is where `options` say.
pub(crate) async fn process(options: &PostgresOptions) -> Process {
    let postgres = Postgres::new(options).expect("the address is right");
    let store = postgres
        .store(&service(), &env())
        .await
        .expect("the store opens");
    Process { postgres, store }
}

/// The one time of these tests.
pub(crate) const AT: Timestamp = Timestamp::UNIX_EPOCH;

/// How long a test waits for what must come, on a machine however busy.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);

/// The topic that events of these tests go to.
pub(crate) fn topic() -> Topic {
    Topic::of("orders")
}

/// A stream of orders.
pub(crate) fn stream(id: &str) -> StreamId {
    format!("order/{id}").parse().expect("it names a stream")
}

fn id() -> Uuid {
    Uuid::from_u128(u128::from(std::process::id()) << 64 | u128::from(fresh()))
}

/// An empty commit.
pub(crate) fn commit() -> Commit {
    Commit::new(CommitId(id()), AT)
}

/// A commit that appends an event to a stream.
pub(crate) fn appending(to: &str, expected: ExpectedVersion) -> Commit {
    let stream = stream(to);
    let key = Key::from(to);
    let draft = Draft {
        kind: RecordKind::Event,
        stream: Some(stream.clone()),
        event_id: id().into(),
        event_type: TypeName::new("OrderPlaced", 1),
        destination: Some(Destination {
            topic: topic(),
            partition: 0,
            key: Some(key),
        }),
        timestamp: AT,
        correlation_id: id().into(),
        causation_id: None,
        metadata: Metadata::new(),
        tags: Vec::new(),
        codec: Codec::Json,
        protection: None,
        data: Bytes::from_static(b"{\"total\":1}"),
    };
    Commit {
        appends: vec![Append {
            stream,
            expected,
            drafts: vec![draft],
        }],
        ..commit()
    }
}

/// A session of nobody's.
pub(crate) async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("the server lets us in");
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(WAIT_MAX, async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let Ok(found) = waited.await else {
        panic!("waited in vain: {what}");
    };
    found
}

/// The whole log, which must be 1, 2, 3, … without a gap.
pub(crate) async fn log(store: &dyn Store) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let after = records
            .last()
            .map_or(factum_core::At::ZERO, |record| record.at);
        let page = store.read_log(after, &LogFilter::default(), 1_000).await;
        let page = page.expect("the log reads");
        if page.records.is_empty() {
            break;
        }
        records.extend(page.records);
    }
    let positions = records.iter().map(|record| record.at.position.0);
    assert!(
        positions.eq(1..=records.len() as u64),
        "positions are dense"
    );
    records
}
