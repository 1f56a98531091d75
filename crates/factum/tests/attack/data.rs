//! A data directory for one test, and how it waits.

use std::{sync::Arc, time::Duration};

use factum::{
    Broker, Commit, Env, ServiceName, SqlValue, Sqlite, SqliteOptions, Store, ViewWrite, system_env,
};
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

    /// A commit that keeps the writer of a service's store busy over so many rows.
    pub(crate) fn busy(&self, service: &str, rows: i64) -> Commit {
        let mut commit = Commit::new(self.env.commit_id(), self.env.now());
        let sql = |statement: String, parameters| ViewWrite::Sql {
            statement,
            parameters,
        };
        commit.views = vec![
            sql(
                format!("CREATE TABLE IF NOT EXISTS {service}__busy (x INTEGER)"),
                vec![],
            ),
            sql(
                format!(
                    "INSERT INTO {service}__busy WITH RECURSIVE {service}_n (x) AS \
                     (SELECT 1 UNION ALL SELECT x + 1 FROM {service}_n WHERE x < ?1) SELECT max(x) FROM {service}_n"
                ),
                vec![SqlValue::Integer(rows)],
            ),
        ];
        commit
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
