//! The contracts of the store and views ports, on a server.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use factum_core::Store;
use factum_postgres::Postgres;
use factum_testkit::conformance::store::StoreHarness;

use crate::support::{Place, env, service};

/// A store in a schema of its own.
pub(crate) struct OnServer {
    open: Mutex<Vec<Postgres>>,
    place: Place,
}

impl OnServer {
    pub(crate) fn new() -> Option<Self> {
        let place = Place::new()?;
        Some(Self {
            open: Mutex::default(),
            place,
        })
    }

    async fn open(&self) -> Arc<dyn Store> {
        let postgres = Postgres::new(&self.place.options()).expect("the address is right");
        let store = postgres
            .store(&service(), &env())
            .await
            .expect("the store opens");
        self.open
            .lock()
            .expect("no case panicked here")
            .push(postgres);
        store
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
        for postgres in open {
            postgres.close().await;
        }
        self.open().await
    }

    async fn second(&self) -> Option<Arc<dyn Store>> {
        Some(self.open().await)
    }
}

mod store {
    factum_testkit::store_suite!(match super::OnServer::new() {
        Some(server) => server,
        None => return,
    });
}

mod views {
    factum_testkit::views_suite!(match super::OnServer::new() {
        Some(server) => server,
        None => return,
    });
}
