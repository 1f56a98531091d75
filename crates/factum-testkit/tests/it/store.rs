//! The memory store against the suite of the store port.

use std::sync::{Arc, Mutex};

use factum_core::{Epoch, ServiceName, Store, StoreId, Timestamp};
use factum_testkit::{MemoryDisk, MemoryStore, conformance::store::StoreHarness};

/// A memory store, whose disk outlives it.
pub(crate) struct Memory {
    disk: MemoryDisk,
    backup: Mutex<Option<MemoryDisk>>,
}

pub(crate) fn memory() -> Memory {
    let id = StoreId(uuid::Uuid::from_u128(1));
    let disk = MemoryDisk::new(id, ServiceName::of("order"), Timestamp::UNIX_EPOCH);
    Memory {
        disk,
        backup: Mutex::default(),
    }
}

#[async_trait::async_trait]
impl StoreHarness for Memory {
    async fn create(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::open(self.disk.clone()))
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.create().await
    }

    async fn second(&self) -> Option<Arc<dyn Store>> {
        Some(self.create().await)
    }

    async fn backup(&self) -> bool {
        *self.backup.lock().expect("no other test has this harness") = Some(self.disk.backup());
        true
    }

    async fn restore(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        let backup = self
            .backup
            .lock()
            .expect("no other test has this harness")
            .take();
        let backup = backup.expect("a backup was taken");
        self.disk
            .restore(&backup, Epoch(0), Timestamp::UNIX_EPOCH, "restored")
            .expect("the epoch is greater");
        self.create().await
    }
}

factum_testkit::store_suite!(memory());
