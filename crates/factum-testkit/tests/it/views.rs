//! The memory store's views against the suite of the views port.

use crate::store::memory;

factum_testkit::views_suite!(memory());

mod outside {
    use std::sync::Arc;

    use factum_core::{Store, WithViews};
    use factum_testkit::{MemoryViewsEngine, conformance::store::StoreHarness};

    use crate::store::{Memory, memory};

    /// A memory store, with its views by an engine that outlives it.
    struct Divided {
        stores: Memory,
        engine: MemoryViewsEngine,
    }

    fn divided() -> Divided {
        Divided {
            stores: memory(),
            engine: MemoryViewsEngine::default(),
        }
    }

    #[async_trait::async_trait]
    impl StoreHarness for Divided {
        async fn create(&self) -> Arc<dyn Store> {
            WithViews::store(self.stores.create().await, &self.engine)
                .await
                .expect("a store gets its views")
        }

        async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
            drop(store);
            self.create().await
        }

        async fn second(&self) -> Option<Arc<dyn Store>> {
            Some(self.create().await)
        }
    }

    factum_testkit::outside_views_suite!(divided());
}
