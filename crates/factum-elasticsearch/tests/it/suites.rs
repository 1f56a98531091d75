//! The contract of the views port, on a cluster.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use factum_core::{Store, ViewsEngine as _, WithViews};
use factum_elasticsearch::ElasticsearchViews;
use factum_testkit::conformance::store::StoreHarness;

use crate::{shelf::settled, support::Place};

/// A store in memory, with its views on a cluster.
struct OnCluster {
    place: Place,
    open: Mutex<Vec<ElasticsearchViews>>,
}

impl OnCluster {
    fn new() -> Option<Self> {
        Some(Self {
            place: Place::new()?,
            open: Mutex::default(),
        })
    }

    async fn open(&self) -> Arc<dyn Store> {
        let engine = self.place.engine();
        let store = WithViews::store(self.place.store(), &engine).await;
        let mut open = self.open.lock().expect("no case panicked here");
        open.push(engine);
        settled(store.expect("the views open"))
    }
}

#[async_trait]
impl StoreHarness for OnCluster {
    async fn create(&self) -> Arc<dyn Store> {
        self.open().await
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        let open = std::mem::take(&mut *self.open.lock().expect("no case panicked here"));
        for engine in open {
            engine.close().await;
        }
        self.open().await
    }

    async fn second(&self) -> Option<Arc<dyn Store>> {
        Some(self.open().await)
    }
}

factum_testkit::outside_views_suite!(match OnCluster::new() {
    Some(cluster) => cluster,
    None => return,
});
