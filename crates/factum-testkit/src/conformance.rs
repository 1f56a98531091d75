//! The ports' contracts as tests: one suite for each port, and every adapter passes it.
//!
//! An adapter's author writes a harness, which says how to make, restart and restore what is tested, and calls
//! the suite's macro in a test of their own. It makes one test for each case, named by the behaviour that it
//! asks for:
//!
//! ```
//! # use std::sync::Arc;
//! # use factum_core::{ServiceName, Store, StoreId, Timestamp};
//! # use factum_testkit::{MemoryDisk, MemoryStore, conformance::store::StoreHarness};
//! struct Memory(MemoryDisk);
//!
//! #[async_trait::async_trait]
//! impl StoreHarness for Memory {
//!     async fn create(&self) -> Arc<dyn Store> {
//!         Arc::new(MemoryStore::open(self.0.clone()))
//!     }
//!     async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
//!         drop(store);
//!         self.create().await
//!     }
//! }
//!
//! mod memory {
//!     use super::*;
//!     factum_testkit::store_suite!(Memory(MemoryDisk::new(
//!         StoreId(uuid::Uuid::nil()),
//!         ServiceName::of("order"),
//!         Timestamp::UNIX_EPOCH,
//!     )));
//! }
//! # fn main() {}
//! ```

pub mod broker;
pub mod store;
pub mod views;

use std::time::Duration;

/// How long a case may take before it counts as hanging. Cases take milliseconds; a slow disk under a loaded
/// machine takes a thousand times as long, and a lost wake-up takes for ever.
const CASE_TIME_MAX: Duration = Duration::from_mins(2);

/// Runs one case of a suite: what the suites' macros call.
///
/// # Panics
///
/// When the case fails, or takes so long that something must have been waited for in vain.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build();
    let runtime = runtime.expect("a test can start threads");
    let in_time = runtime.block_on(async { tokio::time::timeout(CASE_TIME_MAX, case).await });
    assert!(
        in_time.is_ok(),
        "the case hangs: something was waited for in vain"
    );
}
