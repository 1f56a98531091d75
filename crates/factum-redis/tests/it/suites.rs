//! The contract of the views port, on a server.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use factum_core::{Store, ViewsEngine as _};
use factum_redis::RedisViews;
use factum_testkit::conformance::store::StoreHarness;

use crate::support::Place;

/// A store in memory, with its views on a server.
pub(crate) struct OnServer {
    place: Place,
    open: Mutex<Vec<Arc<RedisViews>>>,
}

impl OnServer {
    pub(crate) fn new() -> Option<Self> {
        Place::new().map(Self::at)
    }

    pub(crate) fn at(place: Place) -> Self {
        Self {
            place,
            open: Mutex::default(),
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        let process = self.place.process().await;
        let mut open = self.open.lock().expect("no case panicked here");
        open.push(process.views);
        process.store
    }
}

#[async_trait]
impl StoreHarness for OnServer {
    async fn create(&self) -> Arc<dyn Store> {
        self.open().await
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        let open = std::mem::take(&mut *self.open.lock().expect("no case panicked here"));
        for views in open {
            views.close().await;
        }
        self.open().await
    }

    async fn second(&self) -> Option<Arc<dyn Store>> {
        Some(self.open().await)
    }
}

mod views {
    factum_testkit::outside_views_suite!(match super::OnServer::new() {
        Some(server) => server,
        None => return,
    });
}
