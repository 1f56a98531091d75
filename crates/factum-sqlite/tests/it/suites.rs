//! The contracts of the store and views ports, on a file.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use factum_core::{Epoch, ServiceName, Store};
use factum_sqlite::{Restore, Sqlite};
use factum_testkit::conformance::store::StoreHarness;

use crate::support::{AT, Directory, env};

/// A file in a directory of its own.
pub(crate) struct OnFile {
    directory: Directory,
    sqlite: Mutex<Option<Sqlite>>,
}

impl OnFile {
    pub(crate) fn new() -> Self {
        Self {
            directory: Directory::new(),
            sqlite: Mutex::new(None),
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        let sqlite = self.directory.open();
        let store = sqlite
            .store(&ServiceName::of("order"), &env())
            .await
            .expect("the store opens");
        *self.sqlite.lock().expect("no case panicked here") = Some(sqlite);
        store
    }

    fn backup_path(&self) -> PathBuf {
        self.directory.path().join("backup.db")
    }
}

#[async_trait]
impl StoreHarness for OnFile {
    async fn create(&self) -> Arc<dyn Store> {
        self.open().await
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        drop(self.sqlite.lock().expect("no case panicked here").take());
        self.open().await
    }

    async fn backup(&self) -> bool {
        let sqlite = self
            .sqlite
            .lock()
            .expect("no case panicked here")
            .clone()
            .expect("the file is open");
        let store = sqlite
            .store(&ServiceName::of("order"), &env())
            .await
            .expect("the store opens");
        store
            .backup(&self.backup_path())
            .await
            .expect("a backup is written");
        true
    }

    async fn restore(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        drop(self.sqlite.lock().expect("no case panicked here").take());
        let restore = Restore {
            at: AT,
            epoch_min: Epoch(0),
            reason: "a case".into(),
        };
        Sqlite::restore(&self.backup_path(), &self.directory.options(), &restore)
            .expect("the backup is restored");
        self.open().await
    }
}

mod store {
    factum_testkit::store_suite!(super::OnFile::new());
}

mod views {
    factum_testkit::views_suite!(super::OnFile::new());
}
