//! What the tests are made with: a place of their own on a server, and stores with their views there.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use factum_core::{ServiceName, Store, StoreId, Timestamp, WithViews};
use factum_redis::{RedisOptions, RedisViews};
use factum_testkit::{MemoryDisk, MemoryStore, engines};
use uuid::Uuid;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A number that no test of this run has had.
pub(crate) fn fresh() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// A store in memory, and keys on a server that nobody else uses. They are dropped with this.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) disk: MemoryDisk,
}

impl Place {
    /// On the server of all tests; `None`, which is then said, when there is none.
    pub(crate) fn new() -> Option<Self> {
        Some(Self::on(&engines::server("FACTUM_TEST_REDIS")?))
    }

    /// On the server at `url`.
    pub(crate) fn on(url: &str) -> Self {
        let (process, number) = (std::process::id(), fresh());
        let id = StoreId(Uuid::from_u128(
            u128::from(process) << 64 | u128::from(number),
        ));
        Self {
            url: url.into(),
            prefix: format!("t{process}-{number}"),
            disk: MemoryDisk::new(id, ServiceName::of("order"), Timestamp::UNIX_EPOCH),
        }
    }

    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions::parse(&self.url)
            .and_then(|options| options.key_prefix(&self.prefix))
            .expect("the address is right")
    }

    /// What a process is: a connection of its own, and the store with its views.
    pub(crate) async fn process(&self) -> Process {
        let views = RedisViews::connect(self.options()).await;
        let views = Arc::new(views.expect("the server is there"));
        let store = self.store_on(&views).await;
        Process { views, store }
    }

    /// The store, with its views by an engine.
    pub(crate) async fn store_on(&self, views: &RedisViews) -> Arc<dyn Store> {
        let store = Arc::new(MemoryStore::open(self.disk.clone()));
        WithViews::store(store, views)
            .await
            .expect("a store gets its views")
    }
}

/// A connection to look behind the curtain.
pub(crate) fn redis_at(url: &str) -> redis::Connection {
    redis::Client::open(url)
        .and_then(|client| client.get_connection())
        .expect("the server is there")
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, pattern) = (self.url.clone(), format!("{}:*", self.prefix));
        // On a thread of its own, since a test may be on a runtime's. Keys that stay behind harm nobody.
        let thread = std::thread::spawn(move || {
            let client = redis::Client::open(url)?;
            let mut connection = client.get_connection()?;
            let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut connection)?;
            if !keys.is_empty() {
                redis::cmd("UNLINK").arg(keys).exec(&mut connection)?;
            }
            Ok::<_, redis::RedisError>(())
        });
        drop(thread.join());
    }
}

/// A process that uses a store and its views.
pub(crate) struct Process {
    pub(crate) views: Arc<RedisViews>,
    pub(crate) store: Arc<dyn Store>,
}
