//! A data directory for one test, and how it waits.

use std::{sync::Arc, time::Duration};

use factum::{Broker, Env, ServiceName, Sqlite, SqliteOptions, Store, system_env};
use tempfile::TempDir;

/// How long anything may take: generous, since nothing is learned from a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A data directory, open.
pub(crate) struct Data {
    pub(crate) env: Env,
    sqlite: Sqlite,
    _directory: TempDir,
}

impl Data {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            env: system_env(),
            sqlite: Sqlite::open(&SqliteOptions::new(directory.path())).unwrap(),
            _directory: directory,
        }
    }

    pub(crate) async fn store(&self, service: &'static str) -> Arc<dyn Store> {
        let service = ServiceName::of(service);
        self.sqlite.store(&service, &self.env).await.unwrap()
    }

    pub(crate) async fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.sqlite.broker(&self.env).await.unwrap())
    }
}

/// Waits until `condition` holds, and says how long it looked in vain otherwise.
#[track_caller]
pub(crate) fn until(
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "{place}: never came true: {what}");
    }
}
